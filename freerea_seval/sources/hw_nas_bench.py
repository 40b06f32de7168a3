"""The source ``hw-nas-bench``: HW-NAS-Bench's latency and energy on six devices (Li 2021)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from freerea_patch import UNSUPPORTED, InputError, Measured, TopologySpace, unknown_name
from freerea_seval.sources.registry import BUILTIN, Context, MetricInfo, builtin_metric
from freerea_seval.unpickle import load_pickle

_WHAT = "source 'hw-nas-bench'"
#: What the file holds where the device cannot run the network.
_CANNOT_RUN = -1


class HwNasBenchSource:
    """HW-NAS-Bench's numbers for the cells of the topology space. Looking them up charges no seconds.

    Args:
        context: the search that it serves; its space names the data set.
        argument: path of ``HW-NAS-Bench-v1_0.pickle``.

    Raises:
        InputError: the space is another one, or the file is missing or not of that layout.
    """

    def __init__(self, context: Context, argument: Any) -> None:
        if not isinstance(context.space, TopologySpace):
            raise InputError(f"{_WHAT} has the cells of nats-tss only, not of {context.space.name}")
        path = context.path(argument, _WHAT)
        genotypes = context.space.genotypes()
        table = _table(load_pickle(path, {}, _WHAT), path, context.space.dataset, genotypes)
        self._path = path
        self._rows = {genotype: i for i, genotype in enumerate(genotypes)}
        self._columns = {metric: [_measured(v) for v in values] for metric, values in table.items()}

    def describe(self, metric: str) -> MetricInfo:
        """Return a metric's direction, unit and device.

        Raises:
            InputError: an unknown metric, or one that the file does not have.
        """
        info = builtin_metric("hw-nas-bench", metric)
        if metric not in self._columns:
            raise unknown_name(f"metric of {self._path}:", metric, self._columns)
        return info

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> list[dict[str, Measured]]:
        """Return the numbers of each cell; :data:`UNSUPPORTED` where the device cannot run it.

        Raises:
            InputError: a genotype is not a cell of the space.
        """
        for genotype in genotypes:
            if genotype not in self._rows:
                raise InputError(f"{_WHAT}: {genotype!r} is not a cell of nats-tss")
        return [{m: self._columns[m][self._rows[genotype]] for m in metrics} for genotype in genotypes]


def _table(content: Any, path: Path, dataset: str, genotypes: Sequence[str]) -> Mapping[str, list[float]]:
    """Return the columns of a data set, checked."""
    try:
        table = content["nasbench201"][dataset]
        columns = {info.name: table[info.name] for info in BUILTIN["hw-nas-bench"].metrics if info.name in table}
        configs = [config["arch_str"] for config in table.get("config", ())]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{_WHAT}: {path} is not HW-NAS-Bench-v1_0.pickle: expected nasbench201 / {dataset} / METRIC,"
            f" got {type(error).__name__}: {error}"
        ) from None
    if configs and configs != list(genotypes):
        raise InputError(f"{_WHAT}: {path} numbers its cells in another order than NATS-Bench; download it again")
    for metric, values in columns.items():
        if not isinstance(values, list) or len(values) != len(genotypes):
            got = f"{len(values)}" if isinstance(values, list) else f"a {type(values).__name__}"
            raise InputError(f"{_WHAT}: {path}: expected {len(genotypes)} values of {metric}, got {got}")
        if not all(isinstance(v, (int, float)) and math.isfinite(v) for v in values):
            raise InputError(f"{_WHAT}: {path}: a value of {metric} is not a finite number; download it again")
    return columns


def _measured(value: float) -> Measured:
    return Measured(UNSUPPORTED if value == _CANNOT_RUN else float(value))
