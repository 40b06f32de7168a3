"""What predictors are compared with on NAS-Bench-201: trees on a cell's operations, and a forest on zero-cost proxies.

``python -m experiments.predictors.baselines --cache cached_metrics --proxies TABLE.csv [--ours runs/predictors/large]``

Both learn from the training part of a split. How deep trees are, how many there are, and how many networks a leaf of
the forest holds is what predicts the validation part best. Our predictors see nothing of that part.
"""

from __future__ import annotations

import argparse
import csv
import io
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from experiments.predictors.benchmark import PAPER, proxies_of_all, split_of, strings_of
from experiments.predictors.targets import TARGETS, Target, add_tables, read_targets, tau
from experiments.tables import RowJournal, as_command, markdown
from experiments.training_free.zero_cost import nan_where_missing
from freerea_patch import InputError, TopologySpace
from freerea_patch.spaces import OPERATIONS, parse_cell
from freerea_seval.files import write_atomically
from freerea_seval.predictor.splits import Split
from freerea_seval.progress import terminal_progress

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
#: Predictions of all networks, and what was chosen.
Fitted = tuple[Values, str]

ONE_HOT, FOREST = "one-hot + XGBoost", "random forest on proxies"
COLUMNS = ("split", "metric", "model", "seed", "networks", "kendall_tau", "train_s", "choice")
#: Columns of the table, and colours of the figure.
_COLOURS = {"ours": "#c2410c", "SEval-NAS": "#64748b", ONE_HOT: "#94a3b8", FOREST: "#cbd5e1"}
_DEPTHS = (3, 5, 7, 9)
_LEAVES = (1, 3)


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge both on the test part of a split, and put them beside ours and the published figures."""
    parser = argparse.ArgumentParser(prog="python -m experiments.predictors.baselines", description=__doc__)
    add_tables(parser)
    parser.add_argument("--proxies", type=Path, required=True, help="table of NAS-Bench-Suite-Zero's values")
    parser.add_argument("--ours", type=Path, help="folder of python -m experiments.predictors.benchmark large")
    parser.add_argument("--splits", nargs="+", default=["published"], choices=["published", "grouped"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/baselines"), help="rows and figure")
    options = parser.parse_args(arguments)
    journal = RowJournal(options.output, {}, COLUMNS)
    done = {tuple(row[name] for name in COLUMNS[:4]) for row in journal.rows()}
    ours = [] if options.ours is None else our_rows(options.ours)
    targets = read_targets(options.cache, options.hw_nas_bench, options.robustness)
    models: dict[str, tuple[Values, Callable[..., Fitted]]] = {
        ONE_HOT: (one_hot(TopologySpace().genotypes()), fit_trees),
        FOREST: (proxies_of_all(options.proxies), fit_forest),
    }
    functional = strings_of("functional")
    jobs = [
        job
        for job in product(options.splits, targets, models, range(options.seeds))
        if (*job[:3], str(job[3])) not in done
    ]
    with terminal_progress().task(f"{len(jobs)} trainings") as show:
        for count, (name, metric, model, seed) in enumerate(jobs):
            show(count / len(jobs), f"{metric}: {model}")
            features, fit = models[model]
            row = judge(features, targets[metric], split_of(name, functional, seed), fit, seed)
            journal.append({"split": name, "metric": metric, "model": model, "seed": seed, **row})
    rows = [*ours, *journal.rows()]
    print(summary(rows))
    draw(options.output / "baselines.png", rows)


def judge(
    features: Values, target: Target, split: Split, fit: Callable[..., Fitted], seed: int
) -> dict[str, int | str]:
    """Train on the networks of the training part that have a value, and judge on such ones of the test part."""
    train, validation, test = (part[np.isfinite(target.values[part])] for part in split)
    began = time.perf_counter()
    predicted, choice = fit(features, target.values, train, validation, seed)
    seconds = time.perf_counter() - began
    reached = tau(target.values[test], predicted[test])
    return {"networks": len(train), "kendall_tau": f"{reached:.6g}", "train_s": f"{seconds:.1f}", "choice": choice}


def one_hot(genotypes: Sequence[str]) -> Values:
    """Return ``(n, 30)``: which of five operations each of a cell's six edges has."""
    cells = np.array([parse_cell(genotype) for genotype in genotypes])
    return np.asarray(cells[:, :, None] == np.array(OPERATIONS), dtype=np.float64).reshape(len(cells), -1)


