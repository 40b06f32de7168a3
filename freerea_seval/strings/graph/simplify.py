"""The functional view of a network: what it computes, not how.

Two networks that compute the same function, given the same weights on corresponding operations, get one graph:

- identities are folded, multiplications by zero and what follows from zeros are zero, and added zeros are dropped;
- what does not reach the output is gone;
- equal operations without parameters on the same inputs are one;
- sums of sums are one sum, where nothing else reads the inner one;
- terms, factors, and what a maximum or a minimum is of, have no order;
- operations come in an order that the graph alone decides.

Convolutions and products without bias map zeros to zeros. So do norms: a norm of zeros yields its bias, which starts at
zero and which another bias of the same sum can take over.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

from freerea_seval.strings.graph.canonical_order import canonical_order
from freerea_seval.strings.graph.ir import Graph, Node, Ref, Spec, Value, Weight
from freerea_seval.strings.graph.shape_inference import COMMUTATIVE, predicted_weights
from freerea_seval.strings.text.serialize import operation_text

#: Operations that pass their input on.
_IDENTITIES = frozenset(("alias", "clone", "contiguous", "dropout"))
#: Operations that map zeros to zeros, whatever their attributes.
_ZERO_TO_ZERO = frozenset(
    (
        *_IDENTITIES,
        *(
            "relu",
            "gelu",
            "silu",
            "tanh",
            "hardswish",
            "leaky_relu",
            "elu",
            "selu",
            "celu",
            "mish",
            "abs",
            "neg",
            "sin",
        ),
        *("sqrt", "sign", "erf", "round", "floor", "ceil", "softsign", "mul", "mean", "sum", "amax", "amin", "reshape"),
        *("permute", "slice", "select", "split", "unbind", "expand", "copy", "cumsum", "repeat", "roll", "flip", "to"),
        *("bn", "layer_norm", "group_norm", "pixel_shuffle", "channel_shuffle", "upsample_nearest2d", "cat", "stack"),
        *("upsample_bilinear2d", *(f"{how}_pool{n}d" for how in ("avg", "max") for n in (1, 2, 3))),
        *(f"adaptive_{how}_pool{n}d" for how in ("avg", "max") for n in (1, 2, 3)),
    )
)
#: Operations that map zeros to zeros if there is no bias.
_PRODUCTS = frozenset(("conv", "deconv", "linear", "matmul"))
#: Operations that pass their input on with these attributes, where they do not change its shape.
_NEUTRAL = {
    *(("mul", (("other", 1),)), ("div", (("other", 1),)), ("add", (("other", 0),)), ("sub", (("other", 0),))),
    *((kind, ()) for kind in ("to", "reshape", "expand")),
}
#: Sources that differ though they read the same.
_UNLIKE = frozenset(("input", "constant", "output"))
_RANDOM = (
    *("rand", "bernoulli", "binomial", "cauchy", "exponential", "geometric", "log_normal", "multinomial", "normal"),
    *("poisson", "sample_dirichlet", "standard_gamma", "uniform", "empty", "rrelu_with_noise"),
    *("native_dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout", "fused_dropout"),
)


class _Row(NamedTuple):
    """A node under way: its parameters are known by number, its inputs by row."""

    kind: str
    attributes: tuple[tuple[str, Value], ...]
    inputs: tuple[Ref | int, ...]
    outputs: tuple[Spec, ...]
    origin: int


def functional(graph: Graph) -> Graph:
    """Return the functional view of a graph."""
    return _ordered(graph)[0]


def origins(graph: Graph) -> list[int]:
    """Return, for every node of the functional view, the node of ``graph`` that it comes from."""
    return _ordered(graph)[1]


def _ordered(graph: Graph) -> tuple[Graph, list[int]]:
    parameters = _parameters(graph)
    rows = _simplified(graph, parameters)
    while True:
        rows = _live(rows)
        flat = _flattened(rows)
        if len(flat) == len(rows):
            break
        rows = _merged(flat)
    weights = [weight for node in graph for weight in node.weights]
    order = canonical_order(
        [_label(row, rows, weights) for row in rows],
        [[(item.node, item.port) for item in row.inputs if isinstance(item, Ref)] for row in rows],
        [_is_unordered(row) for row in rows],
        [place for place, row in enumerate(rows) if row.kind == "input"],
    )
    return _graph(rows, order, weights)


def _parameters(graph: Graph) -> list[int]:
    """Number the parameters of a graph: one number for every weight of every node, the same where they are tied."""
    numbers: list[int] = []
    first: list[int] = []
    for node in graph:
        first.append(len(numbers))
        for weight in node.weights:
            number = len(numbers)
            if weight.tied is not None:
                there = enumerate(graph.nodes[weight.tied].weights, first[weight.tied])
                like = [numbers[n] for n, other in there if other.shape == weight.shape]
                # A norm's weight and bias look alike: a parameter that this node does not read yet comes first.
                fresh = [known for known in like if known not in numbers[first[-1] :]]
                number = (fresh or like or [number])[0]
            numbers.append(number)
    return numbers


def _simplified(graph: Graph, parameters: Sequence[int]) -> list[_Row]:
    """Fold identities and zeros, and merge what is computed twice."""
    rows: list[_Row] = []
    known: dict[Hashable, int] = {}
    values: list[list[Ref | None]] = []  # what stands for each result; None for zeros
    number = 0

    def add(row: _Row) -> int:
        place = known.setdefault(_equal(row, len(rows)), len(rows))
        if place == len(rows):
            rows.append(row)
        return place

    for position, node in enumerate(graph):
        if node.kind == "unused":
            values.append([])
            number += len(node.weights)
            continue
        inputs: list[Ref | int | None] = []
        for item in node.inputs:
            if isinstance(item, Weight):
                inputs.append(parameters[number])
                number += 1
            else:
                inputs.append(values[item.node][item.port])
        if (passed := _passed(node, inputs, rows)) is not None:
            values.append([passed])
            continue
        if None in inputs and _stays_zero(node, inputs):
            values.append([None] * len(node.outputs))
            continue
        if node.kind in ("zeros", "zeros_like") or (node.kind == "mul" and node.attributes == (("other", 0),)):
            values.append([None])
            continue
        given: list[Ref | int] = []
        for item, read in zip(node.inputs, inputs, strict=True):
            if read is None:
                assert isinstance(item, Ref)  # parameters are never zeros
                spec = graph.spec(item)
                read = Ref(add(_Row("zeros", (), (), (spec,), item.node)))
            given.append(read)
        if _is_unordered(node):
            given.sort(key=_place)
        place = add(_Row(node.kind, node.attributes, tuple(given), node.outputs, position))
        values.append([Ref(place, port) for port in range(len(node.outputs))])
    return rows


def _equal(row: _Row, place: int) -> Hashable:
    """Return what rows that compute the same have in common, and others have not."""
    return place if row.kind in _UNLIKE or row.kind.startswith(_RANDOM) else row[:4]


def _place(item: Ref | int) -> tuple[int, int]:
    return (item.node, item.port) if isinstance(item, Ref) else (1 << 60, item)


def _is_sum(node: Node | _Row) -> bool:
    return node.kind == "add" and not node.attributes


def _is_unordered(node: Node | _Row) -> bool:
    """Return whether the order of an operation's inputs says nothing."""
    return node.kind in COMMUTATIVE and not node.attributes


