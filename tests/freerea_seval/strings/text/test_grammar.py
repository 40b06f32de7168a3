"""Strings and graphs undo each other; what is no string says so."""

from __future__ import annotations

import re
from math import inf, nan
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freerea_patch import InputError
from freerea_seval.strings.graph.ir import Graph, Node, Ref, Spec, Value, Weight, node_macs, sorted_attributes
from freerea_seval.strings.graph.shape_inference import WINDOWS, infer_results, infer_weights, spatial
from freerea_seval.strings.text import grammar
from freerea_seval.strings.text.parse import LONGEST, parse_graph
from freerea_seval.strings.text.serialize import serialize_graph


class Step(NamedTuple):
    """What decides an operation, whatever is before it."""

    kind: str
    attributes: dict[str, Value]
    sizes: list[int]
    distances: list[tuple[int, int, bool]]  # or positions
    weights: list[Weight]
    mixed: bool
    predicted: bool
    outputs: list[Spec]


def follow(steps: list[Step]) -> Graph:
    """Return a graph in canonical form."""
    nodes: list[Node] = []
    for position, step in enumerate(steps):
        refs: list[Ref] = []
        for distance, port, absolute in step.distances:
            source = distance if absolute else position - distance
            if 0 <= source < position and (ports := len(nodes[source].outputs)):
                refs.append(Ref(source, port % ports))
        if step.kind == "input":
            refs = []
        specs = [nodes[ref.node].outputs[ref.port] for ref in refs]
        kind, attributes = step.kind, dict(step.attributes)
        if kind in ("conv", "deconv", "linear"):
            attributes["out"] = step.sizes[0]
        if kind in WINDOWS:
            attributes = {name: value for name, value in attributes.items() if name not in "kspdog"}
            n = spatial(kind, specs[0].shape) if specs else 0
            if n < 1 or len(specs[0].shape) < 2 + kind.endswith("conv") * n:
                kind = "relu"
            else:
                names = "ksp" + "d" * (not kind.startswith("avg")) + "o" * (kind == "deconv")
                attributes |= {name: tuple((step.sizes * 9)[i : i + n]) for i, name in enumerate(names)}
                if "conv" in kind:
                    attributes["g"] = step.sizes[1]
        weights = [
            weight._replace(tied=position - weight.tied if weight.tied is not None else None)
            for weight in step.weights
            if weight.tied is None or (position >= weight.tied and nodes[position - weight.tied].weights)
        ]
        outputs = tuple(step.outputs)
        if step.predicted:
            follows = [Weight(shape) for shape in infer_weights(kind, attributes, specs)]
            weights = follows or weights
            found = infer_results(kind, attributes, specs, [] if follows else weights)
            if found is not None and all(0 <= size < 10**18 for spec in found for size in spec.shape):
                outputs = found
            weights = [w._replace(dtype=outputs[0].dtype) for w in weights] if follows and outputs else weights
        if kind == "unused":
            outputs = ()
        inputs: list[Ref | Weight] = [*weights, *refs] if step.mixed and not step.predicted else [*refs, *weights]
        made = Node(kind, sorted_attributes(attributes), tuple(inputs), outputs)
        try:
            node_macs(made, [Graph(tuple(nodes)).shape(item) for item in inputs])
        except (LookupError, TypeError, ValueError, ZeroDivisionError):
            made = Node("relu", (), tuple(refs), outputs)
        nodes.append(made)
    last = [Ref(place) for place, node in enumerate(nodes) if node.outputs][-2:]
    return Graph((*nodes, Node("output", (), tuple(last), ())))


