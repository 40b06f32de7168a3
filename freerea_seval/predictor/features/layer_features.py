"""Features of the layers of a network: the size of each kind of operation, segment by segment.

The accuracy of a long chain depends on where it is wide, which sums over a network do not tell. A column is a kind of
operation and a number k: the elements of these operations in the k-th segment that has any, in logarithms. Segments are
those of :mod:`.segment_features`, such as the layers of a transformer, so that the order in which a string names
parallel branches changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from math import log2, prod

import numpy as np
import numpy.typing as npt

from freerea_seval.strings.graph.ir import Ref, cut_vertices
from freerea_seval.strings.text import Block, parse_blocks

Values = npt.NDArray[np.float64]

#: Further segments of a kind have no column.
_MOST = 512
#: Columns that differ by less than this, once standardised, are one.
_DECIMALS = 5


class LayerFeatures:
    """Columns of the layers of networks.

    Attributes:
        names: of the columns, such as ``linear 3``.
        columns: of each kind, the numbers of its columns, and of the segment, from 0, that each is of.
        absent: ``(d,)`` what a column has for a network without such a segment: half of the smallest in training.
    """

    def __init__(self, names: Sequence[str], absent: Values) -> None:
        self.names, self.absent = list(names), absent
        places = [(kind, int(number) - 1) for kind, _, number in (name.rpartition(" ") for name in self.names)]
        self.columns = {
            kind: (np.array([i for i, place in enumerate(places) if place[0] == kind]),
                   np.array([number for other, number in places if other == kind]))
            for kind in dict.fromkeys(kind for kind, _ in places)
        }  # fmt: skip

    @classmethod
    def fit(cls, strings: Sequence[str]) -> LayerFeatures:
        """Learn the columns that differ among networks, and of equal ones the first.

        Args:
            strings: ``(n,)`` network strings, at least one.

        Raises:
            InputError: a string is not a network string.
        """
        networks = [layers(string) for string in strings]
        lengths = {kind: 0 for network in networks for kind in network}
        for network in networks:
            lengths |= {kind: max(lengths[kind], len(sizes)) for kind, sizes in network.items()}
        names = [f"{kind} {number + 1}" for kind in sorted(lengths) for number in range(lengths[kind])]
        matrix = cls(names, np.full(len(names), np.nan))._matrix(networks)
        absent = np.nanmin(matrix, axis=0) - 1.0
        matrix = np.where(np.isnan(matrix), absent, matrix)
        differs = np.flatnonzero(np.ptp(matrix, axis=0) > 0)
        _, first = np.unique(standardised(matrix[:, differs]).round(_DECIMALS), axis=1, return_index=True)
        kept = differs[np.sort(first)]
        return cls([names[column] for column in kept], absent[kept])

    def matrix(self, strings: Sequence[str]) -> Values:
        """Return the columns of networks, ``(n, d)``.

        Raises:
            InputError: a string is not a network string.
        """
        return self._matrix([layers(string) for string in strings])

    def _matrix(self, networks: Sequence[Mapping[str, Sequence[float]]]) -> Values:
        matrix = np.tile(self.absent, (len(networks), 1))
        for row, network in zip(matrix, networks, strict=True):
            for kind, sizes in network.items():
                if kind in self.columns:
                    columns, numbers = self.columns[kind]
                    here = numbers < len(sizes)
                    row[columns[here]] = np.array(sizes)[numbers[here]]
        return matrix


def independent_layers(strings: Sequence[str]) -> float:
    """Return at how many places layers vary independently of each other, for the kind with most of them.

    It is the participation ratio of the principal components of a kind's columns: 1 if all layers of a kind vary
    together, and the number of columns if each varies for itself.

    Args:
        strings: ``(n,)`` network strings, at least one.

    Raises:
        InputError: a string is not a network string.
    """
    features = LayerFeatures.fit(strings)
    matrix = features.matrix(strings)
    most = 0.0
    for columns, _ in features.columns.values():
        variances = np.linalg.svd(standardised(matrix[:, columns]), compute_uv=False) ** 2
        most = max(most, float(variances.sum() ** 2 / (variances**2).sum()))
    return most


def standardised(columns: Values) -> Values:
    """Return columns of mean 0 and variance 1, ``(n, d)``; each of them must have different values."""
    return np.asarray((columns - columns.mean(axis=0)) / columns.std(axis=0), dtype=np.float64)


@lru_cache(maxsize=32_768)
def layers(string: str) -> dict[str, list[float]]:
    """Return the sizes of each kind of operation in the segments that have any, in the order of the chain.

    Raises:
        InputError: not a network string.
    """
    network: dict[str, list[float]] = {}
    for block, times in parse_blocks(string):
        for kind, sizes in _sizes(block).items():
            known = network.setdefault(kind, [])
            known += (sizes * min(times, _MOST))[: _MOST - len(known)]
    return network


@lru_cache(maxsize=16_384)
def _sizes(block: Block) -> dict[str, list[float]]:
    """Return binary logarithms of the elements of each kind in the segments of a block."""
    sizes: dict[str, list[float]] = {}
    for segment in _segments(block):
        for kind, elements in segment.items():
            sizes.setdefault(kind, []).append(log2(max(elements, 1)))
    return sizes


def _segments(block: Block) -> Iterator[dict[str, int]]:
    """Yield the elements of each kind of operation in the segments of a block."""
    nodes = [operation.node for operation in block.operations]
    reads = [
        [position - item.node for item in node.inputs if isinstance(item, Ref)] for position, node in enumerate(nodes)
    ]
    for start, end in pairwise([-1, *cut_vertices(reads)]):
        elements: dict[str, int] = {}
        for kind, _, _, outputs in nodes[start + 1 : end + 1]:
            if kind != "entry":
                elements[kind] = elements.get(kind, 0) + sum(prod(spec.shape) for spec in outputs)
        yield elements
