"""AZ-NAS: against a naive twin, and which modules are blocks."""

from __future__ import annotations

import copy
import math
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from freerea_patch import FBNetSpace
from freerea_seval.proxies.az_nas import NoiseFeatures, blocks, expressivity, progressivity
from freerea_seval.proxies.compute import zero_cost_proxies
from tests.freerea_seval.proxies.networks import NETWORKS, Block, build, images, redrawn, with_batch_statistics

NAMES = ("expressivity", "progressivity", "trainability")


def vectors(feature: Tensor) -> Tensor:
    """Return the vectors of all positions, one after the other."""
    if feature.dim() == 3:
        return torch.stack([token for image in feature for token in image])
    return torch.stack(
        [image[:, i, j] for image in feature for i in range(image.shape[1]) for j in range(image.shape[2])]
    )


def naive(network: Any, seed: int) -> dict[str, float]:
    """Return the metrics of a network, by their formulas alone."""
    generator = torch.Generator().manual_seed(seed)
    twin = with_batch_statistics(redrawn(copy.deepcopy(network), generator))
    features = twin.features(torch.randn(4, 3, 8, 8, generator=generator, dtype=torch.float64))
    entropies = []
    for feature in features:
        values = np.linalg.eigvalsh(np.cov(vectors(feature.detach()).numpy().T, bias=True)).clip(0)
        shares = values / values.sum()
        entropies.append(float(-(shares * np.log(shares + 1e-8)).sum()))
    scores = []
    for i in range(len(features) - 1, 0, -1):
        chance = torch.full(features[i].shape, 0.5)
        signs = torch.bernoulli(chance, generator=generator).double() * 2 - 1
        (gradient,) = torch.autograd.grad(features[i], features[i - 1], signs, retain_graph=True)
        if gradient.dim() == 4 and gradient.shape[2] > signs.shape[2]:
            gradient = nn.PixelUnshuffle(2)(gradient)
        rows, columns = vectors(gradient), vectors(signs)
        products = [torch.outer(row, column) for row, column in zip(rows, columns, strict=True)]
        mean = torch.stack(products).mean(dim=0)
        largest = float(torch.linalg.svdvals(mean)[0])
        scores.append(2 - largest - 1 / (largest + 1e-6))
    growth = min(np.diff(entropies))
    return dict(zip(NAMES, (sum(entropies), float(growth), float(np.mean(scores))), strict=True))


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_metrics_equal_their_naive_twins(kind: str) -> None:
    network, (pixels, labels) = build(kind), images()
    row = zero_cost_proxies(network, pixels, labels, NAMES, seed=3)
    assert {name: row[name].value for name in NAMES} == pytest.approx(naive(network, 3), rel=1e-6)


def test_values_follow_the_seed_and_not_the_weights_or_the_layout() -> None:
    def values(network: nn.Module, seed: int) -> list[float]:
        features = NoiseFeatures(network, (4, 3, 8, 8), seed)
        return [*features.entropies(), features.trainability()]

    expected = values(build("cell"), 0)
    assert values(build("cell", seed=1), 0) == expected
    assert values(build("cell").to(memory_format=torch.channels_last), 0) == pytest.approx(expected)
    assert values(build("cell"), 1) != pytest.approx(expected)


def test_the_blocks_of_a_network_are_what_its_containers_hold() -> None:
    convolutional = build("convolutional")
    assert blocks(convolutional) == [*convolutional.first, *convolutional.second]
    transformer = build("transformer")
    assert blocks(transformer) == [*transformer.encoder.layers]
    cell = build("cell")
    assert blocks(cell) == [*cell]
    fbnet = FBNetSpace().build(FBNetSpace().sample(Random(0)))
    assert {type(block).__name__ for block in blocks(fbnet)} == {"Sequential", "InvertedResidual"}
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 3))
    assert blocks(plain) == [plain[0], plain[2], plain[4]]


def test_a_block_that_is_the_identity_scores_lowest() -> None:
    class Same(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.inner(x)
            return y

    network = nn.Sequential(Block(3, 4, 1), Same(), nn.Flatten(), nn.Linear(256, 3))
    features = NoiseFeatures(network, (4, 3, 8, 8), 0)
    assert features.trainability() == -math.inf
    assert progressivity(features.entropies()) == 0


def test_a_constant_feature_scores_lowest_and_a_broken_one_has_no_score() -> None:
    assert expressivity([1.0, -math.inf]) == progressivity([-math.inf, -math.inf]) == -math.inf
    assert math.isnan(expressivity([1.0, math.nan]))
    assert math.isnan(progressivity([1.0, math.nan]))


@pytest.mark.parametrize("side", [5, 6, 7])
@pytest.mark.parametrize("stride", [2, 3])
def test_strides_need_not_divide_the_size(side: int, stride: int) -> None:
    network = nn.Sequential(Block(3, 4, 1), Block(4, 6, stride), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
    assert math.isfinite(NoiseFeatures(network, (2, 3, side, side), 0).trainability())


def test_what_trainability_lacks_is_named() -> None:
    class Parallel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branches = nn.ModuleList([Block(3, 4, 1), Block(3, 4, 1)])

        def forward(self, x: Tensor) -> Tensor:
            one, other = self.branches
            y: Tensor = one(x) + other(x)
            return y.mean(dim=(2, 3))

    one = nn.Sequential(Block(3, 4, 1), nn.Flatten(), nn.Linear(256, 3))
    wider = nn.Sequential(Block(3, 4, 2), nn.Sequential(nn.Upsample(scale_factor=4)), nn.Flatten(), nn.Linear(1024, 3))
    for network, message in (
        (Parallel(), "blocks that follow each other"),
        (one, "needs two blocks"),
        (wider, "is not defined"),
    ):
        with pytest.raises(ValueError, match=message):
            NoiseFeatures(network, (2, 3, 8, 8), 0).trainability()
    with pytest.raises(ValueError, match="progressivity needs two blocks"):
        progressivity([1.0])
