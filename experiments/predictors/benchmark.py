"""How well predictors rank the cells of NAS-Bench-201: the paper's tables again, and what tens of samples are worth.

``python -m experiments.predictors.benchmark large --cache cached_metrics --hw-nas-bench FILE --robustness T.csv``
``python -m experiments.predictors.benchmark small ...``
``python -m experiments.predictors.benchmark again --hw-nas-bench HW-NAS-Bench.pickle``
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.predictors.targets import DEVICES, TARGETS, Target, add_tables, read_devices, read_targets, tau
from experiments.tables import RowJournal, as_command, markdown
from experiments.training_free.zero_cost import read_proxies
from freerea_patch import InputError, TopologySpace
from freerea_seval.predictor.active_learning import most_informative
from freerea_seval.predictor.models.registry import MODELS
from freerea_seval.predictor.scores import scores
from freerea_seval.predictor.seval import SEvalPredictor
from freerea_seval.predictor.splits import Split, grouped_split, published_split
from freerea_seval.progress import terminal_progress
from freerea_seval.strings.encode import SpaceStrings
from freerea_seval.strings.views import View

Indices = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

#: Metrics that are learned together, and the view that they are learned from.
GROUPS: dict[str, tuple[View, tuple[str, ...]]] = {
    "accuracy": ("functional", ("cifar10", "cifar100", "ImageNet16-120", "pgd")),
    "devices": (
        "executed",
        ("edgegpu_latency", "raspi4_latency", "pixel3_latency", "eyeriss_latency", "fpga_latency", "edgegpu_energy"),
    ),
    "edgetpu": ("executed", ("edgetpu_latency",)),
    "edgegpu": ("executed", ("edgegpu_latency",)),
}
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
_JUDGED = (
    "kendall_tau",
    "kendall_tau_all",
    "auc",
    "spearman",
    "r2",
    "rmse",
    "coverage",
    "width",
    "top_10_percent_recall",
)
#: Random cells that training cells are chosen from, and others that are judged on, which judge as well as all, within
#: 0.005.
_POOL, _JUDGED_ON = 4000, 3000
LARGE = ("split", "group", "metric", "model", "seed", "networks", *_JUDGED, "train_s", "networks_a_s", "choice")
SMALL = ("metric", "model", "sees", "networks", "chosen", "draw", *_JUDGED, "train_s", "choice")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the experiments."""
    parser = argparse.ArgumentParser(prog="python -m experiments.predictors.benchmark", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], None], help: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=help)
        add_tables(added)
        added.add_argument("--model", default="auto", choices=("auto", *MODELS))
        added.add_argument("-o", "--output", type=Path, default=Path("runs/predictors") / name)
        added.set_defaults(run=run)
        return added

    added = command("large", large, "train on 9,375 cells, judge on 3,125: the published split, or one without twins")
    added.add_argument("--splits", nargs="+", default=["published", "grouped"], choices=["published", "grouped"])
    added.add_argument("--groups", nargs="+", default=["accuracy", "devices", "edgetpu"], choices=list(GROUPS))
    added.add_argument("--seeds", type=int, default=3)
    added = command("small", small, "train on 50, 100 and 200 cells, judge on others")
    usual = ["cifar10", "pgd", "raspi4_latency", "edgegpu_latency"]
    added.add_argument("--metrics", nargs="+", default=usual, choices=TARGETS, metavar="METRIC")
    added.add_argument("--networks", nargs="+", type=int, default=[50, 100, 200])
    added.add_argument("--draws", type=int, default=20)
    what = f"train on the most informative of {_POOL:,} random cells instead of random ones"
    added.add_argument("--choose", action="store_true", help=what)
    what = "table of NAS-Bench-Suite-Zero's zero-cost proxies, which predictors then see beside strings"
    added.add_argument("--proxies", type=Path, help=what)
    added = commands.add_parser(
        "again", help=(what := "how well a second measurement of a device ranks"), description=what
    )
    added.add_argument("--hw-nas-bench", type=Path, required=True, help="file HW-NAS-Bench-v1_0.pickle")
    added.set_defaults(run=again)
    options = parser.parse_args(arguments)
    options.run(options)


