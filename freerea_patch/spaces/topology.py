"""The topology space of NATS-Bench (TSS), which is NAS-Bench-201 (Dong 2020, Dong 2021).

A cell has four nodes and six edges; each edge carries one of five operations. Its genotype reads
``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``: one block a node, one ``op~source`` an incoming edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from random import Random
from typing import TYPE_CHECKING

from freerea_patch.errors import InputError
from freerea_patch.spaces.datasets import dataset as find_dataset

if TYPE_CHECKING:
    from torch import nn

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
#: (source, target) of the six edges, in the order of the genotype.
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))

_OTHERS = {op: tuple(o for o in OPERATIONS if o != op) for op in OPERATIONS}
_FORM = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|"


def format_cell(operations: Sequence[str]) -> str:
    """Return the genotype of six operations, given in the order of :data:`EDGES`."""
    return _FORM.format(*operations)


def parse_cell(genotype: str) -> list[str]:
    """Return the six operations of a genotype, in the order of :data:`EDGES`.

    Raises:
        InputError: the string is not a cell of this space.
    """
    operations = [edge.partition("~")[0] for edge in genotype.replace("+", "").split("|") if edge]
    if len(operations) != len(EDGES) or format_cell(operations) != genotype:
        raise InputError(
            f"{genotype!r} is not a cell of the topology space; expected the form {_FORM.format(*['op'] * 6)}"
        )
    for operation in operations:
        if operation not in _OTHERS:
            raise InputError(
                f"unknown operation {operation!r} in {genotype!r}; valid operations: {', '.join(OPERATIONS)}"
            )
    return operations


class TopologySpace:
    """15,625 cells, each repeated fifteen times in one network.

    Args:
        dataset: ``"cifar10"``, ``"cifar100"`` or ``"ImageNet16-120"``: input size and classes.

    Raises:
        InputError: an unknown data set.
    """

    def __init__(self, dataset: str = "cifar10") -> None:
        self.dataset = dataset
        self.input_shape, self.classes = find_dataset(dataset)
        self.name = f"nats-tss/{dataset}"

    def check(self, genotype: str) -> None:
        """Raise :class:`InputError` if ``genotype`` is not a cell of this space."""
        parse_cell(genotype)

    def sample(self, rng: Random) -> str:
        """Return a uniformly random cell."""
        return format_cell(rng.choices(OPERATIONS, k=len(EDGES)))

    def mutate(self, genotype: str, rng: Random) -> str:
        """Give one of the six edges, picked uniformly, one of the four other operations."""
        operations = parse_cell(genotype)
        edge = rng.randrange(len(EDGES))
        operations[edge] = rng.choice(_OTHERS[operations[edge]])
        return format_cell(operations)

    def crossover(self, first: str, second: str, rng: Random) -> str:
        """Take every edge from one of the two parents by a fair coin."""
        pairs = zip(parse_cell(first), parse_cell(second), strict=True)
        return format_cell([pair[rng.getrandbits(1)] for pair in pairs])

    def skip(self, genotype: str) -> float:
        """Return FreeREA's skip metric: the mean length of the skip connections, 0 without one.

        The length of an edge is its target's level less its source, levels and sources counted from 0 as
        the public code does, so that an edge between neighbouring nodes has length 0.
        """
        lengths = [
            target - 1 - source
            for (source, target), op in zip(EDGES, parse_cell(genotype), strict=True)
            if op == "skip_connect"
        ]
        return sum(lengths) / len(lengths) if lengths else 0.0

    def genotypes(self) -> Sequence[str]:
        """Return all cells in NATS-Bench's own order, the index of its tables."""
        return all_cells()

    def build(self, genotype: str) -> nn.Module:
        """Return the network of a cell (16, 32 and 64 channels, five cells a stage)."""
        from freerea_patch.networks.nats import topology_network

        return topology_network(parse_cell(genotype), classes=self.classes)


@lru_cache(maxsize=1)
def all_cells() -> tuple[str, ...]:
    """Return the 15,625 cells in NATS-Bench's order.

    NATS-Bench numbered them by shuffling the lexicographic product with Python's generator, seed 88
    (Dong 2021, public code); the tests compare the result with the published list.
    """
    cells = [format_cell(operations) for operations in product(OPERATIONS, repeat=len(EDGES))]
    Random(88).shuffle(cells)
    return tuple(cells)
