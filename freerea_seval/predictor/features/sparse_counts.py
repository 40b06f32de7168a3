"""Sums of named numbers as rows of a matrix, with the rows of shared summands cached.

A network is a weighted sum of sums of counts (:class:`Parts` of :class:`Sum` of :class:`Counts`). Each count and each
sum is one row of a sparse matrix in CSR form, which grows when a new one is met. Rows of networks are then products of
sparse matrices; numpy's bincount computes them, which adds entries in their order.
"""

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

#: Number of rows that are computed at once.
_CHUNK = 1024
#: The cached rows are dropped when they hold more numbers than this.
_MAX_CACHED = 1_000_000


@dataclass(frozen=True, eq=False, slots=True)  # compared by identity, which is fast to hash
class Counts:
    """Numbers by name."""

    numbers: Mapping[str, float]


@dataclass(frozen=True, eq=False, slots=True)  # compared by identity, as counts are
class Sum:
    """A weighted sum of counts, such as those of a block."""

    counts: tuple[Counts, ...]
    times: tuple[float, ...]

    def numbers(self) -> dict[str, float]:
        """Return the sum by name."""
        total: dict[str, float] = {}
        for counts, times in zip(self.counts, self.times, strict=True):
            for name, value in counts.numbers.items():
                total[name] = total.get(name, 0.0) + times * float(value)
        return total


class Parts(NamedTuple):
    """A weighted sum of sums: the numbers of a network."""

    sums: tuple[Sum, ...]
    times: tuple[float, ...]

    def names(self) -> set[str]:
        """Return the names of all numbers, including zeros."""
        counts = {counts for part in set(self.sums) for counts in part.counts}
        return {name for item in counts for name in item.numbers}


class _Table(NamedTuple):
    """A matrix in CSR form: row ``i`` has ``values`` in ``columns``, both from ``ends[i]`` to ``ends[i + 1]``."""

    ends: Indices
    columns: Indices
    values: Values


class Columns:
    """Columns of a matrix, by name.

    Args:
        names: of the columns; numbers with other names are left out.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._counts = _CountRows(names)
        self._sums = _Rows[Sum]()
        self._slices: dict[str, slice] = {}
        self._lock = Lock()  # a table cannot grow while another thread reads it

    def __reduce__(self) -> tuple[Callable[..., Columns], tuple[Sequence[str]]]:
        return Columns, (self.names,)

    def named(self, prefix: str) -> slice:
        """Return the columns with a name that begins with ``prefix``; they must be adjacent."""
        if prefix not in self._slices:
            indices = [index for index, name in enumerate(self.names) if name.startswith(prefix)]
            self._slices[prefix] = slice(indices[0], indices[-1] + 1) if indices else slice(0, 0)
        return self._slices[prefix]

    def rows(self, networks: Sequence[Parts]) -> Values:
        """Return the numbers of networks, ``(n, d)``.

        Summands are added in order, so that the bits of a row do not depend on the other rows.
        """
        matrix = np.empty((len(networks), len(self.names)))
        for start in range(0, len(networks), _CHUNK):
            chunk = networks[start : start + _CHUNK]
            times = list(chain.from_iterable([parts.times for parts in chunk]))
            lengths = [len(parts.sums) for parts in chunk]
            with self._lock:
                if len(self._counts.values_) + len(self._sums.values_) > _MAX_CACHED:
                    self._counts, self._sums = _CountRows(self.names), _Rows()
                sums = list(chain.from_iterable([parts.sums for parts in chunk]))
                self._add_sums([part for part in dict.fromkeys(sums) if part not in self._sums])
                items = list(map(self._sums.__getitem__, sums))
                total = _weighted_sums(self._sums.table(), items, times, lengths, len(self.names))
                matrix[start : start + len(chunk)] = total
        return matrix

    def _add_sums(self, sums: Sequence[Sum]) -> None:
        """Compute the rows of new sums."""
        for start in range(0, len(sums), _CHUNK):
            chunk = sums[start : start + _CHUNK]
            items = list(map(self._counts.__getitem__, chain.from_iterable([part.counts for part in chunk])))
            times = list(chain.from_iterable([part.times for part in chunk]))
            lengths = [len(part.counts) for part in chunk]
            dense = _weighted_sums(self._counts.table(), items, times, lengths, len(self.names))
            rows, columns = dense.nonzero()
            self._sums.grow(chunk, np.bincount(rows, minlength=len(chunk)), columns, dense[rows, columns])


class _Rows(dict[_Key, int]):
    """The row of each key in a table that grows."""

    def __init__(self) -> None:
        super().__init__()
        self.ends_, self.columns_, self.values_ = array("q", [0]), array("q"), array("d")

    def grow(self, keys: Iterable[_Key], lengths: Indices, columns: Indices, values: Values) -> None:
        """Append rows of these lengths."""
        self.ends_.frombytes((len(self.values_) + lengths.cumsum()).astype(np.int64).tobytes())
        self.columns_.frombytes(columns.astype(np.int64).tobytes())
        self.values_.frombytes(values.tobytes())
        self.update(zip(keys, count(len(self))))

    def table(self) -> _Table:
        """Return views of the table, which cannot grow while they exist."""
        ends, columns = (np.frombuffer(part, np.int64) for part in (self.ends_, self.columns_))
        return _Table(ends, columns, np.frombuffer(self.values_, np.float64))


class _CountRows(_Rows[Counts]):
    """Rows of counts, appended on access."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.column = {name: column for column, name in enumerate(names)}

    def __missing__(self, counts: Counts) -> int:
        column = self.column
        for name, value in counts.numbers.items():
            if name in column:
                self.columns_.append(column[name])
                self.values_.append(value)
        self.ends_.append(len(self.values_))
        self[counts] = len(self)
        return len(self) - 1


def _weighted_sums(
    table: _Table, items: Sequence[int], times: Sequence[float], counts: Sequence[int], width: int
) -> Values:
    """Return weighted sums of rows of a table, ``(n, width)``: the ``i``-th is of the next ``counts[i]`` items."""
    rows = np.array(items, dtype=np.int64)
    starts = table.ends[rows]
    lengths = table.ends[rows + 1] - starts
    ends = np.zeros(len(lengths) + 1, dtype=np.int64)
    lengths.cumsum(out=ends[1:])
    # Methods instead of functions, which take longer than the work on a small array.
    entries = np.arange(ends[-1]) + (starts - ends[:-1]).repeat(lengths)
    offsets = (np.arange(len(counts)) * width).repeat(counts).repeat(lengths)
    # bincount adds one after the other, in this order.
    sums = np.bincount(
        offsets + table.columns[entries],
        np.array(times, dtype=np.float64).repeat(lengths) * table.values[entries],
        minlength=len(counts) * width,
    )
    return np.asarray(sums, dtype=np.float64).reshape(len(counts), width)
