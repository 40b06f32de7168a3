"""Quick forward passes against the modules' own."""

from __future__ import annotations

from random import Random

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from freerea_patch.networks import Cell, Zero, cell_operation, initialise, relu_conv_bn
from freerea_patch.spaces import OPERATIONS
from freerea_patch.training_free.metrics import Forward, batch_statistics, cell_forward, depthwise, replace_forwards


def cell(operations: list[str], seed: int = 0) -> Cell:
    made = Cell(*(cell_operation(name, 4, 4) for name in operations)).double()
    initialise(made, torch.Generator().manual_seed(seed))
    return made


def images() -> Tensor:
    return torch.randn(3, 4, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def calls(made: Cell, forward: Forward, kind: type[nn.Module]) -> list[Tensor]:
    """Return the inputs of a cell's modules of one kind in one forward pass, in an order of their own."""
    found: list[Tensor] = []
    modules = [module for module in made.modules() if type(module) is kind]
    hooks = [module.register_forward_pre_hook(lambda m, args: found.append(args[0].clone())) for module in modules]
    forward(images())
    for hook in hooks:
        hook.remove()
    return sorted(found, key=lambda x: x.sum().item())


def quick(made: Cell) -> Forward:
    forward = cell_forward(made)
    assert forward is not None
    return forward


@pytest.mark.parametrize("bias", [0.0, 0.5])
@pytest.mark.parametrize("seed", range(60))
def test_a_quick_cell_gives_what_a_cell_gives_and_calls_its_relus_alike(seed: int, bias: float) -> None:
    made = cell(Random(seed).choices([*OPERATIONS, "none"], k=6), seed)
    for norm in made.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.bias.data.fill_(bias)
    x = images()
    torch.testing.assert_close(quick(made)(x), made(x), rtol=0, atol=1e-12)
    assert torch.equal(x, images())
    plain, few = (calls(made, forward, nn.ReLU) for forward in (made, quick(made)))
    assert len(plain) == len(few)
    for expected, found in zip(plain, few, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_convolutions_that_nothing_reads_or_that_see_only_zeros_do_not_run() -> None:
    unread = ["skip_connect", "nor_conv_3x3", "nor_conv_3x3", "skip_connect", "none", "none"]
    assert len(calls(cell(unread), quick(cell(unread)), nn.Conv2d)) == 0
    zeros = ["none", "nor_conv_1x1", "nor_conv_3x3", "skip_connect", "nor_conv_3x3", "skip_connect"]
    made = cell(zeros)
    assert len(calls(made, quick(made), nn.Conv2d)) == 1
    assert len(calls(made, made, nn.Conv2d)) == 3


def test_zeros_that_a_bias_lifts_count() -> None:
    made = cell(["none", "none", "nor_conv_3x3", "none", "none", "skip_connect"])
    assert not quick(made)(images()).any()
    made.edges[2][2].bias.data.fill_(1.0)  # type: ignore[index]
    assert (quick(made)(images()) == 1).all()


def test_a_cell_with_edges_of_ones_own_is_left_alone() -> None:
    edges = [Zero() for _ in range(5)]
    assert cell_forward(Cell(*edges, nn.Tanh())) is None
    assert cell_forward(Cell(*edges, nn.Sequential(relu_conv_bn(4, 4, 3), nn.ReLU()))) is None


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (8, 8)])
def test_depthwise_pooling_equals_pooling(size: tuple[int, int], layout: torch.memory_format) -> None:
    pool = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    x = torch.randn(2, 8, *size, generator=torch.Generator().manual_seed(0)).to(memory_format=layout)
    forward = depthwise(pool)
    assert forward is not None
    for _ in range(2):
        torch.testing.assert_close(forward(x), pool(x))
    torch.testing.assert_close(forward(x[0]), pool(x[0]))


@pytest.mark.parametrize("pool", [nn.AvgPool2d(2), nn.AvgPool2d(3, 1, 1), nn.AvgPool2d(3, 2, 1)])
def test_other_pooling_is_left_alone(pool: nn.AvgPool2d) -> None:
    assert depthwise(pool) is None


def test_batch_norm_by_the_batch_leaves_its_statistics() -> None:
    norm = nn.BatchNorm2d(4).double()
    expected = F.batch_norm(images(), None, None, norm.weight, norm.bias, training=True)
    assert torch.equal(batch_statistics(norm)(images()), expected)
    assert norm.running_mean is not None
    assert not norm.running_mean.any()


def test_a_forward_pass_returns_after_an_error_also_one_that_was_hidden_already() -> None:
    plain, hidden = nn.ReLU(), nn.ReLU()
    hidden.__dict__["forward"] = forward = lambda x: x
    with pytest.raises(KeyError, match=r"\(-1\.0, -1\.0\)"), replace_forwards({plain: torch.neg, hidden: torch.neg}):
        raise KeyError(plain(torch.ones(1)).item(), hidden(torch.ones(1)).item())
    assert "forward" not in plain.__dict__
    assert hidden.__dict__["forward"] is forward
