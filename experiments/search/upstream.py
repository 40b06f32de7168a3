"""Our objectives in the authors' own search program, beside our loop with the same objectives.

``PYTHONHASHSEED=0 python -m experiments.search.upstream --hw-nas-bench FILE [--checkout FREEREA]``

For each data set, a predictor learns the latency of a Raspberry Pi 4 from some cells of HW-NAS-Bench, and is bounded by
the lower quartile of these, or a term of the score, or both; FreeREA- has the bound. First the program runs as it is,
and with a bound that every network keeps: the histories are to be equal. For that comparison, the clocks stand still,
as the budget counts the time of the search, too; otherwise they count seconds of CPU, so that other work on the machine
does not shorten a search.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from itertools import product
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd

import freerea_seval as fs
from experiments.search.fidelity import OURS
from experiments.tables import (
    Row,
    RowJournal,
    as_command,
    experiment_parser,
    groups,
    markdown,
    mean,
    mean_and_deviation,
)
from freerea_patch import InputError, TopologySpace, make_search, run
from freerea_patch.spaces import DATASETS
from freerea_patch.training_free import METRICS
from freerea_seval.runs.setup import prepare
from freerea_seval.sources.hw_nas_bench import HwNasBenchSource
from freerea_seval.sources.registry import Context

LATENCY = "raspi4_latency"
#: The quantile of the bound.
QUANTILE = 0.25
NOTHING, AUTHORS, LOOP = "no objective", "public code", "our loop"
BOUND, TERM, BOTH, MINUS = "bound", "fitness term", "bound and term", "FreeREA-, bound"
OBJECTIVES = (NOTHING, BOUND, TERM, BOTH, MINUS)
COLUMNS = (
    "dataset",
    "objectives",
    "search",
    "repeat",
    "accuracy",
    "cells",
    "predicted",
    "ms",
    "limit",
    "over",
    "equal",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every search, and print the comparison."""
    parser = experiment_parser("search.upstream", __doc__)
    parser.shared("--checkout", default=os.environ.get("FREEREA_CHECKOUT"))
    parser.shared("--hw-nas-bench", required=True)
    parser.shared("--seeds", default=30, help="repeats of the program, and seeds of our loop")
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=DATASETS)
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=OBJECTIVES)
    parser.add_argument("--samples", type=int, default=100, help="cells that the predictor learns from")
    parser.add_argument("--minutes", type=float, default=0.75, help="budget of a search")
    parser.output("runs/upstream")
    options = parser.parse_args(arguments)
    if options.checkout is None:
        raise InputError("expected a clone of FreeREA's code: --checkout FOLDER, or the variable FREEREA_CHECKOUT")
    settings = {name: getattr(options, name) for name in ("seeds", "samples", "minutes")}
    journal = RowJournal(options.output, settings, COLUMNS)
    jobs = product(options.datasets, options.objectives, (AUTHORS, LOOP))
    todo = [job for job in jobs if job[1:] != (NOTHING, LOOP)]
    for dataset, objectives, search in journal.missing(("dataset", "objectives", "search"), todo, "searches"):
        comparison = Comparison(dataset, options.checkout.resolve(), options.hw_nas_bench, options.output, settings)
        if objectives == NOTHING:
            with clock_of(lambda: 0.0):
                rows = list(comparison.equal())
        else:
            with clock_of(time.process_time):
                rows = list(comparison.rows(objectives, search))
        for row in rows:
            journal.append(row)
    print(summary(journal.frame()))


@contextmanager
def clock_of(now: Callable[[], float]) -> Iterator[None]:
    """Let all clocks of Python show the seconds of a function."""
    with patch("time.time", now), patch("time.perf_counter", now):
        yield


