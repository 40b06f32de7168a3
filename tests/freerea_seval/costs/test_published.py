"""Costs: worked by hand, and equal to what the benchmarks publish."""

from __future__ import annotations

import csv
from pathlib import Path
from random import Random

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from freerea_patch import FBNetSpace, InputError, SizeSpace, TopologySpace
from freerea_patch.fbnet import BLOCKS, STAGES, format_blocks, parse_blocks
from freerea_patch.networks import CELLS_A_STAGE, STAGE_WIDTHS, cell_operation
from freerea_patch.spaces import OPERATIONS, all_cells, format_cell, parse_cell
from freerea_seval.costs import Counts, SpaceCosts, network_counts

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


def count(network: nn.Module, shape: tuple[int, ...]) -> Counts:
    """Return the counts of a network for one input."""
    like = next(network.parameters(), torch.empty(0))
    return network_counts(network, [torch.ones(1, *shape, dtype=like.dtype)])


@pytest.mark.parametrize(("space", "index", "dataset"), PUBLISHED)
def test_params_and_macs_equal_those_that_nats_bench_publishes(space: str, index: int, dataset: str) -> None:
    chosen = TopologySpace(dataset) if space == "tss" else SizeSpace(dataset)
    cost = count(chosen.build(chosen.genotypes()[index]), chosen.input_shape)
    assert (cost.params / 1e6, cost.macs / 1e6) == pytest.approx(PUBLISHED[space, index, dataset], rel=1e-12)
    assert SpaceCosts(chosen).counts(chosen.genotypes()[index]) == cost


#: The blocks of FBNet's three networks, as Facebook's public code mobile-vision has them (fbnet_modeldef_cls_fbnet.py).
FBNETS = {
    "A": format_blocks("8208872427657356177677"),
    "B": format_blocks("0340076377786704674773"),
    "C": format_blocks("0380076737677777677773"),
}


@pytest.mark.parametrize(("network", "millions"), [("A", 249), ("B", 295), ("C", 375)])
def test_fbnets_have_the_published_multiply_adds(network: str, millions: int) -> None:
    # The publication's last convolution has 1504 channels instead of 1984, each with 352 inputs at 7 x 7 positions, and
    # 1000 weights in the classifier. The remaining 0.3% to 0.9% are more than rounding: for blocks of FBNet-B and
    # FBNet-C, comments in the public code name other ones.
    macs = SpaceCosts(FBNetSpace("imagenet")).counts(FBNETS[network]).macs - (1984 - 1504) * (352 * 7 * 7 + 1000)
    assert macs / 1e6 == pytest.approx(millions, rel=0.01)


def test_fbnet_c_has_the_published_parameters() -> None:
    # timm's documentation of fbnetc_100, whose last convolution has 1984 channels: 5.57 million.
    assert round(SpaceCosts(FBNetSpace("imagenet")).counts(FBNETS["C"]).params / 1e6, 2) == 5.57


