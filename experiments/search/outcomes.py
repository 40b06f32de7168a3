"""The quality of a search of the integration experiment by true values: its answer, its front and its ranking."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from experiments.search.benchmarks import Benchmark
from experiments.search.methods import Method
from freerea_patch import History
from freerea_seval.files import write_atomically
from freerea_seval.predictor.scores import kendall_tau
from freerea_seval.runs.folder import RunFolder

#: In a run folder of the experiment: the CPU time of its predictions.
CPU_FILE = "predictor_cpu.json"


class FinishedSearch(NamedTuple):
    """A finished search, read from its folder.

    Attributes:
        history: all evaluated networks; of a search in rounds, all that were measured.
        seconds: charged to the budget, by metric.
        predictor_cpu_s: CPU time of predictions, which is less than their share of ``seconds`` on a shared machine.
        loop_s: those of the loop; NaN for a search in rounds.
        predicted: the metrics that predictors gave.
        explored: how many different networks kept the bounds, by what the search knew of them.
        reported: the networks that the search itself reports, best first.
    """

    history: History
    seconds: Mapping[str, float]
    predictor_cpu_s: float
    loop_s: float
    predicted: frozenset[str]
    explored: int
    reported: list[str]


def read_search(path: Path) -> FinishedSearch:
    """Return the search of the single seed of a run folder."""
    folder = RunFolder.open(path)
    (seed,) = folder.config.search.seeds
    objectives = [section for section in folder.config.objectives if section.role != "guide"]
    terms = [term for section in objectives for term in section.objectives()]
    history = History(terms, **folder.config.search.scoring())
    for step in folder.journal(seed).steps():
        history.add(step.proposal, step.evaluation)
    result = folder.result(seed)
    assert result is not None
    predicted = frozenset(o.metric for o in folder.config.objectives if o.source_name == "seval")
    clock = folder.seed(seed) / "clock.json"
    loop_s = json.loads(clock.read_text())["loop_s"] if clock.exists() else math.nan
    reported = [row["genotype"] for row in result["front"]]
    return FinishedSearch(history, result["seconds"], read_cpu_s(path), loop_s, predicted, result["explored"], reported)


def read_cpu_s(path: Path) -> float:
    """Return the recorded CPU time of the predictions of a run folder, 0 if there is none."""
    file = path / CPU_FILE
    return float(json.loads(file.read_text())["predictor_cpu_s"]) if file.exists() else 0.0


def ranking(search: FinishedSearch) -> list[str]:
    """Return the feasible genotypes, best first: what the search reports, then the others as its history ranks them."""
    ranked = (candidate.genotype for candidate in search.history.ranked(list(search.history)))
    return list(dict.fromkeys([*search.reported, *ranked]))


def answers(benchmark: Benchmark, bound: float, ranked: Sequence[str]) -> dict[str, object]:
    """Return the true accuracy of a search's answer, and of the answer once those before it have been measured.

    Args:
        benchmark: the truth.
        bound: what the answer must keep.
        ranked: the networks that the search would give, best first.
    """
    within, best = benchmark.within(bound), benchmark.best(bound)
    row: dict[str, object] = {"bound": bound, "best_accuracy": best}
    rows = [benchmark.rows[genotype] for genotype in ranked]
    if rows:
        accuracy = float(benchmark.accuracies[rows[0]])
        row["violated"] = int(not within[rows[0]])
        row["accuracy"] = accuracy
        row["regret"] = "" if row["violated"] else best - accuracy
    measured = next((number for number, index in enumerate(rows) if within[index]), None)
    if measured is not None:
        accuracy = float(benchmark.accuracies[rows[measured]])
        row |= {"remeasured": measured + 1, "remeasured_accuracy": accuracy, "remeasured_regret": best - accuracy}
    return row


def front_quality(benchmark: Benchmark, history: History, folder: Path) -> dict[str, object]:
    """Return the quality of a search's front by true values, and write its points to ``front.csv`` in ``folder``."""
    front = [c.genotype for c in history.front()]
    write_points(folder / "front.csv", benchmark, front)
    share, distance = benchmark.quality(front)
    # A front of which the device runs nothing is at no distance.
    return {"front": len(front), "hypervolume": share, "igd_plus": distance if math.isfinite(distance) else ""}


def write_points(path: Path, benchmark: Benchmark, genotypes: Sequence[str]) -> None:
    """Write the true accuracies and values of networks as CSV."""
    rows = [benchmark.rows[genotype] for genotype in genotypes]
    points = {"genotype": genotypes, "accuracy": benchmark.accuracies[rows], "value": benchmark.values[rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, pd.DataFrame(points).to_csv(index=False, na_rep="nan", lineterminator="\n"))


def ranking_tau(method: Method, benchmark: Benchmark, history: History) -> object:
    """Return Kendall's tau-b of predicted against true values, among all networks that a search generated."""
    if method.hardware != "seval" or method.rounds:  # rounds keep what was measured
        return ""
    pairs = [
        (c.values[benchmark.metric], benchmark.values[benchmark.rows[c.genotype]])
        for c in history.all_candidates()
        if benchmark.metric in c.values
    ]
    predicted, true = np.array(pairs).T
    finite = np.isfinite(predicted) & np.isfinite(true)
    return kendall_tau(true[finite], predicted[finite]) if finite.sum() > 1 else ""


def times(search: FinishedSearch) -> dict[str, object]:
    """Return where the seconds of a search went: metrics, predictions, loop."""
    seconds = [(name in search.predicted, value) for name, value in search.seconds.items()]
    return {
        "metric_s": sum(value for predicted, value in seconds if not predicted),
        "predictor_s": sum(value for predicted, value in seconds if predicted),
        "predictor_cpu_s": search.predictor_cpu_s,
        "loop_s": "" if math.isnan(search.loop_s) else search.loop_s,
    }


def counts(search: FinishedSearch) -> dict[str, int]:
    """Return how many different networks a search explored, and how many it generated, or measured in rounds."""
    return {"explored": search.explored, "drawn": search.history.evaluated}
