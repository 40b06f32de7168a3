"""Carry out a run: open the sources, search with every seed, look at the fronts, write the results."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from freerea_patch import (
    BoundObjective,
    Budget,
    Candidate,
    InputError,
    Ledger,
    ObjectiveSet,
    SearchResult,
    SearchSpace,
    Times,
    make_search,
    run,
)
from freerea_patch.algorithms import algorithm_options
from freerea_seval.config.schema import Config, MetricSection, ObjectiveSection
from freerea_seval.config.spaces import make_space
from freerea_seval.files import write_atomically
from freerea_seval.progress import Progress
from freerea_seval.runs.folder import RunFolder
from freerea_seval.runs.journal import Recorder, Replayed, ReplayedStopwatch, to_json
from freerea_seval.sources.registry import Context, LiveSettings, Registry, Source, load_registry

#: Candidates that a search on a summed score reports, best first; a Pareto search reports its front.
LEADERS = 5


Section = TypeVar("Section", bound=MetricSection)


@dataclass(frozen=True)
class Bound(Generic[Section]):
    """A metric of the config, with the unit and direction that its source supplied, and that source."""

    section: Section
    source: Source


@dataclass(frozen=True)
class Setup:
    """A config with its space made and its sources opened.

    Attributes:
        config: the config, with the directions and units that the sources supplied.
        space: the search space.
        objectives: the objectives, bound to their sources.
        report: what the final front is reported with.
        preparation: seconds that sources spent before the search.
    """

    config: Config
    space: SearchSpace
    objectives: ObjectiveSet
    report: list[Bound[MetricSection]]
    preparation: dict[str, float]


def prepare(config: Config, base: Path, *, folder: Path | None = None, progress: Progress | None = None) -> Setup:
    """Open every source of a config.

    Args:
        config: the config.
        base: the folder that its relative paths start from.
        folder: the run's folder, for what sources prepare.
        progress: shows long preparations.

    Raises:
        InputError: whatever is wrong with the space, a source, or a metric.
    """
    space = make_space(config.space, base)
    live = LiveSettings(**config.live.model_dump())
    context = Context(space, live, base, folder, config.search.seeds[0], progress or Progress())
    terms = [term for section in config.objectives for term in section.objectives()]
    make_search(config.search.algorithm, space, terms, **config.search.options())
    opener = _Opener(load_registry(), context)
    # What is measured for the search comes last, when all else is known to be right: sources stay open.
    for section in config.objectives:
        if not _is_measured(section):
            opener.objective(section)
    report = [opener.metric(section) for section in config.report]
    objectives = [opener.objective(section) for section in config.objectives]
    options = algorithm_options(config.search.algorithm) | config.search.options()
    resolved = config.model_copy(
        update={
            "search": config.search.model_copy(update=options),
            "objectives": [bound.section for bound in objectives],
            "report": [bound.section for bound in report],
        }
    )
    bound_terms = [term for bound in objectives for term in _terms(bound)]
    return Setup(resolved, space, ObjectiveSet(bound_terms), report, opener.preparation)


def _is_measured(section: MetricSection) -> bool:
    return isinstance(section.source_argument, dict) and "measure" in section.source_argument


def _terms(bound: Bound[ObjectiveSection]) -> Iterator[BoundObjective]:
    """Yield what the loop sees of an objective: with a confidence, its source's own bounds are constraints, too."""
    section, source = bound.section, bound.source
    own, *sides = section.objectives()
    yield BoundObjective(own, source, section.metric)
    for term, (side, probability) in zip(sides, section.promised.items(), strict=True):
        if not hasattr(source, "bounds"):
            raise InputError(
                f"objective {section.column!r}: source {section.source_name!r} gives values and no probabilities, which"
                " only a predictor ('seval') does; leave 'confidence' out"
            )
        yield BoundObjective(term, source.bounds(section.metric, side, probability), section.metric)


class _Opener:
    """Opens each source once, however many metrics it supplies."""

    def __init__(self, registry: Registry, context: Context) -> None:
        self._registry = registry
        self._context = context
        self._open: dict[str, Source] = {}
        self.preparation: dict[str, float] = {}

    def source(self, section: MetricSection) -> Source:
        key = repr((section.source_name, section.source_argument))
        if key not in self._open:
            source = self._registry.open(section.source_name, section.source_argument, self._context)
            self._open[key] = source
            self.preparation.update(getattr(source, "preparation", {}))
        return self._open[key]

    def objective(self, section: ObjectiveSection) -> Bound[ObjectiveSection]:
        bound = self.metric(section)
        if bound.section.direction is None and section.role != "constraint":
            raise InputError(
                f"objective {section.column!r}: source {section.source_name!r} does not know which values are"
                " better; add 'direction: max' or 'direction: min'"
            )
        return bound

    def metric(self, section: Section) -> Bound[Section]:
        """Fill in what the source knows of a metric."""
        source = self.source(section)
        info = source.describe(section.metric)
        unit = info.unit if section.unit is None else section.unit
        direction = section.direction or info.direction
        return Bound(section.model_copy(update={"unit": unit, "direction": direction}), source)