@pytest.mark.parametrize("dataset", ["cifar100", "imagenet"])
@pytest.mark.parametrize("genotype", [*FBNETS.values(), FBNetSpace().sample(Random(5)), FBNetSpace().sample(Random(6))])
def test_costs_of_fbnets_are_those_of_a_formula(dataset: str, genotype: str) -> None:
    space = FBNetSpace(dataset)
    # Of every convolution: outputs, weights an output, side of the result; batch norms have two parameters an output.
    side, head = (112, 1984) if dataset == "imagenet" else (32, 1504)
    convolutions, c_in, layers = [(16, 27, side)], 16, iter(parse_blocks(genotype))
    strides = (1, 2 if dataset == "imagenet" else 1, 2, 2, 1, 2, 1)
    for (c_out, repeats), stride in zip(STAGES, strides, strict=True):
        for layer in range(repeats):
            block, before = BLOCKS[next(layers)], side
            side //= 1 if layer else stride
            if block is not None:
                width = c_in * block.expansion
                convolutions += [
                    (width, c_in // block.groups, before),
                    (width, block.kernel**2, side),
                    (c_out, width // block.groups, side),
                ]
            elif (c_in, before) != (c_out, side):
                convolutions.append((c_out, c_in, side))
            c_in = c_out
    convolutions.append((head, 352, side))
    cost = SpaceCosts(space).counts(genotype)
    assert cost.params == sum(n * (weights + 2) for n, weights, _ in convolutions) + (head + 1) * space.classes
    assert cost.macs == sum(n * weights * s * s for n, weights, s in convolutions) + (head + 1) * space.classes


def test_flops_follow_the_regression_of_nas_bench_suite_zero() -> None:
    # Fitted to all 9,445 published cells on CIFAR-10: a constant, and so much an operation.
    million = {"nor_conv_1x1": 4.36224, "nor_conv_3x3": 35.81952, "avg_pool_3x3": 1.29024}
    rng = Random(0)
    for _ in range(5):
        space = TopologySpace()
        cell = space.sample(rng)
        expected = 7.943872 + sum(million.get(operation, 0.0) for operation in parse_cell(cell))
        assert count(space.build(cell), space.input_shape).flops / 1e6 == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("layer", "shape", "cost"),
    [
        # 4 x 4 positions, 6 channels out, 3 * 3 * 3 taps, with and without one bias an output
        (nn.Conv2d(3, 6, 3, padding=1), (3, 4, 4), Counts(168, 96 * 28, 96 * 28)),
        (nn.Conv2d(3, 6, 3, padding=1, bias=False), (3, 4, 4), Counts(162, 96 * 27, 96 * 27)),
        # two groups halve the taps; a depthwise convolution has one channel a group
        (nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False), (4, 4, 4), Counts(108, 96 * 18, 96 * 18)),
        (nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), (4, 4, 4), Counts(36, 64 * 9, 64 * 9)),
        (nn.Conv2d(3, 6, (1, 5), stride=2, bias=False), (3, 4, 5), Counts(90, 12 * 15, 12 * 15)),
        (nn.Conv1d(3, 6, 3, bias=False), (3, 10), Counts(54, 48 * 9, 48 * 9)),
        (nn.Conv3d(1, 2, 2, bias=False), (1, 3, 3, 3), Counts(16, 16 * 8, 16 * 8)),
        # a linear layer's bias is among the macs; torchstat's flops are 35 without it, and 2 an output for the norm
        (nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7)), (5,), Counts(56, 42, 35 + 14)),
        (nn.Linear(5, 7), (5,), Counts(42, 42, 42)),
        (nn.Linear(5, 7, bias=False), (5,), Counts(35, 35, 35)),
        (nn.Linear(5, 7), (2, 5), Counts(42, 84, 84)),
        (nn.BatchNorm2d(3), (3, 4, 4), Counts(6, 0, 96)),
        (nn.BatchNorm2d(3, affine=False), (3, 4, 4), Counts(0, 0, 48)),
        (nn.BatchNorm1d(5), (5,), Counts(10, 0, 10)),
        (nn.ReLU(), (3, 4, 4), Counts(0, 0, 48)),
        (nn.PReLU(), (3, 4, 4), Counts(1, 0, 48)),
        (nn.AvgPool2d(2), (3, 4, 4), Counts(0, 0, 12 * 4)),
        (nn.MaxPool2d((2, 1)), (3, 4, 4), Counts(0, 0, 24 * 2)),
        (nn.MaxPool1d(2), (3, 4), Counts(0, 0, 6 * 2)),
        (nn.AvgPool3d(2), (1, 4, 4, 4), Counts(0, 0, 8 * 8)),
        # windows of 4 x 4, and of 2 x 2 at two by two places; each side counts one more
        (nn.AdaptiveAvgPool2d(1), (3, 4, 4), Counts(0, 0, 3 * 5 * 5)),
        (nn.AdaptiveAvgPool2d(2), (3, 4, 4), Counts(0, 0, 3 * 4 * 3 * 3)),
        # five columns into three: windows 0-1, 1-3, 3-4 have sides 2, 3 and 2
        (nn.AdaptiveMaxPool1d(3), (3, 5), Counts(0, 0, 3 * (3 + 4 + 3))),
        # what torchstat lacks counts alike: a transposed convolution has its taps an input, norms 2, activations 1
        (nn.ConvTranspose2d(3, 6, 3, bias=False), (3, 4, 4), Counts(162, 48 * 54, 48 * 54)),
        (nn.LayerNorm(4), (3, 4), Counts(8, 0, 24)),
        (nn.GroupNorm(1, 3), (3, 4, 4), Counts(6, 0, 96)),
        (nn.InstanceNorm2d(3), (3, 4, 4), Counts(0, 0, 48)),
        *((activation(), (3, 4, 4), Counts(0, 0, 48)) for activation in (nn.Sigmoid, nn.GELU, nn.Hardswish, nn.SiLU)),
        (nn.Softmax(-1), (3, 4, 4), Counts(0, 0, 48)),
        # sums and moves of data count zero
        (nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Identity()), (3, 4), Counts(0, 0, 0)),
    ],
    ids=str,
)
def test_the_cost_of_a_layer_worked_by_hand(layer: nn.Module, shape: tuple[int, ...], cost: Counts) -> None:
    assert count(layer, shape) == cost


def test_a_layer_used_twice_counts_twice_but_has_its_parameters_once() -> None:
    shared = nn.Linear(4, 4)
    assert count(nn.Sequential(shared, nn.ReLU(), shared), (4,)) == Counts(20, 40, 40)


