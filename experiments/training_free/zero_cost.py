"""Whether our training-free metrics equal the published ones, and what XGBoost predicts from them.

``python -m experiments.training_free.zero_cost freerea --cache cached_metrics --batch images.npz``
``python -m experiments.training_free.zero_cost correlate --proxies nasbench201_cifar10.csv --batch images.npz``
``python -m experiments.training_free.zero_cost predict --proxies TABLE.csv --targets TABLE.csv:COLUMN ...``
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import pandas as pd

from experiments.published import nan_where_missing, read_column, read_metric, read_proxies
from experiments.tables import RowJournal, as_command, experiment_parser, markdown
from freerea_patch import InputError, TopologySpace, TrainingFree
from freerea_patch.spaces import all_cells
from freerea_patch.training_free import batch_digest
from freerea_seval.predictor.scores import kendall_tau, spearman
from freerea_seval.proxies import PROXIES
from freerea_seval.proxies.live import ZeroCost

FREEREA = ("naswot", "logsynflow")

Floats = npt.NDArray[np.float64]
#: Values by the index of the cell, in the order of PROXIES.
Table = dict[int, list[float]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the commands."""
    parser = experiment_parser("training_free.zero_cost", __doc__)
    freerea = parser.command(
        "freerea", _freerea, "naswot and logsynflow of random cells against FreeREA's published values"
    )
    freerea.shared("--cache", required=True)
    freerea.add_argument("--initialisations", type=int, default=3)
    correlate = parser.command("correlate", _correlate, "thirteen proxies of random cells against NAS-Bench-Suite-Zero")
    correlate.add_argument("--choice", type=int, default=0, help="seed of the choice of cells")
    what = "folders of runs with other seeds: how far our seeds agree with each other, and the mean of all of them"
    correlate.add_argument("--beside", type=Path, nargs="+", default=[], metavar="FOLDER", help=what)
    for added, folder in ((freerea, "runs/proxies"), (correlate, "runs/zero_cost")):
        added.shared("--batch", required=True)
        added.shared("--batch-size", "--seed")
        added.add_argument("--cells", type=int, default=300)
        added.output(folder)
    predict = parser.command("predict", _predict, "XGBoost on the proxies, for values of tables")
    predict.add_argument("--targets", nargs="+", required=True, help="TABLE.csv:COLUMN, a row a cell in order of index")
    predict.add_argument("--ours", type=Path, help="folder of correlate, to predict from our values of its cells")
    predict.add_argument("--train", type=int, default=100)
    predict.shared("--seeds", default=20)
    for added in (correlate, predict):
        added.shared("--proxies", required=True)
    options = parser.parse_args(arguments)
    options.run(options)


def _freerea(options: argparse.Namespace) -> None:
    published = {metric: read_metric(options.cache, metric) for metric in FREEREA}
    source = TrainingFree(
        TopologySpace(),
        batch=options.batch,
        batch_size=options.batch_size,
        initialisations=options.initialisations,
        seed=options.seed,
    )
    config = {"batch": batch_digest(source.images), "initialisations": options.initialisations, "seed": options.seed}
    journal = RowJournal(options.output, config, columns(FREEREA))
    indices = range(len(all_cells()))
    compute(source, FREEREA, journal, Random(options.seed).sample(indices, len(indices))[: options.cells])
    print(freerea_summary(journal.frame()[: options.cells], published))


def _correlate(options: argparse.Namespace) -> None:
    published = read_proxies(options.proxies)
    source = ZeroCost(TopologySpace(), batch=options.batch, batch_size=options.batch_size, seed=options.seed)
    config = {"batch": batch_digest(source.images), "seed": options.seed, "choice": options.choice}
    journal = RowJournal(options.output, config, columns(PROXIES))
    order = Random(options.choice).sample(sorted(published), len(published))[: options.cells]
    compute(source, PROXIES, journal, order)
    rows = journal.frame()
    others = [read_proxies(folder / "rows.csv") for folder in options.beside]
    print(summary(rows[rows["index"].isin(order)], published, others))


def columns(metrics: Sequence[str]) -> list[str]:
    """Return the columns of rows: values, and seconds of building the network and of each metric."""
    return ["index", *metrics, *(f"{name}_s" for name in ("network", *metrics))]


def compute(source: TrainingFree | ZeroCost, metrics: Sequence[str], journal: RowJournal, cells: Sequence[int]) -> None:
    """Add the rows of cells that the journal does not have yet."""
    genotypes = all_cells()
    for (index,) in journal.missing(["index"], [(index,) for index in cells], f"{len(cells)} cells"):
        (row,) = source.evaluate([genotypes[index]], metrics)
        values = {metric: row[metric].value for metric in metrics}
        seconds = {f"{name}_s": f"{row[name].seconds:.4f}" for name in ("network", *metrics)}
        journal.append({"index": index, **values, **seconds})


