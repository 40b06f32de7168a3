"""The string format of SEval-NAS (Mih 2026, arXiv 2603.00099), to reproduce its published setting.

Operations follow each other in the post-order of a depth-first walk of the autograd graph::

    |1_Convolution:(num_filters=16, kernel_size=3)|2_NativeBatchNorm|3_Relu|4_Add:3~2|5_Dense:(num_units=64)

The format is defined by the public code (``NATS_Bench_Code/encode_nats_tss.py``), including what it omits:

- Operations whose name contains one of :data:`OMITTED` are not written: multiplication by zero, means, and every name
  with a capital T (tanh, transposition). What they read is written.
- Operands are written only for operations that read two written operations, the second one first. Convolutions and
  dense layers have no operands.
- A convolution states the shape of the last four-dimensional leaf that the walk has met, and a dense layer the last
  dimension of the last two-dimensional one. Where layers share a weight, this can be another layer's. The "units" of a
  dense layer are its input features.
- Stride, padding, groups, dilation, and all attributes of pooling are not written.

The string describes the network as it is given. The authors' networks of NATS-Bench differ from ours in two ways: the
sum of every cell node starts at 0, which adds an addition; and they return features before logits, so that their
strings do not contain the dense layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from freerea_patch import InputError
from freerea_patch.networks import preserve_state
from freerea_seval.strings.trace.tracer import Inputs, map_tensors

#: Parts of names of autograd functions that the public code omits (its function get_fn_name).
OMITTED = ("AccumulateGrad", "Mul", "T", "View", "Mean")


def sevalnas_string(network: nn.Module, inputs: Inputs) -> str:
    """Return a network's string in the format of SEval-NAS.

    The network runs once, in training mode as in the public code; its buffers and modes are restored afterwards. The
    autograd graph shows only operations with a gradient, by names that depend on the device: batch norm is
    ``CudnnBatchNorm`` on GPUs.

    Args:
        network: any module.
        inputs: its arguments, ``(n, c, h, w)`` tensors for images, or a mapping of them by name; n is at least 2 if
            there is batch norm. The authors' inputs are ``(64, 3, 32, 32)``. If every convolution has a weight of its
            own, the string does not depend on n, h and w.

    Raises:
        InputError: the network fails on these inputs, or its first result is not a tensor with a gradient.
    """
    # Tensors require a gradient, as the authors' batch does, so that operations before the first parameter show.
    arguments = map_tensors(inputs, lambda tensor: tensor.detach().clone().requires_grad_(tensor.is_floating_point()))
    # Dropout draws random numbers in training mode.
    with preserve_state(network), torch.enable_grad(), torch.random.fork_rng(devices=()):
        network.train()
        try:
            result = network(**arguments) if isinstance(arguments, Mapping) else network(*arguments)
        except Exception as error:  # a user's network may raise anything
            message = next((line for line in str(error).splitlines() if line), type(error).__name__)
            raise InputError(
                f"the network cannot run on these inputs in training mode ({message}); give it a batch of 2 or more"
            ) from error
    return format_result(result)


def format_result(result: object) -> str:
    """Return the string of the network that computed a result, or the first of several results.

    Raises:
        InputError: the result is not a tensor with a gradient.
    """
    while isinstance(result, (list, tuple, Mapping)) and result:
        result = next(iter(result.values() if isinstance(result, Mapping) else result))
    if not isinstance(result, Tensor) or result.grad_fn is None:
        actual = "a tensor without one" if isinstance(result, Tensor) else f"one of type {type(result).__name__}"
        raise InputError(
            f"expected a network whose first result is a tensor with a gradient, got {actual};"
            " the published format needs the autograd graph"
        )
    numbers: dict[Any, int] = {}
    words = []
    filters = units = ""
    for function in _postorder(result.grad_fn):
        if hasattr(function, "variable"):
            shape = function.variable.shape
            if len(shape) == 4:
                filters = f":(num_filters={shape[0]}, kernel_size={shape[2]})"
            elif len(shape) == 2:
                units = f":(num_units={shape[1]})"
        name = type(function).__name__
        if any(part in name for part in OMITTED):
            continue
        numbers[function] = len(numbers) + 1
        name = name.replace("Backward0", "")
        if "Convolution" in name:
            name += filters
        elif "Addmm" in name:
            name = f"Dense{units}"
        else:
            operands = [numbers[source] for source, _ in function.next_functions if source in numbers]
            name += f":{operands[1]}~{operands[0]}" if len(operands) > 1 else ""
        words.append(f"|{len(numbers)}_{name}")
    return "".join(words)


def _postorder(root: Any) -> Iterator[Any]:
    """Yield the functions of an autograd graph in the post-order of a depth-first walk."""
    seen = {root}
    path = [(root, iter(root.next_functions))]
    while path:
        function, sources = path[-1]
        unvisited = next((source for source, _ in sources if source is not None and source not in seen), None)
        if unvisited is None:
            path.pop()
            yield function
        else:
            seen.add(unvisited)
            path.append((unvisited, iter(unvisited.next_functions)))
