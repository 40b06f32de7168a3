"""What repeats is written once, and unfolding gives it back."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from freerea_patch import TopologySpace
from freerea_seval.strings.graph.ir import Graph, Node, Ref, Spec
from freerea_seval.strings.text import compress as module
from freerea_seval.strings.text.compress import Token, compress, join
from freerea_seval.strings.text.parse import expand, parse_graph
from freerea_seval.strings.text.serialize import serialize_graph, tokens
from freerea_seval.strings.trace.tracer import trace_module

VECTOR = Spec((4,))


def network(length: int, operation: Callable[[int], tuple[str, tuple[int, ...]]]) -> Graph:
    """Return a graph of that many operations; ``operation`` gives a position's kind and what it reads."""
    nodes = [Node("input", (), (), (VECTOR,))]
    for position in range(1, length):
        kind, sources = operation(position)
        nodes.append(Node(kind, (), tuple(map(Ref, sources)), (VECTOR,)))
    return Graph((*nodes, Node("output", (), (Ref(length - 1),))))


def flat(graph: Graph) -> str:
    """Return the string of a graph with nothing folded: the naive twin."""
    return " ".join(token.text for token in tokens(graph))


def expanded(string: str) -> str:
    """Return a string with repetitions written out and all operands counted back: the naive way, on the text."""
    texts = []
    for position, word in enumerate(expand(string), 1):
        numbers = re.findall(r"\^(\d+)", word.text)
        texts.append(re.sub(r"\^\d+", "{}", word.text).format(*[position - int(number) for number in numbers]))
    return " ".join(texts)


def words(graph: Graph) -> int:
    return len(serialize_graph(graph).split())


STEPS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.booleans()), min_size=1, max_size=6)


@given(st.lists(st.tuples(st.integers(1, 5), STEPS), min_size=1, max_size=5), st.integers(1, 6), st.booleans())
@settings(max_examples=300, deadline=None)
def test_unfolding_gives_what_was_folded(
    blocks: list[tuple[int, list[tuple[str, int, bool]]]], times: int, again: bool
) -> None:
    steps = [step for count, block in blocks + blocks[:1] * again for step in block * count] * times

    def operation(position: int) -> tuple[str, tuple[int, ...]]:
        kind, distance, absolute = steps[position - 1]
        other = distance if absolute else position - 1 - distance
        return kind, (other, position - 1) if 0 <= other < position else (position - 1,)

    graph = network(len(steps) + 1, operation)
    assert expanded(serialize_graph(graph)) == flat(graph)
    assert len(serialize_graph(graph)) <= len(flat(graph)) + 8 * len(steps)
    assert parse_graph(serialize_graph(graph)) == parse_graph(flat(graph)) == graph


