"""Peak memory of a graph, for inference and for a training step, by liveness analysis of its forward and backward pass.

Notation:
    graph: the nodes in the order of execution. A ``Ref`` is one result of a node, by index and port.
    block: a piece of memory in the simulated heap, freed when its last holder drops it.
    needs_gradient: of each node, whether autograd records it.

Conventions:
    - A result lives from its operation to its last reader; the inputs and the result of an operation are in memory at
      once. Views and in-place results share the memory of their first input.
    - Inputs and outputs of the network live throughout. Secondary results that nothing reads (the indices of max
      pooling, the statistics of a norm) count in training only.
    - The workspace of an operation (such as a convolution's) and the loss are not counted, nor what Python holds longer
      than needed: eager PyTorch keeps the argument of a module until the module has returned.
    - In a training step, every floating-point parameter is trained and every floating-point output has a gradient.
      Tensors that autograd saves live until the backward of their operation has run. The gradients of parameters are
      new (``zero_grad()`` sets them to None) and stay. Gradients of one result are accumulated in place if nothing else
      holds that memory, as PyTorch's engine does.

Which tensors autograd saves follows PyTorch's ``derivatives.yaml``, with the operation names of
:mod:`freerea_seval.strings.graph.shape_inference`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import prod
from typing import Literal

from freerea_patch import InputError, unknown_name
from freerea_seval.strings.graph.ir import Graph, Node, Ref, Spec, Weight

Optimiser = Literal["sgd", "momentum", "adam"]
#: Copies of all parameters that an optimiser keeps as state, and copies of the largest parameter that its step needs.
OPTIMISERS: dict[str, tuple[int, int]] = {"sgd": (0, 0), "momentum": (1, 0), "adam": (2, 2)}


def _kinds(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: The result shares the memory of the first input.
_VIEWS = _kinds("alias reshape permute slice select expand split unbind as_strided update diagonal unfold squeeze")
#: In-place operations that overwrite their output without reading it, so that no input shares its memory.
_OVERWRITING = _kinds("copy fill zero uniform normal random exponential bernoulli")
#: The gradient of the result is passed on to every floating-point input as it is, without new memory.
_GRADIENT_TO_ALL = _kinds("add alias reshape permute clone sum cat update copy")
#: The gradient of the result is passed on to the first input as it is; the gradients of the others are new.
_GRADIENT_TO_FIRST = _kinds("sub expand")
#: Temporary copies of the result in backward formulas that consist of several operations.
_TEMPORARY_COPIES = {"sqrt": 1, "rsqrt": 2, "pow": 2, "abs": 1, "div": 2}

#: Autograd saves no tensor.
_SAVE_NOTHING = (_VIEWS - {"update"}) | _kinds(
    """
    add sub rsub neg mean sum cat stack clone to copy roll flip constant_pad_nd cumsum repeat contiguous round floor
    upsample_nearest1d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d pixel_shuffle pixel_unshuffle tril triu
    """
)
#: Autograd saves the result.
_SAVE_RESULT = _kinds("relu sigmoid tanh softmax log_softmax exp exp2 sqrt rsqrt reciprocal logcumsumexp expm1")
#: Autograd saves each factor if the other one needs a gradient.
_SAVE_FACTORS = _kinds("mul matmul linear bmm grouped_mm atan2")
#: Autograd saves the inputs and the result.
_SAVE_ALL = _kinds("std amax amin norm linalg_vector_norm prod pow_tensor_tensor")
#: Autograd saves conditions, masks and indices only.
_SAVE_INDICES = _kinds("where masked_fill index gather index_select embedding scatter scatter_add index_add")


def size(spec: Spec | Weight) -> int:
    """Return the bytes of a tensor."""
    return prod(spec.shape) * _itemsize(spec.dtype)


def weight_bytes(graph: Graph) -> int:
    """Return the bytes of all parameters; shared parameters are counted once."""
    return sum(size(weight) for node in graph for weight in node.weights if weight.tied is None)


def activation_bytes(graph: Graph) -> int:
    """Return the bytes of all results that own memory, whether or not they live at once; inputs are left out."""
    return sum(
        sum(map(size, node.outputs))
        for node in graph
        if node.kind != "input" and not _takes_no_memory(node) and not _shares_memory(node)
    )


def inference_peak(graph: Graph) -> int:
    """Return the peak bytes of a forward pass without weights and buffers."""
    return _forward(graph, None)[0].peak


def training_peak(graph: Graph, optimiser: str = "momentum") -> int:
    """Return the peak bytes of a training step without weights and buffers.

    Args:
        graph: traced in training mode.
        optimiser: ``"sgd"``, ``"momentum"`` or ``"adam"``.

    Raises:
        InputError: an unknown optimiser.
    """
    state_copies, step_copies = check_optimiser(optimiser)
    needs_gradient = _needs_gradient(graph)
    heap, saved = _forward(graph, needs_gradient)
    parameter_bytes = _backward(graph, needs_gradient, heap, saved)
    heap.allocate_briefly(step_copies * max(parameter_bytes, default=0))
    return heap.peak + state_copies * sum(parameter_bytes)


def check_optimiser(optimiser: str) -> tuple[int, int]:
    """Return the entry of an optimiser in :data:`OPTIMISERS`.

    Raises:
        InputError: the optimiser is unknown.
    """
    if not isinstance(optimiser, str):
        raise InputError(f"expected an optimiser's name, one of {', '.join(OPTIMISERS)}; got {optimiser!r}")
    if optimiser not in OPTIMISERS:
        raise unknown_name("optimiser", optimiser, OPTIMISERS)
    return OPTIMISERS[optimiser]


class _Heap:
    """Reference-counted blocks of memory, and the peak of their total size."""

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self.holders: list[int] = []
        self.current = 0
        self.peak = 0

    def new(self, count: int) -> int:
        """Return a new block of ``count`` bytes with one holder."""
        self._sizes.append(count)
        self.holders.append(1)
        self.current += count
        self.peak = max(self.peak, self.current)
        return len(self._sizes) - 1

    def hold(self, block: int) -> int:
        """Add a holder to a block, and return the block."""
        self.holders[block] += 1
        return block

    def drop(self, block: int) -> None:
        """Remove a holder from a block, which frees it after the last one."""
        self.holders[block] -= 1
        if not self.holders[block]:
            self.current -= self._sizes[block]

    def allocate_briefly(self, count: int) -> None:
        """Allocate ``count`` bytes and free them at once."""
        self.peak = max(self.peak, self.current + count)


def _forward(graph: Graph, needs_gradient: Sequence[bool] | None) -> tuple[_Heap, list[list[int]]]:
    """Walk forward; with ``needs_gradient``, hold what autograd saves, and return its blocks by node."""
    heap = _Heap()
    blocks: list[list[int]] = []
    saved: list[list[int]] = []
    last_reads = _last_reads(graph)
    for index, node in enumerate(graph):
        if _takes_no_memory(node):
            blocks.append([heap.new(0) for _ in node.outputs])
        elif _shares_memory(node):
            source = node.refs[0]
            blocks.append([heap.hold(blocks[source.node][source.port]) for _ in node.outputs])
        else:
            blocks.append([heap.new(size(spec)) for spec in node.outputs])
        saved.append([])
        if needs_gradient is not None and needs_gradient[index]:
            refs, extra_bytes = _saved_for_backward(graph, index, needs_gradient)
            saved[index] = [heap.hold(blocks[ref.node][ref.port]) for ref in refs]
            if extra_bytes:
                saved[index].append(heap.new(extra_bytes))
        for source in last_reads[index]:
            heap.drop(blocks[source.node][source.port])
    return heap, saved


def _backward(graph: Graph, needs_gradient: Sequence[bool], heap: _Heap, saved: list[list[int]]) -> list[int]:
    """Walk backward; return the bytes of every parameter's gradient."""
    gradients: dict[Ref, int] = {}
    parameter_bytes: dict[object, int] = {}
    keys = _parameter_keys(graph)
    for ref in graph.nodes[-1].refs:
        if needs_gradient[ref.node] and _is_floating(graph, ref):
            _accumulate(graph, heap, gradients, ref, heap.new(size(graph.spec(ref))))
    for index in range(len(graph) - 1, -1, -1):
        node = graph.nodes[index]
        if not needs_gradient[index]:
            continue
        incoming = [gradients.pop(ref) for port in range(len(node.outputs)) if (ref := Ref(index, port)) in gradients]
        outgoing: list[tuple[Ref, int]] = []
        if incoming:
            outgoing = _input_gradients(graph, node, needs_gradient, heap, incoming[0])
            if node.kind != "div" or len(outgoing) + len(node.weights) == 2:
                heap.allocate_briefly(_TEMPORARY_COPIES.get(node.kind, 0) * size(node.outputs[0]))
            repeated: list[int] = []
            for key, weight in zip(keys[index], node.weights, strict=True):
                if _is_floating_dtype(weight.dtype):
                    block = heap.new(size(weight))
                    if key in parameter_bytes:
                        repeated.append(block)
                    parameter_bytes[key] = size(weight)
            for block in repeated:  # accumulated into the gradient of the shared parameter
                heap.drop(block)
        for block in (*saved[index], *incoming):
            heap.drop(block)
        for ref, block in outgoing:
            _accumulate(graph, heap, gradients, ref, block)
    return list(parameter_bytes.values())


