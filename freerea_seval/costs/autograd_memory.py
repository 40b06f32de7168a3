"""What autograd keeps of an operation until its backward, and which memory its result is, by kind of operation.

The table follows PyTorch's derivatives.yaml, with the names of :mod:`freerea_seval.strings.graph.shape_inference`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from freerea_seval.strings.graph.ir import Graph, Node, Ref, Weight

#: Their result is their first input's memory.
VIEWS = frozenset(
    (
        "alias",
        "reshape",
        "permute",
        "slice",
        "select",
        "expand",
        "split",
        "unbind",
        "as_strided",
        "update",
        "diagonal",
        "unfold",
        "squeeze",
    )
)
#: In place, but they do not read what was there, so that no input of theirs is what they write to.
BLIND = frozenset(("copy", "fill", "zero", "uniform", "normal", "random", "exponential", "bernoulli"))
#: Their gradient goes on to every floating-point input as it is, in no memory of its own.
PASSED = frozenset(("add", "alias", "reshape", "permute", "clone", "sum", "cat", "update", "copy"))
#: Backwards of several operations: so many copies of the result are there besides the gradients.
_TEMPORARY = {"sqrt": 1, "rsqrt": 2, "pow": 2, "abs": 1, "div": 2}
#: Nothing is kept but sizes and what is no tensor.
_NOTHING = frozenset(
    (
        "add",
        "sub",
        "rsub",
        "neg",
        "mean",
        "sum",
        "cat",
        "stack",
        "clone",
        "to",
        "copy",
        "roll",
        "flip",
        "constant_pad_nd",
        "cumsum",
        "repeat",
        "contiguous",
        "round",
        "floor",
        "upsample_nearest1d",
        "upsample_nearest2d",
        "upsample_bilinear2d",
        "upsample_bicubic2d",
        "pixel_shuffle",
        "pixel_unshuffle",
        "tril",
        "triu",
    )
) | (VIEWS - {"update"})
_RESULT = frozenset(
    (
        "relu",
        "sigmoid",
        "tanh",
        "softmax",
        "log_softmax",
        "exp",
        "exp2",
        "sqrt",
        "rsqrt",
        "reciprocal",
        "logcumsumexp",
        "expm1",
    )
)
#: Each input is kept if the other needs a gradient.
_CROSS = frozenset(("mul", "matmul", "linear", "conv", "deconv", "bmm", "grouped_mm", "atan2"))
_BOTH = frozenset(("std", "var", "amax", "amin", "norm", "linalg_vector_norm", "prod", "pow_tensor_tensor"))
#: Only what chooses among the others is kept: conditions, masks, indices.
_CHOICE = frozenset(
    ("where", "masked_fill", "index", "gather", "index_select", "embedding", "scatter", "scatter_add", "index_add")
)


def kept(graph: Graph, node: Node, place: int, needing: Sequence[bool]) -> tuple[list[Ref], int]:
    """Return the tensors that an operation's backward needs, parameters left out, and bytes of others of its own.

    A kind that is not in the table keeps its floating-point inputs.

    Args:
        graph: the network.
        node, place: the operation, which needs a gradient itself, and where it is in the graph.
        needing: of each node, whether its result needs a gradient.
    """
    kind, refs = node.kind, list(node.refs)
    own = [Ref(place)]
    if kind in _NOTHING or not refs:
        return [], 0
    if kind in _RESULT:
        return own, 0
    if kind in _BOTH:
        return [*refs, *own], 0
    if kind in _CROSS:
        return _cross(node, needing), 0
    if kind in ("div", "true_divide"):
        second = node.inputs[1:]
        wanted = any(isinstance(item, Weight) or needing[item.node] for item in second)
        return [*(item for item in second if isinstance(item, Ref)), *(refs[:1] if wanted else [])], 0
    if kind in _CHOICE:
        return [ref for ref in refs if not is_floating(graph, ref)], 0
    if kind == "attention":
        # The logarithm of the sum of exponents of every row.
        return [*refs[:3], *own], 4 * prod(graph.spec(refs[0]).shape[:-1])
    first = graph.spec(refs[0])
    if kind == "bn":
        # Mean and inverse deviation of every channel.
        return refs[:1], 2 * first.shape[1] * 4
    if kind == "layer_norm":
        width = _normalised(node)
        return refs[:1], 2 * (first.elements // max(width, 1)) * 4
    if kind == "group_norm":
        groups = node.get("num_groups", node.get("group", 1))
        return refs[:1], 2 * first.shape[0] * int(groups if isinstance(groups, int) else 1) * 4
    if kind == "native_dropout":
        return [], first.elements
    if "max_pool" in kind:
        # Besides the input, the place of every maximum, an int64.
        return refs[:1], 8 * node.outputs[0].elements
    return [ref for ref in refs if is_floating(graph, ref)], 0


def temporary_copies(kind: str, gradients: int) -> int:
    """Return how many copies of a result its backward makes on the way, besides gradients of so many inputs."""
    return _TEMPORARY.get(kind, 0) if kind != "div" or gradients == 2 else 0


def is_floating(graph: Graph, ref: Ref) -> bool:
    """Return whether a result is of floating-point numbers."""
    return graph.spec(ref).dtype.startswith(("float", "bfloat", "complex"))


def _cross(node: Node, needing: Sequence[bool]) -> list[Ref]:
    # What is behind the factors, a bias, is added.
    factors = node.inputs[:2]
    wanted = [isinstance(item, Weight) or needing[item.node] for item in factors]
    found = []
    for number, item in enumerate(factors):
        others = [*wanted[:number], *wanted[number + 1 :]]
        if isinstance(item, Ref) and any(others):
            found.append(item)
    return found


def _normalised(node: Node) -> int:
    if node.weights:
        return prod(node.weights[0].shape)
    sizes = node.get("normalized_shape", node.outputs[0].shape[-1])
    return prod(map(int, sizes)) if isinstance(sizes, tuple) else int(sizes)
