"""Published counts by another route: hooks on the modules of ``torch.nn`` that torchstat counts."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from freerea_patch.networks import preserve_state
from freerea_seval.costs import Counts

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU)
_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_ADAPTIVE_POOLS = (
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveMaxPool3d,
)
_COUNTED = (*_CONVOLUTIONS, nn.Linear, _BatchNorm, *_RECTIFIERS, *_POOLS, *_ADAPTIVE_POOLS)


def network_cost(network: nn.Module, input_shape: tuple[int, ...]) -> Counts:
    """Count the modules of one forward pass by hooks, as often as they run; other operations count zero."""
    operations = [(0, 0)]

    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        x = (*args, *kwargs.values())[0]
        y = output if isinstance(output, Tensor) else output[0]  # a max pool may also return the indices of the maxima
        operations.append(_operations(module, x, y))

    counted = [module for module in network.modules() if isinstance(module, _COUNTED)]
    hooks = [module.register_forward_hook(record, with_kwargs=True) for module in counted]
    like = next(network.parameters(), torch.empty(0))
    try:
        with preserve_state(network), torch.no_grad():
            network.eval()(torch.ones(1, *input_shape, dtype=like.dtype, device=like.device))
    finally:
        for hook in hooks:
            hook.remove()
    macs, flops = map(sum, zip(*operations, strict=True))
    return Counts(sum(parameter.numel() for parameter in network.parameters()), macs, flops)


def _operations(module: Any, x: Tensor, y: Tensor) -> tuple[int, int]:
    """Return the macs and flops of one module that mapped ``x`` to ``y``."""
    if isinstance(module, _CONVOLUTIONS):
        taps = module.in_channels // module.groups * math.prod(module.kernel_size)
        macs = y.numel() * (taps + (module.bias is not None))
        return macs, macs
    if isinstance(module, nn.Linear):
        products = y.numel() * module.in_features
        return products + (y.numel() if module.bias is not None else 0), products
    if isinstance(module, _BatchNorm):
        return 0, y.numel() * (2 if module.affine else 1)
    if isinstance(module, _RECTIFIERS):
        return 0, y.numel()
    if isinstance(module, _POOLS):
        kernel = module.kernel_size
        window = kernel ** (y.dim() - 2) if isinstance(kernel, int) else math.prod(kernel)
        return 0, y.numel() * window
    # The window of an adaptive pool depends on the position. torchstat adds one to each side of a window, for the
    # division; the sum over all positions of the products of sides is the product over axes of the sums of sides.
    sides = [_window_sides(old, new) for old, new in zip(x.shape[2:], y.shape[2:], strict=True)]
    return 0, y.shape[0] * y.shape[1] * math.prod(sides)


def _window_sides(old: int, new: int) -> int:
    """Return the sum over ``new`` windows of their sides on an axis of length ``old``, each plus one."""
    return sum(-(-(i + 1) * old // new) - i * old // new + 1 for i in range(new))
