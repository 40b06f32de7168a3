"""The plugin's share of a search's time, beside the published way: T5-small, one network at a time.

``python -m experiments.search.search_time --cache cached_metrics --hw-nas-bench FILE [--role pareto]``

FreeREA searches with 45 s of published metric time, without the plugin and with a predicted latency: bounded by its
median, so that half of the proposals are predicted and then discarded, or optimised beside FreeREA's score. Every
search has a process of its own, so that no cache is shared. The published way is computed: the seconds of one of its
predictions, measured in this run, times the predictions that the same search needs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, NamedTuple

import pandas as pd

from experiments.published import read_devices
from experiments.search.clock import Clock
from experiments.search.fidelity import BUDGET_S, OURS
from experiments.tables import Row, RowJournal, as_command, experiment_parser, groups, markdown
from freerea_patch import (
    BoundObjective,
    Budget,
    Candidate,
    Objective,
    ObjectiveSet,
    Role,
    TopologySpace,
    make_search,
    run,
)
from freerea_patch.loop import Times
from freerea_patch.spaces import DATASETS
from freerea_patch.training_free import METRICS
from freerea_seval.config import LiveSettings
from freerea_seval.progress import terminal_progress
from freerea_seval.sources.freerea_cache import FreereaCacheSource
from freerea_seval.sources.registry import Context

LATENCY = "edgegpu_latency"
#: Cells that the predictor learns from, and the model.
CELLS, MODEL = 100, "auto"
WITHOUT, PLUGIN = "without", "plugin"
ONCE, AGAIN = "published, each network once", "published, history again at every report"
#: Predictions of the published way that are timed.
_TIMED = 8
COLUMNS = (
    "way", "seed", "metric_s", "predictor_s", "predictor_cpu_s", "strings_cpu_s", "features_cpu_s", "loop_s", "load_s",
    "explored", "drawn", "predictions", "batches", "share", "share_cpu",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Search with every seed, compute the published way beside, and print the means."""
    parser = experiment_parser("search.search_time", __doc__)
    parser.shared("--cache", "--hw-nas-bench", required=True)
    parser.add_argument("--dataset", choices=DATASETS, default="cifar10")
    parser.add_argument("--role", choices=("constraint", "pareto"), default="constraint", help="of the latency")
    parser.shared("--seeds", "--threads")
    parser.output("runs/search_time", "rows and predictors")
    options = parser.parse_args(arguments)
    config = {"dataset": options.dataset, "role": options.role, "threads": options.threads, "cells": CELLS}
    journal = RowJournal(options.output, {**config, "budget_s": BUDGET_S}, COLUMNS)
    done = {(row["way"], int(row["seed"])) for row in journal.rows()}
    missing = [seed for seed in range(options.seeds) if not {(WITHOUT, seed), (AGAIN, seed)} <= done]
    prediction = published_seconds(options.threads) if missing else Seconds(0.0, 0.0)
    with terminal_progress().task(f"{options.seeds} seeds") as show:
        for seed in missing:
            show(seed / options.seeds, "")
            folder = options.output / f"predictor-{seed}"
            median_ms = prepare(folder, options.hw_nas_bench, options.dataset, seed)
            bound_ms = median_ms if options.role == "constraint" else None
            rows: dict[str, dict[str, object]] = {}
            for way, predictor in ((WITHOUT, None), (PLUGIN, folder)):
                # A process of its own: the caches of a search end with it.
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as worker:
                    arguments_ = (options.cache, options.dataset, seed, options.threads, predictor, bound_ms)
                    rows[way] = worker.submit(search, *arguments_).result()
            for way, row in (*rows.items(), *as_published(rows[PLUGIN], prediction)):
                if (way, seed) not in done:
                    journal.append({"way": way, "seed": seed, **row})
    print(summary(journal.frame()))


class Seconds(NamedTuple):
    """Elapsed time, and CPU time of the process, which is less on a shared machine."""

    wall: float
    cpu: float


