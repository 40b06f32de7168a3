"""CSV files as pandas frames of text, with the line number of every row for error messages.

pandas is imported here: import this module only where a file is read.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import pandas as pd

from freerea_patch.errors import InputError


def read_csv(path: Path) -> pd.DataFrame:
    """Return a CSV file as text, with the line numbers of the rows as index; blank rows are left out.

    White space around cells and names is removed, and inside of them it is one space. Nothing else is converted.

    Args:
        path: commas, a header, UTF-8 with or without a byte order mark, line ends of any kind.

    Raises:
        InputError: the file cannot be read, is not CSV in UTF-8, is empty, has two columns of one name, or a row has
            another number of fields than the header.
    """
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
    text = io.StringIO(text, newline=None).read()  # universal newlines
    blank = len(text) - len(text.lstrip("\n"))
    # The Python engine tells a field that is missing (NaN) from one that is empty (""). The C engine does not, but is
    # several times faster, and serves where no row can be short.
    regular = '"' not in text and len({line.count(",") for line in text.split("\n") if line}) == 1
    try:
        frame = pd.read_csv(
            io.StringIO(text[blank:]),
            header=None,
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
            engine="c" if regular else "python",
        )
    except pd.errors.EmptyDataError:
        frame = pd.DataFrame()
    except (pd.errors.ParserError, ValueError) as error:
        raise _parser_error(path, text, blank, str(error)) from None
    frame.index += blank + 1
    if re.search(r"[^\S\n]", text) or not regular:
        frame = frame.map(lambda cell: " ".join(cell.split()), na_action="ignore")
    frame = frame[frame.fillna("").any(axis=1)] if frame.size else frame
    if frame.empty:
        raise InputError(f"{path} is empty; expected a header, and one row a network")
    header = frame.iloc[0].fillna("").tolist()
    for name in header:
        if name and header.count(name) > 1:
            raise InputError(f"{path} has two columns named {name!r}; rename one")
    short = frame.index[frame.isna().any(axis=1)]
    if len(short):
        raise _field_count_error(path, short[0], len(header), int(frame.loc[short[0]].notna().sum()))
    frame.columns = header
    return frame.iloc[1:]


def _parser_error(path: Path, text: str, blank: int, message: str) -> InputError:
    counts = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", message)
    if counts:
        expected, line, got = map(int, counts.groups())
        return _field_count_error(path, line + blank, expected, got)
    # pandas does not say where a quote was opened: it is the first line with an odd number of quotes.
    opened = next((n for n, line in enumerate(text.split("\n"), start=1) if line.count('"') % 2), None)
    where = "" if opened is None else f", line {opened}"
    return InputError(f"{path}{where}: not a row of CSV ({' '.join(message.split())}); close or remove the quotes")


def _field_count_error(path: Path, line: int, expected: int, got: int) -> InputError:
    advice = "; separate columns by commas" if expected == 1 else ""
    return InputError(f"{path}, line {line}: expected {expected} fields as in the header, got {got}{advice}")
