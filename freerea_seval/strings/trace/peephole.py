"""Peephole rewrites: remove what frameworks insert around an operation, before the operations become a graph.

A linear layer on an input with more than two dimensions runs as reshape, matrix product, reshape; a product of batches
of matrices runs as expand, reshape, product, reshape; a bias may be added separately. Here each becomes one operation
again, as the author of the network wrote it. Views that change nothing or that repeat each other are removed, and a
loop over ``x[:, t]`` reads as one over ``x.unbind(1)``.
"""

from __future__ import annotations

from math import prod

from freerea_seval.strings.graph.ir import Ref, Shape, Value
from freerea_seval.strings.trace.operations import Operation, Parameter, Source

_VIEWS = frozenset(("reshape", "permute", "expand", "slice", "select", "split", "unbind"))
#: Selections of fewer items stay as they are.
_FEWEST_SELECTIONS = 8
#: Views that change nothing if the shape stays.
_NEUTRAL = frozenset(("reshape", "expand", "slice"))


def rewrite(operations: list[Operation]) -> list[Operation]:
    """Return operations after all rewrites; the argument stays unchanged."""
    return _unbind_selections(_remove_redundant_views(_fuse_biases(_unflatten_products(operations))))


def _unflatten_products(operations: list[Operation]) -> list[Operation]:
    """Remove the reshapes around matrix products."""
    uses = _use_counts(operations)
    last_reader = {ref.node: index for index, operation in enumerate(operations) for ref in _refs(operation)}
    rewritten = list(operations)
    replaced: dict[int, Source] = {}
    for index, (kind, attributes, inputs, outputs) in enumerate(operations):
        if kind not in ("linear", "matmul") or uses[index] != 1 or operations[last_reader[index]].kind != "reshape":
            continue
        reshape = last_reader[index]
        result = operations[reshape].outputs[0]
        factors = inputs[: 1 if kind == "linear" else 2]
        flattened = [i.node for i in factors if isinstance(i, Ref) and operations[i.node].kind == "reshape"]
        if len(flattened) < len(factors):
            continue
        sources = [operations[node].inputs[0] for node in flattened]
        shapes = [_shape(operations, source) for source in sources]
        flat_shapes = [_shape(operations, item) for item in factors]
        if kind == "linear":
            fits = result.shape == (*shapes[0][:-1], outputs[0].shape[-1]) and shapes[0][-1] == flat_shapes[0][-1]
        else:
            fits = len(inputs) == 2 and all(map(_is_batch, shapes, flat_shapes, [result.shape] * 2))
        if fits:
            rewritten[index] = Operation(kind, attributes, [*sources, *inputs[len(factors) :]], [result])
            replaced[reshape] = Ref(index)
    return _without(rewritten, replaced, uses) if replaced else operations


def _is_batch(shape: Shape, flat: Shape, result: Shape) -> bool:
    """Return whether ``flat`` is ``shape`` with its batch dimensions, which are the result's, flattened into one."""
    return (
        len(flat) == 3
        and len(shape) == len(result)
        and (prod(shape[:-2]), *shape[-2:]) == flat
        and shape[:-2] == result[:-2]
    )


def _fuse_biases(operations: list[Operation]) -> list[Operation]:
    """Fuse an added bias into its linear layer: torch adds it separately if the input is not contiguous."""
    uses = _use_counts(operations)
    operations = list(operations)
    replaced: dict[int, Source] = {}
    for index, (kind, attributes, inputs, outputs) in enumerate(operations):
        if kind != "add" or attributes or len(inputs) != 2:
            continue
        product, bias = inputs
        if not isinstance(product, Ref) or not isinstance(bias, Parameter) or uses[product.node] != 1:
            continue
        layer = operations[product.node]
        plain = layer.kind == "linear" and "b" not in layer.attributes
        if plain and bias.spec.shape == (layer.attributes["out"],) and layer.outputs == outputs:
            fused = Operation("linear", {**layer.attributes, "b": 1}, [*layer.inputs, bias], outputs)
            operations[product.node] = fused
            replaced[index] = product
    return _without(operations, replaced, uses) if replaced else operations


