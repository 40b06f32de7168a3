"""Strings of a space's networks from cached subgraphs: each distinct part of the networks is traced once.

=========== ======================================================================================================
part        a module made of modules (:class:`~freerea_patch.spaces.Part`), as a search space describes it
wiring      the graph of what a part computes around its inner parts, each of which is one node of kind ``part``
subgraph    a part at one input shape: its wiring, and the subgraphs of the inner parts
signature   a number shared by subgraphs with equal strings, such as those of a cell at any width
link        what the string of a chain needs of one subgraph, cached by its signature
=========== ======================================================================================================

:class:`SubgraphCache` traces parts and composes their graphs. :class:`ChainStrings` composes strings in the same way,
because every path passes the result between two consecutive parts: nothing is read across it, so neither the order of
operations nor the repetitions in a part depend on the other side. Where they do, as when a part ends with a sum that
the next part continues, the string is that of the whole graph.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from freerea_patch import InputError, Part
from freerea_patch.networks import skip_initialisation
from freerea_seval.strings.graph.ir import Graph, Node, Ref, Spec, Weight
from freerea_seval.strings.text.compress import Body, join, split
from freerea_seval.strings.text.serialize import serialize_graph, tokens
from freerea_seval.strings.trace.dispatch_mode import DispatchMode
from freerea_seval.strings.trace.operations import spec_of
from freerea_seval.strings.trace.tracer import record
from freerea_seval.strings.views import View, view_of

#: The kind of a node that stands for an inner part.
_PART = "part"
#: Number of cached links; a space has more cells than that, and each is needed once.
_MAX_LINKS = 4096


class NotComposableError(Exception):
    """A part does not map one tensor to one tensor, or its module does not run each inner part once."""


@dataclass(frozen=True)
class Subgraph:
    """A part at one input shape.

    Attributes:
        wiring: the graph around the inner parts.
        inner: the subgraphs of the inner parts, by the position of their node in the wiring.
        signature: equal for subgraphs whose operations have equal texts.
    """

    wiring: Graph
    inner: Mapping[int, Subgraph]
    signature: int

    @cached_property
    def result(self) -> Spec:
        """Shape and dtype of the result."""
        return self.wiring.spec(self.wiring.nodes[-1].refs[0])

    @cached_property
    def graph(self) -> Graph:
        """All operations."""
        nodes: list[Node] = []
        results: list[Ref] = []  # by node of the wiring, its first result in ``nodes``
        for position, node in enumerate(self.wiring):
            if (inner := self.inner.get(position)) is not None:
                results.append(_append(nodes, inner.graph, results[node.refs[0].node]))
                continue
            inputs: list[Ref | Weight] = []
            for item in node.inputs:
                if isinstance(item, Ref):
                    ref = results[item.node]
                    inputs.append(Ref(ref.node, item.port) if item.port else ref)
                else:
                    inputs.append(item if item.tied is None else item._replace(tied=results[item.tied].node))
            results.append(Ref(len(nodes)))
            nodes.append(Node(node.kind, node.attributes, tuple(inputs), node.outputs))  # faster than _replace
        return Graph(tuple(nodes))


def chained(graphs: Sequence[Graph]) -> Graph:
    """Return the graph of consecutive parts, each of which reads the result of the one before."""
    nodes = [graphs[0].nodes[0]]
    ref = Ref(0)
    for graph in graphs:
        ref = _append(nodes, graph, ref)
    nodes.append(Node("output", (), (ref,)))
    return Graph(tuple(nodes))


def _append(nodes: list[Node], graph: Graph, source: Ref) -> Ref:
    """Append the operations of a graph, with ``source`` as its input; return its result."""
    offset = len(nodes) - 1
    result = graph.nodes[-1].refs[0]
    for node in graph.nodes[1:-1]:
        inputs: list[Ref | Weight] = []
        for item in node.inputs:
            if isinstance(item, Ref):
                inputs.append(Ref(item.node + offset, item.port) if item.node else source)
            else:
                inputs.append(item if item.tied is None else item._replace(tied=item.tied + offset))
        nodes.append(Node(node.kind, node.attributes, tuple(inputs), node.outputs))
    return Ref(result.node + offset, result.port) if result.node else source


class _Slot(NamedTuple):
    """An inner part in a wiring: the position of its node, its index, its input and its result."""

    position: int
    part: int
    source: Spec
    result: Spec


class _Wiring(NamedTuple):
    graph: Graph
    signature: int
    slots: list[_Slot]


def _traced(network: nn.Module, inputs: Sequence[Spec]) -> Graph:
    return record(network.eval(), zeros(inputs, "cpu"))


def _traced_on_meta(network: nn.Module, inputs: Sequence[Spec]) -> Graph:
    return record(network.eval(), zeros(inputs, "meta"))


def zeros(inputs: Sequence[Spec], device: str) -> list[Tensor]:
    """Return inputs of these shapes and dtypes."""
    return [torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype), device=device) for spec in inputs]


class SubgraphCache:
    """The subgraphs of parts.

    Args:
        tracer: returns the graph of a new module for its inputs; by default, the module runs.
        on_meta: build modules on the ``meta`` device, and by default also trace them there.
    """

    def __init__(
        self, tracer: Callable[[nn.Module, Sequence[Spec]], Graph] | None = None, on_meta: bool = False
    ) -> None:
        self._tracer = tracer or (_traced_on_meta if on_meta else _traced)
        self._device = "meta" if on_meta else "cpu"
        self._subgraphs: dict[tuple[Hashable, Spec], Subgraph] = {}
        self._wirings: dict[tuple[Hashable, int, Spec], list[_Wiring]] = {}
        self._signatures: dict[Hashable, int] = {}

    def chain(self, part: Part, source: Spec) -> list[tuple[Part, Subgraph]]:
        """Return the consecutive parts of a network and their subgraphs; see :meth:`subgraph`."""
        chain: list[tuple[Part, Subgraph]] = []
        # A part that is repeated keeps the shape of its input more often than not.
        repeated: dict[tuple[int, Spec], Subgraph] = {}
        for inner in part.parts if part.make is nn.Sequential else (part,):
            key = (id(inner), source)
            if key not in repeated:
                repeated[key] = self.subgraph(inner, source)
            chain.append((inner, repeated[key]))
            source = repeated[key].result
        return chain

    def subgraph(self, part: Part, source: Spec) -> Subgraph:
        """Return the subgraph of a part.

        Args:
            part: maps one tensor to one tensor.
            source: shape and dtype of its input.

        Raises:
            NotComposableError: the part does something else.
        """
        if part.parts:
            return self._compose(part, source)
        key = (part.identity, source)
        if key not in self._subgraphs:
            with skip_initialisation(), torch.device(self._device):  # the values of weights do not matter
                module = part.build()
            graph, signature = self._trace(module, source)
            self._subgraphs[key] = Subgraph(graph, {}, signature)
        return self._subgraphs[key]

    def _compose(self, part: Part, source: Spec) -> Subgraph:
        # Several wirings may share a key: they differ in the shapes of the inner results.
        wirings = self._wirings.setdefault((part.key, len(part.parts), source), [])
        for wiring in wirings:
            if (subgraph := self._fill(part, wiring)) is not None:
                return subgraph
        wiring = self._wire(part, source)
        subgraph = self._fill(part, wiring)
        # An inner part that does not run has parameters that only the whole network shows.
        if subgraph is None or sorted(slot.part for slot in wiring.slots) != list(range(len(part.parts))):
            raise NotComposableError
        wirings.append(wiring)
        return subgraph

    def _wire(self, part: Part, source: Spec) -> _Wiring:
        """Trace what a part computes around its inner parts."""
        for inner in part.parts:  # most often they read what the whole part reads, and no second trace is needed
            with suppress(NotComposableError):
                self._subgraphs[inner.identity, source] = self.subgraph(inner, source)

        def find(inner: Part, source: Spec) -> Subgraph | None:
            return self._subgraphs.get((inner.identity, source))

        while True:
            placeholders = [_Placeholder(*inner, find) for inner in enumerate(part.parts)]
            try:
                with torch.device(self._device):
                    module = part.make(*placeholders)
                graph, signature = self._trace(module, source)
            except _UnknownPart as unknown:
                self._subgraphs[unknown.part.identity, unknown.source] = self.subgraph(unknown.part, unknown.source)
                continue
            slots = [
                _Slot(position, int(str(node.get("number"))), graph.spec(node.refs[0]), node.outputs[0])
                for position, node in enumerate(graph)
                if node.kind == _PART
            ]
            return _Wiring(graph, signature, slots)

    def _fill(self, part: Part, wiring: _Wiring) -> Subgraph | None:
        """Return a subgraph with this wiring; None if it was traced with other results of the inner parts."""
        inner: dict[int, Subgraph] = {}
        for slot in wiring.slots:
            subgraph = self.subgraph(part.parts[slot.part], slot.source)
            if subgraph.result != slot.result:
                return None
            inner[slot.position] = subgraph
        key = (wiring.signature, *(subgraph.signature for subgraph in inner.values()))
        return Subgraph(wiring.graph, inner, self._signatures.setdefault(key, len(self._signatures)))

    def _trace(self, network: nn.Module, source: Spec) -> tuple[Graph, int]:
        """Return the graph of a module, and its signature."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # parts are small, and threads on a busy machine wait for each other
        try:
            graph = self._tracer(network, [source])
        except InputError as error:
            if isinstance(error.__cause__, _UnknownPart):
                raise error.__cause__ from None
            raise NotComposableError from error  # the whole network may run, or fails with a better message
        finally:
            torch.set_num_threads(threads)
        if len(graph.nodes[-1].inputs) != 1 or graph.nodes[-2].kind == "unused":
            raise NotComposableError
        # The texts of operations depend on which of their sizes are equal, not on the sizes.
        sizes: dict[object, int] = {}
        specs = [spec for node in graph for spec in node.outputs]
        pattern = [(*(sizes.setdefault(n, len(sizes)) for n in spec.shape), spec.dtype) for spec in specs]
        key = (tuple(token.text for token in tokens(graph)[1:]), tuple(pattern))
        return graph, self._signatures.setdefault(key, len(self._signatures))


