"""The graph of a network from the graphs of its parts: each is traced once, and put in wherever it occurs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from freerea_patch import InputError, Part
from freerea_patch.networks import skip_initialisation
from freerea_seval.strings.graph.ir import Graph, Node, Ref, Spec, Weight
from freerea_seval.strings.text.serialize import tokens
from freerea_seval.strings.trace.dispatch_mode import Watcher, opaque
from freerea_seval.strings.trace.operations import spec_of
from freerea_seval.strings.trace.tracer import dispatched

#: The kind of a node that stands for a part.
_PART = "part"


class NotComposableError(Exception):
    """A part does not map one tensor to one tensor, or its module does not run each of its parts once."""


@dataclass(frozen=True)
class Piece:
    """What is known of a part at one input.

    Attributes:
        wiring: its graph, in which a node of kind ``part`` stands for each part of it.
        inner: those parts, by the place of their node.
        signature: the same for pieces whose operations read the same, as those of a cell do at any width.
    """

    wiring: Graph
    inner: Mapping[int, Piece]
    signature: int

    @cached_property
    def result(self) -> Spec:
        """Shape and dtype of the result."""
        return result_of(self.wiring)

    @cached_property
    def graph(self) -> Graph:
        """All operations."""
        return _filled(self.wiring, {place: piece.graph for place, piece in self.inner.items()})


class _Slot(NamedTuple):
    """Where a part is in the graph around it: its node, its number, and what it gets and yields."""

    place: int
    part: int
    given: Spec
    result: Spec


class _Wiring(NamedTuple):
    """What a part computes around its parts."""

    graph: Graph
    signature: int
    slots: list[_Slot]


def _traced(network: nn.Module, given: Sequence[Spec]) -> Graph:
    # Both routes give the same graph; for so few operations this one is the faster.
    return dispatched(network.eval(), [torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in given])


class Composer:
    """Knows the graphs of parts: what is traced once is kept.

    Args:
        tracer: returns the graph of a new module for its inputs.
    """

    def __init__(self, tracer: Callable[[nn.Module, Sequence[Spec]], Graph] = _traced) -> None:
        self._tracer = tracer
        self._known: dict[tuple[Hashable, Spec], Piece] = {}
        self._wired: dict[tuple[Hashable, int, Spec], list[_Wiring]] = {}
        self._signatures: dict[Hashable, int] = {}

    def piece(self, part: Part, given: Spec) -> Piece:
        """Return what is known of a part.

        Args:
            part: what to convert; it maps one tensor to one tensor.
            given: shape and dtype of its input.

        Raises:
            NotComposableError: it does something else.
        """
        if part.parts:
            return self._put_together(part, given)
        key = (part.identity, given)
        if key not in self._known:
            with skip_initialisation():  # what weights are does not matter
                module = part.build()
            graph, signature = self._trace(module, given)
            self._known[key] = Piece(graph, {}, signature)
        return self._known[key]

    def _put_together(self, part: Part, given: Spec) -> Piece:
        known = self._wired.setdefault((part.key, len(part.parts), given), [])
        # The same key may stand for several graphs: the shapes of the inner results may differ.
        for wiring in known:
            if (piece := self._fitted(part, wiring)) is not None:
                return piece
        wiring = self._wire(part, given)
        piece = self._fitted(part, wiring)
        # A part that does not run leaves parameters that only the whole network shows.
        if piece is None or sorted(slot.part for slot in wiring.slots) != list(range(len(part.parts))):
            raise NotComposableError
        known.append(wiring)
        return piece

    def _wire(self, part: Part, given: Spec) -> _Wiring:
        """Trace what a part computes around its parts."""
        self._learn_together(part.parts, given)  # most often they get what the whole gets
        while True:
            placeholders = [_Placeholder(*inner, self._known) for inner in enumerate(part.parts)]
            try:
                graph, signature = self._trace(part.make(*placeholders), given)
            except _UnknownPart as unknown:
                self._learn(unknown.part, unknown.given)
                continue
            slots = [
                _Slot(place, int(str(node.get("number"))), graph.spec(node.refs[0]), node.outputs[0])
                for place, node in enumerate(graph)
                if node.kind == _PART
            ]
            return _Wiring(graph, signature, slots)

    def _learn_together(self, parts: Sequence[Part], given: Spec) -> None:
        """Trace parts that get the same input in one run, which spares the time of preparing several."""
        new = {p.identity: p for p in parts if not p.parts and (p.identity, given) not in self._known}
        if len(new) > 1:
            with skip_initialisation():
                bundle = _Bundle(part.build() for part in new.values())
            with suppress(NotComposableError):
                graphs = _unbundled(self._run(bundle, [given] * len(new)), len(new))
                for identity, graph in zip(new, graphs, strict=True):
                    self._known[identity, given] = Piece(graph, {}, self._signature(graph))
        for part in parts:
            with suppress(NotComposableError):
                self._learn(part, given)

    def _learn(self, part: Part, given: Spec) -> None:
        self._known[part.identity, given] = self.piece(part, given)

    def _fitted(self, part: Part, wiring: _Wiring) -> Piece | None:
        """Return a part with the parts in it, None if their results are not what the wiring was traced with."""
        inner: dict[int, Piece] = {}
        for slot in wiring.slots:
            piece = self.piece(part.parts[slot.part], slot.given)
            if piece.result != slot.result:
                return None
            inner[slot.place] = piece
        key = (wiring.signature, *(piece.signature for piece in inner.values()))
        return Piece(wiring.graph, inner, self._signatures.setdefault(key, len(self._signatures)))

    def _trace(self, network: nn.Module, given: Spec) -> tuple[Graph, int]:
        graph = self._run(network, [given])
        return graph, self._signature(graph)

    def _run(self, network: nn.Module, given: Sequence[Spec]) -> Graph:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # parts are small, and threads on a busy machine wait for each other
        try:
            return self._tracer(network, given)
        except InputError as error:
            if isinstance(error.__cause__, _UnknownPart):
                raise error.__cause__ from None
            raise NotComposableError from error  # the whole network may run, and says more if it does not
        finally:
            torch.set_num_threads(threads)

    def _signature(self, graph: Graph) -> int:
        if len(graph.nodes[-1].inputs) != 1 or graph.nodes[-2].kind == "unused":
            raise NotComposableError
        # What an operation says depends on which of its sizes are equal, not on how large they are.
        sizes: dict[object, int] = {}
        specs = [spec for node in graph for spec in node.outputs]
        pattern = [(*(sizes.setdefault(n, len(sizes)) for n in spec.shape), spec.dtype) for spec in specs]
        key = (tuple(token.text for token in tokens(graph)[1:]), tuple(pattern))
        return self._signatures.setdefault(key, len(self._signatures))


class _Bundle(nn.ModuleList):
    """Modules that run one after the other, each on an input of its own."""

    def forward(self, *inputs: Tensor) -> list[Any]:
        """Return one result a module."""
        return [module(x) for module, x in zip(self, inputs, strict=True)]


def _unbundled(graph: Graph, count: int) -> list[Graph]:
    """Return the graphs of the modules of a bundle.

    Raises:
        NotComposableError: a module does not map one tensor to one tensor, or has parameters that it does not read.
    """
    *nodes, output = graph.nodes
    results = output.refs
    if len(results) != count or any(node.kind in ("unused", "constant") for node in nodes):
        raise NotComposableError
    parts: list[list[Node]] = [[node] for node in nodes[:count]]
    place: list[tuple[int, int]] = [
        (number, 0) for number in range(count)
    ]  # of every node: its module, and where there
    for node in nodes[count:]:
        # What reads nothing belongs to the module that runs.
        number = place[node.refs[0].node][0] if node.refs else place[-1][0]
        moved = (
            item._replace(node=place[item.node][1])
            if isinstance(item, Ref)
            else item._replace(tied=None if item.tied is None else place[item.tied][1])
            for item in node.inputs
        )
        parts[number].append(node._replace(inputs=tuple(moved)))
        place.append((number, len(parts[number]) - 1))
    for number, ref in enumerate(results):
        if place[ref.node][0] != number:
            raise NotComposableError
        parts[number].append(Node("output", (), (Ref(place[ref.node][1], ref.port),)))
    return [Graph(tuple(part)) for part in parts]


def result_of(graph: Graph) -> Spec:
    """Return shape and dtype of a graph's only result."""
    return graph.spec(graph.nodes[-1].refs[0])


