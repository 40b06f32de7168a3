"""The source ``table``: a CSV file of the user's, one row a network, one column a metric.

An empty cell is a value that the network does not have: the device cannot run it, as ``freerea-seval measure`` writes.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from freerea_patch import UNSUPPORTED, InputError, Measured, SearchSpace, unknown_name
from freerea_seval.sources.registry import Context, MetricInfo
from freerea_seval.units import unit_of

_GENOTYPE_COLUMNS = ("genotype", "arch_str", "architecture")
_INDEX_COLUMN = "index"
#: A column of this name, behind a metric's, holds the seconds that the metric took.
_SECONDS = "{}_seconds"
_OPTIONS = ("path", "key", "missing", "unsupported")
_MISSING = ("error", "unsupported")


def _raise(problem: InputError) -> NoReturn:
    raise problem


class TableSource:
    """Values looked up in a CSV file, with the seconds of its column ``METRIC_seconds`` if there is one.

    Args:
        context: the search that it serves; its space says which genotypes there are.
        argument: the file, or ``{path: FILE, key: COLUMN, missing: unsupported, unsupported: NUMBER}``. The key is
            that of :class:`Table`. With ``missing``, a genotype without a row is unsupported, not an error.
            ``unsupported`` is the number that stands in the file where there is no value.

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
        self._unsupported = missing == "unsupported"
        self._sentinel = options.get("unsupported")
        if self._sentinel is not None and (
            isinstance(self._sentinel, bool) or not isinstance(self._sentinel, (int, float))
        ):
            raise InputError(f"'unsupported' in source 'table' must be a number, not {self._sentinel!r}")
        self._given = options.get("path")
        path = context.path(self._given, "source 'table'")
        self._table, self._columns = _read_once(path, context.space, options.get("key"))

    def describe(self, metric: str) -> MetricInfo:
        """Return a column's unit, and check its values; only the user knows its direction.

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
                yield {metric: self._known(column[genotype]) for metric, column in columns}
            elif self._unsupported:
                yield dict.fromkeys(metrics, Measured(UNSUPPORTED))
            else:
                raise InputError(
                    f"{self._table.path} has no row for {genotype!r}; add the row,"
                    f" or write 'source: {{table: {{path: {self._given}, missing: unsupported}}}}'"
                )

    def _column(self, metric: str) -> dict[str, Measured]:
        if metric not in self._columns:
            self._columns[metric] = self._table.column(metric)
        return self._columns[metric]

    def _known(self, measured: Measured) -> Measured:
        return Measured(UNSUPPORTED, measured.seconds) if measured.value == self._sentinel else measured


def read_table(
    path: Path,
    space: SearchSpace,
    metric: str,
    *,
    key: str | None = None,
    on_problem: Callable[[InputError], object] = _raise,
    advice: Advice | None = None,
) -> tuple[list[str], list[float]]:
    """Return a table's genotypes and their values of one metric, in the order of the file.

    The arguments and errors are those of :class:`Table` and :meth:`Table.column`; seconds are not looked at.
    """
    column = Table(path, space, key=key, on_problem=on_problem, advice=advice).column(metric, seconds=False)
    return list(column), [measured.value for measured in column.values()]


class Advice(NamedTuple):
    """How to mend a key column or a cell, behind what anyone can do: by default in the words of a search's config."""

    key: str = ", or name it with 'key: COLUMN'"
    cell: str = ", or leave out the row and write 'missing: unsupported'"


class _Row(NamedTuple):
    line: int
    genotype: str
    fields: list[str]


