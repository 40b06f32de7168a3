"""The source ``table``: a CSV file of the user's, one row a network, one column a metric.

An empty cell means that the network has no value because the device cannot run it, as ``freerea-seval measure`` writes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from freerea_patch import UNSUPPORTED, InputError, Measured, SearchSpace, unknown_name
from freerea_seval.sources.registry import Context, MetricInfo
from freerea_seval.tables import read_csv
from freerea_seval.units import unit_of

_GENOTYPE_COLUMNS = ("genotype", "arch_str", "architecture")
_INDEX_COLUMN = "index"
_KEY_COLUMNS = (*_GENOTYPE_COLUMNS, _INDEX_COLUMN)
#: Columns that name networks of a space.
KEY_COLUMNS = frozenset(_KEY_COLUMNS)
_OPTIONS = ("path", "key", "missing", "unsupported")
_MISSING = ("error", "unsupported")


class TableSource:
    """Values from a CSV file, with the seconds of the column ``METRIC_seconds`` if there is one.

    Args:
        context: the search; its space says which genotypes are valid.
        argument: the file, or ``{path: FILE, key: COLUMN, missing: unsupported, unsupported: NUMBER}``. ``key`` is that
            of :class:`Table`. With ``missing: unsupported``, a genotype without a row is unsupported instead of an
            error. ``unsupported`` is the number that the file uses for networks without a value.

    Raises:
        InputError: an unknown option, or a file that :class:`Table` cannot use.
    """

    def __init__(self, context: Context, argument: Any) -> None:
        options = argument if isinstance(argument, dict) else {"path": argument}
        for option in options:
            if option not in _OPTIONS:
                raise unknown_name("option of source 'table'", option, _OPTIONS)
        missing = options.get("missing", "error")
        if missing not in _MISSING:
            raise unknown_name("value of 'missing' in source 'table':", missing, _MISSING)
        self._skip_missing = missing == "unsupported"
        self._sentinel = sentinel = options.get("unsupported")
        if sentinel is not None and (isinstance(sentinel, bool) or not isinstance(sentinel, (int, float))):
            raise InputError(f"'unsupported' in source 'table' must be a number, not {sentinel!r}")
        self._path_argument = options.get("path")
        path = context.path(self._path_argument, "source 'table'")
        self._table, self._columns = _read_once(path, context.space, options.get("key"))

    def describe(self, metric: str) -> MetricInfo:
        """Return a column's unit, and check its values; its direction is for the user to say.

        Raises:
            InputError: there is no such column, or one of its values cannot be used.
        """
        self._column(metric)
        return MetricInfo(metric, None, unit_of(metric), f"column of {self._table.path.name}")

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterator[Mapping[str, Measured]]:
        """Yield the values of each genotype's row.

        Raises:
            InputError: as :meth:`describe`; or a genotype has no row.
        """
        columns = [(metric, self._column(metric)) for metric in metrics]
        for genotype in genotypes:
            if genotype in self._table:
                yield {metric: self._supported(column[genotype]) for metric, column in columns}
            elif self._skip_missing:
                yield dict.fromkeys(metrics, Measured(UNSUPPORTED))
            else:
                raise InputError(
                    f"{self._table.path} has no row for {genotype!r}; add the row, or search its rows alone:"
                    f" 'space: {{name: ..., only: {self._path_argument}}}'"
                )

    def _column(self, metric: str) -> dict[str, Measured]:
        if metric not in self._columns:
            self._columns[metric] = self._table.column(metric)
        return self._columns[metric]

    def _supported(self, measured: Measured) -> Measured:
        return Measured(UNSUPPORTED, measured.seconds) if measured.value == self._sentinel else measured


def read_table(
    path: Path, space: SearchSpace, metric: str, *, key: str | None = None, advice: Advice | None = None
) -> tuple[list[str], list[float]]:
    """Return a table's genotypes and their values of one metric, in the order of the file.

    The arguments and errors are those of :class:`Table` and :meth:`Table.column`; seconds are ignored.
    """
    column = Table(path, space, key=key, advice=advice).column(metric, seconds=False)
    return list(column), [measured.value for measured in column.values()]


class Advice(NamedTuple):
    """What an error about a key column, a cell or a network advises; the default is for the config of a search."""

    key: str = ", or name it with 'key: COLUMN'"
    cell: str = ", or leave out the row and search the others alone: 'space: {name: ..., only: FILE}'"
    network: str = ""


class Table:
    """A CSV file whose rows are networks of a space.

    Rows are keyed by a column ``genotype``, ``arch_str`` or ``architecture``; by a column ``index``, counted from 0 in
    the order of the space's benchmark tables; or by the column ``key``, whose values are indices if all are whole
    numbers. A network may have several rows if they agree.

    Args:
        path: the file; see :func:`freerea_seval.tables.read_csv`.
        space: the space of the genotypes.
        key: the name of the key column, if it is none of those above.
        advice: added to errors.

    Raises:
        InputError: the file cannot be read, or has no rows.
        InputError: there is no key column, or it holds indices and the space numbers no networks.
        InputError: a key is not a network of the space.
    """

    def __init__(self, path: Path, space: SearchSpace, *, key: object = None, advice: Advice | None = None) -> None:
        self.path, self._advice = path, advice or Advice()
        self._frame = read_csv(path)
        header = self._frame.columns.tolist()
        self._key = _find_key(path, header, key, self._advice.key)
        if self._frame.empty:
            raise InputError(f"{path} has no rows; expected one a network, below the header")
        keys: list[str] = self._frame[self._key].tolist()
        by_index = self._key == _INDEX_COLUMN or (key is not None and all(map(_is_index, keys)))
        genotype_of = _indexed(path, space) if by_index else _checked(space)
        self._genotypes: list[str] = []
        for line, text in zip(self._frame.index, keys, strict=True):
            try:
                self._genotypes.append(genotype_of(text))
            except InputError as error:
                raise InputError(f"{path}, line {line}: {error}{self._advice.network}") from None
        self._distinct = set(self._genotypes)

    @property
    def genotypes(self) -> list[str]:
        """The networks that have a row, in the order of the file."""
        return list(dict.fromkeys(self._genotypes))

    def __contains__(self, genotype: str) -> bool:
        """Whether a network has a row."""
        return genotype in self._distinct

    @property
    def columns(self) -> list[str]:
        """Names of the columns that name no networks."""
        return [name for name in self._frame.columns if name and name not in (*_KEY_COLUMNS, self._key)]

    def column(self, metric: str, seconds: bool = True) -> dict[str, Measured]:
        """Return a column by genotype, in the order of the file; an empty cell is :data:`UNSUPPORTED`, which is NaN.

        Raises:
            InputError: there is no such column.
            InputError: a value, or with ``seconds`` a number in the column of seconds, is not finite, or contradicts
                another row.
        """
        if metric not in self._frame.columns or metric == self._key:
            first = self._frame.iloc[0]
            numbers = [name for name in first.index if name != self._key and _is_number(first[name])]
            raise unknown_name(f"metric of table {self.path}:", metric, numbers)
        seconds_column = f"{metric}_seconds"
        charges = self._frame.get(seconds_column) if seconds else None
        texts = zip(self._frame[metric], ["0"] * len(self._frame) if charges is None else charges, strict=True)
        column: dict[str, Measured] = {}
        for line, genotype, (text, charge) in zip(self._frame.index, self._genotypes, texts, strict=True):
            try:
                charged_s = self._number(charge, seconds_column)
                if charged_s < 0:
                    raise InputError(f"{seconds_column} is {charged_s:g}; seconds cannot be negative")
                value = self._number(text, metric) if text else UNSUPPORTED
                first_value = column.setdefault(genotype, Measured(value, charged_s)).value
                if first_value != value and not (math.isnan(first_value) and not text):
                    now, before = ("empty" if math.isnan(number) else repr(number) for number in (value, first_value))
                    raise InputError(f"{metric} of {genotype} is {now}, but {before} in a row above; keep one")
            except InputError as error:
                raise InputError(f"{self.path}, line {line}: {error}") from None
        return column

    def _number(self, text: str, name: str) -> float:
        value = float(text) if _is_number(text) else math.nan
        if not math.isfinite(value):
            raise InputError(
                f"{name} is {text[:40]!r}, expected a finite number; if the device cannot run the network, leave the"
                f" cell empty{self._advice.cell}"
            )
        return value


_Columns = dict[str, dict[str, Measured]]
#: The table that was read last, and its columns so far: the searches of one process read an unchanged file once.
_last: dict[tuple[object, ...], tuple[Table, _Columns]] = {}


def _read_once(path: Path, space: SearchSpace, key: object) -> tuple[Table, _Columns]:
    """Return a table and the columns read so far; a file that has changed is read again."""
    try:
        content = sha256(path.read_bytes()).digest()
    except OSError:
        return Table(path, space, key=key), {}  # raises the error
    identity = (path.absolute(), content, type(space), space.name, repr(key))
    if identity not in _last:
        table = Table(path, space, key=key)
        _last.clear()
        _last[identity] = table, {}
    return _last[identity]


def _find_key(path: Path, header: Sequence[str], key: object, advice: str) -> str:
    if key is not None:
        if not isinstance(key, str) or key not in header:
            raise unknown_name(f"column of table {path}:", key, filter(None, header))
        return key
    for name in _KEY_COLUMNS:
        if name in header:
            return name
    mend = "rename one" if len(header) > 1 else "separate columns by commas, or rename it"
    raise InputError(
        f"{path} has no column that names the networks; expected one of {', '.join(_KEY_COLUMNS)},"
        f" got {', '.join(header)}; {mend}{advice}"
    )


def _checked(space: SearchSpace) -> Callable[[str], str]:
    """Return the function that checks a genotype."""

    def genotype_of(text: str) -> str:
        space.check(text)
        return text

    return genotype_of


def _indexed(path: Path, space: SearchSpace) -> Callable[[str], str]:
    """Return the function from an index to its genotype."""
    listing: Callable[[], Sequence[str]] | None = getattr(space, "genotypes", None)
    if listing is None:
        raise InputError(
            f"{path} names its networks by index, but space {space.name} numbers none;"
            " name them in a column 'genotype', or give the space a method genotypes()"
        )
    genotypes = listing()

    def genotype_of(text: str) -> str:
        if not _is_index(text) or int(text) >= len(genotypes):
            raise InputError(f"{text[:40]!r} is not an index of {space.name}; expected 0 to {len(genotypes) - 1}")
        return genotypes[int(text)]

    return genotype_of


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 12


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # Python's float takes 1_000
