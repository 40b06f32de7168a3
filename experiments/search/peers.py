"""The measured search beside its peers, all with the same numbers of measured latencies and of trained networks.

``python -m experiments.search.peers --cache cached_metrics --hw-nas-bench FILE --guides FOLDER --guides-ratio R``

A method may measure the latencies of 100 networks and train 50 of them (``100+50``): both are looked up in published
tables. Within a bound on the latency, its answer is the most accurate network that it trained and that keeps the bound;
without a bound, its front is that of all networks that it trained. Ours begins with a guide without training: ``ours``
with that of the preset ``guided``, ``ours-published`` with FreeREA's. The Optuna methods and qNEHVI need packages that
nothing else needs: ``pip install -c constraints.txt optuna botorch``.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import pandas as pd

from experiments.search.benchmarks import (
    HARDWARE,
    Benchmark,
    Guides,
    read_benchmark,
    table_path,
    write_made_up_tables,
    write_published_tables,
)
from experiments.search.methods import GUIDED, search_config
from experiments.search.methods import METHODS as METHODS_OF_GRIDS
from experiments.search.peer_methods import PEERS, Cells, Task
from experiments.tables import RowJournal, as_command, experiment_parser, markdown
from freerea_patch import InputError, NothingFeasible
from freerea_patch.history import rank_scores
from freerea_patch.spaces import DATASETS
from freerea_seval.config.presets import PRESETS
from freerea_seval.runs.statistics import paired_p

OURS = "ours"
#: Under a bound, and for a front.
_SEARCHES = {
    OURS: ("guided+trained", "guided-pareto+trained"),
    "ours-published": ("ranked+trained", "pareto+trained"),
}
METHODS = (*_SEARCHES, *PEERS)
QUANTILES = (0.1, 0.25, 0.5)
#: In place of the quantile of a bound: the search is for a front.
FRONT = "front"
KEY = ("seed", "budget", "dataset", "metric", "quantile", "method")
COLUMNS = (*KEY, "regret", "answered", "hypervolume", "igd_plus", "measured", "trained", "seconds")
_METHODS_OF_GRIDS = {method.name: method for method in (*METHODS_OF_GRIDS, *GUIDED)}


class Budget(NamedTuple):
    """How many latencies a method may measure, and how many networks it may train."""

    measured: int
    trained: int

    @classmethod
    def read(cls, text: str) -> Budget:
        """Return the budget that a text such as ``100+50`` names.

        Raises:
            InputError: the text is no budget, or asks for more trained networks than measured ones.
        """
        first, _, second = text.partition("+")
        if not (first.isdecimal() and second.isdecimal() and int(first) >= int(second) >= 1):
            raise InputError(f"expected a budget such as 100+50, MEASURED+TRAINED networks, got {text!r}")
        return cls(int(first), int(second))

    def __str__(self) -> str:
        return f"{self.measured}+{self.trained}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every method on every benchmark that has no row yet, and print the means."""
    parser = experiment_parser("search.peers", __doc__)
    parser.shared("--cache", "--hw-nas-bench", "--guides", "--guides-ratio")
    parser.shared("--seeds", default=10)
    parser.add_argument("--budgets", nargs="+", default=["100+50", "20+10"], help="MEASURED+TRAINED networks")
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=["cifar100", "ImageNet16-120"])
    latencies = [metric for metric in HARDWARE if metric.endswith("latency")]
    parser.add_argument("--metrics", nargs="+", choices=HARDWARE, default=latencies)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--quantiles", nargs="+", choices=[*map(str, QUANTILES), FRONT], help="by default all of them")
    parser.add_argument("--smoke", action="store_true", help="made-up tables instead of published ones")
    parser.output("runs/peers", "raw rows, tables and summary.md")
    options = parser.parse_args(arguments)
    if not options.smoke and None in (options.cache, options.hw_nas_bench, options.guides, options.guides_ratio):
        raise InputError(
            "the comparison needs published tables, --cache and --hw-nas-bench, and --guides and --guides-ratio; or try"
            " --smoke"
        )
    budgets = list(map(Budget.read, options.budgets))
    for method in options.methods:
        if method in PEERS:
            PEERS[method].check()
    journal = RowJournal(options.output, {"smoke": options.smoke}, COLUMNS)
    if options.smoke:
        write_made_up_tables(options.output, options.datasets)
    else:
        guides = Guides(options.guides, options.guides_ratio)
        write_published_tables(options.output, options.datasets, options.cache, options.hw_nas_bench, None, guides)
    benchmarks = {
        (dataset, metric): read_benchmark(options.output, dataset, metric)
        for dataset in options.datasets
        for metric in options.metrics
    }
    cells = {dataset: read_cells(options.output, dataset) for dataset in options.datasets}
    jobs = (
        (seed, budget, dataset, metric, quantile, method)
        for seed in range(options.seeds)
        for budget in budgets
        for dataset, metric in benchmarks
        for quantile in options.quantiles or [*map(str, QUANTILES), FRONT]
        for method in options.methods
        if method in _SEARCHES or (PEERS[method].fronts if quantile == FRONT else PEERS[method].bounds)
    )
    for job in journal.missing(KEY, jobs, "searches"):
        seed, budget, dataset, metric, quantile, method = job
        benchmark = benchmarks[dataset, metric]
        bound = None if quantile == FRONT else benchmark.bound(float(quantile))
        task = Task(benchmark, cells[dataset], *budget, bound)
        began = time.perf_counter()
        if method in _SEARCHES:
            search_with_ours(task, table_path(options.output, dataset), seed, method)
        else:
            PEERS[method].search(task, np.random.default_rng([seed, crc32(f"{dataset} {metric}".encode())]))
        outcome = {**outcome_of(task), "seconds": f"{time.perf_counter() - began:.2f}"}
        journal.append({**dict.fromkeys(COLUMNS, ""), **dict(zip(KEY, job, strict=True)), **outcome})
    text = summary(journal.frame())
    (options.output / "summary.md").write_text(text + "\n", encoding="utf-8")
    print(text)


