"""Whether our naswot and logsynflow are FreeREA's: rank correlation with the published values.

``python -m experiments.training_free.freerea_metrics --cache cached_metrics --batch images.npz``
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt

from experiments.tables import RowJournal, as_command, markdown
from freerea_patch import InputError, TopologySpace, TrainingFree
from freerea_patch.spaces import all_cells
from freerea_patch.training_free import batch_digest
from freerea_seval.progress import terminal_progress

METRICS = ("naswot", "logsynflow")
TIMED = ("network", *METRICS)
COLUMNS = ("index", *METRICS, *(f"{name}_s" for name in TIMED))

Floats = npt.NDArray[np.float64]


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute both metrics of random cells, and print how they agree with the published ones."""
    parser = argparse.ArgumentParser(prog="python -m experiments.training_free.freerea_metrics", description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="folder cached_metrics of FreeREA's code")
    parser.add_argument("--batch", required=True, help="images of CIFAR-10: FILE.npz or pkg.module:callable")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--cells", type=int, default=300)
    parser.add_argument("--initialisations", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of cells and of the initialisations")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/proxies"))
    options = parser.parse_args(arguments)
    published = {metric: read_published(options.cache, metric) for metric in METRICS}
    source = TrainingFree(
        TopologySpace(),
        batch=options.batch,
        batch_size=options.batch_size,
        initialisations=options.initialisations,
        seed=options.seed,
    )
    config = {"batch": batch_digest(source.images), "initialisations": options.initialisations, "seed": options.seed}
    journal = RowJournal(options.output, config, COLUMNS)
    compute(source, journal, options.cells, options.seed)
    print(summary(journal.rows()[: options.cells], published))


def compute(source: TrainingFree, journal: RowJournal, cells: int, seed: int) -> None:
    """Add the rows of cells that the journal does not have yet, in one random order."""
    genotypes = all_cells()
    order = Random(seed).sample(range(len(genotypes)), len(genotypes))[:cells]
    done = {int(row["index"]) for row in journal.rows()}
    with terminal_progress().task(f"{cells} cells") as show:
        for count, index in enumerate(order):
            show(count / cells, "")
            if index not in done:
                (row,) = source.evaluate([genotypes[index]], METRICS)
                values = {metric: row[metric].value for metric in METRICS}
                seconds = {f"{name}_s": f"{row[name].seconds:.4f}" for name in TIMED}
                journal.append({"index": index, **values, **seconds})


def summary(rows: Sequence[dict[str, str]], published: dict[str, list[float]]) -> str:
    """Return a Markdown table, a line a metric.

    Spearman's coefficient takes a value of minus infinity as the lowest rank, which its owners share.
    """
    network_s = np.mean([float(row["network_s"]) for row in rows])
    lines = []
    for metric in METRICS:
        ours = np.array([float(row[metric]) for row in rows])
        theirs = np.array([published[metric][int(row["index"])] for row in rows])
        lines.append(
            [
                metric,
                len(rows),
                f"{spearman(ours, theirs):.4f}",
                f"{np.isinf(ours).sum()} / {np.isinf(theirs).sum()} / {(np.isinf(ours) & np.isinf(theirs)).sum()}",
                f"{np.mean([float(row[f'{metric}_s']) for row in rows]):.3f}",
            ]
        )
    header = ["metric", "cells", "Spearman with published", "infinite: ours / published / both", "seconds a cell"]
    return f"{markdown(header, lines)}\n\nBuilding and initialising: {network_s:.3f} seconds a cell besides."


def spearman(first: Floats, second: Floats) -> float:
    """Return Spearman's rank correlation; equal values share the mean of their ranks."""
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _ranks(values: Floats) -> Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last: Floats = np.cumsum(counts) - (counts - 1) / 2
    return last[inverse]


def read_published(cache: Path, metric: str) -> list[float]:
    """Return a published column as it is, minus infinity included, by index.

    Raises:
        InputError: the file is missing or of another form.
    """
    path = cache / "nats" / "cifar10" / f"{metric}.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [float(row[metric]) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{path} cannot be used ({error}); expected the folder cached_metrics of FreeREA's code"
        ) from None


if __name__ == "__main__":
    as_command(main)
