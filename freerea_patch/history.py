"""The history of a search: all evaluated candidates, how a pool of them is ranked, and the resulting front.

Candidates are ranked by FreeREA's summed score (Cavagnero 2023, section 3.3), or by NSGA-II's non-dominated sorting and
crowding distance (Deb 2002) if any objective is a Pareto axis. The functions at the end of this module work on arrays
of oriented values (larger is better): n candidates or points, k fitness metrics, m axes.
"""

from __future__ import annotations

import math
from array import array
from bisect import insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from freerea_patch.errors import unknown_name
from freerea_patch.objective import Evaluation, Objective

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

#: How a genotype was made; ``"given"`` is the option ``start``.
Origin = Literal["given", "random", "mutation", "crossover"]
#: How the fitness terms become one score: FreeREA's sum of values divided by their maxima, the mean of their ranks, or
#: the mean of the logarithms of these.
Aggregation = Literal["sum", "ranks", "log-ranks"]
#: The set in which values are normalised: the pool being ranked, as in FreeREA, or all feasible candidates so far.
Normalisation = Literal["pool", "history"]


@dataclass(frozen=True)
class Proposal:
    """A genotype that an algorithm proposes for evaluation.

    Attributes:
        genotype: the candidate's genotype.
        generation: the generation of the proposal; 0 for the initial population.
        parents: the genotypes of its parents: none, one (mutation) or two (crossover).
        origin: how it was made: ``"given"`` (the option ``start``), ``"random"``, ``"mutation"`` or ``"crossover"``.
    """

    genotype: str
    generation: int = 0
    parents: tuple[str, ...] = ()
    origin: Origin = "random"


@dataclass(slots=True)
class Candidate:
    """An evaluated genotype.

    Attributes:
        proposal: the genotype and its parents.
        evaluation: its values and seconds.
        generation: the generation that ageing counts from: of the first proposal, or of the latest repeated one.
        feasible: whether it satisfies every constraint.
        row: its row in the history's arrays, -1 if infeasible.
    """

    proposal: Proposal
    evaluation: Evaluation
    generation: int
    feasible: bool
    row: int = -1

    @property
    def genotype(self) -> str:
        """The candidate's genotype."""
        return self.proposal.genotype

    @property
    def values(self) -> Mapping[str, float]:
        """Metric values by objective name, in the metrics' own units and signs."""
        return self.evaluation.values


