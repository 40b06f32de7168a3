"""The interface of a search space, and :func:`make_space`, which finds one by the name in a config."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from freerea_patch.errors import InputError, unknown_name
from freerea_patch.imports import import_object, importable_from

if TYPE_CHECKING:
    from torch import nn


@runtime_checkable
class SearchSpace(Protocol):
    """A set of networks with genotypes; a space of your own is any object with these members.

    A genotype is a string, and every network has exactly one genotype. Every operator draws its randomness from the
    generator that it receives and from nothing else. Four optional members enable more features:

    - ``skip(genotype) -> float``: FreeREA's measure of skip connections;
    - ``genotypes() -> Sequence[str]``: all networks, in the order in which benchmark tables number them;
    - ``simplified(genotype) -> str``: the genotype of the same function without operations that the output does not
      depend on;
    - ``parts(genotype) -> Part``: the network as a tree of repeated parts, which makes it about a hundred times faster
      to encode as a string.

    Attributes:
        name: identifies the space and its options, in records and in cache keys.
        input_shape: ``(channels, height, width)`` of one input.
    """

    name: str
    input_shape: tuple[int, int, int]

    def check(self, genotype: str) -> None:
        """Raise :class:`~freerea_patch.errors.InputError` if ``genotype`` is not of this space."""
        ...

    def sample(self, rng: Random) -> str:
        """Return a random genotype."""
        ...

    def mutate(self, genotype: str, rng: Random) -> str:
        """Return ``genotype`` with one gene changed."""
        ...

    def crossover(self, first: str, second: str, rng: Random) -> str:
        """Return a genotype whose genes come from two parents."""
        ...

    def build(self, genotype: str) -> nn.Module:
        """Return the network, with any weights, mapping ``(n, *input_shape)`` to ``(n, classes)``."""
        ...


@dataclass(frozen=True)
class Part:
    """A module composed of submodules, so that results for a repeated part can be computed once and cached.

    Two parts with the same ``identity`` are equal except for their weights. ``make`` must not inspect the submodules
    that it receives: what it computes around them may depend on the shapes of their outputs only.

    Attributes:
        key: identifies ``make``: two parts with the same key differ in ``parts`` only.
        make: returns the module, given one submodule for each of ``parts``.
        parts: the parts of the submodules.
    """

    key: Hashable
    make: Callable[..., nn.Module]
    parts: tuple[Part, ...] = ()

    @cached_property
    def identity(self) -> Hashable:
        """The keys of the part and, recursively, of its parts."""
        return (self.key, *(part.identity for part in self.parts)) if self.parts else self.key

    def build(self) -> nn.Module:
        """Return the module, with its own weights."""
        return self.make(*(part.build() for part in self.parts))


#: Built-in spaces by the name that a config uses: a class, or ``"pkg.module:Class"``.
SPACES: Mapping[str, type[Any] | str] = {
    "nats-tss": "freerea_patch.spaces.nats:TopologySpace",
    "nats-sss": "freerea_patch.spaces.nats:SizeSpace",
}


def find_space(name: str) -> Callable[..., SearchSpace]:
    """Return the class of a space by name: a built-in one, or ``pkg.module:Class``.

    Raises:
        InputError: an unknown name, or an import that fails.
    """
    target = SPACES.get(name, name)
    if target is name and ":" not in name:
        raise unknown_name("space", name, [*SPACES, "pkg.module:Class"])
    space: Callable[..., SearchSpace] = import_object(target, "space") if isinstance(target, str) else target
    return space


def make_space(spec: str | Mapping[str, Any], base: Path = Path()) -> SearchSpace:
    """Return the search space that a config describes.

    Args:
        spec: ``nats-tss`` or ``nats-sss``, optionally followed by ``/DATASET`` (by default CIFAR-10);
            ``pkg.module:Class`` for a space of your own; or a mapping of ``name`` and the space's options.
        base: the folder in which ``pkg.module`` is searched first.

    Raises:
        InputError: an unknown space or option, or a class that lacks members of :class:`SearchSpace`.
    """
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise InputError(f"space: expected a name, such as nats-tss or pkg.module:Class, got {spec!r}")
    if ":" not in name:
        name, slash, dataset = name.partition("/")
        if slash:
            options["dataset"] = dataset
    with importable_from(base):
        make = find_space(name)
    try:
        space = make(**options)
    except TypeError as error:
        raise InputError(f"space {name!r}: {error}") from None
    if not isinstance(space, SearchSpace):
        members = (*SearchSpace.__annotations__, "check", "sample", "mutate", "crossover", "build")
        missing = [m for m in members if not hasattr(space, m)]
        raise InputError(f"space {name!r} lacks: {', '.join(missing)}; see freerea_patch.SearchSpace")
    return space
