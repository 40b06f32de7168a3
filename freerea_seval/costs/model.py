"""The costs of any module, and of the networks of a search space, by tracing them without values."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from freerea_patch import InputError, Part, SearchSpace
from freerea_patch.networks import zero_input
from freerea_patch.spaces import input_dtype
from freerea_seval.costs.memory import (
    activation_bytes,
    check_optimiser,
    inference_peak,
    training_peak,
    weight_bytes,
)
from freerea_seval.costs.published import Counts, counts_of_sums, operation_sums, published_counts
from freerea_seval.costs.serving import ServingCosts, serving_costs
from freerea_seval.strings import DispatchMode, Graph, Inputs, Node, Schema, Spec, tensors_in, trace_module
from freerea_seval.strings.spaces import NotComposableError, StackGraphs, SubgraphCache, chained, traced_on_meta, zeros


class Costs(NamedTuple):
    """Costs of a network for its inputs; :mod:`freerea_seval.costs.memory` states the conventions of memory.

    Attributes:
        params: elements of all parameters; shared parameters are counted once.
        macs: multiply-adds of matrix products and convolutions, including attention; one multiply-add counts as one.
            Biases are not counted (:func:`~freerea_seval.costs.published.published_counts` counts one per output).
        weight_bytes: parameters.
        buffer_bytes: buffers, such as the statistics of batch norm.
        activation_bytes: sum over all results, whether or not they live at once, without views, in-place results and
            inputs.
        peak_inference_bytes: weights, buffers, inputs, and the results that live at once.
        peak_training_bytes: the same for a training step, with gradients, the optimiser's state and the tensors that
            autograd saves; NaN for a network that runs on these inputs in evaluation mode only, such as a detector,
            whose training needs targets: pass these among the inputs.
    """

    params: int
    macs: int
    weight_bytes: int
    buffer_bytes: int
    activation_bytes: int
    peak_inference_bytes: int
    peak_training_bytes: float


def network_costs(network: nn.Module, inputs: Inputs, *, optimiser: str = "momentum") -> Costs:
    """Return the costs of a network, if possible without running it.

    A copy on the ``meta`` device is traced, which takes neither memory nor time. A network that cannot be copied, or
    that reads values of its tensors, runs on its own device instead. The network is left as it was.

    Args:
        network: any module.
        inputs: its arguments, as for :func:`~freerea_seval.strings.trace.tracer.trace_module`, with the batch to count.
        optimiser: ``"sgd"`` (no state), ``"momentum"`` (one copy of the parameters) or ``"adam"`` (two).

    Raises:
        InputError: not a module, the network cannot run on these inputs, or an unknown optimiser.
    """
    check_optimiser(optimiser)
    inference, training = memory_graphs(network, inputs)
    weights, buffers = weight_bytes(inference), _buffer_bytes(network)
    return Costs(
        inference.parameters,
        inference.macs,
        weights,
        buffers,
        activation_bytes(inference),
        weights + buffers + inference_peak(inference),
        math.nan if training is None else weights + buffers + training_peak(training, optimiser),
    )


def network_counts(network: nn.Module, inputs: Inputs) -> Counts:
    """Return a network's parameters and operations, as the benchmarks count them, from one forward pass.

    Raises:
        InputError: not a module, or the network cannot run on these inputs.
    """
    with torch.random.fork_rng(devices=[]):
        return published_counts(_trace(network, inputs, False))


def memory_graphs(network: nn.Module, inputs: Inputs) -> tuple[Graph, Graph | None]:
    """Return a network's graphs in evaluation and in training mode, traced without values where possible.

    The graph in training mode is None if the network runs in evaluation mode only.
    """
    if isinstance(network, nn.Module):
        # Whatever tracing the copy raises, the network itself is traced below.
        with suppress(Exception):
            copy, arguments = _copy_on_meta(network), _arguments_on_meta(inputs)
            with _WeightGuard(network) as guard:
                graphs = _trace(copy, arguments, False), _trace(copy, arguments, True)
            # After an operation that the guard could not process, it has seen no other.
            if not guard.reads_original and guard.unprocessed is None:
                return graphs
    with torch.random.fork_rng(devices=[]):  # dropout draws random numbers
        inference = _trace(network, inputs, False)
        with suppress(InputError):
            return inference, _trace(network, inputs, True)
        return inference, None


def _trace(network: nn.Module, inputs: Inputs, training: bool) -> Graph:
    return trace_module(network, inputs, training=training, inplace=True)


def _buffer_bytes(network: nn.Module) -> int:
    if any(buffer.layout != torch.strided for buffer in network.buffers()):
        raise InputError("the network has a sparse buffer, whose memory cannot be counted; make it dense (to_dense)")
    return sum(buffer.nbytes for buffer in network.buffers())


class _WeightGuard(DispatchMode):
    """Notices a copy that reads the weights of its original, such as through a function that closes over them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        tensors = [*network.parameters(), *network.buffers()]
        self._weights = {tensor.untyped_storage()._cdata for tensor in tensors if not tensor.is_meta}
        self.reads_original = False

    def on_operation(self, schema: Schema, arguments: Mapping[str, Any], result: object) -> None:
        """Note an operation on one of the original's tensors."""
        for value in arguments.values():
            for tensor in tensors_in(value):
                if tensor is not None and not tensor.is_meta and tensor.untyped_storage()._cdata in self._weights:
                    self.reads_original = True


