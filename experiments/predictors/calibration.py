"""How well a predictor of many devices is calibrated to a new one with ten measurements: HELP's protocol.

``python -m experiments.predictors.calibration --table TABLE.csv [--split help|validation|nasflat-5|energy]``

The table has the column ``index``, the number of a cell in NAS-Bench-201, and a column of costs a device. The
base predictor learns 900 cells of each training device (Lee 2021); with ``--split validation``, each training device of
HELP is held out in turn, which is what models and their constants were selected by. The measured cells of a new device
are random, or planned (:func:`freerea_seval.predictor.active_learning.most_informative`); scores are of other cells.

References:
    Lee 2021: Lee, Lee, Chong, Hwang, HELP: Hardware-Adaptive Efficient Latency Prediction for NAS via Meta-Learning.
    Akhauri 2024: Akhauri, Abdelfattah, On Latency Predictors for Neural Architecture Search; the split ``nasflat-5``,
        as far as the table has its devices.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from experiments.predictors.benchmark import strings_of
from experiments.predictors.devices import read_devices
from experiments.tables import RowJournal, as_command, experiment_parser, groups, markdown
from freerea_patch import InputError
from freerea_seval.predictor.active_learning import most_informative
from freerea_seval.predictor.features.segment_features import TOTALS
from freerea_seval.predictor.features.vectorizer import StringFeatures
from freerea_seval.predictor.folder import load_predictor
from freerea_seval.predictor.scores import spearman
from freerea_seval.predictor.seval import SEvalPredictor
from freerea_seval.predictor.transfer import SHIPPED

_HELP = (
    "1080ti_1", "1080ti_32", "1080ti_256", "silver_4114", "silver_4210r", "samsung_a50", "pixel3", "essential_ph_1",
    "samsung_s7",
)  # fmt: skip
_NASFLAT_5 = (
    "titan_rtx_1", "titan_rtx_32", "titanx_1", "1080ti_1", "titanx_32", "1080ti_32", "gold_6226", "samsung_s7",
    "silver_4114", "gold_6240", "silver_4210r", "samsung_a50", "pixel2",
)  # fmt: skip
#: Training and test devices, by the name of the split.
SPLITS = {
    "help": (_HELP, ("titan_rtx_256", "gold_6226", "fpga", "pixel2", "raspi4", "eyeriss")),
    "nasflat-5": (_NASFLAT_5, ("eyeriss",)),
    "validation": (_HELP, _HELP),
    "energy": ((), ("edgegpu_energy", "eyeriss_energy", "fpga_energy")),  # of HW-NAS-Bench, in millijoules
}
#: ``calibrated``: with the base predictor, from random cells; ``planned``: from chosen ones; ``elsewhere``: from random
#: cells that no training device has measured. ``alone``, ``planned-alone``: the same model without a base predictor;
#: ``shipped``, ``planned-shipped``: with the base predictor that comes with the package; ``auto``: the default of
#: ``train``, without a base predictor. These know the true latencies of the training devices for all cells: ``nearest``
#: takes the device whose latencies correlate best over the measured cells, ``components`` a ridge regression on their
#: principal components. ``multiply-adds`` needs no measurement.
WAYS = (
    "calibrated", "planned", "elsewhere", "shipped", "planned-shipped", "alone", "planned-alone", "auto",
    "nearest", "components", "multiply-adds",
)  # fmt: skip
_RANKINGS = {"nearest", "components", "multiply-adds"}
_NEED_TRAINING = {"calibrated", "planned", "elsewhere", "nearest", "components"}
_BASE_NETWORKS, _POOL, _TESTED = 900, 400, 1500
ROW = (
    "split", "device", "way", "networks", "draw", "spearman", "median_error", "coverage", "coverage_of_fast", "train_s"
)  # fmt: skip
Rows = npt.NDArray[np.int64]


class RememberingBase(SEvalPredictor):
    """A base predictor that predicts each cell once.

    Args:
        fitted: the base predictor.
        strings: of all cells.
    """

    def __init__(self, fitted: SEvalPredictor, strings: Sequence[str]) -> None:
        self.__dict__.update(fitted.__dict__)
        self._remembered = dict(zip(strings, super()._values(strings, None), strict=True))

    def _values(self, strings: Sequence[str], proxies: npt.ArrayLike | None) -> npt.NDArray[np.float64]:
        return np.array([self._remembered[string] for string in strings])


class Devices(NamedTuple):
    """Costs of all cells on each device, and their strings."""

    table: pd.DataFrame
    strings: Sequence[str]

    def pick(self, rows: Rows) -> list[str]:
        """Return the strings of rows."""
        return [self.strings[row] for row in rows.tolist()]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment."""
    parser = experiment_parser("predictors.calibration", __doc__)
    parser.add_argument("--table", required=True, help="CSV: index, and milliseconds a device")
    parser.add_argument("--split", choices=list(SPLITS), default="help")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--networks", nargs="+", type=int, default=[10, 20, 50])
    parser.add_argument("--draws", type=int, default=20)
    parser.output("runs/predictors/calibration")
    options = parser.parse_args(arguments)
    devices = Devices(read_devices(options.table), strings_of("executed"))
    training, test = SPLITS[options.split]
    if missing := set(training + test) - set(devices.table):
        raise InputError(f"{options.table} lacks the devices {', '.join(sorted(missing))} of split {options.split!r}")
    if not training and (learning := sorted(set(options.ways) & _NEED_TRAINING)):
        raise InputError(
            f"split {options.split!r} has no training devices for {', '.join(learning)}; leave these ways out"
        )
    journal = RowJournal(options.output, {}, ROW)

    @cache
    def base_of(device: str) -> SEvalPredictor:
        return train_base(devices, [other for other in training if other != device])

    @cache
    def shipped_base() -> SEvalPredictor:
        return RememberingBase(load_predictor(SHIPPED)[0], devices.strings)

    def bases_of(device: str, way: str) -> list[SEvalPredictor]:
        if "alone" in way or way == "auto":
            return []
        return [shipped_base() if "shipped" in way else base_of(device)]

    jobs = [
        (options.split, device, way, networks, draw)
        for device in test
        for way in options.ways
        for networks in options.networks
        for draw in range(options.draws)
    ]
    for split, device, way, networks, draw in journal.missing(ROW[:5], jobs, "calibrations"):
        if way in _RANKINGS:
            row = judge_ranking(devices, device, [other for other in training if other != device], way, networks, draw)
        else:
            row = judge(devices, device, bases_of(device, way), way, networks, draw)
        journal.append({"split": split, "device": device, "way": way, "networks": networks, "draw": draw, **row})
    print(summary(journal.frame()))


