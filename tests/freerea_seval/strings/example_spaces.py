"""Search spaces of a user's for the tests, with parts of every kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from freerea_patch import InputError, Part
from freerea_seval.strings.encode import encode_module
from freerea_seval.strings.views import View
from tests.freerea_seval.strings.trace.tracing import Function


class Bare:
    """A space without parts, whose networks are given by name."""

    name = "bare"
    input_shape = (3, 8, 8)

    def __init__(self, networks: Mapping[str, Callable[[], nn.Module]]) -> None:
        self.networks = networks
        self.built: list[str] = []

    def check(self, genotype: str) -> None:
        if genotype not in self.networks:
            raise InputError(f"{genotype!r} is not of the space; valid: {', '.join(self.networks)}")

    def sample(self, rng: Random) -> str:
        return rng.choice(list(self.networks))

    def mutate(self, genotype: str, rng: Random) -> str:
        return self.sample(rng)

    def crossover(self, first: str, second: str, rng: Random) -> str:
        return first

    def build(self, genotype: str) -> nn.Module:
        self.check(genotype)
        self.built.append(genotype)
        return self.networks[genotype]()


class Parted(Bare):
    """A space whose networks are given as parts."""

    name = "parted"

    def __init__(self, **networks: Part) -> None:
        super().__init__({name: part.build for name, part in networks.items()})
        self.whole = networks

    def parts(self, genotype: str) -> Part:
        self.check(genotype)
        return self.whole[genotype]


def function(key: str, compute: Callable[..., Any], *parts: Part) -> Part:
    """Return a part that computes a function of its input and of its parts."""
    return Part(key, lambda *modules: Function(lambda x: compute(x, *modules), **named(modules)), parts)


def named(modules: tuple[nn.Module, ...]) -> dict[str, nn.Module]:
    return {f"part{number}": module for number, module in enumerate(modules)}


def layer(key: str, make: Callable[..., nn.Module], *arguments: Any, **options: Any) -> Part:
    return Part((key, *arguments, *options.items()), lambda: make(*arguments, **options))


def chain(*parts: Part) -> Part:
    return Part("chain", nn.Sequential, parts)


def conv(c_in: int, c_out: int, kernel: int = 1) -> Part:
    return layer("conv", nn.Conv2d, c_in, c_out, kernel, padding=kernel // 2, bias=False)


RELU = layer("relu", nn.ReLU)
TANH = layer("tanh", nn.Tanh)
IDENTITY = layer("identity", nn.Identity)


def residual(inner: Part) -> Part:
    return function("residual", lambda x, f: x + f(x), inner)


def zeros(shape: tuple[int, ...]) -> list[Tensor]:
    return [torch.zeros(1, *shape)]


def naive(space: Any, genotype: str, view: View) -> str:
    """Build the whole network and trace it."""
    return encode_module(space.build(genotype), zeros(space.input_shape), view)