def _copy_on_meta(network: nn.Module) -> nn.Module:
    """Return a copy whose parameters and buffers have no values."""
    memo: dict[int, Any] = {}
    for parameter in network.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
    for buffer in network.buffers():
        memo[id(buffer)] = buffer.detach().to("meta")
    return deepcopy(network, memo)


def _arguments_on_meta(inputs: Inputs) -> Inputs:
    def on_meta(item: Any) -> Any:
        return item.detach().to("meta") if isinstance(item, Tensor) else item

    if isinstance(inputs, Mapping):
        return {name: tree_map(on_meta, value) for name, value in inputs.items()}
    return [tree_map(on_meta, value) for value in inputs]


class SpaceCosts:
    """Parameters, operations, activations and peak memory of a search space's networks.

    If the space defines its networks as parts, no network is built, and each part is traced once. Of a network with
    repeated layers (:class:`~freerea_patch.spaces.Stack`), few layers are traced.

    Args:
        space: the search space.
        batch_size: of a training step; activations and inference memory are for one input.
        optimiser: see :func:`network_costs`.
    """

    def __init__(self, space: SearchSpace, batch_size: int = 64, optimiser: str = "momentum") -> None:
        self._space = space
        self._optimiser = optimiser
        dtype = input_dtype(space)
        self._inference = _PartsTracer(False, Spec((1, *space.input_shape), dtype))
        self._training = _PartsTracer(True, Spec((batch_size, *space.input_shape), dtype))

    def counts(self, genotype: str) -> Counts:
        """Return the parameters and operations for one input.

        Without parts, the network runs once, which takes a fraction of the time of tracing it without values.
        """
        parts = getattr(self._space, "parts", None)
        if parts is not None:
            with suppress(NotComposableError):
                return published_counts(self._inference.graph(parts(genotype))[0])
        if (sums := self._of_stack(genotype, _operation_sums)) is not None:
            return counts_of_sums(*sums)
        try:
            return network_counts(self._space.build(genotype), [zero_input(self._space)])
        except InputError as error:
            raise InputError(f"network {genotype!r}: {error}") from error

    def activations(self, genotype: str) -> int:
        """Return the bytes of all results for one input."""
        if (sums := self._of_stack(genotype, _activation_bytes)) is not None:
            return sums[0]
        return activation_bytes(self._graph(genotype, self._inference)[0])

    def inference_memory(self, genotype: str) -> int:
        """Return the peak bytes of inference on one input."""
        if (sums := self._of_stack(genotype, _inference_memory)) is not None:
            return sums[0]
        return _inference_memory(*self._graph(genotype, self._inference))[0]

    def serving(self, genotype: str) -> ServingCosts:
        """Return the costs of serving a language model.

        Raises:
            InputError: as :func:`~freerea_seval.costs.serving.serving_costs`.
        """
        if (sums := self._of_stack(genotype, serving_costs)) is not None:
            return ServingCosts(*sums)
        return serving_costs(*self._graph(genotype, self._inference))

    def training_memory(self, genotype: str) -> int:
        """Return the peak bytes of a training step."""
        graph, buffers = self._graph(genotype, self._training)
        return training_peak(graph, self._optimiser) + weight_bytes(graph) + buffers

    def _of_stack(self, genotype: str, count: Callable[[Graph, int], tuple[int, ...]]) -> Sequence[int] | None:
        """Return numbers that grow evenly with each layer, of one input; None in a space without stacks."""
        stack = getattr(self._space, "stack", None)
        if stack is None or getattr(self._space, "parts", None) is not None:
            return None
        try:
            return self._inference.stacks.evaluate(stack(genotype), count)
        except InputError as error:
            raise InputError(f"network {genotype!r}: {error}") from error

    def _graph(self, genotype: str, tracer: _PartsTracer) -> tuple[Graph, int]:
        """Return a network's graph, and the bytes of its buffers."""
        parts = getattr(self._space, "parts", None)
        if parts is not None:
            with suppress(NotComposableError):
                return tracer.graph(parts(genotype))
        stack = getattr(self._space, "stack", None)
        if stack is not None:
            try:
                return tracer.stacks.graph(stack(genotype))
            except InputError as error:
                raise InputError(f"network {genotype!r}: {error}") from error
        network = self._space.build(genotype)
        inputs = [zero_input(self._space, tracer.input_spec.shape[0])]
        try:
            graph = memory_graphs(network, inputs)[tracer.training]
        except InputError as error:
            raise InputError(f"network {genotype!r}: {error}") from error
        if graph is None:
            raise InputError(f"network {genotype!r} runs in evaluation mode only; its training needs more than images")
        return graph, _buffer_bytes(network)


