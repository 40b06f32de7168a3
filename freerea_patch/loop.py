"""The loop: ask the algorithm for candidates, evaluate them, tell it the results, until the budget is spent.

Two clocks are kept. *Metric seconds* are charged by the metric sources to the :class:`Ledger`; *wall seconds* are
measured here, and split into the evaluation of metrics and the search itself.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from freerea_patch.algorithms import Search
from freerea_patch.errors import InputError, NothingFeasible
from freerea_patch.history import Candidate, History, Proposal
from freerea_patch.objective import Evaluation, Objectives

#: Why a search ended: its budget is spent, the space exhausted, or the patience for infeasible candidates over.
Stopped = Literal["budget", "exhausted", "patience"]
#: By default, a search stops after this number of infeasible candidates in a row.
PATIENCE = 2_000
_LARGEST_BATCH = 2**16


class Ledger:
    """Seconds charged so far, by metric or step.

    A cached value is charged the seconds of its original computation. A search therefore evaluates the same candidates
    whether its metrics come from a cache, from a published table with timings, or from live networks.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def charge(self, seconds: Mapping[str, float]) -> None:
        """Add seconds by name."""
        for name, value in seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + value

    @property
    def total_s(self) -> float:
        """All seconds charged."""
        return sum(self.seconds.values(), 0.0)


@dataclass(frozen=True)
class Budget:
    """When a search stops: as soon as any of its limits is reached.

    Args:
        metric_seconds: seconds charged to the ledger.
        wall_seconds: seconds since the search began.
        total_seconds: FreeREA's own rule (Cavagnero 2023, section 4): the seconds charged to the ledger plus the wall
            clock of the search itself, without the evaluation of metrics.
        evaluations: number of distinct feasible candidates.
        patience: number of infeasible candidates in a row; it does not count as a limit. Where 1% of the candidates are
            feasible, 2,000 of them end one search in 500 million.

    Raises:
        InputError: no limit, or a limit that is not a positive number.
    """

    metric_seconds: float | None = None
    wall_seconds: float | None = None
    total_seconds: float | None = None
    evaluations: int | None = None
    patience: int = PATIENCE

    #: Read by pydantic where a budget is a section of a config: an unknown key is an error.
    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        limits = self.limits
        if not limits:
            raise InputError(f"a budget needs at least one of: {', '.join(asdict(self))}".removesuffix(", patience"))
        for name, limit in (limits | {"patience": self.patience}).items():
            if isinstance(limit, (bool, str)) or not 0 < limit <= sys.float_info.max:
                raise InputError(f"{name} must be a positive number, got {limit!r}")
        for name, count in (("evaluations", self.evaluations), ("patience", self.patience)):
            if count is not None and not isinstance(count, int):
                raise InputError(f"{name} must be a whole number, got {count!r}")

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set, by name; without the patience."""
        return {name: limit for name, limit in asdict(self).items() if limit is not None and name != "patience"}

    @property
    def limits_time(self) -> bool:
        """Whether a limit is in seconds."""
        return self.limits.keys() != {"evaluations"}

    @property
    def uses_clock(self) -> bool:
        """Whether the wall clock can end the search; its result then depends on more than its seed."""
        return self.wall_seconds is not None or self.total_seconds is not None

    def spent_time(self, *, metric_s: float, wall_s: float, loop_s: float) -> float:
        """Return the largest spent fraction of the limits in seconds; 0 without such a limit."""
        used = (
            (metric_s, self.metric_seconds),
            (wall_s, self.wall_seconds),
            (metric_s + loop_s, self.total_seconds),
        )
        return max((amount / limit for amount, limit in used if limit is not None), default=0.0)

    def spent(self, *, metric_s: float, wall_s: float, loop_s: float, evaluations: int) -> float:
        """Return the largest spent fraction of any limit; the search stops at 1 or more."""
        time = self.spent_time(metric_s=metric_s, wall_s=wall_s, loop_s=loop_s)
        return time if self.evaluations is None else max(time, evaluations / self.evaluations)


@dataclass(frozen=True)
class Times:
    """The wall clock of a run.

    Attributes:
        wall_s: seconds since the run began.
        loop_s: the part of ``wall_s`` spent in the search itself, without the evaluation of metrics.
    """

    wall_s: float
    loop_s: float


@dataclass(frozen=True)
class Step:
    """One step of a run: the candidate that was evaluated, and the clocks afterwards, if they are recorded."""

    proposal: Proposal
    evaluation: Evaluation
    times: Times | None = None


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Attributes:
        front: the best candidate, or with Pareto objectives the non-dominated candidates.
        history: all evaluated candidates.
        ledger: the seconds charged.
        times: the clocks at the end.
        stopped: why the search ended.
    """

    front: list[Candidate]
    history: History
    ledger: Ledger
    times: Times
    stopped: Stopped


