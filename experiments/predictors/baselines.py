"""Baselines of predictors on NAS-Bench-201: boosted trees on a cell's operations, and a forest on zero-cost proxies.

``python -m experiments.predictors.baselines --cache cached_metrics --proxies TABLE.csv [--ours runs/predictors/large]``

Both are trained on the training part of a split. The depth and number of the trees, and the smallest leaf of the
forest, are chosen by the validation part, which our predictors do not use.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from experiments.predictors.benchmark import PAPER, proxies_of_all, split_of, strings_of
from experiments.published import TARGETS, Target, nan_where_missing, read_targets
from experiments.tables import RowJournal, as_command, experiment_parser, markdown
from freerea_patch import InputError, TopologySpace
from freerea_patch.spaces import OPERATIONS, parse_cell
from freerea_seval.files import write_atomically
from freerea_seval.predictor.scores import kendall_tau
from freerea_seval.predictor.splits import Split

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
#: Predictions of all networks, and the chosen settings.
Fitted = tuple[Values, str]

ONE_HOT, FOREST = "one-hot + XGBoost", "random forest on proxies"
COLUMNS = ("split", "metric", "model", "seed", "networks", "kendall_tau", "train_s", "choice")
#: Columns of the table, and colours of the figure.
_COLOURS = {"ours": "#c2410c", "SEval-NAS": "#64748b", ONE_HOT: "#94a3b8", FOREST: "#cbd5e1"}
_DEPTHS = (3, 5, 7, 9)
_LEAVES = (1, 3)


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge both on the test part of a split, and print them beside ours and the published figures."""
    parser = experiment_parser("predictors.baselines", __doc__)
    parser.shared("--cache", "--proxies", required=True)
    parser.shared("--hw-nas-bench", "--robustness", "--seeds")
    parser.add_argument("--ours", type=Path, help="folder of python -m experiments.predictors.benchmark large")
    parser.add_argument("--splits", nargs="+", default=["published"], choices=["published", "grouped"])
    parser.output("runs/baselines", "rows and figure")
    options = parser.parse_args(arguments)
    journal = RowJournal(options.output, {}, COLUMNS)
    ours = [] if options.ours is None else [our_rows(options.ours)]
    targets = read_targets(options.cache, options.hw_nas_bench, options.robustness)
    models: dict[str, tuple[Values, Callable[..., Fitted]]] = {
        ONE_HOT: (one_hot(TopologySpace().genotypes()), fit_trees),
        FOREST: (proxies_of_all(options.proxies), fit_forest),
    }
    jobs = product(options.splits, targets, models, range(options.seeds))
    for name, metric, model, seed in journal.missing(COLUMNS[:4], jobs, "trainings"):
        features, fit = models[model]
        row = judge(features, targets[metric], split_of(name, strings_of("functional"), seed), fit, seed)
        journal.append({"split": name, "metric": metric, "model": model, "seed": seed, **row})
    rows = pd.concat([*ours, journal.frame()])
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
    tau = kendall_tau(target.values[test], predicted[test])
    return {"networks": len(train), "kendall_tau": f"{tau:.6g}", "train_s": f"{seconds:.1f}", "choice": choice}


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

    features = nan_where_missing(features)

    def fitted(leaf: int) -> tuple[Values, str]:
        model = RandomForestRegressor(300, min_samples_leaf=leaf, max_features=1 / 3, random_state=seed)
        model.fit(features[train], values[train])
        return model.predict(features), f"300 trees with leaves of {leaf} or more"

    return _best(map(fitted, _LEAVES), values, validation)


def _best(candidates: Iterable[Fitted], values: Values, validation: Indices) -> Fitted:
    return max(candidates, key=lambda fitted: kendall_tau(values[validation], fitted[0][validation]))


def our_rows(folder: Path) -> pd.DataFrame:
    """Read the rows of ``experiments.predictors.benchmark large`` for the default model.

    Raises:
        InputError: they do not exist, or have other columns.
    """
    try:
        rows = pd.read_csv(folder / "rows.csv")
        rows = rows[(rows["model"] == "auto") & rows["kendall_tau"].notna()]
        return rows[["split", "metric", "kendall_tau"]].assign(model="ours")
    except (OSError, KeyError) as error:
        raise InputError(
            f"{folder} cannot be used ({error}); run first: python -m experiments.predictors.benchmark large"
        ) from None


def means(rows: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return Kendall's tau-b by metric and model, the mean over seeds, and SEval-NAS's own figures."""
    table = rows[rows["split"] == split].pivot_table("kendall_tau", "metric", "model", sort=False)
    table = table.reindex([metric for metric in TARGETS if metric in table.index], columns=list(_COLOURS))
    if split == "published":
        table["SEval-NAS"] = pd.Series(PAPER).reindex(table.index)
    return table


def summary(rows: pd.DataFrame) -> str:
    """Return a Markdown table, a line a split and metric."""
    lines = [
        [split, metric, *("" if np.isnan(tau) else f"{tau:.4f}" for tau in taus)]
        for split in dict.fromkeys(rows["split"])
        for metric, *taus in means(rows, split).itertuples()
    ]
    return markdown(["split", "metric", *_COLOURS], lines)


def draw(path: Path, rows: pd.DataFrame) -> None:
    """Draw the published split's taus as bars, a group a metric."""
    from matplotlib.figure import Figure

    taus = means(rows, "published").dropna(axis="columns", how="all")
    figure = Figure(figsize=(11, 4), layout="constrained")
    axes = figure.add_subplot()
    for number, name in enumerate(taus):
        positions = np.arange(len(taus)) + (number - 1.5) * 0.2
        axes.bar(positions, taus[name].to_numpy(), width=0.19, label=str(name), color=_COLOURS[str(name)])
    axes.set_xticks(range(len(taus)), [str(metric).replace("_", "\n") for metric in taus.index], fontsize=8)
    axes.set_ylabel("Kendall's tau-b, test cells of the published split")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=taus.shape[1] or 1, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150)
    write_atomically(path, image.getvalue())


if __name__ == "__main__":
    as_command(main)
