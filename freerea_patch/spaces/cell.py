"""The cell of NAS-Bench-201 (Dong 2020): four nodes, six edges, one of five operations on each edge.

Its genotype reads ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``: one block a node, one ``op~source`` an incoming edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from freerea_patch.errors import InputError

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
#: (source, target) of the six edges, in the order of the genotype.
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))

_FORM = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|"


def format_cell(operations: Sequence[str]) -> str:
    """Return the genotype of six operations, given in the order of :data:`EDGES`."""
    return _FORM.format(*operations)


@lru_cache(maxsize=1 << 14)  # the whole space: a search reads each of its cells many times
def parse_cell(genotype: str) -> tuple[str, ...]:
    """Return the six operations of a genotype, in the order of :data:`EDGES`.

    Raises:
        InputError: the string is not a cell of this space.
    """
    operations = tuple(edge.partition("~")[0] for edge in genotype.replace("+", "").split("|") if edge)
    if len(operations) != len(EDGES) or format_cell(operations) != genotype:
        raise InputError(
            f"{genotype!r} is not a cell of the topology space; expected the form {_FORM.format(*['op'] * 6)}"
        )
    for operation in operations:
        if operation not in OPERATIONS:
            raise InputError(
                f"unknown operation {operation!r} in {genotype!r}; valid operations: {', '.join(OPERATIONS)}"
            )
    return operations


def live_operations(operations: Sequence[str]) -> list[str]:
    """Return the operations with ``none`` for each that the output does not depend on.

    Such an edge starts at a node that nothing reaches from the input, or ends at one from which nothing reaches the
    output. The cell computes the same without it, in less time.
    """
    used = [(edge, op) for edge, op in zip(EDGES, operations, strict=True) if op != "none"]
    reached, needed = {0}, {3}
    for (source, target), _ in used:  # EDGES go by target, so that all that leads to a source comes before it
        if source in reached:
            reached.add(target)
    for (source, target), _ in sorted(used, reverse=True):
        if target in needed:
            needed.add(source)
    return [
        op if source in reached and target in needed else "none"
        for (source, target), op in zip(EDGES, operations, strict=True)
    ]


def skip_length(operations: Sequence[str]) -> float:
    """Return FreeREA's skip metric: the mean length of the skip connections, 0 without one.

    The length of an edge is its target's level less its source, levels and sources counted from 0 as the public
    code does, so that an edge between neighbouring nodes has length 0.
    """
    lengths = [
        target - 1 - source for (source, target), op in zip(EDGES, operations, strict=True) if op == "skip_connect"
    ]
    return sum(lengths) / len(lengths) if lengths else 0.0
