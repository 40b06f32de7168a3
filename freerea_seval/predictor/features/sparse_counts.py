"""Numbers by name, and sums of them, as rows of a matrix: what many networks share is looked up once."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from threading import Lock
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
_Key = TypeVar("_Key")

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
        self._known = _Counted(names)
        self._sums = _Rows[Sum]()
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
            times = list(chain.from_iterable([parts.times for parts in some]))
            lengths = [len(parts.sums) for parts in some]
            with self._turn:
                if len(self._known.values_) + len(self._sums.values_) > _MOST:
                    self._known, self._sums = _Counted(self.names), _Rows()
                sums = list(chain.from_iterable([parts.sums for parts in some]))
                self._add_up([part for part in dict.fromkeys(sums) if part not in self._sums])
                items = list(map(self._sums.__getitem__, sums))
                found[start : start + len(some)] = _added(self._sums.table(), items, times, lengths, len(self.names))
        return found

    def _add_up(self, sums: Sequence[Sum]) -> None:
        """Remember what sums come to that are new."""
        for start in range(0, len(sums), _AT_ONCE):
            some = sums[start : start + _AT_ONCE]
            items = list(map(self._known.__getitem__, chain.from_iterable([part.counts for part in some])))
            times = list(chain.from_iterable([part.times for part in some]))
            found = _added(self._known.table(), items, times, [len(part.counts) for part in some], len(self.names))
            rows, places = found.nonzero()
            self._sums.grow(some, np.bincount(rows, minlength=len(some)), places, found[rows, places])


class _Rows(dict[_Key, int]):
    """Which row of a table that grows is whose."""

    def __init__(self) -> None:
        super().__init__()
        self.ends_, self.places_, self.values_ = array("q", [0]), array("q"), array("d")

    def grow(self, keys: Iterable[_Key], lengths: Indices, places: Indices, values: Values) -> None:
        """Add rows of these lengths."""
        self.ends_.frombytes((len(self.values_) + lengths.cumsum()).astype(np.int64).tobytes())
        self.places_.frombytes(places.astype(np.int64).tobytes())
        self.values_.frombytes(values.tobytes())
        self.update(zip(keys, count(len(self))))

    def table(self) -> _Table:
        """Return the table, which must be gone before it grows."""
        ends, places = (np.frombuffer(part, np.int64) for part in (self.ends_, self.places_))
        return _Table(ends, places, np.frombuffer(self.values_, np.float64))


class _Counted(_Rows[Counts]):
    """Rows of counts; the table grows by those that are asked for."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.place = {name: place for place, name in enumerate(names)}

    def __missing__(self, counts: Counts) -> int:
        place = self.place
        for name, value in counts.numbers.items():
            if name in place:
                self.places_.append(place[name])
                self.values_.append(value)
        self.ends_.append(len(self.values_))
        self[counts] = len(self)
        return len(self) - 1


def _added(table: _Table, items: Sequence[int], times: Sequence[float], counts: Sequence[int], width: int) -> Values:
    """Return sums of rows of a table, ``(n, width)``: the ``i``-th is of the next ``counts[i]`` of the items."""
    rows = np.array(items, dtype=np.int64)
    starts = table.ends[rows]
    lengths = table.ends[rows + 1] - starts
    ends = _ends(lengths)
    # Methods, which cost a small array less than functions do.
    which = np.arange(ends[-1]) + (starts - ends[:-1]).repeat(lengths)
    owners = (np.arange(len(counts)) * width).repeat(counts).repeat(lengths)
    # One after the other, in this order.
    sums = np.bincount(
        owners + table.places[which],
        np.array(times, dtype=np.float64).repeat(lengths) * table.values[which],
        minlength=len(counts) * width,
    )
    return np.asarray(sums, dtype=np.float64).reshape(len(counts), width)


def _ends(lengths: Indices) -> Indices:
    ends = np.zeros(len(lengths) + 1, dtype=np.int64)
    lengths.cumsum(out=ends[1:])
    return ends
