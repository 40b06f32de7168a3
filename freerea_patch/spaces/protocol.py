"""What a search space must offer; a space of your own is any object with these members."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import nn


@runtime_checkable
class SearchSpace(Protocol):
    """A set of networks named by genotypes.

    A genotype is a string, and one network has one genotype. Every operator draws its randomness from
    the generator it is given and from nothing else. Four optional members make more of the system work:
    ``skip(genotype) -> float``, FreeREA's measure of skip connections; ``genotypes() -> Sequence[str]``,
    all networks in the order in which benchmark tables number them; ``simplified(genotype) -> str``, the genotype of
    the same function without operations that nothing depends on; and ``parts(genotype)``, the network as a
    :class:`~freerea_patch.networks.parts.Part`, which makes its string some hundred times faster.

    Attributes:
        name: identifies the space and its options, for records and for the cache of metric values.
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
        """Return the network, with weights of any kind, mapping ``(n, *input_shape)`` to ``(n, classes)``."""
        ...
