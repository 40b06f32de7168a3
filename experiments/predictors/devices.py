"""How predictors rank NAS-Bench-201 on the devices of a table, and how wrong they are on the fastest tenth.

``python -m experiments.predictors.devices --table TABLE.csv``

The table has the column ``index``, the number of a cell in NAS-Bench-201, and a column of milliseconds a device. The
networks of a draw are random, with the cheapest and the dearest of 300, by multiply-adds, among them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from experiments.predictors.benchmark import strings_of
from experiments.tables import RowJournal, as_command, experiment_parser, groups, markdown, mean_and_deviation
from freerea_patch import InputError
from freerea_seval.predictor.features.vectorizer import StringFeatures
from freerea_seval.predictor.scores import kendall_tau
from freerea_seval.predictor.seval import SEvalPredictor

MODELS = ("auto", "boosted+gp", "additive")
_SCORES = ("kendall_tau", "median_error", "median_error_of_fast", "worst_error_of_fast")
ROW = ("device", "model", "networks", "draw", *_SCORES, "train_s", "choice")
_POOL, _TESTED = 300, 1500


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment."""
    parser = experiment_parser("predictors.devices", __doc__)
    parser.add_argument("--table", type=Path, required=True, help="CSV: index, and milliseconds a device")
    parser.add_argument("--devices", nargs="+", metavar="DEVICE", help="columns; by default all")
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="auto, a model, or models joined by +")
    parser.add_argument("--networks", nargs="+", type=int, default=[40])
    parser.add_argument("--draws", type=int, default=8)
    parser.output("runs/predictors/devices")
    options = parser.parse_args(arguments)
    table = read_devices(options.table)
    for device in options.devices or []:
        if device not in table:
            raise InputError(f"{options.table} has no column {device!r}; it has {', '.join(map(str, table))}")
    journal = RowJournal(options.output, {}, ROW)
    strings = strings_of("executed")
    devices = options.devices or list(table)
    jobs = [
        (d, m, n, i) for d in devices for m in options.models for n in options.networks for i in range(options.draws)
    ]
    for device, model, networks, draw in journal.missing(ROW[:4], jobs, "trainings"):
        measured, tested = draw_rows(strings, networks, draw)
        values = table[device].to_numpy(float)
        predictor, began = SEvalPredictor(model, seed=draw), time.perf_counter()
        predictor.fit([strings[i] for i in measured], values[measured])
        seconds = time.perf_counter() - began
        row = judge(values[tested], predictor.predict([strings[i] for i in tested]))
        identity = {"device": device, "model": model, "networks": networks, "draw": draw}
        journal.append({**identity, **row, "train_s": f"{seconds:.1f}", "choice": predictor.choice_})
    print(summary(journal.frame()))


def read_devices(path: Path) -> pd.DataFrame:
    """Return milliseconds, a row for each of the 15,625 cells in their order, a column a device.

    Raises:
        InputError: the file cannot be read, or does not have one row for each cell.
    """
    try:
        table = pd.read_csv(path).set_index("index").sort_index()
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} cannot be used ({error}); expected the columns index, and one a device") from None
    if table.index.tolist() != list(range(15_625)):
        raise InputError(f"{path}: expected one row for each index from 0 to 15624, got {len(table)} rows")
    return table


def draw_rows(strings: Sequence[str], networks: int, draw: int) -> tuple[list[int], list[int]]:
    """Return the rows that are measured, and other ones to judge by."""
    order = np.random.default_rng(draw).permutation(len(strings)).tolist()
    pool = order[:_POOL]
    costs = StringFeatures().fit_transform([strings[i] for i in pool])[:, 0]  # the multiply-adds
    measured = list(dict.fromkeys([pool[int(costs.argmin())], pool[int(costs.argmax())], *pool]))[:networks]
    tested = [
        row for row in np.random.default_rng(0).permutation(len(strings))[:_TESTED].tolist() if row not in measured
    ]
    return measured, tested


def judge(values: npt.NDArray[np.float64], predicted: npt.NDArray[np.float64]) -> dict[str, str]:
    """Return Kendall's tau-b, the median relative error, and both the median and the largest of the fastest tenth."""
    errors = np.abs(predicted / values - 1)
    fast = errors[values <= np.quantile(values, 0.1)]
    numbers = (kendall_tau(values, predicted), np.median(errors), np.median(fast), fast.max())
    return {name: f"{number:.6g}" for name, number in zip(_SCORES, numbers, strict=True)}


def summary(rows: pd.DataFrame) -> str:
    """Return a Markdown table, a line a device, model and number of networks."""
    lines = [
        [device, networks, model, len(group), *(mean_and_deviation(group[name]) for name in _SCORES)]
        for (device, networks, model), group in groups(rows, device=None, networks=None, model=None)
    ]
    header = ["device", "networks", "model", "draws", "tau-b", "median error"]
    return markdown([*header, "of the fastest tenth", "worst of the fastest tenth"], lines)


if __name__ == "__main__":
    as_command(main)
