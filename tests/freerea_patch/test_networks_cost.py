"""Costs: worked by hand, and equal to what the benchmarks publish."""

from __future__ import annotations

import csv
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from random import Random

import pytest
import torch
from torch import Tensor, nn

from freerea_patch import SizeSpace, TopologySpace
from freerea_patch.networks import CELLS_A_STAGE, STAGE_WIDTHS, Cell, Cost, cell_operation, network_cost
from freerea_patch.spaces import EDGES, OPERATIONS, all_cells, format_cell, parse_cell

#: ``params`` and ``flop`` (both in millions) of NATS-Bench's three official samples of each space, by data set.
PUBLISHED = {
    ("tss", 0, "cifar10"): (0.129306, 15.64737),
    ("tss", 0, "cifar100"): (0.135156, 15.65322),
    ("tss", 0, "ImageNet16-120"): (0.136456, 3.91948),
    ("tss", 11, "cifar10"): (0.802426, 113.95137),
    ("tss", 11, "cifar100"): (0.808276, 113.95722),
    ("tss", 11, "ImageNet16-120"): (0.809576, 28.49548),
    ("tss", 284, "cifar10"): (0.101306, 11.71521),
    ("tss", 284, "cifar100"): (0.107156, 11.72106),
    ("tss", 284, "ImageNet16-120"): (0.108456, 2.93644),
    ("sss", 0, "cifar10"): (0.011714, 4.481114),
    ("sss", 0, "cifar100"): (0.012524, 4.481924),
    ("sss", 0, "ImageNet16-120"): (0.012704, 1.121336),
    ("sss", 11, "cifar10"): (0.049202, 6.84065),
    ("sss", 11, "cifar100"): (0.052172, 6.84362),
    ("sss", 11, "ImageNet16-120"): (0.052832, 1.71404),
    ("sss", 284, "cifar10"): (0.144834, 21.827994),
    ("sss", 284, "cifar100"): (0.148524, 21.831684),
    ("sss", 284, "ImageNet16-120"): (0.149344, 5.461816),
}


@pytest.mark.parametrize(("space", "index", "dataset"), PUBLISHED)
def test_params_and_macs_equal_those_that_nats_bench_publishes(space: str, index: int, dataset: str) -> None:
    chosen = TopologySpace(dataset) if space == "tss" else SizeSpace(dataset)
    cost = network_cost(chosen.build(chosen.genotypes()[index]), chosen.input_shape)
    assert (cost.params / 1e6, cost.macs / 1e6) == pytest.approx(PUBLISHED[space, index, dataset], rel=1e-12)


def test_flops_follow_the_regression_of_nas_bench_suite_zero() -> None:
    # Fitted to all 9,445 published cells on CIFAR-10: a constant, and so much an operation.
    million = {"nor_conv_1x1": 4.36224, "nor_conv_3x3": 35.81952, "avg_pool_3x3": 1.29024}
    rng = Random(0)
    for _ in range(5):
        space = TopologySpace()
        cell = space.sample(rng)
        expected = 7.943872 + sum(million.get(operation, 0.0) for operation in parse_cell(cell))
        assert network_cost(space.build(cell), space.input_shape).flops / 1e6 == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("layer", "shape", "cost"),
    [
        # 4 x 4 positions, 6 channels out, 3 * 3 * 3 taps, with and without one bias an output
        (nn.Conv2d(3, 6, 3, padding=1), (3, 4, 4), Cost(168, 96 * 28, 96 * 28)),
        (nn.Conv2d(3, 6, 3, padding=1, bias=False), (3, 4, 4), Cost(162, 96 * 27, 96 * 27)),
        # two groups halve the taps; a depthwise convolution has one channel a group
        (nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False), (4, 4, 4), Cost(108, 96 * 18, 96 * 18)),
        (nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), (4, 4, 4), Cost(36, 64 * 9, 64 * 9)),
        (nn.Conv2d(3, 6, (1, 5), stride=2, bias=False), (3, 4, 5), Cost(90, 12 * 15, 12 * 15)),
        (nn.Conv1d(3, 6, 3, bias=False), (3, 10), Cost(54, 48 * 9, 48 * 9)),
        (nn.Conv3d(1, 2, 2, bias=False), (1, 3, 3, 3), Cost(16, 16 * 8, 16 * 8)),
        # a linear layer's bias is among the macs, and not among the flops
        (nn.Linear(5, 7), (5,), Cost(42, 42, 35)),
        (nn.Linear(5, 7, bias=False), (5,), Cost(35, 35, 35)),
        (nn.Linear(5, 7), (2, 5), Cost(42, 84, 70)),
        (nn.BatchNorm2d(3), (3, 4, 4), Cost(6, 0, 96)),
        (nn.BatchNorm2d(3, affine=False), (3, 4, 4), Cost(0, 0, 48)),
        (nn.BatchNorm1d(5), (5,), Cost(10, 0, 10)),
        (nn.ReLU(), (3, 4, 4), Cost(0, 0, 48)),
        (nn.PReLU(), (3, 4, 4), Cost(1, 0, 48)),
        (nn.AvgPool2d(2), (3, 4, 4), Cost(0, 0, 12 * 4)),
        (nn.MaxPool2d((2, 1)), (3, 4, 4), Cost(0, 0, 24 * 2)),
        (nn.MaxPool1d(2), (3, 4), Cost(0, 0, 6 * 2)),
        (nn.AvgPool3d(2), (1, 4, 4, 4), Cost(0, 0, 8 * 8)),
        # windows of 4 x 4, and of 2 x 2 at two by two places; each side counts one more
        (nn.AdaptiveAvgPool2d(1), (3, 4, 4), Cost(0, 0, 3 * 5 * 5)),
        (nn.AdaptiveAvgPool2d(2), (3, 4, 4), Cost(0, 0, 3 * 4 * 3 * 3)),
        # five columns into three: windows 0-1, 1-3, 3-4 have sides 2, 3 and 2
        (nn.AdaptiveMaxPool1d(3), (3, 5), Cost(0, 0, 3 * (3 + 4 + 3))),
        # documented to count zero
        (nn.Sigmoid(), (3, 4, 4), Cost(0, 0, 0)),
        (nn.ConvTranspose2d(3, 6, 3, bias=False), (3, 4, 4), Cost(162, 0, 0)),
    ],
    ids=str,
)
def test_the_cost_of_a_layer_worked_by_hand(layer: nn.Module, shape: tuple[int, ...], cost: Cost) -> None:
    assert network_cost(layer, shape) == cost


