"""Features of network strings."""

from __future__ import annotations

import re
import subprocess
import sys
from math import log1p

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from freerea_patch import InputError, TopologySpace
from freerea_seval.predictor.features import TOTALS, StringFeatures, _describe, parse_string
from freerea_seval.strings.encode import SpaceStrings
from freerea_seval.strings.graph import Graph, Ref, Weight
from freerea_seval.strings.read import read
from freerea_seval.strings.unfolding import expand
from freerea_seval.strings.views import VIEWS

#: One convolution reaches the output; the other is multiplied by zero.
HALF_DEAD = "input[1x3x4x4] conv(2,k1) conv(2,k3)<-2 mul(0) add<-3,1 mean(dim=2:3) output"


def window(kernel: int, groups: str = "g=1") -> str:
    """Return the group of convolutions that keep the size."""
    k, p = (kernel,) * 2, (kernel // 2,) * 2
    return f"conv(k={k},s=(1, 1),p={p},d=(1, 1),{groups})"


def named(strings: list[str], string: str) -> dict[str, float]:
    """Return the features of a string by name, learned from others."""
    features = StringFeatures().fit(strings)
    (row,) = features.transform([string])
    return dict(zip(features.get_feature_names_out(), row.tolist(), strict=True))


def test_totals_tell_what_runs_and_what_reaches_the_output() -> None:
    found = named([HALF_DEAD, HALF_DEAD], HALF_DEAD)
    expected = {
        "total all log multiply-adds": log1p(96 + 864),
        "total all log parameters": log1p(6 + 54),
        "total all log elements": log1p(48 + 4 * 32 + 2),
        "total all operations": 7,
        "total all depth": 6,
        "total live log multiply-adds": log1p(96),
        "total live log parameters": log1p(6),
        "total live log elements": log1p(48 + 2 * 32 + 2),
        "total live operations": 5,
        "total live depth": 5,
    }
    assert set(expected) == set(TOTALS)
    assert {name: found[name] for name in TOTALS} == pytest.approx(expected, rel=1e-6)


def naive(string: str) -> dict[str, float]:
    """Count operations, pairs and chains one by one: the slow twin."""
    graph = read(string)
    nodes = graph.nodes
    groups, labels = [], []
    for node in nodes:
        said = ",".join(f"{name}={value}" for name, value in node.attributes if name not in ("out", "num"))
        groups.append(f"{node.kind}({said})" if said else node.kind)
        shapes = [graph.shape(item) for item in node.inputs]
        labels.append(f"{groups[-1]}{tuple(shapes[:1])}{[spec.shape for spec in node.outputs]}")
    alive = {place for place in range(len(nodes)) if reaches(graph, place)}
    found: dict[str, float] = {}

    def add(name: str, amount: float = 1) -> None:
        found[name] = found.get(name, 0) + amount

    for place, node in enumerate(nodes):
        elements = sum(spec.elements for spec in node.outputs)
        # A convolution or a matrix product makes one product a weight of an output's filter, and no other is here.
        weight = next(iter(node.weights), None) if node.kind in ("conv", "linear") else None
        macs = elements * int(np.prod(weight.shape[1:])) if isinstance(weight, Weight) else 0
        add(f"count {labels[place]}")
        for part in ("all", "live") if place in alive else ("all",):
            add(f"cost {part} {groups[place]} operations")
            add(f"cost {part} {groups[place]} elements", elements)
            add(f"cost {part} {groups[place]} multiply-adds", macs)
        for ref in node.refs:
            add(f"pair {groups[ref.node]} -> {groups[place]}")
            if place in alive and node.kind != "alias":
                middle = passed(graph, ref)
                for before in nodes[middle].refs if middle in alive else ():
                    if (first := passed(graph, before)) in alive:
                        add(f"live chain {groups[first]} -> {groups[middle]} -> {groups[place]}")
    return found


def reaches(graph: Graph, place: int) -> bool:
    """Return whether what a node makes comes to the output, but for products with zero."""
    node = graph.nodes[place]
    if node.kind == "mul" and ("other", 0) in node.attributes:
        return False
    if node.kind == "output":
        return True
    return any(place in [ref.node for ref in after.refs] and reaches(graph, n) for n, after in enumerate(graph))


def passed(graph: Graph, ref: Ref) -> int:
    """Return the node whose result an identity passes on."""
    node = graph.nodes[ref.node]
    return passed(graph, node.refs[0]) if node.kind == "alias" else ref.node


#: Two repeated blocks, operands that are said, identities of identities, a sum of three, and one that is not read.
AWKWARD = (
    "input[1x3x8x8] conv(8,k3,s2,b) 3*{ relu alias 2*alias conv(k3) bn mul(0)<-5 alias add<-9,3,1 }"
    " 2*#1 sigmoid conv(4,k1)<-2 mean(dim=2:3) linear(5,b) output"
)


def test_counts_equal_those_of_the_naive_twin(strings: list[str]) -> None:
    strings = [*strings[:20], HALF_DEAD, AWKWARD, AWKWARD.replace("3*{", "2*{"), AWKWARD.replace("mul(0)", "relu")]
    kinds = set()
    for string in strings:
        found = {name: value for name, value in _describe(parse_string(string)).items() if name not in TOTALS}
        assert found == naive(string)
        kinds |= {name.split()[0] for name in found}
    assert kinds == {"cost", "count", "pair", "live"}


def test_a_matrix_holds_what_describes_each_string(strings: list[str]) -> None:
    space = TopologySpace()
    strings = [*strings[:20], *(s for view in VIEWS for s in SpaceStrings(space, view).strings(space.genotypes()[:2]))]
    features = StringFeatures().fit(strings)
    names = features.get_feature_names_out()
    for row, string in zip(features.transform(strings), strings, strict=True):
        found = _describe(parse_string(string))
        assert row == pytest.approx([found.get(name, 0) for name in names], rel=1e-6)
    assert len(names) > 50


def test_live_chains_leave_out_what_is_multiplied_by_zero() -> None:
    found = _describe(parse_string(HALF_DEAD))
    assert {name: value for name, value in found.items() if name.startswith("live chain")} == {
        f"live chain input -> {window(1)} -> add": 1,
        f"live chain {window(1)} -> add -> mean(dim=(2, 3))": 1,
        "live chain add -> mean(dim=(2, 3)) -> output": 1,
    }
    assert found[f"pair {window(3)} -> mul(other=0)"] == 1
    gated = _describe(parse_string("input[1x3] mul(0) add<-2,1 output"))
    assert [name for name in gated if name.startswith("live chain")] == ["live chain input -> add -> output"]


def test_live_chains_look_through_identities_which_count_as_operations() -> None:
    plain = _describe(parse_string("input[1x3] relu add<-1,2 output"))
    same = _describe(parse_string("input[1x3] alias relu 2*alias add<-1,5 output"))
    chains = [{n: v for n, v in each.items() if n.startswith("live chain")} for each in (plain, same)]
    assert len(chains[0]) == 3
    assert chains[0] == chains[1]
    assert same["cost all alias operations"] == same["cost live alias operations"] == 3
    assert same["total all depth"] == plain["total all depth"] + 3


def test_every_operand_of_a_sum_counts() -> None:
    found = _describe(parse_string("input[1x3] relu sigmoid<-2 tanh<-3 add<-3,2,1,1 output"))
    pairs = {name: value for name, value in found.items() if name.endswith("-> add") and name.startswith("pair")}
    assert pairs == {"pair relu -> add": 1, "pair sigmoid -> add": 1, "pair tanh -> add": 2}
    assert found["live chain input -> tanh -> add"] == 2


@pytest.mark.parametrize(("strange", "changed"), [("linear(70)", TOTALS[:4]), ("warp(9)[1x3x8x8]<-1,w70", TOTALS[1:4])])
def test_what_training_never_showed_adds_to_the_totals_alone(
    strange: str, changed: tuple[str, ...], strings: list[str]
) -> None:
    features = StringFeatures().fit(strings)
    one, other = features.transform(
        [f"input[1x3x8x8] relu{more} output<-{1 + bool(more)}" for more in ("", f" {strange}")]
    )
    assert features.get_feature_names_out()[one != other].tolist() == list(changed)


def test_widths_that_training_never_showed_share_their_group(strings: list[str]) -> None:
    found = named(strings, "input[1x3x8x8] conv(999,k3) output")
    assert found[f"cost all {window(3)} operations"] == 1
    assert found[f"cost all {window(3)} multiply-adds"] == 1726272
    assert found[f"pair input -> {window(3)}"] == 1


def test_depthwise_convolutions_share_a_group_at_every_width() -> None:
    found = _describe(parse_string("input[1x3x8x8] conv(8,k3) conv(k3,dw) conv(16,k1) conv(k3,dw) conv(k3,g4) output"))
    assert found[f"cost all {window(3, 'dw')} operations"] == 2
    assert found[f"cost all {window(3, 'g=4')} operations"] == found[f"cost all {window(3)} operations"] == 1
    gray = _describe(parse_string("input[1x1x8x8] conv(8,k3) output"))
    assert gray[f"cost all {window(3)} operations"] == 1


def test_a_parameter_that_is_read_twice_counts_once() -> None:
    found = _describe(parse_string("input[1x4] linear relu linear<-1,w4x4~2 linear<-1,w4x4 output"))
    assert found["total all log parameters"] == pytest.approx(log1p(16 + 16))


def test_the_vocabulary_is_sorted_without_repetition_and_whatever_the_order(strings: list[str]) -> None:
    features = StringFeatures().fit(strings)
    assert features.vocabulary_ == sorted(set(features.vocabulary_))
    assert StringFeatures().fit(strings[::-1]).vocabulary_ == features.vocabulary_
    columns = features.transform(strings)[:, len(TOTALS) :].T.tolist()
    assert len({tuple(column) for column in columns}) == len(columns)
    names = features.get_feature_names_out()
    assert [name.startswith("cost ") for name in names] == [
        i in range(*features.costs_.indices(len(names))) for i in range(len(names))
    ]


def test_both_ways_to_transform_agree_and_shapes_hold_at_zero_and_one(strings: list[str]) -> None:
    features = StringFeatures()
    at_once = features.fit_transform(strings)
    assert at_once.dtype == np.float32
    assert np.array_equal(at_once, StringFeatures().fit(strings).transform(strings))
    assert features.transform([]).shape == (0, at_once.shape[1])
    assert np.array_equal(features.transform(strings[3:4]), at_once[3:4])
    assert StringFeatures().fit_transform(strings[:1]).shape == (1, len(TOTALS))


def test_the_transformer_keeps_scikit_learns_contract(strings: list[str]) -> None:
    features = StringFeatures()
    assert features.fit(strings) is features
    with pytest.raises(NotFittedError):
        clone(features).transform(strings)
    with pytest.raises(NotFittedError):
        StringFeatures().get_feature_names_out()


@pytest.mark.parametrize(
    ("string", "message"),
    [
        ("", "'' has 0"),
        ("input[1x3] output<-2", "'output<-2'"),
        ("input[1x3] relu<-0 output", "'relu<-0'"),
        ("input[1x3] re-lu output", "'re-lu'"),
        ("input[1x3] relu", "ends with 'relu'"),
        ("input[1x3] 2*{ relu output", "'}'"),
        ("input[1x3] conv(3,k1) output", r"'conv\(3,k1\)'"),
        ("|none~0|+" + "x" * 90, r"'\|none~0\|\+x{51}\.\.\.'"),
    ],
)
def test_what_is_no_network_string_is_an_error_of_one_line(string: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_string(string)
    assert "\n" not in str(caught.value)


def test_a_single_string_or_none_is_refused() -> None:
    for wrong in ("input[1x3] output", [3]):
        with pytest.raises(InputError, match="expected a list of network strings, such as SpaceStrings"):
            StringFeatures().fit(wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="need at least one network string"):
        StringFeatures().fit([])


PIECES = st.sampled_from(
    ["input[1x3]", "relu", "add<-1,2", "2*{", "}", "#1", "conv(4,k3)", "mul(0)<-2", "<-", "w9", "output"]
)


@given(
    st.one_of(
        st.text(max_size=40),
        st.text("inputo<-1(),[]x3{}#* ", max_size=40).map("input[1x3] {} output".format),
        st.lists(PIECES, max_size=9).map(" ".join).map("input[1x3x8x8] {} output".format),
    )
)
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        nodes = parse_string(text)
    except InputError:
        return
    kinds = [re.split(r"[^\w.]", operation)[0] for operation in expand(text)]
    assert [re.split(r"[^\w.]", node.operation.group)[0] for node in nodes] == kinds
    assert _describe(nodes)["total all operations"] == len(kinds)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("conv", "relu", "mul", "cat", "linear")),
            st.sampled_from((1, 3, 5)),
            st.integers(1, 9),
            st.lists(st.integers(0, 99), min_size=2, max_size=2),
        ),
        max_size=8,
    )
)
def test_a_string_says_what_every_operation_reads_and_costs(operations: list[tuple[str, int, int, list[int]]]) -> None:
    tokens, shapes = ["input[1x3x4x4]"], [(3, 4)]
    expected: list[tuple[str, tuple[int, ...], int, int, int]] = [("input", (), 0, 0, 48)]
    for position, (kind, kernel, out, (first, second)) in enumerate(operations, start=1):
        source, other = first % position, second % position
        width, last = shapes[source]
        if kind == "cat" and shapes[other][1] == last:
            token, sources = "cat(dim=1)", [source, other]
            made, macs, parameters = (width + shapes[other][0], last), 0, 0
        elif kind == "conv":
            token, sources = f"conv({out},k{kernel},b)", [source]
            parameters = out * (width * kernel**2 + 1)
            made, macs = (out, last), 4 * last * width * out * kernel**2
        elif kind == "linear":
            token, sources = f"linear({out})", [source]
            made, macs, parameters = (width, out), width * 4 * last * out, last * out
        else:
            token, sources = ("mul(0)" if kind == "mul" else "relu"), [source]
            made, macs, parameters = (width, last), 0, 0
        tokens.append(token + "<-" + ",".join(str(position - place) for place in sources))
        shapes.append(made)
        expected.append((token.partition("(")[0], tuple(sources), macs, parameters, made[0] * 4 * made[1]))
    found = [
        (o.group.partition("(")[0], inputs, o.multiply_adds, o.parameters, o.elements)
        for o, inputs in parse_string(" ".join([*tokens, "output"]))[:-1]
    ]
    assert found == expected


@pytest.mark.parametrize(("module", "package"), [("sklearn", "sklearn"), ("xgboost", "xgboost")])
def test_without_a_package_the_error_says_how_to_install_it(module: str, package: str) -> None:
    script = f"import sys; sys.modules[{module!r}] = None; import freerea_seval.predictor.folder"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.stderr.splitlines()[-1].endswith(
        f"predictors need the package {package}: pip install 'freerea-seval[predictor]'"
    )
