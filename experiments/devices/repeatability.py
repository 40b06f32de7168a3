"""Whether measuring twice gives the same order: rounds through all networks beside a naive loop.

Run it on a machine that has other work to do as well:
``python -m experiments.devices.repeatability --cells 200 --repeat 2``.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean, median

from experiments.strings.views import sample
from experiments.tables import RowJournal, as_command, markdown
from freerea_patch import InputError, TopologySpace
from freerea_seval.measurement.networks import space_networks
from freerea_seval.measurement.timing import ROUNDS, Rounds, Runnable, Timing, summaries
from freerea_seval.progress import terminal_progress

WAYS = ("rounds", "naive loop")
#: Passes of a network in the naive loop, one after the other; their mean counts.
NAIVE = 10


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment and print how far each way agrees with itself."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/measuring"))
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between the repetitions")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.cells < 2 or options.repeat < 2:
        raise InputError("--cells and --repeat must be 2 or more: there is nothing to compare otherwise")
    from freerea_seval.config import LiveSettings
    from freerea_seval.sources.live import prepare_torch

    prepare_torch(LiveSettings(threads=1))
    config = {name: getattr(options, name) for name in ("cells", "rounds", "pause", "seed")}
    journal = RowJournal(options.output, config, ("repeat", "way", "index", "turn", "latency_ms", "seconds"))
    indices = sample(TopologySpace(), options.cells, options.seed)
    with terminal_progress().task(f"{options.repeat} repetitions") as show:
        for repeat in range(options.repeat):
            for way in WAYS:
                rows = [row for row in journal.rows() if (row["repeat"], row["way"]) == (str(repeat), way)]
                if repeat and not rows and way == WAYS[0]:
                    time.sleep(options.pause)
                for index, timing in visits(way, indices, options, rows):
                    journal.append(
                        {
                            "repeat": repeat,
                            "way": way,
                            "index": index,
                            "turn": timing.turn,
                            "latency_ms": f"{timing.latency_ms:.6f}",
                            "seconds": f"{timing.seconds:.6f}",
                        }
                    )
                show((repeat * len(WAYS) + WAYS.index(way) + 1) / (options.repeat * len(WAYS)), way)
    print(agreements(journal.rows()))


def visits(
    way: str, indices: Sequence[int], options: argparse.Namespace, rows: Sequence[dict[str, str]]
) -> Iterator[tuple[int, Timing]]:
    """Yield the visits of one repetition that are not among the rows."""
    space = TopologySpace()
    networks = space_networks(space, space.genotypes())
    done: dict[int, list[Timing]] = defaultdict(list)
    for row in rows:
        done[int(row["index"])].append(timing_of(row))

    def make(index: int) -> Runnable:
        return networks.prepare(space.genotypes()[index])

    if way == WAYS[0]:
        yield from Rounds(indices, make, seed=options.seed).visits(options.rounds, done)
        return
    for index in indices:
        if len(done[index]) < NAIVE:
            network = make(index)
            for turn in range(NAIVE):
                began = time.perf_counter()
                network.run()
                seconds = time.perf_counter() - began
                if turn >= len(done[index]):
                    yield index, Timing(turn, 1e3 * seconds, seconds)


def timing_of(row: Mapping[str, str]) -> Timing:
    """Return the visit that a row is of."""
    return Timing(int(row["turn"]), float(row["latency_ms"]), float(row["seconds"]))


def latencies(rows: Sequence[dict[str, str]]) -> dict[str, dict[int, dict[int, float]]]:
    """Return milliseconds by way, repetition and cell: the way's own statistic."""
    visits: dict[str, dict[int, list[tuple[int, Timing]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        visits[row["way"]][int(row["repeat"])].append((int(row["index"]), timing_of(row)))
    return {way: {repeat: _summed_up(way, its) for repeat, its in repeats.items()} for way, repeats in visits.items()}


def _summed_up(way: str, visits: Sequence[tuple[int, Timing]]) -> dict[int, float]:
    if way == WAYS[0]:
        found = summaries(visits)
        return {index: math.nan if its is None else its.latency_ms for index, its in found.items()}
    passes: dict[int, list[float]] = defaultdict(list)
    for index, timing in visits:
        if timing.latency_ms is not None:
            passes[index].append(timing.latency_ms)
    return {index: fmean(its) for index, its in passes.items()}


def agreements(rows: Sequence[dict[str, str]]) -> str:
    """Return a Markdown table, a line a way and pair of repetitions."""
    from scipy.stats import kendalltau

    lines = []
    for way, repeats in latencies(rows).items():
        for first, second in combinations(sorted(repeats), 2):
            cells = sorted(set(repeats[first]) & set(repeats[second]))
            one, two = ([repeats[r][cell] for cell in cells] for r in (first, second))
            change = median(abs(b / a - 1) for a, b in zip(one, two, strict=True))
            seconds = [
                sum(float(row["seconds"]) for row in rows if row["way"] == way and int(row["repeat"]) == r)
                for r in (first, second)
            ]
            lines.append(
                [
                    *(way, f"{first + 1} and {second + 1}", len(cells), f"{kendalltau(one, two).statistic:.3f}"),
                    *(f"{100 * change:.1f} %", f"{seconds[0]:.0f} and {seconds[1]:.0f}"),
                ]
            )
    return markdown(["way", "repetitions", "cells", "Kendall's tau-b", "median change", "seconds"], lines)


if __name__ == "__main__":
    as_command(main)
