"""Canonical order of operations: isomorphic graphs are ordered alike, however their authors wrote them down.

The order is a depth-first topological sort that starts at the output. It visits the inputs of an operation in the order
of its arguments. The inputs of a commutative operation have no such order; they are sorted by a structural hash in the
manner of Weisfeiler and Lehman 1968, over everything that comes before and after each of them.

Notation:

=============  ======  ==========================================================================================
labels         (n,)    what an operation is, as text
inputs         (n,)    for every node a list of (node, port) that it reads; nodes are in a topological order
commutative    (n,)    whether the order of a node's inputs has no meaning
cut            (n,)    whether all paths from the inputs to the output pass through the node (cut vertices)
segment                the nodes between two neighbouring cut vertices; hashes do not look beyond their segment
=============  ======  ==========================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from itertools import pairwise

from freerea_seval.strings.graph.ir import cut_vertices

Inputs = Sequence[Sequence[tuple[int, int]]]

#: In segments with more nodes than this, the hash of the neighbourhood comes first, so that the layers of a deep
#: network without cut vertices are ordered alike.
_LONG_SEGMENT = 64
#: Radius of that neighbourhood.
_RADIUS = 3
#: Result shapes and output widths in a label.
_SIZES = re.compile(r"\[[^\]]*\]|(?<=\()\d+(?=[,)])")


def canonical_order(
    labels: Sequence[str], inputs: Inputs, commutative: Sequence[bool], first: Sequence[int]
) -> list[int]:
    """Return the canonical order of a graph's nodes, in which every node comes after its inputs.

    Where the hashes of two branches are equal, the branch whose own inputs come earlier in the order is first. If this
    does not decide either, the branches are interchangeable, and the given order is kept.

    Args:
        labels: ``(n,)``; the last node is the output.
        inputs: ``(n,)``.
        commutative: ``(n,)``.
        first: nodes that come first, in this order.

    Returns:
        The indices of all nodes, ``(n,)``.
    """
    cut = _is_cut(inputs)
    keys: list[tuple[bytes, ...]] = []
    if any(commutative):
        # Without sizes first: a block is then ordered alike at any width.
        sizeless = [_SIZES.sub("", label) for label in labels]
        keys = _structural_hashes(sizeless, inputs, commutative, cut)
        tied = any(
            len({keys[source] for source, _ in sources}) < len(set(sources))
            for sources, unordered in zip(inputs, commutative, strict=True)
            if unordered
        )
        if tied and sizeless != labels:
            sized = _structural_hashes(labels, inputs, commutative, cut)
            keys = [(*one, *other) for one, other in zip(keys, sized, strict=True)]
    order: list[int] = []
    position: dict[int, int] = {}
    started: set[int] = set()
    # Each entry is a node and its inputs that are still to be visited, the next one last; None before the first visit.
    stack: list[tuple[int, list[int] | None]] = [(len(labels) - 1, None), *((node, None) for node in reversed(first))]
    while stack:
        node, pending = stack.pop()
        if pending is None:
            if node in started:
                continue
            started.add(node)
            pending = [source for source, _ in reversed(inputs[node])]
            if commutative[node]:
                pending.sort(key=lambda source: keys[source], reverse=True)
        while pending and pending[-1] in started:
            pending.pop()
        if not pending:
            position[node] = len(order)
            order.append(node)
            continue
        if commutative[node]:
            ties = [source for source in pending if keys[source] == keys[pending[-1]] and source not in started]
            if len(ties) > 1:
                pending.append(min(ties, key=lambda source: _ordered_ancestors(source, inputs, cut, position)))
        stack += [(node, pending), (pending[-1], None)]
    return order


def _is_cut(inputs: Inputs) -> list[bool]:
    """Return, for every node, whether all paths from the inputs to the last node pass through it."""
    reads = [[source for source, _ in sources] for sources in inputs]
    last_input = max((node for node, sources in enumerate(reads) if not sources), default=0)
    cuts = set(cut_vertices(reads))
    return [node >= last_input and node in cuts for node in range(len(reads))]


def _ordered_ancestors(node: int, inputs: Inputs, cut: Sequence[bool], position: dict[int, int]) -> list[int]:
    """Return the positions of the nearest ancestors that have one, so that branches that meet are ordered alike."""
    positions: set[int] = set()
    stack = [node]
    seen = {node}
    while stack:
        for source, _ in inputs[stack.pop()]:
            if source in position:
                positions.add(position[source])
            elif not cut[source] and source not in seen:
                seen.add(source)
                stack.append(source)
    return sorted(positions)


def _structural_hashes(
    labels: Sequence[str], inputs: Inputs, commutative: Sequence[bool], cut: Sequence[bool]
) -> list[tuple[bytes, ...]]:
    """Return a pair of hashes per node: of its neighbourhood (empty in short segments) and of its whole segment."""
    n = len(labels)
    readers: list[list[tuple[int, int]]] = [[] for _ in range(n)]
    for node, sources in enumerate(inputs):
        for argument, (source, port) in enumerate(sources):
            readers[source].append((node, -1 if commutative[node] else argument * 1000 + port))

    def refined(colors: Sequence[bytes], local: bool) -> list[bytes]:
        """Combine the color of every node with those of its ancestors and descendants, or (local) of its neighbours."""
        ancestors, descendants = list(colors), list(colors)
        before, after = (colors, colors) if local else (ancestors, descendants)
        for node in range(n):
            parts = [(b"cut" if cut[source] else before[source]) + bytes([port % 256]) for source, port in inputs[node]]
            if commutative[node]:
                parts.sort()
            ancestors[node] = _hash(colors[node], *parts)
        for node in range(n - 1, -1, -1):
            uses = sorted(after[reader] + b"%d" % argument for reader, argument in readers[node])
            descendants[node] = b"cut" if cut[node] else _hash(colors[node], *uses)
        return [_hash(*pair) for pair in zip(ancestors, descendants, strict=True)]

    colors = [label.encode() for label in labels]
    # Two rounds: two branches may differ only in what else reads one of their operations.
    segment = refined(refined(colors, local=False), local=False)
    cuts = [-1, *(node for node in range(n) if cut[node])]
    if max(end - start for start, end in pairwise(cuts)) <= _LONG_SEGMENT:
        return [(b"", key) for key in segment]
    for _ in range(_RADIUS):
        colors = refined(colors, local=True)
    return list(zip(colors, segment, strict=True))


def _hash(*parts: bytes) -> bytes:
    return blake2b(b"|".join(parts), digest_size=8).digest()
