"""Networks of language models: attention, positions, the cache and the options, against naive computations."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from freerea_patch import GPTSpace
from freerea_patch.gpt_networks import MLP, Attention, Block, new_caches, next_logits, rotate

SMALL: dict[str, Any] = {"width": [64], "layers": [2], "heads": [2, 4], "ratio": [2], "context": 12, "vocabulary": 11}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"norm": "rms", "gated": True, "kv_heads": [1, 2]},
    {"parallel": True, "rotary": 32},
]


def built(seed: int = 0, **options: Any) -> nn.Sequential:
    """Return a random network of a small space, in double precision."""
    torch.manual_seed(seed)
    space = GPTSpace(**SMALL, **options)
    network: Any = space.build(space.sample(Random(seed)))
    for parameter in network.parameters():  # biases, too
        nn.init.normal_(parameter, std=0.2)
    result: nn.Sequential = network.double().eval()
    return result


def naive_attention(layer: Attention, x: Tensor) -> Tensor:
    """Return attention head by head and position by position, ``(t, width)`` to ``(t, width)``."""
    t = len(x)
    rows = layer.inputs(x).view(t, -1, 64)
    angles = [[p * 10_000 ** (-2 * i / layer.rotary) for i in range(layer.rotary // 2)] for p in range(t)]

    def rotated(vector: Tensor, p: int) -> Tensor:
        pairs, result = layer.rotary // 2, vector.clone()
        for i in range(pairs):
            a, b, angle = vector[i], vector[i + pairs], angles[p][i]
            result[i] = a * math.cos(angle) - b * math.sin(angle)
            result[i + pairs] = b * math.cos(angle) + a * math.sin(angle)
        return result

    heads = []
    for h in range(layer.heads):
        group = h * layer.kv_heads // layer.heads
        queries = [rotated(rows[p, h], p) for p in range(t)]
        keys = torch.stack([rotated(rows[p, layer.heads + group], p) for p in range(t)])
        values = rows[:, layer.heads + layer.kv_heads + group]
        heads.append(
            torch.stack(
                [(keys[: p + 1] @ queries[p] / 8).softmax(0) @ values[: p + 1] for p in range(t)]  # 8 = sqrt(64)
            )
        )
    return layer.output(torch.cat(heads, dim=1))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("heads", "kv_heads", "rotary"), [(2, 2, 64), (4, 2, 32), (3, 1, 64)])
@torch.no_grad()
def test_attention_equals_the_naive_one(heads: int, kv_heads: int, rotary: int) -> None:
    torch.manual_seed(0)
    layer = Attention(32, heads, kv_heads, True, 12, rotary).double()
    layer.cos, layer.sin = _table(12, rotary)  # the layer's own are of float32
    x = torch.randn(2, 7, 32, dtype=torch.float64)
    for row, expected in zip(layer(x), x, strict=True):
        torch.testing.assert_close(row, naive_attention(layer, expected))


def _table(context: int, rotary: int) -> tuple[Tensor, Tensor]:
    positions = torch.arange(context, dtype=torch.float64)
    angles = torch.outer(positions, 10_000 ** (-torch.arange(0, rotary, 2, dtype=torch.float64) / rotary))
    return angles.cos(), angles.sin()


def test_rotated_products_depend_on_the_distance_of_positions_only() -> None:
    cos, sin = _table(12, 64)
    query, key = torch.randn(1, 1, 1, 64, dtype=torch.float64), torch.randn(1, 1, 1, 64, dtype=torch.float64)
    products = [(rotate(query, cos, sin, p + 4) * rotate(key, cos, sin, p)).sum() for p in range(8)]
    torch.testing.assert_close(torch.stack(products), products[0].expand(8))
    assert not torch.isclose((rotate(query, cos, sin, 5) * rotate(key, cos, sin, 0)).sum(), products[0])


@pytest.mark.parametrize("options", OPTIONS)
@torch.no_grad()
def test_logits_with_a_cache_equal_those_of_the_whole_sequence(options: dict[str, Any]) -> None:
    network = built(**options)
    tokens = torch.randint(11, (2, 12))
    whole = network(tokens)
    assert whole.shape == (2, 12, 11)
    caches = new_caches(network, 2)
    assert [cache.keys.shape[2] for cache in caches] == [12, 12]
    pieces = [tokens[:, :5], tokens[:, 5:8], *torch.split(tokens[:, 8:], 1, dim=1)]
    logits = torch.stack([next_logits(network, piece, caches) for piece in pieces], dim=1)
    torch.testing.assert_close(logits, whole[:, [4, 7, 8, 9, 10, 11]])
    assert [cache.length for cache in caches] == [12, 12]
    with pytest.raises(ValueError, match="expected at most 12 tokens, got 1 behind 12; make longer caches"):
        next_logits(network, tokens[:, :1], caches)


@pytest.mark.parametrize("options", OPTIONS)
@torch.no_grad()
def test_a_logit_depends_on_earlier_tokens_only(options: dict[str, Any]) -> None:
    network, tokens = built(**options), torch.randint(11, (1, 12))
    changed = tokens.clone()
    changed[0, 6] = (tokens[0, 6] + 1) % 11
    differs = (network(tokens) != network(changed)).any(dim=2)[0]
    assert differs.tolist() == [False] * 6 + [True] * 6


@torch.no_grad()
def test_blocks_are_sequential_or_parallel() -> None:
    for parallel in (False, True):
        block = Block(32, 2, 2, 64, True, 12, parallel=parallel)
        x = torch.randn(1, 5, 32)
        y = x + block.attention(block.norm1(x))
        expected = y + block.mlp(block.norm2(x if parallel else y))
        torch.testing.assert_close(block(x), expected)


@torch.no_grad()
def test_a_gated_mlp_multiplies_two_projections() -> None:
    mlp, x = MLP(8, 16, True, gated=True), torch.randn(3, 8)
    assert mlp.gate is not None
    torch.testing.assert_close(mlp(x), mlp.down(mlp.gate(x) * mlp.gate(x).sigmoid() * mlp.up(x)))
    assert MLP(8, 16, True, gated=False).gate is None


def test_caches_hold_the_heads_of_keys_alone() -> None:
    network = built(kv_heads=[1])
    assert {tuple(cache.keys.shape) for cache in new_caches(network, 3, 5)} == {(3, 1, 5, 64)}


def test_networks_are_built_without_memory_on_the_meta_device() -> None:
    space = GPTSpace()
    with torch.device("meta"):
        network = space.build(space.sample(Random(0)))
        assert network(torch.zeros(1, 16, dtype=torch.int64)).shape == (1, 16, 50_254)
    assert all(tensor.is_meta for tensor in (*network.parameters(), *network.buffers()))