class _UnknownPart(Exception):  # noqa: N818 - a message from a placeholder to its cache, never an error
    """A placeholder has no subgraph for an input."""

    def __init__(self, part: Part, source: Spec) -> None:
        super().__init__()
        self.part = part
        self.source = source


class _Placeholder(nn.Module):
    """Stands for an inner part: it returns a tensor of the right shape, and is recorded as one node."""

    def __init__(self, number: int, part: Part, find: Callable[[Part, Spec], Subgraph | None]) -> None:
        super().__init__()
        self._number = number
        self._part = part
        self._find = find  # a function: a tracer that copies the module does not copy all subgraphs with it

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor like the part's result."""
        source = spec_of(x)
        subgraph = self._find(self._part, source)
        if subgraph is None:
            raise _UnknownPart(self._part, source)
        if subgraph.result.dtype != source.dtype:
            raise InputError("a part of a network changes the dtype")
        shape = subgraph.result.shape
        return DispatchMode.active[-1].opaque(_PART, {"number": self._number}, [x], lambda: x.new_zeros(shape))


class _Link(NamedTuple):
    """A subgraph in a chain, whatever its sizes.

    Attributes:
        bodies: its string between input and output; None if that depends on the neighbours.
        constant: whether the result does not depend on the input.
        first: the kinds of the operations that read the input.
        last: the kind of the operation that produces the result; empty if that is the input.
    """

    bodies: list[Body] | None
    constant: bool
    first: tuple[str, ...]
    last: str