class History:
    """All candidates of a search. Only feasible candidates are ranked and reported.

    Args:
        terms: the search's objectives.
        aggregation: how the fitness terms become one score.
        normalisation: the set in which the fitness terms are normalised.

    Raises:
        InputError: an unknown aggregation or normalisation.
    """

    def __init__(
        self, terms: Sequence[Objective], *, aggregation: Aggregation = "sum", normalisation: Normalisation = "pool"
    ) -> None:
        if aggregation not in get_args(Aggregation):
            raise unknown_name("aggregation", aggregation, get_args(Aggregation))
        if normalisation not in get_args(Normalisation):
            raise unknown_name("normalisation", normalisation, get_args(Normalisation))
        self.terms = tuple(terms)
        self._aggregation = aggregation
        self._over_history = normalisation == "history"
        self._constraints = [t for t in terms if t.role == "constraint"]
        self._fitness_terms = [t for t in terms if t.role == "fitness"]
        self._pareto_terms = [t for t in terms if t.role == "pareto"]
        self._weights = np.array([t.weight for t in self._fitness_terms])
        # What scores over the history refer to, kept up to date: every metric's largest magnitude and its values in
        # ascending order, of the candidates whose values are all finite.
        self._largest = np.zeros(len(self._fitness_terms))
        self._ascending = [array("d") for _ in self._fitness_terms]
        # One row per feasible candidate, in the order of evaluation; the arrays double when they are full.
        self._fitness = np.empty((64, len(self._fitness_terms)))
        self._pareto = np.empty((64, len(self._pareto_terms)))
        self._candidates: dict[str, Candidate] = {}
        self._feasible: list[Candidate] = []
        #: Number of infeasible candidates since the last feasible one.
        self.infeasible_in_a_row = 0
        #: Number of feasible candidates without a finite value, by objective that selects.
        self._without_value = {t.name: 0 for t in terms if t.role != "constraint"}

    def __len__(self) -> int:
        """Number of feasible candidates."""
        return len(self._feasible)

    def __iter__(self) -> Iterator[Candidate]:
        """Iterate over the feasible candidates in the order of their evaluation."""
        return iter(self._feasible)

    def __contains__(self, genotype: str) -> bool:
        """Whether ``genotype`` has been evaluated, feasible or not."""
        return genotype in self._candidates

    @property
    def evaluated(self) -> int:
        """Number of candidates evaluated, including infeasible ones."""
        return len(self._candidates)

    @property
    def is_pareto(self) -> bool:
        """Whether any objective is a Pareto axis."""
        return bool(self._pareto_terms)

    def all_candidates(self) -> Iterator[Candidate]:
        """Iterate over all candidates, including infeasible ones, in the order of their evaluation."""
        return iter(self._candidates.values())

    def find(self, genotype: str) -> Candidate | None:
        """Return the candidate of ``genotype``, feasible or not, or None if it has not been evaluated."""
        return self._candidates.get(genotype)

    def add(self, proposal: Proposal, evaluation: Evaluation) -> Candidate:
        """Record a new candidate; it is feasible if it satisfies all constraints.

        Raises:
            KeyError: the evaluation lacks a metric that a feasible candidate must have.
        """
        values = evaluation.values
        # A candidate that one bound excludes may lack the values of the constraints after it.
        feasible = all(t.name in values and t.admits(values[t.name]) for t in self._constraints)
        candidate = Candidate(proposal, evaluation, proposal.generation, feasible)
        if feasible:
            row = len(self._feasible)
            if row == len(self._fitness):
                self._fitness = np.concatenate([self._fitness, np.empty_like(self._fitness)])
                self._pareto = np.concatenate([self._pareto, np.empty_like(self._pareto)])
            self._fitness[row] = [t.oriented(values[t.name]) for t in self._fitness_terms]
            self._pareto[row] = [t.oriented(values[t.name]) for t in self._pareto_terms]
            if self._over_history:
                self._extend_reference(self._fitness[row])
            candidate.row = row
            self._feasible.append(candidate)
            for name in self._without_value:
                self._without_value[name] += not math.isfinite(values[name])
        self.infeasible_in_a_row = 0 if feasible else self.infeasible_in_a_row + 1
        self._candidates[proposal.genotype] = candidate
        return candidate

    def describe_infeasible(self) -> str:
        """Return a clause for messages: nothing is within the constraints, and how near the nearest candidate is."""
        bounds = "; ".join(term.bounds for term in self._constraints)
        text = f"none of {self.evaluated} candidates is within the constraints ({bounds})"
        nearest = min(self._candidates.values(), key=self._excess, default=None)
        if nearest is None:
            return text
        values = nearest.values
        outside = [t for t in self._constraints if t.name in values and not t.admits(values[t.name])]
        has = " and ".join(
            f"no supported {t.name}"
            if math.isnan(values[t.name])
            else f"{t.name} {values[t.name]:.10g} {t.unit}".rstrip()
            for t in outside
        )
        return f"{text}; the nearest has {has}: {nearest.genotype}"

    def describe_unsupported(self, share: float = 0.5) -> str:
        """Return a clause for messages: the objectives without a finite value for more than a share of the candidates.

        The clause is empty if there are none.
        """
        return " and ".join(
            f"{name} is unsupported, NaN or infinite for {count} of {len(self)} candidates"
            for name, count in self._without_value.items()
            if count > share * len(self)
        )

    def describe_nothing_compared(self) -> str:
        """Return a clause for messages: no feasible candidate has finite values of all objectives that select."""
        return (
            f"nothing could be compared: {self.describe_unsupported(0)}; choose metrics that have a value on these"
            " networks"
        )

    def _excess(self, candidate: Candidate) -> tuple[int, float]:
        """Return how far an infeasible candidate is outside the constraints: those not reached, the summed excess."""
        values = candidate.values
        reached = [t for t in self._constraints if t.name in values]
        return len(self._constraints) - len(reached), sum(t.excess(values[t.name]) for t in reached)

    def scores(self, pool: Sequence[Candidate]) -> Floats:
        """Return the ``(n,)`` scores of feasible candidates; zeros if there is no fitness term."""
        if not self._fitness_terms:
            return np.zeros(len(pool))
        values = self._fitness[[c.row for c in pool]]
        references = (self._largest, self._ascending) if self._over_history else (None, None)
        return aggregate(values, self._weights, self._aggregation, *references)

    def refer_to(self, values: Mapping[str, float]) -> None:
        """Let scores over the history also refer to a network that is no candidate, by its values of fitness terms."""
        self._extend_reference(np.array([t.oriented(values[t.name]) for t in self._fitness_terms]))

    def _extend_reference(self, values: Floats) -> None:
        """Add a candidate's values to what scores over the history refer to."""
        if np.isfinite(values).all():
            np.maximum(self._largest, np.abs(values), out=self._largest)
            if self._aggregation != "sum":
                for ascending, value in zip(self._ascending, values.tolist(), strict=True):
                    insort(ascending, value)  # a search of O(log n), and one memmove: 0.02 ms in 100,000 values

    def ranked(self, pool: Sequence[Candidate]) -> list[Candidate]:
        """Return a pool of feasible candidates, best first.

        Without a Pareto objective, they are sorted by their summed score; with any, by NSGA-II's crowded comparison
        (Deb 2002) of the summed score and the Pareto objectives.
        """
        return [pool[i] for i in self.order(pool)]

    def order(self, pool: Sequence[Candidate]) -> list[int]:
        """Return the positions in ``pool``, best first, in the order of :meth:`ranked`."""
        if self._pareto_terms:
            order = nondominated_order(self.points(pool))
        else:
            order = np.argsort(-self.scores(pool), kind="stable")
        return cast("list[int]", order.tolist())

    def front(self) -> list[Candidate]:
        """Return the result of the search so far.

        With Pareto objectives, these are the non-dominated candidates, sorted along the first Pareto objective, best
        first; without, the single candidate with the best score. Scores are normalised over the history. The result is
        empty if there is no feasible candidate with finite values of all objectives that select.
        """
        if not self._pareto_terms:
            return self.leaders(1)
        points = self.points(self._feasible)
        front = np.flatnonzero((pareto_fronts(points) == 0) & np.isfinite(points).all(axis=1))
        front = front[np.argsort(-self._pareto[front, 0], kind="stable")]
        return [self._feasible[i] for i in front.tolist()]

    def leaders(self, count: int) -> list[Candidate]:
        """Return the candidates with the best scores, best first; one without a finite score is none of them."""
        scores = self.scores(self._feasible)
        order = np.argsort(-scores, kind="stable")[:count]
        return [self._feasible[i] for i in order[np.isfinite(scores[order])].tolist()]

    def points(self, pool: Sequence[Candidate]) -> Floats:
        """Return the ``(n, m)`` axes of Pareto selection: the summed score, if any, and the Pareto objectives."""
        axes = self._pareto[[c.row for c in pool]]
        return np.column_stack([self.scores(pool), axes]) if self._fitness_terms else axes


