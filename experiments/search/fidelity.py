"""Whether our loop is FreeREA's: accuracy found, cells explored, and the time that the loop takes besides metrics.

``python -m experiments.search.fidelity --cache cached_metrics [--checkout FreeREA]``
"""

from __future__ import annotations

import argparse
import io
import random
import time
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from experiments.tables import Row, RowJournal, as_command, markdown
from freerea_patch import BoundObjective, Budget, Objective, ObjectiveSet, TopologySpace, make_search, run
from freerea_patch.checkout import Checkout
from freerea_patch.spaces import DATASETS, all_cells
from freerea_patch.training_free import METRICS
from freerea_seval.progress import terminal_progress
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
    """Search every data set with every method and seed, and print what they found and spent."""
    parser = argparse.ArgumentParser(prog="python -m experiments.search.fidelity", description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="folder cached_metrics of FreeREA's code")
    parser.add_argument("--checkout", type=Path, help="clone of FreeREA's code, to run its own search as well")
    parser.add_argument("--seeds", type=int, default=30, help="number of seeds")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/fidelity"))
    options = parser.parse_args(arguments)
    journal = RowJournal(options.output, {"budget_s": BUDGET_S, "methods": OURS}, COLUMNS)
    done = {(row["dataset"], row["method"], int(row["seed"])) for row in journal.rows()}
    with ExitStack() as stack, terminal_progress().task(f"{options.seeds} seeds") as show:
        code = stack.enter_context(Checkout(options.checkout)) if options.checkout else None
        for place, dataset in enumerate(DATASETS):
            source = FreereaCacheSource(Context(TopologySpace(dataset)), str(options.cache))
            for metric in (*METRICS, "accuracy"):
                source.describe(metric)  # reads the file, which no search should pay for
            api = cached_api(code, source, options.cache, dataset) if code else None
            for seed in range(options.seeds):
                show((place + seed / options.seeds) / len(DATASETS), dataset)
                for method in OURS:
                    if (dataset, method, seed) not in done:
                        journal.append(search_ours(source, dataset, method, seed))
                if code and (dataset, PUBLIC, seed) not in done:
                    journal.append(search_public(code, api, dataset, seed))
    print(summary(journal.rows()))


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


def cached_api(code: Checkout, source: FreereaCacheSource, cache: Path, dataset: str) -> Any:
    """Return the public code's view of NATS-Bench, with the archive replaced by what the cache has.

    Only genotypes, costs and accuracies came from the archive; metrics, their seconds, mutation and
    crossover are the public code's own. There are no bounds in this experiment, so a cost is just finite.
    """
    genotypes = all_cells()
    index = {genotype: i for i, genotype in enumerate(genotypes)}
    accuracies = [row["accuracy"].value for row in source.evaluate(genotypes, ["accuracy"])]

    class CachedNATSBench(code.nas_spaces.NATSBench):  # type: ignore[misc,name-defined]
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


def search_public(code: Checkout, api: Any, dataset: str, seed: int) -> Row:
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


def summary(rows: Sequence[dict[str, str]]) -> str:
    """Return a Markdown table, a line a data set and method."""
    lines = []
    for dataset in DATASETS:
        for method in (*OURS, PUBLIC):
            chosen = [row for row in rows if (row["dataset"], row["method"]) == (dataset, method)]
            if chosen:
                accuracy = [float(row["accuracy"]) for row in chosen]
                cells = [int(row["cells"]) for row in chosen]
                loop = [float(row["loop_us"]) for row in chosen if row["loop_us"]]
                lines.append(
                    [
                        dataset,
                        method,
                        len(chosen),
                        f"{np.mean(accuracy):.3f} ± {np.std(accuracy):.3f}",
                        f"{np.mean(cells):.0f} ({min(cells)} to {max(cells)})",
                        f"{np.mean(loop):.0f}" if loop else "",
                        f"{np.mean([float(row['wall_us']) for row in chosen]):.0f}",
                    ]
                )
    header = ["data set", "method", "seeds", "top-1 (%)", "cells", "loop (µs a cell)", "wall clock (µs a cell)"]
    return f"{markdown(header, lines)}\n\n{EXPLANATION}"


EXPLANATION = """\
top-1: NATS-Bench test accuracy (200 epochs) of the cell that a search found, mean ± standard deviation over seeds.
loop: our search without looking metrics up. wall clock: the whole search, looking metrics up included; for the
public code that is all of search.search, with its bookkeeping for plots and its report, whose printing goes nowhere."""


if __name__ == "__main__":
    as_command(main)
