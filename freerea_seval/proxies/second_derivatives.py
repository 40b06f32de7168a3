"""Batch norm in training mode with a second derivative in a handful of passes, where PyTorch's own takes some twenty.

grasp differentiates gradients. With PyTorch's own second derivative, all proxies of a cell take 1.4 times as long.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def batch_norm(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Normalise ``(n, c, h, w)`` by the statistics of the batch, as ``norm`` does; only ``x`` gets gradients."""
    weight = torch.ones_like(x[0, :, 0, 0]) if norm.weight is None else norm.weight.detach()
    bias = None if norm.bias is None else norm.bias.detach()
    normalised: Tensor = _Normalise.apply(x, weight, bias, norm.eps)  # type: ignore[no-untyped-call]
    return normalised


def _norm_backward(gradient: Tensor, x: Tensor, weight: Tensor, mean: Tensor, scale: Tensor, eps: float) -> Any:
    """Return the gradients of input, weight and bias."""
    mask = [True, True, True]
    return torch.ops.aten.native_batch_norm_backward(gradient, x, weight, None, None, mean, scale, True, eps, mask)


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
        y, mean, scale = torch.ops.aten.native_batch_norm(x, weight, bias, None, None, True, 0.0, eps)
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.eps = eps
        return y  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _NormGradient.apply(gradient, *ctx.saved_tensors, ctx.eps), None, None, None  # type: ignore[no-untyped-call]


class _NormGradient(torch.autograd.Function):
    """``w s (g - mean(g) - z mean(g z))``, with s one over the deviation and z the normalised input."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, x: Tensor, weight: Tensor, mean: Tensor, scale: Tensor, eps: float) -> Any:
        of_input, of_weight, of_bias = _norm_backward(gradient, x, weight, mean, scale, eps)
        ctx.save_for_backward(gradient, x, weight, mean, scale, of_weight, of_bias)
        ctx.eps = eps
        return of_input

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> Any:
        g, x, weight, mean, scale, g_z, g_sum = ctx.saved_tensors
        # The map from g to the result is its own transpose.
        of_gradient, v_z, v_sum = _norm_backward(v, x, weight, mean, scale, ctx.eps)
        count = x.numel() // x.shape[1]
        a, b, v_mean, g_mean = v_z / count, g_z / count, v_sum / count, g_sum / count
        c = (v * g).sum(dim=(0, 2, 3)) / count
        # d/dx of <v, result>, by ds/dx = -s^2 z / m and dz/dx = s (1 - 1/m - z z / m), collected by v, g and x.
        factor = -weight * scale.square()
        of_z = factor * (c - v_mean * g_mean - 3 * a * b) * scale
        constant = -factor * (b * v_mean + a * g_mean) - of_z * mean
        of_x = torch.addcmul(_per_channel(constant), x, _per_channel(of_z))
        of_x.addcmul_(v, _per_channel(factor * b)).addcmul_(g, _per_channel(factor * a))
        return of_gradient, of_x, None, None, None, None


def _per_channel(channels: Tensor) -> Tensor:
    return channels[:, None, None]
