"""The rows of ``experiments.search.integration``, read and checked."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from experiments.search.page.figures import Point
from freerea_patch import InputError

Benchmark = tuple[str, str]
Line = tuple[str, str]

TEXTS = ("dataset", "metric", "unit", "direction", "method", "cells", "seed", "status", "error", "folder")
NUMBERS = (
    "quantile",
    "regret",
    "violated",
    "remeasured_regret",
    "remeasured",
    "tau",
    "hypervolume",
    "igd_plus",
    "remeasured_hypervolume",
    "remeasured_igd_plus",
    "front",
    "metric_s",
    "predictor_s",
    "loop_s",
    "prepare_s",
)


@dataclass(frozen=True)
class Run:
    """A row: a search, by what it was and by the numbers that it has."""

    dataset: str
    metric: str
    unit: str
    direction: Literal["min", "max"]
    method: str
    cells: str
    seed: str
    status: str
    error: str
    folder: str
    numbers: Mapping[str, float]

    @property
    def benchmark(self) -> Benchmark:
        """The data set and the metric."""
        return self.dataset, self.metric

    @property
    def line(self) -> Line:
        """The method and the cells that its predictor learned from: a line of tables and figures."""
        return self.method, self.cells

    @property
    def pair(self) -> tuple[str, str, str]:
        """What this run has in common with the run of another method that it is compared with."""
        return self.dataset, self.metric, self.seed

    @property
    def at_once(self) -> float | None:
        """The regret of the answer before re-measuring; None if it is outside the bound, or there is none."""
        return None if self.numbers.get("violated") else self.numbers.get("regret")

    @property
    def within(self) -> float | None:
        """The regret of the answer within the bound: after re-measuring, or at once; None if there is none."""
        return self.numbers.get("remeasured_regret", self.at_once)


def name_of(line: Line) -> str:
    """Return what a line is called."""
    method, cells = line
    return f"{method}, {cells} cells" if cells else method


def title_of(benchmark: Benchmark) -> str:
    """Return what a benchmark is called."""
    dataset, metric = benchmark
    return f"{metric} on {dataset}"


def read_runs(folder: Path) -> list[Run]:
    """Read the rows by benchmark; one that a running experiment has half written is left for the next report."""
    path = folder / "rows.csv"
    command = f"python -m experiments.search.integration GRID.yaml -o {folder}"
    if not path.is_file():
        raise InputError(f"expected rows.csv in {folder}, found none; make it with: {command}")
    text = path.read_text(encoding="utf-8")
    reader = csv.DictReader(text[: text.rfind("\n") + 1].splitlines(keepends=True))
    missing = [name for name in (*TEXTS, *NUMBERS) if name not in (reader.fieldnames or ())]
    if missing:
        raise InputError(
            f"{path} lacks the columns {', '.join(missing)}; expected rows of: python -m experiments.search.integration"
        )
    runs = [_run(row, f"{path}, row {place}") for place, row in enumerate(reader, start=2)]
    if not runs:
        raise InputError(f"{path} has no rows yet; go on with: {command}")
    # Processes finish in any order.
    return sorted(runs, key=lambda run: (run.dataset.casefold(), run.metric))


def _run(row: Mapping[str, str | None], where: str) -> Run:
    texts = {name: row[name] for name in TEXTS}
    if None in row or None in row.values():
        raise InputError(f"{where}: expected a value a column of the header, got more or fewer")
    for name, valid in (("status", ("ok", "failed")), ("direction", ("min", "max"))):
        # A run may fail before it knows its metric's direction, which nothing asks of it.
        if texts[name] not in valid and (name, texts["status"]) != ("direction", "failed"):
            raise InputError(f"{where}: expected {name} to be one of {', '.join(valid)}, got {texts[name]!r}")
    numbers = {name: _number(row[name] or "", f"{where}: {name}") for name in NUMBERS}
    # A tau of equal predictions is not a number; like an empty value, it does not apply.
    numbers = {name: value for name, value in numbers.items() if not math.isnan(value)}
    return Run(**cast(dict[str, str], texts), numbers=numbers)  # type: ignore[arg-type]


def _number(text: str, where: str) -> float:
    try:
        value = float(text or "nan")
    except ValueError:
        value = math.inf
    if math.isinf(value):
        raise InputError(f"{where}: expected a finite number or nothing, got {text!r}")
    return value


def read_config(folder: Path) -> dict[str, object]:
    """Read what the experiment was told, and the versions that it had."""
    try:
        record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        record = None
    if not isinstance(record, dict) or not {"config", "versions"} <= record.keys():
        raise InputError(f"expected config.json in {folder} with config and versions, as the experiment writes it")
    return record


def read_points(path: Path) -> list[Point]:
    """Read a front's points as value and accuracy; none from a file that is not there."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if not {"value", "accuracy"} <= set(reader.fieldnames or ()):
            raise InputError(f"{path}: expected the columns value, accuracy, got {', '.join(reader.fieldnames or ())}")
        return [
            (_number(row["value"], f"{path}: value"), _number(row["accuracy"], f"{path}: accuracy")) for row in reader
        ]
