"""What predictors of two other metrics or data sets add to the measurements of 50 cells of NAS-Bench-201.

``python -m experiments.predictors.transfer --cache cached_metrics --hw-nas-bench HW-NAS-Bench.pickle``

The base predictors learn from the 9,375 training cells of the published split. The few cells of the new metric are
drawn from all that are not in its test part, on which predictors are judged: none has seen a value of these.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from experiments.predictors.benchmark import GROUPS, strings_of
from experiments.predictors.targets import Target, read_targets, tau
from experiments.tables import RowJournal, as_command, markdown
from freerea_patch import InputError
from freerea_seval.predictor.folder import load_predictor, save_predictor
from freerea_seval.predictor.scores import scores
from freerea_seval.predictor.seval import SEvalPredictor
from freerea_seval.predictor.splits import Split, published_split
from freerea_seval.predictor.training import Target as Metric
from freerea_seval.predictor.training import train_predictor
from freerea_seval.progress import terminal_progress
from freerea_seval.strings.views import View

Values = npt.NDArray[np.float64]

#: Metrics of which little is measured, and those that much is known of.
BASES = {
    "cifar10": ("cifar100", "ImageNet16-120"),
    "raspi4_latency": ("pixel3_latency", "edgegpu_latency"),
}
_JUDGED = ("kendall_tau", "spearman", "r2", "rmse", "coverage", "width", "top_10_percent_recall")
ROW = ("metric", "base", "networks", "draw", *_JUDGED, "base_tau", "train_s", "choice")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(prog="python -m experiments.predictors.transfer", description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="folder cached_metrics of FreeREA's code")
    parser.add_argument("--hw-nas-bench", type=Path, help="file HW-NAS-Bench-v1_0.pickle, for devices")
    parser.add_argument("--metrics", nargs="+", default=list(BASES), choices=list(BASES), metavar="METRIC")
    parser.add_argument("--networks", nargs="+", type=int, default=[50])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/transfer"), help="rows and base predictors")
    options = parser.parse_args(arguments)
    journal = RowJournal(options.output, {}, ROW)
    done = {tuple(row[name] for name in ("metric", "networks", "draw")) for row in journal.rows()}
    targets = read_targets(options.cache, options.hw_nas_bench, None)
    for metric in options.metrics:
        if metric not in targets:
            raise InputError(f"metric {metric} has no values; give --hw-nas-bench FILE, or name other --metrics")
    for metric in options.metrics:
        jobs = [(d, n) for d in range(options.draws) for n in options.networks if (metric, str(n), str(d)) not in done]
        if not jobs:
            continue
        view = next(view for view, metrics in GROUPS.values() if metric in metrics)
        strings = strings_of(view)
        split = published_split(len(strings))
        bases = [base_predictor(options.output, strings, targets[name], split, view) for name in BASES[metric]]
        test = [strings[i] for i in split.test]
        alone = [tau(base.predict(test), targets[metric].values[split.test]) for base in bases]
        with terminal_progress().task(f"{metric}: {len(jobs)} trainings") as show:
            for count, (draw, networks) in enumerate(jobs):
                show(count / len(jobs), f"{networks} cells")
                train = np.random.default_rng(draw).permutation(np.setdiff1d(np.arange(len(strings)), split.test))
                predictor = SEvalPredictor(seed=draw)
                row = judge(strings, targets[metric], Split(train[:networks], *split[1:]), bases, predictor)
                journal.append({**row, "draw": draw, "base_tau": f"{max(alone):.6g}"})
    print(summary(journal.rows()))


def base_predictor(folder: Path, strings: Sequence[str], target: Target, split: Split, view: View) -> SEvalPredictor:
    """Return a predictor of the training part of the split, from its folder if it was trained before."""
    path = folder / f"base-{target.name}"
    if path.exists():
        return load_predictor(path)[0]
    with terminal_progress().task(f"training on {target.name}") as show:
        predictor, info = train_predictor(
            [strings[i] for i in split.train],
            target.values[split.train],
            [Metric(target.name, "", target.direction)],
            space_name="nats-tss/cifar10",
            view=view,
            show=show,
        )
    save_predictor(path, predictor, info)
    return predictor


def judge(
    strings: Sequence[str],
    target: Target,
    split: Split,
    bases: Sequence[SEvalPredictor],
    predictor: SEvalPredictor,
) -> dict[str, object]:
    """Train on the training part of a split beside base predictors, and judge on its test part; return a row."""
    few, test = ([strings[i] for i in rows] for rows in (split.train, split.test))
    began = time.perf_counter()
    predictor.fit(few, target.values[split.train], base=bases)
    seconds = time.perf_counter() - began
    found, low, high = predictor.predict(test, interval=0.9)
    judged = scores(target.values[split.test], found, direction=target.direction, low=low, high=high)
    return {
        "metric": target.name,
        "base": "+".join(BASES[target.name]),
        "networks": len(few),
        **{name: f"{judged[name]:.6g}" if name in judged else "" for name in _JUDGED},
        "train_s": f"{seconds:.1f}",
        "choice": predictor.choice_,
    }


def summary(rows: Sequence[dict[str, str]]) -> str:
    """Return a Markdown table, a line a metric and number of cells."""
    lines = []
    for metric, networks in dict.fromkeys((row["metric"], row["networks"]) for row in rows):
        some = [row for row in rows if (row["metric"], row["networks"]) == (metric, networks)]

        def said(name: str, some: Sequence[dict[str, str]] = some) -> str:
            values = [float(row[name]) for row in some]
            return f"{np.mean(values):.3f} ± {np.std(values):.3f}"

        lines.append(
            [metric, some[0]["base"], networks, len(some), *map(said, ("kendall_tau", "base_tau", "coverage"))]
        )
    header = ["metric", "base predictors", "cells", "draws", "tau-b", "tau-b of the better base", "coverage of 90 %"]
    return markdown(header, lines)


if __name__ == "__main__":
    as_command(main)
