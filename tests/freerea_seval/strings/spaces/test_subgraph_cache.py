"""What is known of parts: nothing is built or traced twice, and what cannot be put together is said."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from freerea_patch import InputError, Part, SizeSpace, TopologySpace
from freerea_seval.strings.encode import SpaceStrings
from freerea_seval.strings.graph.ir import Spec
from freerea_seval.strings.spaces import subgraph_cache as module
from freerea_seval.strings.spaces.subgraph_cache import NotComposableError, Subgraph, SubgraphCache, chained
from freerea_seval.strings.text.serialize import serialize_graph as write
from freerea_seval.strings.trace.tracer import record, trace_module
from tests.freerea_seval.strings.example_spaces import RELU, TANH, Bare, Parted, chain, conv, function, named, residual
from tests.freerea_seval.strings.trace.tracing import Function

IMAGE = Spec((1, 3, 8, 8))


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The networks that were traced, several parts in one where they get the same input."""
    seen: list[nn.Module] = []

    def counting(network: nn.Module, *arguments: Any) -> Any:
        seen.append(network)
        return record(network, *arguments)

    monkeypatch.setattr(module, "record", counting)
    return seen


def counted(calls: Counter[str], part: Part) -> Part:
    """Return a part that counts how often it is made, and those in it."""

    def make(*modules: nn.Module) -> nn.Module:
        calls[str(part.key)] += 1
        return part.make(*modules)

    return Part(part.key, make, tuple(counted(calls, inner) for inner in part.parts))


def test_nothing_is_made_twice() -> None:
    calls: Counter[str] = Counter()
    block = residual(chain(RELU, conv(3, 3)))
    deep = chain(conv(3, 3), block, block, block, residual(TANH), RELU)
    space = Parted(deep=counted(calls, deep), other=counted(calls, chain(block, RELU, residual(TANH))))
    SpaceStrings(space).strings(["deep", "other", "deep"])
    assert not space.built
    assert calls.pop("('conv', 3, 3, 1, ('padding', 0), ('bias', False))") == 1
    assert (calls["('relu',)"], calls["('tanh',)"]) == (1, 1)
    # Once each, and again where a placeholder did not know its part yet.
    assert calls["residual"] <= 2


def test_only_the_first_conversion_of_a_part_traces(traces: list[nn.Module]) -> None:
    space = TopologySpace()
    strings = SpaceStrings(space)
    cells = space.genotypes()[:40]
    strings.strings(cells)
    first = len(traces)
    # Stem, head, two blocks; at three widths a cell, and its operations, of which the first cell lacks some.
    assert first <= 4 + 3 * 6
    strings.strings(space.genotypes()[40:140])
    assert len(traces) == first
    strings.strings(cells)
    assert len(traces) == first


def test_a_part_that_was_traced_at_one_width_is_traced_again_at_another(traces: list[nn.Module]) -> None:
    strings = SpaceStrings(SizeSpace())
    small, large = strings.strings(["8:8:8:8:8", "16:8:8:8:8"])
    assert small != large
    known = len(traces)
    strings.strings(["16:8:8:8:8", "8:8:8:8:8"])
    assert len(traces) == known


@pytest.mark.parametrize(
    "part",
    [
        RELU,
        conv(3, 5, 3),
        chain(),
        chain(RELU, conv(3, 4)),
        residual(residual(chain(RELU, conv(3, 3)))),
        function("mix", lambda x, f, g: torch.cat([g(f(x)), x], 1), conv(3, 3), TANH),
    ],
    ids=["leaf", "wide leaf", "empty chain", "chain", "nested", "two parts"],
)
def test_a_piece_has_the_graph_of_its_module(part: Part) -> None:
    piece = SubgraphCache().subgraph(part, IMAGE)
    graph = trace_module(part.build(), [torch.zeros(IMAGE.shape)])
    assert piece.graph == graph
    assert piece.result == graph.spec(graph.nodes[-1].refs[0])


def test_a_part_may_hand_another_shape_to_its_parts_than_it_gets() -> None:
    part = function("inner", lambda x, f: f(x.flatten(1)[:, :10]), Part("linear", lambda: nn.Linear(10, 2)))
    assert SubgraphCache().subgraph(part, IMAGE).graph == trace_module(part.build(), [torch.zeros(IMAGE.shape)])


def test_parts_of_one_key_are_wired_anew_where_the_inner_results_differ() -> None:
    cache = SubgraphCache()
    wide, narrow = (
        Part("sum", lambda f, g: Function(lambda x: f(x) + g(x), f=f, g=g), (conv(3, width), conv(3, width, 3)))
        for width in (7, 2)
    )
    assert cache.subgraph(wide, IMAGE).result.shape == (1, 7, 8, 8)
    assert cache.subgraph(narrow, IMAGE).result.shape == (1, 2, 8, 8)
    assert cache.subgraph(wide, IMAGE).graph == trace_module(wide.build(), [torch.zeros(IMAGE.shape)])