def chained(graphs: Sequence[Graph]) -> Graph:
    """Return the graph of parts that follow each other, each on the result of the one before."""
    nodes = [graphs[0].nodes[0]]
    ref = Ref(0)
    for graph in graphs:
        ref = _append(nodes, graph, ref)
    nodes.append(Node("output", (), (ref,)))
    return Graph(tuple(nodes))


class _UnknownPart(Exception):  # noqa: N818 - never more than a message from a placeholder to its composer
    """A placeholder does not know its part's result for an input."""

    def __init__(self, part: Part, given: Spec) -> None:
        super().__init__()
        self.part = part
        self.given = given


class _Placeholder(nn.Module):
    """Stands for a part: it yields a tensor of the right shape, and shows as one node."""

    def __init__(self, number: int, part: Part, known: Mapping[tuple[Hashable, Spec], Piece]) -> None:
        super().__init__()
        self._number = number
        self._part = part
        self._known = known

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor like the part's result."""
        given = spec_of(x)
        piece = self._known.get((self._part.identity, given))
        if piece is None:
            raise _UnknownPart(self._part, given)
        if piece.result.dtype != given.dtype:
            raise InputError("a part of a network changes the dtype")
        return opaque(Watcher.active[-1], _PART, {"number": self._number}, piece.result.shape, [x])


def _filled(wiring: Graph, graphs: dict[int, Graph]) -> Graph:
    """Put graphs in the places of the nodes that stand for them."""
    nodes: list[Node] = []
    moved: list[Ref] = []  # where the only result of a node of the wiring is now
    for place, node in enumerate(wiring):
        graph = graphs.get(place)
        if graph is not None:
            moved.append(_append(nodes, graph, moved[node.refs[0].node]))
            continue
        moved.append(Ref(len(nodes)))
        inputs = tuple([_moved(item, moved) for item in node.inputs])
        nodes.append(Node(node.kind, node.attributes, inputs, node.outputs))  # faster than _replace
    return Graph(tuple(nodes))


def _moved(item: Ref | Weight, moved: Sequence[Ref]) -> Ref | Weight:
    if isinstance(item, Ref):
        ref = moved[item.node]
        return ref if item.port == 0 else Ref(ref.node, item.port)
    return item if item.tied is None else item._replace(tied=moved[item.tied].node)


def _append(nodes: list[Node], graph: Graph, given: Ref) -> Ref:
    """Append the operations of a graph that reads ``given``; return where its result is."""
    offset = len(nodes) - 1
    result = graph.nodes[-1].refs[0]
    for node in graph.nodes[1:-1]:
        inputs: list[Ref | Weight] = []
        for item in node.inputs:
            if isinstance(item, Ref):
                inputs.append(Ref(item.node + offset, item.port) if item.node else given)
            else:
                inputs.append(item if item.tied is None else item._replace(tied=item.tied + offset))
        nodes.append(Node(node.kind, node.attributes, tuple(inputs), node.outputs))
    return Ref(result.node + offset, result.port) if result.node else given