def read_cells(folder: Path, dataset: str) -> Cells:
    """Return the cells of an experiment's table, with the score of the preset ``guided`` among all of them."""
    table = pd.read_csv(table_path(folder, dataset))
    terms = PRESETS["guided"].objectives
    weights = np.array([float(term.get("weight", 1.0)) for term in terms])
    guide = rank_scores(table[[term["metric"] for term in terms]].to_numpy(float), weights, logarithmic=True)
    return Cells(list(table["genotype"]), table["naswot"].to_numpy(float), guide)


def ours_config(
    benchmark: Benchmark,
    table: Path,
    measured: int,
    trained: int,
    bound: float | None,
    seed: int,
    method: str = OURS,
) -> dict[str, Any]:
    """Return the config of the measured search for a budget: under a bound, or for a front if it is None."""
    return search_config(
        _METHODS_OF_GRIDS[_SEARCHES[method][bound is None]],
        benchmark,
        seed=seed,
        budget={"evaluations": 600},
        sizes={"population": 20, "tournament": 5},
        bound=bound,
        cells=measured,
        trained=trained,
        table=table.resolve(),
    )


def search_with_ours(task: Task, table: Path, seed: int, method: str = OURS) -> None:
    """Run the measured search as a user does, and count what it measured and trained."""
    import freerea_seval as fs

    config = ours_config(task.benchmark, table, task.measurements, task.trainings, task.bound, seed, method)
    with TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        with suppress(NothingFeasible):  # what it measured is recorded all the same
            fs.search(config, run, progress=False)
        lines = (run / f"seed-{seed}" / "refine.jsonl").read_text(encoding="utf-8").splitlines()
    for entry in map(json.loads, lines):
        if "genotype" in entry:
            count = task.train if entry["column"] == "accuracy" else task.measure
            count(task.benchmark.rows[entry["genotype"]])


def outcome_of(task: Task) -> dict[str, object]:
    """Return the quality of what a method has trained, by true values.

    Under a bound, a method that trained no network that keeps it has no answer, and counts as the least accurate one.
    """
    row: dict[str, object] = {"measured": len(task.latencies), "trained": len(task.accuracies)}
    benchmark = task.benchmark
    if task.bound is None:
        share, distance = benchmark.quality([benchmark.genotypes[index] for index in task.accuracies])
        return {**row, "hypervolume": share, "igd_plus": distance if math.isfinite(distance) else ""}
    kept = [accuracy for index, accuracy in task.accuracies.items() if task.keeps(index)]
    worst = float(benchmark.accuracies[benchmark.within(task.bound)].min())
    regret = benchmark.best(task.bound) - max(kept, default=worst)
    return {**row, "regret": regret, "answered": int(bool(kept))}


def summary(rows: pd.DataFrame) -> str:
    """Return Markdown: for each budget, a table of regrets under bounds and one of fronts, a line a method."""
    parts = []
    for budget in dict.fromkeys(rows["budget"]):
        chosen = rows[rows["budget"] == budget]
        for fronts, name in ((False, "bounds: regret (percentage points)"), (True, "fronts: share of the hypervolume")):
            some = chosen[(chosen["quantile"] == FRONT) == fronts]
            if len(some):
                parts += [f"### {budget}, {name}", _table(some, fronts)]
    return "\n\n".join(parts)


def _table(rows: pd.DataFrame, fronts: bool) -> str:
    """Return the table of means: a column a metric, over data sets and seeds; the last ones over all of it.

    The comparison with ours is paired by data set, metric, bound and seed.
    """
    value, digits = ("hypervolume", 4) if fronts else ("regret", 2)
    metrics, quantiles = list(dict.fromkeys(rows["metric"])), sorted(dict.fromkeys(rows["quantile"]))
    paired = {
        method: group.set_index(["dataset", "metric", "quantile", "seed"])[value].to_dict()
        for method, group in rows.groupby("method")
    }
    lines = []
    for method in (method for method in METHODS if method in paired):
        group = rows[rows["method"] == method]
        cells = [
            " / ".join(
                f"{group[(group['metric'] == metric) & (group['quantile'] == quantile)][value].mean():.{digits}f}"
                for quantile in quantiles
            )
            for metric in metrics
        ]
        p = paired_p(paired[OURS], paired[method]) if OURS in paired and method != OURS else None
        means = [*cells, f"{group[value].mean():.{digits}f}", *([] if fronts else [(group["answered"] == 0).sum()])]
        compared = ["" if p is None else f"{p:.2g}", f"{group['seconds'].mean():.1f}"]
        lines.append([method, group["seed"].nunique(), *means, *compared])
    named = [metric if fronts else f"{metric}, {' / '.join(quantiles)}" for metric in metrics]
    extra = [] if fronts else ["without answer"]
    return markdown(["method", "seeds", *named, "mean of all", *extra, "p, beside ours", "seconds"], lines)


if __name__ == "__main__":
    as_command(main)
