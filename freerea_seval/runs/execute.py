"""Execute a run: open the sources, search with every seed, evaluate the report's metrics, write the results."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from freerea_patch import (
    BoundObjective,
    Candidate,
    FreeREA,
    History,
    InputError,
    Ledger,
    ObjectiveSet,
    Search,
    SearchResult,
    SearchSpace,
    Subspace,
    Times,
    run,
)
from freerea_seval.config import Config, MetricSection, ObjectiveSection, make_space, resolve_algorithm
from freerea_seval.files import write_atomically
from freerea_seval.progress import Progress
from freerea_seval.runs.folder import Recorder, RunFolder, to_json
from freerea_seval.sources.registry import Context, Registry, Source, load_registry

#: Number of best candidates that a search on a summed score reports; a Pareto search reports its front.
LEADERS = 5
#: Seconds without a feasible candidate, or with a metric that most candidates lack, until the user is told.
TELL_S = 1.0
#: Feasible candidates from which a metric is said to be unsupported for most of them.
_JUDGED = 10


Section = TypeVar("Section", bound=MetricSection)


@dataclass(frozen=True)
class Bound(Generic[Section]):
    """A metric of the config, with the unit and direction from its source, and the source."""

    section: Section
    source: Source


@dataclass(frozen=True)
class Setup:
    """A config with its space, its algorithm and its opened sources.

    Attributes:
        config: the config, with the directions and units from the sources, and all options of the algorithm.
        space: the search space.
        algorithm: the class of the algorithm.
        objectives: the objectives, bound to their sources.
        bound: the sections of the objectives with their sources.
        report: metrics that are evaluated for the final front only.
        preparation: seconds that sources spent before the search.
        notes: what the user should know of the search, one line each.
    """

    config: Config
    space: SearchSpace
    algorithm: type[Search]
    objectives: ObjectiveSet
    bound: list[Bound[ObjectiveSection]]
    report: list[Bound[MetricSection]]
    preparation: dict[str, float]
    notes: list[str]


def prepare(config: Config, base: Path, *, folder: Path | None = None, progress: Progress | None = None) -> Setup:
    """Open every source of a config.

    Args:
        config: the config.
        base: the folder that its relative paths refer to.
        folder: the run's folder, for files that sources prepare.
        progress: shows long preparations.

    Raises:
        InputError: a mistake in the space, the algorithm and its options, a source, or a metric.
    """
    space = make_space(config.whole_space, base)
    seed, refines = config.search.seeds[0], config.refine is not None
    context = Context(space, config.live, base, folder, seed, progress or Progress(), refines)
    if config.only is not None:
        from freerea_seval.sources.table import Table  # imports pandas

        # Sources know the whole space: its tables are numbered, and its predictors trained, in it.
        space = Subspace(space, Table(context.path(config.only, "space: 'only'"), space).genotypes)
    algorithm, search = resolve_algorithm(config.search, space, base)
    opener = _Opener(load_registry(), context)
    # Sources that measure first can take minutes. They are opened last, when everything else is known to be correct.
    for section in config.objectives:
        section.objectives()
        if not section.is_learnable:
            opener.objective(section)
    report = [opener.metric(section) for section in config.report]
    objectives = [opener.objective(section) for section in config.objectives]
    resolved = config.model_copy(
        update={
            "search": search,
            "objectives": [bound.section for bound in objectives],
            "report": [bound.section for bound in report],
        }
    )
    bound_terms = [term for bound in objectives for term in _terms(bound)]
    notes = [*_random_search(algorithm, resolved), *(f"{column}: {note}" for column, note in opener.notes.items())]
    objective_set = ObjectiveSet(bound_terms)
    return Setup(resolved, space, algorithm, objective_set, objectives, report, opener.preparation, notes)


def _random_search(algorithm: type[Search], config: Config) -> Iterator[str]:
    """Yield a note if the budget ends within the first population."""
    population, evaluations = config.search.options().get("population", 0), config.budget.evaluations or math.inf
    if issubclass(algorithm, FreeREA) and population >= evaluations:
        yield (
            f"warning: this is a random search, because the first population ({population}) takes all evaluations"
            f" ({evaluations}); set a smaller search.population, or a larger budget.evaluations"
        )


def _terms(bound: Bound[ObjectiveSection]) -> Iterator[BoundObjective]:
    """Yield an objective bound to its source, and with a confidence also the source's own bounds as constraints."""
    section, source = bound.section, bound.source
    term, *side_terms = section.objectives()
    yield BoundObjective(term, source, section.metric)
    for term, (side, probability) in zip(side_terms, section.confident_sides.items(), strict=True):
        if not hasattr(source, "bounds"):
            raise InputError(
                f"objective {section.column!r}: source {section.source_name!r} gives no probabilities, only a"
                " predictor ('seval') does; remove 'confidence'"
            )
        yield BoundObjective(term, source.bounds(section.metric, side, probability), section.metric)


