"""Operations that exporters decompose, such as GELU and attention, put together again in the graph of an ONNX file.

Patterns are expressions: ``("Mul", "x", ("Sigmoid", "x"))`` is a product of anything with its sigmoid. A text stands
for any operand, the same wherever it occurs, a number for that constant, and a tuple for an operation. What is inside
of a pattern must not be read elsewhere.

An operation that the author of a module has written out reads like one that an exporter has decomposed. Patterns are
therefore those of PyTorch's exporters, down to details that tell the two apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isclose, pi, sqrt
from typing import Any, NamedTuple

#: Operators of this package, whose names are no operators of a domain, which have a dot.
SILU, MISH, HARD_SIGMOID, HARD_SWISH = "aten:Silu", "aten:Mish", "aten:HardSigmoid", "aten:HardSwish"
GELU, GELU_TANH, LAYER_NORM, GROUP_NORM = "aten:Gelu", "aten:GeluTanh", "aten:LayerNorm", "aten:GroupNorm"
ATTENTION, LOG_SIGMOID, SOFTPLUS, RSQRT = "aten:Attention", "aten:LogSigmoid", "aten:Softplus", "aten:Rsqrt"
#: A reshape to the shape that is given for the transposed result.
UNTURNED = "aten:Unturned"


#: Activations without parameters, which exporters merge.
_ACTIVATIONS = frozenset(("Relu", "Clip", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "Elu", "LeakyRelu", "Gelu"))
#: Metadata of PyTorch's exporter by ``torch.export``.
_SCOPES = "pkg.torch.onnx.name_scopes"
#: Metadata of nodes that an optimiser has rewritten, and what it says where batch norms were folded into another layer.
RULE, FOLDED = "pkg.onnxscript.rewriter.rule_name", "FuseBatchNormInto"


@dataclass
class OnnxNode:
    """One operation of a file; ``operator`` has its domain in front unless it is ONNX's own."""

    operator: str
    inputs: list[str]
    outputs: list[str]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


class _Pattern(NamedTuple):
    """An operator, its operands, and the expression that is one."""

    operator: str
    operands: tuple[str, ...]
    expression: tuple[Any, ...]


def _activations() -> Iterator[_Pattern]:
    yield _Pattern(SILU, ("x",), ("Mul", "x", ("Sigmoid", "x")))
    yield _Pattern(RSQRT, ("x",), ("Reciprocal", ("Sqrt", "x")))
    yield _Pattern(RSQRT, ("x",), ("Div", 1.0, ("Sqrt", "x")))
    yield _Pattern(LOG_SIGMOID, ("x",), ("Log", ("Sigmoid", "x")))
    yield _Pattern(SOFTPLUS, ("x",), ("Where", ("Greater", "x", 20.0), "x", ("Softplus", "x")))
    yield _Pattern(MISH, ("x",), ("Mul", "x", ("Tanh", ("Softplus", "x"))))
    clip = ("Clip", ("Add", "x", 3.0), 0.0, 6.0)
    for sixth in (("Div", clip, 6.0), ("Mul", clip, 1 / 6)):
        yield _Pattern(HARD_SWISH, ("x",), ("Mul", "x", sixth))
        yield _Pattern(HARD_SIGMOID, ("x",), sixth)
    for product in (("Div", ("Mul", "x", clip), 6.0), ("Mul", ("Mul", "x", clip), 1 / 6)):
        yield _Pattern(HARD_SWISH, ("x",), product)
    erfs = [("Erf", ("Div", "x", sqrt(2))), ("Erf", ("Mul", "x", sqrt(0.5)))]
    cubes = [("Pow", "x", 3.0), ("Mul", "x", ("Mul", "x", "x")), ("Mul", ("Mul", "x", "x"), "x")]
    tanhs = [("Tanh", ("Mul", ("Add", "x", ("Mul", cube, 0.044715)), sqrt(2 / pi))) for cube in cubes]
    for operator, gates in ((GELU, erfs), (GELU_TANH, tanhs)):
        for gate in gates:
            plus = ("Add", gate, 1.0)
            yield _Pattern(operator, ("x",), ("Mul", "x", ("Mul", plus, 0.5)))
            # The other forms of the approximation are how language models write it out (Hendrycks 2016).
            yield _Pattern(operator, ("x",), ("Mul", ("Mul", "x", plus), 0.5))
            if operator == GELU:
                yield _Pattern(operator, ("x",), ("Mul", ("Mul", "x", 0.5), plus))


