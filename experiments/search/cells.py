"""One cell of the grid: a data set and a seed, with every method, metric and bound."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from experiments.search.benchmarks import Benchmark, read_benchmark
from experiments.search.clock import clocked
from experiments.search.grid import Grid, Run, runs
from experiments.search.methods import SCORES, Method, search_config
from experiments.search.outcomes import (
    CPU_FILE,
    FinishedSearch,
    answers,
    counts,
    front_quality,
    merged,
    metric_seconds,
    next_leaders,
    ranking,
    ranking_tau,
    read_cpu_s,
    read_search,
    times,
)
from freerea_patch import History, NothingFeasible, Objective, TopologySpace
from freerea_seval.config import Config
from freerea_seval.files import write_atomically
from freerea_seval.predictor.training import Target
from freerea_seval.runs.execute import execute
from freerea_seval.runs.folder import RunFolder
from freerea_seval.sources.predicted import PredictedSource

#: The share of the budget that a step which only predicts can take.
_PREDICTING = 0.25
#: Distance between the seeds of a search's steps: with equal seeds, both would draw the same networks.
_SEED_STEP = 1_000_000


def run_cell(folder: Path, grid: Grid, dataset: str, seed: int, done: set[tuple[str, str]]) -> list[dict[str, object]]:
    """Run the searches of a cell that have no row yet, and return their rows.

    Args:
        folder: the experiment's folder, with its tables.
        grid: what is compared.
        dataset, seed: the cell.
        done: folder and quantile of the rows that are there already.
    """
    rows = []
    benchmarks = {metric: read_benchmark(folder, dataset, metric) for metric in grid.measured(dataset)}
    for run in runs(grid, dataset, seed):
        quantile = "" if run.quantile is None else f"{run.quantile:g}"
        if (f"{run.path} {run.metric}", quantile) in done:
            continue
        benchmark = benchmarks[run.metric]
        row: dict[str, object] = {
            "dataset": dataset,
            "metric": run.metric,
            "unit": benchmark.unit,
            "direction": benchmark.direction,
            "quantile": quantile,
            "method": run.method.name,
            "cells": "" if run.cells is None else run.cells,
            "seed": seed,
            "status": "ok",
            "folder": run.path,
        }
        try:
            row |= _search(folder, grid, run, benchmark, seed)
        except NothingFeasible as error:  # the search has no answer, which is a result
            row["error"] = str(error)
            if run.quantile is not None:
                row |= answers(benchmark, benchmark.bound(run.quantile), [])
        except Exception as error:  # one bad run never ends the batch
            row |= {"status": "failed", "error": " ".join(f"{type(error).__name__}: {error}".split())}
        rows.append(row)
    return rows


def _search(folder: Path, grid: Grid, run: Run, benchmark: Benchmark, seed: int) -> dict[str, object]:
    """Run one search, step by step, and return its times and quality."""
    method = run.method
    bound = None if run.quantile is None else benchmark.bound(run.quantile)
    budgets = _budgets(grid, method)
    # Steps share the budget, and with a population for all of it each would end soon after its random start.
    sizes = {"population": grid.population // method.steps, "tournament": grid.tournament // method.steps}
    folders = {"hardware": "", "accuracy": "", "scores": ""}
    prepare_s = 0.0
    measured: list[str] = []
    if run.cells is not None:
        count = run.cells - sum(method.leaders)
        rng = Random(f"{benchmark.dataset} {benchmark.metric} {seed}")
        measured = rng.sample(benchmark.genotypes, count)
        folders["hardware"] = f"predictors/{benchmark.dataset}/{benchmark.metric}-{count}-cells-{seed}"
        prepare_s = _train(folder, folders["hardware"], grid, _hardware(benchmark, measured), seed, benchmark.dataset)
    steps: list[FinishedSearch] = []
    leaders: list[str] = []
    carried_s = 0.0
    for number in range(method.steps):
        config = search_config(
            method,
            benchmark,
            seed=seed + number * _SEED_STEP,
            budget=budgets[number],
            sizes=sizes,
            bound=_searched(folder, folders["hardware"], benchmark, bound, method) if method.bounded else None,
            **folders,
        )
        if steps and method.bounded:
            carried_s += _start_from(folder, config, benchmark, steps[-1].history)
        steps.append(_run(folder, f"{run.path}/step-{number + 1}", config))
        if number < len(method.leaders):
            leaders += next_leaders(benchmark, bound, steps[-1].history, leaders, method.leaders[number])
        if number + 1 < method.steps:
            datasets = {"hardware": _hardware(benchmark, list(dict.fromkeys([*measured, *leaders])))}
            if method.trains:
                datasets["accuracy"] = _accuracy(benchmark, leaders)
            if method.trains and method.bounded:
                datasets["scores"] = _scores(steps[0].history)
            for name, data in datasets.items():
                folders[name] = f"{run.path}/{name}-{number + 1}"
                prepare_s += _train(folder, folders[name], grid, data, seed, benchmark.dataset)
    row: dict[str, object] = {"prepare_s": prepare_s, **times(steps, carried_s), **counts(steps)}
    row["tau"] = ranking_tau(method, benchmark, steps[-1].history)
    if method.is_pareto:
        return row | front_quality(benchmark, steps[-1].history, leaders, folder / run.path)
    assert bound is not None
    return row | answers(benchmark, bound, _answers_of(method, benchmark, bound, steps, leaders))


def _budgets(grid: Grid, method: Method) -> list[dict[str, Any]]:
    """Return the budget of every step: equal parts, but that a step which only predicts needs few seconds."""
    shares = [1 / method.steps] * method.steps
    if method.trains and grid.budget.evaluations is None:
        shares = [1 - _PREDICTING * (method.steps - 1)] + [_PREDICTING] * (method.steps - 1)
    budgets = [{name: value * share for name, value in grid.budget.limits.items()} for share in shares]
    for number, budget in enumerate(budgets):
        if "evaluations" in budget:
            budget["evaluations"] = max(1, round(budget["evaluations"]))
        elif method.trains and number > 0:
            budget["evaluations"] = grid.predictions
    return budgets


def _searched(folder: Path, hardware: str, benchmark: Benchmark, bound: float | None, method: Method) -> float | None:
    """Return the bound that predictions must keep, for the true value to keep it with the method's chance."""
    from freerea_seval.predictor.folder import load_predictor

    if bound is None or method.chance is None:
        return bound
    (errors,) = load_predictor(folder / hardware)[0].conformals_
    side = errors.upper if benchmark.direction == "min" else errors.lower
    return bound - float(side([0.0], method.chance)[0])


