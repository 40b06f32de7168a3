"""One cell of the grid: a data set and a seed, with every method, metric and bound."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from experiments.search.benchmarks import Benchmark, read_benchmark
from experiments.search.clock import clocked
from experiments.search.grid import Grid, Run, runs
from experiments.search.methods import search_config
from experiments.search.outcomes import (
    CPU_FILE,
    FinishedSearch,
    answers,
    counts,
    front_quality,
    ranking,
    ranking_tau,
    read_cpu_s,
    read_search,
    times,
)
from freerea_patch import NothingFeasible, TopologySpace
from freerea_seval.config import Config
from freerea_seval.files import write_atomically
from freerea_seval.predictor.training import Target
from freerea_seval.runs.execute import execute
from freerea_seval.runs.folder import RunFolder
from freerea_seval.sources.predicted import PredictedSource


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
    """Run one search, and return its times and quality."""
    method = run.method
    bound = None if run.quantile is None else benchmark.bound(run.quantile)
    hardware, prepare_s = "", 0.0
    if run.cells is not None and not method.rounds:
        rng = Random(f"{benchmark.dataset} {benchmark.metric} {seed}")
        hardware = f"predictors/{benchmark.dataset}/{benchmark.metric}-{run.cells}-cells-{seed}"
        measured = rng.sample(benchmark.genotypes, run.cells)
        prepare_s = _train(folder, hardware, grid, benchmark, measured, seed)
    budget: dict[str, Any] = dict(grid.budget.limits)
    if method.trains:
        budget.setdefault("evaluations", grid.predictions)
    # The parts of a search share the budget, and with a population for all of it each would end soon after its start.
    parts = method.rounds or 1
    config = search_config(
        method,
        benchmark,
        seed=seed,
        budget=budget,
        sizes={"population": max(2, grid.population // parts), "tournament": max(2, grid.tournament // parts)},
        bound=bound if method.bounded else None,
        hardware=hardware,
        cells=run.cells or 0,
    )
    search = _run(folder, run.path, config)
    row: dict[str, object] = {"prepare_s": prepare_s, **times(search), **counts(search)}
    row["tau"] = ranking_tau(method, benchmark, search.history)
    if method.is_pareto:
        return row | front_quality(benchmark, search.history, folder / run.path)
    assert bound is not None
    return row | answers(benchmark, bound, ranking(search))


def _run(folder: Path, path: str, config: Mapping[str, Any]) -> FinishedSearch:
    """Return a finished run: run or continue it if it is not finished, again if it was made from another config."""
    run_path, receipt = folder / path, folder / f"{path}.json"
    predictors = [section["source"].get("seval") for section in config["objectives"]]
    learned = [
        json.loads((folder / f"{predictor}.json").read_text())["learned"]
        for predictor in predictors
        if isinstance(predictor, str)
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


def _train(folder: Path, path: str, grid: Grid, benchmark: Benchmark, genotypes: Sequence[str], seed: int) -> float:
    """Train a predictor of the hardware metric unless its folder exists, and return the seconds of the training."""
    from freerea_seval.predictor.folder import save_predictor
    from freerea_seval.predictor.training import train_predictor
    from freerea_seval.strings.encode import shared_strings
    from freerea_seval.strings.views import default_view

    space, view = TopologySpace(benchmark.dataset), default_view(benchmark.metric)
    values = benchmark.values[[benchmark.rows[genotype] for genotype in genotypes]]
    values = np.where(np.isnan(values), np.inf, values)
    targets = [Target(benchmark.metric, benchmark.unit, benchmark.direction)]
    receipt = folder / f"{path}.json"
    identity = repr((grid.model, view, seed, targets, list(genotypes), values.tolist()))
    learned = sha256(identity.encode()).hexdigest()
    if receipt.exists() and (record := json.loads(receipt.read_text()))["learned"] == learned:
        return float(record["seconds"])
    began = time.perf_counter()
    predictor, info = train_predictor(
        shared_strings(space, view).strings(genotypes),
        values,
        targets,
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