def large(options: argparse.Namespace) -> None:
    """Judge predictors of thousands of cells on the test part of a split."""
    journal = RowJournal(options.output, {}, LARGE)
    done = {tuple(row[name] for name in ("split", "group", "model", "seed")) for row in journal.rows()}
    targets = read_targets(options.cache, options.hw_nas_bench, options.robustness)
    for group in options.groups:
        if not any(metric in targets for metric in GROUPS[group][1]):
            raise InputError(f"group {group} has no values; give --hw-nas-bench FILE, or name other --groups")
    jobs = [(s, g, seed) for seed in range(options.seeds) for g in options.groups for s in options.splits]
    functional = strings_of("functional")
    for name, group, seed in jobs:
        if (name, group, options.model, str(seed)) in done:
            continue
        split = split_of(name, functional, seed)
        view, metrics = GROUPS[group]
        strings = functional if view == "functional" else strings_of(view)
        chosen = [targets[metric] for metric in metrics if metric in targets]
        training = TRAINING.get(options.model, {})
        predictor = SEvalPredictor(options.model, **training, distinct=name == "grouped", seed=seed)
        with terminal_progress().task(f"{group}, {name} split, seed {seed}") as show:
            rows = judge(strings, chosen, split, predictor, show)
        for row in rows:
            journal.append({"split": name, "group": group, **row})
    print(large_summary(journal.rows()))


def judge(
    strings: Sequence[str],
    targets: Sequence[Target],
    split: Split,
    predictor: SEvalPredictor,
    show: Callable[[float, str], None],
    proxies: Values | None = None,
) -> list[dict[str, object]]:
    """Train on the training part and judge on the test part; return a row a metric."""
    values = np.stack([target.values for target in targets], axis=1)
    more, other = (None, None) if proxies is None else (proxies[split.train], proxies[split.test])
    began = time.perf_counter()
    train = [strings[i] for i in split.train]
    predictor.fit(train, values[split.train], more, show=show)
    seconds = time.perf_counter() - began
    test = [strings[i] for i in split.test]
    began = time.perf_counter()
    predictor.predict(test, other)
    rate = len(test) / (time.perf_counter() - began)
    found, low, high = predictor.predict(test, other, interval=0.9)
    supported = predictor.supported(test)
    rows: list[dict[str, object]] = []
    for place, target in enumerate(targets):
        judged = scores(
            values[split.test, place],
            found[:, place],
            direction=target.direction,
            low=low[:, place],
            high=high[:, place],
            supported=supported[:, place],
        )
        rows.append(
            {
                "metric": target.name,
                "model": predictor.model,
                "seed": predictor.seed,
                "networks": len(train),
                **{name: f"{judged[name]:.6g}" if name in judged else "" for name in _JUDGED},
                "train_s": f"{seconds:.1f}",
                "networks_a_s": f"{rate:.0f}",
                "choice": predictor.choice_,
            }
        )
    return rows


def small(options: argparse.Namespace) -> None:
    """Judge predictors of tens of cells on others."""
    journal = RowJournal(options.output, {}, SMALL)
    known = ("metric", "model", "sees", "networks", "chosen", "draw")
    done = {tuple(row[name] for name in known) for row in journal.rows()}
    targets = read_targets(options.cache, options.hw_nas_bench, options.robustness)
    missing = [metric for metric in options.metrics if metric not in targets]
    if missing:
        raise InputError(
            f"metric {missing[0]} has no values; give --{'robustness' if missing[0] == 'pgd' else 'hw-nas-bench'} FILE,"
            f" or name other --metrics: {', '.join(targets)}"
        )
    views = {metric: view for view, metrics in GROUPS.values() for metric in metrics}
    strings: dict[View, list[str]] = {}
    informative: dict[tuple[View, int], Indices] = {}
    proxies = None if options.proxies is None else proxies_of_all(options.proxies)
    sees = "strings" if proxies is None else "strings, proxies"
    chosen = "informative" if options.choose else "random"
    jobs = [(d, m, n) for d in range(options.draws) for m in options.metrics for n in options.networks]
    with terminal_progress().task(f"{len(jobs)} trainings") as show:
        for count, (draw, metric, networks) in enumerate(jobs):
            show(count / len(jobs), f"{metric}, {networks} cells")
            if (metric, options.model, sees, str(networks), chosen, str(draw)) in done:
                continue
            view = views[metric]
            if view not in strings:
                strings[view] = strings_of(view)
            order = np.random.default_rng(draw).permutation(len(strings[view]))
            train = order[:networks]
            if options.choose:
                if (view, draw) not in informative:
                    pool = order[:_POOL]
                    # They are chosen one after the other: the first of many are the few.
                    best = most_informative([strings[view][i] for i in pool], max(options.networks))
                    informative[view, draw] = pool[best]
                train = informative[view, draw][:networks]
            split = Split(train, order[:0], order[-_JUDGED_ON:])
            predictor = SEvalPredictor(options.model, seed=draw)
            (row,) = judge(strings[view], [targets[metric]], split, predictor, lambda fraction, note: None, proxies)
            journal.append({**row, "sees": sees, "chosen": chosen, "draw": draw})
    print(small_summary(journal.rows()))


