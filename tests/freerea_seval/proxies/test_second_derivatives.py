"""Batch norm with a faster second derivative, against PyTorch's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from freerea_seval.proxies.second_derivatives import batch_norm


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_batch_norm_and_both_derivatives_are_pytorchs(affine: bool, layout: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    norm = nn.BatchNorm2d(5, affine=affine).double()
    for parameter in norm.parameters():
        nn.init.normal_(parameter, generator=generator)
        parameter.requires_grad_(False)
    x, along = (torch.randn(4, 5, 3, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    x = x.to(memory_format=layout).requires_grad_()

    def derivatives(function: Callable[[Tensor], Tensor]) -> list[Tensor]:
        y = function(x)
        (first,) = torch.autograd.grad((y.sin() * along + y**3).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad((first * along.cos()).sum(), x)
        return [y.detach(), first.detach(), second]

    ours = derivatives(lambda x: batch_norm(norm, x))
    for got, expected in zip(ours, derivatives(norm), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
