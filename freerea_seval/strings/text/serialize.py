"""From a graph to its string; :mod:`freerea_seval.strings.text.grammar` has the grammar."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from freerea_seval.strings.graph.ir import Graph, Ref, Spec, Value, Weight
from freerea_seval.strings.graph.printer import format_shape, operation_label
from freerea_seval.strings.graph.shape_inference import infer_weights
from freerea_seval.strings.text.compress import Token, fold
from freerea_seval.strings.text.grammar import Unread


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
    shapes = infer_weights(kind, dict(attributes), specs) if outputs else []
    follows = behind and list(weights) == [Weight(shape, outputs[0].dtype) for shape in shapes]
    untied = () if follows else tuple([weight._replace(tied=None) for weight in weights])
    return follows, operation_label(kind, attributes, specs, untied, outputs)


def _operand(item: Ref | Weight, position: int) -> str:
    if isinstance(item, Ref):
        return f"{position - item.node}" + (f".{item.port}" if item.port else "")
    tied = "" if item.tied is None else f"~{position - item.tied}"
    dtype = "" if item.dtype == "float32" else f":{item.dtype}"
    return f"w{format_shape(item.shape)}{dtype}{tied}"
