"""How well predictors rank the cells of NAS-Bench-201: the paper's tables again, and the value of tens of samples.

``python -m experiments.predictors.benchmark large --cache cached_metrics --hw-nas-bench FILE --robustness T.csv``
``python -m experiments.predictors.benchmark small ...``
``python -m experiments.predictors.benchmark again --hw-nas-bench HW-NAS-Bench.pickle``
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from experiments.published import DEVICES, TARGETS, Target, read_devices, read_proxies, read_targets
from experiments.tables import (
    ExperimentParser,
    RowJournal,
    as_command,
    experiment_parser,
    groups,
    markdown,
    mean,
    mean_and_deviation,
    scored,
)
from freerea_patch import InputError, TopologySpace
from freerea_seval.predictor.active_learning import most_informative
from freerea_seval.predictor.models.registry import MODELS
from freerea_seval.predictor.scores import kendall_tau, scores
from freerea_seval.predictor.seval import SEvalPredictor
from freerea_seval.predictor.splits import Split, grouped_split, published_split
from freerea_seval.strings.encode import SpaceStrings
from freerea_seval.strings.views import View

Indices = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

#: Metrics that are learned together, and the view that they are learned from.
GROUPS: dict[str, tuple[View, tuple[str, ...]]] = {
    "accuracy": ("functional", ("cifar10", "cifar100", "ImageNet16-120", "pgd")),
    "devices": ("executed", tuple(device for device in DEVICES if device != "edgetpu_latency")),
    "edgetpu": ("executed", ("edgetpu_latency",)),
    "edgegpu": ("executed", ("edgegpu_latency",)),
}
VIEWS: dict[str, View] = {metric: view for view, metrics in GROUPS.values() for metric in metrics}
#: Settings of models for thousands of cells, chosen on held-out training cells. T5 trains on one CPU core within 25
#: minutes, so it uses one scale instead of comparing four.
TRAINING: dict[str, dict[str, Any]] = {"t5": {"scale": "blend", "parameters": {"epochs": 30, "validation": 0.05}}}
#: Kendall's tau-b that Table 2 of SEval-NAS reports, where it does.
PAPER = {
    "cifar10": 0.51,
    "cifar100": 0.49,
    "ImageNet16-120": 0.29,
    "edgegpu_latency": 0.868,
    "raspi4_latency": 0.866,
    "pixel3_latency": 0.856,
    "eyeriss_latency": 0.956,
    "fpga_latency": 0.974,
}
_SCORES = (
    *("kendall_tau", "kendall_tau_all", "auc", "spearman", "r2", "rmse"),
    *("coverage", "width", "top_10_percent_recall"),
)
#: Random cells that informative ones are chosen from, and other cells to test on, whose scores are within 0.005 of
#: those on all cells.
_POOL, _TEST = 4000, 3000
LARGE = ("split", "group", "metric", "model", "seed", "networks", *_SCORES, "train_s", "networks_a_s", "choice")
SMALL = ("metric", "model", "sees", "networks", "chosen", "draw", *_SCORES, "train_s", "choice")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the experiments."""
    parser = experiment_parser("predictors.benchmark", __doc__)
    added = parser.command(
        "large", large, "train on 9,375 cells, test on 3,125: the published split, or one without twins"
    )
    added.add_argument("--splits", nargs="+", default=["published", "grouped"], choices=["published", "grouped"])
    added.add_argument("--groups", nargs="+", default=["accuracy", "devices", "edgetpu"], choices=list(GROUPS))
    added.shared("--seeds")
    _add_data(added, "large")
    added = parser.command("small", small, "train on 50, 100 and 200 cells, test on others")
    _add_data(added, "small")
    usual = ["cifar10", "pgd", "raspi4_latency", "edgegpu_latency"]
    added.add_argument("--metrics", nargs="+", default=usual, choices=TARGETS, metavar="METRIC")
    added.add_argument("--networks", nargs="+", type=int, default=[50, 100, 200])
    added.add_argument("--draws", type=int, default=20)
    what = f"train on the most informative of {_POOL:,} random cells instead of random ones"
    added.add_argument("--choose", action="store_true", help=what)
    added.shared("--proxies", help="CSV of NAS-Bench-Suite-Zero's zero-cost proxies, as features beside strings")
    parser.command("again", again, "how well a second measurement of a device ranks").shared(
        "--hw-nas-bench", required=True
    )
    options = parser.parse_args(arguments)
    options.run(options)


