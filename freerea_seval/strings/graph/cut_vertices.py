"""The nodes of a graph that every path passes."""

from __future__ import annotations

from collections.abc import Iterable


def cut_vertices(reads: Iterable[Iterable[int]]) -> list[int]:
    """Return the nodes that separate a graph: no node behind one of them reads a node before it.

    Args:
        reads: for each node, in topological order, the positions that it reads.

    Returns:
        Ascending positions; the last node is always among them.
    """
    last_reader: list[int] = []
    for position, sources in enumerate(reads):
        last_reader.append(position)
        for source in sources:
            last_reader[source] = position
    cuts: list[int] = []
    reach = 0  # the last reader of any node so far
    for position, reader in enumerate(last_reader):
        if reach <= position:
            cuts.append(position)
        if reader > reach:
            reach = reader
    return cuts