class Comparison:
    """The searches of a data set.

    Args:
        dataset: the data set.
        checkout: the authors' code.
        pickle: HW-NAS-Bench's file.
        folder: for the predictor.
        settings: ``seeds``, ``samples`` and ``minutes``.
    """

    def __init__(self, dataset: str, checkout: Path, pickle: Path, folder: Path, settings: Mapping[str, Any]) -> None:
        self._dataset, self._checkout, self._settings = dataset, checkout, settings
        space = TopologySpace(dataset)
        self._device = HwNasBenchSource(Context(space), str(pickle))
        cells = Random(0).sample(list(space.genotypes()), settings["samples"])
        values = self._latencies(cells)
        self._limit = float(np.quantile(values, QUANTILE))
        self._predictor = (folder / f"{LATENCY}-{dataset}").resolve()
        if not self._predictor.exists():
            table = pd.DataFrame({"genotype": cells, LATENCY: values})
            fs.train(table, LATENCY, self._predictor, space=space, direction="min", unit="ms", progress=False)

    def _latencies(self, genotypes: Sequence[str]) -> list[float]:
        return [row[LATENCY].value for row in self._device.evaluate(genotypes, [LATENCY])]

    def _config(self, objectives: str) -> dict[str, Any]:
        """Return a config for both searches."""
        latency = {"metric": LATENCY, "source": {"seval": str(self._predictor)}}
        bound = {**latency, "role": "constraint", "max": self._limit}
        term = {**latency, "role": "fitness", "name": "latency"}
        sections = {BOUND: [bound], TERM: [term], BOTH: [bound, term], MINUS: [bound]}[objectives]
        space = {"name": "nats-tss", "dataset": self._dataset}
        return {"space": space, "objectives": sections, "budget": {"total_seconds": 60 * self._settings["minutes"]}}

    def _upstream(self, config: Mapping[str, Any] | None, algorithm: str = "ours") -> fs.UpstreamRun:
        arguments = ["--dataset", self._dataset, "--repeat", str(self._settings["seeds"]), "--algo", algorithm]
        arguments += ["--max-time", str(self._settings["minutes"])]
        with redirect_stdout(io.StringIO()):
            return fs.upstream(self._checkout, config, arguments)

    def equal(self) -> Iterator[Row]:
        """Yield whether the histories of each repeat are equal as it is and with a bound that everything keeps."""
        tables = {"freerea-cache": str(self._checkout / "cached_metrics")}
        never = {"metric": "skip", "name": "never", "source": tables, "role": "constraint", "max": 1_000}
        plain, patched = (self._upstream(config) for config in (None, {"objectives": [never]}))
        rows = zip(patched.best["genotype"], patched.best["accuracy"], patched.histories, strict=True)
        for repeat, (genotype, accuracy, history) in enumerate(rows):
            row = self._row(NOTHING, AUTHORS, repeat, genotype, accuracy, len(history))
            yield row | {"equal": int(history == plain.histories[repeat])}

    def rows(self, objectives: str, search: str) -> Iterator[Row]:
        """Yield the best network of each repeat, and how many networks of its history exceed the predicted bound."""
        config, minus = self._config(objectives), objectives == MINUS
        if search == AUTHORS:
            result = self._upstream(config, "freeREA-" if minus else "ours")
            repeats = list(zip(result.best["genotype"], result.best["accuracy"], result.histories, strict=True))
        else:
            repeats = list(self._loop(config, "freerea-minus" if minus else "freerea"))
        evaluator = fs.Evaluator.from_config(self._config(TERM))
        for repeat, (genotype, accuracy, history) in enumerate(repeats):
            row = self._row(objectives, search, repeat, genotype, accuracy, len(history))
            predicted = evaluator([genotype, *history])["latency"].to_numpy()
            yield row | {"predicted": predicted[0], "over": int((predicted[1:] > self._limit).sum())}

    def _loop(self, config: dict[str, Any], method: str) -> Iterator[tuple[str, float, list[str]]]:
        """Yield best network, accuracy and history of our loop, with FreeREA's metrics from its tables."""
        tables = {"freerea-cache": str(self._checkout / "cached_metrics")}
        own = [{"metric": metric, "source": tables} for metric in METRICS]
        report = [{"metric": "accuracy", "source": tables}]
        full = fs.Config.model_validate({**config, "objectives": [*own, *config["objectives"]], "report": report})
        setup = prepare(full, Path())
        for seed in range(self._settings["seeds"]):
            search = make_search(method, setup.space, setup.objectives.terms, seed=seed, **OURS[method])
            result = run(search, setup.objectives, full.budget)
            genotype = result.front[0].genotype
            (row,) = setup.report[0].source.evaluate([genotype], ["accuracy"])
            yield genotype, row["accuracy"].value, [candidate.genotype for candidate in result.history]

    def _row(self, objectives: str, search: str, repeat: int, best: str, accuracy: float, cells: int) -> dict[str, Any]:
        (ms,) = self._latencies([best])
        row = dict.fromkeys(COLUMNS, "") | {"dataset": self._dataset, "objectives": objectives, "search": search}
        return row | {"repeat": repeat, "accuracy": accuracy, "cells": cells, "ms": ms, "limit": self._limit}


def summary(rows: pd.DataFrame) -> str:
    """Return Markdown: a line a data set and objectives, for the public code and our loop."""
    lines = []
    orders = {"dataset": DATASETS, "objectives": OBJECTIVES, "search": (AUTHORS, LOOP)}
    for (dataset, objectives, search), group in groups(rows, **orders):
        over, bounded = group["over"].sum(), objectives in (BOUND, BOTH, MINUS)
        lines.append(
            [
                *(dataset, objectives, search, len(group)),
                f"{group['equal'].sum():.0f} of {len(group)}" if objectives == NOTHING else "",
                mean_and_deviation(group["accuracy"]),
                mean(group["cells"], 0),
                mean(group["predicted"], 2),
                mean(group["ms"], 2),
                f"{group['limit'].iloc[0]:.2f}" if bounded else "",
                f"{over:.0f} of {group['cells'].sum():.0f}" if bounded else "",
            ]
        )
    header = ["data set", "objectives", "search", "repeats", "equal histories", "accuracy (%)", "cells"]
    header += ["predicted (ms)", "latency (ms)", "bound (ms)", "beyond it, predicted"]
    return markdown(header, lines)


if __name__ == "__main__":
    as_command(main)