class _Opener:
    """Opens each source once, for all of its metrics."""

    def __init__(self, registry: Registry, context: Context) -> None:
        self._registry = registry
        self._context = context
        self._open: dict[str, Source] = {}
        self.preparation: dict[str, float] = {}
        #: What sources say about their values, by column.
        self.notes: dict[str, str] = {}

    def source(self, section: MetricSection) -> Source:
        # A source that learns does so for one metric.
        key = repr((section.source_name, section.source_argument, section.is_learnable and section.metric))
        if key not in self._open:
            source = self._registry.open(section.source_name, section.source_argument, self._context)
            self._open[key] = source
            self.preparation.update(getattr(source, "preparation", {}))
        return self._open[key]

    def objective(self, section: ObjectiveSection) -> Bound[ObjectiveSection]:
        bound = self.metric(section)
        if bound.section.direction is None and section.role != "constraint":
            raise InputError(
                f"objective {section.column!r}: source {section.source_name!r} does not define which values are"
                " better; add 'direction: max' or 'direction: min'"
            )
        return bound

    def metric(self, section: Section) -> Bound[Section]:
        """Bind a metric to its source, and complete the unit and the direction."""
        source = self.source(section)
        info = source.describe(section.metric)
        unit = info.unit if section.unit is None else section.unit
        direction = section.direction or info.direction
        if self._context.refines and section.is_learnable:
            source.specify(unit, direction)  # type: ignore[attr-defined]
        if info.note:
            self.notes[section.column] = info.note
        return Bound(section.model_copy(update={"unit": unit, "direction": direction}), source)


def start(folder: RunFolder, progress: Progress) -> Setup:
    """Open the sources of a run, and record its resolved config and its notes; a note is shown once.

    Raises:
        InputError: as :func:`prepare`; or the user has not agreed to run the code that the config names.
    """
    folder.check_trust()
    setup = prepare(folder.config, folder.base, folder=folder.path, progress=progress)
    known = folder.notes
    folder.resolve(setup.config, setup.notes)
    for note in setup.notes:
        if note not in known:
            progress.say(note)
    return setup


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


def leaders_of(history: History) -> list[Candidate]:
    """Return what a search reports: its front, or without Pareto objectives its best networks."""
    return history.front() if history.is_pareto else history.leaders(LEADERS)


def report_front(
    front: Sequence[Candidate], report: Sequence[Bound[MetricSection]], progress: Progress
) -> list[dict[str, float]]:
    """Evaluate the report's metrics for the candidates of the front."""
    rows: list[dict[str, float]] = [{} for _ in front]
    if report and front:
        with progress.task("evaluating the front") as show:
            for done, metric in enumerate(report):
                section = metric.section
                genotypes = [candidate.proposal.genotype for candidate in front]
                results = metric.source.evaluate(genotypes, [section.metric])
                for row, measured in zip(rows, results, strict=True):
                    row[section.column] = float(measured[section.metric].value)
                show((done + 1) / len(report), section.column)
    return rows


def summarise(
    seed: int, result: SearchResult, leaders: Sequence[Candidate], reported: Sequence[dict[str, float]]
) -> dict[str, Any]:
    """Return the result of a seed for ``result.json``.

    Args:
        seed: of the search.
        result: of the search.
        leaders: the networks that it reports.
        reported: further columns of each of them.
    """
    history = result.history
    explored = list(history)
    scores = history.scores(explored)
    front = []
    for candidate, extra in zip(leaders, reported, strict=True):
        row: dict[str, Any] = {"genotype": candidate.proposal.genotype}
        if any(term.role == "fitness" for term in history.terms):
            row["score"] = to_json(float(scores[candidate.row]))
        row |= {name: to_json(value) for name, value in {**candidate.evaluation.values, **extra}.items()}
        front.append(row)
    return {
        "seed": seed,
        "stopped": result.stopped,
        "explored": len(explored),
        "infeasible": history.evaluated - len(explored),
        "metric_s": result.ledger.total_s,
        "seconds": result.ledger.seconds,
        "front": front,
    }


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
