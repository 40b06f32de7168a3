"""The graph of a network: one node an operation, in the order of execution, small enough to keep by the thousand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import NamedTuple

Shape = tuple[int, ...]
Value = int | float | str | tuple[int | float, ...]


class Spec(NamedTuple):
    """Shape and dtype of a tensor, the batch included; dtypes are named as in torch, ``"float32"``."""

    shape: Shape
    dtype: str = "float32"

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)


class Ref(NamedTuple):
    """An input made by another node: its position in the graph, and which of its results."""

    node: int
    port: int = 0


class Weight(NamedTuple):
    """An input that is a parameter of the module.

    Attributes:
        shape, dtype: of the parameter.
        tied: the last node before this one that read the same parameter; None where this is the first.
    """

    shape: Shape
    dtype: str = "float32"
    tied: int | None = None


class Node(NamedTuple):
    """One operation.

    Attributes:
        kind: its name, ATen's but for those in :mod:`freerea_seval.strings.graph.shape_inference`.
        attributes: everything but tensors that decides what it computes, by name.
        inputs: its tensors, in the order of its arguments.
        outputs: its results, up to the last one that another node reads; empty for ``output`` and ``unused``.
    """

    kind: str
    attributes: tuple[tuple[str, Value], ...] = ()
    inputs: tuple[Ref | Weight, ...] = ()
    outputs: tuple[Spec, ...] = ()

    @property
    def refs(self) -> tuple[Ref, ...]:
        """The inputs that other nodes made."""
        return tuple(item for item in self.inputs if isinstance(item, Ref))

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The inputs that are parameters."""
        return tuple(item for item in self.inputs if isinstance(item, Weight))

    def get(self, name: str, default: Value = 0) -> Value:
        """Return an attribute, or ``default``."""
        return next((value for key, value in self.attributes if key == name), default)


@dataclass(frozen=True)
class Graph:
    """A network's operations.

    The first nodes are of kind ``input``; the last one is ``output``, which reads the network's results. A node
    reads only nodes before it. Parameters that nothing reads are the weights of a node ``unused``.

    Equal networks have equal graphs, which come back from their strings, where they are in canonical form: attributes
    are in the order of :func:`.grammar.ordered`; a window's k, s, p, d and o are tuples, one size a dimension, and none
    is missing; any other tuple has two numbers or more; a float that is an integer below 2**53 is an int, so zero has
    no sign; NaN is ``math.nan``; ``conv``, ``deconv`` and ``linear`` say their ``out``; parameters that follow from the
    kind come behind the other inputs; no tensor has more than 64 dimensions, or one of 10**18 or more.

    Attributes:
        nodes: the operations, in the order of execution.
    """

    nodes: tuple[Node, ...]

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def spec(self, ref: Ref) -> Spec:
        """Return shape and dtype of a node's result."""
        return self.nodes[ref.node].outputs[ref.port]

    def shape(self, item: Ref | Weight) -> Shape:
        """Return the shape of an input."""
        return item.shape if isinstance(item, Weight) else self.spec(item).shape

    @cached_property
    def parameters(self) -> int:
        """Elements of all parameters, shared ones counted once."""
        return sum(prod(w.shape) for node in self.nodes for w in node.weights if w.tied is None)

    @cached_property
    def macs(self) -> int:
        """Multiply-adds of matrix products and convolutions, one multiply-add counted as one, biases not."""
        return sum(node_macs(node, [self.shape(item) for item in node.inputs]) for node in self.nodes)


def node_macs(node: Node, shapes: Sequence[Shape]) -> int:
    """Return the multiply-adds of a node: its matrix products, of which a convolution makes one a position.

    Args:
        node: the operation.
        shapes: of its inputs.
    """
    if not shapes or not node.outputs:
        return 0
    shape, out = shapes[0], node.outputs[0]
    if node.kind in ("conv", "deconv"):
        kernel, (groups,) = integers(node.get("k")), integers(node.get("g", 1))
        if node.kind == "conv":
            return out.elements * (shape[1] // groups) * prod(kernel)
        return prod(shape) * (out.shape[1] // groups) * prod(kernel)
    if node.kind in ("linear", "matmul"):
        return out.elements * shape[-1]
    if node.kind == "grouped_mm":  # each row is multiplied by the matrix of one group, or each group has some columns
        return out.elements * shape[-1] // (out.shape[0] if len(out.shape) > len(shape) else 1)
    if node.kind == "attention":  # queries times keys, and their softmax times values
        return (prod(shape) + out.elements) * shapes[1][-2]
    return 0


def integers(value: Value) -> tuple[int, ...]:
    """Return an attribute that is an integer or several.

    Raises:
        TypeError: it is something else.
    """
    numbers = value if isinstance(value, tuple) else (value,)
    whole = tuple(number for number in numbers if isinstance(number, int))
    if len(whole) < len(numbers):
        raise TypeError(f"expected integers, got {value!r}")
    return whole
