"""Execute a run: search with every seed, evaluate the report's metrics, write the results."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from freerea_patch import Candidate, InputError, Ledger, Step, Times, run
from freerea_seval.config import Config
from freerea_seval.files import escape_formula, write_atomically
from freerea_seval.progress import LineProgress, Progress, Show
from freerea_seval.runs.folder import Journal, Recorder, RunFolder, UnwrittenJournal
from freerea_seval.runs.results import describe, leaders_of, report_front, standing, summarise
from freerea_seval.runs.setup import Setup, prepare, start
from freerea_seval.runs.workers import Workers, in_one_line

_LOG = logging.getLogger(__name__)
#: Seconds without a feasible candidate, or with a metric that most candidates lack, until the user is told.
TELL_S = 1.0
#: Feasible candidates from which a metric is said to be unsupported for most of them.
_JUDGED = 10


def execute(
    folder: RunFolder, progress: Progress | None = None, answers: Path | None = None, workers: Workers | None = None
) -> list[dict[str, Any]]:
    """Execute or continue a run.

    Args:
        folder: the run; finished seeds are skipped.
        progress: shows the progress.
        answers: values that the search asked for; see :func:`freerea_seval.runs.refine.read_answers`.
        workers: evaluate networks, or search with whole seeds; None for this process alone.

    Returns:
        The results of all seeds, as in their ``result.json``.

    Raises:
        InputError: a mistake in the config, a source, or the journal.
        AnswersWanted: the search waits for the user's answers.
    """
    progress = progress or Progress()
    if answers is not None and folder.config.refine is None:
        raise InputError(f"run {folder.path} asks for no answers; its config has no section 'refine'")
    with folder.locked():
        unfinished = [seed for seed in folder.config.search.seeds if folder.result(seed) is None]
        if answers is not None and not unfinished:
            raise InputError(f"run {folder.path} is finished, and asks for no answers; 'report' shows its result")
        if unfinished:
            setup = start(folder, progress, workers)
            together = None if len(unfinished) == 1 or setup.timed else workers
            if together is not None and setup.spread:
                _run_seeds_in_threads(folder, setup, unfinished, progress, together)
            elif together is not None and together.asked and together.local:
                _run_seeds_in_workers(folder, setup, unfinished, progress, together)
            else:
                for seed in unfinished:
                    _run_seed(folder, setup, seed, progress, answers)
        results = folder.results()
        write_atomically(folder.path / "front.csv", _front_table(results))
        summary = [{k: v for k, v in result.items() if k != "front"} for result in results]
        write_atomically(folder.path / "summary.json", json.dumps(summary, indent=2) + "\n")
    return results


def _run_seed(folder: RunFolder, setup: Setup, seed: int, progress: Progress, answers: Path | None = None) -> None:
    """Search with one seed, continuing its journal, and write its result."""
    if setup.config.refine is not None:
        from freerea_seval.runs.refine import Refinement

        refinement = Refinement(folder, setup, seed, progress)
        if answers is not None:
            refinement.take_answers(answers)
        refined = refinement.execute()
        write_atomically(folder.seed(seed) / "result.json", json.dumps(refined, indent=2) + "\n")
        return
    folder.seed(seed).mkdir(exist_ok=True)
    journal = folder.journal(seed)
    journal.open()
    try:
        clock, result = _search(setup, seed, journal, journal.steps(setup.objectives.terms), progress)
    finally:
        journal.close()
    _write_result(folder, seed, clock, result)


def _write_result(folder: RunFolder, seed: int, clock: dict[str, float], result: dict[str, Any]) -> None:
    write_atomically(folder.seed(seed) / "clock.json", json.dumps(clock, indent=2) + "\n")
    # Written last, because the file marks the seed as finished.
    write_atomically(folder.seed(seed) / "result.json", json.dumps(result, indent=2) + "\n")


def _search(
    setup: Setup, seed: int, journal: Journal, steps: Sequence[Step], progress: Progress
) -> tuple[dict[str, float], dict[str, Any]]:
    """Search with one seed from the recorded steps on, and return the clock and the result."""
    search = setup.algorithm(setup.space, setup.objectives.terms, seed=seed, **setup.config.search.options())
    budget = setup.config.budget
    recorder = Recorder(journal, steps, budget.uses_clock)
    ledger = Ledger()
    ledger.charge(setup.preparation)
    explored = 0
    announced = False
    unsupported = ""

    def check_values() -> None:
        nonlocal unsupported
        if not unsupported and (unsupported := search.history.describe_unsupported()):
            progress.say(
                f"seed {seed}: {unsupported}: they rank last; choose a metric that has a value on these networks"
            )

    algorithm, recorded = setup.config.search.algorithm, len(steps)
    _LOG.info("seed %d: %s searches %s; %d networks are recorded", seed, algorithm, setup.space.name, recorded)
    with progress.task(f"searching, seed {seed}") as show:

        def on_candidate(candidate: Candidate, spent: float, times: Times) -> None:
            nonlocal explored, announced
            recorder.record(candidate, times)
            explored += candidate.feasible
            if not (explored or announced) and times.wall_s >= TELL_S:
                announced = True
                progress.say(
                    f"seed {seed}: {search.history.describe_infeasible()}; the search ends after"
                    f" {budget.patience} in a row (budget.patience)"
                )
            if explored >= _JUDGED and times.wall_s >= TELL_S:
                check_values()
            if _LOG.isEnabledFor(logging.DEBUG):
                _LOG.debug("seed %d: %s", seed, describe(candidate))
            show(spent, lambda: standing(search.history))

        result = run(search, setup.objectives, budget, ledger=ledger, on_candidate=on_candidate, replay=steps)
    check_values()
    history = result.history
    seconds = result.times.wall_s
    _LOG.info("seed %d: stopped (%s) after %d networks, %.1f s", seed, result.stopped, history.evaluated, seconds)
    leaders = leaders_of(history)
    reported = report_front(leaders, setup.report, progress)
    clock = {"wall_s": result.times.wall_s, "loop_s": result.times.loop_s}
    return clock, summarise(seed, result, leaders, reported)


def _run_seeds_in_threads(
    folder: RunFolder, setup: Setup, seeds: Sequence[int], progress: Progress, workers: Workers
) -> None:
    """Search with all seeds at the same time in this process, while workers evaluate the networks of all."""
    with ThreadPoolExecutor(min(workers.count, len(seeds))) as threads, _progress_of_seeds(progress, seeds) as show:
        futures = [threads.submit(_run_seed, folder, setup, seed, _of_one_seed(progress)) for seed in seeds]
        try:
            for done, future in enumerate(futures, start=1):
                future.result()
                show(done / len(seeds), f"{done} done")
        except BaseException:
            for future in futures:
                future.cancel()
            workers.close()  # the threads end where they next need a worker
            raise


class SearchedSeed(NamedTuple):
    """What a worker returns of a seed: new lines of its journal; then clock and result, or the error that ended it."""

    rows: list[dict[str, Any]]
    outcome: tuple[dict[str, float], dict[str, Any]] | InputError


def _run_seeds_in_workers(
    folder: RunFolder, setup: Setup, seeds: Sequence[int], progress: Progress, workers: Workers
) -> None:
    """Search with each seed in a worker as a whole: where metrics are looked up, the loop itself takes the time."""
    workers.count = min(workers.count, len(seeds))
    terms = setup.objectives.terms
    tasks = [
        (folder.config, folder.base, folder.path, seed, folder.journal(seed).steps(terms), _of_one_seed(progress))
        for seed in seeds
    ]
    with _progress_of_seeds(progress, seeds) as show:
        for done, (seed, searched) in enumerate(zip(seeds, workers.map(search_seed, tasks), strict=True), start=1):
            folder.seed(seed).mkdir(exist_ok=True)
            journal = folder.journal(seed)
            journal.open()
            try:
                for row in searched.rows:
                    journal.append_row(row)
            finally:
                journal.close()
            if isinstance(searched.outcome, InputError):
                raise searched.outcome
            _write_result(folder, seed, *searched.outcome)
            show(done / len(seeds), f"{done} done")


#: What this worker has opened, by run and config.
_SETUPS: dict[str, Setup] = {}


def search_seed(
    config: Config, base: Path, path: Path, seed: int, steps: Sequence[Step], progress: Progress
) -> SearchedSeed:
    """Search with a seed in a worker."""
    journal = UnwrittenJournal(path / f"seed-{seed}" / "journal.jsonl")

    @in_one_line
    def search() -> tuple[dict[str, float], dict[str, Any]]:
        key = repr((config, base, path))
        if key not in _SETUPS:
            _SETUPS[key] = prepare(config, base, folder=path)
        return _search(_SETUPS[key], seed, journal, steps, progress)

    try:
        return SearchedSeed(journal.rows, search())
    except InputError as error:
        return SearchedSeed(journal.rows, error)


def _of_one_seed(progress: Progress) -> Progress:
    """Return the progress of one seed among others, which has no bar of its own."""
    return Progress() if type(progress) is Progress else LineProgress()


def _progress_of_seeds(progress: Progress, seeds: Sequence[int]) -> AbstractContextManager[Show]:
    return progress.task(f"searching, {len(seeds)} seeds")


def _front_table(results: Sequence[dict[str, Any]]) -> str:
    """Return the fronts of all seeds as CSV; an unsupported value is an empty cell."""
    columns = list(dict.fromkeys(key for result in results for row in result["front"] for key in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["seed", *map(escape_formula, columns)])
    for result in results:
        for row in result["front"]:
            writer.writerow([result["seed"], *(escape_formula(row.get(column)) for column in columns)])
    return text.getvalue()
