"""The string format that SEval-NAS publishes (Mih 2026, arXiv 2603.00099), so that its setting can be reproduced.

One operation follows the other, in the order in which a depth-first walk of the autograd graph leaves them::

    |1_Convolution:(num_filters=16, kernel_size=3)|2_NativeBatchNorm|3_Relu|4_Add:3~2|5_Dense:(num_units=64)

What it leaves out is part of the format, which is that of the public code (``NATS_Bench_Code/encode_nats_tss.py``):

- operations whose name holds one of :data:`LEFT_OUT` are not written, multiplication by zero, means and everything
  with a capital T (tanh, transposition) among them; what they read is;
- operands are said only where two written operations are read, the second one first; convolutions and dense layers say
  none;
- a convolution says the last four-dimensional leaf that the walk has met, a dense layer the last dimension of the last
  two-dimensional one: where a weight is shared these are another layer's, and a dense layer's "units" are its inputs;
- stride, padding, groups, dilation and all of pooling are not said.

The string is of the network that is given. The authors' networks of NATS-Bench start every node's sum from 0, which is
one more addition, and return features before logits, so that their strings end before the dense layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from freerea_patch import InputError
from freerea_patch.networks import preserve_state
from freerea_seval.strings.trace.tracer import Inputs

#: Parts of the names of autograd's functions that the public code does not write (its function get_fn_name).
LEFT_OUT = ("AccumulateGrad", "Mul", "T", "View", "Mean")


def published_string(network: nn.Module, inputs: Inputs) -> str:
    """Return the published string of a network.

    The network runs once, in training mode as the authors ran it, and comes back as it was. Only what has a gradient
    leaves a trace. Names of operations are those of the device: batch norm is ``CudnnBatchNorm`` on GPUs.

    Args:
        network: any module.
        inputs: its arguments, ``(n, c, h, w)`` tensors for images, n at least 2 if there is batch norm, or a mapping of
            them by name. The authors' are ``(64, 3, 32, 32)``; neither n, h nor w shows in the string of a network
            whose convolutions have a weight of their own.

    Raises:
        InputError: the network fails on these inputs, or its first result is no tensor with a gradient.
    """
    # Dropout draws random numbers in training mode.
    with preserve_state(network), torch.enable_grad(), torch.random.fork_rng(devices=()):
        try:
            result = _run(network.train(), inputs)
        except Exception as error:  # a user's network may raise anything
            message = next((line for line in str(error).splitlines() if line), type(error).__name__)
            raise InputError(
                f"the network cannot run on these inputs in training mode ({message}); give it a batch of 2 or more"
            ) from error
    return write_published(result)


def write_published(result: object) -> str:
    """Return the published string of the network behind a result, or behind the first of several.

    Raises:
        InputError: it is no tensor with a gradient.
    """
    while isinstance(result, (list, tuple, Mapping)) and result:
        result = next(iter(result.values() if isinstance(result, Mapping) else result))
    if not isinstance(result, Tensor) or result.grad_fn is None:
        raise InputError(
            f"expected a network whose first result is a tensor with a gradient, got {_described(result)};"
            " the published format needs the autograd graph"
        )
    numbers: dict[Any, int] = {}
    written = []
    filters = units = ""
    for function in _left(result.grad_fn):
        if hasattr(function, "variable"):
            shape = function.variable.shape
            if len(shape) == 4:
                filters = f":(num_filters={shape[0]}, kernel_size={shape[2]})"
            elif len(shape) == 2:
                units = f":(num_units={shape[1]})"
        name = type(function).__name__
        if any(part in name for part in LEFT_OUT):
            continue
        numbers[function] = len(numbers) + 1
        name = name.replace("Backward0", "")
        if "Convolution" in name:
            name += filters
        elif "Addmm" in name:
            name = f"Dense{units}"
        else:
            read = [numbers[source] for source, _ in function.next_functions if source in numbers]
            name += f":{read[1]}~{read[0]}" if len(read) > 1 else ""
        written.append(f"|{len(numbers)}_{name}")
    return "".join(written)


def _left(root: Any) -> Iterator[Any]:
    """Yield the functions of an autograd graph in the order in which a depth-first walk leaves them."""
    seen = {root}
    path = [(root, iter(root.next_functions))]
    while path:
        function, sources = path[-1]
        fresh = next((source for source, _ in sources if source is not None and source not in seen), None)
        if fresh is None:
            path.pop()
            yield function
        else:
            seen.add(fresh)
            path.append((fresh, iter(fresh.next_functions)))


def _run(network: nn.Module, inputs: Inputs) -> object:
    if isinstance(inputs, Mapping):
        return network(**{name: _leaf(item) for name, item in inputs.items()})
    return network(*map(_leaf, inputs))


def _leaf(item: Any) -> Any:
    """Return an argument; tensors require a gradient, as the authors' batch does, so that the first operations show."""
    if not isinstance(item, Tensor):
        return item
    return item.detach().clone().requires_grad_(item.is_floating_point())


def _described(result: object) -> str:
    return "a tensor without one" if isinstance(result, Tensor) else f"one of type {type(result).__name__}"
