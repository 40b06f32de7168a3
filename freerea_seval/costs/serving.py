"""What it costs to serve a language model: a prompt, a further token, and memory, from the graph of one pass.

Conventions:
    - The prompt is the whole input of the graph, ``(1, t)`` tokens. Its keys and values are kept in a cache, and only
      its last token's logits are computed.
    - The further token is the last that the context holds: it attends to t tokens, itself included.
    - Every operation but attention treats tokens one by one, so that one token costs a t-th of the pass.
    - In causal attention, token i attends to i tokens: t (t + 1) / 2 pairs in a prompt instead of t * t.
    - Biases count one multiply-add an output, as in :mod:`freerea_seval.costs.published`.
    - Memory is that of a dtype with 2 bytes, such as float16: weights, buffers, the cache, and the results of the
      prompt that live at once (:mod:`freerea_seval.costs.memory`).
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from freerea_patch import InputError
from freerea_seval.costs.memory import inference_peak, weight_bytes
from freerea_seval.strings.graph.ir import Graph, Node, node_macs

#: Bytes of a number in the traced graph, and when the network is served.
_TRACED, _SERVED = 4, 2


class ServingCosts(NamedTuple):
    """Costs of serving one sequence.

    Attributes:
        prompt_macs: multiply-adds from the prompt to the logits of the next token.
        token_macs: multiply-adds of a further token with a full cache.
        kv_cache_bytes: keys and values of all tokens of the context.
        memory_bytes: peak of serving.
        decoder_params: parameters without the tables that tokens are looked up in and the last linear layer, the
            metric of LiteTransformerSearch (Javaheripi 2022); parameters that both share count as theirs.
    """

    prompt_macs: int
    token_macs: int
    kv_cache_bytes: int
    memory_bytes: int
    decoder_params: int


def serving_costs(graph: Graph, buffer_bytes: int = 0) -> ServingCosts:
    """Return the costs of serving a language model.

    Args:
        graph: of a pass of one sequence, in float32.
        buffer_bytes: of the network.

    Raises:
        InputError: the input is no sequence of tokens, or the network does not end with a linear layer.
    """
    tokens, last = graph.nodes[0].outputs[0], graph.nodes[-1].refs[0].node
    if tokens.dtype != "int64" or len(tokens.shape) != 2 or tokens.shape[0] != 1 or graph.nodes[last].kind != "linear":
        raise InputError(
            "serving is counted of language models, which map (1, tokens) int64 to logits by a linear layer; this"
            f" network maps {tokens.dtype} {tokens.shape} by {graph.nodes[last].kind}"
        )
    t = tokens.shape[1]
    prompt = token = cache = ends = 0
    for index, node in enumerate(graph):
        if index == last or (node.kind == "embedding" and node.refs[0].node == 0):
            ends += sum(prod(weight.shape) for weight in node.weights if weight.tied is None)
        shapes = [graph.shape(item) for item in node.inputs]
        macs = node_macs(node, shapes)
        macs += node.outputs[0].elements if macs and node.get("b") else 0
        token += macs // t
        if node.kind == "attention":
            cache += (prod(shapes[1]) + prod(shapes[2])) * _SERVED
            prompt += macs * (t + 1) // (2 * t) if node.get("causal") else macs
        else:
            prompt += macs // t if index == last else macs
    # The prompt up to the head: the head reads one token.
    body = Graph((*graph.nodes[:last], Node("output", (), graph.nodes[last].refs)))
    results = inference_peak(body) + graph.nodes[last].outputs[0].elements // t * _TRACED
    resident = weight_bytes(graph) + buffer_bytes
    memory = cache + (resident + results) * _SERVED // _TRACED
    return ServingCosts(prompt, token, cache, memory, graph.parameters - ends)