def fit_trees(features: Values, values: Values, train: Indices, validation: Indices, seed: int) -> Fitted:
    """Fit boosted trees, of the depth and number that predict the validation part best."""
    from xgboost import XGBRegressor

    def fitted(depth: int) -> tuple[Values, str]:
        model = XGBRegressor(
            n_estimators=2000,
            max_depth=depth,
            learning_rate=0.05,
            subsample=0.8,
            early_stopping_rounds=50,
            n_jobs=1,
            random_state=seed,
        )
        model.fit(features[train], values[train], eval_set=[(features[validation], values[validation])], verbose=False)
        return model.predict(features), f"{model.best_iteration + 1} trees of depth {depth}"

    return _best(map(fitted, _DEPTHS), values, validation)


def fit_forest(features: Values, values: Values, train: Indices, validation: Indices, seed: int) -> Fitted:
    """Fit a random forest, with the leaves that predict the validation part best."""
    from sklearn.ensemble import RandomForestRegressor

    known = nan_where_missing(features)

    def fitted(leaf: int) -> tuple[Values, str]:
        model = RandomForestRegressor(300, min_samples_leaf=leaf, max_features=1 / 3, random_state=seed)
        model.fit(known[train], values[train])
        return model.predict(known), f"300 trees with leaves of {leaf} or more"

    return _best(map(fitted, _LEAVES), values, validation)


def _best(found: Iterable[Fitted], values: Values, validation: Indices) -> Fitted:
    return max(found, key=lambda one: tau(values[validation], one[0][validation]))


def our_rows(folder: Path) -> list[dict[str, str]]:
    """Read what ``experiments.predictors.benchmark large`` has written of the default model.

    Raises:
        InputError: it is not there, or has other columns.
    """
    try:
        with (folder / "rows.csv").open(newline="", encoding="utf-8") as file:
            names = ("split", "metric", "kendall_tau")
            rows = [row for row in csv.DictReader(file) if row["model"] == "auto" and row["kendall_tau"]]
            return [{"model": "ours", **{name: row[name] for name in names}} for row in rows]
    except (OSError, KeyError) as error:
        raise InputError(
            f"{folder} cannot be used ({error}); run first: python -m experiments.predictors.benchmark large"
        ) from None


def means(rows: Sequence[dict[str, str]], split: str) -> dict[str, dict[str, float]]:
    """Return Kendall's tau-b by model and metric, the mean over seeds, and SEval-NAS's own figures."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in _COLOURS}
    for row in rows:
        if row["split"] == split:
            found[row["model"]].setdefault(row["metric"], []).append(float(row["kendall_tau"]))
    if split == "published":
        found["SEval-NAS"] = {metric: [published] for metric, published in PAPER.items()}
    return {name: {metric: float(np.mean(taus)) for metric, taus in its.items()} for name, its in found.items()}


def summary(rows: Sequence[dict[str, str]]) -> str:
    """Return a Markdown table, a line a split and metric."""
    lines = []
    for split in dict.fromkeys(row["split"] for row in rows):
        taus = means(rows, split)
        lines += [
            [split, metric, *(f"{its[metric]:.4f}" if metric in its else "" for its in taus.values())]
            for metric in TARGETS
            if any(metric in its for its in taus.values())
        ]
    return markdown(["split", "metric", *_COLOURS], lines)


def draw(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Draw the published split's taus as bars, a group a metric."""
    from matplotlib.figure import Figure

    taus = means(rows, "published")
    metrics = [metric for metric in TARGETS if any(metric in its for its in taus.values())]
    figure = Figure(figsize=(11, 4), layout="constrained")
    axes = figure.add_subplot()
    for place, (name, its) in enumerate(taus.items()):
        at = [i + (place - 1.5) * 0.2 for i, metric in enumerate(metrics) if metric in its]
        if at:
            heights = [its[metric] for metric in metrics if metric in its]
            axes.bar(at, heights, width=0.19, label=name, color=_COLOURS[name])
    axes.set_xticks(range(len(metrics)), [metric.replace("_", "\n") for metric in metrics], fontsize=8)
    axes.set_ylabel("Kendall's tau-b, test cells of the published split")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=len(taus), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150)
    write_atomically(path, image.getvalue())


if __name__ == "__main__":
    as_command(main)
