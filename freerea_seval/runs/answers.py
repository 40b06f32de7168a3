"""Values that a search asks of the user: the files that say which, and the answers."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from freerea_patch import InputError
from freerea_seval.config import ObjectiveSection
from freerea_seval.files import read_bounded, write_atomically
from freerea_seval.units import UNITS, is_accuracy

#: Words that an answer has for a network without a value.
_FAILED = frozenset({"failed", "unsupported", "nan", "inf", "-inf", "none", "null"})
MOST_ANSWER_BYTES = 2**26
_HOW_TO_BUILD = '''"""Build the networks whose values are wanted: run this file, or import build from it."""

import csv
from pathlib import Path

import freerea_seval as fs

FOLDER = Path(__file__).parent


def build(genotype):
    """Return the network of a genotype as a torch module with initial weights."""
    return fs.load_run(FOLDER).space.build(genotype)


if __name__ == "__main__":
    with open(FOLDER / "wanted.csv", newline="") as file:
        for row in csv.DictReader(file):
            print(row["genotype"], build(row["genotype"]), sep="\\n")
'''


class AnswersWanted(Exception):  # noqa: N818 - not an error: the run waits for the user
    """A run waits for values that only the user can supply; the message says which, and how to continue."""


def write_wanted(folder: Path, wanted: Mapping[str, Sequence[str]]) -> AnswersWanted:
    """Write ``wanted.csv`` and ``wanted.py`` into a run folder, and return what says so.

    Args:
        folder: of the run.
        wanted: by network, the metrics whose values are wanted.

    Raises:
        InputError: there is a ``wanted.csv`` that cannot be read.
    """
    columns = list(dict.fromkeys(column for names in wanted.values() for column in names))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["genotype", *columns])
    filled = _filled_in(folder / "wanted.csv")
    writer.writerows([g, *(filled.get((g, column), "") for column in columns)] for g in wanted)
    write_atomically(folder / "wanted.py", _HOW_TO_BUILD)
    write_atomically(folder / "wanted.csv", text.getvalue())
    return AnswersWanted(
        f"{len(wanted)} values of {' and '.join(columns)} are wanted: fill in {folder / 'wanted.csv'}"
        f" ('failed' for a network without one; {folder / 'wanted.py'} builds the networks), then continue with:"
        f" freerea-seval search --resume {folder} --answers {folder / 'wanted.csv'}"
    )


def read_answers(path: Path, names: Iterable[str], check: Callable[[str], None]) -> Iterator[tuple[str, str, float]]:
    """Yield genotype, column and value of every answer in a CSV file; NaN for a network without a value.

    Raises:
        InputError: see :meth:`freerea_seval.runs.refine.Refinement.take_answers`.
    """
    try:
        rows = _read_rows(path)
    except ValueError as error:
        raise InputError(f"answers {path}: cannot be read ({error}); expected a CSV like wanted.csv") from None
    header = rows[0] if rows else []
    columns = [(position, name) for position, name in enumerate(header) if name in set(names)]
    if "genotype" not in header or not columns:
        raise InputError(
            f"answers {path}: expected the columns 'genotype' and {' or '.join(map(repr, names))}, got"
            f" {', '.join(map(repr, header)) or 'an empty file'}"
        )
    key = header.index("genotype")
    for line, row in enumerate(rows[1:], start=2):
        genotype = row[key] if key < len(row) else ""
        for position, name in columns:
            cell = row[position] if position < len(row) else ""
            if not cell:
                continue
            try:
                check(genotype)
                value = math.nan if cell.lower() in _FAILED else float(cell)
            except InputError as error:
                raise InputError(f"answers {path}, line {line}: {error}") from None
            except ValueError:
                raise InputError(
                    f"answers {path}, line {line}: expected a number as {name}, 'failed', or an empty cell, got"
                    f" {cell!r}"
                ) from None
            if is_accuracy(name) and math.isfinite(value) and not 0 <= value <= 100:
                raise InputError(f"answers {path}, line {line}: expected 0 to 100 as {name}, got {cell}")
            yield genotype, name, value if math.isfinite(value) else math.nan


def headers_of(section: ObjectiveSection) -> set[str]:
    """Return the headers under which answers of a metric are accepted."""
    names = {section.column, section.metric}
    units = [section.unit] if section.unit else UNITS
    return names | {f"{name}_{unit}" for name in names for unit in units}


def _filled_in(path: Path) -> dict[tuple[str, str], str]:
    """Return what the user has filled in already, by genotype and column, so that writing the file anew keeps it."""
    if not path.exists():
        return {}
    try:
        header, *rows = _read_rows(path) or [[]]
    except ValueError as error:
        raise InputError(f"{path} cannot be read ({error}); correct it, or move it away") from None
    cells = (dict(zip(header, row, strict=False)) for row in rows)
    return {(row.get("genotype", ""), name): cell for row in cells for name, cell in row.items() if cell}


def _read_rows(path: Path) -> list[list[str]]:
    """Return the rows of a CSV file with their cells stripped.

    Raises:
        ValueError: it cannot be read; with the reason.
    """
    try:
        text = read_bounded(path, MOST_ANSWER_BYTES).decode("utf-8-sig")
        return [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text))]
    except (OSError, csv.Error) as error:
        raise ValueError(str(error)) from None
