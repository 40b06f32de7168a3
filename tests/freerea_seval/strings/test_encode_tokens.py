"""Strings of networks that read tokens: of parts and of whole networks, and their costs."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import torch

from freerea_patch import GPTLargeSpace, GPTMediumSpace, GPTSmallSpace, GPTSpace
from freerea_seval.costs import SpaceCosts, network_counts
from freerea_seval.strings import VIEWS, SpaceStrings, View, encode_module, parse_graph, serialize_graph

SMALL: dict[str, Any] = {"width": [64, 128], "layers": [1, 3], "heads": [1, 2, 4], "ratio": [2, 3], "context": 8}
SPACES = [
    GPTSpace(**SMALL, vocabulary=11),
    GPTSpace(**SMALL, vocabulary=11, norm="rms", gated=True, kv_heads=1),
    GPTSpace(**SMALL, vocabulary=11, parallel=True, rotary=32),
]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("space", SPACES)
def test_strings_of_parts_equal_those_of_whole_networks(space: GPTSpace, view: View) -> None:
    genotypes = [space.sample(Random(seed)) for seed in range(12)]
    for genotype, string in zip(genotypes, SpaceStrings(space, view).strings(genotypes), strict=True):
        for device in ("cpu", "meta"):
            with torch.device(device):
                network, tokens = space.build(genotype), torch.zeros(1, 8, dtype=torch.int64)
            assert encode_module(network, [tokens], view) == string
        assert serialize_graph(parse_graph(string)) == string
        assert "constant" not in string
        assert string.count("rotary") == string.count("attention")


@pytest.mark.parametrize("space", [GPTSmallSpace(16), GPTMediumSpace(16), GPTLargeSpace(16)], ids=lambda s: s.kind)
def test_strings_of_hw_gpt_bench_equal_those_of_whole_networks(space: GPTSpace) -> None:
    genotype = space.sample(Random(5))
    with torch.device("meta"):
        network, tokens = space.build(genotype), torch.zeros(1, 16, dtype=torch.int64)
    assert SpaceStrings(space).strings([genotype]) == [encode_module(network, [tokens])]


@pytest.mark.parametrize("space", SPACES)
def test_counts_of_parts_equal_those_of_whole_networks(space: GPTSpace) -> None:
    costs = SpaceCosts(space, batch_size=2)
    for genotype in [space.sample(Random(seed)) for seed in range(4)]:
        network = space.build(genotype)
        assert costs.counts(genotype) == network_counts(network, [torch.zeros(1, 8, dtype=torch.int64)])
        assert costs.training_memory(genotype) > costs.inference_memory(genotype) > 4 * costs.counts(genotype).params
