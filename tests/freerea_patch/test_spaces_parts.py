"""Networks as parts: when two are the same, and what they build."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

import pytest
import torch
from torch import nn

from freerea_patch import Part, SizeSpace, TopologySpace
from freerea_patch.networks import Cell, ResidualBlock

RELU, TANH = Part("relu", nn.ReLU), Part("tanh", nn.Tanh)


def chain(*parts: Part) -> Part:
    return Part("chain", nn.Sequential, parts)


def test_parts_are_the_same_if_their_keys_are_all_the_way_down() -> None:
    one, same = chain(RELU, chain(TANH)), chain(Part("relu", partial(nn.ReLU)), chain(TANH))
    assert one.identity == same.identity
    assert hash(one.identity) == hash(same.identity)
    others = [chain(TANH, chain(RELU)), chain(RELU, TANH), chain(chain(RELU), TANH), chain(RELU), RELU, chain()]
    assert len({part.identity for part in (one, *others)}) == len(others) + 1


def test_a_part_without_parts_is_its_key() -> None:
    assert RELU.identity == "relu"
    assert Part(("conv", 3, 8), nn.ReLU).identity == ("conv", 3, 8)


def test_a_part_is_built_from_its_parts() -> None:
    network: Any = chain(RELU, chain(TANH, RELU), chain()).build()
    assert str(network) == str(nn.Sequential(nn.ReLU(), nn.Sequential(nn.Tanh(), nn.ReLU()), nn.Sequential()))


def test_a_part_that_occurs_twice_is_built_twice_with_weights_of_its_own() -> None:
    linear = Part("linear", partial(nn.Linear, 4, 4))
    network: Any = chain(linear, linear).build()
    assert network[0] is not network[1]
    assert not torch.equal(network[0].weight, network[1].weight)
    assert sum(parameter.numel() for parameter in network.parameters()) == 40


@pytest.mark.parametrize("space", [TopologySpace(), SizeSpace(), TopologySpace("ImageNet16-120")])
def test_a_space_builds_the_network_of_its_parts(space: TopologySpace | SizeSpace) -> None:
    genotype = space.sample(Random(1))
    torch.manual_seed(0)
    whole = space.build(genotype).eval()
    torch.manual_seed(0)
    parts = space.parts(genotype).build().eval()
    images = torch.rand(2, *space.input_shape)
    with torch.no_grad():
        assert torch.equal(whole(images), parts(images))
    assert isinstance(whole, nn.Sequential)


def test_the_cells_of_a_stage_are_one_part() -> None:
    parts = TopologySpace().parts(TopologySpace().sample(Random(2))).parts
    assert [part.key[0] if isinstance(part.key, tuple) else part.key for part in parts] == [
        *("stem", *["cell"] * 5, "ResidualBlock", *["cell"] * 5, "ResidualBlock", *["cell"] * 5, "head")
    ]
    assert len({part.identity for part in parts}) == 4 + 3
    assert [type(part.build()) for part in parts[5:8]] == [Cell, ResidualBlock, Cell]


def test_cells_of_equal_widths_are_one_part_in_the_size_space() -> None:
    parts = SizeSpace().parts("8:8:8:8:8").parts
    assert len(parts) == 7
    assert len({part.identity for part in parts}) == 4  # stem, cell, block, head
    parts = SizeSpace().parts("8:16:24:32:40").parts
    assert len({part.identity for part in parts}) == 7


@pytest.mark.parametrize("space", [TopologySpace(), SizeSpace()])
def test_parts_of_one_identity_have_the_same_parameters(space: TopologySpace | SizeSpace) -> None:
    known: dict[object, list[tuple[int, ...]]] = {}
    for seed in range(4):
        for part in space.parts(space.sample(Random(seed))).parts:
            shapes = [tuple(parameter.shape) for parameter in part.build().parameters()]
            assert known.setdefault(part.identity, shapes) == shapes


def test_networks_of_different_genotypes_are_different_parts() -> None:
    for space in (TopologySpace(), SizeSpace()):
        genotypes = list(space.genotypes()[:300])
        assert len({space.parts(genotype).identity for genotype in genotypes}) == 300