def _passed(node: Node, inputs: Sequence[Ref | int | None], rows: Sequence[_Row]) -> Ref | None:
    """Return the value that an operation only passes on, None if it computes something or passes on zeros."""
    given = [item for item in inputs if item is not None]
    if len(given) != 1 or not isinstance(rest := given[0], Ref):
        return None
    if len(inputs) > 1:
        passes = _is_sum(node)  # the other terms are zeros
    else:
        again = node.kind == "relu" == rows[rest.node].kind
        passes = again or node.kind in _IDENTITIES or (node.kind, node.attributes) in _NEUTRAL
    # What is broadcast to another shape is not the same.
    return rest if passes and rows[rest.node].outputs[rest.port] == node.outputs[0] else None


def _stays_zero(node: Node, inputs: Sequence[Ref | int | None]) -> bool:
    """Return whether an operation yields zeros because some of its inputs are zeros."""
    kind = node.kind
    zeros = [item is None for item in inputs]
    if kind in ("mul", "matmul"):
        return len(inputs) < 3 and any(zeros)
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
    if kind not in _ZERO_TO_ZERO:
        return False
    return all(zero for zero, item in zip(zeros, node.inputs, strict=True) if isinstance(item, Ref))


def _live(rows: Sequence[_Row]) -> list[_Row]:
    """Drop what does not reach the output."""
    live = [row.kind == "input" for row in rows]
    live[-1] = True
    for place in range(len(rows) - 1, -1, -1):
        if live[place]:
            for item in rows[place].inputs:
                if isinstance(item, Ref):
                    live[item.node] = True
    if all(live):
        return list(rows)
    return _renumbered(row if kept else None for row, kept in zip(rows, live, strict=True))


