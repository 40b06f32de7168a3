"""Convolution whose second derivative is made of convolutions as quick as those of the first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass
class Asked:
    """What the next backward pass is for, as a function of one's own is not told that nobody asks for a gradient."""

    weights: bool = True


def twice_differentiable(conv: nn.Conv2d, asked: Asked, x: Tensor) -> Tensor:
    """Convolve ``(n, c, h, w)`` as ``conv`` does; its bias gets no gradient.

    PyTorch's own second derivative convolves with kernels as large as the images, which takes three times as long.
    """
    if isinstance(conv.padding, str) or conv.padding_mode != "zeros" or x.dim() != 4:
        return type(conv).forward(conv, x)
    bias = None if conv.bias is None else conv.bias.detach()
    convolved: Tensor = _Convolve.apply(x, conv.weight, bias, conv, asked)  # type: ignore[no-untyped-call]
    return convolved


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, conv: nn.Conv2d) -> Tensor:
    return functional.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def _backward(gradient: Tensor, x: Tensor, weight: Tensor, conv: nn.Conv2d, of_x: bool, of_weight: bool) -> Any:
    """Return the gradients of input and weight that are asked for, None for the other."""
    kind = (conv.stride, conv.padding, conv.dilation, False, [0, 0], conv.groups)
    mask = [of_x, of_weight, False]
    return torch.ops.aten.convolution_backward(gradient, x, weight, None, *kind, mask)[:2]


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, conv: nn.Conv2d, asked: Asked) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.conv, ctx.asked = conv, asked
        return _convolve(x, weight, bias, conv)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        of_x, of_weight, *_ = ctx.needs_input_grad
        wanted = (of_x, of_weight and ctx.asked.weights)
        gradients = _Gradients.apply(gradient, *ctx.saved_tensors, ctx.conv, *wanted)  # type: ignore[no-untyped-call]
        return *gradients, None, None, None


class _Gradients(torch.autograd.Function):
    """Both gradients of a convolution, each of them linear in the gradient that comes in."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, x: Tensor, weight: Tensor, conv: nn.Conv2d, *wanted: bool) -> Any:
        ctx.save_for_backward(gradient, x, weight)
        ctx.conv = conv
        ctx.set_materialize_grads(False)
        return _backward(gradient, x, weight, conv, *wanted)

    @staticmethod
    def backward(ctx: Any, v_x: Tensor | None, v_weight: Tensor | None) -> Any:
        gradient, x, weight = ctx.saved_tensors
        of_gradient = of_x = of_weight = None
        if v_x is not None:
            of_gradient = _convolve(v_x, weight, None, ctx.conv)
            _, of_weight = _backward(gradient, v_x, weight, ctx.conv, False, True)
        if v_weight is not None:
            also = _convolve(x, v_weight, None, ctx.conv)
            of_gradient = also if of_gradient is None else of_gradient + also
            of_x, _ = _backward(gradient, x, v_weight, ctx.conv, True, False)
        return of_gradient, of_x, of_weight, None, None, None
