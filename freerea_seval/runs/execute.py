"""Execute a run: search with every seed, evaluate the report's metrics, write the results."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from freerea_patch import Candidate, InputError, Ledger, Times, run
from freerea_seval.files import write_atomically
from freerea_seval.progress import Progress
from freerea_seval.runs.folder import Recorder, RunFolder
from freerea_seval.runs.results import leaders_of, report_front, summarise
from freerea_seval.runs.setup import Setup, start

#: Seconds without a feasible candidate, or with a metric that most candidates lack, until the user is told.
TELL_S = 1.0
#: Feasible candidates from which a metric is said to be unsupported for most of them.
_JUDGED = 10


def execute(folder: RunFolder, progress: Progress | None = None, answers: Path | None = None) -> list[dict[str, Any]]:
    """Execute or continue a run.

    Args:
        folder: the run; finished seeds are skipped.
        progress: shows the progress.
        answers: values that the search asked for; see :func:`freerea_seval.runs.refine.read_answers`.

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
            setup = start(folder, progress)
            for seed in folder.config.search.seeds:
                if folder.result(seed) is None:
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
    search = setup.algorithm(setup.space, setup.objectives.terms, seed=seed, **setup.config.search.options())
    budget = setup.config.budget
    folder.seed(seed).mkdir(exist_ok=True)
    journal = folder.journal(seed)
    journal.open()
    steps = journal.steps(setup.objectives.terms)
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

    try:
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
                show(spent, f"{explored} networks")

            result = run(search, setup.objectives, budget, ledger=ledger, on_candidate=on_candidate, replay=steps)
    finally:
        journal.close()
    check_values()
    history = result.history
    leaders = leaders_of(history)
    reported = report_front(leaders, setup.report, progress)
    clock = {"wall_s": result.times.wall_s, "loop_s": result.times.loop_s}
    write_atomically(folder.seed(seed) / "clock.json", json.dumps(clock, indent=2) + "\n")
    # Written last, because the file marks the seed as finished.
    summary = summarise(seed, result, leaders, reported)
    write_atomically(folder.seed(seed) / "result.json", json.dumps(summary, indent=2) + "\n")


def _front_table(results: Sequence[dict[str, Any]]) -> str:
    """Return the fronts of all seeds as CSV; an unsupported value is an empty cell."""
    from freerea_seval.tables import escape_formula

    columns = list(dict.fromkeys(key for result in results for row in result["front"] for key in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["seed", *map(escape_formula, columns)])
    for result in results:
        for row in result["front"]:
            writer.writerow([result["seed"], *(escape_formula(row.get(column)) for column in columns)])
    return text.getvalue()