def _renumbered(rows: Iterable[_Row | None]) -> list[_Row]:
    kept: list[_Row] = []
    moved: dict[int, int] = {}
    for place, row in enumerate(rows):
        if row is not None:
            moved[place] = len(kept)
            inputs = tuple(Ref(moved[item.node], item.port) if isinstance(item, Ref) else item for item in row.inputs)
            kept.append(row._replace(inputs=inputs))
    return kept


def _flattened(rows: Sequence[_Row]) -> list[_Row]:
    """Make sums that one other sum reads, once, part of it.

    A sum that is read twice stays: to write it out at each of its readers would be exponential.
    """
    uses = [0] * len(rows)
    for row in rows:
        for item in row.inputs:
            if isinstance(item, Ref):
                uses[item.node] += 1
    flat: list[_Row | None] = list(rows)
    for place, row in enumerate(rows):
        if not _is_sum(row):
            continue
        inputs: list[Ref | int] = []
        for item in row.inputs:
            inner = flat[item.node] if isinstance(item, Ref) and uses[item.node] == 1 else None
            if inner is not None and isinstance(item, Ref) and _is_sum(inner) and inner.outputs == row.outputs:
                inputs += inner.inputs
                flat[item.node] = None
            else:
                inputs.append(item)
        flat[place] = row._replace(inputs=tuple(sorted(inputs, key=_place)))
    return _renumbered(flat)


def _merged(rows: Sequence[_Row]) -> list[_Row]:
    """Merge operations without parameters that became equal."""
    known: dict[Hashable, int] = {}
    merged: list[_Row] = []
    moved: list[int] = []
    for row in rows:
        inputs = [Ref(moved[item.node], item.port) if isinstance(item, Ref) else item for item in row.inputs]
        if _is_unordered(row):
            inputs.sort(key=_place)
        row = row._replace(inputs=tuple(inputs))
        place = known.setdefault(_equal(row, len(merged)), len(merged))
        moved.append(place)
        if place == len(merged):
            merged.append(row)
    return merged


def _label(row: _Row, rows: Sequence[_Row], weights: Sequence[Weight]) -> str:
    """Return what a row's token says of it, which is the same for a cell at any width."""
    specs = tuple(rows[item.node].outputs[item.port] for item in row.inputs if isinstance(item, Ref))
    shapes = tuple(Weight(*weights[item][:2]) for item in row.inputs if not isinstance(item, Ref))
    predicted = predicted_weights(row.kind, dict(row.attributes), specs)
    said = () if [weight.shape for weight in shapes] == predicted else shapes
    return operation_text(row.kind, row.attributes, specs, said, row.outputs)


def _graph(rows: Sequence[_Row], order: Sequence[int], weights: Sequence[Weight]) -> tuple[Graph, list[int]]:
    """Return the graph of rows in an order, and the node that each comes from."""
    position = {place: new for new, place in enumerate(order)}
    readers: dict[int, int] = {}
    nodes: list[Node] = []
    for new, place in enumerate(order):
        row = rows[place]
        inputs: list[Ref | Weight] = []
        for item in row.inputs:
            if isinstance(item, Ref):
                inputs.append(Ref(position[item.node], item.port))
            else:
                inputs.append(weights[item]._replace(tied=readers.get(item)))
        readers.update((item, new) for item in row.inputs if not isinstance(item, Ref))
        if _is_unordered(row):
            inputs.sort(key=lambda item: (isinstance(item, Weight), item))
        nodes.append(Node(row.kind, row.attributes, tuple(inputs), row.outputs))
    return Graph(tuple(nodes)), [rows[place].origin for place in order]
