"""The intermediate representation (IR) of a network: a graph with one node per operation, in the order of execution.

A graph holds no weights and no modules, only names, sizes and references, so that thousands of graphs fit in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import nan, prod
from typing import NamedTuple

Shape = tuple[int, ...]
Value = int | float | str | tuple[int | float, ...]

#: The largest size of a dimension that a string can state.
LARGEST_SIZE = 10**18 - 1
#: These attributes come first, in this order; all others follow alphabetically.
_LEADING_ATTRIBUTES = ("out", "other", "k", "s", "p", "d", "o", "g", "b", "plain")
_RANKS = {name: rank for rank, name in enumerate(_LEADING_ATTRIBUTES)}


class Spec(NamedTuple):
    """Shape (with the batch dimension) and dtype of a tensor; dtypes have torch's names, such as ``"float32"``."""

    shape: Shape
    dtype: str = "float32"

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)


class Ref(NamedTuple):
    """An input that another node produces: the position of that node in the graph, and the index of its output."""

    node: int
    port: int = 0


class Weight(NamedTuple):
    """An input that is a parameter of the module.

    Attributes:
        shape, dtype: of the parameter.
        tied: the position of the previous node that reads the same parameter; None if no earlier node reads it.
    """

    shape: Shape
    dtype: str = "float32"
    tied: int | None = None


class Node(NamedTuple):
    """One operation.

    Attributes:
        kind: the operation's name: ATen's, or one of those in :mod:`freerea_seval.strings.graph.shape_inference`.
        attributes: name and value of every argument that is not a tensor and that affects the result.
        inputs: the tensor arguments, in the order of the operation's signature.
        outputs: the results, up to the last one that another node reads; empty for ``output`` and ``unused``.
    """

    kind: str
    attributes: tuple[tuple[str, Value], ...] = ()
    inputs: tuple[Ref | Weight, ...] = ()
    outputs: tuple[Spec, ...] = ()

    @property
    def refs(self) -> tuple[Ref, ...]:
        """The inputs that other nodes produce."""
        return tuple(item for item in self.inputs if isinstance(item, Ref))

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The inputs that are parameters."""
        return tuple(item for item in self.inputs if isinstance(item, Weight))

    def get(self, name: str, default: Value = 0) -> Value:
        """Return the value of an attribute, or ``default`` if the node has no attribute of this name."""
        return next((value for key, value in self.attributes if key == name), default)


@dataclass(frozen=True)
class Graph:
    """The operations of a network.

    The first nodes are of kind ``input``. The last node is of kind ``output`` and reads the network's results. A node
    reads only nodes before it. Parameters that no operation reads are the weights of a node of kind ``unused``.

    Equal networks have equal graphs, and a graph equals the graph that is parsed from its string. Nodes are therefore
    in a canonical form:

    - attributes are in the order of :func:`sorted_attributes`;
    - the window attributes k, s, p, d and o are tuples with one size per spatial dimension, and none is missing; any
      other tuple has at least two numbers;
    - a float that is an integer below 2**53 is an int (so that zero has no sign), and NaN is ``math.nan``;
    - ``conv``, ``deconv`` and ``linear`` state their output width ``out``;
    - parameters that follow from the kind come after all other inputs;
    - a tensor has at most 64 dimensions, none of them larger than :data:`LARGEST_SIZE`.

    Attributes:
        nodes: the operations, in the order of execution.
    """

    nodes: tuple[Node, ...]

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def spec(self, ref: Ref) -> Spec:
        """Return shape and dtype of a node's output."""
        return self.nodes[ref.node].outputs[ref.port]

    def shape(self, item: Ref | Weight) -> Shape:
        """Return the shape of an input."""
        return item.shape if isinstance(item, Weight) else self.spec(item).shape

    @cached_property
    def parameters(self) -> int:
        """Number of elements of all parameters; a shared parameter counts once."""
        return sum(prod(weight.shape) for node in self.nodes for weight in node.weights if weight.tied is None)

    @cached_property
    def macs(self) -> int:
        """Multiply-adds of matrix products and convolutions; one multiply-add counts as one, biases count as zero."""
        return sum(node_macs(node, [self.shape(item) for item in node.inputs]) for node in self.nodes)


