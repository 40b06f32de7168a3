"""Memory of a space's networks, by parts and of whole networks."""

from __future__ import annotations

from random import Random

import pytest
import torch
from torch import nn

from freerea_patch import InputError, SearchSpace, SizeSpace, TopologySpace
from freerea_seval.costs import SpaceCosts, network_costs
from tests.freerea_seval.strings.example_spaces import Bare, Parted, chain, conv, layer, residual

BATCH = 3


def naive(space: SearchSpace, genotype: str) -> tuple[int, int, float]:
    """Build the whole network and trace it."""
    one, many = (
        network_costs(space.build(genotype), [torch.zeros(n, *space.input_shape)], optimiser="adam") for n in (1, BATCH)
    )
    return one.activation_bytes, one.peak_inference_bytes, many.peak_training_bytes


def by_parts(space: SearchSpace, genotype: str) -> tuple[int, int, int]:
    costs = SpaceCosts(space, BATCH, "adam")
    return costs.activations(genotype), costs.inference_memory(genotype), costs.training_memory(genotype)


@pytest.mark.parametrize("space", [TopologySpace(), SizeSpace()], ids=["topology", "size"])
def test_parts_give_what_the_whole_network_gives(space: SearchSpace) -> None:
    rng = Random(0)
    for _ in range(3):
        genotype = space.sample(rng)
        assert by_parts(space, genotype) == naive(space, genotype), genotype


def test_work_in_place_dropout_and_buffers_are_seen_in_parts() -> None:
    block = residual(chain(conv(3, 3), layer("bn", nn.BatchNorm2d, 3), layer("relu in place", nn.ReLU, inplace=True)))
    space = Parted(it=chain(conv(3, 3), block, layer("dropout", nn.Dropout), conv(3, 3)))
    assert by_parts(space, "it") == naive(space, "it")
    built = len(space.built)
    by_parts(space, "it")
    assert len(space.built) == built, "no network was built"


def test_a_space_without_parts_builds_its_networks() -> None:
    space = Bare({"it": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())})
    assert by_parts(space, "it") == naive(space, "it")


def test_a_network_that_cannot_run_is_named() -> None:
    space = Bare({"it": lambda: nn.Conv2d(4, 4, 3)})
    with pytest.raises(InputError, match="network 'it': the network cannot run on inputs of shape 1x3x8x8"):
        SpaceCosts(space).inference_memory("it")


def test_a_network_that_cannot_train_on_images_alone_is_named() -> None:
    class Inference(nn.Conv2d):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            if self.training:
                raise ValueError("targets should not be none when in training mode")
            return super().forward(input)

    costs = SpaceCosts(Bare({"it": lambda: Inference(3, 4, 3)}))
    assert costs.inference_memory("it") > 0
    with pytest.raises(InputError, match="network 'it' runs in evaluation mode only; its training needs more than"):
        costs.training_memory("it")
