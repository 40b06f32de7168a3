"""Whether measuring twice gives the same order: rounds through all networks beside a naive loop.

Beside the fastest pass of a visit, which counts, is the median of the same passes.

Run it on a machine with background load:
``python -m experiments.devices.repeatability --cells 200 --repeat 2``.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from experiments.strings.views import Space, sample
from experiments.tables import RowJournal, as_command, experiment_parser, groups, markdown
from freerea_patch import InputError, TopologySpace
from freerea_seval.measurement.networks import space_networks
from freerea_seval.measurement.timing import BURST, ROUNDS, Rounds, Runnable, Timing, summaries
from freerea_seval.predictor.scores import kendall_tau
from freerea_seval.progress import terminal_progress

WAYS = ("rounds", "naive loop")
MEDIAN = "rounds, median pass"
VISIT = ("index", "turn", "latency_ms", "seconds")
#: Passes of a network in the naive loop, one after the other; their mean counts.
NAIVE = 10
#: Visits of networks by their index.
Visits = Mapping[int, Sequence[Timing]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment and print how far each way agrees with itself."""
    parser = experiment_parser("devices.repeatability", __doc__)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=2)
    parser.shared("--rounds", default=ROUNDS)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between the repetitions")
    parser.shared("--seed")
    parser.output("runs/measuring")
    options = parser.parse_args(arguments)
    if options.cells < 2 or options.repeat < 2:
        raise InputError("--cells and --repeat must be 2 or more: a comparison needs two cells and two repetitions")
    use_one_thread()
    config = {name: getattr(options, name) for name in ("cells", "rounds", "pause", "seed")}
    journal = RowJournal(options.output, config, ("repeat", "way", *VISIT, "median_ms"))
    space = TopologySpace()
    indices = sample(space, options.cells, options.seed)
    with terminal_progress().task(f"{options.repeat} repetitions") as show:
        for repeat in range(options.repeat):
            for way in WAYS:
                done = timings(journal.rows(), repeat=repeat, way=way)
                if repeat and not done and way == WAYS[0]:
                    time.sleep(options.pause)
                passes_s: list[float] = []
                if way == WAYS[0]:
                    visits = round_visits(space, indices, options.rounds, options.seed, done, passes_s)
                else:
                    visits = naive_visits(space, indices, done)
                for index, timing in visits:
                    median = f"{1e3 * statistics.median(passes_s[-BURST:]):.6f}" if passes_s else ""
                    journal.append({"repeat": repeat, "way": way, **visit_row(index, timing), "median_ms": median})
                show((repeat * len(WAYS) + WAYS.index(way) + 1) / (options.repeat * len(WAYS)), way)
    print(agreements(journal.frame()))


def use_one_thread() -> None:
    """Let torch compute with one thread."""
    from freerea_seval.config import LiveSettings
    from freerea_seval.sources.live import prepare_torch

    prepare_torch(LiveSettings(threads=1))


def timings(rows: Sequence[Mapping[str, str]], **values: object) -> dict[int, list[Timing]]:
    """Return the visits of the rows with some values, by the index of the network."""
    visits: dict[int, list[Timing]] = defaultdict(list)
    for row in rows:
        if all(row[name] == str(value) for name, value in values.items()):
            timing = Timing(int(row["turn"]), float(row["latency_ms"]), float(row["seconds"]))
            visits[int(row["index"])].append(timing)
    return visits


def visit_row(index: int, timing: Timing) -> dict[str, object]:
    """Return the cells of a visit in a row."""
    milliseconds, seconds = f"{timing.latency_ms:.6f}", f"{timing.seconds:.6f}"
    return dict(zip(VISIT, (index, timing.turn, milliseconds, seconds), strict=True))


def round_visits(
    space: Space,
    indices: Sequence[int],
    rounds: int,
    seed: int,
    done: Visits,
    passes_s: list[float] | None = None,
    **options: Any,
) -> Iterator[tuple[int, Timing]]:
    """Yield the visits of rounds through all networks that are not done yet; the list gets the seconds of each pass."""
    genotypes = space.genotypes()
    networks = space_networks(space, [genotypes[index] for index in indices])

    def make(index: int) -> Runnable:
        runnable = networks.prepare(genotypes[index])
        return runnable if passes_s is None else Runnable(lambda: passes_s.append(seconds_of(runnable)), runnable.size)

    yield from Rounds(indices, make, seed=seed, **options).visits(rounds, done)


def naive_visits(space: Space, indices: Sequence[int], done: Visits) -> Iterator[tuple[int, Timing]]:
    """Yield consecutive passes of one network after the other that are not done yet."""
    genotypes = space.genotypes()
    networks = space_networks(space, [genotypes[index] for index in indices])
    for index in indices:
        finished = len(done.get(index, ()))
        if finished < NAIVE:
            network = networks.prepare(genotypes[index])
            for turn in range(NAIVE):
                seconds = seconds_of(network)
                if turn >= finished:
                    yield index, Timing(turn, 1e3 * seconds, seconds)


def seconds_of(network: Runnable) -> float:
    """Return the seconds of a pass."""
    began = time.perf_counter()
    network.run()
    return time.perf_counter() - began


def latencies(rows: pd.DataFrame, way: str) -> pd.Series[float]:
    """Return milliseconds by cell, by the way's own statistic."""
    if way == WAYS[1]:
        return rows.groupby("index")["latency_ms"].mean()
    columns = zip(rows["index"], rows["turn"], rows["latency_ms"], rows["seconds"], strict=True)
    summed = summaries([(index, Timing(turn, ms, seconds)) for index, turn, ms, seconds in columns])
    return pd.Series({index: np.nan if s is None else s.latency_ms for index, s in summed.items()})


def agreements(rows: pd.DataFrame) -> str:
    """Return a Markdown table, a line a way and pair of repetitions."""
    lines = []
    medians = rows[rows["way"] == WAYS[0]].assign(way=MEDIAN, latency_ms=lambda own: own["median_ms"])
    for (way,), passes in groups(pd.concat([rows, medians]), way=(WAYS[0], MEDIAN, WAYS[1])):
        repeats = {int(repeat): group for (repeat,), group in groups(passes, repeat=sorted(set(passes["repeat"])))}
        for first, second in combinations(repeats, 2):
            pair = {number: latencies(repeats[number], way) for number in (first, second)}
            both = pd.DataFrame(pair).dropna()
            change = (both[second] / both[first] - 1).abs().median()
            seconds = " and ".join(f"{repeats[number]['seconds'].sum():.0f}" for number in (first, second))
            tau = f"{kendall_tau(both[first], both[second]):.3f}"
            lines.append([way, f"{first + 1} and {second + 1}", len(both), tau, f"{100 * change:.1f} %", seconds])
    return markdown(["way", "repetitions", "cells", "Kendall's tau-b", "median change", "seconds"], lines)


if __name__ == "__main__":
    as_command(main)
