"""Peak memory of a graph: of inference, and of a training step, by walking it forward and backward.

Conventions. A result lives from its operation to its last reader; what one reads and writes is there at once. Views and
results of operations in place are their input's memory. Inputs and outputs of the network live throughout. Results
besides the first that nothing reads (the places of a pool's maxima, a norm's statistics) count in training alone. What
an operation needs only while it runs (a convolution's workspace) is not counted, nor is the loss, nor what Python holds
longer than it needs: eager PyTorch keeps a module's argument until the module is done. In the training step, every
floating-point parameter is trained, every floating-point output has a gradient, what autograd saves lives until the
backward of its operation has run, gradients of parameters are new (``zero_grad()`` sets them to None) and stay, and
gradients of one result are added up in place where nothing else holds that memory, as PyTorch's engine does.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Literal

from freerea_patch import InputError, unknown_name
from freerea_seval.costs.autograd_memory import BLIND, PASSED, VIEWS, is_floating, kept, temporary_copies
from freerea_seval.strings.graph.ir import Graph, Node, Ref, Spec, Weight

Optimiser = Literal["sgd", "momentum", "adam"]
#: Copies of the parameters that an optimiser keeps, and of the largest one that its step makes on the way.
OPTIMISERS: dict[str, tuple[int, int]] = {"sgd": (0, 0), "momentum": (1, 0), "adam": (2, 2)}
#: The first input's gradient is the result's, in its memory; those of the others are new.
_FIRST_PASSED = frozenset(("sub", "expand"))


def size(spec: Spec | Weight) -> int:
    """Return the bytes of a tensor."""
    elements = 1
    for number in spec.shape:
        elements *= number
    return elements * _itemsize(spec.dtype)


def weight_bytes(graph: Graph) -> int:
    """Return the bytes of all parameters, shared ones counted once."""
    return sum(size(weight) for node in graph for weight in node.weights if weight.tied is None)


def activation_bytes(graph: Graph) -> int:
    """Return the bytes of all results that own memory, whether or not they are there at once; inputs left out."""
    return sum(
        sum(map(size, node.outputs))
        for node in graph
        if node.kind != "input" and not _has_none(node) and not _writes_to(node)
    )


def inference_peak(graph: Graph) -> int:
    """Return the bytes at the peak of a forward pass, weights and buffers left out."""
    heap, _ = _forward(graph, None)
    return heap.peak


def training_peak(graph: Graph, optimiser: str = "momentum") -> int:
    """Return the bytes at the peak of a training step, weights and buffers left out.

    Args:
        graph: traced in training mode.
        optimiser: ``"sgd"``, ``"momentum"`` or ``"adam"``.

    Raises:
        InputError: an unknown optimiser.
    """
    copies, temporary = check_optimiser(optimiser)
    needing = _needing(graph)
    heap, memories = _forward(graph, needing)
    trained = _backward(graph, needing, heap, memories)
    heap.use(temporary * max(trained, default=0))
    return heap.peak + copies * sum(trained)


def check_optimiser(optimiser: str) -> tuple[int, int]:
    """Return how many copies an optimiser keeps, and makes.

    Raises:
        InputError: it is unknown.
    """
    if not isinstance(optimiser, str):
        raise InputError(f"expected an optimiser's name, one of {', '.join(OPTIMISERS)}; got {optimiser!r}")
    if optimiser not in OPTIMISERS:
        raise unknown_name("optimiser", optimiser, OPTIMISERS)
    return OPTIMISERS[optimiser]


@cache
def _itemsize(dtype: str) -> int:
    import torch

    found: torch.dtype = getattr(torch, dtype)
    return found.itemsize


class _Heap:
    """Blocks of memory with counts of who holds them, and the most that was ever there at once."""

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self.holders: list[int] = []
        self.current = 0
        self.peak = 0

    def new(self, count: int) -> int:
        """Return a new block with one holder."""
        self._sizes.append(count)
        self.holders.append(1)
        self.current += count
        self.peak = max(self.peak, self.current)
        return len(self._sizes) - 1

    def hold(self, block: int) -> int:
        """Return a block with one more holder."""
        self.holders[block] += 1
        return block

    def drop(self, block: int) -> None:
        """Let a block go; it is free when nobody holds it."""
        self.holders[block] -= 1
        if not self.holders[block]:
            self.current -= self._sizes[block]

    def use(self, count: int) -> None:
        """Take so much for a moment."""
        self.peak = max(self.peak, self.current + count)


class _Memories:
    """Where the results of a forward pass are.

    Attributes:
        blocks: of each node, those of its results.
        saved: of each node, those that its backward needs.
    """

    def __init__(self) -> None:
        self.blocks: list[list[int]] = []
        self.saved: list[list[int]] = []


def _writes_to(node: Node) -> bool:
    """Return whether a node's results are its first input's memory."""
    if not node.refs:
        return False
    return node.kind in VIEWS or bool(node.get("inplace") and node.kind not in BLIND)


def _has_none(node: Node) -> bool:
    """Return whether a node's results take nothing: buffers of the module, small constants, views of parameters."""
    return node.kind == "constant" or (node.kind in VIEWS and not node.refs)


def _forward(graph: Graph, needing: list[bool] | None) -> tuple[_Heap, _Memories]:
    """Walk forward; with ``needing``, hold what the backward of these nodes needs."""
    heap, memories = _Heap(), _Memories()
    last = _last_readers(graph)
    for place, node in enumerate(graph):
        blocks: list[int] = []
        if _has_none(node):
            blocks = [heap.new(0) for _ in node.outputs]
        elif _writes_to(node):
            source = node.refs[0]
            blocks = [heap.hold(memories.blocks[source.node][source.port]) for _ in node.outputs]
        elif node.outputs:
            blocks = [heap.new(size(spec)) for spec in node.outputs]
        memories.blocks.append(blocks)
        saved: list[int] = []
        if needing is not None and needing[place]:
            refs, extra = kept(graph, node, place, needing)
            saved = [heap.hold(memories.blocks[ref.node][ref.port]) for ref in refs]
            if extra:
                saved.append(heap.new(extra))
        memories.saved.append(saved)
        for source in last[place]:
            heap.drop(memories.blocks[source.node][source.port])
    return heap, memories