SIZES = st.integers(0, 9) | st.sampled_from([0, 1, 64, 10**18 - 1])
SHAPES = st.lists(SIZES, max_size=5).map(tuple)
DTYPES = st.sampled_from(["float32", "float32", "float16", "int64", "bool", "complex64"])
SPECS = st.builds(Spec, SHAPES, DTYPES)
NUMBERS = (
    st.integers(-3, 3)
    | st.integers()
    | st.floats(allow_nan=False).map(lambda value: int(value) if value.is_integer() and abs(value) < 2**53 else value)
)
WORDS = st.sampled_from(["same", "bilinear", "float16", "b", "k3", "dw", "w3", "infinite"])
KINDS = (
    "input", "relu", "add", "mul", "cat", "conv", "conv", "deconv", "linear", "bn", "max_pool1d", "avg_pool2d",
    "max_pool3d", "embedding", "matmul", "attention", "split", "mean", "reshape", "unused", "group_norm",
    "own.kind_2",
)  # fmt: skip
STEPS = st.builds(
    Step,
    st.sampled_from(KINDS),
    st.dictionaries(
        st.sampled_from(["dim", "keepdim", "other", "b", "plain", "sizes", "num", "k", "s", "g", "dw", "ceil_mode"]),
        NUMBERS | WORDS | st.lists(NUMBERS, min_size=2, max_size=4).map(tuple) | st.sampled_from([0, 1]),
        max_size=3,
    ),
    st.lists(st.integers(0, 5), min_size=3, max_size=5),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2), st.booleans()), max_size=4)
    | st.just([(1, 0, False)])
    | st.tuples(st.integers(2, 6)).map(lambda d: [(d[0], 0, False), (1, 0, False)]),
    st.lists(st.builds(Weight, SHAPES, DTYPES, st.none() | st.integers(1, 5)), max_size=2),
    st.booleans(),
    st.booleans(),
    st.lists(SPECS, max_size=3),
)  # fmt: skip
BLOCKS = st.lists(st.tuples(st.integers(1, 4), st.lists(STEPS, min_size=1, max_size=4)), max_size=5)
IMAGE = Step("input", {}, [1], [], [], False, False, [Spec((2, 8, 9, 7))])
CONV = Step("conv", {"b": 1}, [4, 2, 1], [(1, 0, False)], [], False, True, [Spec((1,))])


@st.composite
def graphs(draw: Any) -> Graph:
    steps = [draw(st.sampled_from([IMAGE, CONV._replace(kind="input")])), draw(st.sampled_from([IMAGE, CONV]))]
    repeated = [(times, block) for times, block in draw(BLOCKS)]
    for times, block in [*repeated, *repeated[:1]] if draw(st.booleans()) else repeated:
        steps += block * times * draw(st.sampled_from([1, 1, 9]))
    return follow(steps)


@given(graphs())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_a_graph_comes_back_from_its_string_and_the_string_from_its_graph(graph: Graph) -> None:
    string = serialize_graph(graph)
    again = parse_graph(string)
    assert again == graph
    assert serialize_graph(again) == string
    assert (again.parameters, again.macs) == (graph.parameters, graph.macs)


def examples() -> list[str]:
    return re.findall(r"^    (input\[.*)$", grammar.__doc__ or "", re.MULTILINE)


def test_the_example_of_the_documentation_means_what_is_said_of_it() -> None:
    graph = parse_graph(examples()[0])
    assert [node.kind for node in graph] == ["input", "conv", "bn", *(["relu", "conv", "bn", "add"] * 5), "output"]
    convolution, add = graph.nodes[1], graph.nodes[6]
    assert convolution.attributes == (("out", 16), ("k", (3, 3)), ("s", (1, 1)), ("p", (1, 1)), ("d", (1, 1)), ("g", 1))
    assert convolution.inputs == (Ref(0), Weight((16, 3, 3, 3)))
    assert add.inputs == (Ref(2), Ref(5))  # what the block reads, and what it makes of it
    assert add.outputs == (Spec((1, 16, 32, 32)),)
    assert graph.parameters == 16 * 27 + 5 * 16 * 16 * 9 + 6 * 2 * 16
    assert graph.macs == 32 * 32 * (16 * 27 + 5 * 16 * 16 * 9)
    assert serialize_graph(graph) == examples()[0]


def test_braces_are_numbered_as_they_open() -> None:
    first, second = examples()[1:]
    assert parse_graph(first) == parse_graph(second)
    assert len(parse_graph(first)) == 1 + 2 * 8 + 4 + 8 + 1


@pytest.mark.parametrize(
    ("string", "graph"),
    [
        ("input[3:int64] output", [Node("input", (), (), (Spec((3,), "int64"),))]),
        ("input[] output", [Node("input", (), (), (Spec(()),))]),
        ("input[!] output<-", [Node("input")]),
        ("input[3] own(other=b)[2,3:bool] output<-1.1", [
            Node("input", (), (), (Spec((3,)),)),
            Node("own", (("other", "b"),), (Ref(0),), (Spec((2,)), Spec((3,), "bool"))),
        ]),
        ("input[4x2] linear(3) linear<-1,w3x3:float16 linear(2)<-!,! output", None),
        ("input[4x2] linear(3)<-1,! output", [
            Node("input", (), (), (Spec((4, 2)),)),
            Node("linear", (("out", 3),), (Ref(0),), (Spec((4, 3)),)),
        ]),
        ("input[2] mul(0.5) mul(-0.0) mul(nan) mul(1e400) output", [
            Node("input", (), (), (Spec((2,)),)),
            *(Node("mul", (("other", x),), (Ref(i),), (Spec((2,)),)) for i, x in enumerate([0.5, 0, nan, inf])),
        ]),
    ],
)  # fmt: skip
def test_what_is_written_is_what_is_meant(string: str, graph: list[Node] | None) -> None:
    if graph is None:
        with pytest.raises(InputError, match="has an operand '!'"):
            parse_graph(string)
    else:
        assert list(parse_graph(string).nodes[:-1]) == graph
        assert parse_graph(serialize_graph(parse_graph(string))) == parse_graph(string)


