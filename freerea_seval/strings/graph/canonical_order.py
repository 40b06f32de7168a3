"""An order of operations that the graph alone decides: not how its author happened to write it down."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b

#: Parts of more operations order their branches by what is near first, so that layers that repeat are ordered alike.
_LONG = 64
_NEAR = 3
_SIZES = re.compile(r"\[[^\]]*\]|(?<=\()\d+(?=[,)])")


def canonical_order(
    labels: Sequence[str],
    inputs: Sequence[Sequence[tuple[int, int]]],
    commutative: Sequence[bool],
    first: Sequence[int],
) -> list[int]:
    """Order the nodes of a graph, each behind its inputs, the same for every way of numbering them.

    Inputs are visited from the last node, depth first: in the order of the arguments, and where that says nothing (the
    terms of a sum) by a hash of all that comes before and behind each, up to the results that every path goes through.
    Of what the hash cannot tell apart, that comes first which is made from what came first, and then what was given so.

    Args:
        labels: ``(n,)`` what a node is; the last node is the one that all others lead to.
        inputs: ``(n,)`` the inputs of every node, in a topological order: node and result.
        commutative: ``(n,)`` whether the order of a node's inputs says nothing.
        first: nodes that come first, in this order.

    Returns:
        The positions of the nodes, ``(n,)``.
    """
    keys: list[tuple[bytes, ...]] = []
    if any(commutative):
        # Without sizes first, so that a block is ordered alike at any width.
        blind = [_SIZES.sub("", label) for label in labels]
        keys = _keys(blind, inputs, commutative)
        tied = any(
            len({keys[source] for source, _ in sources}) < len(set(sources))
            for sources, unordered in zip(inputs, commutative, strict=True)
            if unordered
        )
        if tied and blind != labels:
            keys = [(*one, *other) for one, other in zip(keys, _keys(labels, inputs, commutative), strict=True)]
    order: list[int] = []
    placed: dict[int, int] = {}
    waiting: list[tuple[int, list[int] | None]] = [(len(labels) - 1, None), *((node, None) for node in reversed(first))]
    begun: set[int] = set()
    cut, _ = _cuts(inputs, len(labels))
    while waiting:
        node, left = waiting.pop()
        if left is None:
            if node in begun:
                continue
            begun.add(node)
            left = [source for source, _ in reversed(inputs[node])]
            if commutative[node]:
                left.sort(key=lambda source: keys[source], reverse=True)
        while left and left[-1] in begun:
            left.pop()
        if not left:
            placed[node] = len(order)
            order.append(node)
            continue
        if commutative[node]:
            alike = [source for source in left if keys[source] == keys[left[-1]] and source not in begun]
            if len(alike) > 1:
                left.append(min(alike, key=lambda source: _trail(source, inputs, cut, placed)))
        waiting += [(node, left), (left[-1], None)]
    return order


def _trail(
    node: int, inputs: Sequence[Sequence[tuple[int, int]]], cut: Sequence[bool], placed: dict[int, int]
) -> list[int]:
    """Return where that is which a node is made from, so that of equal branches those belong together that meet."""
    found: set[int] = set()
    waiting = [node]
    seen = {node}
    while waiting:
        for source, _ in inputs[waiting.pop()]:
            if source in placed:
                found.add(placed[source])
            elif not cut[source] and source not in seen:
                seen.add(source)
                waiting.append(source)
    return sorted(found)


def _keys(
    labels: Sequence[str], inputs: Sequence[Sequence[tuple[int, int]]], commutative: Sequence[bool]
) -> list[tuple[bytes, ...]]:
    """Return what the terms of a sum are ordered by: first what is near in long parts, then everything."""
    n = len(labels)
    readers: list[list[tuple[int, int]]] = [[] for _ in range(n)]
    for node, sources in enumerate(inputs):
        for place, (source, port) in enumerate(sources):
            readers[source].append((node, -1 if commutative[node] else place * 1000 + port))
    cut, longest = _cuts(inputs, n)

    def through(colors: Sequence[bytes], near: bool) -> list[bytes]:
        before: list[bytes] = list(colors)
        behind: list[bytes] = list(colors)
        for node in range(n):
            known = colors if near else before
            parts = [(b"cut" if cut[source] else known[source]) + bytes([port % 256]) for source, port in inputs[node]]
            if commutative[node]:
                parts.sort()
            before[node] = _hash(colors[node], *parts)
        for node in range(n - 1, -1, -1):
            known = colors if near else behind
            if cut[node]:
                behind[node] = b"cut"
            else:
                behind[node] = _hash(
                    colors[node], *sorted(known[reader] + b"%d" % place for reader, place in readers[node])
                )
        return [_hash(*pair) for pair in zip(before, behind, strict=True)]

    colors = [label.encode() for label in labels]
    # Twice: a branch may differ from another only in what else reads one of its operations.
    everything = through(through(colors, near=False), near=False)
    near = colors
    if longest > _LONG:
        for _ in range(_NEAR):
            near = through(near, near=True)
        return list(zip(near, everything, strict=True))
    return [(b"", key) for key in everything]


def _cuts(inputs: Sequence[Sequence[tuple[int, int]]], n: int) -> tuple[list[bool], int]:
    """Return for every node whether all paths go through it, and the greatest number of nodes between two such."""
    last = list(range(n))
    reach = 0
    for node, sources in enumerate(inputs):
        for source, _ in sources:
            last[source] = node
        if not sources:
            reach = node
    cut, longest, previous = [False] * n, 0, -1
    for node in range(n):
        if reach <= node:
            cut[node] = True
            longest, previous = max(longest, node - previous), node
        reach = max(reach, last[node])
    return cut, longest


def _hash(*parts: bytes) -> bytes:
    return blake2b(b"|".join(parts), digest_size=8).digest()
