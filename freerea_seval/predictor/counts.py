"""Numbers by name, and sums of them, as rows of a matrix: what many networks share is looked up once."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

#: Rows are made for so many at a time.
_AT_ONCE = 1024
#: Beyond so many numbers, all that is remembered of them is forgotten.
_MOST = 1_000_000


@dataclass(frozen=True, eq=False, slots=True)  # compared by identity, which is quick to hash
class Counts:
    """What is counted of a piece of a network, by name."""

    numbers: Mapping[str, float]


@dataclass(frozen=True, eq=False, slots=True)  # compared by identity, as counts are
class Sum:
    """Counts, each so many times; what is counted of a block."""

    counts: tuple[Counts, ...]
    times: tuple[float, ...]

    def numbers(self) -> dict[str, float]:
        """Return the sum by name."""
        found: dict[str, float] = {}
        for counts, times in zip(self.counts, self.times, strict=True):
            for name, value in counts.numbers.items():
                found[name] = found.get(name, 0.0) + times * float(value)
        return found


class Parts(NamedTuple):
    """What is counted of a network: sums, each so many times."""

    sums: tuple[Sum, ...]
    times: tuple[int, ...]

    def names(self) -> set[str]:
        """Return the names of all that is counted, also of what is zero."""
        pieces = {counts for part in set(self.sums) for counts in part.counts}
        return {name for counts in pieces for name in counts.numbers}


class _Table(NamedTuple):
    """Rows of a sparse matrix: the ``i``-th has ``values`` in ``places``, both from ``ends[i]`` to ``ends[i + 1]``."""

    ends: Indices
    places: Indices
    values: Values


class Columns:
    """Columns of a matrix, by name.

    Args:
        names: of the columns; what has another name is left out.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._known = _Rows(names)
        self._named: dict[str, slice] = {}
        self._turn = Lock()  # a table cannot grow while another thread reads it

    def __reduce__(self) -> tuple[Callable[..., Columns], tuple[Sequence[str]]]:
        return Columns, (self.names,)

    def named(self, beginning: str) -> slice:
        """Return the columns with a name that begins so, which stand side by side."""
        if beginning not in self._named:
            places = [place for place, name in enumerate(self.names) if name.startswith(beginning)]
            self._named[beginning] = slice(places[0], places[-1] + 1) if places else slice(0, 0)
        return self._named[beginning]

    def rows(self, networks: Sequence[Parts]) -> Values:
        """Return what is counted of networks, ``(n, d)``.

        Numbers are added in the order in which they come, so that a row has the same bits whatever rows come with it.
        """
        found = np.empty((len(networks), len(self.names)))
        for start in range(0, len(networks), _AT_ONCE):
            some = networks[start : start + _AT_ONCE]
            different: dict[Sum, int] = {}
            items = [different.setdefault(part, len(different)) for parts in some for part in parts.sums]
            times = list(chain.from_iterable([parts.times for parts in some]))
            with self._turn:
                blocks = self._blocks(list(different))
            lengths = [len(parts.sums) for parts in some]
            found[start : start + len(some)] = _added(blocks, items, times, lengths, len(self.names))
        return found

    def _blocks(self, sums: Sequence[Sum]) -> _Table:
        if len(self._known.values_) > _MOST:
            self._known = _Rows(self.names)
        tables = []
        for start in range(0, len(sums) or 1, _AT_ONCE):
            some = sums[start : start + _AT_ONCE]
            items = list(map(self._known.__getitem__, chain.from_iterable([part.counts for part in some])))
            times = list(chain.from_iterable([part.times for part in some]))
            found = _added(self._known.table(), items, times, [len(part.counts) for part in some], len(self.names))
            rows, places = np.nonzero(found)
            tables.append((np.bincount(rows, minlength=len(some)), places, found[rows, places]))
        lengths, places, values = (np.concatenate(arrays) for arrays in zip(*tables, strict=True))
        return _Table(_ends(lengths), places, values)


class _Rows(dict[Counts, int]):
    """Rows of counts in a table that grows by those that are asked for."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.place = {name: place for place, name in enumerate(names)}
        self.ends_, self.places_, self.values_ = array("q", [0]), array("q"), array("d")

    def __missing__(self, counts: Counts) -> int:
        place = self.place
        for name, value in counts.numbers.items():
            if name in place:
                self.places_.append(place[name])
                self.values_.append(value)
        self.ends_.append(len(self.values_))
        self[counts] = len(self)
        return len(self) - 1

    def table(self) -> _Table:
        """Return the table, which must be gone before it grows."""
        ends, places = (np.frombuffer(part, np.int64) for part in (self.ends_, self.places_))
        return _Table(ends, places, np.frombuffer(self.values_, np.float64))


def _added(table: _Table, items: Sequence[int], times: Sequence[float], counts: Sequence[int], width: int) -> Values:
    """Return sums of rows of a table, ``(n, width)``: the ``i``-th is of the next ``counts[i]`` of the items."""
    rows = np.array(items, dtype=np.int64)
    starts = table.ends[rows]
    lengths = table.ends[rows + 1] - starts
    ends = _ends(lengths)
    which = np.arange(ends[-1]) + np.repeat(starts - ends[:-1], lengths)
    owners = np.repeat(np.repeat(np.arange(len(counts)) * width, counts), lengths)
    # One after the other, in this order.
    sums = np.bincount(
        owners + table.places[which],
        np.repeat(np.array(times, dtype=np.float64), lengths) * table.values[which],
        minlength=len(counts) * width,
    )
    return np.asarray(sums, dtype=np.float64).reshape(len(counts), width)


def _ends(lengths: Indices) -> Indices:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
