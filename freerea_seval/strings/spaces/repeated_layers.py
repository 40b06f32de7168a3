"""Graphs and strings of networks whose layers repeat, from a trace of few layers.

=========== ======================================================================================================
stack       a network with its numbers of layers, and how to build it with others (:class:`freerea_patch.spaces.Stack`)
pattern     how many layers repeat together: one, or more of alternating kinds (:data:`PATTERNS`)
small graph the graph of the same network with at most two patterns of each kind of layer, and up to a pattern before
run         a stretch of it in which each node is a copy of the one a period, which is a pattern, before
copy        the same operation; each operand is at the same distance in both, or is the same node in both
=========== ======================================================================================================

:func:`extended` lengthens each run by as many periods as are missing. That this equals the trace of the whole
network is checked for each kind of network, whose members differ in sizes within layers only: the first of a kind, and
each that has more layers than those that were checked, is traced as a whole as well. If they differ, the next longer
pattern is tried, and behind the last one, all of the kind are traced as a whole.

In strings of the same network with more and more layers, counts and distances grow evenly, and the rest stays. So the
string of a deep network is computed from those of shallow ones, number by number, and so are costs that each layer adds
to; both are checked in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from torch import nn

from freerea_patch import InputError, Stack
from freerea_patch.imports import TORCH_LOCK, torch_threads
from freerea_seval.strings.graph.ir import Graph, Node, Ref, Spec, Weight
from freerea_seval.strings.spaces.subgraph_cache import zeros
from freerea_seval.strings.text.serialize import serialize_graph
from freerea_seval.strings.trace.tracer import record
from freerea_seval.strings.views import View, view_of

#: Numbers of layers that may repeat together, such as one of attention to all and one to a window.
PATTERNS = (1, 2, 4, 6)
#: Small graphs and shallow strings that are kept.
_MOST_KEPT = 1024
_NUMBER = re.compile(r"(\d+)")


class Run(NamedTuple):
    """A stretch of copies: the position behind its last node, and its period."""

    end: int
    period: int


def traced_on_meta(network: nn.Module, inputs: Sequence[Spec], inplace: bool = False) -> Graph:
    """Return the graph of a network on the ``meta`` device in evaluation mode; see :func:`.tracer.record`."""
    with TORCH_LOCK, torch_threads(1):
        return record(network.eval(), zeros(inputs, "meta"), inplace)


class _Checks:
    """For which networks a rule was checked, and whether it holds."""

    def __init__(self) -> None:
        self._held: dict[Hashable, list[Sequence[int]] | None] = {}

    def __getitem__(self, key: tuple[Hashable, Sequence[int]]) -> bool | None:
        """Return whether the rule holds for a kind and its numbers of layers; None if that is to be checked."""
        held = self._held.get(key[0], [])
        if held is None:
            return False
        known = any(all(n <= most for n, most in zip(key[1], counts, strict=True)) for counts in held)
        return True if known else None

    def __setitem__(self, key: tuple[Hashable, Sequence[int]], holds: bool) -> None:
        if holds:
            self._held.setdefault(key[0], []).append(key[1])  # type: ignore[union-attr]
        else:
            self._held[key[0]] = None


class StackGraphs:
    """The graphs of stacks for inputs of one shape.

    Args:
        source: shape and dtype of the input.
        tracer: returns the graph of a network on the ``meta`` device for its inputs.
    """

    def __init__(self, source: Spec, tracer: Callable[[nn.Module, Sequence[Spec]], Graph] = traced_on_meta) -> None:
        self._source = source
        self._tracer = tracer
        self._small: dict[Hashable, tuple[Graph, list[Run] | None, list[int]]] = {}
        self._patterns: dict[Hashable, int | None] = {}
        self._refuted: dict[Hashable, int] = {}  # the longest pattern that three layers showed, but not all
        self._values: dict[Hashable, list[Sequence[int]] | None] = {}
        self._grow_evenly = _Checks()
        self._repeat = _Checks()  # as the small graph shows

    def graph(self, stack: Stack) -> tuple[Graph, int]:
        """Return the graph of a network, and the bytes of its buffers.

        Raises:
            InputError: the network cannot be built, or cannot run on the input.
        """
        pattern = self._pattern(stack)
        if pattern is None:
            return self._traced(stack, stack.counts)
        key = self.kind_and_counts(stack)
        repeats = self._repeat[key]
        if repeats and (graph := self.extended(stack, stack.counts)) is not None:
            return graph
        traced = self._traced(stack, stack.counts)
        if repeats is None:
            self._repeat[key] = self.extended(stack, stack.counts) == traced
            if not self._repeat[key]:  # such as a kind of layer that comes behind those of the small graph
                self._refuted[stack.kind] = pattern
                del self._patterns[stack.kind]
        return traced

    def kind_and_counts(self, stack: Stack, *more: Hashable) -> tuple[Hashable, Sequence[int]]:
        """Return kind and counts; networks with other small graphs are another kind, as they may have other runs."""
        pattern = self._pattern(stack)
        few = stack.counts if pattern is None else _few(stack.counts, _shallow(pattern), pattern)
        return (stack.kind, pattern, tuple(few), *more), stack.counts

    def _pattern(self, stack: Stack) -> int | None:
        """Return how many layers repeat together: the first number of which the small graph has its runs."""
        if stack.kind not in self._patterns:
            deepest, refuted = max(stack.counts, default=0), self._refuted.get(stack.kind, 0)
            if deepest > _small(PATTERNS[-1]):  # and if none has, there is none
                self._patterns[stack.kind] = None
            for pattern in PATTERNS:
                if refuted < pattern and deepest > _small(pattern):
                    small = self._small_graph(stack, _few(stack.counts, _small(pattern), pattern), pattern)
                    if small is not None and small[1] is not None:
                        self._patterns[stack.kind] = pattern
                        break
        return self._patterns.get(stack.kind)

    def evaluate(self, stack: Stack, count: Callable[[Graph, int], Sequence[int]]) -> Sequence[int]:
        """Return numbers of a network that grow by the same with each layer, such as its parameters.

        That they do is checked as for graphs; if they do not, they are those of the graph.

        Args:
            stack: the network.
            count: the numbers of a graph and of the bytes of its buffers.

        Raises:
            InputError: as :meth:`graph`, or of ``count``.
        """
        key = self.kind_and_counts(stack, count)
        evenly = self._grow_evenly[key]
        if evenly and (evaluated := self._evaluated(stack, count)) is not None:
            return evaluated
        values = count(*self.graph(stack))
        if evenly is None:
            self._grow_evenly[key] = self._evaluated(stack, count) == list(values)
        return values

    def _evaluated(self, stack: Stack, count: Callable[[Graph, int], Sequence[int]]) -> list[int] | None:
        """Return the numbers of a deep network from those of shallow ones; None if it cannot be extended."""
        pattern = self._pattern(stack) or 1
        few = _few(stack.counts, _shallow(pattern), pattern)
        key = (stack.key, tuple(few), count)
        if key not in self._values:
            graphs = self.shallow(stack)
            if len(self._values) >= _MOST_KEPT:
                self._values.clear()
            self._values[key] = None if graphs is None else [count(*graph) for graph in graphs]
        if (values := self._values[key]) is None:
            return None
        first, *others = values
        steps = list(zip(self.steps(stack), others, strict=True))
        return [value + sum(n * (row[index] - value) for n, row in steps) for index, value in enumerate(first)]

    def shallow(self, stack: Stack) -> list[tuple[Graph, int]] | None:
        """Return a network with few layers of each kind, and with one pattern more of each deep kind."""
        pattern = self._pattern(stack) or 1
        few = _few(stack.counts, _shallow(pattern), pattern)
        deep = [index for index, count in enumerate(few) if count >= _shallow(pattern)]
        graphs = [self.extended(stack, counts) for counts in (few, *(_longer(few, i, pattern) for i in deep))]
        return None if None in graphs else [graph for graph in graphs if graph is not None]

    def steps(self, stack: Stack) -> list[int]:
        """Return by how many patterns each deep kind of layer is longer than in :meth:`shallow`."""
        pattern = self._pattern(stack) or 1
        few = _few(stack.counts, _shallow(pattern), pattern)
        pairs = zip(stack.counts, few, strict=True)
        return [(count - less) // pattern for count, less in pairs if less >= _shallow(pattern)]

    def extended(self, stack: Stack, counts: Sequence[int]) -> tuple[Graph, int] | None:
        """Return graph and buffers of a stack with these numbers of layers from a small graph; None if it has none."""
        pattern = self._pattern(stack) or 1
        few = _few(counts, _small(pattern), pattern)
        small = self._small_graph(stack, few, pattern)
        if small is None:
            return None
        graph, runs, (buffers, *longer) = small
        if runs is None:
            return None
        pairs = zip(counts, few, strict=True)
        more = [(count - less) // pattern for count, less in pairs if less >= _small(pattern)]
        return extended(graph, runs, more), buffers + sum(n * b for n, b in zip(more, longer, strict=True))

    def _small_graph(
        self, stack: Stack, few: Sequence[int], pattern: int
    ) -> tuple[Graph, list[Run] | None, list[int]] | None:
        """Return the small graph, its runs, and the bytes of its buffers and of those of one more pattern each."""
        key = (stack.key, tuple(few), pattern)
        if key not in self._small:
            try:
                graph, buffers = self._traced(stack, few)
                deeper = [_longer(few, index, pattern) for index, n in enumerate(few) if n >= _small(pattern)]
                longer = [_buffer_bytes(stack.make(counts)) - buffers if buffers else 0 for counts in deeper]
            except InputError:  # such as a config with a list of as many values as layers
                return None
            if len(self._small) >= _MOST_KEPT:
                self._small.clear()
            self._small[key] = graph, find_runs(graph, len(deeper)), [buffers, *longer]
        return self._small[key]

    def _traced(self, stack: Stack, counts: Sequence[int]) -> tuple[Graph, int]:
        network = stack.make(counts)
        return self._tracer(network, [self._source]), _buffer_bytes(network)


def _small(pattern: int) -> int:
    """Return the layers of a small graph: the first may compute what others reuse, and two patterns are copies."""
    return 2 * pattern + 1


def _shallow(pattern: int) -> int:
    """Return the layers of a network from which deeper ones follow; fewer may be written in another way."""
    return 3 * pattern + 1


def _few(counts: Sequence[int], least: int, pattern: int) -> list[int]:
    """Return numbers of layers that are patterns fewer, but at least ``least`` where there are so many."""
    return [count if count < least else least + (count - least) % pattern for count in counts]


def _longer(counts: Sequence[int], index: int, pattern: int) -> list[int]:
    return [count + pattern * (position == index) for position, count in enumerate(counts)]


def _buffer_bytes(network: nn.Module) -> int:
    return sum(buffer.nbytes for buffer in network.buffers())


def find_runs(graph: Graph, number: int) -> list[Run] | None:
    """Return so many runs of two or more copies, in order: those of the longest periods; None if there are fewer.

    The stretches of two runs, each with the period before it, do not overlap.
    """
    nodes, runs = graph.nodes, list[Run]()
    for period in range(len(nodes) // 2, 1, -1):
        position = 1
        while position + 2 * period <= len(nodes) and len(runs) < number:
            end = position
            while end + period < len(nodes) and _is_copy(nodes[end], nodes[end + period], end, period):
                end += 1
            if end - position >= period and all(
                end + period <= run.end - 2 * run.period or run.end <= position for run in runs
            ):
                runs.append(Run(end + period, period))
            position = end + 1
    return sorted(runs) if len(runs) == number else None


def _is_copy(one: Node, other: Node, position: int, period: int) -> bool:
    """Return whether the node a period behind another, at ``position``, is its copy."""
    if one.kind != other.kind or one.outputs != other.outputs or len(one.inputs) != len(other.inputs):
        return False
    if one.attributes != other.attributes:
        return False
    for first, second in zip(one.inputs, other.inputs, strict=True):
        if isinstance(first, Ref) and isinstance(second, Ref):
            if first.port != second.port or second.node - first.node not in (0, period):
                return False
        elif isinstance(first, Weight) and isinstance(second, Weight):
            if first[:2] != second[:2] or (first.tied is None) != (second.tied is None):
                return False
            if first.tied is not None and second.tied is not None and second.tied - first.tied not in (0, period):
                return False
        else:
            return False
    return True


def extended(graph: Graph, runs: Sequence[Run], more: Sequence[int]) -> Graph:
    """Return a graph whose runs are longer by so many periods each.

    Args:
        graph: the graph.
        runs: of :func:`find_runs`.
        more: periods to add to each of them, 0 or more.
    """
    nodes = list(graph.nodes)
    for (end, period), count in zip(reversed(runs), reversed(more), strict=True):  # positions before it stay
        copies = [(nodes[position], nodes[position - period]) for position in range(end - period, end)]
        added = [_moved(node, n * period, before=before) for n in range(1, count + 1) for node, before in copies]
        nodes[end:] = [*added, *(_moved(node, count * period, end - period) for node in nodes[end:])]
    return Graph(tuple(nodes))


def _moved(node: Node, distance: int, start: int = 0, before: Node | None = None) -> Node:
    """Return a node whose operands are further behind.

    Args:
        node: the node.
        distance: by which operands move.
        start: operands before this position stay.
        before: the copy of the node a period before; an operand that both read from one node stays.
    """
    inputs: list[Ref | Weight] = []
    for item, old in zip(node.inputs, (before or node).inputs, strict=True):
        source = item.node if isinstance(item, Ref) else item.tied
        same = before is not None and source == (old.node if isinstance(old, Ref) else old.tied)
        if source is None or source < start or same:
            inputs.append(item)
        elif isinstance(item, Ref):
            inputs.append(Ref(source + distance, item.port))
        else:
            inputs.append(item._replace(tied=source + distance))
    return Node(node.kind, node.attributes, tuple(inputs), node.outputs)


class StackStrings:
    """The strings of stacks.

    Args:
        view: of the networks.
        source: shape and dtype of the input.
    """

    def __init__(self, view: View, source: Spec) -> None:
        self._view = view
        self._graphs = StackGraphs(source)
        self._shallow: dict[Hashable, list[list[str]]] = {}
        self._grow_evenly = _Checks()

    def string(self, stack: Stack) -> str:
        """Return the string of a network.

        Raises:
            InputError: as :meth:`StackGraphs.graph`.
        """
        key = self._graphs.kind_and_counts(stack)
        evenly = self._grow_evenly[key]
        if evenly and (grown := self._grown(stack)) is not None:
            return grown
        string = serialize_graph(view_of(self._graphs.graph(stack)[0], self._view))
        if evenly is None:
            self._grow_evenly[key] = self._grown(stack) == string
        return string

    def _grown(self, stack: Stack) -> str | None:
        """Return the string of a deep network from those of shallow ones; None if these differ in more than numbers."""
        key = (stack.key, self._graphs.kind_and_counts(stack)[0])
        if key not in self._shallow:
            graphs = self._graphs.shallow(stack) or []
            if len(self._shallow) >= _MOST_KEPT:
                self._shallow.clear()
            self._shallow[key] = [_NUMBER.split(serialize_graph(view_of(graph, self._view))) for graph, _ in graphs]
        shallow = self._shallow[key]
        if not shallow or any(len(other) != len(shallow[0]) or other[::2] != shallow[0][::2] for other in shallow[1:]):
            return None
        words = list(shallow[0])
        for other, count in zip(shallow[1:], self._graphs.steps(stack), strict=True):
            for index in range(1, len(words), 2):
                if other[index] != shallow[0][index]:
                    words[index] = str(int(words[index]) + count * (int(other[index]) - int(shallow[0][index])))
        return "".join(words)
