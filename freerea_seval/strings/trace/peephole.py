"""What frameworks write around an operation, taken out of a list of operations before it becomes a graph.

A linear layer on more than two dimensions runs as reshape, matrix product, reshape; a product of batches of matrices as
expand, reshape, product, reshape; a bias may be added on its own. Here each becomes one operation again, as the
network's author wrote it. Views that change nothing, that follow each other or that are made twice are one or none.
"""

from __future__ import annotations

from math import prod

from freerea_seval.strings.graph.ir import Ref, Shape, Value
from freerea_seval.strings.trace.raw_operations import Parameter, Row, Source

_VIEWS = frozenset(("reshape", "permute", "expand", "slice", "select", "split", "unbind"))
#: Views that are nothing where the shape stays.
_NEUTRAL = frozenset(("reshape", "expand", "slice"))


def tidy(rows: list[Row]) -> list[Row]:
    """Return the operations without what their neighbours make needless; the given list stays as it is."""
    return _plain_views(_with_biases(_whole_products(rows)))


def _whole_products(rows: list[Row]) -> list[Row]:
    """Take the reshapes around matrix products away."""
    uses = _uses(rows)
    reader = [-1] * len(rows)
    for position, (_, _, inputs, _) in enumerate(rows):
        for item in inputs:
            if isinstance(item, Ref):
                reader[item.node] = position
    changed = list(rows)
    gone: dict[int, Source] = {}
    for position, (kind, attributes, inputs, outputs) in enumerate(rows):
        behind = reader[position]
        if kind not in ("linear", "matmul") or uses[position] != 1 or rows[behind][0] != "reshape":
            continue
        result = rows[behind][3][0]
        factors = inputs[: 1 if kind == "linear" else 2]
        before = [item.node for item in factors if isinstance(item, Ref) and rows[item.node][0] == "reshape"]
        if len(before) < len(factors):
            continue
        sources = [rows[node][2][0] for node in before]
        shapes = [_shape(rows, source) for source in sources]
        flat = [_shape(rows, item) for item in factors]
        if kind == "linear":
            fits = result.shape == (*shapes[0][:-1], outputs[0].shape[-1]) and shapes[0][-1] == flat[0][-1]
        else:
            fits = len(inputs) == 2 and _are_batches(shapes, flat, result.shape)
        if fits:
            changed[position] = (kind, attributes, [*sources, *inputs[len(factors) :]], [result])
            gone[behind] = Ref(position)
    return _without(changed, gone, uses) if gone else rows


def _with_biases(rows: list[Row]) -> list[Row]:
    """Make the bias of a linear layer its own: where the input's memory has gaps, it is added behind the product."""
    uses = _uses(rows)
    rows = list(rows)
    gone: dict[int, Source] = {}
    for position, (kind, attributes, inputs, outputs) in enumerate(rows):
        if kind != "add" or attributes or len(inputs) != 2:
            continue
        product, bias = inputs
        if not isinstance(product, Ref) or not isinstance(bias, Parameter) or uses[product.node] != 1:
            continue
        layer, said, read, results = rows[product.node]
        if layer == "linear" and "b" not in said and bias.spec.shape == (said["out"],) and results == outputs:
            rows[product.node] = (layer, {**said, "b": 1}, [*read, bias], results)
            gone[position] = product
    return _without(rows, gone, uses) if gone else rows


def _plain_views(rows: list[Row]) -> list[Row]:
    """Take away views that change nothing, the first of two reshapes, and what another view is already."""
    uses = _uses(rows)
    rows = list(rows)
    gone: dict[int, Source] = {}
    same: dict[object, Ref] = {}
    skipped = False
    for position, (kind, attributes, inputs, outputs) in enumerate(rows):
        if kind not in _VIEWS or len(inputs) != 1:
            continue
        source = _standing(inputs[0], gone)
        if kind == "permute" and _moves_nothing(attributes["dims"], _shape(rows, source)):
            kind, attributes = "reshape", {}
        if kind == "reshape" and isinstance(source, Ref) and rows[source.node][0] == "reshape":
            source = rows[source.node][2][0]
            skipped = True
        if kind in _NEUTRAL and _shape(rows, source) == outputs[0].shape:
            gone[position] = source
            continue
        rows[position] = (kind, attributes, [source], outputs)
        twin = same.setdefault((kind, tuple(attributes.items()), source, tuple(outputs)), Ref(position))
        if twin.node != position and len(outputs) == 1:
            gone[position] = twin
    return _without(rows, gone, uses) if gone or skipped else rows


def _moves_nothing(dims: Value, shape: Shape) -> bool:
    """Return whether a permutation moves dimensions of size one alone."""
    moved = [dim for dim in dims if shape[int(dim)] > 1] if isinstance(dims, tuple) else []
    return moved == sorted(moved)


def _are_batches(shapes: list[Shape], flat: list[Shape], result: Shape) -> bool:
    """Return whether a product of matrices, one batch dimension each, is one of batches of that result's shape."""
    return all(
        len(its) == 3
        and len(shape) == len(result)
        and shape[-2:] == its[-2:]
        and prod(shape[:-2]) == its[0]
        and shape[:-2] == result[:-2]
        for shape, its in zip(shapes, flat, strict=True)
    )


def _shape(rows: list[Row], item: Source) -> Shape:
    return item.spec.shape if isinstance(item, Parameter) else rows[item.node][3][item.port].shape


def _uses(rows: list[Row]) -> list[int]:
    """Return how often each row is read."""
    uses = [0] * len(rows)
    for _, _, inputs, _ in rows:
        for item in inputs:
            if isinstance(item, Ref):
                uses[item.node] += 1
    return uses


def _standing(item: Source, gone: dict[int, Source]) -> Source:
    """Return what stands for an input."""
    while isinstance(item, Ref) and item.node in gone:
        item = gone[item.node]
    return item


def _without(rows: list[Row], gone: dict[int, Source], uses: list[int]) -> list[Row]:
    """Drop rows for which others stand, and views that nothing reads any more."""
    rows = [
        (kind, attributes, [] if position in gone else [_standing(item, gone) for item in inputs], outputs)
        for position, (kind, attributes, inputs, outputs) in enumerate(rows)
    ]
    left = _uses(rows)
    dropped = set(gone)
    for position in range(len(rows) - 1, -1, -1):
        if position not in gone and rows[position][0] in _VIEWS and uses[position] and not left[position]:
            dropped.add(position)
            for item in rows[position][2]:
                if isinstance(item, Ref):
                    left[item.node] -= 1
    moved: dict[int, int] = {}
    kept: list[Row] = []
    for position, (kind, attributes, inputs, outputs) in enumerate(rows):
        if position not in dropped:
            moved[position] = len(kept)
            items = [i if isinstance(i, Parameter) else i._replace(node=moved[i.node]) for i in inputs]
            kept.append((kind, attributes, items, outputs))
    return kept
