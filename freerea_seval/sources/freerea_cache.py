"""The source ``freerea-cache``: the training-free metrics that FreeREA publishes with its code (Cavagnero 2023)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from freerea_patch import InputError, Measured, TopologySpace, unknown_name
from freerea_seval.sources.registry import Context, MetricInfo, builtin_metric

_WHAT = "source 'freerea-cache'"
_SECONDS = "time=[s]"
_FILES = {"accuracy": "accuracies.csv"}
#: Parameters from this number on are counts, below it millions; every cell has more than 1000 and less than 1e9.
_COUNTS_FROM = 1_000.0


class FreereaCacheSource:
    """FreeREA's tables, with the seconds that computing each value took on the authors' GPU.

    Args:
        context: the search that it serves; its space names the data set.
        argument: the folder ``cached_metrics``, its folder ``nats``, or the data set's folder in that.

    Raises:
        InputError: the space is another one, or the folder is not there.
    """

    def __init__(self, context: Context, argument: Any) -> None:
        space = context.space
        if not isinstance(space, TopologySpace):
            raise InputError(f"{_WHAT} has the cells of nats-tss only, not of {space.name}")
        self._folder = _find_folder(context.path(argument, _WHAT), space.dataset)
        self._skip: Callable[[str], float] = space.skip
        self._rows = {genotype: i for i, genotype in enumerate(space.genotypes())}
        self._columns: dict[str, list[Measured]] = {}

    def describe(self, metric: str) -> MetricInfo:
        """Return a metric's direction and unit, and read its file.

        Raises:
            InputError: an unknown metric; its file is missing or damaged, or has no finite value.
        """
        info = builtin_metric("freerea-cache", metric)
        if metric != "skip":
            self._column(metric)
        return info

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterator[Mapping[str, Measured]]:
        """Yield the metrics of each cell.

        Raises:
            InputError: as :meth:`describe`; or a genotype is not a cell of the space.
        """
        columns = [(metric, self._column(metric)) for metric in metrics if metric != "skip"]
        for genotype in genotypes:
            index = self._rows.get(genotype)
            if index is None:
                raise InputError(f"{_WHAT}: {genotype!r} is not a cell of nats-tss")
            row = {metric: column[index] for metric, column in columns}
            if "skip" in metrics:
                row["skip"] = Measured(self._skip(genotype))
            yield row

    def _column(self, metric: str) -> list[Measured]:
        if metric not in self._columns:
            path = self._folder / _FILES.get(metric, f"{metric}.csv")
            if not path.is_file():
                names = {file: name for name, file in _FILES.items()}
                available = [names.get(p.name, p.stem) for p in self._folder.glob("*.csv")]
                raise unknown_name(f"metric of {self._folder}:", metric, [*available, "skip"])
            self._columns[metric] = _read_column(path, metric, len(self._rows))
        return self._columns[metric]


def _find_folder(path: Path, dataset: str) -> Path:
    """Return the data set's folder."""
    for folder in (path / "nats" / dataset, path / dataset):
        if folder.is_dir():
            return folder
    if path.is_dir() and path.resolve().name == dataset:
        return path
    raise InputError(
        f"{_WHAT}: {path} has no folder nats/{dataset}; expected the folder cached_metrics of FreeREA's code"
    )


def _read_column(path: Path, metric: str, count: int) -> list[Measured]:
    """Return a file's values and seconds by index."""
    import pandas as pd

    try:
        frame = pd.read_csv(path, dtype=str)  # the text is converted below, exactly
        columns = frame.columns.tolist()
        if columns[:2] != ["index", metric]:
            raise ValueError(f"expected the columns index,{metric}, got {','.join(columns)}")
        if frame["index"].tolist() != list(map(str, range(count))):
            raise ValueError(f"expected one row for each index from 0 to {count - 1}")
        values = frame[metric].astype(float)
        # The seconds of three initialisations; there are none for parameters and accuracy, which are looked up.
        seconds = frame[_SECONDS].astype(float) if _SECONDS in columns else pd.Series(0.0, frame.index)
        if not seconds.between(0, math.inf, inclusive="left").all():
            raise ValueError(f"{_SECONDS} is not a number of seconds in every row")
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        reason = " ".join(str(error).split())
        raise InputError(f"{_WHAT}: {path} cannot be used ({reason}); copy it from FreeREA's code again") from None
    finite = values[values.abs() < math.inf]
    if finite.empty:
        raise InputError(f"{_WHAT}: {path} has no finite value of {metric}; leave the metric out")
    # As the public code does (FreeREA, nas_spaces/utils.py, load_metrics): naswot is -inf for 201 cells.
    values = values.where(values.abs() < math.inf, finite.min())
    if metric == "params" and finite.min() >= _COUNTS_FROM:
        # Published in millions for CIFAR, but as a count for ImageNet16-120 (136456 where CIFAR-10 has 0.129).
        values = values / 1e6
    return [Measured(value, s) for value, s in zip(values.tolist(), seconds.tolist(), strict=True)]