def _remove_redundant_views(operations: list[Operation]) -> list[Operation]:
    """Remove views that change nothing, the first of two reshapes, and all but one of equal views."""
    uses = _use_counts(operations)
    operations = list(operations)
    replaced: dict[int, Source] = {}
    first_equal: dict[object, Ref] = {}
    skipped = False
    for index, (kind, attributes, inputs, outputs) in enumerate(operations):
        if kind not in _VIEWS or len(inputs) != 1:
            continue
        source = _replacement(inputs[0], replaced)
        if kind == "permute" and _moves_only_ones(attributes["dims"], _shape(operations, source)):
            kind, attributes = "reshape", {}
        if kind == "reshape" and isinstance(source, Ref) and operations[source.node].kind == "reshape":
            source = operations[source.node].inputs[0]
            skipped = True
        if kind in _NEUTRAL and _shape(operations, source) == outputs[0].shape:
            replaced[index] = source
            continue
        operations[index] = Operation(kind, attributes, [source], outputs)
        twin = first_equal.setdefault((kind, tuple(attributes.items()), source, tuple(outputs)), Ref(index))
        if twin.node != index and len(outputs) == 1:
            replaced[index] = twin
    return _without(operations, replaced, uses) if replaced or skipped else operations


def _unbind_selections(operations: list[Operation]) -> list[Operation]:
    """Replace selections of all items along a dimension, in their order, by one operation."""
    selections: dict[tuple[Source, Value], list[int]] = {}
    for index, (kind, attributes, inputs, _) in enumerate(operations):
        if kind == "select" and len(inputs) == 1:
            selections.setdefault((inputs[0], attributes.get("dim", 0)), []).append(index)
    operations = list(operations)
    replaced: dict[int, Source] = {}
    for (source, dim), indices in selections.items():
        if len(indices) < _FEWEST_SELECTIONS or len(indices) != _shape(operations, source)[int(str(dim))]:
            continue
        if [operations[index].attributes.get("index", 0) for index in indices] == list(range(len(indices))):
            outputs = [operations[index].outputs[0] for index in indices]
            operations[indices[0]] = Operation("unbind", {"dim": dim} if dim else {}, [source], outputs)
            replaced |= {index: Ref(indices[0], port) for port, index in enumerate(indices) if port}
    return _without(operations, replaced, _use_counts(operations)) if replaced else operations


def _moves_only_ones(dims: Value, shape: Shape) -> bool:
    """Return whether a permutation keeps the order of all dimensions larger than one."""
    moved = [dim for dim in dims if shape[int(dim)] > 1] if isinstance(dims, tuple) else []
    return moved == sorted(moved)


def _shape(operations: list[Operation], item: Source) -> Shape:
    return item.spec.shape if isinstance(item, Parameter) else operations[item.node].outputs[item.port].shape


def _refs(operation: Operation) -> list[Ref]:
    return [item for item in operation.inputs if isinstance(item, Ref)]


def _use_counts(operations: list[Operation]) -> list[int]:
    """Return how often each operation is read."""
    uses = [0] * len(operations)
    for operation in operations:
        for ref in _refs(operation):
            uses[ref.node] += 1
    return uses


def _replacement(item: Source, replaced: dict[int, Source]) -> Source:
    while isinstance(item, Ref) and item.node in replaced:
        item = replaced[item.node]
    return item


def _without(operations: list[Operation], replaced: dict[int, Source], uses: list[int]) -> list[Operation]:
    """Remove replaced operations, and views whose last reader is removed (``uses``: before the rewrite)."""
    operations = [
        operation._replace(inputs=[] if index in replaced else [_replacement(i, replaced) for i in operation.inputs])
        for index, operation in enumerate(operations)
    ]
    left = _use_counts(operations)
    dropped = set(replaced)
    for index in range(len(operations) - 1, -1, -1):
        if index not in replaced and operations[index].kind in _VIEWS and uses[index] and not left[index]:
            dropped.add(index)
            for ref in _refs(operations[index]):
                left[ref.node] -= 1
    moved: dict[int, int] = {}
    kept: list[Operation] = []
    for index, operation in enumerate(operations):
        if index not in dropped:
            moved[index] = len(kept)
            inputs = [i._replace(node=moved[i.node]) if isinstance(i, Ref) else i for i in operation.inputs]
            kept.append(operation._replace(inputs=inputs))
    return kept