def _start_from(folder: Path, config: dict[str, Any], benchmark: Benchmark, history: History) -> float:
    """Start a step with the networks of the step before that its own predictor puts within the bound.

    Returns:
        The seconds of training-free metrics carried over from the step before, by which the budget grows. A step that
        predicts these metrics is not charged for them.
    """
    from freerea_seval.predictor.folder import load_predictor
    from freerea_seval.strings.encode import SpaceStrings

    (section,) = (section for section in config["objectives"] if section["role"] == "constraint")
    term = Objective(section["metric"], role="constraint", lower=section.get("min"), upper=section.get("max"))
    predictor, info = load_predictor(folder / section["source"]["seval"])
    strings = SpaceStrings(TopologySpace(benchmark.dataset), info.view).strings([c.genotype for c in history])
    values = predictor.predict(strings)
    kept = [c for c, value in zip(history, values, strict=True) if term.admits(float(value))]
    measures = any(o["metric"] in SCORES and "table" in o["source"] for o in config["objectives"])
    carried_s = sum(map(metric_seconds, kept)) if measures else 0.0
    config["search"]["start"] = [c.genotype for c in kept]
    more = {"metric_seconds": carried_s, "total_seconds": carried_s, "evaluations": len(kept)}
    config["budget"] = {name: value + more.get(name, 0.0) for name, value in config["budget"].items()}
    return carried_s