def _add_data(parser: ExperimentParser, name: str) -> None:
    parser.shared("--cache", required=True)
    parser.shared("--hw-nas-bench", "--robustness")
    parser.add_argument("--model", default="auto", choices=("auto", *MODELS))
    parser.output(f"runs/predictors/{name}")


def large(options: argparse.Namespace) -> None:
    """Judge predictors of thousands of cells on the test part of a split."""
    journal = RowJournal(options.output, {}, LARGE)
    targets = read_targets(options.cache, options.hw_nas_bench, options.robustness)
    for group in options.groups:
        if not any(metric in targets for metric in GROUPS[group][1]):
            raise InputError(f"group {group} has no values; give --hw-nas-bench FILE, or name other --groups")
    order = product(range(options.seeds), options.groups, options.splits)
    jobs = [(name, group, options.model, seed) for seed, group, name in order]
    for name, group, model, seed in journal.missing(("split", "group", "model", "seed"), jobs, "trainings"):
        split = split_of(name, strings_of("functional"), seed)
        view, metrics = GROUPS[group]
        predictor = SEvalPredictor(model, **TRAINING.get(model, {}), distinct=name == "grouped", seed=seed)
        chosen = [targets[metric] for metric in metrics if metric in targets]
        for row in judge(strings_of(view), chosen, split, predictor):
            journal.append({"split": name, "group": group, **row})
    print(large_summary(journal.frame()))


def judge(
    strings: Sequence[str],
    targets: Sequence[Target],
    split: Split,
    predictor: SEvalPredictor,
    proxies: Values | None = None,
) -> list[dict[str, object]]:
    """Train on the training part and score on the test part; return a row a metric."""
    values = np.stack([target.values for target in targets], axis=1)
    train_proxies, test_proxies = (None, None) if proxies is None else (proxies[split.train], proxies[split.test])
    train, test = ([strings[i] for i in part] for part in (split.train, split.test))
    began = time.perf_counter()
    predictor.fit(train, values[split.train], train_proxies)
    seconds = time.perf_counter() - began
    began = time.perf_counter()
    predictor.predict(test, test_proxies)
    rate = len(test) / (time.perf_counter() - began)
    predicted, low, high = predictor.predict(test, test_proxies, interval=0.9)
    supported = predictor.supported(test)
    rows: list[dict[str, object]] = []
    for column, target in enumerate(targets):
        results = scores(
            values[split.test, column],
            predicted[:, column],
            direction=target.direction,
            low=low[:, column],
            high=high[:, column],
            supported=supported[:, column],
        )
        rows.append(
            {
                "metric": target.name,
                "model": predictor.model,
                "seed": predictor.seed,
                "networks": len(train),
                **scored(results, _SCORES),
                "train_s": f"{seconds:.1f}",
                "networks_a_s": f"{rate:.0f}",
                "choice": predictor.choice_,
            }
        )
    return rows


def small(options: argparse.Namespace) -> None:
    """Judge predictors of tens of cells on others."""
    journal = RowJournal(options.output, {}, SMALL)
    targets = read_targets(options.cache, options.hw_nas_bench, options.robustness)
    for metric in options.metrics:
        if metric not in targets:
            raise InputError(
                f"metric {metric} has no values; give --{'robustness' if metric == 'pgd' else 'hw-nas-bench'} FILE,"
                f" or name other --metrics: {', '.join(targets)}"
            )
    proxies = None if options.proxies is None else proxies_of_all(options.proxies)
    sees = "strings" if proxies is None else "strings, proxies"
    choice = "informative" if options.choose else "random"
    order = product(range(options.draws), options.metrics, options.networks)
    jobs = [(metric, options.model, sees, networks, choice, draw) for draw, metric, networks in order]
    informative: dict[tuple[View, int], Indices] = {}
    columns = ("metric", "model", "sees", "networks", "chosen", "draw")
    for metric, model, _, networks, _, draw in journal.missing(columns, jobs, "trainings"):
        view = VIEWS[metric]
        strings = strings_of(view)
        shuffled = np.random.default_rng(draw).permutation(len(strings))
        train = shuffled[:networks]
        if options.choose:
            if (view, draw) not in informative:
                pool = shuffled[:_POOL]
                # The choice is sequential: the first of many are the few.
                informative[view, draw] = pool[most_informative([strings[i] for i in pool], max(options.networks))]
            train = informative[view, draw][:networks]
        split = Split(train, shuffled[:0], shuffled[-_TEST:])
        (row,) = judge(strings, [targets[metric]], split, SEvalPredictor(model, seed=draw), proxies)
        journal.append({**row, "sees": sees, "chosen": choice, "draw": draw})
    print(small_summary(journal.frame()))