def aggregate(
    values: Floats,
    weights: Floats,
    aggregation: Aggregation,
    largest: Floats | None = None,
    ascending: Sequence[Sequence[float]] | None = None,
) -> Floats:
    """Return the scores of candidates by an aggregation; see :func:`fitness_scores` and :func:`rank_scores`."""
    if aggregation == "sum":
        return fitness_scores(values, weights, largest)
    return rank_scores(values, weights, ascending, logarithmic=aggregation == "log-ranks")


def fitness_scores(values: Floats, weights: Floats, largest: Floats | None = None) -> Floats:
    """Return FreeREA's score of every candidate within its pool (Cavagnero 2023, section 3.3).

    The score is the weighted sum over metrics of ``value / (max |value| over the pool + 1e-9)``. A metric that is
    constant over the pool shifts all scores by the same amount. A candidate with a NaN or infinite value scores minus
    infinity and is left out of the maxima.

    Args:
        values: ``(n, k)`` oriented metric values.
        weights: ``(k,)`` positive weights.
        largest: ``(k,)`` maxima to divide by instead of those of the pool.

    Returns:
        ``(n,)`` scores.
    """
    finite = np.isfinite(values).all(axis=1)
    if finite.all():
        if not len(values):
            return np.empty(0)
        largest = np.abs(values).max(axis=0) if largest is None else largest
        return cast(Floats, (values / (largest + 1e-9)) @ weights)
    scores = np.full(len(values), -np.inf)
    scores[finite] = fitness_scores(values[finite], weights, largest)
    return scores


