"""From a module and example inputs to its graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from freerea_patch import InputError
from freerea_patch.networks import preserve_state
from freerea_seval.strings.graph.ir import Graph
from freerea_seval.strings.trace.autograd_walk import Census, UnseenError, walk
from freerea_seval.strings.trace.dispatch_mode import Watcher, visible
from freerea_seval.strings.trace.meta_constants import Values
from freerea_seval.strings.trace.recorder import Recorder

Route = Literal["auto", "autograd", "dispatch"]
#: Arguments of a network, by place or by name.
Inputs = Sequence[Any] | Mapping[str, Any]


def trace(
    network: nn.Module, inputs: Inputs, route: Route = "auto", *, training: bool = False, inplace: bool = False
) -> Graph:
    """Return the graph of everything that a network executes for one example.

    The network runs once or twice, in evaluation mode unless told otherwise, on its own device: a network on the
    ``meta`` device needs neither its weights nor the time to compute. Weights do not change the graph, but where the
    network decides by values which way to go, the graph is of the way that these inputs take. The module comes back as
    it was.

    Args:
        network: any module.
        inputs: its arguments, ``(n, c, h, w)`` tensors for images, or a mapping of them by name; tensors may also be
            inside of lists, tuples and mappings.
        route: ``"autograd"`` walks the autograd graph, ``"dispatch"`` records what is dispatched, ``"auto"`` does the
            second where the first fails or does not see everything.
        training: whether all but batch norm, whose operation is the same, runs in training mode.
        inplace: whether operations in place get an attribute ``inplace``, which strings do not have; route
            ``"dispatch"`` alone shows them.

    Raises:
        InputError: not a module, the network fails on these inputs (the operation is named if one failed), or (route
            ``"autograd"``) the graph is not seen whole.
    """
    if not isinstance(network, nn.Module):
        raise InputError(f"expected a network (torch.nn.Module), got {type(network).__name__}; build it first")
    if route not in ("auto", "autograd", "dispatch"):
        raise InputError(f"expected route 'auto', 'autograd' or 'dispatch', got {route!r}")
    with preserve_state(network):
        network.eval()
        if training:
            for module in network.modules():
                module.training = not isinstance(module, _BatchNorm)
        if route != "dispatch":
            try:
                return _by_autograd(network, inputs)
            except Exception as error:
                # Inputs that require a gradient may fail where plain ones do not: work in place on them, for one.
                if route == "autograd":
                    if isinstance(error, InputError):
                        raise
                    reason = next(iter(str(error).splitlines()), type(error).__name__)
                    raise InputError(
                        f"the autograd graph does not show everything that this network executes ({reason}); use route"
                        " 'dispatch'"
                    ) from None
        return dispatched(network, inputs, inplace)


def _by_autograd(network: nn.Module, inputs: Inputs) -> Graph:
    parameters = list(network.parameters())
    if not all(parameter.requires_grad for parameter in parameters):
        raise UnseenError("frozen parameters")
    given = _changed(inputs, lambda tensor: tensor.detach().clone().requires_grad_(tensor.is_floating_point()))
    with torch.enable_grad():
        census = Census()
        result = _run(network, given, parameters, census)
        return walk(parameters, _tensors(given), _tensors(result), census)


def dispatched(network: nn.Module, inputs: Inputs, inplace: bool = False) -> Graph:
    """Return the graph of a network, in the mode that it is in, by what is dispatched; see :func:`trace`.

    For modules that nobody needs any more: their buffers may come back changed.
    """
    given = _changed(inputs, lambda tensor: tensor.detach().clone())
    with torch.no_grad():
        parameters = list(network.parameters())
        recorder = Recorder(parameters, _tensors(given), inplace)
        return recorder.graph(_tensors(_run(network, given, parameters, recorder)))


def _run(network: nn.Module, inputs: Any, parameters: Sequence[Tensor], watcher: Watcher) -> object:
    if any(tensor.is_meta for tensor in (*parameters, *_tensors(inputs))):
        watcher.values = Values()
    try:
        with watcher, visible(watcher, network):
            return network(**inputs) if isinstance(inputs, Mapping) else network(*inputs)
    except UnseenError:
        raise
    except Exception as error:  # a user's network may raise anything
        message = next((line for line in str(error).splitlines() if line), type(error).__name__)
        remedy = "check both"
        if watcher.failure is not None and watcher.failure.error is error:
            message = f"{watcher.failure.operation}: {message}"
            if watcher.failure.meta and isinstance(error, (NotImplementedError, RuntimeError)):
                remedy = "if it needs the values of tensors, build it off the meta device"
        shapes = ", ".join("x".join(map(str, tensor.shape)) for tensor in _tensors(inputs))
        raise InputError(f"the network cannot run on inputs of shape {shapes} ({message}); {remedy}") from error


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return arguments with every tensor in them changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _changed(item, change) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_changed(item, change) for item in value]
        # A named tuple takes its fields one by one.
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def _tensors(result: object) -> list[Tensor]:
    """Return the tensors in whatever a network takes or returns, in order."""
    found: list[Tensor] = []
    waiting = [result]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Tensor):
            found.append(item)
        elif isinstance(item, Mapping):
            waiting += reversed(list(item.values()))
        elif isinstance(item, (list, tuple)):
            waiting += reversed(item)
        elif is_dataclass(item):
            waiting += [getattr(item, entry.name) for entry in reversed(fields(item))]
    return found