@given(st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map(tuple), max_size=20))
def test_parts_are_folded_alike_whether_their_runs_are_remembered_or_not(parts: list[tuple[str, ...]]) -> None:
    found = [join(parts), join(parts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MAX_CACHED", 0)
        assert found == [join(parts)] * 2


def test_the_string_of_fifteen_cells_is_nearly_that_of_two() -> None:
    cell = [("relu", 1), ("conv", 1), ("bn", 1), ("relu", 4), ("pool", 1), ("add", 4)]

    def cells(count: int) -> Graph:
        return network(
            6 * count + 1,
            lambda position: (
                cell[(position - 1) % 6][0],
                (position - cell[(position - 1) % 6][1],) + ((position - 1,) if position % 6 == 0 else ()),
            ),
        )

    assert words(cells(15)) == words(cells(2)) == 10
    assert serialize_graph(cells(15)) == serialize_graph(cells(2)).replace("2*{", "15*{")


@pytest.mark.parametrize("kind", ["mask", "gate", "residual"])
def test_layers_that_all_read_one_result_are_folded(kind: str) -> None:
    """The mask is the first result; a gate is made by every second layer; a residual layer reads the layer before."""
    layer = 12

    def operation(position: int) -> tuple[str, tuple[int, ...]]:
        place = position % layer
        if place == 5:
            source = {"mask": 0, "gate": 1, "residual": max(position - 2 * layer, 0)}[kind]
            return "attend", (source, position - 1)
        return f"op{place}", (position - 1,)

    few, many = network(4 * layer + 1, operation), network(15 * layer + 1, operation)
    assert words(many) <= words(few) + 1
    assert words(many) <= 4 * layer
    assert expanded(serialize_graph(many)) == flat(many)


def test_an_encoder_and_a_decoder_are_as_long_with_twelve_layers_as_with_two() -> None:
    with torch.device("meta"):
        few, many = (nn.Transformer(16, 2, n, n, 32, batch_first=True) for n in (3, 12))
        inputs = [torch.zeros(1, 8, 16), torch.zeros(1, 8, 16)]
    shorter, longer = (trace_module(net, inputs) for net in (few, many))
    assert len(longer) > 3 * len(shorter)
    assert words(longer) <= words(shorter) + 4
    assert parse_graph(serialize_graph(longer)) == longer


def test_what_all_copies_read_of_one_place_is_counted_from_the_first_operation() -> None:
    graph = network(
        41,
        lambda position: (
            ("add", (0, position - 1)) if position % 4 == 0 else ("abc"[position % 4 - 1], (position - 1,))
        ),
    )
    assert serialize_graph(graph) == "input[4] 10*{ a b c add<-^1,1 } output"


def test_the_outermost_repetition_is_found_first_and_then_those_inside_it() -> None:
    text = "abb" * 3 + "c" + "abb" * 2
    graph = network(len(text) + 1, lambda position: (text[position - 1], (position - 1,)))
    assert serialize_graph(graph).replace("[4]", "") == "input 3*{ a 2*b } c 2*#1 output"


def test_what_occurs_again_is_named_by_the_number_of_its_braces() -> None:
    text = "ab" * 3 + "c" + "ab" * 4
    graph = network(len(text) + 1, lambda position: (text[position - 1], (position - 1,)))
    assert serialize_graph(graph) == "input[4] 3*{ a b } c 4*#1 output"
    block = [("r", 1), ("s", 1), ("t", 3)]
    steps = [*block, ("c", 1), *block, ("d", 1), *block]

    def operation(position: int) -> tuple[str, tuple[int, ...]]:
        kind, distance = steps[position - 1]
        return kind, (position - distance, position - 1) if distance > 1 else (position - 1,)

    graph = network(len(steps) + 1, operation)
    assert serialize_graph(graph) == "input[4] { r s t<-3,1 } c #1 d #1 output"
    assert expanded(serialize_graph(graph)) == flat(graph)


def test_the_cells_of_a_benchmark_are_folded_to_under_a_fifth() -> None:
    space = TopologySpace()
    for genotype in Random(0).sample(space.genotypes(), 3):
        graph = trace_module(space.build(genotype), [torch.zeros(1, 3, 32, 32)])
        string = serialize_graph(graph)
        assert len(string.split()) < 64
        assert 4 * len(string.split()) < len(graph)
        assert expanded(string) == flat(graph)


RANDOM = Random(0)
FIBONACCI = ["a", "ab"]
while len(FIBONACCI[-1]) < 20_000:
    FIBONACCI.append(FIBONACCI[-1] + FIBONACCI[-2])


@pytest.mark.parametrize(
    ("length", "operation"),
    [
        (5_000, lambda i: (f"k{i}", (i - 1,))),
        (5_000, lambda i: (f"k{i}", (0, i - 1))),
        (20_000, lambda i: ("relu", (i - 1,))),
        (20_000, lambda i: ("add", (0, i - 1)) if i % 5 == 0 else (f"k{i % 5}", (i - 1,))),
        (20_000, lambda i: ("add", (0, i - 1)) if i % 10 == 0 else (f"k{RANDOM.randrange(2)}", (i - 1,))),
        (10_000, lambda i: ("add", (RANDOM.randrange(i), i - 1))),
        (20_000, lambda i: ("add", (0, i - 1)) if FIBONACCI[-1][i] == "a" else ("relu", (i - 1,))),
    ],
    ids=["distinct", "distinct, one mask", "one operation", "layers", "random layers", "random reads", "fibonacci"],
)
def test_the_longest_networks_are_folded_in_seconds(
    length: int, operation: Callable[[int], tuple[str, tuple[int, ...]]]
) -> None:
    graph = network(length, operation)
    began = time.process_time()
    string = compress(tokens(graph))
    assert time.process_time() - began < 15
    assert expanded(string) == flat(graph)


def test_nothing_and_one_operation_are_folded() -> None:
    assert compress([]) == ""
    assert compress([Token("input[3]", None, ())]) == "input[3]"
