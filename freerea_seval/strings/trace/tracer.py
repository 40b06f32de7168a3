"""From a module and example inputs to the module's graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from freerea_patch import InputError
from freerea_patch.networks import preserve_state
from freerea_seval.strings.graph.ir import Graph
from freerea_seval.strings.trace.dispatch_mode import DispatchMode, MetaConstants, expose_operations
from freerea_seval.strings.trace.recorder import Recorder

#: Arguments of a network, by position or by name.
Inputs = Sequence[Any] | Mapping[str, Any]


def trace_module(network: nn.Module, inputs: Inputs, *, training: bool = False, inplace: bool = False) -> Graph:
    """Return the graph of all operations that a network executes for one example.

    The network runs once, on its own device. On the ``meta`` device it needs neither weights nor time for computing.
    The graph does not depend on the weights, except where the network's control flow depends on values: then the graph
    shows the branches that these inputs take. Buffers and training modes of the module are restored afterwards.

    Args:
        network: any module.
        inputs: its arguments, ``(n, c, h, w)`` tensors for images, or a mapping of them by name; tensors may also be
            inside of lists, tuples and mappings.
        training: run in training mode instead of evaluation mode, except for batch norm, whose operation is the same
            in both.
        inplace: give operations in place an attribute ``inplace``; strings do not have it.

    Raises:
        InputError: not a module, or the network fails on these inputs; the message names the operation that failed.
    """
    if not isinstance(network, nn.Module):
        raise InputError(f"expected a network (torch.nn.Module), got {type(network).__name__}; build it first")
    with preserve_state(network):
        network.eval()
        if training:
            for module in network.modules():
                module.training = not isinstance(module, _BatchNorm)
        return record(network, inputs, inplace)


def record(network: nn.Module, inputs: Inputs, inplace: bool = False) -> Graph:
    """Return the graph of a network in its current mode, and leave its buffers as the run leaves them.

    For modules that are not needed afterwards; see :func:`trace_module` for all others.
    """
    arguments = map_tensors(inputs, lambda tensor: tensor.detach().clone())
    parameters, tensors = list(network.parameters()), list(iter_tensors(arguments))
    with torch.no_grad():
        recorder = Recorder(parameters, tensors, inplace)
        if any(tensor.is_meta for tensor in (*parameters, *tensors)):
            recorder.constants = MetaConstants()
        return recorder.graph(list(iter_tensors(run(network, arguments, recorder))))


def run(network: nn.Module, arguments: Any, mode: DispatchMode) -> object:
    """Run a network under a dispatch mode and return its result.

    Raises:
        InputError: the network fails.
    """
    try:
        with mode, expose_operations(mode, network):
            return network(**arguments) if isinstance(arguments, Mapping) else network(*arguments)
    except Exception as error:  # a user's network may raise anything
        message = next((line for line in str(error).splitlines() if line), type(error).__name__)
        remedy = "check both"
        if mode.failure is not None and mode.failure[0] is error:
            _, operation, on_meta = mode.failure
            message = f"{operation}: {message}"
            if on_meta and isinstance(error, (NotImplementedError, RuntimeError)):
                remedy = "if it needs the values of tensors, build it off the meta device"
        shapes = ", ".join("x".join(map(str, tensor.shape)) for tensor in iter_tensors(arguments))
        raise InputError(f"the network cannot run on inputs of shape {shapes} ({message}); {remedy}") from error


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return arguments with a function applied to every tensor in them."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: map_tensors(item, change) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [map_tensors(item, change) for item in value]
        # The constructor of a named tuple takes its fields one by one.
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def iter_tensors(value: object) -> Iterator[Tensor]:
    """Yield the tensors in whatever a network takes or returns, in order."""
    children: Any = ()
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        children = value.values()
    elif isinstance(value, (list, tuple)):
        children = value
    elif is_dataclass(value):
        children = [getattr(value, entry.name) for entry in fields(value)]
    for child in children:
        yield from iter_tensors(child)