def run(
    search: Search,
    objectives: Objectives,
    budget: Budget,
    *,
    ledger: Ledger | None = None,
    on_candidate: Callable[[Candidate, float, Times], None] | None = None,
    replay: Sequence[Step] = (),
) -> SearchResult:
    """Drive ``search`` until the budget is spent, the space is exhausted, or the patience is over.

    What the algorithm proposes together is evaluated together, because sources are faster on batches. If the budget
    limits seconds, batches begin with one candidate and double as long as the budget has time for them. A batch whose
    constraints are evaluated is finished, so that no value is lost.

    Args:
        search: an algorithm, constructed with the terms of ``objectives``.
        objectives: supplies the metric values.
        budget: when to stop; checked after every candidate, with constraints after every batch.
        ledger: seconds spent before the search, such as on training a predictor.
        on_candidate: called after every candidate with the candidate, the spent fraction of the budget, and the clocks.
        replay: the steps of an interrupted run with the same search and objectives. Their recorded values and clocks
            are used instead of new ones: the course of a search is a function of its seed and of the values it is
            told, so the run continues where it was interrupted.

    Raises:
        NothingFeasible: the space is exhausted, or the patience over, without a feasible candidate.
        InputError: no feasible candidate has finite values of all objectives that select, so that none can be compared.
    """
    ledger = ledger or Ledger()
    recorded = {step.proposal.genotype: step.evaluation for step in replay}
    recorded_times = [step.times for step in replay if step.times is not None]
    begin = time.perf_counter()
    evaluation_s = 0.0  # wall seconds spent in the evaluation of metrics
    steps = 0
    times = Times(0.0, 0.0)
    constrained = any(term.role == "constraint" for term in objectives.terms)
    size = 1  # of a batch, if the budget limits seconds
    used = budget.spent_time(metric_s=ledger.total_s, wall_s=0.0, loop_s=0.0)
    proposals: Sequence[Proposal] = ()
    while True:
        if not proposals:
            limit = None if budget.evaluations is None else budget.evaluations - len(search.history)
            proposals = search.ask(limit)
        if not proposals:
            now = time.perf_counter()
            times = Times(now - begin, now - begin - evaluation_s)
            return _result(search, ledger, times, "exhausted")
        fitting = min(
            size if budget.limits_time else len(proposals), budget.patience - search.history.infeasible_in_a_row
        )
        batch, proposals = proposals[:fitting], proposals[fitting:]
        stopped: Literal["budget", "patience"] | None = None
        started = time.perf_counter()
        # The replayed candidates of a batch come first, as the recording ends within or after the batch.
        evaluations = objectives.evaluate([p.genotype for p in batch if p.genotype not in recorded])
        for proposal in batch:
            evaluation = recorded.get(proposal.genotype) or next(evaluations)
            now = time.perf_counter()
            evaluation_s += now - started
            candidate = search.tell(proposal, evaluation)
            ledger.charge(evaluation.seconds)
            if steps < len(recorded_times):  # continue from the recorded clocks
                times = recorded_times[steps]
                begin = time.perf_counter() - times.wall_s
                evaluation_s = times.wall_s - times.loop_s
            else:
                now = time.perf_counter()
                times = Times(now - begin, now - begin - evaluation_s)
            steps += 1
            clocks = {"metric_s": ledger.total_s, "wall_s": times.wall_s, "loop_s": times.loop_s}
            spent = budget.spent(**clocks, evaluations=len(search.history))
            if on_candidate is not None:
                on_candidate(candidate, spent, times)
            if spent >= 1:
                stopped = stopped or "budget"
            elif search.history.infeasible_in_a_row >= budget.patience:
                stopped = stopped or "patience"
            if stopped and not constrained:
                break
            started = time.perf_counter()
        if stopped == "patience" and not len(search.history):
            raise NothingFeasible(
                f"{search.history.describe_infeasible()}; loosen the bound,"
                f" or raise budget.patience ({budget.patience})"
            )
        if stopped is not None:
            return _result(search, ledger, times, stopped)
        before, used = used, budget.spent_time(**clocks)
        each = (used - before) / len(batch)
        left = (1 - used) / each if each > 0 else math.inf
        size = max(1, int(min(2 * size, left, _LARGEST_BATCH)))


def _result(search: Search, ledger: Ledger, times: Times, stopped: Stopped) -> SearchResult:
    """Return the result of a search.

    Raises:
        InputError: there are feasible candidates, but none that can be compared.
    """
    front = search.front()
    if len(search.history) and not front:
        raise InputError(search.history.describe_nothing_compared())
    return SearchResult(front, search.history, ledger, times, stopped)
