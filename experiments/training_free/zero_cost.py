"""Whether our zero-cost proxies are NAS-Bench-Suite-Zero's, and what XGBoost predicts from either.

``python -m experiments.training_free.zero_cost correlate --proxies nasbench201_cifar10.csv --batch images.npz``
``python -m experiments.training_free.zero_cost predict --proxies TABLE.csv --targets TABLE.csv:COLUMN ...``
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
from experiments.training_free.freerea_metrics import spearman
from freerea_patch import InputError, TopologySpace
from freerea_patch.spaces import all_cells
from freerea_patch.training_free import batch_digest
from freerea_seval.progress import terminal_progress
from freerea_seval.proxies import PROXIES
from freerea_seval.proxies.live import ZeroCost

TIMED = ("network", *PROXIES)
COLUMNS = ("index", *PROXIES, *(f"{name}_s" for name in TIMED))

Floats = npt.NDArray[np.float64]
#: Proxy values by the index of the cell, in the order of PROXIES.
Table = dict[int, list[float]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(prog="python -m experiments.training_free.zero_cost", description=__doc__)
    commands = parser.add_subparsers(required=True)
    correlate = commands.add_parser("correlate", help="our values of random cells against the published ones")
    correlate.add_argument("--batch", required=True, help="images and labels of CIFAR-10: FILE.npz")
    correlate.add_argument("--batch-size", type=int, default=64)
    correlate.add_argument("--cells", type=int, default=300)
    correlate.add_argument("--choice", type=int, default=0, help="seed of the choice of cells")
    correlate.add_argument("--seed", type=int, default=0, help="seed of initialisation and noise")
    what = "folders of runs with other seeds: how far ours agree with each other, and what the mean of all says"
    correlate.add_argument("--beside", type=Path, nargs="+", default=[], metavar="FOLDER", help=what)
    correlate.add_argument("-o", "--output", type=Path, default=Path("runs/zero_cost"))
    correlate.set_defaults(run=_correlate)
    predict = commands.add_parser("predict", help="XGBoost on the proxies, for values of tables")
    predict.add_argument("--targets", nargs="+", required=True, help="TABLE.csv:COLUMN, a row a cell in order of index")
    predict.add_argument("--ours", type=Path, help="folder of correlate, to predict from our values of its cells")
    predict.add_argument("--train", type=int, default=100)
    predict.add_argument("--seeds", type=int, default=20)
    predict.set_defaults(run=_predict)
    for command in (correlate, predict):
        command.add_argument("--proxies", type=Path, required=True, help="table of NAS-Bench-Suite-Zero's values")
    options = parser.parse_args(arguments)
    options.run(options)


def _correlate(options: argparse.Namespace) -> None:
    published = read_proxies(options.proxies)
    source = ZeroCost(TopologySpace(), batch=options.batch, batch_size=options.batch_size, seed=options.seed)
    config = {"batch": batch_digest(source.images), "seed": options.seed, "choice": options.choice}
    journal = RowJournal(options.output, config, COLUMNS)
    order = Random(options.choice).sample(sorted(published), len(published))[: options.cells]
    compute(source, journal, order)
    wanted = set(order)
    rows = [row for row in journal.rows() if int(row["index"]) in wanted]
    print(summary(rows, published, [read_proxies(folder / "rows.csv") for folder in options.beside]))


def compute(source: ZeroCost, journal: RowJournal, cells: Sequence[int]) -> None:
    """Add the rows of cells that the journal does not have yet."""
    genotypes = all_cells()
    done = {int(row["index"]) for row in journal.rows()}
    with terminal_progress().task(f"{len(cells)} cells") as show:
        for count, index in enumerate(cells):
            show(count / len(cells), "")
            if index not in done:
                (row,) = source.evaluate([genotypes[index]], PROXIES)
                values = {name: row[name].value for name in PROXIES}
                seconds = {f"{name}_s": f"{row[name].seconds:.4f}" for name in TIMED}
                journal.append({"index": index, **values, **seconds})


def summary(rows: Sequence[dict[str, str]], published: Table, others: Sequence[Table] = ()) -> str:
    """Return a Markdown table, a line a proxy; others are our values with other seeds.

    A value that does not exist takes the lowest rank, as it does in a search and in the published table.
    """
    shared = [row for row in rows if all(int(row["index"]) in other for other in others)]
    indices = [int(row["index"]) for row in shared]
    lines = []
    for column, name in enumerate(PROXIES):
        ours = _ranked([float(row[name]) for row in shared])
        theirs = _ranked([published[index][column] for index in indices])
        line = [name, len(shared), f"{spearman(ours, theirs):.4f}"]
        if others:
            again = [_ranked([other[index][column] for index in indices]) for other in others]
            line.append(f"{np.mean([spearman(ours, values) for values in again]):.4f}")
            line.append(f"{spearman(np.mean([ours, *again], axis=0), theirs):.4f}")
        lines.append([*line, f"{np.mean([float(row[f'{name}_s']) for row in rows]):.3f}"])
    header = ["proxy", "cells", "Spearman with published"]
    header += ["of our seeds", f"of the mean of {len(others) + 1} seeds with published"] if others else []
    total = sum(float(row[f"{name}_s"]) for row in rows for name in TIMED) / len(rows)
    return f"{markdown([*header, 'seconds a cell'], lines)}\n\nAll thirteen: {total:.3f} seconds a cell."


def _ranked(values: Sequence[float]) -> Floats:
    array = np.array(values)
    # The published tables have -1e8 for what does not exist.
    return np.where(np.isnan(array) | (array <= -1e8), -np.inf, array)


def _predict(options: argparse.Namespace) -> None:
    published = read_proxies(options.proxies)
    tables = {"published": published}
    if options.ours is not None:
        ours = read_proxies(options.ours / "rows.csv")
        tables |= {"published, the same cells": {i: published[i] for i in ours}, "ours": ours}
    lines = []
    for target in options.targets:
        truth = read_column(target)
        for name, table in tables.items():
            taus = predict(table, truth, options.train, range(options.seeds))
            lines.append([target.rpartition(":")[2], name, len(table), f"{np.mean(taus):.4f}", f"{np.std(taus):.4f}"])
    print(markdown(["target", "proxies", "cells", "Kendall's tau", "deviation over seeds"], lines))


def predict(table: Table, truth: Sequence[float], train: int, seeds: Sequence[int]) -> list[float]:
    """Return Kendall's tau-b of XGBoost on the cells that it was not trained on, one a seed."""
    import xgboost
    from scipy.stats import kendalltau

    indices = sorted(table)
    if len(indices) <= train + 1:
        raise InputError(f"{len(indices)} cells are too few to train on {train} of them and test on the rest")
    features = nan_where_missing(np.array([table[i] for i in indices]))
    targets = np.array([truth[i] for i in indices])
    taus = []
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(indices))
        seen, rest = order[:train], order[train:]
        model = xgboost.XGBRegressor(
            n_estimators=300,
            max_depth=5,
            learning_rate=0.05,
            subsample=0.8,
            colsample_bytree=0.6,
            n_jobs=1,
            random_state=seed,
        )
        model.fit(features[seen], targets[seen])
        taus.append(float(kendalltau(model.predict(features[rest]), targets[rest]).statistic))
    return taus


def nan_where_missing(proxies: Floats) -> Floats:
    """Return proxies with NaN, which trees take for missing, where they do not exist: nothing infinite, and no -1e8."""
    return np.where(np.isfinite(proxies) & (proxies > -1e8), proxies, np.nan)


def read_proxies(path: Path) -> Table:
    """Read a table of proxies with a column ``index``.

    Raises:
        InputError: the file is missing or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {int(row["index"]): [float(row[name]) for name in PROXIES] for row in csv.DictReader(file)}
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} cannot be used ({error}); expected a CSV with the columns index, {', '.join(PROXIES)}"
        ) from None


def read_column(target: str) -> list[float]:
    """Read ``TABLE.csv:COLUMN``.

    Raises:
        InputError: the file is missing or lacks the column.
    """
    path, _, column = target.rpartition(":")
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [float(row[column]) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{target!r} cannot be used ({error}); expected TABLE.csv:COLUMN") from None


if __name__ == "__main__":
    as_command(main)
