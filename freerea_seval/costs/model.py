"""The cost of any module, from what it would execute: nothing is computed, and no weights are copied."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from freerea_seval.costs.memory import (
    activation_bytes,
    check_optimiser,
    inference_peak,
    training_peak,
    weight_bytes,
)
from freerea_seval.strings import DispatchMode, Graph, Inputs, Schema, tensors_in, trace_module


class Costs(NamedTuple):
    """What a network costs for its inputs; :mod:`freerea_seval.costs.memory` has the conventions of memory.

    Attributes:
        params: elements of all parameters, shared ones counted once.
        macs: multiply-adds of matrix products and convolutions, attention's among them, one multiply-add counted as
            one. Biases are not counted, where ``network_cost`` counts one an output, as NATS-Bench publishes.
        weight_bytes: parameters.
        buffer_bytes: buffers, such as the statistics of batch norm.
        activation_bytes: sum over all results, whether or not they are there at once; views and work in place have
            none of their own, and the inputs are not counted.
        peak_inference_bytes: weights, buffers, inputs, and the most of the results that are there at once.
        peak_training_bytes: the same of a training step: parameters, buffers, inputs, gradients, the optimiser's
            state, and what autograd saves.
    """

    params: int
    macs: int
    weight_bytes: int
    buffer_bytes: int
    activation_bytes: int
    peak_inference_bytes: int
    peak_training_bytes: int


def network_costs(network: nn.Module, inputs: Inputs, *, optimiser: str = "momentum") -> Costs:
    """Return what a network costs, without running it where that can be.

    A copy on the ``meta`` device is traced, which takes neither memory nor time. A network that cannot be copied, or
    that needs values of its tensors, runs on its own device instead. It comes back as it was.

    Args:
        network: any module.
        inputs: its arguments, as of :func:`freerea_seval.strings.trace_module`; their batch is that of the costs.
        optimiser: ``"sgd"`` (no state), ``"momentum"`` (one copy of the parameters) or ``"adam"`` (two).

    Raises:
        InputError: not a module, the network cannot run on these inputs, or an unknown optimiser.
    """
    check_optimiser(optimiser)
    inference, training = memory_graphs(network, inputs)
    return graph_costs(inference, training, buffer_bytes(network), optimiser)


def graph_costs(inference: Graph, training: Graph, buffers: int = 0, optimiser: str = "momentum") -> Costs:
    """Return the costs of a network's graphs in both modes.

    Args:
        inference, training: traced with ``inplace``, one of them in training mode.
        buffers: bytes of the module's buffers.
        optimiser: as in :func:`network_costs`.
    """
    fixed = weight_bytes(inference) + buffers
    return Costs(
        inference.parameters,
        inference.macs,
        weight_bytes(inference),
        buffers,
        activation_bytes(inference),
        fixed + inference_peak(inference),
        fixed + training_peak(training, optimiser),
    )


def memory_graphs(network: nn.Module, inputs: Inputs) -> tuple[Graph, Graph]:
    """Return a network's graphs in evaluation and in training mode, traced without values where that can be."""
    if isinstance(network, nn.Module):
        # Whatever a copy without values raises, the network itself is asked behind it.
        with suppress(Exception):
            copy, given = _on_meta(network), _arguments_on_meta(inputs)
            with _Guard(network):
                return _both(copy, given)
    with torch.random.fork_rng(devices=[]):  # dropout draws numbers
        return _both(network, inputs)


def buffer_bytes(network: nn.Module) -> int:
    """Return the bytes of a module's buffers, shared ones counted once."""
    return sum(buffer.nbytes for buffer in network.buffers())


def memory_graph(network: nn.Module, inputs: Inputs, training: bool) -> Graph:
    """Return a network's graph as memory needs it, with work in place shown as such."""
    return trace_module(network, inputs, training=training, inplace=True)


def _both(network: nn.Module, inputs: Inputs) -> tuple[Graph, Graph]:
    return memory_graph(network, inputs, False), memory_graph(network, inputs, True)


class _Guard(DispatchMode):
    """Stops what reads the weights of a network while its copy runs, as a function does that it was built with.

    Args:
        network: what was copied.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        tensors = [*network.parameters(), *network.buffers()]
        self._weights = {tensor.untyped_storage()._cdata for tensor in tensors if not tensor.is_meta}

    def on_operation(self, schema: Schema, arguments: Mapping[str, Any], result: object) -> None:
        """Stop behind an operation on the network's tensors."""
        for value in arguments.values():
            for tensor in tensors_in(value):
                if tensor is not None and not tensor.is_meta and tensor.untyped_storage()._cdata in self._weights:
                    raise RuntimeError("a copy reads the weights of its original")


def _on_meta(network: nn.Module) -> nn.Module:
    """Return a copy whose parameters and buffers have no values; those of the network are not copied."""
    memo: dict[int, Any] = {}
    for parameter in network.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
    for buffer in network.buffers():
        memo[id(buffer)] = buffer.detach().to("meta")
    return deepcopy(network, memo)


def _arguments_on_meta(inputs: Inputs) -> Inputs:
    def moved(item: Any) -> Any:
        return item.detach().to("meta") if isinstance(item, Tensor) else item

    if isinstance(inputs, Mapping):
        return {name: tree_map(moved, value) for name, value in inputs.items()}
    return [tree_map(moved, value) for value in inputs]