class ChainStrings:
    """Composes the strings of networks; see the module's docstring.

    Args:
        view: of the networks.
        on_meta: see :class:`SubgraphCache`.
    """

    def __init__(self, view: View, on_meta: bool = False) -> None:
        self._view = view
        self._cache = SubgraphCache(on_meta=on_meta)
        self._links: dict[int, _Link] = {}
        self._endings: dict[Hashable, str] = {}

    def string(self, part: Part, source: Spec) -> str:
        """Return the string of a network.

        Args:
            part: the network.
            source: shape and dtype of its input.

        Raises:
            NotComposableError: some part does not map one tensor to one tensor.
        """
        chain = [subgraph for _, subgraph in self._cache.chain(part, source)]
        network_input = Node("input", (), (), (source,))
        links = [self._link(subgraph) for subgraph in chain]
        for index in range(len(links) - 1, -1, -1):
            # The functional view forgets everything before a constant.
            if links[index].constant and self._view == "functional":
                return self._ending(chain[index:], network_input)
        bodies: list[Body] = [(tokens(Graph((network_input,)))[0].text,)]
        last = ""
        for link in links:
            if link.bodies is None or _interact(last, link.first):
                return self._whole(chain, network_input)
            bodies += link.bodies
            last = link.last or last
        return join([*bodies, ("output",)])

    def _link(self, subgraph: Subgraph) -> _Link:
        if subgraph.signature not in self._links:
            if len(self._links) >= _MAX_LINKS:
                self._links.clear()
            self._links[subgraph.signature] = _link(view_of(subgraph.graph, self._view))
        return self._links[subgraph.signature]

    def _ending(self, chain: Sequence[Subgraph], network_input: Node) -> str:
        """Return the string of a chain whose first part forgets its input."""
        constant = view_of(chain[0].graph, self._view)
        key = (network_input, constant.nodes[1:], *((subgraph.signature, subgraph.result) for subgraph in chain[1:]))
        if key not in self._endings:
            self._endings[key] = self._whole(chain, network_input)
        return self._endings[key]

    def _whole(self, chain: Sequence[Subgraph], network_input: Node) -> str:
        graph = chained([subgraph.graph for subgraph in chain])
        return serialize_graph(view_of(Graph((network_input, *graph.nodes[1:])), self._view))


def _link(graph: Graph) -> _Link:
    words = tokens(graph)
    has_sources = not all([word.refs for word in words[1:-1]])
    bodies = split(words)
    # The string is independent of the neighbours if input and output are parts of their own, the output reads the last
    # result, and no operand is written with ^, which counts from the first operation of the network.
    independent = not has_sources and len(bodies[0]) == 1 and bodies[-1] == ("output",) and "^" not in repr(bodies)
    first = tuple([node.kind for node, word in zip(graph, words, strict=True) for ref in word.refs if not ref.node])
    last = words[-1].refs[0].node
    return _Link(
        bodies[1:-1] if independent else None,
        has_sources and not _depends_on_input(graph),
        first if last else (),
        graph.nodes[last].kind if last else "",
    )


def _depends_on_input(graph: Graph) -> bool:
    depends = [True]
    for node in graph.nodes[1:]:
        depends.append(any([depends[ref.node] for ref in node.refs]))
    return depends[-1]


def _interact(last: str, first: Sequence[str]) -> bool:
    """Return whether a view may simplify the last operation of a part with the first ones of the next."""
    return (last == "relu" and "relu" in first) or (last == "add" and tuple(first) == ("add",))