def published_seconds(threads: int) -> Seconds:
    """Return the time of one prediction of the published way: medians of several."""
    import torch

    from experiments.predictors.speed import published

    torch.set_num_threads(threads)
    predict = published(0)
    clocks = [Clock() for _ in range(_TIMED)]
    for clock in clocks:
        clock.timed(predict)()
    return Seconds(median(c.wall_s for c in clocks), median(c.cpu_s for c in clocks))


def prepare(folder: Path, hw_nas_bench: Path, dataset: str, seed: int) -> float:
    """Train a predictor on random cells, unless it is there, and return the median latency of all cells, in ms."""
    from freerea_seval.predictor.folder import save_predictor
    from freerea_seval.predictor.training import Target, train_predictor
    from freerea_seval.strings.encode import SpaceStrings

    space = TopologySpace(dataset)
    latency_ms = pd.Series(read_devices(hw_nas_bench, dataset)[LATENCY].values)
    if not folder.exists():
        rows = Random(seed).sample(range(len(latency_ms)), CELLS)
        strings = SpaceStrings(space, "executed").strings([space.genotypes()[i] for i in rows])
        values = latency_ms[rows].to_numpy()
        target = Target(LATENCY, "ms", "min")
        predictor, info = train_predictor(
            strings, values, [target], space_name=space.name, view="executed", model=MODEL, seed=seed
        )
        save_predictor(folder, predictor, info)
    return float(latency_ms.median())


def search(
    cache: Path, dataset: str, seed: int, threads: int, predictor: Path | None, bound_ms: float | None
) -> dict[str, object]:
    """Run one search, in a process that has run none, and return its row."""
    space = TopologySpace(dataset)
    source = FreereaCacheSource(Context(space), str(cache))
    for metric in METRICS:
        source.describe(metric)  # reads the file, whose seconds are not those of a search
    bound = [BoundObjective(Objective(metric), source, metric) for metric in METRICS]
    clocks = Clocks(Clock(), Clock(), Clock())
    began = time.perf_counter()
    if predictor is not None:
        bound.append(_plugin(space, predictor, bound_ms, threads, clocks))
    load_s = time.perf_counter() - began
    objectives = ObjectiveSet(bound)
    freerea = make_search("freerea", space, objectives.terms, seed=seed, **OURS["freerea"])
    reports = Reports()
    result = run(freerea, objectives, Budget(metric_seconds=BUDGET_S), on_candidate=reports)
    charged_s = result.ledger.seconds.get(LATENCY, 0.0)
    drawn = result.history.evaluated
    return {
        **_times(result.ledger.total_s - charged_s, Seconds(charged_s, clocks.predictor.cpu_s), result.times.loop_s),
        "strings_cpu_s": clocks.strings.cpu_s,
        "features_cpu_s": clocks.features.cpu_s,
        "load_s": load_s,
        "explored": len(result.history),
        "drawn": drawn,
        "predictions": drawn if predictor is not None else 0,
        "batches": clocks.predictor.calls,
        "again": drawn + reports.networks,
    }


class Reports:
    """Counts the networks that the reports of a search are about: after every generation, the whole history."""

    def __init__(self) -> None:
        self._reported = self._generation = self._explored = 0

    def __call__(self, candidate: Candidate, spent: float, times: Times) -> None:
        """Count the next candidate of the search."""
        # A generation that brought nothing new is reported all the same.
        self._reported += self._explored * (candidate.proposal.generation - self._generation)
        self._generation = candidate.proposal.generation
        self._explored += candidate.feasible

    @property
    def networks(self) -> int:
        """Their sum, if the search ends here with one more report."""
        return self._reported + self._explored


class Clocks(NamedTuple):
    """The time of the plugin: in total, and the parts of strings and of their features."""

    predictor: Clock
    strings: Clock
    features: Clock


