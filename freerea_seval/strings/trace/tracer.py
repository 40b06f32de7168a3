"""From a module and example inputs to the module's graph."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from copy import deepcopy
from types import GeneratorType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import UninitializedBuffer, is_lazy
from torch.utils._pytree import tree_leaves

from freerea_patch import InputError
from freerea_patch.networks import preserve_state
from freerea_seval.strings.graph.ir import Graph
from freerea_seval.strings.trace.dispatch_mode import DispatchMode, MetaConstants, expose_operations
from freerea_seval.strings.trace.recorder import Recorder

#: Arguments of a network, by position or by name.
Inputs = Sequence[Any] | Mapping[str, Any]
#: Values in which no tensor is looked for, and values that were computed outside of the graph.
_LEAVES = (int, float, complex, str, bytes, type(None), type, ModuleType, nn.Module)
_COMPUTED = (np.ndarray, np.generic, GeneratorType)


def trace_module(network: nn.Module, inputs: Inputs, *, training: bool = False, inplace: bool = False) -> Graph:
    """Return the graph of all operations that a network executes for one example.

    The network runs once, on its own device. On the ``meta`` device it needs neither weights nor time for computing.
    The graph does not depend on the weights, except where the network's control flow depends on values: then the graph
    shows the branches that these inputs take. What runs is a copy that shares the parameters, so that the module's
    buffers, attributes and modes stay as they are; a parameter that an operation overwrites is restored.

    Args:
        network: any module.
        inputs: its arguments, ``(n, c, h, w)`` tensors for images, or a mapping of them by name; tensors may also be
            inside of lists, tuples and mappings.
        training: run in training mode instead of evaluation mode, except for batch norm, whose operation is the same
            in both. A module from ``torch.export`` has one mode only.
        inplace: give operations in place an attribute ``inplace``; strings do not have it.

    Raises:
        InputError: not a module, or the network fails on these inputs; the message names the operation that failed.
        InputError: the network returns no tensor.
    """
    if not isinstance(network, nn.Module):
        raise InputError(f"expected a network (torch.nn.Module), got {type(network).__name__}; build it first")
    # Functions that a module holds may call modules of the original, which must therefore come back as well.
    with _preserve_all(network):
        _set_mode(network, training)
        return record(_copy_sharing_parameters(network), inputs, inplace)


def record(network: nn.Module, inputs: Inputs, inplace: bool = False) -> Graph:
    """Return the graph of a network in its current mode, and leave its buffers as the run leaves them.

    For modules that are not needed afterwards; see :func:`trace_module` for all others.
    """
    arguments = map_tensors(inputs, lambda tensor: tensor.detach().clone())
    parameters, tensors = [*network.parameters(), *_frozen_weights(network)], list(iter_tensors(arguments))
    with torch.no_grad():
        try:
            recorder = Recorder(parameters, tensors, inplace)
        except TypeError as error:
            raise InputError(f"{error} as inputs and parameters") from None
        if any(tensor.is_meta for tensor in (*parameters, *tensors)):
            recorder.constants = MetaConstants()
        try:
            result = run(network, arguments, recorder)
        finally:
            recorder.restore_parameters()
        outputs = list(iter_tensors(result, recorder.position, strict=True))
        if not outputs:
            raise InputError(f"the network returns {type(result).__name__} without a tensor; return tensors")
        return recorder.graph(outputs)


def run(network: nn.Module, arguments: Any, mode: DispatchMode) -> object:
    """Run a network under a dispatch mode and return its result.

    Raises:
        InputError: the network fails, or executes an operation that the mode cannot process.
    """
    try:
        with mode, expose_operations(mode, network):
            result = network(**arguments) if isinstance(arguments, Mapping) else network(*arguments)
        if mode.unprocessed is not None:
            raise mode.unprocessed
        return result
    except Exception as error:  # a user's network may raise anything
        message = next((line for line in str(error).splitlines() if line), type(error).__name__)
        what, remedy = "run", "check both"
        if mode.failure is not None and mode.failure[0] is error:
            _, operation, on_meta = mode.failure
            message = f"{operation}: {message}"
            if on_meta and isinstance(error, (NotImplementedError, RuntimeError)):
                remedy = "if it needs the values of tensors, build it off the meta device"
        if error is mode.unprocessed:
            what, remedy = "be traced", "compute this part with other operations"
        shapes = ", ".join("x".join(map(str, tensor.shape)) for tensor in iter_tensors(arguments))
        raise InputError(f"the network cannot {what} on inputs of shape {shapes} ({message}); {remedy}") from error


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


def iter_tensors(value: object, position: Callable[[Tensor], Any] = id, strict: bool = False) -> Iterator[Tensor]:
    """Yield the tensors in whatever a network takes or returns, in order.

    They may be in containers that ``torch.utils._pytree`` knows, other mappings, sets, and attributes of objects.

    Args:
        value: arguments or a result.
        position: the key by which the tensors of a set are sorted, as sets have no order.
        strict: refuse what was computed, but holds no tensor.

    Raises:
        InputError: with ``strict``, there is a NumPy array or a generator.
    """
    stack, seen = [value], set[int]()
    while stack:
        item = stack.pop()
        if isinstance(item, Tensor):
            yield item
            continue
        if strict and isinstance(item, _COMPUTED):
            raise InputError(f"the network returns a {type(item).__name__}, which cannot be traced; return tensors")
        if id(item) in seen or isinstance(item, (*_LEAVES, *_COMPUTED)):
            continue
        seen.add(id(item))
        leaves = tree_leaves(item)
        if len(leaves) != 1 or leaves[0] is not item:
            children = leaves
        elif isinstance(item, Mapping):
            children = list(item.values())
        elif isinstance(item, Set):
            children = sorted(iter_tensors(list(item), position, strict), key=position)
        else:
            slots = (getattr(kind, "__slots__", ()) for kind in type(item).__mro__)
            names = [name for some in slots for name in ([some] if isinstance(some, str) else some)]
            children = [getattr(item, name, None) for name in dict.fromkeys([*names, *getattr(item, "__dict__", ())])]
        stack += reversed(children)


def _copy_sharing_parameters(network: nn.Module) -> nn.Module:
    """Return a copy of a module that shares its parameters; the module itself if it cannot be copied."""
    memo: dict[int, Any] = {id(parameter): parameter for parameter in network.parameters() if not is_lazy(parameter)}
    for module in network.modules():
        # Copying a dozen empty dictionaries of hooks a module would be most of the work. The copy shares them, and what
        # the run registers in them is removed with all else that it changes.
        memo |= {id(value): value for name, value in vars(module).items() if "_hooks" in name and not value}
        for tensor in (*module._buffers.values(), *vars(module).values()):
            if isinstance(tensor, UninitializedBuffer):
                make: Any = UninitializedBuffer
                memo[id(tensor)] = make(device=tensor.device, dtype=tensor.dtype)
            elif isinstance(tensor, Tensor) and not is_lazy(tensor) and id(tensor) not in memo:
                # Tensors that depend on parameters, such as those of weight norm, refuse to be copied.
                memo[id(tensor)] = tensor.detach().clone()
    with suppress(Exception):  # the module of a user may hold anything, such as a lock or a file
        return deepcopy(network, memo)
    return network


def _frozen_weights(network: nn.Module) -> Iterator[Tensor]:
    """Yield the weights that ``torch.jit.freeze`` has written into the code of modules."""
    for module in network.modules():
        if isinstance(module, torch.jit.ScriptModule) and not module._c.hasattr("training"):
            graph: Any = module.graph
            for node in graph.findAllNodes("prim::Constant", True):
                if node.hasAttribute("value") and node.kindOf("value") == "t" and node.t("value").ndim:
                    yield node.t("value")


def _set_mode(network: nn.Module, training: bool) -> None:
    try:
        network.eval()
    except (AttributeError, NotImplementedError):  # some part is frozen TorchScript, or comes from torch.export
        for module in network.modules():
            module.training = False
        return
    if training:
        for module in network.modules():
            module.training = not isinstance(module, _BatchNorm)


@contextmanager
def _preserve_all(network: nn.Module) -> Iterator[None]:
    """Restore buffers, modes and attributes of a module."""
    attributes = [(vars(module), dict(vars(module))) for module in network.modules()]
    containers = (dict, OrderedDict, list, set)
    contents = [
        (value, value.copy()) for _, saved in attributes for value in saved.values() if type(value) in containers
    ]
    with preserve_state(network):
        try:
            yield
        finally:
            for current, saved in attributes:
                current.clear()
                current.update(saved)
            for container, saved_items in contents:
                container.clear()
                (container.extend if isinstance(container, list) else container.update)(saved_items)
