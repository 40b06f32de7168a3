"""Searches with and without the plugin: methods, benchmarks and seeds, each a run folder, on published tables.

``python -m experiments.search.integration GRID.yaml --cache cached_metrics --hw-nas-bench FILE [--robustness T.csv]``;
or, on made-up tables and in a minute, ``python -m experiments.search.integration --smoke``
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import yaml
from pydantic import ValidationError

from experiments.search.benchmarks import PGD, Guides, write_made_up_tables, write_published_tables
from experiments.search.cells import run_cell
from experiments.search.grid import Grid, write_true_fronts
from experiments.tables import RowJournal, as_command, experiment_parser
from freerea_patch import InputError
from freerea_seval.config.mistakes import describe
from freerea_seval.progress import terminal_progress
from freerea_seval.runs.workers import ProcessExecutor

COLUMNS = (
    *("dataset", "metric", "unit", "direction", "quantile", "bound", "method", "cells", "seed", "status", "error"),
    *("accuracy", "best_accuracy", "regret", "violated", "remeasured_accuracy", "remeasured_regret", "remeasured"),
    *("tau", "hypervolume", "igd_plus", "front"),
    *("metric_s", "predictor_s", "predictor_cpu_s", "loop_s", "prepare_s", "explored", "drawn", "folder"),
)
GRIDS = Path(__file__).parent / "grids"
#: A data set and a seed.
Cell = tuple[str, int]
Rows = list[dict[str, object]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the searches of a grid that have no row yet."""
    parser = experiment_parser("search.integration", __doc__)
    parser.add_argument("grid", type=Path, nargs="?", help="what to compare; by default grids/full.yaml")
    parser.shared("--cache", "--hw-nas-bench", "--robustness", "--guides", "--guides-ratio")
    parser.add_argument("--smoke", action="store_true", help="a small grid on made-up tables")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("-o", "--output", type=Path, help="by default runs/integration-GRID")
    options = parser.parse_args(arguments)
    path = options.grid or GRIDS / ("smoke.yaml" if options.smoke else "full.yaml")
    grid, folder = read_grid(path), options.output or Path("runs") / f"integration-{path.stem}"
    if options.jobs < 1:
        raise InputError(f"--jobs must be at least 1, got {options.jobs}")
    if not options.smoke and (options.cache is None or options.hw_nas_bench is None):
        raise InputError("a grid needs --cache and --hw-nas-bench, the published tables; or try --smoke")
    needs = not options.smoke and any(method.preset == "guided" for method in grid.chosen())
    if needs and (options.guides is None or options.guides_ratio is None):
        raise InputError("a method of the grid is guided, and needs --guides and --guides-ratio")
    if not options.smoke and PGD in grid.metrics and options.robustness is None:
        raise InputError(f"metric {PGD!r} of {path} needs --robustness; or remove it from 'metrics'")
    journal = RowJournal(
        folder, {"grid": grid.model_dump(mode="json", exclude={"seeds"}), "smoke": options.smoke}, COLUMNS
    )
    if options.smoke:
        write_made_up_tables(folder, grid.datasets)
    else:
        guides = None if options.guides is None else Guides(options.guides, options.guides_ratio)
        write_published_tables(folder, grid.datasets, options.cache, options.hw_nas_bench, options.robustness, guides)
    write_true_fronts(folder, grid)
    began = time.perf_counter()
    run_grid(folder, grid, journal, options.jobs)
    rows = journal.rows()
    failed = sum(row["status"] != "ok" for row in rows)
    print(f"{len(rows)} rows in {journal.path}, {failed} of them failed; {time.perf_counter() - began:.0f} s")
    print(f"python -m experiments.search.report {folder}")


def read_grid(path: Path) -> Grid:
    """Return a grid from its file.

    Raises:
        InputError: the file cannot be read, or does not fit.
    """
    try:
        grid = Grid.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"cannot read the grid {path} ({' '.join(str(error).split())})") from None
    except ValidationError as error:
        raise InputError(f"{path}: {describe(error, Grid)}") from None
    grid.chosen()
    return grid


def run_grid(folder: Path, grid: Grid, journal: RowJournal, jobs: int) -> None:
    """Run the cells of a grid in processes, and write rows as they come.

    A failed run is a row with its reason. A cell whose process dies, perhaps for lack of memory, is tried once more by
    itself, and is a failed row if that dies, too. The same command resumes with missing and failed runs.
    """
    if any(row["status"] == "failed" for row in journal.rows()):
        journal.drop("status", "failed")
    done = {(f"{row['folder']} {row['metric']}", row["quantile"]) for row in journal.rows()}
    cells = [(dataset, seed) for seed in range(grid.seeds) for dataset in grid.datasets]
    finished = 0
    with terminal_progress().task(f"{len(cells)} cells of the grid") as show:

        def write(rows: Rows) -> None:
            nonlocal finished
            for row in rows:
                journal.append({column: row.get(column, "") for column in COLUMNS})
            finished += 1
            show(finished / len(cells), f"{finished} done")

        task = partial(run_cell, folder, grid, done=done)
        for suspect in _work(cells, jobs, task, write):
            # The cause may be another cell that ran at the same time.
            for dataset, seed in _work([suspect], 1, task, write):
                error = "its process died twice, perhaps for lack of memory; try fewer --jobs"
                write([{"dataset": dataset, "seed": seed, "status": "failed", "error": error}])


def _work(
    cells: Iterable[Cell], jobs: int, task: Callable[[str, int], Rows], write: Callable[[Rows], None]
) -> list[Cell]:
    """Run cells in processes, pass their rows to ``write``, and return the cells during which a process died."""
    waiting, lost = deque(cells), list[Cell]()
    while waiting:
        pool = ProcessExecutor(jobs)
        running: dict[Future[Rows], Cell] = {}
        try:
            while waiting or running:
                while waiting and len(running) < jobs:  # submit no more, to know which ones were running
                    running[pool.submit(task, *waiting[0])] = waiting[0]
                    waiting.popleft()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    write(future.result())
                    del running[future]
        except BrokenProcessPool:
            lost += running.values()
        except BaseException:
            pool.terminate()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return lost


if __name__ == "__main__":
    as_command(main)