def _plugin(space: TopologySpace, folder: Path, bound_ms: float | None, threads: int, clocks: Clocks) -> BoundObjective:
    """Return the objective of the predicted latency, timed by clocks: a bound, or a Pareto axis."""
    from freerea_seval.sources.predicted import PredictedSource

    source: Any = PredictedSource(Context(space, live=LiveSettings(threads=threads)), str(folder))
    source.evaluate = clocks.predictor.timed(source.evaluate)
    source.strings.strings = clocks.strings.timed(source.strings.strings)
    for features in {id(model.features_): model.features_ for model in source.predictor.models_}.values():
        features.matrix = clocks.features.timed(features.matrix)
    role: Role = "pareto" if bound_ms is None else "constraint"
    return BoundObjective(Objective(LATENCY, "min", role, upper=bound_ms, unit="ms"), source, LATENCY)


def _times(metric_s: float, predictor: Seconds, loop_s: float) -> dict[str, object]:
    return {
        "metric_s": metric_s,
        "predictor_s": predictor.wall,
        "predictor_cpu_s": predictor.cpu,
        "loop_s": loop_s,
        "share": predictor.wall / (metric_s + predictor.wall + loop_s),
        "share_cpu": predictor.cpu / (metric_s + predictor.cpu + loop_s),
    }


def as_published(plugin: Mapping[str, Any], each: Seconds) -> Iterator[tuple[str, Row]]:
    """Yield what a search with the plugin would have taken with the published predictor, given the time of a network.

    Its strings are not counted, and neither is loading it.
    """
    for way, count in ((ONCE, plugin["drawn"]), (AGAIN, plugin["again"])):
        times = _times(plugin["metric_s"], Seconds(count * each.wall, count * each.cpu), plugin["loop_s"])
        excluded = dict.fromkeys(("strings_cpu_s", "features_cpu_s", "load_s"), 0.0)
        yield way, {**plugin, **times, **excluded, "predictions": count, "batches": count}


def summary(rows: pd.DataFrame) -> str:
    """Return a Markdown table, a line a way: means over seeds."""
    lines = []
    for (way,), group in groups(rows, way=(WITHOUT, PLUGIN, ONCE, AGAIN)):
        value = group[[name for name in COLUMNS if name != "way"]].mean()
        parts_s = [value["strings_cpu_s"], value["features_cpu_s"]]
        parts_s.append(value["predictor_cpu_s"] - sum(parts_s))
        lines.append(
            [
                f"{way} (computed)" if way in (ONCE, AGAIN) else way,
                len(group),
                *(f"{value[name]:.0f}" for name in ("explored", "drawn", "predictions", "batches")),
                *(f"{value['metric_s']:.1f}", f"{value['loop_s']:.3f}", f"{value['predictor_s']:.3f}"),
                *(f"{100 * value['share']:.2f} %", f"{value['predictor_cpu_s']:.3f}"),
                " + ".join(f"{seconds:.3f}" for seconds in parts_s) if way == PLUGIN else "",
                f"{100 * value['share_cpu']:.2f} %",
            ]
        )
    header = ["way", "seeds", "explored", "drawn", "predictions", "batches", "metrics (s)", "loop (s)"]
    header += ["predictor (s)", "its share", "its CPU time (s)", "strings + features + models", "share by CPU time"]
    return f"{markdown(header, lines)}\n\n{EXPLANATION}"


EXPLANATION = """\
explored: feasible cells, whose metrics were computed; drawn: all that were proposed; batches: calls of the predictor.
metrics: seconds that FreeREA publishes for its GPU; the others are of this machine. share: predictor / (metrics + loop
+ predictor), with its strings; by the clock, and by CPU time, which says more on a machine that others use, too.
computed: what the search with the plugin would have taken with T5-small's encoder (512 tokens, one network at a time),
at the seconds a prediction that were measured in the same run; a report, after every generation, predicts the whole
history again. Loading a predictor comes before a search and is not counted (load_s in the rows), nor is training it."""


if __name__ == "__main__":
    as_command(main)
