"""What a config would run, what is missing for it, and about how long it would take, without running it.

Sources are opened as for a search, except that nothing is measured or trained on before it, and nothing is written. The
time is that of the beginning of the search itself, with values from the cache where it has them.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from freerea_patch import Candidate, Direction, InputError, Ledger, ObjectiveSet, Times, run
from freerea_patch.training_free import check_device
from freerea_seval.config import Config, MetricSection, ObjectiveSection, make_space
from freerea_seval.progress import Progress, Show
from freerea_seval.runs.results import leaders_of, report_front
from freerea_seval.runs.setup import Bound, Opener, Setup, prepare, terms_of
from freerea_seval.runs.workers import START_S, default_workers
from freerea_seval.sources.learned import LearnedSource
from freerea_seval.sources.registry import Context, load_registry

#: If none of so many networks is within the constraints, a note says so.
_ENOUGH = 20
#: Networks whose measurement on this machine is timed.
_MEASURED = 2
#: Seconds that the training of a predictor on some dozens of networks takes: 0.8 in the default search on two cores.
_TRAINING_S = 1.0
#: Sources that compute on the device of the section ``live``.
_ON_DEVICE = ("training-free", "zero-cost", "device")


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CheckedMetric(_Facts):
    """A metric of a config.

    Attributes:
        name: under which its values are recorded.
        metric: its name in the source.
        source: as in the config: a name, or ``{name: argument}``.
        role: what the search does with it; ``report`` for a metric of the final front only.
        direction: which values are better; None where that does not matter, or is not known as the source is missing.
        unit: of the values, empty for none.
        weight: of a fitness term; None for other roles.
        min, max: the bounds of a constraint.
        confidence: with which a bound of a predicted metric must hold.
    """

    name: str
    metric: str
    source: str | dict[str, Any]
    role: Literal["fitness", "constraint", "pareto", "guide", "report"]
    direction: Direction | None
    unit: str
    weight: float | None = None
    min: float | None = None
    max: float | None = None
    confidence: float | None = None


class TimeEstimate(_Facts):
    """About how long a search takes.

    Attributes:
        seconds: of the whole search, except for what is in ``without``.
        without: what takes time besides and is not timed, such as answers of the user, one line each.
        at_least: whether a network took longer than the sample, so that the search takes longer than ``seconds``.
        networks: of the search, that were evaluated for the estimate.
        cached: how many of them had all values of live networks in the cache of metric values.
        network_s: seconds of one of them, those from the cache included; None if none was evaluated.
        measurements: networks that are measured on this machine to learn from.
        measurement_s: seconds of one measurement; None if there is none, or it was not timed.
        workers: processes that evaluate networks.
    """

    seconds: float
    without: list[str] = []
    at_least: bool = False
    networks: int = 0
    cached: int = 0
    network_s: float | None = None
    measurements: int = 0
    measurement_s: float | None = None
    workers: int = 1


class Check(_Facts):
    """What a config would run.

    Attributes:
        space: the search space, as the config names it.
        only: table whose rows limit the search, None for the whole space.
        algorithm: its name.
        options: all options of the algorithm.
        seeds: each is a search.
        budget: the limits, with the patience.
        refine: numbers of the rounds of measuring, None without them.
        objectives: what the search optimises and bounds.
        report: what is evaluated for the final front only.
        device: of live networks.
        time: about how long it takes; None if something is missing.
        notes: what the search would tell.
        problems: what is wrong or missing, one line each; without them, the search would start.
    """

    space: str | dict[str, Any]
    only: str | None
    algorithm: str
    options: dict[str, Any]
    seeds: list[int]
    budget: dict[str, int | float]
    refine: dict[str, int] | None
    objectives: list[CheckedMetric]
    report: list[CheckedMetric]
    device: str
    time: TimeEstimate | None
    notes: list[str]
    problems: list[str]


def check_run(config: Config, base: Path, seconds: float, progress: Progress, workers: int | None = None) -> Check:
    """Return what a config would run.

    Args:
        config: the config.
        base: the folder that its relative paths refer to.
        seconds: that networks are evaluated for; 0 for no estimate of the time.
        progress: shows the progress.
        workers: as the user gives their number; None for the default.
    """
    estimate: TimeEstimate | None = None
    notes: list[str] = []
    problems: list[str] = []
    try:
        setup = prepare(config, base, progress=progress, dry=True)
        _check_devices(setup)
        config, notes = setup.config, setup.notes
        if setup.config.refine is not None:
            from freerea_seval.runs.refine import learned_of

            learned_of(setup, {})
        if seconds > 0:
            sample = _Sample(setup, seconds, progress, workers or default_workers(setup.config))
            estimate = sample.estimate()
            notes = [*notes, *sample.notes]
    except InputError as error:
        problems = _all_problems(config, base) or [str(error)]
        if str(error) not in problems:
            problems.append(str(error))
    budget = config.budget
    return Check(
        space=config.whole_space,
        only=None if config.only is None else str(config.only),
        algorithm=config.search.algorithm,
        options={k: list(v) if isinstance(v, tuple) else v for k, v in config.search.options().items()},
        seeds=config.search.seeds,
        budget={**budget.limits, "patience": budget.patience},
        refine=None if config.refine is None else config.refine.model_dump(),
        objectives=[_facts_of(section) for section in config.objectives],
        report=[_facts_of(section) for section in config.report],
        device=config.live.device,
        time=estimate,
        notes=notes,
        problems=problems,
    )


def _facts_of(section: MetricSection) -> CheckedMetric:
    facts: dict[str, Any] = {"role": "report"}
    if isinstance(section, ObjectiveSection):
        facts = {name: getattr(section, name) for name in ("role", "min", "max", "confidence")}
        facts["weight"] = section.weight if section.role in ("fitness", "guide") else None
    return CheckedMetric(
        name=section.column,
        metric=section.metric,
        source=section.source,
        direction=section.direction,
        unit=section.unit or "",
        **facts,
    )


def _check_devices(setup: Setup) -> None:
    """Check that the device of live networks is here, if one of them runs on it."""
    metrics: Sequence[Bound[Any]] = [*setup.bound, *setup.report]
    if any(b.section.source_name in _ON_DEVICE or _is_measured_here(b.source) for b in metrics):
        check_device(setup.config.live.device)


def _is_measured_here(source: object) -> bool:
    return isinstance(source, LearnedSource) and source.is_measured_together and source.means.remote is None


def _all_problems(config: Config, base: Path) -> list[str]:
    """Return what is wrong with each of the metrics: a search would name the first only."""
    try:
        space = make_space(config.whole_space, base)
    except InputError:
        return []
    refines = config.refine is not None
    context = Context(space, config.live, base, refines=refines, space_name=config.whole_space, dry=True)
    opener = Opener(load_registry(), context, None)
    problems: dict[str, None] = {}
    for section in (*config.objectives, *config.report):
        if section.optional and not opener.has(section):
            continue
        try:
            if isinstance(section, ObjectiveSection):
                list(terms_of(opener.objective(section)))
            else:
                opener.metric(section)
        except InputError as error:
            problems[str(error)] = None
    return list(problems)


class _Enough(BaseException):
    """The sample ends within a network. No ``except Exception`` of a user's code may catch it."""


