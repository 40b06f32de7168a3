"""Benchmarks of the integration experiment: true accuracies and costs of the cells of NAS-Bench-201."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pandas as pd

from experiments.published import PGD as PGD_COLUMN
from experiments.published import read_column
from freerea_patch import Direction, InputError, Measured, TopologySpace
from freerea_patch.spaces import live_operations, parse_cell
from freerea_patch.training_free import METRICS
from freerea_seval.config.presets import PRESETS
from freerea_seval.files import write_atomically
from freerea_seval.sources.freerea_cache import FreereaCacheSource
from freerea_seval.sources.hw_nas_bench import HwNasBenchSource
from freerea_seval.sources.registry import Context

Values = npt.NDArray[np.float64]
Column = Mapping[str, Measured]

#: Hardware metrics with units; HW-NAS-Bench has them for each data set.
HARDWARE = {
    "edgegpu_latency": "ms",
    "raspi4_latency": "ms",
    "pixel3_latency": "ms",
    "edgegpu_energy": "mJ",
}
#: Accuracy under attack, on CIFAR-10 only.
PGD = "pgd"
#: The reference point of hypervolumes, with the true front's ideal at 0 and its nadir at 1 (Ishibuchi 2018).
REFERENCE = 1.1


@dataclass(frozen=True)
class Benchmark:
    """The true values of the cells of a space, on one data set and one further metric.

    Attributes:
        dataset, metric, unit, direction: its name and the metric.
        genotypes: the ``n`` cells.
        accuracies: ``(n,)``, in percent.
        values: ``(n,)`` of the metric; NaN where the device does not run the cell.
    """

    dataset: str
    metric: str
    unit: str
    direction: Direction
    genotypes: tuple[str, ...]
    accuracies: Values
    values: Values

    @cached_property
    def rows(self) -> dict[str, int]:
        """The row of every cell."""
        return {genotype: row for row, genotype in enumerate(self.genotypes)}

    def bound(self, quantile: float) -> float:
        """Return the bound that holds for a fraction of all cells."""
        quantile = quantile if self.direction == "min" else 1 - quantile
        return float(np.nanquantile(self.values, quantile))

    def within(self, bound: float) -> npt.NDArray[np.bool_]:
        """Return ``(n,)`` whether the cells keep a bound."""
        return self.values <= bound if self.direction == "min" else self.values >= bound

    def best(self, bound: float) -> float:
        """Return the best accuracy within a bound."""
        return float(self.accuracies[self.within(bound)].max())

    @cached_property
    def front(self) -> npt.NDArray[np.intp]:
        """The rows of the true front of accuracy and the metric."""
        from moocore import is_nondominated

        rows = np.flatnonzero(np.isfinite(self.values))
        costs = self._costs(rows)
        return cast("npt.NDArray[np.intp]", rows[is_nondominated(costs)])

    def best_of(self, genotypes: Sequence[str]) -> list[str]:
        """Return those of some cells that no other of them dominates."""
        from moocore import is_nondominated

        rows = np.array([self.rows[genotype] for genotype in genotypes], dtype=np.intp)
        rows = rows[np.isfinite(self.values[rows])]
        return [self.genotypes[row] for row in rows[is_nondominated(self._costs(rows))]] if len(rows) else []

    def quality(self, genotypes: Sequence[str]) -> tuple[float, float]:
        """Return the quality of cells as a front, by their true values.

        Returns:
            Their hypervolume as a fraction of the true front's, and their IGD+ (Ishibuchi 2015), both with the true
            front's ideal at 0 and its nadir at 1.
        """
        from moocore import igd_plus

        truth = self._costs(self.front)
        ideal, nadir = truth.min(axis=0), truth.max(axis=0)
        spread = np.where(nadir > ideal, nadir - ideal, 1.0)
        truth = (truth - ideal) / spread
        rows = np.array([self.rows[g] for g in genotypes], dtype=np.intp)
        costs = (self._costs(rows[np.isfinite(self.values[rows])]) - ideal) / spread
        if not len(costs):
            return 0.0, math.inf
        return hypervolume_share(costs, truth), float(igd_plus(costs, ref=truth))

    def _costs(self, rows: npt.NDArray[np.intp]) -> Values:
        """Return ``(k, 2)``: both axes so that smaller is better."""
        values = self.values[rows] if self.direction == "min" else -self.values[rows]
        return cast(Values, np.column_stack([-self.accuracies[rows], values]))


def hypervolume_share(costs: Values, truth: Values) -> float:
    """Return the hypervolume of ``(n, 2)`` costs as a share of that of a front with its ideal at 0 and nadir at 1."""
    from moocore import hypervolume

    reference = np.full(2, REFERENCE)
    return float(hypervolume(costs, ref=reference) / hypervolume(truth, ref=reference))


@dataclass(frozen=True)
class Guides:
    """Values of the metrics of the preset ``guided``, computed by :mod:`experiments.training_free.guides`.

    Attributes:
        folder: of a folder for each data set. Where there is none for CIFAR-100, that of CIFAR-10 serves, because the
            networks differ in their classifier, which the metrics do not depend on but by a constant number of
            parameters.
        ratio: the seconds of all metrics of the preset, as a multiple of those of naswot and logsynflow.
    """

    folder: Path
    ratio: float

    def columns(self, dataset: str, seconds: Sequence[float]) -> dict[str, list[Measured]]:
        """Return the metrics of all cells; those without a row, or with an infinite value, have none.

        Args:
            dataset: the data set.
            seconds: of naswot and logsynflow, by cell.

        Raises:
            InputError: the rows cannot be used.
        """
        path = self.folder / dataset / "rows.csv"
        if dataset == "cifar100" and not path.exists():
            path = self.folder / "cifar10" / "rows.csv"
        terms = (str(term["metric"]) for term in PRESETS["guided"].objectives)
        names = [name for name in terms if name not in METRICS]  # skip is in the table already
        try:
            rows = pd.read_csv(path).set_index("index")[names]
        except (OSError, KeyError, ValueError) as error:
            raise InputError(f"{path} cannot be used ({error}); make it with training_free.guides compute") from None
        # Minus infinity is the value of a cell whose output does not depend on the input.
        values = rows.reindex(range(len(seconds))).replace(-math.inf, math.nan).to_numpy(float).T
        charged = [self.ratio * s for s in seconds], [0.0] * len(seconds)
        return {
            name: [Measured(v, s) for v, s in zip(column, charged[number > 0], strict=True)]
            for number, (name, column) in enumerate(zip(names, values, strict=True))
        }


def table_path(folder: Path, dataset: str) -> Path:
    """Return where the table of a data set is kept in an experiment's folder."""
    return folder / "tables" / f"{dataset}.csv"