@pytest.mark.parametrize(
    ("string", "message"),
    [
        (
            "input[3] 2* output",
            "word 2 of a network string, '2*', is no token; expected an operation such as 'relu<-2'",
        ),
        ("input[3] 0*relu output", "word 2 of a network string, '0*relu', is no token"),
        ("input[3] 05*relu output", "word 2 of a network string, '05*relu', is no token"),
        ("input[3] } output", "word 2 of a network string, '}', closes nothing; expected '}' behind its '{'"),
        ("input[3] { } output", "word 3 of a network string, '}', closes empty braces"),
        ("input[3] { relu { relu output", "a network string lacks 2 '}' at its end; is it cut off?"),
        (
            "input[3] { relu #1 } output",
            "word 4 of a network string, '#1', names braces that were not closed before; 0 were",
        ),
        ("input[3] #2 output", "word 2 of a network string, '#2', names braces that were not closed before; 0 were"),
        ("input[3] 999999999*relu output", f"repeats too much; expected at most {LONGEST:,} operations in all"),
        ("input[3] relu(( output", "word 2 of a network string, 'relu((', is no token; expected an operation"),
        ("input[3] relu<-2 output", "operation 2 of a network string, 'relu<-2', reads 2 before it; expected 1 to 1"),
        (
            "input[3] relu<-^2 output",
            "operation 2 of a network string, 'relu<-^2', reads an operation that is not before it",
        ),
        ("input[3] relu<-1.1 output", "reads result 1 of 'input', which has 1 (from 0)"),
        ("input[3] relu<-x output", "has an operand 'x'; expected one such as 2, 2.1, w16x3 or w16~4"),
        ("input[3] own<-w3~1 output", "shares a parameter with 'input', 1 before it, which has none"),
        ("input[3x] output", "operation 1 of a network string, 'input[3x]', has a result '3x'; expected one such as"),
        ("input output", "operation 1 of a network string, 'input', has a result that does not follow from its inputs"),
        ("input[3] output[3]", "cannot have a result; write 'output' without brackets"),
        ("input[3] relu", "has one output, as its last operation; 'input[3] relu' has 0, and ends with 'relu'"),
        ("", "has 0, and ends with ''; expected something like 'input[1x3x32x32] relu output'"),
        ("input[3] output output<-2", "has 2, and ends with 'output'"),
        ("input[3] add(1,=2) output", "has an attribute named ''; expected a name such as 'dim'"),
        ("input[3] add(1:) output", "has a value '1:'; expected a number, numbers such as 2:3, or a word"),
        ("input[1x3x8x8] conv(k3x3x3) output", "has a window that does not fit its input of 4 dimensions; expected k"),
        ("input[1x3x8x8] conv(k3,k5) output", "operation 2 of a network string, 'conv(k3,k5)', says 'k' twice"),
        ("input[3] mul(2,3) output", "says 'other' twice"),
        ("input[1x3x8x8] conv(s2) output", "expected k, and one size or 2 for each"),
        ("input[1x3x8x8] conv(k3,g=x) output", "has groups 'x'; expected a number such as g4, or dw"),
        ("input[1x3x2x2] conv(k5,p0) output", "has a tensor of '1x3x-2x-2'; expected at most 64 sizes of 0 to 9"),
        ("input[] matmul[]<-1,1 output", "cannot multiply what it reads, , ; expected operands that fit it"),
    ],
)
def test_what_is_no_string_says_where_and_what_was_expected(string: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        parse_graph(string)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_only_texts_are_read() -> None:
    with pytest.raises(InputError, match="expected a network string, got bytes"):
        parse_graph(b"input[3] output")  # type: ignore[arg-type]