def train_base(devices: Devices, names: Sequence[str]) -> SEvalPredictor:
    """Return a predictor of all training devices from 900 cells."""
    rows = np.random.default_rng(0).permutation(len(devices.strings))[:_BASE_NETWORKS]
    values = devices.table[list(names)].to_numpy(float)
    return RememberingBase(SEvalPredictor("gp", "log").fit(devices.pick(rows), values[rows]), devices.strings)


def judge(
    devices: Devices, device: str, bases: Sequence[SEvalPredictor], way: str, networks: int, draw: int
) -> dict[str, str]:
    """Calibrate a predictor to a device with some measurements, and score it on other cells."""
    values, rng = devices.table[device].to_numpy(float), np.random.default_rng(draw)
    order = rng.permutation(len(values))
    if way == "elsewhere":  # no training device has measured these networks
        of_base = np.random.default_rng(0).permutation(len(values))[:_BASE_NETWORKS]
        order = order[~np.isin(order, of_base)]
    measured, tested = order[:networks], order[-_TESTED:]
    if "planned" in way:
        pool = order[:_POOL]
        measured = pool[most_informative(devices.pick(pool), networks, base=bases)]
    began = time.perf_counter()
    predictor = SEvalPredictor("auto" if way == "auto" else "calibrated", seed=draw)
    predictor.fit(devices.pick(measured), values[measured], base=bases)
    seconds = time.perf_counter() - began
    predicted, low, high = predictor.predict(devices.pick(tested), interval=0.9)
    true = values[tested]
    covered, fast = (low <= true) & (true <= high), true <= np.quantile(true, 0.1)
    error = np.median(np.abs(predicted / true - 1))
    numbers = (spearman(true, predicted), error, covered.mean(), covered[fast].mean(), seconds)
    return {name: f"{number:.6g}" for name, number in zip(ROW[5:], numbers, strict=True)}


def judge_ranking(
    devices: Devices, device: str, training: Sequence[str], way: str, networks: int, draw: int
) -> dict[str, str]:
    """Score what ranks cells without a predictor."""
    order = np.random.default_rng(draw).permutation(len(devices.strings))
    measured, tested = order[:networks], order[-_TESTED:]
    table = devices.table
    if way == "nearest":
        name = max(training, key=lambda other: spearman(table[other].iloc[measured], table[device].iloc[measured]))
        ranking = table[name].to_numpy(float)[tested]
    elif way == "components":
        known = make_pipeline(StandardScaler(), PCA()).fit_transform(np.log(table[list(training)]))
        ridge = RidgeCV(np.logspace(-3, 3, 13)).fit(known[measured], np.log(table[device].iloc[measured]))
        ranking = ridge.predict(known[tested])
    else:
        ranking = StringFeatures().fit_transform(devices.pick(tested))[:, TOTALS.index("total multiply-adds")]
    return {name: "" for name in ROW[5:]} | {"spearman": f"{spearman(table[device].iloc[tested], ranking):.6g}"}


def summary(rows: pd.DataFrame) -> str:
    """Return a Markdown table, a line a way and number of networks: the mean over devices, then each device."""
    lines: list[list[object]] = []
    for (split, way, networks), group in groups(rows, split=None, way=None, networks=None):
        means = [f"{group[name].mean():.3f}" for name in ROW[5:9]]
        devices = groups(group, device=None)
        each = ", ".join(f"{device} {part['spearman'].mean():.3f}" for (device,), part in devices)
        worst = group.sort_values("spearman").iloc[0]
        lines.append([split, way, networks, *means, f"{worst['spearman']:.3f} ({worst['device']})", each])
    header = ["split", "way", "cells", "Spearman", "median error", "coverage of 90 %", "of the fastest tenth"]
    return markdown([*header, "worst draw", "by device"], lines)


if __name__ == "__main__":
    as_command(main)
