"""What the experiments share: a command line, one CSV of raw rows a folder, and summaries as Markdown tables."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from freerea_patch import InputError
from freerea_seval.files import write_atomically
from freerea_seval.progress import terminal_progress
from freerea_seval.versions import versions

Job = TypeVar("Job", bound=tuple[Any, ...])
Row = Mapping[str, object]

#: Options that several experiments have.
SHARED: Mapping[str, Mapping[str, Any]] = {
    "--cache": {"type": Path, "help": "folder cached_metrics of FreeREA's code"},
    "--checkout": {"type": Path, "help": "clone of FreeREA's code"},
    "--hw-nas-bench": {"type": Path, "help": "file HW-NAS-Bench-v1_0.pickle, for devices"},
    "--robustness": {"type": Path, "help": "CSV of CIFAR-10 accuracies under attack, in column pgd@Linf_eps-1.0"},
    "--proxies": {"type": Path, "help": "CSV of the zero-cost proxies of NAS-Bench-Suite-Zero"},
    "--batch": {"help": "images and labels of CIFAR-10: FILE.npz or pkg.module:callable"},
    "--batch-size": {"type": int, "default": 64},
    "--guides": {"type": Path, "help": "folder with one of training_free.guides compute a data set"},
    "--guides-ratio": {
        "type": float,
        "help": "seconds of the metrics of the preset guided, as a multiple of those of naswot and logsynflow",
    },
    "--rounds": {"type": int},
    "--seed": {"type": int, "default": 0, "help": "seed of everything random (default: 0)"},
    "--seeds": {"type": int, "default": 3, "help": "number of seeds"},
    "--threads": {"type": int, "default": 1, "help": "threads of torch"},
}


class ExperimentParser(argparse.ArgumentParser):
    """An argument parser that knows the options that experiments share, and may have commands."""

    _commands: Any = None

    def shared(self, *flags: str, **changes: Any) -> None:
        """Add options of :data:`SHARED`, with changes such as ``required=True``."""
        for flag in flags:
            self.add_argument(flag, **{**SHARED[flag], **changes})

    def command(self, name: str, run: Callable[[argparse.Namespace], None], help: str) -> ExperimentParser:
        """Add a command, which sets ``run`` of the options, and return its parser."""
        if self._commands is None:
            self._commands = self.add_subparsers(dest="command", required=True)
        added: ExperimentParser = self._commands.add_parser(name, help=help, description=help)
        added.set_defaults(run=run)
        return added

    def output(self, folder: str, what: str = "raw rows") -> None:
        """Add the option ``-o``."""
        self.add_argument(
            "-o", "--output", type=Path, default=Path(folder), help=f"folder for {what} (default: {folder})"
        )


def experiment_parser(script: str, description: str | None) -> ExperimentParser:
    """Return the parser of ``experiments/THEME/SCRIPT.py``, named ``THEME.SCRIPT``."""
    return ExperimentParser(
        prog=f"python -m experiments.{script}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def as_command(main: Callable[[], None]) -> None:
    """Run an experiment; invalid input is one line and exit code 2, as in the command line of the plugin."""
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


class RowJournal:
    """A folder with ``config.json`` and ``rows.csv``; rows are appended one by one, and a killed experiment resumes.

    Args:
        folder: created if it does not exist.
        config: what determines the values of the rows; a folder made with another config is refused.
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
        if not text.endswith("\n"):  # the process was killed while it wrote the last line
            write_atomically(self.path, text[: text.rfind("\n") + 1])

    def frame(self) -> pd.DataFrame:
        """Return the rows with numbers as numbers; an empty cell is NaN."""
        return pd.read_csv(self.path)

    def rows(self) -> list[dict[str, str]]:
        """Return the rows as text."""
        texts = pd.read_csv(self.path, dtype=str, keep_default_na=False)
        return [{str(name): value for name, value in row.items()} for row in texts.to_dict("records")]

    def missing(self, columns: Sequence[str], jobs: Iterable[Job], title: str) -> Iterator[Job]:
        """Yield the jobs that have no row yet, and show how many are done.

        Args:
            columns: the columns that identify a job.
            jobs: their values, one tuple a job.
            title: of the progress bar.
        """
        done = {tuple(row[name] for name in columns) for row in self.rows()}
        remaining = [job for job in jobs if tuple(map(str, job)) not in done]
        with terminal_progress().task(title) as show:
            for count, job in enumerate(remaining):
                show(count / len(remaining), ", ".join(map(str, job)))
                yield job

    def drop(self, column: str, value: str) -> None:
        """Remove the rows that have a value, so that they are made again."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for row in self.rows() if row[column] != value)
        write_atomically(self.path, text.getvalue())

    def append(self, row: Row) -> None:
        """Add a row, one value a column."""
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow([row[column] for column in self.columns])
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line.getvalue())


def groups(frame: pd.DataFrame, **orders: Iterable[object] | None) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    """Yield the groups of rows with equal values in some columns.

    Args:
        frame: the rows.
        orders: for each column, the values to keep, in the order to yield them; None for all, as they appear.
    """
    kept = {column: list(dict.fromkeys(frame[column] if order is None else order)) for column, order in orders.items()}
    frame = frame[np.logical_and.reduce([frame[column].isin(values) for column, values in kept.items()])]
    keys = [pd.Series(pd.Categorical(frame[column], values), frame.index) for column, values in kept.items()]
    yield from frame.groupby(keys, observed=True)


def mean(values: npt.ArrayLike, digits: int = 4) -> str:
    """Return the mean of the values that are there, or nothing if there are none."""
    numbers = np.asarray(values, dtype=float)
    numbers = numbers[~np.isnan(numbers)]
    return f"{np.mean(numbers):.{digits}f}" if len(numbers) else ""


def mean_and_deviation(values: npt.ArrayLike, digits: int = 3) -> str:
    """Return mean and standard deviation (of the population)."""
    numbers = np.asarray(values, dtype=float)
    return f"{np.mean(numbers):.{digits}f} ± {np.std(numbers):.{digits}f}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def scored(scores: Mapping[str, float], names: Iterable[str]) -> dict[str, str]:
    """Return scores as the cells of a row; one that is not defined is empty."""
    return {name: f"{scores[name]:.6g}" if name in scores else "" for name in names}
