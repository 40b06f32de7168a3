"""Simplification of a graph to its functional view: what a network computes, not how.

Two networks that compute the same function, given the same weights on corresponding operations, get one graph. The
passes, with their names in compiler terms:

- constant folding: identities are removed; multiplications by zero, and whatever maps zeros to zeros, are zeros; terms
  that are zeros are removed from sums;
- common subexpression elimination: equal operations without parameters on the same inputs become one;
- dead code elimination: what does not reach the output is removed;
- reassociation: a sum of sums is one sum, if nothing else reads the inner sums;
- canonical order: the operands of commutative operations, and independent operations, have an order that depends only
  on the graph.

Convolutions and products without bias map zeros to zeros. Norms are treated alike: a norm of zeros yields its bias,
which is initialised to zero and which the bias of another term of the same sum can replace.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

from freerea_seval.strings.graph.canonical_order import canonical_order
from freerea_seval.strings.graph.ir import Graph, Node, Ref, Spec, Value, Weight
from freerea_seval.strings.graph.printer import operation_label
from freerea_seval.strings.graph.shape_inference import ADAPTIVE_POOLS, COMMUTATIVE, POOLS, infer_weights

#: Operations that return their input.
_IDENTITIES = frozenset(("alias", "clone", "contiguous", "dropout"))
#: Operations that return their input if they have these attributes and do not change its shape.
_NEUTRAL = {
    *(("mul", (("other", 1),)), ("div", (("other", 1),)), ("add", (("other", 0),)), ("sub", (("other", 0),))),
    *((kind, ()) for kind in ("to", "reshape", "expand")),
}
#: Operations that map zeros to zeros, whatever their attributes.
_ZERO_PRESERVING = frozenset(
    (
        *("abs", "bn", "cat", "ceil", "celu", "channel_shuffle", "copy", "cumsum", "elu", "erf", "expand"),
        *("flip", "floor", "gelu", "group_norm", "hardswish", "layer_norm", "leaky_relu", "mean", "mish"),
        *("mul", "neg", "permute", "pixel_shuffle", "relu", "repeat", "reshape", "roll", "round", "select"),
        *("selu", "sign", "silu", "sin", "slice", "softsign", "split", "sqrt", "stack", "sum", "amax", "amin"),
        *("tanh", "to", "unbind", "upsample_bilinear2d", "upsample_nearest2d"),
    )
) | {*_IDENTITIES, *POOLS, *ADAPTIVE_POOLS}
#: Operations that map zeros to zeros if they have no bias.
_PRODUCTS = frozenset(("conv", "deconv", "linear", "matmul"))
#: Operations that differ from each other even if their kind, attributes and inputs are equal.
_DISTINCT = frozenset(("input", "constant", "output"))
#: Prefixes of the names of random operations, each execution of which differs.
_RANDOM = (
    *("rand", "bernoulli", "binomial", "cauchy", "exponential", "geometric", "log_normal", "multinomial", "normal"),
    *("poisson", "sample_dirichlet", "standard_gamma", "uniform", "empty", "rrelu_with_noise"),
    *("native_dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout", "fused_dropout"),
)


class _Operation(NamedTuple):
    """A node under construction.

    Attributes:
        kind, attributes, outputs: as of :class:`~freerea_seval.strings.graph.ir.Node`.
        inputs: references to other operations, and parameters by their number.
        origin: position of the node in the original graph.
    """

    kind: str
    attributes: tuple[tuple[str, Value], ...]
    inputs: tuple[Ref | int, ...]
    outputs: tuple[Spec, ...]
    origin: int

    @property
    def refs(self) -> list[Ref]:
        """The inputs that other operations produce."""
        return [item for item in self.inputs if isinstance(item, Ref)]


def simplify(graph: Graph) -> Graph:
    """Return the functional view of a graph."""
    return _simplified(graph)[0]


def origins(graph: Graph) -> list[int]:
    """Return, for every node of the functional view, the node of ``graph`` that it stems from."""
    return _simplified(graph)[1]


def _simplified(graph: Graph) -> tuple[Graph, list[int]]:
    operations = _merge_equal(_fold_constants(graph))
    while True:
        operations = _drop_dead(operations)
        flat = _flatten_sums(operations)
        if len(flat) == len(operations):
            break
        operations = _merge_equal(flat)
    weights = [weight for node in graph for weight in node.weights]
    order = canonical_order(
        [_label(operation, operations, weights) for operation in operations],
        [operation.refs for operation in operations],
        [_is_commutative(operation) for operation in operations],
        [index for index, operation in enumerate(operations) if operation.kind == "input"],
    )
    return _graph(operations, order, weights), [operations[index].origin for index in order]


def _parameter_numbers(graph: Graph) -> list[int]:
    """Return a number for every weight of every node in order; tied weights have the same number."""
    numbers: list[int] = []
    first: list[int] = []  # index in numbers of every node's first weight
    for node in graph:
        first.append(len(numbers))
        for weight in node.weights:
            number = len(numbers)
            if weight.tied is not None:
                candidates = enumerate(graph.nodes[weight.tied].weights, first[weight.tied])
                same_shape = [numbers[index] for index, other in candidates if other.shape == weight.shape]
                # A norm's weight and bias have one shape: take the parameter that this node has not read yet.
                unread = [number for number in same_shape if number not in numbers[first[-1] :]]
                number = (unread or same_shape or [number])[0]
            numbers.append(number)
    return numbers


def _fold_constants(graph: Graph) -> list[_Operation]:
    """Remove identities and whatever follows from zeros."""
    operations: list[_Operation] = []
    values: list[list[Ref | None]] = []  # for every node, what replaces its results; None for zeros
    parameters = iter(_parameter_numbers(graph))

    for position, node in enumerate(graph):
        inputs = [
            next(parameters) if isinstance(item, Weight) else values[item.node][item.port] for item in node.inputs
        ]
        if node.kind == "unused":
            values.append([])
        elif (identical := _identical_input(node, inputs, operations)) is not None:
            values.append([identical])
        elif _yields_zeros(node, inputs):
            values.append([None] * len(node.outputs))
        else:
            operands: list[Ref | int] = []
            for item, value in zip(node.inputs, inputs, strict=True):
                if value is None:
                    assert isinstance(item, Ref)  # parameters are never zeros
                    value = Ref(len(operations))
                    operations.append(_Operation("zeros", (), (), (graph.spec(item),), item.node))
                operands.append(value)
            values.append([Ref(len(operations), port) for port in range(len(node.outputs))])
            operations.append(_Operation(node.kind, node.attributes, tuple(operands), node.outputs, position))
    return operations


def _identical_input(node: Node, inputs: Sequence[Ref | int | None], operations: Sequence[_Operation]) -> Ref | None:
    """Return the input that a node returns unchanged; None if it computes something, or if that input is zeros."""
    nonzero = [item for item in inputs if item is not None]
    if len(nonzero) != 1 or not isinstance(ref := nonzero[0], Ref):
        return None
    source = operations[ref.node]
    if len(inputs) > 1:
        unchanged = _is_sum(node)  # all other terms are zeros
    else:
        repeated = node.kind == "relu" == source.kind
        unchanged = repeated or node.kind in _IDENTITIES or (node.kind, node.attributes) in _NEUTRAL
    # A broadcast to another shape is not an identity.
    return ref if unchanged and source.outputs[ref.port] == node.outputs[0] else None


def _yields_zeros(node: Node, inputs: Sequence[Ref | int | None]) -> bool:
    """Return whether all results of a node are zeros; None stands for inputs that are zeros."""
    kind = node.kind
    zeros = [item is None for item in inputs]
    if kind in ("zeros", "zeros_like") or (kind == "mul" and node.attributes == (("other", 0),)):
        return True
    if not any(zeros):
        return False
    if kind in ("mul", "matmul"):
        return len(inputs) < 3
    if kind in ("add", "sub"):
        return all(zeros) and not node.get("other")
    if kind in _PRODUCTS:
        return zeros[0] and not node.get("b")
    if kind == "div":
        return zeros[0]
    if kind == "constant_pad_nd":
        return "value" not in dict(node.attributes)
    if kind == "hardtanh":
        low, high = node.get("min_val", -1), node.get("max_val", 1)
        return isinstance(low, (int, float)) and isinstance(high, (int, float)) and low <= 0 <= high
    return kind in _ZERO_PRESERVING and all(
        zero for zero, item in zip(zeros, node.inputs, strict=True) if isinstance(item, Ref)
    )


def _merge_equal(operations: Sequence[_Operation]) -> list[_Operation]:
    """Merge equal operations on equal inputs (common subexpression elimination)."""
    merged: list[_Operation] = []
    indices: dict[Hashable, int] = {}
    moved: list[int] = []  # new index of every operation
    for operation in operations:
        inputs = [Ref(moved[item.node], item.port) if isinstance(item, Ref) else item for item in operation.inputs]
        if _is_commutative(operation):
            inputs.sort(key=_input_key)
        operation = operation._replace(inputs=tuple(inputs))
        distinct = operation.kind in _DISTINCT or operation.kind.startswith(_RANDOM)
        index = indices.setdefault(len(merged) if distinct else operation[:4], len(merged))
        moved.append(index)
        if index == len(merged):
            merged.append(operation)
    return merged


def _drop_dead(operations: Sequence[_Operation]) -> list[_Operation]:
    """Remove operations that do not reach the output (dead code elimination)."""
    live = [operation.kind == "input" for operation in operations]
    live[-1] = True
    for index in range(len(operations) - 1, -1, -1):
        if live[index]:
            for ref in operations[index].refs:
                live[ref.node] = True
    return _compacted(operation if kept else None for operation, kept in zip(operations, live, strict=True))


def _flatten_sums(operations: Sequence[_Operation]) -> list[_Operation]:
    """Merge a sum into the sum that reads it, if that is its only reader (reassociation).

    A sum with two readers stays: to write it out at each of them could take exponential space.
    """
    uses = [0] * len(operations)
    for operation in operations:
        for ref in operation.refs:
            uses[ref.node] += 1
    flat: list[_Operation | None] = list(operations)
    for index, operation in enumerate(operations):
        if not _is_sum(operation):
            continue
        terms: list[Ref | int] = []
        for item in operation.inputs:
            inner = flat[item.node] if isinstance(item, Ref) and uses[item.node] == 1 else None
            if inner is not None and isinstance(item, Ref) and _is_sum(inner) and inner.outputs == operation.outputs:
                terms += inner.inputs
                flat[item.node] = None
            else:
                terms.append(item)
        flat[index] = operation._replace(inputs=tuple(sorted(terms, key=_input_key)))
    return _compacted(flat)


def _compacted(operations: Iterable[_Operation | None]) -> list[_Operation]:
    """Remove the gaps in a list of operations, and renumber references."""
    kept: list[_Operation] = []
    moved: dict[int, int] = {}
    for index, operation in enumerate(operations):
        if operation is not None:
            moved[index] = len(kept)
            inputs = [Ref(moved[i.node], i.port) if isinstance(i, Ref) else i for i in operation.inputs]
            kept.append(operation._replace(inputs=tuple(inputs)))
    return kept


def _input_key(item: Ref | int) -> tuple[int, int]:
    """Return a sort key of inputs: references first, then parameters."""
    return (item.node, item.port) if isinstance(item, Ref) else (1 << 60, item)


def _is_sum(node: Node | _Operation) -> bool:
    return node.kind == "add" and not node.attributes


def _is_commutative(node: Node | _Operation) -> bool:
    return node.kind in COMMUTATIVE and not node.attributes


def _label(operation: _Operation, operations: Sequence[_Operation], weights: Sequence[Weight]) -> str:
    """Return an operation's printed form, by which the canonical order sorts."""
    specs = tuple(operations[ref.node].outputs[ref.port] for ref in operation.refs)
    shapes = tuple(Weight(*weights[item][:2]) for item in operation.inputs if not isinstance(item, Ref))
    inferred = infer_weights(operation.kind, dict(operation.attributes), specs)
    printed = () if [weight.shape for weight in shapes] == inferred else shapes
    return operation_label(operation.kind, operation.attributes, specs, printed, operation.outputs)


def _graph(operations: Sequence[_Operation], order: Sequence[int], weights: Sequence[Weight]) -> Graph:
    """Return the graph of operations in an order."""
    position = {index: new for new, index in enumerate(order)}
    last_reader: dict[int, int] = {}  # of every parameter
    nodes: list[Node] = []
    for new, index in enumerate(order):
        kind, attributes, operands, outputs, _ = operations[index]
        inputs: list[Ref | Weight] = []
        for item in operands:
            if isinstance(item, Ref):
                inputs.append(Ref(position[item.node], item.port))
            else:
                inputs.append(weights[item]._replace(tied=last_reader.get(item)))
        last_reader.update((item, new) for item in operands if not isinstance(item, Ref))
        if _is_commutative(operations[index]):
            inputs.sort(key=lambda item: (isinstance(item, Weight), item))
        nodes.append(Node(kind, attributes, tuple(inputs), outputs))
    return Graph(tuple(nodes))
