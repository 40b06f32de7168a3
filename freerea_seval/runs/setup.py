"""Make a run ready: make the space, find the algorithm, open the sources, bind the objectives to them."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from freerea_patch import (
    BoundObjective,
    FreeREA,
    InputError,
    ObjectiveSet,
    Search,
    SearchSpace,
    Subspace,
    UndefinedMetric,
)
from freerea_seval.config import Config, MetricSection, ObjectiveSection, make_space, resolve_algorithm
from freerea_seval.config.schema import ENGINES
from freerea_seval.progress import Progress
from freerea_seval.runs.folder import RunFolder
from freerea_seval.runs.workers import Recipe, SpreadSource, Workers
from freerea_seval.sources.registry import Context, Registry, Source, load_registry

_LOG = logging.getLogger(__name__)
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
        spread: whether workers compute a metric.
        timed: whether a metric is measured by a clock, so that nothing else may run meanwhile.
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
    spread: bool = False
    timed: bool = False


def prepare(
    config: Config,
    base: Path,
    *,
    folder: Path | None = None,
    progress: Progress | None = None,
    workers: Workers | None = None,
    first: Sequence[BoundObjective] = (),
    dry: bool = False,
) -> Setup:
    """Open every source of a config.

    Args:
        config: the config.
        base: the folder that its relative paths refer to.
        folder: the run's folder, for files that sources prepare.
        progress: shows long preparations.
        workers: compute what takes long; None for this process alone.
        first: objectives before those of the config.
        dry: only a check: nothing is measured, trained or written. A metric that would be measured and trained on
            before the search has a :class:`~freerea_seval.sources.learned.LearnedSource` without values.

    Raises:
        InputError: a mistake in the space, the algorithm and its options, a source, or a metric.
    """
    space = make_space(config.whole_space, base)
    seed, refines = config.search.seeds[0], config.refine is not None
    progress = progress or Progress()
    context = Context(space, config.live, base, folder, seed, progress, refines, config.whole_space, dry)
    if config.only is not None:
        from freerea_seval.sources.table import Table  # imports pandas

        # Sources know the whole space: its tables are numbered, and its predictors trained, in it.
        space = Subspace(space, Table(context.path(config.only, "space: 'only'"), space).genotypes)
    algorithm, search = resolve_algorithm(config.search, space, base)
    opener = Opener(load_registry(), context, workers)
    left_out = {s.column for s in (*config.objectives, *config.report) if s.optional and not opener.has(s)}
    kept = {
        name: [section for section in sections if section.column not in left_out]
        for name, sections in (("objectives", config.objectives), ("report", config.report))
    }
    config = config.model_copy(update=kept)
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
            "space": _with_content(config.space, space),
        }
    )
    bound_terms = [*first, *(term for bound in objectives for term in terms_of(bound))]
    notes = [f"{column} is left out: the space {space.name} does not define it" for column in sorted(left_out)]
    notes += [*_random_search(algorithm, resolved), *(f"{column}: {note}" for column, note in opener.notes.items())]
    objective_set = ObjectiveSet(bound_terms)
    metrics: list[Bound[Any]] = [*objectives, *report]
    timed = any(opener.registry[bound.section.source_name].workers == "clock" for bound in metrics)
    spread = any(isinstance(bound.source, SpreadSource) for bound in metrics)
    return Setup(
        resolved, space, algorithm, objective_set, objectives, report, opener.preparation, notes, spread, timed
    )


def _with_content(section: str | dict[str, Any], space: SearchSpace) -> str | dict[str, Any]:
    """Return the space of a config with the content of the file of transformers that it names."""
    if isinstance(section, str) or "transformers" not in section:
        return section
    whole: Any = getattr(space.build, "__self__", space)  # of a subspace, the space that builds
    return section | {"transformers": whole.config}


def _random_search(algorithm: type[Search], config: Config) -> Iterator[str]:
    """Yield a note if the budget ends within the first population."""
    population, evaluations = config.search.options().get("population", 0), config.budget.evaluations or math.inf
    evolves = issubclass(algorithm, FreeREA) or config.search.algorithm in ENGINES
    if evolves and population >= evaluations:
        yield (
            f"warning: this is a random search, because the first population ({population}) takes all evaluations"
            f" ({evaluations}); set a smaller search.population, or a larger budget.evaluations"
        )


def terms_of(bound: Bound[ObjectiveSection]) -> Iterator[BoundObjective]:
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


class Opener:
    """Opens each source once, for all of its metrics."""

    def __init__(self, registry: Registry, context: Context, workers: Workers | None) -> None:
        self.registry = registry
        self._context = context
        self._workers = workers
        self._open: dict[str, Source] = {}
        self.preparation: dict[str, float] = {}
        #: What sources say about their values, by column.
        self.notes: dict[str, str] = {}

    def source(self, section: MetricSection) -> Source:
        """Return the opened source of a metric."""
        # A source that learns does so for one metric.
        key = repr((section.source_name, section.source_argument, section.is_learnable and section.metric))
        if key not in self._open:
            began = time.perf_counter()
            source = self.registry.open(section.source_name, section.source_argument, self._context)
            _LOG.info("opened source %s in %.1f s", section.source_name, time.perf_counter() - began)
            self.preparation.update(getattr(source, "preparation", {}))
            self._open[key] = self._spread(source, section.source_name, section.source_argument)
        return self._open[key]

    def _spread(self, source: Source, name: str, argument: Any) -> Source:
        """Return a source whose values workers compute, if it is to be one."""
        workers, context = self._workers, self._context
        kinds = ("always", "asked") if workers and workers.asked else ("always",)
        if workers is None or self.registry[name].workers not in kinds or hasattr(source, "bounds"):
            return source  # such as a predictor, whose bounds belong to its values
        live = context.live.model_copy(update={"cache": "off"})  # which the driver alone reads and writes
        recipe = Recipe(context.space_name, live, context.base.resolve(), context.seed, name, argument)
        return SpreadSource(source, recipe, workers)

    def objective(self, section: ObjectiveSection) -> Bound[ObjectiveSection]:
        """Bind an objective to its source; raise :class:`InputError` if nobody says which values are better."""
        bound = self.metric(section)
        if bound.section.direction is None and section.role != "constraint":
            raise InputError(
                f"objective {section.column!r}: source {section.source_name!r} does not define which values are"
                " better; add 'direction: max' or 'direction: min'"
            )
        return bound

    def has(self, section: MetricSection) -> bool:
        """Whether the space defines the metric."""
        try:
            self.source(section).describe(section.metric)
        except UndefinedMetric:
            return False
        return True

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


def start(folder: RunFolder, progress: Progress, workers: Workers | None = None) -> Setup:
    """Open the sources of a run, and record its resolved config and its notes; a note is shown once.

    Raises:
        InputError: as :func:`prepare`; or the user has not agreed to run the code that the config names.
    """
    folder.check_trust()
    setup = prepare(folder.config, folder.base, folder=folder.path, progress=progress, workers=workers)
    known = folder.notes
    folder.resolve(setup.config, setup.notes)
    for note in setup.notes:
        if note not in known:
            progress.say(note)
    return setup
