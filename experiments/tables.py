"""What the experiments share: a command, one CSV of raw rows a folder, and summaries as Markdown tables."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from freerea_patch import InputError
from freerea_seval.files import write_atomically
from freerea_seval.versions import versions

Row = Mapping[str, object]


def as_command(main: Callable[[], None]) -> None:
    """Run an experiment; bad input is one line and exit code 2, as from the command line of the plugin."""
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


class RowJournal:
    """A folder with ``config.json`` and ``rows.csv``; rows are appended as they come, and a killed experiment goes on.

    Args:
        folder: made if it is not there.
        config: what decides the values of the rows; a folder made with another one is refused.
        columns: the header of the rows.

    Raises:
        InputError: the folder holds rows of another experiment.
    """

    def __init__(self, folder: Path, config: Mapping[str, object], columns: Sequence[str]) -> None:
        self.path = folder / "rows.csv"
        self.columns = list(columns)
        folder.mkdir(parents=True, exist_ok=True)
        record = folder / "config.json"
        if not record.exists():
            write_atomically(record, json.dumps({"config": config, "versions": versions()}, indent=2) + "\n")
        elif json.loads(record.read_text())["config"] != json.loads(json.dumps(config)):
            raise InputError(
                f"{folder} holds rows of an experiment with another config.json; choose another folder with -o"
            )
        if not self.path.exists():
            write_atomically(self.path, ",".join(columns) + "\n")
        text = self.path.read_text()
        header = text.partition("\n")[0].split(",")
        if header != self.columns:
            raise InputError(
                f"{self.path} has columns of another version ({', '.join(header)}); choose another folder with -o"
            )
        # A line that a kill cut short goes; every whole line ends in a line feed.
        if not text.endswith("\n"):
            write_atomically(self.path, text[: text.rfind("\n") + 1])

    def rows(self) -> list[dict[str, str]]:
        """Return the rows so far."""
        with self.path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def forget(self, which: Callable[[Mapping[str, str]], bool]) -> None:
        """Take out rows, so that they are made again."""
        kept = [row for row in self.rows() if not which(row)]
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
        write_atomically(self.path, text.getvalue())

    def append(self, row: Row) -> None:
        """Add a row, one value a column."""
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow([row[column] for column in self.columns])
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line.getvalue())


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
