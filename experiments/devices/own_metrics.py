"""Predicting what no table has: memory by the cost model and latency of this machine, in both NATS-Bench spaces.

``python -m experiments.devices.own_metrics``

Memory is the peak of a training step, of all cells and of as many networks of the size space as are measured. Latency
is measured twice: how far one measurement agrees with the other shows its noise. A predictor can agree more
with a measurement than another one does: it learns from many, and their noise evens out.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau

from experiments.devices.repeatability import timing_of
from experiments.strings.views import Space, sample
from experiments.tables import RowJournal, as_command, markdown
from experiments.training_free.freerea_metrics import spearman
from freerea_patch import SizeSpace, TopologySpace
from freerea_seval.measurement.networks import space_networks
from freerea_seval.measurement.timing import Rounds, Runnable, Timing, summaries
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
VISITS = ("space", "repeat", "index", "turn", "latency_ms", "seconds")
JUDGED = ("space", "metric", "seed", "networks", "kendall_tau", "spearman", "ceiling", "train_s", "choice")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, train and judge."""
    parser = argparse.ArgumentParser(prog="python -m experiments.devices.own_metrics", description=__doc__)
    parser.add_argument("--networks", type=int, default=3000, help="of each space, to measure")
    parser.add_argument("--cells", type=int, help="of the topology space, for memory; by default all")
    parser.add_argument("--rounds", type=int, default=3, help="of each of the two measurements")
    parser.add_argument("--seeds", type=int, default=3, help="of the predictors")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of networks")
    parser.add_argument("--model", default="auto")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/own_metrics"))
    options = parser.parse_args(arguments)
    chosen = {name: getattr(options, name) for name in ("networks", "rounds", "seed")}
    visits = RowJournal(options.output / "visits", chosen, VISITS)
    rows = RowJournal(options.output, {**chosen, "cells": options.cells, "model": options.model}, JUDGED)
    for name, space in SPACES.items():
        measure(visits, name, sample(space, options.networks, options.seed), options.rounds)
        measured = latencies(visits.rows(), name)
        for metric in (MEMORY, LATENCY):
            done = {row["seed"] for row in rows.rows() if (row["space"], row["metric"]) == (name, metric)}
            missing = [seed for seed in range(options.seeds) if str(seed) not in done]
            if missing:
                # The topology space is small enough for the memory of all of it.
                every = metric == MEMORY and name == "nats-tss"
                indices = sample(space, options.cells, options.seed) if every else list(measured)
                values, ceiling = targets(space, metric, indices, measured)
                for row in judge(space, metric, indices, values, missing, options.model):
                    rows.append({"space": name, "metric": metric, "ceiling": ceiling, **row})
    print(report(rows.rows()))


def measure(visits: RowJournal, name: str, indices: Sequence[int], rounds: int) -> None:
    """Add the visits to networks that the journal does not have yet: rounds through all of them, twice."""
    from freerea_seval.config import LiveSettings
    from freerea_seval.sources.live import prepare_torch

    prepare_torch(LiveSettings(threads=1))
    space = SPACES[name]
    genotypes = space.genotypes()
    networks = space_networks(space, [genotypes[i] for i in indices])

    def make(index: int) -> Runnable:
        return networks.prepare(genotypes[index])

    done: dict[int, dict[int, list[Timing]]] = defaultdict(lambda: defaultdict(list))
    for row in visits.rows():
        if row["space"] == name:
            done[int(row["repeat"])][int(row["index"])].append(timing_of(row))
    total = TWICE * rounds * len(indices)
    count = sum(len(timings) for repeat in done.values() for timings in repeat.values())
    with terminal_progress().task(f"{len(indices)} networks of {name}, {TWICE} times {rounds} rounds") as show:
        for repeat in range(TWICE):
            if sum(map(len, done[repeat].values())) == rounds * len(indices):
                continue
            course = Rounds(indices, make, seed=repeat, resident_bytes=RESIDENT_BYTES)
            for index, timing in course.visits(rounds, done[repeat]):
                visits.append(
                    {
                        **{"space": name, "repeat": repeat, "index": index, "turn": timing.turn},
                        **{"latency_ms": f"{timing.latency_ms:.6f}", "seconds": f"{timing.seconds:.6f}"},
                    }
                )
                count += 1
                show(count / total, "")