def test_a_layer_used_twice_counts_twice_but_has_its_parameters_once() -> None:
    shared = nn.Linear(4, 4)
    assert network_cost(nn.Sequential(shared, nn.ReLU(), shared), (4,)) == Cost(20, 40, 36)


def test_a_layer_that_does_not_run_counts_its_parameters_alone() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)  # type: ignore[no-any-return]

    assert network_cost(Half(), (4,)) == Cost(40, 20, 16)


def test_layers_called_by_keyword_or_with_several_outputs_count() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d(2)
            self.most = nn.MaxPool2d(2, return_indices=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.most(self.pool(input=x))[0]  # type: ignore[no-any-return]

    assert network_cost(Odd(), (1, 4, 4)) == Cost(0, 0, 36 + 4)


def test_double_precision_counts_the_same() -> None:
    space = SizeSpace()
    network = space.build("8:16:24:32:40")
    assert network_cost(network, space.input_shape) == network_cost(network.double(), space.input_shape)


def test_the_network_comes_back_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network_cost(network, (3, 5, 5))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())


def test_the_network_comes_back_as_it_was_after_an_error() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    with pytest.raises(RuntimeError):
        network_cost(network, (2, 5, 5))
    assert network[0].training
    assert not any(module._forward_hooks for module in network.modules())


def column(path: Path, name: str) -> dict[int, float]:
    with open(path) as file:
        return {int(row["index"]): float(row[name]) for row in csv.DictReader(file)}


def counted(indices: range) -> dict[int, tuple[int, int]]:
    """Return the params and flops of cells of the space, each really run at every stage's width.

    A network has its stages' cells five times each, and what is left is that of a cell without operations;
    :func:`test_a_network_costs_what_its_parts_cost` shows that this is the cost of the whole network. To
    save time, one cell a stage gets its edges exchanged, instead of a new cell being made each time.
    """
    torch.set_num_threads(1)
    stages = [
        (Cell(*(nn.Identity() for _ in EDGES)), (width, 32 >> stage, 32 >> stage))
        for stage, width in enumerate(STAGE_WIDTHS)
    ]
    edges = [
        [{name: cell_operation(name, width, width) for name in OPERATIONS} for _ in EDGES] for width in STAGE_WIDTHS
    ]
    skeleton = network_cost(TopologySpace().build(format_cell(["none"] * 6)), (3, 32, 32))
    found = {}
    for index in indices:
        params, flops = skeleton.params, skeleton.flops
        for (cell, shape), choices in zip(stages, edges, strict=True):
            for edge, operation in enumerate(parse_cell(all_cells()[index])):
                cell.edges[edge] = choices[edge][operation]
            cost = network_cost(cell, shape)
            params += CELLS_A_STAGE * cost.params
            flops += CELLS_A_STAGE * cost.flops
        found[index] = (params, flops)
    return found


def test_a_network_costs_what_its_parts_cost() -> None:
    space = TopologySpace()
    parts = counted(range(0, 15_625, 1_000))
    for index in parts:
        whole = network_cost(space.build(all_cells()[index]), space.input_shape)
        assert parts[index] == (whole.params, whole.flops)


@pytest.mark.data
@pytest.mark.slow
def test_params_and_flops_of_the_whole_space_equal_those_published(data_dir: Path) -> None:
    workers = min(2, os.cpu_count() or 1)
    shares = [range(start, 15_625, 8) for start in range(8)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        costs = {index: cost for share in pool.map(counted, shares) for index, cost in share.items()}
    cached = column(data_dir / "freerea_cached_metrics/nats/cifar10/params.csv", "params")
    suite = data_dir / "zero_cost_proxies/nasbench201_cifar10.csv"
    params, flops = column(suite, "params"), column(suite, "flops")
    assert (len(cached), len(params), len(flops)) == (15_625, 9_445, 9_445)
    assert [i for i in cached if round(cached[i] * 1e6) != costs[i][0]] == []
    assert [i for i in params if round(params[i] * 1e6) != costs[i][0]] == []
    assert [i for i in flops if round(flops[i] * 1e6) != costs[i][1]] == []
