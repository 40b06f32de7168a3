"""What is counted of a network string, beside a naive twin that looks at the whole graph at once."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from math import log, prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freerea_patch import InputError, TopologySpace
from freerea_seval.predictor.features.segment_features import TOTALS, count_parts, describe
from freerea_seval.strings.encode import SpaceStrings
from freerea_seval.strings.graph.ir import Graph
from freerea_seval.strings.text.blocks import parse_blocks
from freerea_seval.strings.text.parse import expand, parse_graph
from freerea_seval.strings.views import VIEWS
from tests.freerea_seval.strings.text.test_compress import expanded

ELEMENTWISE = ("relu", "gelu", "sigmoid", "tanh", "prelu", "bn", "layer_norm", "dropout")
#: Below it, the sum of a place feature is zero but for rounding.
LEAST = 1e-9
JOINS = ("add", "cat", "sub", "mul", "maximum", "minimum")

#: One convolution after the other, and one beside it that is multiplied by zero.
HALF_DEAD = "input[1x3x4x4] conv(2,k1) conv(2,k3)<-2 mul(0) add<-3,1 mean(dim=2:3) output"
#: Repeated blocks, operands that are said, identities of identities, a sum of three, and one that nothing reads.
AWKWARD = (
    "input[1x3x8x8] conv(8,k3,s2,b) 3*{ relu alias 2*alias conv(k3) bn mul(0)<-5 alias add<-9,3,1 }"
    " 2*#1 sigmoid conv(4,k1)<-2 mean(dim=2:3) linear(5,b) output"
)


def window(kernel: int, groups: str = "g=1") -> str:
    """Return the group of convolutions that keep the size."""
    k, p = (kernel,) * 2, (kernel // 2,) * 2
    return f"conv(k={k},s=(1, 1),p={p},d=(1, 1),{groups})"


def naive(string: str) -> dict[str, float]:
    """Count everything on the whole graph: costs one by one, paths by naming every one of them."""
    graph = parse_graph(string)
    found: defaultdict[str, float] = defaultdict(float)
    groups, costs = [], []
    for node in graph:
        said = ",".join(f"{name}={value}" for name, value in node.attributes if name not in ("out", "num"))
        groups.append(f"{node.kind}({said})" if said else node.kind)
        shapes = [graph.shape(item) for item in node.inputs]
        elements = sum(spec.elements for spec in node.outputs)
        # A convolution or a linear layer makes one product a weight of an output's filter; no other product is here.
        macs = elements * prod(node.weights[0].shape[1:]) if node.kind in ("conv", "linear") else 0
        costs.append((1, elements, macs))
        found[f"cost {groups[-1]} operations"] += 1
        found[f"cost {groups[-1]} elements"] += elements
        found[f"cost {groups[-1]} multiply-adds"] += macs
        found[f"count {groups[-1]}{tuple(shapes[:1])}{[spec.shape for spec in node.outputs]}"] += 1
        parameters = sum(prod(weight.shape) for weight in node.weights if weight.tied is None)
        for name, number in zip(TOTALS, (macs, parameters, elements, 1), strict=False):
            found[name] += number
        place = (len(groups) - 0.5) / len(graph)
        found[f"place 1 {groups[-1]}"] += elements * (2 * place - 1)
        found[f"place 2 {groups[-1]}"] += elements * (6 * place**2 - 6 * place + 1)
    for word in ordered_words(graph, groups):
        found[f"order {word}"] += 1
    for first, last in pairwise([-1, *cuts(graph)]):
        for place in live(graph, groups, first, last):
            counts = ("operations", "elements", "multiply-adds")
            for what, number in zip(counts, costs[place], strict=True):
                found[f"cost live {groups[place]} {what}"] += number
    before = ""
    for first, last in pairwise(cuts(graph)):
        if steps := count_segment(graph, groups, first, last, found):
            found[f"next {before} > {steps[0]}"] += 1
            before = steps[-1]
    return {name: value for name, value in found.items() if abs(value) > LEAST}


def live(graph: Graph, groups: list[str], first: int, last: int) -> set[int]:
    """Return the operations behind the first cut that the last depends on, through no product with zero."""
    found: set[int] = set()
    left = [last]
    while left:
        place = left.pop()
        if place > first and place not in found and groups[place] != "mul(other=0)":
            found.add(place)
            left += [ref.node for ref in graph.nodes[place].refs]
    return found


def ordered_words(graph: Graph, groups: list[str]) -> list[str]:
    """Return the operations in the order of execution, each with how far back it reads."""
    return [
        f"{groups[place]}<-{','.join(str(place - ref.node) for ref in node.refs)}" for place, node in enumerate(graph)
    ]


def cuts(graph: Graph) -> list[int]:
    """Return the operations that no later one reads past."""
    return [p for p in range(len(graph)) if all(ref.node >= p for node in graph.nodes[p + 1 :] for ref in node.refs)]


def count_segment(graph: Graph, groups: list[str], first: int, last: int, found: defaultdict[str, float]) -> list[str]:
    """Count what lies between two cuts; return the groups of its steps."""
    inside = range(first + 1, last + 1)

    def skipped(place: int) -> bool:
        return place > first and groups[place].split("(")[0] in ELEMENTWISE and len(graph.nodes[place].refs) == 1

    def step(place: int) -> int:
        return step(graph.nodes[place].refs[0].node) if skipped(place) else place

    def depth(place: int) -> int:
        return 0 if place == first else 1 + max((depth(ref.node) for ref in graph.nodes[place].refs), default=0)

    found["total depth"] += depth(last)
    steps = [place for place in inside if not skipped(place)]
    if not steps:
        return []
    reads = {place: [step(ref.node) for ref in graph.nodes[place].refs] for place in steps} | {first: []}
    label = {place: groups[place] for place in steps} | {first: "^"}
    walks = [[place] for place in (first, *steps)]
    for _ in range(3):
        for walk in walks:
            found["walk " + " > ".join(label[place] for place in walk)] += walk != [first]
        walks = [[source, *walk] for walk in walks for source in reads[walk[0]]]
    paths = [([steps[-1]], 1.0)]
    while any(path[0] != first for path, _ in paths):
        paths = [
            longer
            for path, chance in paths
            for sources in [reads[path[0]] or [first]]
            for longer in (
                [(path, chance)] if path[0] == first else [([s, *path], chance / len(sources)) for s in sources]
            )
        ]
    kinds = [[label[p] for p in path[1:] if label[p].split("(")[0] not in JOINS] for path, _ in paths]
    names = Counter(" ".join(["path", *kind]) for kind in kinds)
    for name, times in names.items() if len(names) <= 256 else ():
        found[name] += times
    for group in {label[place] for place in steps}:
        often = [sum(label[p] == group for p in path[1:]) for path, _ in paths]
        found[f"most {group}"] += max(often)
        found[f"least {group}"] += min(often)
        found[f"mean {group}"] += sum(many * chance for many, (_, chance) in zip(often, paths, strict=True))
    found["log paths"] += log(len(paths))
    found["shortest path"] += min(map(len, kinds))
    found["longest path"] += max(map(len, kinds))
    readers = Counter(source for sources in reads.values() for source in sources)
    for place in (first, *steps):
        found[f"fan out {label[place]} {min(readers[place], 4)}"] += readers[place] > 1
        found[f"fan in {label[place]} {min(len(reads[place]), 4)}"] += len(reads[place]) > 1
    if len(steps) > 1:
        found["branching segments"] += 1
        found["branching steps"] += len(steps)
    return [label[place] for place in steps]


def counted(string: str) -> dict[str, float]:
    """Return all counts but of pairs in the order of execution, which braces part."""
    found = describe(string)
    return {name: value for name, value in found.items() if abs(value) > LEAST and name.count("<-") < 2}


def same(counts: dict[str, float], others: dict[str, float]) -> bool:
    """Whether counts are equal; the weights of place features are no whole numbers, and round."""
    whole, rounded = (
        [{n: v for n, v in part.items() if n.startswith("place") is is_place} for part in (counts, others)]
        for is_place in (False, True)
    )
    return bool(
        whole[0] == pytest.approx(whole[1], abs=1e-12) and rounded[0] == pytest.approx(rounded[1], rel=1e-9, abs=1e-6)
    )


@pytest.mark.parametrize(
    "string",
    [
        HALF_DEAD,
        AWKWARD,
        AWKWARD.replace("3*{", "1*{"),
        AWKWARD.replace("mul(0)", "relu"),
        "input[1x4] output",
        "input[1x4] 3*{ relu } output",
        "input[1x4] linear 3*{ relu bn } linear output",
        "input[1x4] 3*{ relu linear bn } 2*{ tanh } linear output",
        "input[1x4] 2*{ linear(4) } 4*#1 add<-1,1 { linear } output",
        "input[1x4] input[1x4] linear<-2 add<-1,2 2*{ relu linear add<-3,1 } output",
        "input[1x8:int64] embedding(16,num=50) arange(end=8)[8:int64]<- embedding(16,num=32) add 2*{ layer_norm"
        " linear add<-3,1 } output",
        "input[1x4] linear<-1,w4x4 relu linear<-1,w4x4~2 output",
        "input[1x4] relu gelu<-2 sigmoid<-3 tanh<-4 linear<-5 add<-5,4,3,2,1 output",
        "input[1x4] prelu mul<-1,2 linear add<-1,1 output",
    ],
)
def test_counts_equal_those_of_the_naive_twin(string: str) -> None:
    assert same(counted(string), naive(string))


def test_made_up_networks_and_cells_are_counted_as_the_naive_twin_does(strings: list[str]) -> None:
    space = TopologySpace()
    cells = [space.genotypes()[i] for i in (0, 1, 7777, 15624)]
    kinds = set()
    for string in [*strings[:30], *(s for view in VIEWS for s in SpaceStrings(space, view).strings(cells))]:
        found = naive(string)
        assert same(counted(string), found)
        kinds |= {" ".join(name.split()[: 2 if name.startswith("fan") else 1]) for name in found}
    expected = "total cost count order place walk path most least mean log shortest longest next branching"
    assert kinds == {*expected.split(), "fan in", "fan out"}


OPERATIONS = st.tuples(
    st.sampled_from(("linear", "relu", "bn", "add", "mul", "alias", "tanh")), st.integers(0, 99), st.integers(0, 99)
)


@given(st.lists(OPERATIONS, max_size=9), st.integers(1, 3), st.lists(OPERATIONS, max_size=4))
def test_any_network_is_counted_as_the_naive_twin_does(
    repeated: list[tuple[str, int, int]], times: int, behind: list[tuple[str, int, int]]
) -> None:
    def words(operations: list[tuple[str, int, int]]) -> str:
        said = []
        for place, (kind, first, second) in enumerate(operations, 1):
            reads = f"{first % place + 1},{second % place + 1}" if kind in ("add", "mul") else str(first % place + 1)
            said.append(f"{kind}<-{reads}")
        return " ".join(said)

    braces = f"{times}*{{ {words(repeated)} }}" if repeated else ""
    string = f"input[1x4] {braces} {words(behind)} output"
    assert counted(string) == pytest.approx(naive(string), abs=1e-9)


@pytest.mark.parametrize("times", [1, 2, 5])
def test_a_string_says_the_same_folded_and_unfolded(times: int) -> None:
    for body in ("relu", "conv(k3)", "conv(k3) bn add<-1,3", "conv(k3)<-1 conv(k1)<-2 add relu", "{ relu } conv(k1)"):
        folded = f"input[1x3x8x8] conv(8,k3) {times}*{{ {body} }} mean(dim=2:3) linear(5) output"
        assert counted(folded) == pytest.approx(counted(expanded(folded)))


def test_paths_name_every_way_and_leave_out_joins_and_what_works_on_every_element_alone() -> None:
    segment = "input[1x4] linear<-1 relu linear(b)<-1 add<-1,3 add<-1,5 output"
    assert {n: v for n, v in describe(segment).items() if n.startswith("path")} == {
        "path": 1,
        "path linear": 1,
        "path linear linear(b=1)": 1,
        "path output": 1,
    }
    assert describe(segment)["longest path"] == 2 + 1
    assert describe(segment)["shortest path"] == 0 + 1
    assert describe(segment)["log paths"] == pytest.approx(log(3))
    assert describe(segment)["mean linear"] == pytest.approx(1 / 2)
    assert describe(segment)["mean linear(b=1)"] == pytest.approx(1 / 4)


def test_more_paths_than_can_be_named_are_counted() -> None:
    level = " linear<-1 linear(b)<-2 add<-1,2"
    few, many = (f"input[1x4]{level * levels} add<-1,{3 * levels + 1} output" for levels in (7, 8))
    assert describe(few)["log paths"] == pytest.approx(log(2**7 + 1))
    assert describe(many)["log paths"] == pytest.approx(log(2**8 + 1))
    assert sum(name.startswith("path linear") for name in describe(few)) == 2**7
    assert not [name for name in describe(many) if name.startswith("path linear")]
    assert counted(few) == pytest.approx(naive(few))
    assert counted(many) == pytest.approx(naive(many))


def test_pairs_that_run_one_after_the_other_are_counted() -> None:
    string = "input[1x4] linear relu<-2 add<-1,2 linear relu<-2 output"
    pairs = {name: value for name, value in describe(string).items() if name.count("<-") == 2}
    words = ["input<-", "linear<-1", "relu<-2", "add<-1,2", "linear<-1", "relu<-2", "output<-1"]
    assert pairs == Counter(f"order {before} {after}" for before, after in pairwise(words))


def test_depthwise_convolutions_share_a_group_at_every_width() -> None:
    found = describe("input[1x3x8x8] conv(8,k3) conv(k3,dw) conv(16,k1) conv(k3,dw) conv(k3,g4) output")
    assert found[f"cost {window(3, 'dw')} operations"] == 2
    assert found[f"cost {window(3, 'g=4')} operations"] == found[f"cost {window(3)} operations"] == 1
    assert describe("input[1x1x8x8] conv(8,k3) output")[f"cost {window(3)} operations"] == 1


def test_a_parameter_that_is_read_twice_counts_once() -> None:
    found = describe("input[1x4] linear relu linear<-1,w4x4~2 linear<-1,w4x4 output")
    assert found["total parameters"] == 16 + 16


def test_a_block_that_is_met_again_is_the_same_object() -> None:
    first, other = (count_parts(f"input[1x3x8x8] {head} 3*{{ conv(k3) relu }} output") for head in ("relu", "tanh"))
    assert set(first.sums) & set(other.sums)
    costs = [part.numbers().get(f"cost {window(3)} operations") for part in first.sums]
    assert [times for cost, times in zip(costs, first.times, strict=True) if cost] == [3]


@pytest.mark.parametrize(
    "string",
    [
        "input[1x3x8x8] conv(8,k3) 3*{ mul(0) relu<-2 conv(k3) bn add } conv(4,k1) 2*{ relu tanh } output",
        "input[1x3x8x8] mul(0) 2*{ conv(k1) } 3*{ relu } output",
        "input[1x3x8x8] conv(8,k3) { mul(0) relu<-2 add } mean(dim=2:3) #1 linear output",
    ],
)
def test_pairs_across_braces_are_counted_where_lone_arithmetic_begins_a_block(string: str) -> None:
    assert len(parse_blocks(string)) > 1
    unfolded = expanded(string)
    assert len(parse_blocks(unfolded)) == 1
    assert describe(string) == pytest.approx(describe(unfolded), abs=1e-12)
    without = string.replace("mul(0)", "tanh")
    between = describe(expanded(without)).keys() - describe(without).keys()
    assert between
    assert all(name.startswith("order ") and name.count("<-") == 2 for name in between)


def test_no_width_is_out_of_range() -> None:
    sizes = "x".join(["999999999999999999"] * 30)
    found = describe(f"input[{sizes}] 100*relu linear output")
    assert 1e30 <= found["total multiply-adds"] < found["total elements"] < 1e33
    assert found["total operations"] == 103


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
        describe(string)
    assert "\n" not in str(caught.value)


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
def test_any_text_is_described_or_refused(text: str) -> None:
    try:
        found = describe(text)
    except InputError:
        return
    assert found["total operations"] == len(expand(text))