def _norms() -> Iterator[_Pattern]:
    centred = ("Sub", "x", ("ReduceMean", "x"))
    for square in (("Pow", centred, 2.0), ("Mul", centred, centred)):
        deviation = ("Sqrt", ("Add", ("ReduceMean", square), "eps"))
        yield _Pattern(LAYER_NORM, ("x", "w", "b", "eps"), ("Add", ("Mul", ("Div", centred, deviation), "w"), "b"))
    grouped = ("Reshape", ("InstanceNormalization", ("Reshape", "x", "groups"), "one", "zero"), "shape")
    yield _Pattern(GROUP_NORM, ("x", "w", "b", "groups"), ("Add", ("Mul", grouped, "w"), "b"))


def _attention() -> Iterator[_Pattern]:
    # Exporters scale both factors by the root, which tells this from attention that is written out.
    scores = ("MatMul", ("Mul", "q", "q_scale"), ("Mul", "k", "k_scale"))
    operands = ("q", "k", "v", "q_scale", "k_scale")
    yield _Pattern(ATTENTION, operands, ("MatMul", ("Softmax", scores), "v"))
    masked = ("Softmax", ("Add", scores, "mask"))
    yield _Pattern(ATTENTION, (*operands, "mask"), ("MatMul", masked, "v"))
    # Rows in which all is masked are zeros.
    yield _Pattern(ATTENTION, (*operands, "mask"), ("MatMul", ("Where", ("IsNaN", masked), 0.0, masked), "v"))


_PATTERNS = (*_activations(), *_norms(), *_attention())
_BY_ROOT: dict[str, list[_Pattern]] = {}
for _pattern in _PATTERNS:
    _BY_ROOT.setdefault(_pattern.expression[0], []).append(_pattern)


def separate(nodes: Sequence[OnnxNode]) -> list[OnnxNode]:
    """Return operations with those activations separated that the exporter has merged, where names tell.

    Exporters compute equal operations on equal inputs once. In an ``nn.Sequential``, a layer had an activation of its
    own before it if that is missing, and the layer reads one that has the same position in another ``nn.Sequential``.
    """
    paths = [_module_path(node) for node in nodes]
    places = [(path[:-1], int(path[-1])) if path and path[-1].isdecimal() else None for path in paths]
    taken = {path[:length] for path in paths for length in range(len(path) + 1)}
    producers = {output: index for index, node in enumerate(nodes) for output in node.outputs}
    separated: list[OnnxNode] = []
    for node, place in zip(nodes, places, strict=True):
        source = producers.get(node.inputs[0]) if node.inputs else None
        if place is not None and source is not None and nodes[source].operator in _ACTIVATIONS:
            (container, number), origin = place, places[source]
            elsewhere = origin is not None and origin[0][: len(container)] != container and origin[1] == number - 1
            if elsewhere and (*container, str(number - 1)) not in taken:
                own = f"{node.outputs[0]}/{nodes[source].operator}"
                separated.append(replace(nodes[source], outputs=[own]))
                node = replace(node, inputs=[own, *node.inputs[1:]])
        separated.append(node)
    return separated


def _module_path(node: OnnxNode) -> tuple[str, ...]:
    """Return the attributes that lead from the network to the module that an operation stems from."""
    if (scopes := node.metadata.get(_SCOPES)) is not None:
        modules = re.findall(r"'([^']*)'", scopes)[:-1]  # the last is the operation
        path = modules[-1].split(".") if modules and modules[-1] else []
        if path and path[-1].isdecimal():  # with a folded norm, a layer has the name of the norm behind it
            path[-1] = str(int(path[-1]) - node.metadata.get(RULE, "").count(FOLDED))
        return tuple(path)
    # Such as /features/features.0/Relu: a part of an nn.Sequential has the name of that before it, too.
    path = []
    before = ""
    for name in node.name.split("/")[1:-1]:
        path += name[len(before) + 1 :].split(".") if before and name.startswith(f"{before}.") else [name]
        before = name
    return tuple(path)