def freerea_summary(rows: pd.DataFrame, published: Mapping[str, Floats]) -> str:
    """Return a Markdown table, a line a metric.

    Spearman's coefficient takes a value of minus infinity as the lowest rank, which all such cells share.
    """
    lines = []
    for metric in FREEREA:
        ours, theirs = rows[metric].to_numpy(float), published[metric][rows["index"]]
        infinite = f"{np.isinf(ours).sum()} / {np.isinf(theirs).sum()} / {(np.isinf(ours) & np.isinf(theirs)).sum()}"
        seconds = f"{rows[f'{metric}_s'].mean():.3f}"
        lines.append([metric, len(rows), f"{spearman(ours, theirs):.4f}", infinite, seconds])
    header = ["metric", "cells", "Spearman with published", "infinite: ours / published / both", "seconds a cell"]
    network_s = rows["network_s"].mean()
    return f"{markdown(header, lines)}\n\nBuilding and initialising: {network_s:.3f} seconds a cell besides."


def summary(rows: pd.DataFrame, published: Table, others: Sequence[Table] = ()) -> str:
    """Return a Markdown table, a line a proxy; others are our values with other seeds.

    A value that does not exist takes the lowest rank, as it does in a search and in the published table.
    """
    shared = rows[[all(index in other for other in others) for index in rows["index"]]]
    lines = []
    for column, name in enumerate(PROXIES):
        ours = _lowest_where_missing(shared[name])
        theirs, *seeds = (
            _lowest_where_missing([table[index][column] for index in shared["index"]]) for table in (published, *others)
        )
        line = [name, len(shared), f"{spearman(ours, theirs):.4f}"]
        if others:
            line.append(f"{np.mean([spearman(ours, values) for values in seeds]):.4f}")
            line.append(f"{spearman(np.mean([ours, *seeds], axis=0), theirs):.4f}")
        lines.append([*line, f"{rows[f'{name}_s'].mean():.3f}"])
    header = ["proxy", "cells", "Spearman with published"]
    header += ["of our seeds", f"of the mean of {len(others) + 1} seeds with published"] if others else []
    total = rows[[f"{name}_s" for name in ("network", *PROXIES)]].to_numpy().sum() / len(rows)
    return f"{markdown([*header, 'seconds a cell'], lines)}\n\nAll thirteen: {total:.3f} seconds a cell."


def _lowest_where_missing(values: npt.ArrayLike) -> Floats:
    """Return values with minus infinity for those that do not exist: NaN, or -1e8 in the published tables."""
    array = np.asarray(values, dtype=float)
    return np.where(np.isnan(array) | (array <= -1e8), -np.inf, array)


def _predict(options: argparse.Namespace) -> None:
    published = read_proxies(options.proxies)
    tables = {"published": published}
    if options.ours is not None:
        ours = read_proxies(options.ours / "rows.csv")
        tables |= {"published, the same cells": {i: published[i] for i in ours}, "ours": ours}
    lines = []
    for target in options.targets:
        path, _, column = target.rpartition(":")
        truth = read_column(Path(path), column)
        for name, table in tables.items():
            taus = predict(table, truth, options.train, range(options.seeds))
            lines.append([column, name, len(table), f"{np.mean(taus):.4f}", f"{np.std(taus):.4f}"])
    print(markdown(["target", "proxies", "cells", "Kendall's tau", "deviation over seeds"], lines))


def predict(table: Table, truth: npt.ArrayLike, train: int, seeds: Sequence[int]) -> list[float]:
    """Return Kendall's tau-b of XGBoost on the cells that it was not trained on, one a seed."""
    import xgboost

    indices = sorted(table)
    if len(indices) <= train + 1:
        raise InputError(f"{len(indices)} cells are too few to train on {train} of them and test on the rest")
    features = nan_where_missing(np.array([table[i] for i in indices]))
    targets = np.asarray(truth)[indices]
    taus = []
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(indices))
        training, test = order[:train], order[train:]
        model = xgboost.XGBRegressor(
            n_estimators=300,
            max_depth=5,
            learning_rate=0.05,
            subsample=0.8,
            colsample_bytree=0.6,
            n_jobs=1,
            random_state=seed,
        )
        model.fit(features[training], targets[training])
        taus.append(kendall_tau(model.predict(features[test]), targets[test]))
    return taus


if __name__ == "__main__":
    as_command(main)
