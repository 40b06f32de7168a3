"""The memory that a search space's networks need, part by part where the space gives its networks as parts."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial

import torch
from torch import nn

from freerea_patch import InputError, Part, SearchSpace
from freerea_seval.costs.memory import activation_bytes, inference_peak, training_peak, weight_bytes
from freerea_seval.costs.model import buffer_bytes, memory_graph, memory_graphs
from freerea_seval.strings.graph.ir import Graph, Node, Spec
from freerea_seval.strings.spaces import NotComposableError, SubgraphCache, chained


class SpaceCosts:
    """Activations and peak memory of a space's networks, in bytes.

    Args:
        space: the search space; with parts, no network is built, and each part is traced once.
        batch_size: of a training step; the other two are of one input.
        optimiser: see :func:`freerea_seval.costs.model.network_costs`.
    """

    def __init__(self, space: SearchSpace, batch_size: int = 64, optimiser: str = "momentum") -> None:
        self._space = space
        self._optimiser = optimiser
        self._inference = _Chain(False, Spec((1, *space.input_shape)))
        self._training = _Chain(True, Spec((batch_size, *space.input_shape)))

    def activations(self, genotype: str) -> int:
        """Return the bytes of all results for one input."""
        return activation_bytes(self._graph(genotype, self._inference)[0])

    def inference_memory(self, genotype: str) -> int:
        """Return the bytes at the peak of inference on one input."""
        graph, buffers = self._graph(genotype, self._inference)
        return inference_peak(graph) + weight_bytes(graph) + buffers

    def training_memory(self, genotype: str) -> int:
        """Return the bytes at the peak of a training step."""
        graph, buffers = self._graph(genotype, self._training)
        return training_peak(graph, self._optimiser) + weight_bytes(graph) + buffers

    def _graph(self, genotype: str, chain: _Chain) -> tuple[Graph, int]:
        """Return a network's graph, and the bytes of its buffers."""
        parts = getattr(self._space, "parts", None)
        if parts is not None:
            try:
                return chain.graph(parts(genotype))
            except NotComposableError:
                pass
        network = self._space.build(genotype)
        try:
            both = memory_graphs(network, [torch.zeros(chain.given.shape)])
        except InputError as error:
            raise InputError(f"network {genotype!r}: {error}") from error
        return both[chain.training], buffer_bytes(network)


class _Chain:
    """Puts the graphs of chains of parts together, for inputs of one shape; nothing has values.

    Attributes:
        training: whether in training mode.
        given: shape and dtype of the input.
    """

    def __init__(self, training: bool, given: Spec) -> None:
        self.training = training
        self.given = given
        self._cache = SubgraphCache(partial(_traced, training=training))
        self._buffers: dict[Hashable, int] = {}

    def graph(self, part: Part) -> tuple[Graph, int]:
        """Return a network's graph, and the bytes of its buffers.

        Raises:
            NotComposableError: some part does not map one tensor to one tensor.
        """
        chain = self._cache.chain(part, self.given)
        buffers = sum(self._buffer_bytes(inner) for inner, _ in chain)
        whole = chained([subgraph.graph for _, subgraph in chain])
        return Graph((Node("input", (), (), (self.given,)), *whole.nodes[1:])), buffers

    def _buffer_bytes(self, part: Part) -> int:
        key = (part.key, len(part.parts))
        if key not in self._buffers:
            # What is made of parts may not look into them, so that any module stands for each.
            self._buffers[key] = buffer_bytes(part.make(*(nn.Identity() for _ in part.parts)))
        return self._buffers[key] + sum(map(self._buffer_bytes, part.parts))


def _traced(network: nn.Module, given: Sequence[Spec], training: bool) -> Graph:
    zeros = [torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype), device="meta") for spec in given]
    return memory_graph(network.to("meta"), zeros, training)
