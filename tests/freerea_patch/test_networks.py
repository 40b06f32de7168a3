"""The networks of both spaces: shapes, and the wiring of a cell."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import torch
from torch import nn

from freerea_patch import SizeSpace, TopologySpace
from freerea_patch.networks import Cell, ResidualBlock, cell_operation
from freerea_patch.networks import cell as make_cell
from freerea_patch.spaces import OPERATIONS

DATASETS = ("cifar10", "cifar100", "ImageNet16-120")


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("make", [TopologySpace, SizeSpace])
def test_a_network_maps_images_to_one_output_a_class(make: type[TopologySpace] | type[SizeSpace], dataset: str) -> None:
    space = make(dataset)
    network = space.build(space.sample(Random(0)))
    with torch.no_grad():
        assert network(torch.randn(2, *space.input_shape)).shape == (2, space.classes)


@pytest.mark.parametrize("seed", range(5))
def test_a_cell_sums_its_edges_at_every_node(seed: int) -> None:
    generator = torch.manual_seed(seed)
    cell: Any = make_cell(Random(seed).choices(OPERATIONS, k=6), 8, 8).build()
    e01, e02, e12, e03, e13, e23 = cell.edges
    x = torch.randn(2, 8, 5, 5, generator=generator)
    with torch.no_grad():
        n1 = e01(x)
        n2 = e02(x) + e12(n1)
        n3 = e03(x) + e13(n1) + e23(n2)
        torch.testing.assert_close(cell(x), n3)


def test_edges_from_the_input_change_the_width_and_the_others_keep_it() -> None:
    operations = ["nor_conv_3x3", "skip_connect", "nor_conv_1x1", "skip_connect", "skip_connect", "skip_connect"]
    cell: Any = make_cell(operations, 8, 16).build()
    with torch.no_grad():
        assert cell(torch.randn(2, 8, 5, 5)).shape == (2, 16, 5, 5)
    assert [isinstance(edge, nn.Identity) for edge in cell.edges] == [False, False, False, False, True, True]


def test_a_skip_between_widths_is_a_projection_without_relu() -> None:
    skip = cell_operation("skip_connect", 8, 16)
    assert [type(module) for module in skip.children()] == [nn.Conv2d, nn.BatchNorm2d]


def test_none_gives_zeros_but_keeps_the_gradient_path() -> None:
    x = torch.ones(1, 2, 3, 3, requires_grad=True)
    y = cell_operation("none", 2, 2)(x)
    y.sum().backward()
    assert not y.detach().any()
    assert x.grad is not None
    assert not x.grad.any()


def test_pooling_does_not_count_the_padding() -> None:
    x = torch.ones(1, 2, 4, 4)
    torch.testing.assert_close(cell_operation("avg_pool_3x3", 2, 2)(x), x)


@pytest.mark.parametrize("operation", ["none", "avg_pool_3x3"])
def test_an_operation_that_cannot_change_the_width_says_so(operation: str) -> None:
    with pytest.raises(ValueError, match=f"{operation} cannot change the width from 8 to 16"):
        cell_operation(operation, 8, 16)


def test_an_unknown_operation_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown operation 'max_pool'"):
        cell_operation("max_pool", 8, 8)


def test_a_residual_block_halves_the_image() -> None:
    block = ResidualBlock(4, 6)
    x = torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(block(x), block.body(x) + block.shortcut(x))
        assert block(x).shape == (2, 6, 4, 4)


def test_the_topology_network_has_fifteen_cells_and_two_blocks() -> None:
    network = TopologySpace().build(TopologySpace().sample(Random(0)))
    kinds = [type(layer).__name__ for layer in network.children()]
    assert kinds.count("Cell") == 15
    assert [i for i, kind in enumerate(kinds) if kind == "ResidualBlock"] == [6, 12]


def test_the_size_network_alternates_cells_and_blocks() -> None:
    network = SizeSpace().build("8:16:24:32:40")
    layers = [layer for layer in network.children() if isinstance(layer, (Cell, ResidualBlock))]
    assert [type(layer) for layer in layers] == [Cell, ResidualBlock, Cell, ResidualBlock, Cell]
    assert list(network.modules())[-1].in_features == 40
