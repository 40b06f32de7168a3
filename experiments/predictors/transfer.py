"""What predictors of two other metrics or data sets add to the measurements of 50 cells of NAS-Bench-201.

``python -m experiments.predictors.transfer --cache cached_metrics --hw-nas-bench HW-NAS-Bench.pickle``

The base predictors learn from the 9,375 training cells of the published split. The few cells of the new metric are
drawn from all cells outside of its test part, on which predictors are scored: none is trained on a value of these.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.predictors.benchmark import VIEWS, strings_of
from experiments.published import Target, read_targets
from experiments.tables import (
    RowJournal,
    as_command,
    experiment_parser,
    groups,
    markdown,
    mean_and_deviation,
    scored,
)
from freerea_patch import InputError
from freerea_seval.predictor.folder import load_predictor, save_predictor
from freerea_seval.predictor.scores import kendall_tau, scores
from freerea_seval.predictor.seval import SEvalPredictor
from freerea_seval.predictor.splits import Split, published_split
from freerea_seval.predictor.training import Target as Metric
from freerea_seval.predictor.training import train_predictor

#: Metrics with few measurements, and the metrics of their base predictors.
BASES = {
    "cifar10": ("cifar100", "ImageNet16-120"),
    "raspi4_latency": ("pixel3_latency", "edgegpu_latency"),
}
_SCORES = ("kendall_tau", "spearman", "r2", "rmse", "coverage", "width", "top_10_percent_recall")
ROW = ("metric", "base", "networks", "draw", *_SCORES, "base_tau", "train_s", "choice")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment."""
    parser = experiment_parser("predictors.transfer", __doc__)
    parser.shared("--cache", required=True)
    parser.shared("--hw-nas-bench")
    parser.add_argument("--metrics", nargs="+", default=list(BASES), choices=list(BASES), metavar="METRIC")
    parser.add_argument("--networks", nargs="+", type=int, default=[50])
    parser.add_argument("--draws", type=int, default=20)
    parser.output("runs/transfer", "rows and base predictors")
    options = parser.parse_args(arguments)
    journal = RowJournal(options.output, {}, ROW)
    targets = read_targets(options.cache, options.hw_nas_bench, None)
    for metric in options.metrics:
        if metric not in targets:
            raise InputError(f"metric {metric} has no values; give --hw-nas-bench FILE, or name other --metrics")

    @cache
    def bases_of(metric: str) -> tuple[list[SEvalPredictor], float]:
        """Return the base predictors of a metric, and the best tau-b of their own predictions of it."""
        strings = strings_of(VIEWS[metric])
        test = published_split(len(strings)).test
        bases = [base_predictor(options.output, strings, targets[name]) for name in BASES[metric]]
        predictions = [base.predict([strings[i] for i in test]) for base in bases]
        return bases, max(kendall_tau(values, targets[metric].values[test]) for values in predictions)

    jobs = [(m, n, d) for m in options.metrics for d in range(options.draws) for n in options.networks]
    for metric, networks, draw in journal.missing(("metric", "networks", "draw"), jobs, "trainings"):
        strings, (bases, base_tau) = strings_of(VIEWS[metric]), bases_of(metric)
        split = published_split(len(strings))
        train = np.random.default_rng(draw).permutation(np.setdiff1d(np.arange(len(strings)), split.test))
        few = Split(train[:networks], split.validation, split.test)
        row = judge(strings, targets[metric], few, bases, SEvalPredictor(seed=draw))
        journal.append({**row, "draw": draw, "base_tau": f"{base_tau:.6g}"})
    print(summary(journal.frame()))


def base_predictor(folder: Path, strings: Sequence[str], target: Target) -> SEvalPredictor:
    """Return a predictor of the training part of the published split, from its folder if it was trained before."""
    path = folder / f"base-{target.name}"
    if path.exists():
        return load_predictor(path)[0]
    train = published_split(len(strings)).train
    predictor, info = train_predictor(
        [strings[i] for i in train],
        target.values[train],
        [Metric(target.name, "", target.direction)],
        space_name="nats-tss/cifar10",
        view=VIEWS[target.name],
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
    """Train on the training part of a split beside base predictors, and score on its test part; return a row."""
    few, test = ([strings[i] for i in rows] for rows in (split.train, split.test))
    began = time.perf_counter()
    predictor.fit(few, target.values[split.train], base=bases)
    seconds = time.perf_counter() - began
    predicted, low, high = predictor.predict(test, interval=0.9)
    results = scores(target.values[split.test], predicted, direction=target.direction, low=low, high=high)
    return {
        "metric": target.name,
        "base": "+".join(BASES[target.name]),
        "networks": len(few),
        **scored(results, _SCORES),
        "train_s": f"{seconds:.1f}",
        "choice": predictor.choice_,
    }


def summary(rows: pd.DataFrame) -> str:
    """Return a Markdown table, a line a metric and number of cells."""
    columns = ("kendall_tau", "base_tau", "coverage")
    lines = [
        [metric, group["base"].iloc[0], networks, len(group), *(mean_and_deviation(group[name]) for name in columns)]
        for (metric, networks), group in groups(rows, metric=None, networks=None)
    ]
    header = ["metric", "base predictors", "cells", "draws", "tau-b", "tau-b of the better base", "coverage of 90 %"]
    return markdown(header, lines)


if __name__ == "__main__":
    as_command(main)
