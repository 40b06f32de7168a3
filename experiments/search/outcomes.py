"""The quality of a search of the integration experiment by true values: its answer, its front and its ranking."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from experiments.search.benchmarks import Benchmark
from experiments.search.methods import Method
from freerea_patch import Candidate, History
from freerea_patch.training_free import METRICS
from freerea_seval.files import write_atomically
from freerea_seval.predictor.scores import kendall_tau
from freerea_seval.runs.folder import RunFolder

#: In a run folder of the experiment: the CPU time of its predictions.
CPU_FILE = "predictor_cpu.json"


class FinishedSearch(NamedTuple):
    """A finished search, read from its folder.

    Attributes:
        history: all evaluated networks.
        seconds: charged to the budget, by metric.
        predictor_cpu_s: CPU time of predictions, which is less than their share of ``seconds`` on a shared machine.
        loop_s: those of the loop.
        predicted: the metrics that predictors gave.
        scoring: how the history aggregates and normalises.
    """

    history: History
    seconds: Mapping[str, float]
    predictor_cpu_s: float
    loop_s: float
    predicted: frozenset[str]
    scoring: Mapping[str, Any]


def read_search(path: Path) -> FinishedSearch:
    """Return the search of the single seed of a run folder."""
    folder = RunFolder.open(path)
    (seed,) = folder.config.search.seeds
    terms = [term for section in folder.config.objectives for term in section.objectives()]
    scoring = folder.config.search.scoring()
    history = History(terms, **scoring)
    for step in folder.journal(seed).steps():
        history.add(step.proposal, step.evaluation)
    result = folder.result(seed)
    assert result is not None
    predicted = frozenset(o.metric for o in folder.config.objectives if o.source_name == "seval")
    loop_s = json.loads((folder.seed(seed) / "clock.json").read_text())["loop_s"]
    return FinishedSearch(history, result["seconds"], read_cpu_s(path), loop_s, predicted, scoring)


def read_cpu_s(path: Path) -> float:
    """Return the recorded CPU time of the predictions of a run folder, 0 if there is none."""
    file = path / CPU_FILE
    return float(json.loads(file.read_text())["predictor_cpu_s"]) if file.exists() else 0.0


def merged(steps: Sequence[FinishedSearch]) -> History:
    """Return the networks that were feasible in any step, without the constraints, as predictors differ by step."""
    terms = [term for term in steps[-1].history.terms if term.role != "constraint"]
    history = History(terms, **steps[-1].scoring)
    for candidate in (candidate for step in steps for candidate in step.history):
        if candidate.genotype not in history:
            history.add(candidate.proposal, candidate.evaluation)
    return history


def metric_seconds(candidate: Candidate) -> float:
    """Return the seconds of a candidate's training-free metrics."""
    return sum(candidate.evaluation.seconds.get(metric, 0.0) for metric in METRICS)


def ranking(history: History) -> list[str]:
    """Return the feasible genotypes, best first, as the search itself ranks its history."""
    return [c.genotype for c in history.ranked(list(history))]


def next_leaders(
    benchmark: Benchmark, bound: float | None, history: History, measured: Sequence[str], count: int
) -> list[str]:
    """Return the best networks of a search that have not been measured yet.

    Under a bound, half of them are predicted to keep it. The others are only near it, as far as the search lets such
    pass: the best of all are often just within, where a predictor errs.
    """
    fresh = [genotype for genotype in ranking(history) if genotype not in measured]
    if bound is None:
        return fresh[:count]
    values = {c.genotype: c.values.get(benchmark.metric, math.nan) for c in history}
    sign = 1.0 if benchmark.direction == "min" else -1.0
    near = [genotype for genotype in fresh if sign * values[genotype] > sign * bound]
    within = [genotype for genotype in fresh if genotype not in set(near)]
    few = min(len(near), max(count // 2, count - len(within)))
    return [*within[: count - few], *near[:few]]


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


def front_quality(benchmark: Benchmark, history: History, leaders: Sequence[str], folder: Path) -> dict[str, object]:
    """Return the quality of a search's front by true values, and write its points to ``front.csv`` in ``folder``.

    Args:
        benchmark: the truth.
        history: of the search.
        leaders: networks that were measured on the way, of which the best join the front in the end.
        folder: the search's.
    """
    front = [c.genotype for c in history.front()]
    joined = list(dict.fromkeys([*front, *benchmark.best_of(leaders)]))
    write_points(folder / "front.csv", benchmark, joined)
    row: dict[str, object] = {"front": len(joined)}
    for name, genotypes in (("", front), ("remeasured_", joined)):
        share, distance = benchmark.quality(genotypes)
        # A front of which the device runs nothing is at no distance.
        row |= {f"{name}hypervolume": share, f"{name}igd_plus": distance if math.isfinite(distance) else ""}
    return row


def write_points(path: Path, benchmark: Benchmark, genotypes: Sequence[str]) -> None:
    """Write the true accuracies and values of networks as CSV."""
    rows = [benchmark.rows[genotype] for genotype in genotypes]
    points = {"genotype": genotypes, "accuracy": benchmark.accuracies[rows], "value": benchmark.values[rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, pd.DataFrame(points).to_csv(index=False, na_rep="nan", lineterminator="\n"))


def ranking_tau(method: Method, benchmark: Benchmark, history: History) -> object:
    """Return Kendall's tau-b of predicted against true values, among all networks that the search generated."""
    if method.hardware != "seval":
        return ""
    pairs = [
        (c.values[benchmark.metric], benchmark.values[benchmark.rows[c.genotype]])
        for c in history.all_candidates()
        if benchmark.metric in c.values
    ]
    predicted, true = np.array(pairs).T
    finite = np.isfinite(predicted) & np.isfinite(true)
    return kendall_tau(true[finite], predicted[finite]) if finite.sum() > 1 else ""


def times(steps: Sequence[FinishedSearch], carried_s: float = 0.0) -> dict[str, float]:
    """Return where the seconds of a search's steps went: metrics, predictions, loop.

    Args:
        steps: of the search.
        carried_s: seconds of metrics that were charged to a step although an earlier one had computed them.
    """
    seconds = [(name in step.predicted, value) for step in steps for name, value in step.seconds.items()]
    return {
        "metric_s": sum(value for predicted, value in seconds if not predicted) - carried_s,
        "predictor_s": sum(value for predicted, value in seconds if predicted),
        "predictor_cpu_s": sum(step.predictor_cpu_s for step in steps),
        "loop_s": sum(step.loop_s for step in steps),
    }


def counts(steps: Sequence[FinishedSearch]) -> dict[str, Any]:
    """Return how many different networks a search's steps explored, and how many they generated."""
    return {
        "explored": len({c.genotype for step in steps for c in step.history}),
        "drawn": len({c.genotype for step in steps for c in step.history.all_candidates()}),
    }