class _OverTime(Exception):  # noqa: N818 - no error
    """The sample ends with the network that was evaluated last."""


@contextmanager
def _interrupted_after(seconds: float) -> Iterator[None]:
    """Raise :class:`_Enough` after a time even within a network, such as one that a user's function trains.

    Only the main thread can be interrupted, and only where the system has timers.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        raise _Enough

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass
class _Sample:
    """The beginning of a search, timed.

    Args:
        setup: the opened sources.
        seconds: after which the sample ends with a network, and after half as many more within one.
        progress: shows the progress.
        workers: of the search.
    """

    setup: Setup
    seconds: float
    progress: Progress
    workers: int
    networks: int = 0
    cached: int = 0
    spent: float = 0.0
    wall_s: float = 0.0
    computed_s: float = 0.0
    report_s: float = 0.0
    measurement_s: float | None = None
    interrupted: bool = False
    notes: list[str] = field(default_factory=list)

    def estimate(self) -> TimeEstimate:
        """Time the sample, and return what it says of the whole search.

        Raises:
            InputError: a network cannot be evaluated.
            NothingFeasible: the whole search would find nothing.
        """
        began = time.perf_counter()
        learned = [b.source for b in self.setup.bound if isinstance(b.source, LearnedSource)]
        try:
            with _interrupted_after(1.5 * self.seconds):
                for source in filter(_is_measured_here, learned):
                    self._time_measurements(source)
                self._search(began)
        except _Enough:
            self.interrupted = True
            self.wall_s = time.perf_counter() - began
        return self._extrapolated(learned)

    def _time_measurements(self, source: LearnedSource) -> None:
        rng = Random(0)
        networks = list(dict.fromkeys(self.setup.space.sample(rng) for _ in range(_MEASURED)))
        began = time.perf_counter()
        list(source.measure(networks, None))
        self.measurement_s = max(self.measurement_s or 0.0, (time.perf_counter() - began) / len(networks))

    def _search(self, began: float) -> None:
        """Search with the first seed on what is not learned, until the time is over or the search ends."""
        setup = self.setup
        known = [b for b in setup.bound if not isinstance(b.source, LearnedSource)]
        if all(b.section.role == "constraint" for b in known):
            return  # what selects is predicted, which takes no time beside the measurements
        objectives = ObjectiveSet([term for b in known for term in terms_of(b)])
        search = setup.algorithm(
            setup.space, objectives.terms, seed=setup.config.search.seeds[0], **setup.config.search.options()
        )
        lookups: dict[int, tuple[Any, list[str]]] = {}
        for b in known:
            if hasattr(b.source, "known") and b.section.role != "constraint":
                lookups.setdefault(id(b.source), (b.source, []))[1].append(b.section.metric)

        show: Show

        def on_candidate(candidate: Candidate, spent: float, times: Times) -> None:
            self.networks, self.spent, self.wall_s = self.networks + 1, spent, times.wall_s
            is_cached = bool(lookups) and all(
                source.known(candidate.genotype, metrics) is not None for source, metrics in lookups.values()
            )
            self.cached += is_cached
            if not is_cached:
                self.computed_s += sum(candidate.evaluation.seconds.values())
            over = (time.perf_counter() - began) / self.seconds
            show(max(over, spent), f"{self.networks} networks")
            if over >= 1:
                raise _OverTime

        with self.progress.task("timing networks") as show, suppress(_OverTime):
            run(search, objectives, setup.config.budget, ledger=Ledger(), on_candidate=on_candidate)
        if search.history.evaluated >= _ENOUGH and not len(search.history):
            self.notes.append(search.history.describe_infeasible())
        leaders = leaders_of(search.history)
        if setup.report and leaders:
            started = time.perf_counter()
            report_front(leaders[:1], setup.report, Progress())
            self.report_s = (time.perf_counter() - started) * len(leaders)

    def _extrapolated(self, learned: Sequence[LearnedSource]) -> TimeEstimate:
        config = self.setup.config
        measurements = trainings = 0
        without: list[str] = []
        if config.refine is not None:
            from freerea_seval.runs.refine import learned_of

            for objective in learned_of(self.setup, {}):
                trainings += config.refine.rounds + 1
                count, means = objective.start + config.refine.rounds * objective.networks, objective.source.means
                if _is_measured_here(objective.source):
                    measurements += count
                elif means.remote is not None:
                    without.append(f"measuring {objective.column} of {count} networks on {means.remote['host']}")
                elif objective.source.asks:
                    without.append(f"your answers: {objective.column} of {count} networks")
                else:
                    without.append(f"{objective.column} of {count} networks, from source {means.kind!r}")
        else:
            measurements, trainings = sum(source.planned for source in learned), len(learned)
        searching = 0.0
        if self.wall_s:
            searching = self.wall_s / self.spent if self.spent else self.wall_s
            share = min(1.0, self.computed_s / self.wall_s)
            if searching > START_S:
                searching *= 1 - share + share / self.workers
        seconds = (
            len(config.search.seeds) * (searching + self.report_s)
            + measurements * (self.measurement_s or 0.0)
            + trainings * _TRAINING_S
        )
        return TimeEstimate(
            seconds=seconds,
            without=without,
            at_least=self.interrupted,
            networks=self.networks,
            cached=self.cached,
            network_s=self.wall_s / self.networks if self.networks else None,
            measurements=measurements,
            measurement_s=self.measurement_s,
            workers=self.workers,
        )
