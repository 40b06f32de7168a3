"""From a graph to its string; :mod:`freerea_seval.strings.text.grammar` has the grammar."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from freerea_seval.strings.graph.ir import Graph, Ref, Shape, Spec, Value, Weight
from freerea_seval.strings.graph.shape_inference import (
    BARE,
    WINDOWS,
    predicted_dtype,
    predicted_results,
    predicted_weights,
    spatial,
)
from freerea_seval.strings.text.compress import Token, fold
from freerea_seval.strings.text.grammar import LARGEST, Unread, channels, window_defaults


def write(graph: Graph) -> str:
    """Return the string of a graph, with what repeats folded."""
    return fold(tokens(graph))


def tokens(graph: Graph) -> list[Token]:
    """Return one token a node, nothing folded."""
    nodes = graph.nodes
    readers = [0] * len(nodes)
    for node in nodes:
        for item in node.inputs:
            if isinstance(item, Ref):
                readers[item.node] += 1
    unread = Unread()
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
        # Parameters that are said come in their place among the inputs; those that follow come behind.
        behind = node.inputs[len(refs) :] == tuple(weights)
        follows, label = _label(node.kind, node.attributes, specs, tuple(weights), node.outputs, behind)
        default = unread.default(node.kind, position)
        operands: Sequence[Ref | Weight] | None = None
        if not follows:
            operands = node.inputs
        elif refs != default or (len(default) == 2 and readers[default[0].node] > 1):
            # A result that others read too is said, so that the operation reads the same wherever it is repeated.
            operands = refs
        texts = None if operands is None else [_operand(item, position) for item in operands]
        sources = [item.node if isinstance(item, Ref) else -1 for item in operands or ()]
        if texts is not None and not follows and not weights:
            texts.append("!")
            sources.append(-1)
        written.append(Token(label, None if texts is None else tuple(texts), tuple(sources), tuple(refs)))
        unread.step(refs, position, node.outputs)
    return written


@lru_cache(maxsize=65536)
def _label(
    kind: str,
    attributes: tuple[tuple[str, Value], ...],
    specs: tuple[Spec, ...],
    weights: tuple[Weight, ...],
    outputs: tuple[Spec, ...],
    behind: bool,
) -> tuple[bool, str]:
    """Return whether an operation's parameters go without saying, and what a token says of it but for its operands.

    They do where they come ``behind`` the other inputs, and are what its kind predicts.
    """
    shapes = predicted_weights(kind, dict(attributes), specs) if outputs else []
    follows = behind and list(weights) == [Weight(shape, outputs[0].dtype) for shape in shapes]
    untied = () if follows else tuple([weight._replace(tied=None) for weight in weights])
    return follows, operation_text(kind, attributes, specs, untied, outputs)


@lru_cache(maxsize=65536)
def operation_text(
    kind: str,
    attributes: tuple[tuple[str, Value], ...],
    specs: tuple[Spec, ...],
    weights: tuple[Weight, ...],
    outputs: tuple[Spec, ...],
) -> str:
    """Return what a token says of an operation but for its operands.

    Args:
        kind, attributes, outputs: of the operation.
        specs: its inputs that other nodes make.
        weights: its inputs that are parameters, where they do not follow from the rest.
    """
    said = _said(kind, dict(attributes), specs)
    text = f"{kind}({','.join(said)})" if said else kind
    if outputs == predicted_results(kind, dict(attributes), specs, weights):
        return text
    dtype = predicted_dtype(kind, specs, weights)
    shapes = [_sizes(o.shape) + (f":{o.dtype}" if o.dtype != dtype else "") for o in outputs]
    return f"{text}[{','.join(shapes) if shapes else '!'}]"


def _said(kind: str, attributes: dict[str, Value], specs: Sequence[Spec]) -> list[str]:
    """Return the attributes that do not follow from others."""
    bare, width = BARE.get(kind, "other"), channels(kind, specs)
    window = _window(kind, attributes, specs)
    said = []
    for name, value in attributes.items():
        if name in window:
            if value != window[name]:
                said.append("dw" if name == "g" and value == width else name + _window_text(value))
        elif name == bare and isinstance(value, (int, float)):
            if name == "other" or value != width:
                said.append(_text(value))
        elif name in ("b", "plain") and value == 1:
            said.append(name)
        else:
            said.append(f"{name}={_text(value)}")
    return said


def _window(kind: str, attributes: dict[str, Value], specs: Sequence[Spec]) -> dict[str, Value | None]:
    """Return what a window's attributes are if nothing is said; nothing if some are missing or are no sizes."""
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
