"""Speed of conversion to strings, beside the published way; part of :mod:`experiments.strings.benchmark`."""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from random import Random
from statistics import median
from typing import Any

import pandas as pd

from experiments.strings.views import PUBLISHED, VIEWS, authors_network, published_batch, strings_of
from experiments.tables import RowJournal, groups, markdown
from freerea_patch import InputError, SearchSpace, find_space
from freerea_seval.measurement import draw
from freerea_seval.progress import terminal_progress

#: Networks whose strings are compared before anything is timed.
CHECKED = 5
#: Networks of a space that are converted in a round: all of NAS-Bench-201.
MOST = 15_625


def speed(options: argparse.Namespace) -> None:
    """Time conversions of never seen networks and of the whole space, round by round, and print medians."""
    import torch

    space = find_space(options.space)()
    config = {name: getattr(options, name) for name in ("space", "seed", "threads", "cells", "fresh", "batch")}
    journal = RowJournal(options.output, config, ("round", "way", "view", "seconds"))
    genotypes = draw(space, options.cells or MOST, options.seed)
    before = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        batch = published_batch(options.batch, space.input_shape[-1])
        agree(space, Random(options.seed).sample(genotypes, min(CHECKED, len(genotypes))), batch)
        with terminal_progress().task(f"{options.rounds} rounds") as show:
            for number in range(1 + max((int(row["round"]) for row in journal.rows()), default=-1), options.rounds):
                show(number / options.rounds, "")
                seconds = defaultdict(list)
                for genotype in Random(f"{options.seed} {number}").sample(genotypes, options.fresh):
                    seconds["published", ""].append(timed(publish, space, genotype, batch))
                    for view in VIEWS:
                        seconds["first", view].append(timed(convert, space, view, [genotype]))
                for view in VIEWS:
                    seconds["space", view].append(timed(convert, space, view, genotypes) / len(genotypes))
                for (way, view), values in seconds.items():
                    journal.append({"round": number, "way": way, "view": view, "seconds": f"{median(values):.7f}"})
    finally:
        torch.set_num_threads(before)
    print(speed_summary(journal.frame(), len(genotypes)))


def publish(space: SearchSpace, genotype: str, batch: Any) -> str:
    """Return the published string the published way: build, forward in training mode, walk and write."""
    from freerea_seval.strings.trace.sevalnas_format import format_result

    return format_result(authors_network(space, genotype)(batch))


def convert(space: SearchSpace, view: str, genotypes: Sequence[str]) -> list[str]:
    """Return the strings of networks, with an empty cache."""
    return list(strings_of(space, view, genotypes))


def timed(work: Callable[..., object], *arguments: object) -> float:
    """Return the seconds that work takes."""
    began = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - began


def agree(space: SearchSpace, genotypes: Sequence[str], batch: Any) -> None:
    """Check that the timed ways give the strings of the plain way.

    Raises:
        InputError: they do not.
    """
    import torch

    from freerea_seval.strings.graph.simplify import simplify
    from freerea_seval.strings.text.serialize import serialize_graph as write
    from freerea_seval.strings.trace.tracer import trace_module

    graphs = [trace_module(space.build(genotype), [torch.zeros(1, *space.input_shape)]) for genotype in genotypes]
    plain = {
        "executed": [write(graph) for graph in graphs],
        "functional": [write(simplify(graph)) for graph in graphs],
        PUBLISHED: [publish(space, genotype, batch) for genotype in genotypes],
    }
    for view, strings in plain.items():
        for other in (convert(space, view, genotypes), [convert(space, view, [g])[0] for g in genotypes]):
            for genotype, one, two in zip(genotypes, strings, other, strict=True):
                if one != two:
                    raise InputError(
                        f"{genotype} has two {view} strings, {one!r} and {two!r}; there is nothing to time"
                    )


def speed_summary(rows: pd.DataFrame, cells: int) -> str:
    """Return a Markdown table, a line a way and view; the ratio to the published way is of medians over rounds."""
    names = {"published": "published way", "first": "first conversion", "space": f"{cells} networks"}
    times_ms = {key: 1e3 * group["seconds"] for key, group in groups(rows.fillna({"view": ""}), way=names, view=None)}
    reference = times_ms["published", ""].median()
    lines = [
        [
            *(names[way], view, len(ms), f"{ms.median():.3f}", f"{ms.min():.3f} to {ms.max():.3f}"),
            f"{reference / ms.median():.1f}",
        ]
        for (way, view), ms in times_ms.items()
    ]
    return markdown(["way", "view", "rounds", "ms a network", "range", "times faster"], lines)
