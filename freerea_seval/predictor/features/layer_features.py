"""Features of the layers of a network: the size of each kind of operation, segment by segment.

The accuracy of a long chain depends on where it is wide, which sums over a network do not tell. A column is a kind of
operation and a number: ``linear 3`` has the elements of linear layers in the third segment that has any, and
``linear 0`` those of the whole network, in binary logarithms. Segments are those of :mod:`.segment_features`, such as
the layers of a transformer, so that the order in which a string names parallel branches changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from math import log2, prod

import numpy as np
import numpy.typing as npt

from freerea_seval.strings.graph.ir import cut_vertices
from freerea_seval.strings.text import Block, parse_blocks

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

#: Further segments of a kind have no column.
_MOST = 512
#: Columns that differ by less than this, once standardised, are one.
_DECIMALS = 5


class LayerFeatures:
    """Columns of the layers of networks.

    Attributes:
        names: of the columns, such as ``linear 3``; those of whole networks come first.
        totals: how many are of whole networks.
        absent: ``(d,)`` what a column has for a network without such a segment: half of the smallest in training.
    """

    def __init__(self, names: Sequence[str], absent: Values) -> None:
        self.names, self.absent = list(names), absent
        places = [(kind, int(number)) for kind, _, number in (name.rpartition(" ") for name in self.names)]
        self.totals = sum(number == 0 for _, number in places)
        self._columns = {
            kind: np.array([[i, number] for i, (other, number) in enumerate(places) if other == kind]).T
            for kind in dict.fromkeys(kind for kind, _ in places)
        }

    @classmethod
    def fit(cls, strings: Sequence[str]) -> LayerFeatures:
        """Learn the columns that differ among networks, and of equal ones the first.

        Args:
            strings: ``(n,)`` network strings, at least one.

        Raises:
            InputError: a string is not a network string.
        """
        networks = [layers(string) for string in strings]
        lengths: dict[str, int] = {}
        for network in networks:
            lengths |= {kind: max(lengths.get(kind, 0), len(sizes)) for kind, sizes in network.items()}
        totals = [f"{kind} 0" for kind in sorted(lengths)]
        names = totals + [f"{kind} {number}" for kind in sorted(lengths) for number in range(1, lengths[kind])]
        matrix = cls(names, np.full(len(names), np.nan))._matrix(networks)
        absent = np.nanmin(matrix, axis=0) - 1.0
        matrix = np.where(np.isnan(matrix), absent, matrix)
        kept = [*_different(matrix[:, : len(totals)]), *(len(totals) + _different(matrix[:, len(totals) :]))]
        return cls([names[column] for column in kept], absent[kept])

    def matrix(self, strings: Sequence[str]) -> Values:
        """Return the columns of networks, ``(n, d)``.

        Raises:
            InputError: a string is not a network string.
        """
        return self._matrix([layers(string) for string in strings])

    def independent(self, strings: Sequence[str]) -> float:
        """Return at how many places layers vary independently of each other, for the kind with most of them.

        It is the participation ratio of the principal components of a kind's columns: 1 if all layers of a kind vary
        together, and the number of columns if each varies for itself.

        Args:
            strings: ``(n,)`` those that the columns were learned from.

        Raises:
            InputError: a string is not a network string.
        """
        matrix, most = self.matrix(strings), 0.0
        for columns, numbers in self._columns.values():
            layered = matrix[:, columns[numbers > 0]]
            variances = np.linalg.svd(_standardised(layered), compute_uv=False) ** 2
            if len(variances):
                most = max(most, float(variances.sum() ** 2 / (variances**2).sum()))
        return most

    def _matrix(self, networks: Sequence[Mapping[str, Sequence[float]]]) -> Values:
        matrix = np.tile(self.absent, (len(networks), 1))
        for row, network in zip(matrix, networks, strict=True):
            for kind, sizes in network.items():
                if kind in self._columns:
                    columns, numbers = self._columns[kind]
                    present = numbers < len(sizes)
                    row[columns[present]] = np.array(sizes)[numbers[present]]
        return matrix


def _different(matrix: Values) -> Indices:
    """Return the numbers of columns that differ from row to row, and from the columns before them once standardised."""
    differs = np.flatnonzero(np.ptp(matrix, axis=0) > 0)
    _, first = np.unique(_standardised(matrix[:, differs]).round(_DECIMALS), axis=1, return_index=True)
    return np.asarray(differs[np.sort(first)], dtype=np.int64)


def _standardised(columns: Values) -> Values:
    """Return columns of mean 0 and variance 1, ``(n, d)``; each of them must have different values."""
    return np.asarray((columns - columns.mean(axis=0)) / columns.std(axis=0), dtype=np.float64)


@lru_cache(maxsize=32_768)
def layers(string: str) -> dict[str, list[float]]:
    """Return the size of each kind of operation in the network, and in each segment that has any, along the chain.

    Sizes are binary logarithms of elements.

    Raises:
        InputError: not a network string.
    """
    elements: dict[str, int] = {}
    sizes: dict[str, list[float]] = {}
    for block, times in parse_blocks(string):
        for kind, segments in _elements(block).items():
            elements[kind] = elements.get(kind, 0) + times * sum(segments)
            known = sizes.setdefault(kind, [])
            known += ([_size(count) for count in segments] * min(times, _MOST))[: _MOST - len(known)]
    return {kind: [_size(count), *sizes[kind]] for kind, count in elements.items()}


def _size(elements: int) -> float:
    return log2(max(elements, 1))


@lru_cache(maxsize=16_384)
def _elements(block: Block) -> dict[str, list[int]]:
    """Return the elements of each kind of operation in the segments of a block that have any."""
    nodes = [operation.node for operation in block.operations]
    reads = [[position - ref.node for ref in node.refs] for position, node in enumerate(nodes)]
    segments: dict[str, list[int]] = {}
    for start, end in pairwise([-1, *cut_vertices(reads)]):
        elements: dict[str, int] = {}
        for kind, _, _, outputs in nodes[start + 1 : end + 1]:
            if kind != "entry":
                elements[kind] = elements.get(kind, 0) + sum(prod(spec.shape) for spec in outputs)
        for kind, count in elements.items():
            segments.setdefault(kind, []).append(count)
    return segments