def rank_scores(
    values: Floats, weights: Floats, ascending: Sequence[Sequence[float]] | None = None, *, logarithmic: bool = False
) -> Floats:
    """Return the weighted mean over metrics of every candidate's rank within its pool, from 0 (worst) to 1.

    Ranks do not depend on the scale of a metric, whereas FreeREA's sum is dominated by the metric that varies most
    relative to its maximum, which is the skip metric. Candidates that tie share the mean of their ranks. A candidate
    with a NaN or infinite value scores minus infinity and is not ranked.

    With logarithms, it is the weighted mean of ``log(r / n)``, for the rank r from 1 (worst) to n (Lee 2024, equation
    10). A low rank by one metric then cannot be made up for by high ranks by others.

    Args:
        values: ``(n, k)`` oriented metric values.
        weights: ``(k,)`` positive weights.
        ascending: every metric's values in ascending order, those of the candidates among them, to rank within
            instead of the pool.
        logarithmic: whether to take the mean of logarithms of ranks.

    Returns:
        ``(n,)`` scores.
    """
    finite = np.isfinite(values).all(axis=1)
    scores = np.full(len(values), -np.inf)
    scores[finite] = 0.0
    axes = values[finite].T
    references = np.sort(axes) if ascending is None else [np.asarray(column) for column in ascending]
    for axis, reference, weight in zip(axes, references, weights / weights.sum(), strict=True):
        below, upto = (np.searchsorted(reference, axis, side=side) for side in ("left", "right"))
        if logarithmic:
            scores[finite] += weight * np.log((below + upto + 1) / (2 * len(reference)))
        else:
            scores[finite] += weight * (below + upto - 1) / (2 * max(len(reference) - 1, 1))
    return scores


def normalised(points: Floats) -> Floats:
    """Return points with 0 for the worst and 1 for the best finite value of every axis.

    Only points without a NaN or infinite coordinate count; on an axis on which these are equal, all are 1.

    Args:
        points: ``(n, m)`` oriented points, at least one of them finite.

    Returns:
        ``(n, m)``.
    """
    finite = np.isfinite(points).all(axis=1)
    halves = points / 2  # whose differences do not overflow
    worst = halves[finite].min(axis=0)
    span = halves[finite].max(axis=0) - worst
    return cast(Floats, np.where(span > 0, (halves - worst) / np.where(span > 0, span, 1.0), 1.0))


def crowding_distances(points: Floats, fronts: Indices) -> Floats:
    """Return the crowding distance of every point within its front (Deb 2002, section III-B).

    A point's distance is the sum over axes of the gap between its two neighbours, divided by the range of the front.
    The points at the ends of an axis have an infinite distance. An axis on which all points are equal adds nothing.

    Args:
        points: ``(n, m)`` finite points.
        fronts: ``(n,)`` the number of every point's front.

    Returns:
        ``(n,)`` distances, larger for points in less crowded regions.
    """
    distances = np.zeros(len(points))
    if not len(points):
        return distances
    # Vectorised over all fronts, which lie one after the other: a pool has few points and many fronts.
    sizes = np.bincount(fronts)
    sizes = sizes[sizes > 0]
    last = sizes.cumsum() - 1
    first = last - sizes + 1
    for axis in points.T / 2:  # halves, whose differences do not overflow, have the same quotients
        order = np.lexsort((axis, fronts))
        ranked = axis[order]
        spread = (ranked[last] - ranked[first]).repeat(sizes)
        gaps = np.empty(len(points))
        gaps[1:-1] = ranked[2:] - ranked[:-2]
        gaps[first] = gaps[last] = np.inf
        spans = spread > 0
        distances[order[spans]] += gaps[spans] / spread[spans]
    return distances


def nondominated_order(points: Floats) -> Indices:
    """Order a pool by NSGA-II's crowded comparison (Deb 2002): by front, then by larger crowding distance.

    Points with a NaN or infinite coordinate come last; ties keep the order of the pool.

    Args:
        points: ``(n, m)`` oriented points.

    Returns:
        ``(n,)`` positions, best first.
    """
    fronts = pareto_fronts(points)
    finite = np.isfinite(points).all(axis=1)
    crowding = np.zeros(len(points))
    crowding[finite] = crowding_distances(points[finite], fronts[finite])
    return np.lexsort((-crowding, fronts))


def pareto_fronts(points: Floats) -> Indices:
    """Return the number of every point's front, 0 for the non-dominated ones.

    Points with a NaN or infinite coordinate share one front behind all others.

    Args:
        points: ``(n, m)`` oriented points.

    Returns:
        ``(n,)`` front numbers.
    """
    finite = np.isfinite(points).all(axis=1)
    fronts = np.zeros(len(points), dtype=np.intp)
    if finite.any():
        from moocore import pareto_rank  # imported late: a search without Pareto objectives never needs it

        fronts[finite] = pareto_rank(points[finite], maximise=True)
    fronts[~finite] = fronts[finite].max(initial=-1) + 1
    return fronts
