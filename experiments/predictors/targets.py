"""The published values of NAS-Bench-201's cells that predictors are judged by."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau

from freerea_patch import Direction, InputError, TopologySpace
from freerea_patch.spaces import DATASETS
from freerea_seval.sources.freerea_cache import FreereaCacheSource
from freerea_seval.sources.hw_nas_bench import HwNasBenchSource
from freerea_seval.sources.registry import Context

DEVICES = (
    "edgegpu_latency",
    "raspi4_latency",
    "pixel3_latency",
    "edgetpu_latency",
    "eyeriss_latency",
    "fpga_latency",
    "edgegpu_energy",
)
PGD = "pgd@Linf_eps-1.0"
#: Names of targets, in the order of reports.
TARGETS = (*DATASETS, "pgd", *DEVICES)


class Target(NamedTuple):
    """A metric of all cells, ``(15625,)`` in NATS-Bench's order: +inf where the device does not run the cell."""

    name: str
    values: npt.NDArray[np.float64]
    direction: Direction


def add_tables(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the files of :func:`read_targets`."""
    parser.add_argument("--cache", type=Path, required=True, help="folder cached_metrics of FreeREA's code")
    parser.add_argument("--hw-nas-bench", type=Path, help="file HW-NAS-Bench-v1_0.pickle, for devices")
    parser.add_argument("--robustness", type=Path, help=f"CSV with a column {PGD}, a row a cell by index")


def tau(values: npt.NDArray[np.float64], predicted: npt.NDArray[np.float64]) -> float:
    """Return Kendall's tau-b of ``(n,)`` values and predictions."""
    return float(kendalltau(values, predicted, variant="b").statistic)


def read_targets(cache: Path, hw_nas_bench: Path | None, robustness: Path | None) -> dict[str, Target]:
    """Return published values by name, as far as their files are given.

    Args:
        cache: folder ``cached_metrics`` of FreeREA's code, for accuracies.
        hw_nas_bench: file ``HW-NAS-Bench-v1_0.pickle``.
        robustness: CSV with a column ``pgd@Linf_eps-1.0``, a row a cell in order.

    Raises:
        InputError: a file cannot be used.
    """
    targets = {}
    for dataset in DATASETS:
        space = TopologySpace(dataset)
        rows = FreereaCacheSource(Context(space), str(cache)).evaluate(space.genotypes(), ["accuracy"])
        targets[dataset] = Target(dataset, np.array([row["accuracy"].value for row in rows]), "max")
    if robustness is not None:
        try:
            with robustness.open(newline="", encoding="utf-8") as file:
                values = np.array([float(row[PGD]) for row in csv.DictReader(file)])
        except (OSError, KeyError, ValueError) as error:
            raise InputError(f"{robustness} cannot be used ({error}); expected a CSV with a column {PGD}") from None
        targets["pgd"] = Target("pgd", values, "max")
    if hw_nas_bench is not None:
        targets |= read_devices(hw_nas_bench)
    return targets


def read_devices(hw_nas_bench: Path, dataset: str = "cifar10") -> dict[str, Target]:
    """Return the published values of devices, by name, of the cells' networks for a data set.

    Raises:
        InputError: the file cannot be used.
    """
    space = TopologySpace(dataset)
    table = list(HwNasBenchSource(Context(space), str(hw_nas_bench)).evaluate(space.genotypes(), DEVICES))
    values = {device: np.array([row[device].value for row in table]) for device in DEVICES}
    return {d: Target(d, np.where(np.isnan(column), np.inf, column), "min") for d, column in values.items()}