def write_published_tables(
    folder: Path,
    datasets: Sequence[str],
    cache: Path,
    hw_nas_bench: Path,
    robustness: Path | None,
    guides: Guides | None = None,
) -> None:
    """Write the published values, one table a data set, with the seconds that FreeREA charges for its metrics.

    Args:
        folder: the experiment's folder.
        datasets: which.
        cache: folder ``cached_metrics`` of FreeREA's code.
        hw_nas_bench: file ``HW-NAS-Bench-v1_0.pickle``.
        robustness: CSV of accuracies under attack, for CIFAR-10.
        guides: values of the metrics of the preset ``guided``.

    Raises:
        InputError: a file cannot be used.
    """
    for dataset in datasets:
        if table_path(folder, dataset).exists():
            continue
        space = TopologySpace(dataset)
        genotypes = space.genotypes()
        columns: dict[str, list[Measured]] = {}
        published = FreereaCacheSource(Context(space), str(cache))
        for metric in (*METRICS, "accuracy"):
            columns[metric] = [row[metric] for row in published.evaluate(genotypes, [metric])]
        devices = HwNasBenchSource(Context(space), str(hw_nas_bench))
        for metric in HARDWARE:
            columns[metric] = [row[metric] for row in devices.evaluate(genotypes, [metric])]
        if guides is not None:
            seconds = [columns["naswot"][i].seconds + columns["logsynflow"][i].seconds for i in range(len(genotypes))]
            columns |= guides.columns(dataset, seconds)
        if robustness is not None and dataset == "cifar10":
            columns[PGD] = [Measured(float(value)) for value in read_column(robustness, PGD_COLUMN)]
        _write_table(table_path(folder, dataset), genotypes, columns)


