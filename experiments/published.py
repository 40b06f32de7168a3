"""Published values of networks, each table read in one place."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from freerea_patch import Direction, InputError, TopologySpace
from freerea_patch.spaces import DATASETS
from freerea_seval.proxies import PROXIES
from freerea_seval.sources.freerea_cache import FreereaCacheSource
from freerea_seval.sources.hw_nas_bench import HwNasBenchSource
from freerea_seval.sources.registry import Context

Values = npt.NDArray[np.float64]

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
    values: Values
    direction: Direction


def read_targets(cache: Path, hw_nas_bench: Path | None, robustness: Path | None) -> dict[str, Target]:
    """Return the published values of NAS-Bench-201 by name, from the files that are given.

    Args:
        cache: folder ``cached_metrics`` of FreeREA's code, for accuracies.
        hw_nas_bench: file ``HW-NAS-Bench-v1_0.pickle``.
        robustness: CSV with a column ``pgd@Linf_eps-1.0``, a row a cell in order.

    Raises:
        InputError: a file cannot be used.
    """
    targets = {dataset: Target(dataset, read_accuracies(cache, dataset), "max") for dataset in DATASETS}
    if robustness is not None:
        targets["pgd"] = Target("pgd", read_column(robustness, PGD), "max")
    return targets | (read_devices(hw_nas_bench) if hw_nas_bench is not None else {})


def read_accuracies(cache: Path, dataset: str) -> Values:
    """Return the accuracies of all cells on a data set, in percent."""
    space = TopologySpace(dataset)
    rows = FreereaCacheSource(Context(space), str(cache)).evaluate(space.genotypes(), ["accuracy"])
    return np.array([row["accuracy"].value for row in rows])


def read_devices(hw_nas_bench: Path, dataset: str = "cifar10") -> dict[str, Target]:
    """Return the published values of devices, by name, of the cells' networks for a data set.

    Raises:
        InputError: the file cannot be used.
    """
    space = TopologySpace(dataset)
    rows = list(HwNasBenchSource(Context(space), str(hw_nas_bench)).evaluate(space.genotypes(), DEVICES))
    values = {device: np.array([row[device].value for row in rows]) for device in DEVICES}
    return {d: Target(d, np.where(np.isnan(column), np.inf, column), "min") for d, column in values.items()}


def read_metric(cache: Path, metric: str) -> Values:
    """Return a training-free metric as FreeREA published it for CIFAR-10, minus infinity included.

    Raises:
        InputError: the file is missing or of another form.
    """
    return read_column(cache / "nats" / "cifar10" / f"{metric}.csv", metric)


def read_proxies(path: Path) -> dict[int, list[float]]:
    """Return zero-cost proxies by the index of the cell, in the order of PROXIES.

    Raises:
        InputError: the file is missing or lacks a column.
    """
    table = _read(path, ["index", *PROXIES])
    return dict(zip(table["index"].astype(int).tolist(), table[list(PROXIES)].to_numpy(float).tolist(), strict=True))


def read_column(path: Path, column: str) -> Values:
    """Return a column of numbers of a CSV file.

    Raises:
        InputError: the file is missing or lacks the column.
    """
    return _read(path, [column])[column].to_numpy(float)


def nan_where_missing(proxies: Values) -> Values:
    """Return proxies with NaN, which trees take for missing, where a value is infinite or the placeholder -1e8."""
    return np.where(np.isfinite(proxies) & (proxies > -1e8), proxies, np.nan)


def _read(path: Path, columns: Iterable[str]) -> pd.DataFrame:
    columns = list(columns)
    try:
        return pd.read_csv(path, usecols=columns, dtype=str, keep_default_na=False).astype(float)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path} cannot be used ({reason}); expected a CSV with the columns {', '.join(columns)}"
        ) from None