def test_a_layer_that_does_not_run_counts_its_parameters_alone() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)  # type: ignore[no-any-return]

    assert count(Half(), (4,)) == Counts(40, 20, 20)


def test_layers_called_by_keyword_or_with_several_outputs_count() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d(2)
            self.most = nn.MaxPool2d(2, return_indices=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.most(self.pool(input=x))[0]  # type: ignore[no-any-return]

    assert count(Odd(), (1, 4, 4)) == Counts(0, 0, 36 + 4)


class SmallTransformer(nn.Module):
    """Patches of 4 x 4 of an image of 16 x 16, a layer of attention, a classifier."""

    def __init__(self, need_weights: bool) -> None:
        super().__init__()
        self.need_weights = need_weights
        self.patches = nn.Conv2d(3, 32, 4, 4)
        self.norm = nn.LayerNorm(32)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.patches(x).flatten(2).transpose(1, 2))
        x = self.attention(x, x, x, need_weights=self.need_weights)[0]
        return self.head(x.mean(dim=1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("need_weights", [True, False])
def test_attention_is_counted(need_weights: bool) -> None:
    network = SmallTransformer(need_weights).eval()
    products = 16 * 32 * 48 + 16 * 32 * 96 + 2 * 16 * 16 * 32 + 16 * 32 * 32 + 32 * 10
    biases = 16 * 32 + 16 * 96 + 16 * 32 + 10
    counts = count(network, (3, 16, 16))
    assert counts.macs == products + biases
    assert counts.flops >= counts.macs
    with FlopCounterMode(display=False) as counter:
        network(torch.ones(1, 3, 16, 16))
    if need_weights:  # FlopCounterMode does not know the fused kernel of every version
        assert counter.get_total_flops() == 2 * products


def test_functions_and_operators_count_as_modules_do() -> None:
    class Functions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(6, 3, 3, 3))

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(nn.functional.conv2d(x, self.weight))
            return x.flatten(2) @ x.flatten(2).transpose(1, 2)

    assert count(Functions(), (3, 4, 4)) == Counts(162, 24 * 27 + 36 * 4, 24 * 27 + 24 + 36 * 4)


def test_double_precision_counts_the_same() -> None:
    space = SizeSpace()
    network = space.build("8:16:24:32:40")
    assert count(network, space.input_shape) == count(network.double(), space.input_shape)


def test_the_network_comes_back_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    count(network, (3, 5, 5))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert network.training


def test_the_network_comes_back_as_it_was_after_an_error() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    with pytest.raises(InputError, match="cannot run on inputs of shape 1x2x5x5"):
        count(network, (2, 5, 5))
    assert network[0].training


def column(path: Path, name: str) -> dict[int, float]:
    with open(path) as file:
        return {int(row["index"]): float(row[name]) for row in csv.DictReader(file)}


def counted() -> dict[int, tuple[int, int]]:
    """Return the params and flops of all cells of the space.

    A network has its stages' cells five times each, and costs what one without operations costs and its operations;
    :func:`test_a_network_costs_what_its_parts_cost` shows that this is the cost of the whole network.
    """
    skeleton = count(TopologySpace().build(format_cell(["none"] * 6)), (3, 32, 32))
    operations = {}
    for name in OPERATIONS:
        costs = [
            count(cell_operation(name, width, width), (width, 32 >> stage, 32 >> stage))
            for stage, width in enumerate(STAGE_WIDTHS)
        ]
        operations[name] = [CELLS_A_STAGE * sum(cost[field] for cost in costs) for field in (0, 2)]
    return {
        index: (
            skeleton.params + sum(operations[name][0] for name in parse_cell(cell)),
            skeleton.flops + sum(operations[name][1] for name in parse_cell(cell)),
        )
        for index, cell in enumerate(all_cells())
    }


def test_a_network_costs_what_its_parts_cost() -> None:
    space, costs = TopologySpace(), counted()
    for index in range(0, 15_625, 1_000):
        whole = count(space.build(all_cells()[index]), space.input_shape)
        assert costs[index] == (whole.params, whole.flops)


@pytest.mark.data
def test_params_and_flops_of_the_whole_space_equal_those_published(data_dir: Path) -> None:
    costs = counted()
    cached = column(data_dir / "freerea_cached_metrics/nats/cifar10/params.csv", "params")
    suite = data_dir / "zero_cost_proxies/nasbench201_cifar10.csv"
    params, flops = column(suite, "params"), column(suite, "flops")
    assert (len(cached), len(params), len(flops)) == (15_625, 9_445, 9_445)
    assert [i for i in cached if round(cached[i] * 1e6) != costs[i][0]] == []
    assert [i for i in params if round(params[i] * 1e6) != costs[i][0]] == []
    assert [i for i in flops if round(flops[i] * 1e6) != costs[i][1]] == []
