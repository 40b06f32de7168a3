"""The grid of the integration experiment: methods, benchmarks and seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from experiments.search.benchmarks import HARDWARE, PGD, read_benchmark
from experiments.search.methods import ABLATION, GUIDED, METHODS, OTHER_ENGINES, STARTS, Method
from experiments.search.outcomes import write_points
from freerea_patch import Budget, InputError
from freerea_seval.predictor.seval import FEWEST

Fraction = Annotated[float, Field(gt=0, le=1)]
_METHODS = {method.name: method for method in (*METHODS, *ABLATION, *OTHER_ENGINES, *GUIDED)}


class Grid(BaseModel):
    """Methods, benchmarks and seeds to compare.

    Attributes:
        datasets, metrics, quantiles: the benchmarks, and the fractions of all cells that keep a bound.
        methods: names of :mod:`experiments.search.methods`.
        cells: how many measured networks the predictors of hardware learn from; see :meth:`learned_from`.
        seeds: how many.
        budget: of a search; one of several steps has its share.
        predictions: how many networks a search explores that trains some, and then needs nothing but predictions.
        population, tournament: of every algorithm that has them; the parts of a search in rounds share them.
        model: of the predictors.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    datasets: list[Literal["cifar10", "cifar100", "ImageNet16-120"]] = ["cifar10", "cifar100", "ImageNet16-120"]
    metrics: list[str] = [*HARDWARE, PGD]
    quantiles: list[Fraction] = [0.1, 0.25, 0.5]
    methods: list[str] = [method.name for method in METHODS]
    cells: Annotated[list[Annotated[int, Field(ge=FEWEST)]], Field(min_length=1)] = [100]
    seeds: Annotated[int, Field(gt=0)] = 10
    budget: Budget = Budget(metric_seconds=45.0)
    predictions: Annotated[int, Field(gt=0)] = 600
    population: int = 100
    tournament: int = 25
    model: str = "auto"

    @field_validator("datasets", "metrics", "quantiles", "methods", "cells")
    @classmethod
    def _unique(cls, values: list[Any]) -> list[Any]:
        for value in values:
            if values.count(value) > 1:
                raise ValueError(f"{value!r} is listed {values.count(value)} times")
        return values

    @field_validator("metrics")
    @classmethod
    def _valid(cls, metrics: list[str]) -> list[str]:
        valid = [*HARDWARE, PGD]
        for metric in metrics:
            if metric not in valid:
                raise ValueError(f"unknown metric {metric!r}; valid metrics: {', '.join(valid)}")
        return metrics

    def chosen(self) -> list[Method]:
        """Return the methods.

        Raises:
            InputError: there is none of a name, or ``cells`` are too few to start one that measures in rounds.
        """
        for name in self.methods:
            if name not in _METHODS:
                raise InputError(f"unknown method {name!r}; valid methods: {', '.join(_METHODS)}")
        methods = [_METHODS[name] for name in self.methods]
        for method in methods:
            if method.rounds and round(min(self.cells) * STARTS) < FEWEST:
                raise InputError(
                    f"method {method.name!r} starts with {STARTS:.0%} of 'cells', and its first predictor learns from"
                    f" {FEWEST} cells at least: 'cells' must be {math.ceil(FEWEST / STARTS)} or more, got"
                    f" {min(self.cells)}"
                )
        return methods

    def learned_from(self, method: Method) -> Sequence[int | None]:
        """Return the numbers of cells that a method's predictors learn from.

        Whoever chooses what to measure does so to measure little: in rounds, it is the smallest number only.
        """
        if method.hardware != "seval":
            return [None]
        return [min(self.cells)] if method.rounds else self.cells

    def measured(self, dataset: str) -> list[str]:
        """Return the metrics that a data set has; accuracy under attack is known on CIFAR-10 only."""
        return [metric for metric in self.metrics if metric != PGD or dataset == "cifar10"]


@dataclass(frozen=True)
class Run:
    """One search of the grid.

    Attributes:
        method, cells, quantile: how to search; ``cells`` and ``quantile`` are None for a method without them.
        metric: the hardware metric.
        path: of its folder, in the experiment's.
    """

    method: Method
    metric: str
    cells: int | None
    quantile: float | None
    path: str


def runs(grid: Grid, dataset: str, seed: int) -> Iterator[Run]:
    """Yield the searches of a cell of the grid; one that knows no hardware metric has one folder for all of them."""
    for metric in grid.measured(dataset):
        for method in grid.chosen():
            for cells in grid.learned_from(method):
                for quantile in [None] if method.is_pareto else grid.quantiles:
                    parts = [dataset, metric if method.hardware else "any", method.name]
                    parts += [f"{cells}-cells"] * (cells is not None)
                    parts += [f"within-{quantile:g}"] if method.bounded else []
                    yield Run(method, metric, cells, quantile, "/".join(["runs", *parts, f"seed-{seed}"]))


def write_true_fronts(folder: Path, grid: Grid) -> None:
    """Write the true front of every benchmark as CSV."""
    for dataset in grid.datasets:
        for metric in grid.measured(dataset):
            benchmark = read_benchmark(folder, dataset, metric)
            genotypes = [benchmark.genotypes[row] for row in benchmark.front]
            write_points(folder / "true-fronts" / f"{dataset}-{metric}.csv", benchmark, genotypes)
