"""The topology space of NATS-Bench (TSS), which is NAS-Bench-201 (Dong 2020, Dong 2021): which cell to repeat."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from random import Random
from typing import TYPE_CHECKING

from freerea_patch.spaces.cell import EDGES, OPERATIONS, format_cell, live_operations, parse_cell, skip_length
from freerea_patch.spaces.datasets import DatasetSpace

if TYPE_CHECKING:
    from freerea_patch.networks.parts import Part

_OTHERS = {op: tuple(o for o in OPERATIONS if o != op) for op in OPERATIONS}


class TopologySpace(DatasetSpace):
    """15,625 cells, each repeated fifteen times in one network.

    Args:
        dataset: ``"cifar10"``, ``"cifar100"`` or ``"ImageNet16-120"``: input size and classes.

    Raises:
        InputError: an unknown data set.
    """

    kind = "nats-tss"

    def check(self, genotype: str) -> None:
        """Raise :class:`InputError` if ``genotype`` is not a cell of this space."""
        parse_cell(genotype)

    def sample(self, rng: Random) -> str:
        """Return a uniformly random cell."""
        return format_cell(rng.choices(OPERATIONS, k=len(EDGES)))

    def mutate(self, genotype: str, rng: Random) -> str:
        """Give one of the six edges, picked uniformly, one of the four other operations."""
        operations = list(parse_cell(genotype))
        edge = rng.randrange(len(EDGES))
        operations[edge] = rng.choice(_OTHERS[operations[edge]])
        return format_cell(operations)

    def crossover(self, first: str, second: str, rng: Random) -> str:
        """Take every edge from one of the two parents by a fair coin."""
        pairs = zip(parse_cell(first), parse_cell(second), strict=True)
        return format_cell([pair[rng.getrandbits(1)] for pair in pairs])

    def skip(self, genotype: str) -> float:
        """Return FreeREA's skip metric: see :func:`freerea_patch.spaces.cell.skip_length`."""
        return skip_length(parse_cell(genotype))

    def simplified(self, genotype: str) -> str:
        """Return the cell without operations that its output does not depend on; 9,445 cells stay as they are."""
        return _simplified(genotype)

    def genotypes(self) -> Sequence[str]:
        """Return all cells in NATS-Bench's own order, the index of its tables."""
        return all_cells()

    def parts(self, genotype: str) -> Part:
        """Return the parts of the network of a cell (16, 32 and 64 channels, five cells a stage)."""
        from freerea_patch.networks.nats import topology_network

        return topology_network(parse_cell(genotype), classes=self.classes)


@lru_cache(maxsize=1 << 14)
def _simplified(genotype: str) -> str:
    return format_cell(live_operations(parse_cell(genotype)))


@lru_cache(maxsize=1)
def all_cells() -> tuple[str, ...]:
    """Return the 15,625 cells in NATS-Bench's order.

    NATS-Bench numbered them by shuffling the lexicographic product with Python's generator, seed 88
    (Dong 2021, public code); the tests compare the result with the published list.
    """
    cells = [format_cell(operations) for operations in product(OPERATIONS, repeat=len(EDGES))]
    Random(88).shuffle(cells)
    return tuple(cells)