def test_the_signature_of_pieces_is_that_of_what_they_read_like() -> None:
    cache = SubgraphCache()

    def signature(part: Part, width: int) -> int:
        return cache.subgraph(part, Spec((1, width, 8, 8))).signature

    assert signature(residual(conv(3, 3)), 3) == signature(residual(conv(6, 6)), 6)
    assert signature(residual(conv(3, 3)), 3) != signature(residual(conv(3, 3, 3)), 3)
    assert signature(conv(3, 4), 3) != signature(conv(3, 3), 3)
    assert signature(residual(RELU), 3) != signature(residual(TANH), 3)


@pytest.mark.parametrize(
    "part",
    [
        function("pair", lambda x: (x, x)),
        function("list of none", lambda x: []),
        residual(function("half", lambda x: x.half())),
        function("twice", lambda x, f: f(f(x)), TANH),
        function("unread", lambda x, f: x, TANH),
        conv(4, 4),
        residual(conv(3, 4)),
    ],
    ids=["two results", "no result", "dtype", "runs twice", "does not run", "fails", "sum fails"],
)
def test_what_cannot_be_put_together_is_said(part: Part) -> None:
    with pytest.raises(NotComposableError):
        SubgraphCache().subgraph(part, IMAGE)


@pytest.mark.parametrize(
    "part",
    [
        chain(RELU, conv(4, 4)),
        chain(RELU, residual(conv(3, 4))),
        chain(function("broken", lambda x: x.lost)),
        residual(function("broken", lambda x: 1 / 0)),
    ],
)
def test_a_part_that_fails_gives_the_error_of_the_whole_network(part: Part) -> None:
    def message(space: Bare) -> str:
        with pytest.raises(InputError) as caught:
            SpaceStrings(space).strings(["net"])
        return str(caught.value)

    expected = message(Bare({"net": part.build}))
    assert message(Parted(net=part)) == expected
    assert expected.startswith("network 'net': the network cannot run on inputs of shape 1x3x8x8 (")
    assert "\n" not in expected


def test_a_part_that_cannot_be_made_says_why() -> None:
    def refuse(*modules: nn.Module) -> nn.Module:
        raise ValueError("no such layer")

    with pytest.raises(ValueError, match="no such layer"):
        SpaceStrings(Parted(net=chain(RELU, Part("refuse", refuse)))).strings(["net"])


def test_threads_are_as_before() -> None:
    before = torch.get_num_threads()
    SubgraphCache().subgraph(RELU, IMAGE)
    with pytest.raises(NotComposableError):
        SubgraphCache().subgraph(conv(9, 9), IMAGE)
    assert torch.get_num_threads() == before


def test_graphs_are_chained_through_their_results() -> None:
    pieces = [SubgraphCache().subgraph(part, IMAGE).graph for part in (conv(3, 3), chain(), residual(TANH), RELU)]
    assert write(chained(pieces)) == "input[1x3x8x8] conv(k1) tanh add<-2,1 relu output"


def test_a_tied_parameter_stays_tied_inside_a_whole() -> None:
    def make(*modules: nn.Module) -> nn.Module:
        inner = nn.Conv2d(3, 3, 1, bias=False)
        (f,) = modules
        return Function(lambda x: inner(f(inner(torch.relu(x)))), inner=inner, **named(modules))

    part = chain(conv(3, 3), Part("tied", make, (residual(conv(3, 3)),)), Part("tied", make, (residual(TANH),)))
    graph = SubgraphCache().subgraph(part, IMAGE).graph
    assert graph == trace_module(part.build(), [torch.zeros(IMAGE.shape)])
    assert graph.parameters == 9 * 4


def test_a_tracer_that_copies_what_it_traces_copies_no_subgraphs(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[Subgraph] = []

    def copy(subgraph: Subgraph, memo: object) -> Subgraph:
        copied.append(subgraph)
        return subgraph

    monkeypatch.setattr(Subgraph, "__deepcopy__", copy, raising=False)
    tracer = partial(trace_module, inplace=True)
    cache = SubgraphCache(lambda network, specs: tracer(network, [torch.zeros(spec.shape) for spec in specs]))
    parts = SizeSpace("cifar10").parts("8:16:16:24:8")
    assert len(cache.chain(parts, Spec((1, 3, 32, 32)))) > 3
    assert copied == []
