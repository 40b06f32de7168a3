"""Convolution and batch norm with faster second derivatives, against PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from freerea_seval.proxies.second_derivatives import PassOptions, batch_norm, convolution

KINDS: list[dict[str, Any]] = [
    {},
    {"padding": 1, "stride": 2},
    {"padding": (2, 1), "dilation": 2, "bias": False},
    {"padding": 1, "groups": 2},
    {"padding": "same"},
    {"padding": 1, "padding_mode": "circular"},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_convolution_and_both_derivatives_are_pytorchs(kind: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, **kind).double()
    for parameter in conv.parameters():
        nn.init.normal_(parameter, generator=generator)
    if conv.bias is not None:
        conv.bias.requires_grad_(False)
    x = torch.randn(2, 4, 7, 6, generator=generator, dtype=torch.float64).requires_grad_()

    def derivatives(function: Callable[[Tensor], Tensor]) -> list[Tensor]:
        y = function(x)
        firsts = torch.autograd.grad((y**3).sum(), (x, conv.weight), create_graph=True)
        both = torch.autograd.grad(firsts[0].sin().sum() + firsts[1].cos().sum(), (x, conv.weight), retain_graph=True)
        one = torch.autograd.grad(firsts[0].sin().sum(), conv.weight)
        return [y.detach(), *(first.detach() for first in firsts), *both, *one]

    ours = derivatives(lambda x: convolution(conv, PassOptions(), x))
    for got, expected in zip(ours, derivatives(conv), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


def test_weights_that_are_not_asked_for_get_no_gradient() -> None:
    conv, options = nn.Conv2d(1, 1, 1), PassOptions(weights=False)
    x = torch.ones(1, 1, 2, 2, requires_grad=True)
    of_x, of_weight = torch.autograd.grad(convolution(conv, options, x).sum(), (x, conv.weight), allow_unused=True)
    assert torch.equal(of_x, conv.weight.detach().expand_as(of_x))
    assert of_weight is None


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
