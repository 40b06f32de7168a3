"""Whether our loop equals FreeREA's: best accuracy, explored cells, and the time of the loop without metrics.

``python -m experiments.search.fidelity --cache cached_metrics [--checkout FreeREA]``
"""

from __future__ import annotations

import io
import random
import time
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stdout
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

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
from freerea_patch import BoundObjective, Budget, Objective, ObjectiveSet, TopologySpace, make_search, run
from freerea_patch.checkout import Checkout
from freerea_patch.spaces import DATASETS, all_cells
from freerea_patch.training_free import METRICS
from freerea_seval.sources.freerea_cache import FreereaCacheSource
from freerea_seval.sources.registry import Context

#: 0.75 minutes, and the sizes of the paper's runs; the ablation has the public code's (run_search.py).
BUDGET_S = 45.0
OURS: dict[str, dict[str, int]] = {
    "freerea": {"population": 100, "tournament": 25},
    "freerea-minus": {"population": 100, "tournament": 5},
    "random": {},
}
PUBLIC = "public code"
COLUMNS = ("dataset", "method", "seed", "accuracy", "cells", "loop_us", "wall_us")


def main(arguments: Sequence[str] | None = None) -> None:
    """Search every data set with every method and seed, and print accuracies, explored cells and times."""
    parser = experiment_parser("search.fidelity", __doc__)
    parser.shared("--cache", required=True)
    parser.shared("--checkout", help="clone of FreeREA's code, to run its own search as well")
    parser.shared("--seeds", default=30)
    parser.output("runs/fidelity")
    options = parser.parse_args(arguments)
    journal = RowJournal(options.output, {"budget_s": BUDGET_S, "methods": OURS}, COLUMNS)
    methods = [*OURS, PUBLIC] if options.checkout else [*OURS]
    jobs = product(DATASETS, range(options.seeds), methods)
    with ExitStack() as stack:
        code = stack.enter_context(Checkout(options.checkout)) if options.checkout else None

        @cache
        def source_of(dataset: str) -> FreereaCacheSource:
            source = FreereaCacheSource(Context(TopologySpace(dataset)), str(options.cache))
            for metric in (*METRICS, "accuracy"):
                source.describe(metric)  # reads the file, whose seconds are not those of a search
            return source

        @cache
        def api_of(dataset: str) -> Any:
            return cached_api(code, source_of(dataset), options.cache, dataset)

        for dataset, seed, method in journal.missing(("dataset", "seed", "method"), jobs, f"{options.seeds} seeds"):
            if method == PUBLIC:
                journal.append(search_public(code, api_of(dataset), dataset, seed))
            else:
                journal.append(search_ours(source_of(dataset), dataset, method, seed))
    print(summary(journal.frame()))


def search_ours(source: FreereaCacheSource, dataset: str, method: str, seed: int) -> Row:
    """Run one search of ours on the published metrics."""
    objectives = ObjectiveSet([BoundObjective(Objective(metric), source, metric) for metric in METRICS])
    search = make_search(method, TopologySpace(dataset), objectives.terms, seed=seed, **OURS[method])
    result = run(search, objectives, Budget(total_seconds=BUDGET_S))
    (row,) = source.evaluate([result.front[0].genotype], ["accuracy"])
    cells = len(result.history)
    return {
        "dataset": dataset,
        "method": method,
        "seed": seed,
        "accuracy": row["accuracy"].value,
        "cells": cells,
        "loop_us": result.times.loop_s / cells * 1e6,
        "wall_us": result.times.wall_s / cells * 1e6,
    }


def cached_api(code: Any, source: FreereaCacheSource, cache: Path, dataset: str) -> Any:
    """Return the public code's view of NATS-Bench, with the archive replaced by what the cache has.

    Only genotypes, costs and accuracies came from the archive; metrics, their seconds, mutation and
    crossover are the public code's own. This experiment has no bounds, so any finite cost will do.
    """
    genotypes = all_cells()
    index = {genotype: i for i, genotype in enumerate(genotypes)}
    accuracies = [row["accuracy"].value for row in source.evaluate(genotypes, ["accuracy"])]

    class CachedNATSBench(code.nas_spaces.NATSBench):  # type: ignore[misc]
        """The public code's class, without the archive."""

        cells = 0

        def __init__(self) -> None:
            self.metrics_cache = code.nas_spaces.load_metrics(str(cache / "nats" / dataset))

        def __len__(self) -> int:
            return len(genotypes)

        def __getitem__(self, item: int) -> Any:
            return code.nas_spaces.Exemplar(self, item, genotype=genotypes[item])

        def get_index(self, x: Any) -> int:
            return index[getattr(x, "genotype", x)]

        def get_accuracy(self, spec: Any) -> float:
            return accuracies[int(spec.idx)]

        def get_cost_info(self, spec: Any) -> dict[str, float]:
            return {"params": 0.0, "flops": 0.0, "latency": 0.0}

        def total_metrics_time(self, exemplars: Any, metrics: Any) -> Any:
            self.cells = len(exemplars)  # the last call, at the end of a search, is on its whole history
            return super().total_metrics_time(exemplars, metrics)

    return CachedNATSBench()


def search_public(code: Any, api: Any, dataset: str, seed: int) -> Row:
    """Run one search of the public code on the published metrics, and time all of it."""
    random.seed(seed)
    np.random.seed(seed)
    analyzer = code.analyzer.Analyzer(api, dataset, "ours")
    analyzer.new_run()
    infinite = float("inf")
    began = time.perf_counter()
    with redirect_stdout(io.StringIO()):
        accuracy, _ = code.search.search(
            api, N=100, n=25, max_flops=infinite, max_params=infinite, max_time=BUDGET_S / 60, analyzer=analyzer
        )
    wall_us = (time.perf_counter() - began) / api.cells * 1e6
    return {
        "dataset": dataset,
        "method": PUBLIC,
        "seed": seed,
        "accuracy": accuracy,
        "cells": api.cells,
        "loop_us": "",
        "wall_us": wall_us,
    }


def summary(rows: pd.DataFrame) -> str:
    """Return a Markdown table, a line a data set and method."""
    lines = [
        [
            *(dataset, method, len(group), mean_and_deviation(group["accuracy"])),
            f"{mean(group['cells'], 0)} ({group['cells'].min()} to {group['cells'].max()})",
            *(mean(group["loop_us"], 0), mean(group["wall_us"], 0)),
        ]
        for (dataset, method), group in groups(rows, dataset=DATASETS, method=(*OURS, PUBLIC))
    ]
    header = ["data set", "method", "seeds", "top-1 (%)", "cells", "loop (µs a cell)", "wall clock (µs a cell)"]
    return f"{markdown(header, lines)}\n\n{EXPLANATION}"


EXPLANATION = """\
top-1: NATS-Bench test accuracy (200 epochs) of the cell that a search returned, mean ± standard deviation over seeds.
loop: our search without looking metrics up. wall clock: the whole search, looking metrics up included; for the
public code that is all of search.search, with its bookkeeping for plots and its report, whose printing goes nowhere."""


if __name__ == "__main__":
    as_command(main)