def latencies(rows: Sequence[Mapping[str, str]], space: str) -> dict[int, list[float]]:
    """Return the milliseconds of each measurement by the index of the network."""
    found: dict[int, list[float]] = defaultdict(list)
    for repeat in range(TWICE):
        its = [row for row in rows if (row["space"], row["repeat"]) == (space, str(repeat))]
        for index, summed in summaries([(int(row["index"]), timing_of(row)) for row in its]).items():
            if summed is not None:
                found[index].append(summed.latency_ms)
    return dict(found)


def targets(
    space: Space, metric: str, indices: Sequence[int], measured: Mapping[int, Sequence[float]]
) -> tuple[Values, float | str]:
    """Return what is to be predicted, ``(n,)``, and the tau-b of one measurement with another.

    The first measurement is what is predicted; memory is computed, and has no noise.
    """
    if metric == LATENCY:
        both = np.array([measured[index] for index in indices]).T
        return both[0], float(kendalltau(*both).statistic)
    from freerea_seval.costs import SpaceCosts

    costs, genotypes = SpaceCosts(space), space.genotypes()
    with terminal_progress().task(f"memory of {len(indices)} networks") as show:
        values = []
        for count, index in enumerate(indices):
            show(count / len(indices), "")
            values.append(float(costs.training_memory(genotypes[index])))
    return np.array(values), ""


def judge(
    space: Space, metric: str, indices: Sequence[int], values: Values, seeds: Sequence[int], model: str
) -> Iterator[dict[str, object]]:
    """Train on three fifths of the networks and judge on one, as the published split has it; yield a row a seed."""
    genotypes = space.genotypes()
    strings = SpaceStrings(space, "executed").strings([genotypes[i] for i in indices])
    split = published_split(len(indices))
    test = [strings[i] for i in split.test]
    for seed in seeds:
        with terminal_progress().task(f"predicting {metric} of {space.name}, seed {seed}") as show:
            began = time.perf_counter()
            predictor = SEvalPredictor(model, seed=seed)
            predictor.fit([strings[i] for i in split.train], values[split.train], show=show)
            seconds = time.perf_counter() - began
            found = predictor.predict(test)
        yield {
            "seed": seed,
            "networks": len(split.train),
            "kendall_tau": f"{kendalltau(values[split.test], found).statistic:.6f}",
            "spearman": f"{spearman(values[split.test], found):.6f}",
            "train_s": f"{seconds:.1f}",
            "choice": predictor.choice_,
        }


def report(rows: Sequence[Mapping[str, str]]) -> str:
    """Return a Markdown table, a line a space and metric: means over seeds."""
    lines = []
    for (space, metric), paper in PAPER.items():
        some = [row for row in rows if (row["space"], row["metric"]) == (space, metric)]
        if some:
            tau, rho, seconds = (np.mean([float(r[k]) for r in some]) for k in ("kendall_tau", "spearman", "train_s"))
            ceiling = some[0]["ceiling"]
            limit = f"{float(ceiling):.4f}" if ceiling else "exact"
            line = [space, metric, some[0]["networks"], len(some), f"{tau:.4f}", f"{rho:.4f}"]
            lines.append([*line, limit, f"{paper:.2f}", f"{seconds:.0f}"])
    header = ["space", "metric", "training networks", "seeds", "tau-b", "Spearman", "measured twice, tau-b"]
    return markdown([*header, "paper's tau-b", "training, s"], lines)


if __name__ == "__main__":
    as_command(main)
