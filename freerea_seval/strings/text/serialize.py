"""From a graph to its string; :mod:`freerea_seval.strings.text.grammar` describes strings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from freerea_seval.strings.graph.ir import Graph, Ref, Shape, Spec, Value, Weight
from freerea_seval.strings.graph.shape_inference import (
    BARE,
    SINKS,
    WINDOWS,
    predicted_dtype,
    predicted_results,
    predicted_weights,
    spatial,
)
from freerea_seval.strings.text.compress import Token, compress
from freerea_seval.strings.text.grammar import LARGEST, DefaultOperands, channels, window_defaults


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
        texts = None if operands is None else [_operand(item, position) for item in operands]
        sources = [item.node if isinstance(item, Ref) else -1 for item in operands or ()]
        if texts is not None and not inferred and not weights:
            texts.append("!")
            sources.append(-1)
        written.append(Token(label, None if texts is None else tuple(texts), tuple(sources), tuple(refs)))
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
    shapes = predicted_weights(kind, dict(attributes), specs) if outputs else []
    inferred = weights_last and list(weights) == [Weight(shape, outputs[0].dtype) for shape in shapes]
    untied = () if inferred else tuple([weight._replace(tied=None) for weight in weights])
    return inferred, operation_text(kind, attributes, specs, untied, outputs)


@lru_cache(maxsize=65536)
def operation_text(
    kind: str,
    attributes: tuple[tuple[str, Value], ...],
    specs: tuple[Spec, ...],
    weights: tuple[Weight, ...],
    outputs: tuple[Spec, ...],
) -> str:
    """Return the text of an operation without its operands.

    Args:
        kind, attributes, outputs: of the operation.
        specs: its inputs that are results of other operations.
        weights: its inputs that are parameters, unless they are the inferred ones.
    """
    texts = _attribute_texts(kind, dict(attributes), specs)
    text = f"{kind}({','.join(texts)})" if texts else kind
    # "!" even where the absence of results could be inferred: whether there are any must not depend on shapes.
    if (outputs or kind in SINKS) and outputs == predicted_results(kind, dict(attributes), specs, weights):
        return text
    dtype = predicted_dtype(kind, specs, weights)
    results = [_sizes(o.shape) + (f":{o.dtype}" if o.dtype != dtype else "") for o in outputs]
    return f"{text}[{','.join(results) if results else '!'}]"


def _attribute_texts(kind: str, attributes: dict[str, Value], specs: Sequence[Spec]) -> list[str]:
    """Return the attributes that differ from their defaults."""
    bare, width = BARE.get(kind, "other"), channels(kind, specs)
    window = _window(kind, attributes, specs)
    texts = []
    for name, value in attributes.items():
        if name in window:
            if value != window[name]:
                texts.append("dw" if name == "g" and value == width else name + _window_text(value))
        elif name == bare and isinstance(value, (int, float)):
            if name == "other" or value != width:
                texts.append(_text(value))
        elif name in ("b", "plain") and value == 1:
            texts.append(name)
        else:
            texts.append(f"{name}={_text(value)}")
    return texts


def _window(kind: str, attributes: dict[str, Value], specs: Sequence[Spec]) -> dict[str, Value | None]:
    """Return the default attributes of a window; empty if some attributes are missing or are not sizes."""
    defaults = kind in WINDOWS and window_defaults(kind, attributes.get("k"), attributes.get("d"), specs)
    for name in defaults or ():
        value = attributes.get(name, "")
        if name == "g":
            value = (value,) if isinstance(value, int) else ""
        elif not isinstance(value, tuple) or len(value) != spatial(kind, specs[0].shape):
            return {}
        if not value or not all(isinstance(size, int) and 0 <= size <= LARGEST for size in value):
            return {}
    return defaults or {}


def _window_text(value: Value) -> str:
    sizes = value if isinstance(value, tuple) else (value,)
    return "x".join(map(str, sizes[:1] if len(set(sizes)) == 1 else sizes))


def _operand(item: Ref | Weight, position: int) -> str:
    if isinstance(item, Ref):
        return f"{position - item.node}" + (f".{item.port}" if item.port else "")
    tied = "" if item.tied is None else f"~{position - item.tied}"
    dtype = "" if item.dtype == "float32" else f":{item.dtype}"
    return f"w{_sizes(item.shape)}{dtype}{tied}"


def _sizes(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _text(value: Value) -> str:
    if isinstance(value, tuple):
        return ":".join(map(_text, value))
    return repr(value) if isinstance(value, (int, float)) else value
