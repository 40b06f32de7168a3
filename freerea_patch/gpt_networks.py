"""Decoder-only language models: the networks of the spaces of :mod:`freerea_patch.gpt`, with a cache for decoding.

A network is a chain: an embedding, blocks of attention and MLP, and a head that gives a logit for every token of the
vocabulary. It maps token indices ``(n, t)``, int64, to logits ``(n, t, vocabulary)`` of the next token at every
position. :func:`next_logits` runs the same chain token by token with a cache of keys and values.

Shapes are written with n sequences, t tokens, h heads, g heads of keys and values, and heads of d = 64 features.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from freerea_patch.spaces import Part

#: Features of a head, whatever the width (Sukthanker 2024, public code).
HEAD = 64


class Skeleton(NamedTuple):
    """What the networks of a space share.

    Attributes:
        vocabulary: number of tokens.
        context: the most tokens of a sequence.
        norm: ``"layer"`` (Ba 2016) or ``"rms"`` (Zhang 2019).
        gated: whether an MLP multiplies two projections, SwiGLU (Shazeer 2020), instead of one with GELU.
        parallel: whether attention and MLP of a block read the same input (Wang 2021, GPT-J).
        rotary: features of a head that are rotated by their position (Su 2021), an even number.
    """

    vocabulary: int = 50_254
    context: int = 1024
    norm: str = "layer"
    gated: bool = False
    parallel: bool = False
    rotary: int = HEAD


class Layer(NamedTuple):
    """The choices of a block: heads of queries, heads of keys and values, and features of the MLP."""

    heads: int
    kv_heads: int
    hidden: int


class KVCache:
    """The keys and values of one block for the tokens so far.

    Args:
        keys, values: memory for them, ``(n, g, context, d)``.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values
        self.length = 0

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add ``(n, g, t, d)`` keys and values; return all so far, ``(n, g, length, d)``."""
        start, self.length = self.length, self.length + keys.shape[2]
        self.keys[:, :, start : self.length] = keys
        self.values[:, :, start : self.length] = values
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


def rotate(x: Tensor, cos: Tensor, sin: Tensor, start: int) -> Tensor:
    """Rotate the first features of ``x`` by position (Su 2021, equation 34, with halves instead of even and odd).

    Args:
        x: ``(n, t, h, d)``.
        cos, sin: of the angles of all positions, ``(context, r)``; the first 2r features are rotated.
        start: position of the first token.
    """
    t, r = x.shape[1], cos.shape[-1]
    cos, sin = cos[start : start + t, None], sin[start : start + t, None]  # (t, 1, r) each
    first, second = x[..., :r], x[..., r : 2 * r]  # (n, t, h, r) each
    rotated = [first * cos - second * sin, second * cos + first * sin]
    return torch.cat(rotated if 2 * r == x.shape[-1] else [*rotated, x[..., 2 * r :]], dim=-1)  # (n, t, h, d)


class Attention(nn.Module):
    """Causal attention with rotary positions; ``heads / kv_heads`` heads share keys and values (Ainslie 2023)."""

    cos: Tensor
    sin: Tensor

    def __init__(self, width: int, heads: int, kv_heads: int, bias: bool, context: int, rotary: int) -> None:
        super().__init__()
        self.width, self.heads, self.kv_heads, self.bias = width, heads, kv_heads, bias
        self.context, self.rotary = context, rotary
        self.inputs = nn.Linear(width, (heads + 2 * kv_heads) * 64, bias)
        self.output = nn.Linear(heads * 64, width, bias)
        frequencies = 10_000 ** (-torch.arange(0, rotary, 2) / rotary)  # (r,)
        angles = torch.outer(torch.arange(context), frequencies)  # (context, r)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """Map ``(n, t, width)`` to ``(n, t, width)``; the tokens follow those of the cache, which they are added to."""
        n, t, _ = x.shape
        start = 0 if cache is None else cache.length
        x = self.inputs(x).view(n, t, -1, 64)  # (n, t, h + 2g, d)
        both, v = torch.split(x, [self.heads + self.kv_heads, self.kv_heads], dim=2)
        both = rotate(both, self.cos, self.sin, start)  # (n, t, h + g, d)
        q, k = torch.split(both.transpose(1, 2), [self.heads, self.kv_heads], dim=1)  # (n, h, t, d), (n, g, t, d)
        v = v.transpose(1, 2)  # (n, g, t, d)
        if cache is not None:
            k, v = cache.extend(k, v)  # (n, g, start + t, d)
        # A token sees itself and what is before it; one that follows others sees all.
        mask = torch.ones(t, start + t, dtype=torch.bool, device=x.device).tril(start) if start and t > 1 else None
        grouped = {"enable_gqa": True} if self.kv_heads != self.heads else {}
        y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=start == 0, **grouped)  # (n, h, t, d)
        z: Tensor = self.output(y.transpose(1, 2).reshape(n, t, -1))  # (n, t, width)
        return z


class MLP(nn.Module):
    """Two projections with GELU between them, or with ``gated`` a third, whose SiLU multiplies (Shazeer 2020)."""

    def __init__(self, width: int, hidden: int, bias: bool, gated: bool) -> None:
        super().__init__()
        self.width, self.hidden, self.bias, self.gated = width, hidden, bias, gated
        self.up = nn.Linear(width, hidden, bias)
        self.gate = nn.Linear(width, hidden, bias) if gated else None
        self.down = nn.Linear(hidden, width, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, t, width)`` to ``(n, t, width)``."""
        y = F.gelu(self.up(x)) if self.gate is None else F.silu(self.gate(x)) * self.up(x)  # (n, t, hidden)
        z: Tensor = self.down(y)
        return z