def _input_gradients(
    graph: Graph, node: Node, needs_gradient: Sequence[bool], heap: _Heap, incoming: int
) -> list[tuple[Ref, int]]:
    """Return the gradients of a node's inputs: new blocks, or the block of the result's gradient."""
    result = node.outputs[0]
    gradients = []
    for position, item in enumerate(node.inputs):
        if not isinstance(item, Ref) or not needs_gradient[item.node] or not _is_floating(graph, item):
            continue
        spec = graph.spec(item)
        same = spec == result or (node.kind in _VIEWS and spec.elements == result.elements)
        passes = (node.kind in _GRADIENT_TO_ALL and (same or node.kind in ("sum", "cat"))) or (
            node.kind in _GRADIENT_TO_FIRST and position == 0 and same
        )
        gradients.append((item, heap.hold(incoming) if passes else heap.new(size(spec))))
    return gradients


def _accumulate(graph: Graph, heap: _Heap, gradients: dict[Ref, int], ref: Ref, block: int) -> None:
    """Add a gradient of a result to the earlier ones: in place where nothing else holds them."""
    while graph.nodes[ref.node].kind == "alias":  # autograd records nothing for an identity
        ref = graph.nodes[ref.node].refs[0]
    earlier = gradients.get(ref)
    if earlier is None:
        gradients[ref] = block
    elif heap.holders[earlier] == 1:
        heap.drop(block)
    else:
        gradients[ref] = heap.new(size(graph.spec(ref)))
        heap.drop(earlier)
        heap.drop(block)