def proxies_of_all(path: Path) -> Values:
    """Return ``(15625, 13)`` zero-cost proxies.

    NAS-Bench-Suite-Zero has those of the 9,445 cells without operations that nothing depends on. Every other cell
    computes the same as one of these, and has its proxies.

    Raises:
        InputError: the table cannot be used, or lacks one of these cells.
    """
    space = TopologySpace()
    table, genotypes = read_proxies(path), space.genotypes()
    indices = {genotype: index for index, genotype in enumerate(genotypes)}
    simplified = [indices[space.simplified(genotype)] for genotype in genotypes]
    missing = set(simplified) - set(table)
    if missing:
        raise InputError(f"{path} lacks {len(missing)} of {len(set(simplified))} cells, the first is {min(missing)}")
    return np.array([table[index] for index in simplified])


def split_of(name: str, functional: Sequence[str], seed: int) -> Split:
    """Return the published split, or one of the cells by their functional strings.

    Hundreds of cells share a function, and the scores depend on the part that has them: each seed groups anew.
    """
    return published_split(len(functional)) if name == "published" else grouped_split(functional, 42 + seed)


def again(options: argparse.Namespace) -> None:
    """Print how well values of a device agree with those of nearly the same networks, which were measured apart.

    The networks of a cell for CIFAR-10 and for CIFAR-100 differ in the last layer alone.
    """
    first, second = (read_devices(options.hw_nas_bench, dataset) for dataset in ("cifar10", "cifar100"))
    test = published_split(len(TopologySpace().genotypes())).test
    lines = []
    for name in DEVICES:
        pair = np.stack([first[name].values[test], second[name].values[test]])
        pair = pair[:, np.isfinite(pair).all(axis=0)]
        lines.append([name, pair.shape[1], f"{kendall_tau(*pair):.4f}"])
    print(markdown(["metric", "test cells", "tau-b"], lines))


@cache
def strings_of(view: View) -> list[str]:
    """Return the strings of all cells."""
    space = TopologySpace()
    return SpaceStrings(space, view).strings(space.genotypes())


def large_summary(rows: pd.DataFrame) -> str:
    """Return a Markdown table, a line a metric and split: means over seeds."""
    lines = []
    order = {"split": ("published", "grouped"), "metric": TARGETS, "model": ("auto", *MODELS)}
    for (split, metric, model), group in groups(rows, **order):
        paper = PAPER.get(metric, "") if split == "published" else ""
        means = [mean(group[name]) for name in ("kendall_tau", "kendall_tau_all", "auc", "coverage")]
        speed = [mean(group["train_s"], 0), mean(group["networks_a_s"], 0)]
        lines.append([split, metric, model, len(group), *means, paper, *speed])
    header = ["split", "metric", "model", "seeds", "tau-b", "tau-b over all", "AUC", "coverage of 90 %"]
    return markdown([*header, "paper's tau-b", "training, s", "networks a second"], lines)


def small_summary(rows: pd.DataFrame) -> str:
    """Return a Markdown table, a line a metric, model, its features, number of training cells and choice of them."""
    order = {"metric": TARGETS, "model": ("auto", *MODELS), "sees": ("strings", "strings, proxies")}
    order |= {"networks": tuple(sorted(set(rows["networks"]))), "chosen": ("random", "informative")}
    lines = [
        [*key, len(group), mean_and_deviation(group["kendall_tau"]), mean(group["coverage"])]
        for key, group in groups(rows, **order)
    ]
    header = ["metric", "model", "sees", "training cells", "chosen", "draws", "tau-b", "coverage of 90 %"]
    return markdown(header, lines)


if __name__ == "__main__":
    as_command(main)