def execute(folder: RunFolder, progress: Progress | None = None) -> list[dict[str, Any]]:
    """Carry out, or continue, a run.

    Args:
        folder: the run; seeds that are done are left as they are.
        progress: shows how far the run is.

    Returns:
        The results of all seeds, as in their ``result.json``.

    Raises:
        InputError: whatever is wrong with the config, a source, or the journal.
    """
    progress = progress or Progress()
    with folder.locked():
        if any(folder.result(seed) is None for seed in folder.config.search.seeds):
            setup = prepare(folder.config, folder.base, folder=folder.path, progress=progress)
            folder.resolve(setup.config)
            for seed in folder.config.search.seeds:
                if folder.result(seed) is None:
                    _run_seed(folder, setup, seed, progress)
        results = folder.results()
        write_atomically(folder.path / "front.csv", _front_table(results))
        summary = [{k: v for k, v in result.items() if k != "front"} for result in results]
        write_atomically(folder.path / "summary.json", json.dumps(summary, indent=2) + "\n")
    return results


def _run_seed(folder: RunFolder, setup: Setup, seed: int, progress: Progress) -> None:
    """Search with one seed, from where its journal ends, and write its result."""
    config = setup.config
    budget = Budget(**config.budget.model_dump())
    search = make_search(
        config.search.algorithm, setup.space, setup.objectives.terms, seed=seed, **config.search.options()
    )
    folder.seed(seed).mkdir(exist_ok=True)
    journal = folder.journal(seed)
    entries = journal.entries()
    journal.open()
    recorder = Recorder(journal, entries, budget.uses_clock)
    ledger = Ledger()
    ledger.charge(setup.preparation)
    try:
        with progress.task(f"searching, seed {seed}") as show:

            def on_candidate(candidate: Candidate, spent: float, times: Times) -> None:
                recorder.record(candidate, times)
                show(spent, f"{len(search.history)} networks")

            result = run(
                search,
                Replayed(setup.objectives, entries),
                budget,
                ledger=ledger,
                on_candidate=on_candidate,
                stopwatch=ReplayedStopwatch(entries),
            )
    finally:
        journal.close()
    history = result.history
    leaders = result.front if history.is_pareto else history.ranked(list(history))[:LEADERS]
    reported = _report_front(leaders, setup.report, progress)
    clock = {"wall_s": result.times.wall_s, "loop_s": result.times.loop_s}
    write_atomically(folder.seed(seed) / "clock.json", json.dumps(clock, indent=2) + "\n")
    # The result comes last: it is what marks the seed as done.
    summary = _summarise(seed, result, leaders, reported)
    write_atomically(folder.seed(seed) / "result.json", json.dumps(summary, indent=2) + "\n")


def _report_front(
    front: Sequence[Candidate], report: Sequence[Bound[MetricSection]], progress: Progress
) -> list[dict[str, float]]:
    """Compute the report's metrics for the candidates of the front."""
    rows: list[dict[str, float]] = [{} for _ in front]
    if report and front:
        with progress.task("looking at the front") as show:
            for done, metric in enumerate(report):
                section = metric.section
                found = metric.source.evaluate([c.genotype for c in front], [section.metric])
                for row, measured in zip(rows, found, strict=True):
                    row[section.column] = float(measured[section.metric].value)
                show((done + 1) / len(report), section.column)
    return rows


def _summarise(
    seed: int, result: SearchResult, leaders: Sequence[Candidate], reported: Sequence[dict[str, float]]
) -> dict[str, Any]:
    history = result.history
    scores = dict(zip((c.genotype for c in history), history.scores(list(history)).tolist(), strict=True))
    front = []
    for candidate, extra in zip(leaders, reported, strict=True):
        row: dict[str, Any] = {"genotype": candidate.genotype}
        if any(term.role == "fitness" for term in history.terms):
            row["score"] = to_json(scores[candidate.genotype])
        row |= {name: to_json(value) for name, value in {**candidate.values, **extra}.items()}
        front.append(row)
    return {
        "seed": seed,
        "stopped": result.stopped,
        "explored": len(history),
        "infeasible": history.evaluated - len(history),
        "metric_s": result.ledger.total_s,
        "seconds": result.ledger.seconds,
        "front": front,
    }


def _front_table(results: Sequence[dict[str, Any]]) -> str:
    """Return the fronts of all seeds as CSV; an unsupported value is an empty cell."""
    columns = list(dict.fromkeys(key for result in results for row in result["front"] for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, ["seed", *columns], lineterminator="\n")
    writer.writeheader()
    for result in results:
        for row in result["front"]:
            writer.writerow({"seed": result["seed"], **row})
    return text.getvalue()
