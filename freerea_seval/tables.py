"""CSV files as pandas frames of text, with the line number of every row for error messages.

pandas is imported here: import this module only where a file is read.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from freerea_patch.errors import InputError
from freerea_seval.files import escape_formula, is_formula, read_bounded

#: A table has at most this length.
MOST_BYTES = 2**27


def read_csv(path: Path) -> pd.DataFrame:
    """Return a CSV file as text, with the line numbers of the rows as index; blank rows are left out.

    White space around cells and names is removed, and inside of them it is one space; the apostrophes of :func:`to_csv`
    are removed. Nothing else is converted.

    Args:
        path: commas, a header, UTF-8 with or without a byte order mark, line ends of any kind.

    Raises:
        InputError: the file cannot be read, is not CSV in UTF-8, is empty, has two columns of one name, or a row has
            another number of fields than the header.
    """
    try:
        data = read_bounded(path, MOST_BYTES)
    except OSError as error:
        raise InputError(f"cannot read the table {path} ({error.strerror}); check the path") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: expected UTF-8 text ({error.reason}); save it as CSV in UTF-8"
        ) from None
    lines: list[int] = []
    rows: list[list[str]] = []
    # Unlike pandas, the module csv tells a field that is missing from one that is empty, and is fast for many columns.
    reader = csv.reader(io.StringIO(text, newline=None), strict=True)
    begin = 1
    try:
        for row in reader:
            cells = [" ".join(cell.split()) for cell in row]
            cells = [cell[1:] if cell.startswith("'") and is_formula(cell) else cell for cell in cells]
            if any(cells):
                rows.append(cells)
                lines.append(begin)
            begin = reader.line_num + 1
    except csv.Error as error:  # a quote that nothing closes, or a field of more than 131,072 characters
        raise InputError(f"{path}, line {begin}: not a row of CSV ({error}); close or remove the quotes") from None
    if not rows:
        raise InputError(f"{path} is empty; expected a header, and one row a network")
    header = rows[0]
    for name, count in Counter(header).items():
        if name and count > 1:
            raise InputError(f"{path} has two columns named {name!r:.80}; rename one")
    for line, row in zip(lines, rows, strict=True):
        if len(row) != len(header):
            advice = "; separate columns by commas" if len(header) == 1 else ""
            raise InputError(
                f"{path}, line {line}: expected {len(header)} fields as in the header, got {len(row)}{advice}"
            )
    table = np.array(rows[1:], dtype=object).reshape(-1, len(header))
    return pd.DataFrame(table, columns=header, index=lines[1:])


def to_csv(table: pd.DataFrame, digits: int | None = None) -> str:
    """Return a table as CSV; NaN is an empty cell.

    A text that a spreadsheet would take for a formula has an apostrophe before it, which :func:`read_csv` removes.

    Args:
        table: the table, without its index.
        digits: significant digits of numbers; None for all.
    """
    table = table.map(escape_formula).rename(columns=escape_formula)
    number = None if digits is None else f"%.{digits}g"
    return str(table.to_csv(index=False, float_format=number, lineterminator="\n"))