def _saved_for_backward(graph: Graph, index: int, needs_gradient: Sequence[bool]) -> tuple[list[Ref], int]:
    """Return the tensors that autograd saves for a node besides parameters, and bytes of further buffers.

    An operation that no table lists saves its floating-point inputs.
    """
    node = graph.nodes[index]
    kind, refs, result = node.kind, list(node.refs), [Ref(index)]
    if kind in _SAVE_NOTHING or not node.inputs:
        return [], 0
    if kind in _SAVE_RESULT:
        return result, 0
    if kind in _SAVE_ALL:
        return [*refs, *result], 0
    # An argument has its position among all inputs, of which any may be a parameter.
    first, *second = node.inputs[:2]
    first_two = [item for item in node.inputs[:2] if isinstance(item, Ref)]
    if kind in _SAVE_FACTORS:  # further inputs, such as a bias, are added
        pairs = [(first, second), *((item, [first]) for item in second)]
        return [
            item
            for item, others in pairs
            if isinstance(item, Ref) and any(isinstance(o, Weight) or needs_gradient[o.node] for o in others)
        ], 0
    if kind in ("conv", "deconv"):
        return first_two, 0
    if kind in ("div", "true_divide"):
        divisor_needs = any(isinstance(item, Weight) or needs_gradient[item.node] for item in second)
        return [item for item in first_two if item is not first or divisor_needs], 0
    if kind in _SAVE_INDICES:
        return [ref for ref in refs if not _is_floating(graph, ref)], 0
    shape = graph.shape(first)
    if kind == "attention":
        # One float32 logsumexp per row.
        return [*(item for item in node.inputs[:3] if isinstance(item, Ref)), *result], 4 * prod(shape[:-1])
    if kind == "bn":
        # Mean and inverse standard deviation of every channel, float32.
        return first_two, 2 * shape[1] * 4
    if kind == "layer_norm":
        return first_two, 2 * (prod(shape) // max(_normalised_elements(graph, node), 1)) * 4
    if kind == "group_norm":
        groups = node.get("num_groups", node.get("group", 1))
        return first_two, 2 * shape[0] * int(groups if isinstance(groups, int) else 1) * 4
    if kind == "weight_norm_interface":
        # The norms, float32.
        return first_two, 4 * prod(graph.shape(second[0]))
    if kind == "native_dropout":
        return [], prod(shape)  # a mask of one byte an element
    if kind.startswith(("max_pool", "adaptive_max_pool", "fractional_max_pool")):
        # The input, and the int64 index of every maximum.
        return first_two[:1], 8 * node.outputs[0].elements
    return [ref for ref in refs if _is_floating(graph, ref)], 0


def _normalised_elements(graph: Graph, node: Node) -> int:
    """Return how many elements a layer norm averages over."""
    if len(node.inputs) > 1:
        return prod(graph.shape(node.inputs[1]))
    sizes = node.get("normalized_shape", node.outputs[0].shape[-1])
    return prod(map(int, sizes)) if isinstance(sizes, tuple) else int(sizes)


def _last_reads(graph: Graph) -> list[list[Ref]]:
    """Return, of each node, the results that it reads as the last one; inputs and outputs of the network never go."""
    reader: dict[Ref, int] = {}
    for index, node in enumerate(graph):
        if node.kind != "input":
            reader |= {Ref(index, port): index for port in range(len(node.outputs))}
            reader |= {ref: index for ref in node.refs if graph.nodes[ref.node].kind != "input"}
    last: list[list[Ref]] = [[] for _ in graph]
    for ref, index in reader.items():
        if graph.nodes[index].kind != "output":
            last[index].append(ref)
    return last


def _needs_gradient(graph: Graph) -> list[bool]:
    """Return, of each node, whether a gradient flows through it: from an output of the network to a parameter."""
    trainable = [False] * len(graph)
    for index, node in enumerate(graph):
        floating = bool(node.outputs) and _is_floating_dtype(node.outputs[0].dtype)
        trainable[index] = floating and (bool(node.weights) or any(trainable[ref.node] for ref in node.refs))
    reaches_output = [False] * len(graph)
    for index in range(len(graph) - 1, -1, -1):
        node = graph.nodes[index]
        if reaches_output[index] or node.kind == "output":
            for ref in node.refs:
                reaches_output[ref.node] = True
    return [above and below for above, below in zip(trainable, reaches_output, strict=True)]


def _parameter_keys(graph: Graph) -> list[list[object]]:
    """Return, of each node, a key for every parameter, equal for shared ones: the first reader, and the position there.

    A shared weight names the node that reads it first, but not the position; equal sizes are matched in their order.
    """
    keys: list[list[object]] = []
    for index, node in enumerate(graph):
        keys.append([])
        for position, weight in enumerate(node.weights):
            key: object = (index, position)
            if weight.tied is not None:
                owners = [p for p, w in enumerate(graph.nodes[weight.tied].weights) if size(w) == size(weight)]
                earlier = sum(w.tied == weight.tied and size(w) == size(weight) for w in node.weights[:position])
                key = keys[weight.tied][owners[min(earlier, len(owners) - 1)]] if owners else key
            keys[index].append(key)
    return keys


def _shares_memory(node: Node) -> bool:
    """Return whether the results of a node are the memory of its first input."""
    return bool(node.refs) and (node.kind in _VIEWS or bool(node.get("inplace") and node.kind not in _OVERWRITING))


def _takes_no_memory(node: Node) -> bool:
    """Return whether the results of a node take no memory: buffers, small constants, and views of parameters."""
    return node.kind == "constant" or (node.kind in _VIEWS and not node.refs)


def _is_floating(graph: Graph, ref: Ref) -> bool:
    return _is_floating_dtype(graph.spec(ref).dtype)


def _is_floating_dtype(dtype: str) -> bool:
    return dtype.startswith(("float", "bfloat", "complex"))


@cache
def _itemsize(dtype: str) -> int:
    import torch

    torch_dtype: torch.dtype = getattr(torch, dtype)
    return torch_dtype.itemsize