def fuse(nodes: Sequence[OnnxNode], outputs: Sequence[str], scalar: Callable[[str], float | None]) -> list[OnnxNode]:
    """Return the operations of a file with decomposed ones put together.

    Args:
        nodes: in the order of execution.
        outputs: of the network.
        scalar: returns the value of a stored number by its name, and None for any other name.
    """
    producers = {output: node for node in nodes for output in node.outputs}
    readers: dict[str, list[int]] = {name: [-1] for name in outputs}
    for node in nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(id(node))
    removed: set[int] = set()
    fused: dict[int, OnnxNode] = {}
    for node in reversed(nodes):  # an operation is reached before those inside of it
        if id(node) in removed:
            continue
        for pattern in _BY_ROOT.get(node.operator, ()):
            match = next(
                (
                    match
                    for match in _matches(pattern.expression, node.outputs[0], {}, (), producers, scalar)
                    if _is_closed(match[1], node, readers, removed)
                ),
                None,
            )
            if match is None:
                continue
            operands, inside = match
            removed.update(map(id, inside))
            attributes = {key: value for other in inside for key, value in other.attributes.items()}
            names = [operands[operand] for operand in pattern.operands]
            if pattern.operator == ATTENTION:
                names[1] = _keys(operands["k"], producers, readers, fused, removed)
                attributes["turned"] = names[1] == operands["k"]
            fused[id(node)] = OnnxNode(pattern.operator, names, node.outputs, attributes, node.name, node.metadata)
            break
    return [fused.get(id(node), node) for node in nodes if id(node) in fused or id(node) not in removed]


def _is_closed(
    inside: Sequence[OnnxNode], root: OnnxNode, readers: Mapping[str, Sequence[int]], removed: set[int]
) -> bool:
    """Return whether nothing else reads what operations compute, except for the result of ``root``."""
    interior = {id(node) for node in inside}
    read = [reader for node in inside if node is not root for name in node.outputs for reader in readers.get(name, ())]
    return not interior & removed and interior.issuperset(read)


def _keys(
    name: str,
    producers: Mapping[str, OnnxNode],
    readers: Mapping[str, Sequence[int]],
    fused: dict[int, OnnxNode],
    removed: set[int],
) -> str:
    """Return the name of the keys whose transposed ones have the given name."""
    keys = f"{name}/keys"

    def alone(node: OnnxNode | None, operator: str) -> OnnxNode | None:
        single = node is not None and node.operator == operator and len(readers[node.outputs[0]]) == 1
        return node if single else None

    if (turn := alone(producers.get(name), "Transpose")) is not None:
        order = list(turn.attributes["perm"])
        order[-2:] = order[:-3:-1]
        fused[id(turn)] = OnnxNode("Transpose", turn.inputs, [keys], {"perm": order}, turn.name)
        return keys
    reshape = alone(producers.get(name), "Reshape")
    turn = alone(producers.get(reshape.inputs[0]), "Transpose") if reshape is not None else None
    if reshape is not None and turn is not None and list(turn.attributes["perm"])[-2:] == [2, 1]:
        removed.add(id(turn))  # with all heads in one dimension
        fused[id(reshape)] = OnnxNode(UNTURNED, [turn.inputs[0], reshape.inputs[1]], [keys], {}, reshape.name)
        return keys
    return name


def _matches(
    expression: Any,
    name: str,
    operands: Mapping[str, str],
    inside: tuple[OnnxNode, ...],
    producers: Mapping[str, OnnxNode],
    scalar: Callable[[str], float | None],
) -> Iterator[tuple[Mapping[str, str], tuple[OnnxNode, ...]]]:
    """Yield every way in which the value of a name is an expression: its operands, and the operations inside of it."""
    if isinstance(expression, str):
        if operands.get(expression, name) == name:
            yield {**operands, expression: name}, inside
        return
    if isinstance(expression, float):
        value = scalar(name)
        if value is not None and isclose(value, expression, rel_tol=1e-3):
            yield operands, inside
        return
    operator, *parts = expression
    node = producers.get(name)
    # Axes and kept dimensions may follow the operands of a reduction as further inputs.
    if node is None or node.operator != operator or len(node.inputs) < len(parts):
        return
    orders = [node.inputs[: len(parts)]]
    if operator in ("Add", "Mul"):
        orders.append(orders[0][::-1])
    inside = inside if any(node is other for other in inside) else (*inside, node)
    for order in orders:
        states = [(operands, inside)]
        for part, item in zip(parts, order, strict=True):
            states = [more for state in states for more in _matches(part, item, *state, producers, scalar)]
        yield from states