def _operation_sums(graph: Graph, buffers: int) -> tuple[int, ...]:
    return operation_sums(graph)


def _activation_bytes(graph: Graph, buffers: int) -> tuple[int, ...]:
    return (activation_bytes(graph),)


def _inference_memory(graph: Graph, buffers: int) -> tuple[int, ...]:
    return (inference_peak(graph) + weight_bytes(graph) + buffers,)


class _PartsTracer:
    """Joins the graphs of a network's parts, for inputs of one shape and without values."""

    def __init__(self, training: bool, input_spec: Spec) -> None:
        self.training = training
        self.input_spec = input_spec
        self._on_meta = input_spec.dtype != "float32"
        self._cache = SubgraphCache(partial(_trace_on_meta, training=training), self._on_meta)
        self._buffers: dict[Hashable, int] = {}
        tracer = partial(_trace_on_meta, training=True) if training else partial(traced_on_meta, inplace=True)
        self.stacks = StackGraphs(input_spec, tracer)

    def graph(self, part: Part) -> tuple[Graph, int]:
        """Return a network's graph, and the bytes of its buffers.

        Raises:
            NotComposableError: some part does not map one tensor to one tensor.
        """
        chain = self._cache.chain(part, self.input_spec)
        buffers = sum(self._buffer_bytes(inner) for inner, _ in chain)
        nodes = chained([subgraph.graph for _, subgraph in chain]).nodes
        return Graph((Node("input", (), (), (self.input_spec,)), *nodes[1:])), buffers

    def _buffer_bytes(self, part: Part) -> int:
        key = (part.key, len(part.parts))
        if key not in self._buffers:
            # A module made of parts may not look into them, so that any module can stand for each.
            with torch.device("meta" if self._on_meta else "cpu"):
                self._buffers[key] = _buffer_bytes(part.make(*(nn.Identity() for _ in part.parts)))
        return self._buffers[key] + sum(map(self._buffer_bytes, part.parts))


def _trace_on_meta(network: nn.Module, specs: Sequence[Spec], training: bool) -> Graph:
    return _trace(network.to("meta"), zeros(specs, "meta"), training)