def proxies_of_all(path: Path) -> Values:
    """Return ``(15625, 13)`` zero-cost proxies.

    NAS-Bench-Suite-Zero has those of the 9,445 cells without operations that nothing depends on. Every other cell
    computes what one of these does, and has its proxies.

    Raises:
        InputError: the table cannot be used, or lacks one of these cells.
    """
    space = TopologySpace()
    table, genotypes = read_proxies(path), space.genotypes()
    places = {genotype: place for place, genotype in enumerate(genotypes)}
    alive = [places[space.simplified(genotype)] for genotype in genotypes]
    missing = set(alive) - set(table)
    if missing:
        raise InputError(f"{path} lacks {len(missing)} of {len(set(alive))} cells, the first is {min(missing)}")
    return np.array([table[place] for place in alive])


def split_of(name: str, functional: Sequence[str], seed: int) -> Split:
    """Return the published split, or one of the cells by their functional strings.

    Hundreds of cells share a function, and it matters in which part they are: each seed groups anew.
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
        lines.append([name, pair.shape[1], f"{tau(*pair):.4f}"])
    print(markdown(["metric", "test cells", "tau-b"], lines))


def strings_of(view: View) -> list[str]:
    """Return the strings of all cells."""
    space = TopologySpace()
    with terminal_progress().task(f"reading {len(space.genotypes())} cells") as show:
        return SpaceStrings(space, view).strings(space.genotypes(), show)


def large_summary(rows: Sequence[dict[str, str]]) -> str:
    """Return a Markdown table, a line a metric and split: means over seeds."""
    lines = []
    for split in ("published", "grouped"):
        for metric in TARGETS:
            for model in ("auto", *MODELS):
                some = [r for r in rows if (r["split"], r["metric"], r["model"]) == (split, metric, model)]
                if some:
                    paper = PAPER.get(metric, "") if split == "published" else ""
                    means = [_mean(some, name) for name in ("kendall_tau", "kendall_tau_all", "auc", "coverage")]
                    speed = [_mean(some, "train_s", 0), _mean(some, "networks_a_s", 0)]
                    lines.append([split, metric, model, len(some), *means, paper, *speed])
    header = ["split", "metric", "model", "seeds", "tau-b", "tau-b over all", "AUC", "coverage of 90 %"]
    return markdown([*header, "paper's tau-b", "training, s", "networks a second"], lines)


def small_summary(rows: Sequence[dict[str, str]]) -> str:
    """Return a Markdown table, a line a metric, model, what that sees, number of training cells and choice of them."""
    lines = []
    counts = sorted({int(row["networks"]) for row in rows})
    for metric, model, sees, networks, chosen in product(
        TARGETS, ("auto", *MODELS), ("strings", "strings, proxies"), counts, ("random", "informative")
    ):
        key = (metric, model, sees, str(networks), chosen)
        some = [r for r in rows if (r["metric"], r["model"], r["sees"], r["networks"], r["chosen"]) == key]
        if some:
            taus = [float(row["kendall_tau"]) for row in some]
            tau = f"{np.mean(taus):.3f} ± {np.std(taus):.3f}"
            lines.append([metric, model, sees, networks, chosen, len(some), tau, _mean(some, "coverage")])
    header = ["metric", "model", "sees", "training cells", "chosen", "draws", "tau-b", "coverage of 90 %"]
    return markdown(header, lines)


def _mean(rows: Sequence[dict[str, str]], name: str, digits: int = 4) -> str:
    values = [float(row[name]) for row in rows if row[name]]
    return f"{np.mean(values):.{digits}f}" if values else ""


if __name__ == "__main__":
    as_command(main)