#: Matrix products whose first input has the summed dimension last; distances of vectors cost the same.
_PRODUCTS = frozenset(
    (
        *("linear", "matmul", "scaled_mm", "vdot", "weight_int8pack_mm", "weight_int4pack_mm"),
        *("cdist_forward", "euclidean_dist", "pdist_forward"),
    )
)
#: Recurrent layers and cells that run as one operation.
_RECURRENT = frozenset(
    (
        *("quantized_lstm", "quantized_gru", "quantized.quantized_lstm_cell_dynamic"),
        *(f"quantized.quantized_{cell}_cell_dynamic" for cell in ("gru", "rnn_relu", "rnn_tanh")),
    )
)


def node_macs(node: Node, shapes: Sequence[Shape]) -> int:
    """Return the multiply-adds of a node.

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
    if node.kind in _PRODUCTS:
        return out.elements * shape[-1]
    if node.kind in ("addbmm", "addmm_activation"):  # a bias before the factors; the first sums a batch of products
        return prod(shapes[1]) * shapes[2][-1]
    if node.kind in ("grouped_mm", "scaled_grouped_mm"):
        # One matrix per group of rows (2-D result) or per group of columns (3-D result).
        return out.elements * shape[-1] // (out.shape[0] if len(out.shape) > len(shape) else 1)
    if node.kind in ("attention", "flex_attention"):  # queries times keys, and their softmax times values
        return prod(out.shape[:-1]) * shapes[1][-2] * (shape[-1] + out.shape[-1])
    if node.kind == "trilinear":  # of nn.Bilinear: one product for each pair of inputs and each output
        return out.elements * prod(shapes[1][-2:])
    if node.kind == "torchvision.deform_conv2d":  # the weight is (out, in / groups, height, width)
        return out.elements * prod(shapes[1][1:])
    if node.kind == "conv_tbc":  # the weight is (length, in, out)
        return out.elements * prod(shapes[1][:2])
    if node.kind in _RECURRENT:  # every matrix multiplies every step of every sequence
        return prod(shape[:-1]) * sum(prod(weight.shape) for weight in node.weights if len(weight.shape) == 2)
    return 0


def integers(value: Value) -> tuple[int, ...]:
    """Return an attribute's value, an integer or several, as a tuple.

    Raises:
        TypeError: the value has another type.
    """
    numbers = value if isinstance(value, tuple) else (value,)
    whole = tuple(number for number in numbers if isinstance(number, int))
    if len(whole) < len(numbers):
        raise TypeError(f"expected integers, got {value!r}")
    return whole


def sorted_attributes(attributes: Mapping[str, Value]) -> tuple[tuple[str, Value], ...]:
    """Return attributes in the order in which nodes keep them."""
    names = sorted(attributes, key=lambda name: (_RANKS.get(name, len(_RANKS)), name))
    return tuple([(name, _with_one_nan(attributes[name])) for name in names])


def _with_one_nan(value: Value) -> Value:
    """Return a value with math.nan for any NaN: it differs from itself, but as one object compares equal in tuples."""
    if isinstance(value, tuple):
        return tuple([nan if number != number else number for number in value])
    return nan if value != value else value


def cut_vertices(reads: Iterable[Iterable[int]]) -> list[int]:
    """Return the nodes that separate a graph: no node behind one of them reads a node before it.

    Args:
        reads: for each node, in topological order, the positions that it reads.

    Returns:
        Ascending positions; the last node is always among them.
    """
    last_reader: list[int] = []
    for position, sources in enumerate(reads):
        last_reader.append(position)
        for source in sources:
            last_reader[source] = position
    cuts: list[int] = []
    reach = 0  # the last reader of any node so far
    for position, reader in enumerate(last_reader):
        if reach <= position:
            cuts.append(position)
        if reader > reach:
            reach = reader
    return cuts
