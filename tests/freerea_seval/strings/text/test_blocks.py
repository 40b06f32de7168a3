"""Blocks of a string: put together again, they are the graph that reading it as a whole gives."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freerea_patch import InputError
from freerea_seval.strings.graph.ir import Graph, Node, Ref
from freerea_seval.strings.text.blocks import Block, parse_blocks
from freerea_seval.strings.text.parse import parse_graph
from tests.freerea_seval.strings.text.test_fuzzing import BITS, STRINGS, mutant


def unrolled(found: list[tuple[Block, int]]) -> tuple[Node, ...]:
    """Return the operations of blocks one behind another, with what they read as positions in the whole."""
    nodes: list[Node] = []
    for place, (block, times) in enumerate(found):
        entry = place > 0
        for _ in range(times):
            if entry:
                assert block.operations[0].node == Node("entry", (), (), nodes[-1].outputs)
            for operation in block.operations[entry:]:
                node, position = operation.node, len(nodes)
                inputs = tuple(
                    Ref(position - item.node, item.port)
                    if isinstance(item, Ref)
                    else item._replace(tied=None if item.tied is None else position - item.tied)
                    for item in node.inputs
                )
                made = [nodes[item.node].outputs[item.port] if isinstance(item, Ref) else item for item in inputs]
                assert operation.shapes == tuple(item.shape for item in made)
                nodes.append(node._replace(inputs=inputs))
    return tuple(nodes)


def agree(string: str) -> bool:
    """Compare with the naive twin, :func:`parse_graph`; return whether the string is one of the grammar."""
    expected, found = outcome(string, parse_graph), outcome(string, lambda text: Graph(unrolled(parse_blocks(text))))
    assert found == expected
    return isinstance(expected, Graph)


def outcome(string: str, how: Callable[[str], Graph]) -> Graph | str:
    """Return a graph, or the message of the error."""
    try:
        return how(string)
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("string", STRINGS)
def test_the_blocks_of_real_networks_are_their_graphs(string: str) -> None:
    assert agree(string)


@pytest.mark.parametrize(
    ("string", "times"),
    [
        ("input[1x4] relu output", [1]),
        ("input[1x4] 5*{ linear relu } output", [1, 5, 1]),
        ("input[1x4] { linear relu } tanh 3*#1 output", [1, 1, 1, 3, 1]),
        ("input[1x4] 2*{ linear 3*{ relu tanh } add<-1,7 } 2*#2 #1 output", [1, 2, 2, 1, 1]),
        ("input[1x3x8x8] 3*{ conv(k3,s2) relu } conv(k1) output", [1, 1, 1, 1, 1]),
        ("input[1x3x8x8] 3*{ conv(6,k3) relu } output", [1, 1, 2, 1]),
        ("input[1x4] input[1x4] add { relu<-1 tanh<-2 add } output", [1, 1, 1]),
        ("input[1x4] { linear } 2*{ relu linear<-1,w4x4 linear<-1,w4x4~1 } output", [1, 1, 2, 1]),
        ("input[1x6] { split(dim=1,sizes=3) } relu<-1.1 output", [1, 1, 1]),
        ("{ input[1x4] relu } 2*{ tanh } output", [1, 2, 1]),
        ("input[1x4] relu 2*{ mul(0) relu<-2 add } output", [1, 2, 1]),
        ("input[1x4] relu 2*{ tanh add } output", [1, 2, 1]),
        ("input[1x4] mul(0) 3*{ tanh } output", [1, 3, 1]),
        ("input[1x4] 2*{ relu } { tanh output }", [1, 2, 1]),
    ],
)
def test_braces_are_blocks_and_so_is_what_is_between_them(string: str, times: list[int]) -> None:
    assert agree(string)
    assert [number for _, number in parse_blocks(string)] == times


@pytest.mark.parametrize(
    "string",
    [
        "input[1x4] relu { tanh add<-1,3 } output",
        "input[1x4] relu 2*{ tanh sigmoid<-2 } mul(0) output",
        "input[1x4] 2*{ relu<-1 tanh<-2 } { mul(0) } output",
        "input[1x4] input[1x4] { mul(0) } output",
        "input[1x4] 2*{ mul(0) tanh<-2 } output",
        "input[1x4] relu sigmoid<-2 { tanh } add output",
        "input[1x4] { relu } output<-2",
        "input[1x4] { relu } add<-^1,1 output",
        "input[1x4] { linear } linear<-1,w4x4~1 output",
        "input[1x4] { relu } input[1x4] add output",
        "input[1x4] { relu unused<-w3 } arange(end=8)[8:int64]<- output",
    ],
)
def test_what_reads_across_braces_is_one_block(string: str) -> None:
    assert agree(string)
    assert [number for _, number in parse_blocks(string)] == [1]


@pytest.mark.parametrize(
    "string",
    [
        "",
        "input[1x4]",
        "input[1x4] relu",
        "input[1x4] { } output",
        "input[1x4] 0*{ relu } output",
        "input[1x4] *{ relu } output",
        "input[1x4] a*{ relu } output",
        "input[1x4] 2*3*{ relu } output",
        "input[1x4] ²*{ relu } output",
        "input[1x4] ٣*{ relu } output",
        "input[1x4] { relu } ٣*#1 output",
        "input[1x4] { relu } #٣ output",
        "input[1x4] { relu } " + "9" * 5000 + "*#1 output",
        "input[1x4] { relu } #" + "9" * 5000 + " output",
        "input[1x4] { relu } #2 output",
        "input[1x4] { relu } #0 output",
        "input[1x4] #1 { relu } output",
        "input[1x4] { relu #1 } output",
        "input[1x4] { { relu } { tanh #1 } } output",
        "input[1x4] 2*{ relu output",
        "input[1x4] { relu { tanh } output",
        "input[1x4] relu } output",
        "input[1x4] { relu 2*} output",
        "input[1x4] { relu } output output",
        "input[1x4] { relu output } output",
        "input[1x4] { output } relu output",
        "input[1x4] 2*{ relu output }",
        "input[1x4] { relu unused<-w3 } warp[1x3] output",
        "input[1x4] { relu unused<-w3 } relu output",
        "input[1x3x3x3] 2*{ conv(k3,p0) } output",
        "input[1x4] 999999*{ relu } output",
        "input[1x4] 200000*{ relu } 200000*#1 output",
        "input[1x2x3] 9999999*{ permute(dims=0:2:1) } output",
        "input[1x4] 9999*{ " + "relu<-" + "0" * 15 + "1 " * 40 + "} output",
        "input[1x4] { relu<-2,w } output",
    ],
)
def test_what_is_no_string_is_the_same_error_as_when_it_is_read(string: str) -> None:
    assert not agree(string)


@pytest.mark.parametrize("wrong", [None, 3, ["relu"]])
def test_what_is_no_text_is_an_error(wrong: object) -> None:
    with pytest.raises(InputError, match="expected a network string, got"):
        parse_blocks(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "string",
    [
        "input[3] { relu relu } " + " ".join(f"{{ #{i} #{i} }}" for i in range(1, 60)) + " output",
        "input[3] { { relu relu } " + " ".join(f"{{ #{i} #{i} }}" for i in range(2, 60)) + " } output",
        "input[3] " + "2*{ " * 2000 + "relu " + "} " * 2000 + "output",
        "{ " * 100_000,
        "input[1x2x3] 100000*{ permute(dims=0:2:1) } output",
        "input[3] { " + "relu " * 30_000 + "} 8*#1 output",
    ],
    ids=range(6),
)
def test_strings_that_ask_for_too_much_are_soon_done_with(string: str) -> None:
    began = time.process_time()
    agree(string)
    assert time.process_time() - began < 10


def test_what_is_known_of_a_block_does_not_leak_into_another_shape() -> None:
    for size in (4, 8, 4):
        assert agree(f"input[1x{size}x{size}x{size}] 2*{{ conv(k3) relu }} output")
    for others in ("input[1x4] relu", "input[1x4] input[1x4]"):
        assert agree(f"{others} {{ tanh add<-1,2 }} output")


@pytest.mark.parametrize("seed", range(3))
def test_corrupted_strings_are_refused_or_are_the_graph_that_is_read(seed: int) -> None:
    random = Random(seed)
    accepted = sum(agree(mutant(random.choice(STRINGS), random)) for _ in range(700))
    assert 30 < accepted < 670


WORDS = st.sampled_from(
    (*BITS, "input[1x4]", "relu", "relu", "tanh<-1", "relu<-2", "add", "add<-1,2", "2*{", "{", "}", "}", "#1", "3*#2",
     "linear", "linear<-1,w4x4~1", "split(dim=1,sizes=2)", "relu<-1.1", "unused<-w3", "own[1x4]<-")
)  # fmt: skip


@given(st.lists(WORDS, max_size=14).map(" ".join).map("input[1x4] {} output".format))
def test_any_words_are_refused_or_are_the_graph_that_is_read(string: str) -> None:
    agree(string)


@st.composite
def networks(draw: st.DrawFn, depth: int = 0) -> str:
    """Return words that are operations or braces around them; reading across braces may happen."""
    words: list[str] = []
    for _ in range(draw(st.integers(1, 4))):
        if depth < 3 and draw(st.booleans()):
            words.append(f"{draw(st.sampled_from(('', '2*', '3*')))}{{ {draw(networks(depth + 1))} }}")
        else:
            words.append(
                draw(st.sampled_from(("relu", "linear", "add<-1,1", "add", "relu<-2 tanh<-2 add", "#1", "2*#2")))
            )
    return " ".join(words)


@given(networks())
def test_nested_braces_are_the_graph_that_is_read(words: str) -> None:
    agree(f"input[1x4] relu {words} output")