class Table:
    """A CSV file whose rows are networks of a space.

    Rows are keyed by a column ``genotype``, ``arch_str`` or ``architecture``, or by a column ``index`` that
    counts from 0 as the space's benchmark tables do, or by any column that ``key`` names: if that holds
    whole numbers only, they are indices. A network may have several rows if these say the same.

    Args:
        path: the file: commas, a header, UTF-8 with or without byte order mark, line ends of any kind.
        space: the space that the genotypes are of.
        key: the key column's name, if it is another than those above.
        on_problem: is called with the error of each row that cannot be used, which is then left out; by
            default it raises the error.
        advice: what errors say on mending.

    Raises:
        InputError: the file cannot be read, is no CSV, has no rows, or has two columns of one name.
        InputError: there is no key column, or it holds indices and the space numbers no networks.
        InputError: a row with too few or too many fields, or with a key that is not of the space.
    """

    def __init__(
        self,
        path: Path,
        space: SearchSpace,
        *,
        key: object = None,
        on_problem: Callable[[InputError], object] = _raise,
        advice: Advice | None = None,
    ) -> None:
        self.path, self._on_problem, self._advice = path, on_problem, advice or Advice()
        lines = _read(path)
        _, self._header = lines.pop(0)
        for name in self._header:
            if name and self._header.count(name) > 1:
                raise InputError(f"{path} has two columns named {name!r}; rename one")
        place = self._header.index(_find_key(path, self._header, key, self._advice.key))
        whole = all(_is_index(fields[place]) for _, fields in lines if place < len(fields))
        by_index = self._header[place] == _INDEX_COLUMN or (key is not None and whole)
        genotype_of = _indexed(path, space) if by_index else _checked(space)
        self._key = self._header[place]
        self._rows: list[_Row] = []
        for line, fields in lines:
            try:
                if len(fields) != len(self._header):
                    raise InputError(f"expected {len(self._header)} fields as in the header, got {len(fields)}")
                self._rows.append(_Row(line, genotype_of(fields[place]), fields))
            except InputError as error:
                on_problem(InputError(f"{path}, line {line}: {error}"))
        self._genotypes = {row.genotype for row in self._rows}
        if not self._rows:
            raise InputError(f"{path} has no row that can be used; expected one a network, below the header")

    def __contains__(self, genotype: str) -> bool:
        """Whether a network has a row."""
        return genotype in self._genotypes

    @property
    def columns(self) -> list[str]:
        """Names of the columns that name no networks."""
        keys = (*_GENOTYPE_COLUMNS, _INDEX_COLUMN, self._key)
        return [name for name in self._header if name and name not in keys]

    def column(self, metric: str, seconds: bool = True) -> dict[str, Measured]:
        """Return a column by genotype, in the order of the file; an empty cell is :data:`UNSUPPORTED`, which is NaN.

        Raises:
            InputError: there is no such column.
            InputError: a value, or the seconds beside it, if they are asked for, is not a finite number, or
                contradicts another row.
        """
        if metric not in self._header or metric == self._key:
            numbers = [n for n, text in zip(self._header, self._rows[0].fields, strict=True) if _is_number(text)]
            raise unknown_name(f"metric of table {self.path}:", metric, [n for n in numbers if n != self._key])
        name, place = _SECONDS.format(metric), self._header.index(metric)
        seconds_place = self._header.index(name) if seconds and name in self._header else None
        column: dict[str, Measured] = {}
        for row in self._rows:
            try:
                charged = 0.0 if seconds_place is None else self._number(row.fields[seconds_place], name)
                if charged < 0:
                    raise InputError(f"{name} is {charged:g}; seconds cannot be negative")
                text = row.fields[place]
                value = self._number(text, metric) if text else UNSUPPORTED
                first = column.setdefault(row.genotype, Measured(value, charged))
                if first.value != value and not (math.isnan(first.value) and not text):
                    above = _said(first.value)
                    raise InputError(
                        f"{metric} of {row.genotype} is {_said(value)}, but {above} in a row above; keep one"
                    )
            except InputError as error:
                self._on_problem(InputError(f"{self.path}, line {row.line}: {error}"))
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
#: The table that was read last, and its columns so far: of many searches in a process, only the first reads a file.
_last: dict[tuple[object, ...], tuple[Table, _Columns]] = {}


def _read_once(path: Path, space: SearchSpace, key: object) -> tuple[Table, _Columns]:
    """Return a table and its columns, which are read as they are asked for; a file that has changed is read again."""
    try:
        content = sha256(path.read_bytes()).digest()
    except OSError:
        return Table(path, space, key=key), {}  # and says why not
    known = (path.absolute(), content, type(space), space.name, repr(key))
    if known not in _last:
        table = Table(path, space, key=key)
        _last.clear()
        _last[known] = table, {}
    return _last[known]


def _read(path: Path) -> list[tuple[int, list[str]]]:
    """Return line number and fields, without spare white space, of every row that is not blank, header first."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the table {path} ({error.strerror}); check the path") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: expected UTF-8 text ({error.reason}); save it as CSV in UTF-8"
        ) from None
    lines: list[tuple[int, list[str]]] = []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1  # where the next row begins: one with an open quote ends far below
    try:
        for fields in reader:
            fields = [" ".join(field.split()) for field in fields]
            if any(fields):
                lines.append((line, fields))
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}, line {line}: not a row of CSV ({error}); mend its quotes") from None
    if not lines:
        raise InputError(f"{path} is empty; expected a header with a column 'genotype' or 'index', and metrics")
    return lines


def _find_key(path: Path, header: Sequence[str], key: object, advice: str) -> str:
    if key is not None:
        if not isinstance(key, str) or key not in header:
            raise unknown_name(f"column of table {path}:", key, filter(None, header))
        return key
    for name in (*_GENOTYPE_COLUMNS, _INDEX_COLUMN):
        if name in header:
            return name
    mend = "rename one" if len(header) > 1 else "separate columns by commas, or rename it"
    raise InputError(
        f"{path} has no column that names the networks; expected one of {', '.join(_GENOTYPE_COLUMNS)},"
        f" {_INDEX_COLUMN}, got {', '.join(header)}; {mend}{advice}"
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


def _said(value: float) -> str:
    return "empty" if math.isnan(value) else repr(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # Python's float takes 1_000
