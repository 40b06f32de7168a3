"""Predict metrics that no table has: memory by the cost model and latency of this machine, in both NATS-Bench spaces.

``python -m experiments.devices.own_metrics``

Memory is the peak of a training step, of all cells and of the measured networks of the size space. Latency is measured
twice: the agreement of both measurements shows their noise. A predictor can agree more with a measurement than a second
measurement does: it averages the noise of many.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from experiments.devices.repeatability import VISIT, round_visits, timings, use_one_thread, visit_row
from experiments.strings.views import Space, sample
from experiments.tables import RowJournal, as_command, experiment_parser, groups, markdown, mean
from freerea_patch import SizeSpace, TopologySpace
from freerea_seval.measurement.timing import summaries
from freerea_seval.predictor.scores import kendall_tau, spearman
from freerea_seval.predictor.seval import SEvalPredictor
from freerea_seval.predictor.splits import published_split
from freerea_seval.progress import terminal_progress
from freerea_seval.strings.encode import SpaceStrings

Values = npt.NDArray[np.float64]

SPACES: Mapping[str, Space] = {"nats-tss": TopologySpace(), "nats-sss": SizeSpace()}
MEMORY, LATENCY = "training_memory", "latency"
#: Kendall's tau-b that SEval-NAS reports on CIFAR-10, where the metrics are those of its authors' machine.
PAPER = {
    ("nats-tss", MEMORY): 0.90,
    ("nats-tss", LATENCY): 0.81,
    ("nats-sss", MEMORY): 0.77,
    ("nats-sss", LATENCY): 0.76,
}
#: Times that every latency is measured.
TWICE = 2
#: Networks stay in memory between rounds up to so many bytes: building thousands anew takes longer than running them.
RESIDENT_BYTES = 10 << 30
VISITS = ("space", "repeat", *VISIT)
COLUMNS = ("space", "metric", "seed", "networks", "kendall_tau", "spearman", "ceiling", "train_s", "choice")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, train and judge."""
    parser = experiment_parser("devices.own_metrics", __doc__)
    parser.add_argument("--networks", type=int, default=3000, help="of each space, to measure")
    parser.add_argument("--cells", type=int, help="of the topology space, for memory; by default all")
    parser.shared("--rounds", default=3, help="of each of the two measurements")
    parser.shared("--seeds", help="number of seeds of the predictors")
    parser.shared("--seed", help="seed of the choice of networks")
    parser.add_argument("--model", default="auto")
    parser.output("runs/own_metrics")
    options = parser.parse_args(arguments)
    chosen = {name: getattr(options, name) for name in ("networks", "rounds", "seed")}
    visits = RowJournal(options.output / "visits", chosen, VISITS)
    rows = RowJournal(options.output, {**chosen, "cells": options.cells, "model": options.model}, COLUMNS)
    for name, space in SPACES.items():
        measure(visits, name, sample(space, options.networks, options.seed), options.rounds)
        measured = latencies(visits.rows(), name)
        for metric in (MEMORY, LATENCY):
            jobs = [(name, metric, seed) for seed in range(options.seeds)]
            missing = [seed for _, _, seed in rows.missing(("space", "metric", "seed"), jobs, metric)]
            if missing:
                # The topology space is small enough for the memory of all of it.
                every = metric == MEMORY and name == "nats-tss"
                indices = sample(space, options.cells, options.seed) if every else list(measured)
                values, ceiling = targets(space, metric, indices, measured)
                for row in judge(space, metric, indices, values, missing, options.model):
                    rows.append({"space": name, "metric": metric, "ceiling": ceiling, **row})
    print(report(rows.frame()))


def measure(visits: RowJournal, name: str, indices: Sequence[int], rounds: int) -> None:
    """Add the visits to networks that the journal does not have yet: rounds through all of them, twice."""
    use_one_thread()
    rows = visits.rows()
    for repeat in range(TWICE):
        done = timings(rows, space=name, repeat=repeat)
        total, count = rounds * len(indices), sum(map(len, done.values()))
        if count == total:
            continue
        with terminal_progress().task(f"{name}, measurement {repeat + 1} of {TWICE}") as show:
            visited = round_visits(SPACES[name], indices, rounds, repeat, done, resident_bytes=RESIDENT_BYTES)
            for finished, (index, timing) in enumerate(visited, start=count + 1):
                visits.append({"space": name, "repeat": repeat, **visit_row(index, timing)})
                show(finished / total, "")


def latencies(rows: Sequence[Mapping[str, str]], space: str) -> dict[int, list[float]]:
    """Return the milliseconds of each measurement by the index of the network."""
    results: dict[int, list[float]] = {}
    for repeat in range(TWICE):
        visits = timings(rows, space=space, repeat=repeat)
        for index, summary in summaries([(i, timing) for i, own in visits.items() for timing in own]).items():
            if summary is not None:
                results.setdefault(index, []).append(summary.latency_ms)
    return results


def targets(
    space: Space, metric: str, indices: Sequence[int], measured: Mapping[int, Sequence[float]]
) -> tuple[Values, float | str]:
    """Return the target values, ``(n,)``, and the tau-b of one measurement with another.

    The target is the first measurement; memory is computed, and has no noise.
    """
    if metric == LATENCY:
        both = np.array([measured[index] for index in indices]).T
        return both[0], kendall_tau(*both)
    from freerea_seval.costs import SpaceCosts

    costs, genotypes = SpaceCosts(space), space.genotypes()
    return np.array([float(costs.training_memory(genotypes[index])) for index in indices]), ""


def judge(
    space: Space, metric: str, indices: Sequence[int], values: Values, seeds: Sequence[int], model: str
) -> Iterator[dict[str, object]]:
    """Train on three fifths of the networks and judge on one, as the published split has it; yield a row a seed."""
    genotypes = space.genotypes()
    strings = SpaceStrings(space, "executed").strings([genotypes[i] for i in indices])
    split = published_split(len(indices))
    test = [strings[i] for i in split.test]
    for seed in seeds:
        began = time.perf_counter()
        predictor = SEvalPredictor(model, seed=seed)
        predictor.fit([strings[i] for i in split.train], values[split.train])
        seconds = time.perf_counter() - began
        predicted = predictor.predict(test)
        yield {
            "seed": seed,
            "networks": len(split.train),
            "kendall_tau": f"{kendall_tau(values[split.test], predicted):.6f}",
            "spearman": f"{spearman(values[split.test], predicted):.6f}",
            "train_s": f"{seconds:.1f}",
            "choice": predictor.choice_,
        }


def report(rows: pd.DataFrame) -> str:
    """Return a Markdown table, a line a space and metric: means over seeds."""
    lines = []
    for (space, metric), group in groups(rows, space=SPACES, metric=(MEMORY, LATENCY)):
        ceiling = mean(group["ceiling"]) or "exact"
        scores = [mean(group["kendall_tau"]), mean(group["spearman"]), ceiling, f"{PAPER[space, metric]:.2f}"]
        lines.append([space, metric, group["networks"].iloc[0], len(group), *scores, mean(group["train_s"], 0)])
    header = ["space", "metric", "training networks", "seeds", "tau-b", "Spearman", "measured twice, tau-b"]
    return markdown([*header, "paper's tau-b", "training, s"], lines)


if __name__ == "__main__":
    as_command(main)
