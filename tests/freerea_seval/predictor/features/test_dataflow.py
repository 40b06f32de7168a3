"""Which operations read which, without the graph: the graph is the oracle."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freerea_patch import TopologySpace
from freerea_seval.predictor.features.dataflow import operands
from freerea_seval.strings.encode import SpaceStrings
from freerea_seval.strings.graph.ir import Ref
from freerea_seval.strings.text.parse import parse_graph
from freerea_seval.strings.views import VIEWS, View
from tests.freerea_seval.predictor.conftest import chain

BRACES = "input[1x4] 2*{ linear 3*{ relu tanh } add<-1,7 } 2*#2 #1 output"


def unfolded(string: str) -> list[list[int]]:
    """Return the operands of every operation that runs, from the graph."""
    return [[item.node for item in node.inputs if isinstance(item, Ref)] for node in parse_graph(string)]


def running(string: str) -> list[int]:
    """Return the place in a string of every operation that runs; ``#`` is one place. The naive way: word by word."""
    places = iter(range(10**6))
    made: list[int] = []
    starts: list[tuple[int, int, int]] = []
    blocks: dict[int, int] = {}
    for word in string.split():
        match = re.match(r"(?:(\d+)\*)?(.*)", word)
        assert match
        times, text = int(match[1] or 1), match[2]
        if text == "{":
            starts.append((len(blocks), len(made), times))
            blocks[len(blocks)] = 0
        elif text == "}":
            block, start, times = starts.pop()
            blocks[block] = len(made) - start
            made += made[start:] * (times - 1)
        else:
            length = blocks[int(text[1:]) - 1] if text[0] == "#" else 1
            made += [next(places)] * (times * length)
    return made


def check(string: str) -> None:
    made, graph, found = running(string), unfolded(string), operands(string)
    assert len(made) == len(graph)
    assert len(found) == max(made) + 1
    for place, reads in enumerate(found):
        first = made.index(place)
        assert reads == [made[source] for source in graph[first]], (place, string)


@given(st.integers(0, 10**6))
def test_a_chains_operands_are_its_graphs(seed: int) -> None:
    check(chain(seed))


@pytest.mark.parametrize("view", VIEWS)
def test_a_cells_operands_are_its_graphs(view: View) -> None:
    cells = TopologySpace().genotypes()[::1700]
    for string in SpaceStrings(TopologySpace(), view).strings(cells):
        check(string)


def test_what_is_repeated_stands_for_all_its_repetitions() -> None:
    #          input linear relu tanh add      2*#2 #1  output
    expected = [[], [0], [1], [2], [3, 1], [4], [5], [6]]
    assert operands(BRACES) == expected


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from([*"{}#<-,*(0 1", "5*{ ", " }", " #1", "<-1,2", "add "])).map("".join)
)
def test_any_text_has_operands_before_each_word(text: str) -> None:
    found = operands(text)
    assert len(found) <= len(text.split())
    assert all(0 <= source < place for place, sources in enumerate(found) for source in sources)


def test_braces_that_would_be_endless_are_not_unfolded() -> None:
    bomb = "input[1x4] " + "999999*{ relu " * 6 + "} " * 6 + "999999*#1 999999*#1 output"
    assert len(operands(bomb)) == 10