def norm_of(norm: str, width: int) -> nn.Module:
    """Return a layer norm, or without centring and bias an RMS norm."""
    return nn.LayerNorm(width) if norm == "layer" else nn.RMSNorm(width, eps=1e-5)


class Block(nn.Module):
    """Attention and MLP, each behind a norm and beside the identity."""

    def __init__(
        self,
        width: int,
        heads: int,
        kv_heads: int,
        hidden: int,
        bias: bool,
        context: int,
        norm: str = "layer",
        gated: bool = False,
        parallel: bool = False,
        rotary: int = 64,
    ) -> None:
        super().__init__()
        self.width, self.heads, self.kv_heads, self.hidden, self.bias = width, heads, kv_heads, hidden, bias
        self.context, self.norm, self.gated, self.parallel, self.rotary = context, norm, gated, parallel, rotary
        self.norm1, self.norm2 = norm_of(norm, width), norm_of(norm, width)
        self.attention = Attention(width, heads, kv_heads, bias, context, rotary)
        self.mlp = MLP(width, hidden, bias, gated)

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """Map ``(n, t, width)`` to ``(n, t, width)``; see :class:`Attention` for the cache."""
        y: Tensor = x + self.attention(self.norm1(x), cache)
        z: Tensor = self.mlp(self.norm2(x if self.parallel else y))
        return y + z


def head(norm: str, width: int, vocabulary: int) -> nn.Sequential:
    """Return the last layers: ``(n, t, width)`` to ``(n, t, vocabulary)``."""
    return nn.Sequential(norm_of(norm, width), nn.Linear(width, vocabulary, bias=False))


@lru_cache(maxsize=4096)  # layers share their parts
def _block(width: int, layer: Layer, bias: bool, skeleton: Skeleton) -> Part:
    options = skeleton._asdict()
    del options["vocabulary"]
    return Part(("block", width, *layer, bias, *options.values()), lambda: Block(width, *layer, bias=bias, **options))


@lru_cache(maxsize=256)
def _ends(width: int, skeleton: Skeleton) -> tuple[Part, Part]:
    vocabulary, norm = skeleton.vocabulary, skeleton.norm
    first = Part(("embedding", vocabulary, width), lambda: nn.Embedding(vocabulary, width))
    return first, Part(("head", norm, width, vocabulary), lambda: head(norm, width, vocabulary))


def gpt_network(width: int, layers: Sequence[Layer], bias: bool, skeleton: Skeleton) -> Part:
    """Return the network: embedding, one block a layer, head. Embedding and head have weights of their own.

    Args:
        width: features of a token between blocks.
        layers: the choices of the blocks.
        bias: whether the projections in blocks have a bias; norms have one where they are layer norms.
        skeleton: what surrounds the choices.
    """
    first, last = _ends(width, skeleton)
    return Part("chain", nn.Sequential, (first, *(_block(width, layer, bias, skeleton) for layer in layers), last))


class Served(nn.Module):
    """A network that answers tokens behind ``start`` others, whose keys and values are in its cache: zeros.

    Args:
        network: of one of the spaces.
        start: tokens in the cache.
    """

    def __init__(self, network: nn.Module, start: int) -> None:
        super().__init__()
        self.network, self.start = network, start
        self._caches: list[KVCache] = []

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of the next token, ``(n, vocabulary)``; every call begins with the same cache."""
        if not self._caches:  # now that the weights are on their device
            self._caches = new_caches(self.network, len(tokens))
        for cache in self._caches:
            cache.length = self.start
        return next_logits(self.network, tokens, self._caches)


def new_caches(network: nn.Module, n: int = 1, length: int | None = None) -> list[KVCache]:
    """Return an empty cache a block, in the dtype and on the device of the weights.

    Args:
        network: of one of the spaces.
        n: sequences.
        length: the most tokens; None for the context.
    """
    caches = []
    for block in network.modules():
        if isinstance(block, Attention):
            shape = (n, block.kv_heads, length or block.context, HEAD)
            weight = block.output.weight
            caches.append(KVCache(weight.new_zeros(shape), weight.new_zeros(shape)))
    return caches


def next_logits(network: nn.Module, tokens: Tensor, caches: Sequence[KVCache]) -> Tensor:
    """Return the logits of the token that follows, ``(n, vocabulary)``, and add the tokens to the caches.

    Args:
        network: of one of the spaces.
        tokens: ``(n, t)`` that follow those in the caches: the whole prompt first, then one by one.
        caches: of :func:`new_caches`.

    Raises:
        ValueError: the caches have no room for the tokens.
    """
    held, room = caches[0].length, caches[0].keys.shape[2]
    if held + tokens.shape[1] > room:
        raise ValueError(f"expected at most {room} tokens, got {tokens.shape[1]} behind {held}; make longer caches")
    embedding, *blocks, last = network.children()
    x = embedding(tokens)  # (n, t, width)
    for block, cache in zip(blocks, caches, strict=True):
        x = block(x, cache)
    logits: Tensor = last(x[:, -1])  # only the last token's
    return logits
