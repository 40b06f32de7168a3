"""Run a search: ask, evaluate, tell, until the budget is spent."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from freerea_patch.budget import Budget, Ledger
from freerea_patch.history import Candidate, History
from freerea_patch.objective import Objectives
from freerea_patch.search import Search


@dataclass(frozen=True)
class Times:
    """The clocks of a run.

    Attributes:
        wall_s: seconds since the run began.
        loop_s: those of them spent in the search itself, outside the evaluation of metrics.
    """

    wall_s: float
    loop_s: float


class Stopwatch:
    """The clocks of a running search; a resumed run passes one that goes on where the last one stopped."""

    def __init__(self) -> None:
        self.set(Times(0.0, 0.0))

    def set(self, times: Times) -> None:
        """Let the clocks go on from ``times``."""
        self._begin = time.perf_counter() - times.wall_s
        self._evaluating_s = times.wall_s - times.loop_s

    def evaluated(self, seconds: float) -> None:
        """Note seconds that went into evaluating metrics."""
        self._evaluating_s += seconds

    def read(self) -> Times:
        """Return the clocks; :func:`run` reads them once a candidate."""
        wall_s = time.perf_counter() - self._begin
        return Times(wall_s, wall_s - self._evaluating_s)


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        front: the best candidate, or with Pareto objectives the non-dominated ones.
        history: every candidate evaluated.
        ledger: the seconds charged.
        times: the clocks at the end.
        stopped: why the search ended.
    """

    front: list[Candidate]
    history: History
    ledger: Ledger
    times: Times
    stopped: Literal["budget", "exhausted"]


def run(
    search: Search,
    objectives: Objectives,
    budget: Budget,
    *,
    ledger: Ledger | None = None,
    on_candidate: Callable[[Candidate, float, Times], None] | None = None,
    stopwatch: Stopwatch | None = None,
) -> SearchResult:
    """Drive ``search`` until the budget is spent or the space is exhausted.

    Args:
        search: made with the terms of ``objectives``.
        objectives: the seam that supplies metric values.
        budget: when to stop; checked after every candidate.
        ledger: seconds already spent, on preparing a predictor for instance.
        on_candidate: called after every candidate with it, the fraction of the budget that is spent, and
            the clocks.
        stopwatch: the clocks to go by.

    Raises:
        NothingFeasible: no candidate is within the constraints.
    """
    ledger = ledger or Ledger()
    stopwatch = stopwatch or Stopwatch()
    while True:
        limit = None if budget.evaluations is None else budget.evaluations - len(search.history)
        proposals = search.ask(limit)
        if not proposals:
            return SearchResult(search.front(), search.history, ledger, stopwatch.read(), "exhausted")
        began = time.perf_counter()
        evaluations = objectives.evaluate([p.genotype for p in proposals])
        for proposal in proposals:
            evaluation = next(evaluations)
            stopwatch.evaluated(time.perf_counter() - began)
            candidate = search.tell(proposal, evaluation)
            ledger.charge(evaluation.seconds)
            times = stopwatch.read()
            spent = budget.spent(
                metric_s=ledger.total_s,
                wall_s=times.wall_s,
                loop_s=times.loop_s,
                evaluations=len(search.history),
            )
            if on_candidate is not None:
                on_candidate(candidate, spent, times)
            if spent >= 1:
                return SearchResult(search.front(), search.history, ledger, times, "budget")
            began = time.perf_counter()
