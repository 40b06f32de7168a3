"""The costs of serving language models, against counts of a real cache, of hooks and by hand."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import torch
from torch import nn

from freerea_patch import GPTSpace, InputError, Subspace, TopologySpace
from freerea_patch.gpt_networks import Attention, Served, new_caches
from freerea_seval.costs import SpaceCosts, serving_costs
from freerea_seval.measurement.networks import SERVED
from freerea_seval.sources.device import DeviceSource
from freerea_seval.sources.live import CostSource
from freerea_seval.sources.registry import Context
from freerea_seval.strings import trace_module

SMALL: dict[str, Any] = {"width": [64], "layers": [2], "heads": [2, 4], "ratio": [2, 3], "context": 8, "vocabulary": 11}
SPACES = [GPTSpace(**SMALL), GPTSpace(**SMALL, kv_heads=[1, 2], norm="rms", gated=True)]


def linear_macs(network: nn.Module, tokens: torch.Tensor) -> int:
    """Return the multiply-adds of linear layers in one pass, with biases, from hooks."""
    counted: list[int] = []

    def count(module: Any, inputs: Any, output: torch.Tensor) -> None:
        counted.append(output.numel() * module.in_features + (output.numel() if module.bias is not None else 0))

    for module in network.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(tokens)
    return sum(counted)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("seed", range(2))
def test_serving_counts_what_a_served_network_computes(space: GPTSpace, seed: int) -> None:
    genotype = space.sample(Random(seed))
    network, costs = space.build(genotype), SpaceCosts(space).serving(genotype)
    heads = [layer.heads for layer in network.modules() if isinstance(layer, Attention)]
    pairs = 8 * 9 // 2  # of a token and one that it attends to, itself included
    prompt = linear_macs(Served(network, 0), torch.zeros(1, 8, dtype=torch.int64))
    assert costs.prompt_macs == prompt + sum(2 * 64 * count * pairs for count in heads)
    token = linear_macs(Served(space.build(genotype), 7), torch.zeros(1, 1, dtype=torch.int64))
    assert costs.token_macs == token + sum(2 * 64 * count * 8 for count in heads)
    caches = new_caches(network.half())
    assert costs.kv_cache_bytes == sum(cache.keys.nbytes + cache.values.nbytes for cache in caches)
    weights = sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))
    widest = 2 * 8 * 64 * 2  # two results of all tokens in float16 are in memory at once, at least
    assert costs.memory_bytes >= costs.kv_cache_bytes + weights + widest
    assert costs.memory_bytes <= costs.kv_cache_bytes + weights + 30 * widest


@pytest.mark.parametrize("space", SPACES)
def test_decoder_params_leave_out_embedding_and_head(space: GPTSpace) -> None:
    genotype = space.sample(Random(3))
    network = space.build(genotype)
    embedding, *_, head = network.children()
    decoder = sum(p.numel() for p in network.parameters()) - 2 * 11 * 64
    assert SpaceCosts(space).serving(genotype).decoder_params == decoder
    head.get_submodule("1").weight = embedding.weight
    graph = trace_module(network, [torch.zeros(1, 8, dtype=torch.int64)])
    assert serving_costs(graph).decoder_params == decoder  # the shared table counts once
    (row,) = CostSource(Context(space), None).evaluate([genotype], ["decoder_params"])
    assert row["decoder_params"].value == decoder / 1e6


def test_serving_is_of_language_models_alone() -> None:
    space = TopologySpace()
    graph = trace_module(space.build(space.genotypes()[0]), [torch.zeros(1, 3, 32, 32)])
    with pytest.raises(InputError, match=r"serving is counted of language models.* maps float32"):
        serving_costs(graph)
    with pytest.raises(InputError, match=r"kv_cache is of language models.* space nats-tss/cifar10 has others"):
        CostSource(Context(space), None).describe("kv_cache")
    with pytest.raises(InputError, match=r"time_per_token is of the spaces gpt, .* space nats-tss/cifar10 has no KV"):
        DeviceSource(Context(space), None).describe("time_per_token")


def test_the_source_gives_costs_in_millions_and_megabytes() -> None:
    space = SPACES[1]
    genotype = space.sample(Random(0))
    source = CostSource(Context(space), None)
    (row,) = source.evaluate([genotype], ["kv_cache", "params", "token_macs", "prompt_macs", "serving_memory"])
    costs = SpaceCosts(space).serving(genotype)
    assert source.describe("kv_cache").unit == "MB"
    assert {name: value.value for name, value in row.items()} == {
        "params": SpaceCosts(space).counts(genotype).params / 1e6,
        "prompt_macs": costs.prompt_macs / 1e6,
        "token_macs": costs.token_macs / 1e6,
        "kv_cache": costs.kv_cache_bytes / 1e6,
        "serving_memory": costs.memory_bytes / 1e6,
    }


def test_a_prompt_and_a_token_are_timed_also_in_a_subspace() -> None:
    whole = GPTSpace(**SMALL | {"context": 256, "width": [256]})
    genotypes = [whole.sample(Random(0)), whole.sample(Random(1))]
    for space in (whole, Subspace(whole, genotypes)):
        source = DeviceSource(Context(space), None)
        assert [source.describe(metric).unit for metric in SERVED] == ["ms", "ms"]
        rows = source.evaluate(genotypes, SERVED)
        assert all(row["time_to_first_token"].value > row["time_per_token"].value > 0 for row in rows)