def write_made_up_tables(folder: Path, datasets: Sequence[str]) -> None:
    """Make up values by formulas, so that the experiment can be tried without any download."""
    for number, dataset in enumerate(datasets):
        if table_path(folder, dataset).exists():
            continue
        genotypes = TopologySpace(dataset).genotypes()
        columns: dict[str, list[Measured]] = {}
        for genotype in genotypes:
            cell, live = parse_cell(genotype), live_operations(parse_cell(genotype))
            power = sum({"nor_conv_3x3": 1.0, "nor_conv_1x1": 0.6, "skip_connect": 0.3}.get(op, 0.0) for op in live)
            accuracy = 95 - 10 * number - 60 * math.exp(-power) + _noise(f"{dataset} {live}")
            cost = sum({"nor_conv_3x3": 1.0, "nor_conv_1x1": 0.7, "avg_pool_3x3": 0.5}.get(op, 0.1) for op in cell)
            row: dict[str, Measured] = {
                "naswot": Measured(700 + 20 * power + 10 * _noise(f"naswot {live}"), 0.15),
                "logsynflow": Measured(1e6 * power * (1 + 0.2 * _noise(f"logsynflow {live}")), 0.1),
                "skip": Measured(TopologySpace(dataset).skip(genotype)),
                "accuracy": Measured(accuracy),
                "independence": Measured(10 * power + 3 * _noise(f"independence {live}"), 0.03),
                "params": Measured(1e4 * (1 + cost), 0.0),
                "depth": Measured(1.0 + len(live)),
                PGD: Measured(accuracy / 2 + _noise(f"pgd {live}")),
            }
            for metric in HARDWARE:
                row[metric] = Measured(1 + cost * (1 + 0.02 * _noise(f"{metric} {genotype}")))
            for metric, measured in row.items():
                columns.setdefault(metric, []).append(measured)
        _write_table(table_path(folder, dataset), genotypes, columns)


def _noise(key: str) -> float:
    return crc32(key.encode()) / 2**32


def _write_table(path: Path, genotypes: Sequence[str], columns: Mapping[str, Sequence[Measured]]) -> None:
    table = {"genotype": list(genotypes)}
    for metric, measured in columns.items():
        table[metric] = ["" if math.isnan(m.value) else repr(float(m.value)) for m in measured]
        if any(m.seconds for m in measured):
            table[f"{metric}_seconds"] = [repr(float(m.seconds)) for m in measured]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, pd.DataFrame(table).to_csv(index=False, lineterminator="\n"))


def read_benchmark(folder: Path, dataset: str, metric: str) -> Benchmark:
    """Return a benchmark of an experiment's tables.

    Raises:
        InputError: there is no such table, or no such column in it.
    """
    path = table_path(folder, dataset)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)[["genotype", "accuracy", metric]]
        accuracies, values = (table[name].replace("", "nan").to_numpy(float) for name in ("accuracy", metric))
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} cannot be used ({error}); delete it, and the experiment makes it again") from None
    genotypes = tuple(table["genotype"])
    direction: Direction = "max" if metric == PGD else "min"
    return Benchmark(dataset, metric, HARDWARE.get(metric, "%"), direction, genotypes, accuracies, values)
