"""Operations of a graph as NATS-Bench and NAS-Bench-Suite-Zero publish them, extended to all kinds of operations."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from freerea_seval.strings.graph.ir import Graph, Node, Ref, integers, node_macs
from freerea_seval.strings.graph.shape_inference import ADAPTIVE_POOLS, POOLS

_NORMS = frozenset(("bn", "layer_norm", "group_norm", "rms_norm"))
_ACTIVATIONS = frozenset(
    (
        *("relu", "hardtanh", "leaky_relu", "prelu", "rrelu_with_noise", "elu", "celu", "selu", "gelu", "silu", "mish"),
        *("hardswish", "hardsigmoid", "sigmoid", "log_sigmoid_forward", "tanh", "softplus", "softshrink"),
        *("hardshrink", "threshold", "glu", "softmax", "log_softmax"),
    )
)


class Counts(NamedTuple):
    """The cost of one input; benchmarks publish it in millions.

    Attributes:
        params: elements of all parameters; shared parameters are counted once.
        macs: multiply-adds of convolutions and matrix products, each counted as one, plus one per output for a bias;
            NATS-Bench publishes this count as ``flop`` (Dong 2021).
        flops: torchstat's count, which NAS-Bench-Suite-Zero publishes as ``flops`` (Krishnakumar 2022): multiply-adds
            as above, but without the bias of linear layers, plus norms, activations and pools. At least ``macs``, which
            it would be less than in a network of little else than linear layers.
    """

    params: int
    macs: int
    flops: int


def published_counts(graph: Graph) -> Counts:
    """Return the parameters and operations of a graph.

    Sums, products of elements and moves of data count zero, as in both publications.
    """
    return counts_of_sums(*operation_sums(graph))


def counts_of_sums(params: int, macs: int, flops: int) -> Counts:
    """Return the counts of what :func:`operation_sums` returns."""
    return Counts(params, macs, max(flops, macs))


def operation_sums(graph: Graph) -> tuple[int, int, int]:
    """Return parameters, multiply-adds and torchstat's count, each a sum over the operations."""
    macs = flops = 0
    for node in graph:
        products = node_macs(node, [graph.shape(item) for item in node.inputs])
        biases = node.outputs[0].elements if products and node.get("b") else 0
        macs += products + biases
        flops += products + (biases if node.kind != "linear" else 0) + _other_operations(graph, node)
    return graph.parameters, macs, flops


def _other_operations(graph: Graph, node: Node) -> int:
    """Return torchstat's count of a norm, an activation or a pool; 0 for other operations."""
    if not node.outputs or not node.inputs:
        return 0
    out = node.outputs[0]
    if node.kind in _NORMS:
        return out.elements * (2 if node.weights else 1)
    if node.kind in _ACTIVATIONS:
        return out.elements
    if node.kind in POOLS:
        return out.elements * prod(integers(node.get("k")))
    if node.kind not in (*ADAPTIVE_POOLS, "mean") or not isinstance(node.inputs[0], Ref):
        return 0
    # The window of an adaptive pool depends on the position. torchstat adds one to each side of a window, for the
    # division; the sum over all positions of the products of sides is the product over axes of the sums of sides.
    shape = graph.shape(node.inputs[0])
    if node.kind == "mean":  # an adaptive pool of one window
        axes = integers(node.get("dim", tuple(range(len(shape)))))
        return out.elements * prod(_window_sides(shape[axis], 1) for axis in axes)
    sizes = integers(node.get("output_size"))
    sides = [_window_sides(old, new) for old, new in zip(shape[-len(sizes) :], sizes, strict=True)]
    return prod(shape[: -len(sizes)]) * prod(sides)


def _window_sides(old: int, new: int) -> int:
    """Return the sum over ``new`` windows of their sides on an axis of length ``old``, each plus one.

    The axis of length one that PyTorch adds to one-dimensional pools counts one.
    """
    return 1 if old == 1 else sum(-(-(i + 1) * old // new) - i * old // new + 1 for i in range(new))