def _last_readers(graph: Graph) -> list[list[Ref]]:
    """Return, of each node, the results that nothing reads behind it; inputs and outputs of the network never go."""
    reader: dict[Ref, int] = {}
    for place, node in enumerate(graph):
        if node.kind == "input":
            continue
        for port in range(len(node.outputs)):
            reader[Ref(place, port)] = place
        for ref in node.refs:
            if graph.nodes[ref.node].kind != "input":
                reader[ref] = place
    last: list[list[Ref]] = [[] for _ in graph]
    for ref, place in reader.items():
        if graph.nodes[place].kind != "output":
            last[place].append(ref)
    return last


def _needing(graph: Graph) -> list[bool]:
    """Return, of each node, whether a gradient goes through it: from a parameter to an output of the network."""
    above = [False] * len(graph)
    for place, node in enumerate(graph):
        floating = bool(node.outputs) and node.outputs[0].dtype.startswith(("float", "bfloat", "complex"))
        above[place] = floating and (bool(node.weights) or any(above[ref.node] for ref in node.refs))
    below = [False] * len(graph)
    for place in range(len(graph) - 1, -1, -1):
        node = graph.nodes[place]
        if below[place] or node.kind == "output":
            for ref in node.refs:
                below[ref.node] = True
    return [one and other for one, other in zip(above, below, strict=True)]


def _backward(graph: Graph, needing: list[bool], heap: _Heap, memories: _Memories) -> list[int]:
    """Walk backward; return the bytes of every parameter's gradient."""
    gradients: dict[Ref, int] = {}
    trained: dict[object, int] = {}
    names = _names(graph)
    for ref in graph.nodes[-1].refs:
        if needing[ref.node] and is_floating(graph, ref):
            count = size(graph.spec(ref))
            _accumulate(heap, gradients, _unaliased(graph, ref), heap.new(count), count)
    for place in range(len(graph) - 1, -1, -1):
        node = graph.nodes[place]
        if not needing[place]:
            continue
        given = [gradients.pop(ref) for port in range(len(node.outputs)) if (ref := Ref(place, port)) in gradients]
        found: list[tuple[Ref, int]] = []
        if given:
            found = _gradients(graph, node, needing, heap, given)
            heap.use(temporary_copies(node.kind, len(found)) * size(node.outputs[0]))
            again: list[int] = []
            for name, weight in zip(names[place], node.weights, strict=True):
                if weight.dtype.startswith(("float", "bfloat", "complex")):
                    block = heap.new(size(weight))
                    if name in trained:
                        again.append(block)
                    trained[name] = size(weight)
            for block in again:  # added to what is there
                heap.drop(block)
        for block in (*memories.saved[place], *given):
            heap.drop(block)
        for ref, block in found:
            _accumulate(heap, gradients, _unaliased(graph, ref), block, size(graph.spec(ref)))
    return list(trained.values())


def _unaliased(graph: Graph, ref: Ref) -> Ref:
    """Return what an identity stands for: autograd has no operation there."""
    while graph.nodes[ref.node].kind == "alias":
        ref = graph.nodes[ref.node].refs[0]
    return ref


def _gradients(graph: Graph, node: Node, needing: list[bool], heap: _Heap, given: list[int]) -> list[tuple[Ref, int]]:
    """Return the gradients of a node's inputs, whose memory is new unless it is the result's gradient's."""
    found = []
    for number, item in enumerate(node.inputs):
        if not isinstance(item, Ref) or not needing[item.node] or not is_floating(graph, item):
            continue
        spec = graph.spec(item)
        same = spec == node.outputs[0] or (node.kind in VIEWS and spec.elements == node.outputs[0].elements)
        passes = node.kind in PASSED and (same or node.kind in ("sum", "cat"))
        passes = passes or (node.kind in _FIRST_PASSED and number == 0 and same)
        found.append((item, heap.hold(given[0]) if passes else heap.new(size(spec))))
    return found


def _accumulate(heap: _Heap, gradients: dict[Ref, int], ref: Ref, block: int, count: int) -> None:
    """Add a gradient of a result to what is there: in place where nothing else holds it."""
    before = gradients.get(ref)
    if before is None:
        gradients[ref] = block
    elif heap.holders[before] == 1:
        heap.drop(block)
    else:
        gradients[ref] = heap.new(count)
        heap.drop(before)
        heap.drop(block)


def _names(graph: Graph) -> list[list[object]]:
    """Return, of each node, what its parameters are known by: the node that read each first, and its place there."""
    names: list[list[object]] = []
    for place, node in enumerate(graph):
        mine: list[object] = []
        for number, weight in enumerate(node.weights):
            name: object = (place, number)
            if weight.tied is not None:
                twins = _of_size(graph.nodes[weight.tied].weights, weight)
                turn = sum(1 for other in node.weights[:number] if other.tied == weight.tied and _alike(other, weight))
                name = names[weight.tied][twins[min(turn, len(twins) - 1)]] if twins else name
            mine.append(name)
        names.append(mine)
    return names


def _of_size(weights: Iterable[Weight], like: Weight) -> list[int]:
    return [number for number, weight in enumerate(weights) if _alike(weight, like)]


def _alike(one: Weight, other: Weight) -> bool:
    return size(one) == size(other)
