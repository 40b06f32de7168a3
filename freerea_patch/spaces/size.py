"""The size space of NATS-Bench (SSS; Dong 2021): the widths of five layers around one fixed cell."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from random import Random
from typing import TYPE_CHECKING

from freerea_patch.errors import InputError
from freerea_patch.spaces.cell import parse_cell, skip_length
from freerea_patch.spaces.datasets import DatasetSpace

if TYPE_CHECKING:
    from freerea_patch.networks.parts import Part

WIDTHS = tuple(range(8, 65, 8))
LAYERS = 5
#: The cell of every network of the space.
CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"


def parse_widths(genotype: str) -> list[int]:
    """Return the five channel counts of a genotype such as ``64:32:8:40:16``.

    Raises:
        InputError: the string is not of this space.
    """
    genes = genotype.split(":")
    if len(genes) != LAYERS or any(gene not in _VALID for gene in genes):
        raise InputError(
            f"{genotype!r} is not of the size space; expected {LAYERS} channel counts"
            f" out of {', '.join(map(str, WIDTHS))}, such as 64:32:8:40:16"
        )
    return [int(gene) for gene in genes]


_VALID = {str(width) for width in WIDTHS}


def format_widths(widths: Sequence[int]) -> str:
    """Return the genotype of five channel counts."""
    return ":".join(map(str, widths))


class SizeSpace(DatasetSpace):
    """32,768 networks: five channel counts, each one of 8, 16, ..., 64.

    Args:
        dataset: ``"cifar10"``, ``"cifar100"`` or ``"ImageNet16-120"``: input size and classes.

    Raises:
        InputError: an unknown data set.
    """

    kind = "nats-sss"

    def check(self, genotype: str) -> None:
        """Raise :class:`InputError` if ``genotype`` is not of this space."""
        parse_widths(genotype)

    def sample(self, rng: Random) -> str:
        """Return uniformly random channel counts."""
        return format_widths(rng.choices(WIDTHS, k=LAYERS))

    def mutate(self, genotype: str, rng: Random) -> str:
        """Give one of the five layers, picked uniformly, one of the seven other widths."""
        widths = parse_widths(genotype)
        layer = rng.randrange(LAYERS)
        widths[layer] = rng.choice([w for w in WIDTHS if w != widths[layer]])
        return format_widths(widths)

    def crossover(self, first: str, second: str, rng: Random) -> str:
        """Take every width from one of the two parents by a fair coin."""
        pairs = zip(parse_widths(first), parse_widths(second), strict=True)
        return format_widths([pair[rng.getrandbits(1)] for pair in pairs])

    def skip(self, genotype: str) -> float:
        """Return FreeREA's skip metric of the fixed cell, the same for every network."""
        parse_widths(genotype)
        return skip_length(parse_cell(CELL))

    def simplified(self, genotype: str) -> str:
        """Return the genotype as it is: no network of this space has operations that its output does not depend on."""
        parse_widths(genotype)
        return genotype

    def genotypes(self) -> Sequence[str]:
        """Return all networks in NATS-Bench's own order, the index of its tables."""
        return all_sizes()

    def parts(self, genotype: str) -> Part:
        """Return the parts of the network: cell, block, cell, block, cell with the given widths."""
        from freerea_patch.networks.nats import size_network

        return size_network(parse_widths(genotype), parse_cell(CELL), classes=self.classes)


@lru_cache(maxsize=1)
def all_sizes() -> tuple[str, ...]:
    """Return the 32,768 genotypes in NATS-Bench's order, which is lexicographic by width."""
    return tuple(format_widths(widths) for widths in product(WIDTHS, repeat=LAYERS))
