"""From a graph to its string; :mod:`freerea_seval.strings.text.grammar` describes strings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from freerea_seval.strings.graph.ir import Graph, Ref, Spec, Value, Weight
from freerea_seval.strings.graph.printer import format_shape, operation_label
from freerea_seval.strings.graph.shape_inference import infer_weights
from freerea_seval.strings.text.compress import Operand, Token, compress
from freerea_seval.strings.text.grammar import DefaultOperands

#: Fewer distances are listed.
_SHORTEST_RANGE = 8


def serialize_graph(graph: Graph) -> str:
    """Return the string of a graph, with repetitions compressed."""
    return compress(tokens(graph))


def tokens(graph: Graph) -> list[Token]:
    """Return one token per node, without compression."""
    nodes = graph.nodes
    readers = [0] * len(nodes)
    for node in nodes:
        for item in node.inputs:
            if isinstance(item, Ref):
                readers[item.node] += 1
    defaults = DefaultOperands()
    ports: dict[int, int] = {}  # the last port that was read of each node
    written = []
    for position, node in enumerate(nodes):
        refs: list[Ref] = []
        weights: list[Weight] = []
        for item in node.inputs:
            if isinstance(item, Ref):
                refs.append(item)
            else:
                weights.append(item)
        specs = tuple([nodes[node].outputs[port] for node, port in refs])
        # Listed parameters stand where the arguments have them; inferred ones come last.
        weights_last = node.inputs[len(refs) :] == tuple(weights)
        inferred, label = _label(node.kind, node.attributes, specs, tuple(weights), node.outputs, weights_last)
        default = defaults.default(node.kind, position)
        operands: Sequence[Ref | Weight] | None = None
        if not inferred:
            operands = node.inputs
        elif refs != [Ref(node) for node in default] or (len(default) == 2 and readers[default[0]] > 1):
            # A result with several readers is listed, so that the operation reads the same wherever it is repeated.
            operands = refs
        listed = []
        for item in refs if operands is None else operands:
            step = ""
            if isinstance(item, Ref):
                step = {-1: "-", 0: "=", 1: "+"}.get(item.port - ports.get(item.node, -1), "")
                ports[item.node] = item.port
            listed.append(Operand(_operand(item, position), item.node if isinstance(item, Ref) else -1, step))
        if not inferred and not weights:
            listed.append(Operand("!", -1))
        written.append(Token(label, None if operands is None else _with_ranges(listed), tuple(refs)))
        defaults.add([node for node, _ in refs], position, bool(node.outputs))
    return written


@lru_cache(maxsize=65536)
def _label(
    kind: str,
    attributes: tuple[tuple[str, Value], ...],
    specs: tuple[Spec, ...],
    weights: tuple[Weight, ...],
    outputs: tuple[Spec, ...],
    weights_last: bool,
) -> tuple[bool, str]:
    """Return whether the parameters of an operation are the inferred ones, and its text without operands."""
    shapes = infer_weights(kind, dict(attributes), specs) if outputs else []
    inferred = weights_last and list(weights) == [Weight(shape, outputs[0].dtype) for shape in shapes]
    untied = () if inferred else tuple([weight._replace(tied=None) for weight in weights])
    return inferred, operation_label(kind, attributes, specs, untied, outputs)


def _with_ranges(operands: Sequence[Operand]) -> tuple[Operand, ...]:
    """Write evenly spaced distances as ranges, such as those of the steps whose results are concatenated."""
    distances = [int(operand.text) if operand.text.isdigit() else None for operand in operands]
    written: list[Operand] = []
    first = 0
    while first < len(operands):
        end, step = first + 1, 0
        while end < len(operands) and (before := distances[end - 1]) is not None and (here := distances[end]):
            step = step or here - before
            if not step or here - before != step:
                break
            end += 1
        if end - first < _SHORTEST_RANGE:
            end = first + 1
            written.append(operands[first])
        else:
            written.append(Operand(f"{distances[first]}..{distances[end - 1]}/{abs(step)}", -1))
        first = end
    return tuple(written)


def _operand(item: Ref | Weight, position: int) -> str:
    if isinstance(item, Ref):
        return f"{position - item.node}" + (f".{item.port}" if item.port else "")
    tied = "" if item.tied is None else f"~{position - item.tied}"
    dtype = "" if item.dtype == "float32" else f":{item.dtype}"
    return f"w{format_shape(item.shape)}{dtype}{tied}"