def _answers_of(
    method: Method, benchmark: Benchmark, bound: float, steps: Sequence[FinishedSearch], leaders: Sequence[str]
) -> list[str]:
    """Return the answers of a search under a bound, best first: by its ranking, or the leaders that keep the bound."""
    within = benchmark.within(bound)
    kept = [genotype for genotype in leaders if within[benchmark.rows[genotype]]]
    if not kept:
        return [genotype for genotype in ranking(steps[-1].history) if genotype not in leaders]
    if method.trains:
        return sorted(kept, key=lambda genotype: -benchmark.accuracies[benchmark.rows[genotype]])
    ranks = {genotype: rank for rank, genotype in enumerate(ranking(merged(steps)))}
    return sorted(kept, key=ranks.__getitem__)


def _run(folder: Path, path: str, config: Mapping[str, Any]) -> FinishedSearch:
    """Return a finished run: run or continue it if it is not finished, again if it was made from another config."""
    run_path, receipt = folder / path, folder / f"{path}.json"
    sources = [section["source"] for section in config["objectives"]]
    learned = [
        json.loads((folder / f"{source['seval']}.json").read_text())["learned"]
        for source in sources
        if "seval" in source
    ]
    identity = json.dumps([config, *learned], sort_keys=True) + "\n"
    if run_path.exists() and (not receipt.exists() or receipt.read_text() != identity):
        shutil.rmtree(run_path)
    if not (run_path / "config.yaml").exists():
        receipt.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(receipt, identity)
        RunFolder.create(run_path, Config.model_validate(config), folder)
    run = RunFolder.open(run_path)
    if any(run.result(seed) is None for seed in run.config.search.seeds):
        with clocked(PredictedSource, "evaluate") as clock:
            execute(run)
        cpu_s = read_cpu_s(run_path) + clock.cpu_s  # an interrupted run has a part of it already
        write_atomically(run_path / CPU_FILE, json.dumps({"predictor_cpu_s": cpu_s}) + "\n")
    return read_search(run_path)


class _TrainingData(NamedTuple):
    """Training data of a predictor: networks, their values ``(n,)`` or ``(n, m)``, and the metrics."""

    genotypes: Sequence[str]
    values: npt.NDArray[np.float64]
    targets: Sequence[Target]


def _hardware(benchmark: Benchmark, genotypes: Sequence[str]) -> _TrainingData:
    values = benchmark.values[[benchmark.rows[genotype] for genotype in genotypes]]
    target = Target(benchmark.metric, benchmark.unit, benchmark.direction)
    return _TrainingData(genotypes, np.where(np.isnan(values), np.inf, values), [target])


def _accuracy(benchmark: Benchmark, genotypes: Sequence[str]) -> _TrainingData:
    values = benchmark.accuracies[[benchmark.rows[genotype] for genotype in genotypes]]
    return _TrainingData(genotypes, values, [Target("accuracy", "%", "max")])


def _scores(history: History) -> _TrainingData:
    values = np.array([[candidate.values[score] for score in SCORES] for candidate in history])
    return _TrainingData([c.genotype for c in history], values, [Target(score, "", "max") for score in SCORES])


def _train(folder: Path, path: str, grid: Grid, data: _TrainingData, seed: int, dataset: str) -> float:
    """Train a predictor unless its folder exists, and return the seconds of the training."""
    from freerea_seval.predictor.folder import save_predictor
    from freerea_seval.predictor.training import train_predictor
    from freerea_seval.strings.encode import SpaceStrings
    from freerea_seval.strings.views import default_view

    space, view = TopologySpace(dataset), default_view(data.targets[0].name)
    receipt = folder / f"{path}.json"
    identity = repr((grid.model, view, seed, data.targets, list(data.genotypes), data.values.tolist()))
    learned = sha256(identity.encode()).hexdigest()
    if receipt.exists() and (record := json.loads(receipt.read_text()))["learned"] == learned:
        return float(record["seconds"])
    began = time.perf_counter()
    predictor, info = train_predictor(
        SpaceStrings(space, view).strings(data.genotypes),
        data.values,
        data.targets,
        space_name=space.name,
        view=view,
        model=grid.model,
        seed=seed,
    )
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    save_predictor(folder / path, predictor, info, overwrite=True)
    seconds = time.perf_counter() - began
    write_atomically(receipt, json.dumps({"seconds": seconds, "learned": learned}) + "\n")
    return seconds
