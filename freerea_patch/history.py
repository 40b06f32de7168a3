"""The record of every candidate a search has seen, kept as arrays so that ranking a pool is cheap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from freerea_patch.errors import unknown_name
from freerea_patch.objective import Evaluation, Objective
from freerea_patch.selection import Floats, fitness_scores, nondominated_order, pareto_fronts, rank_scores

Origin = Literal["given", "random", "mutation", "crossover"]
#: How the fitness terms become one score: FreeREA's sum of values over their maximum, or the mean of ranks.
Aggregation = Literal["sum", "ranks"]
#: Among whom a candidate is scored: the pool that it is compared in, as FreeREA does, or all that is feasible so far.
Normalisation = Literal["pool", "history"]


@dataclass(frozen=True)
class Proposal:
    """A genotype that an algorithm wants evaluated.

    Attributes:
        genotype: the candidate's genotype.
        generation: the step in which it is born, 0 for the start.
        parents: genotypes it was made from: none, one (mutation) or two (crossover).
        origin: ``"given"`` by the user, ``"random"``, ``"mutation"`` or ``"crossover"``.
    """

    genotype: str
    generation: int = 0
    parents: tuple[str, ...] = ()
    origin: Origin = "random"


@dataclass(slots=True)
class Candidate:
    """An evaluated genotype.

    Attributes:
        proposal: how it came to be.
        evaluation: its values and seconds.
        generation: its age: the step of its birth, or of its latest rebirth.
        feasible: whether every constraint admits it.
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
    """All candidates of a search; only the feasible ones take part in anything.

    Args:
        terms: the search's objectives.
        aggregation: how the fitness terms become one score.
        normalisation: among whom.

    Raises:
        InputError: an unknown aggregation or normalisation.
    """

    def __init__(
        self, terms: Sequence[Objective], *, aggregation: Aggregation = "sum", normalisation: Normalisation = "pool"
    ) -> None:
        for kind, name, known in (
            ("aggregation", aggregation, get_args(Aggregation)),
            ("normalisation", normalisation, get_args(Normalisation)),
        ):
            if name not in known:
                raise unknown_name(kind, name, known)
        self.terms = tuple(terms)
        self._aggregate = fitness_scores if aggregation == "sum" else rank_scores
        self._among_all = normalisation == "history"
        self._scored: Floats = np.empty(0)
        self._constraints = [t for t in terms if t.role == "constraint"]
        self._fitness_terms = [t for t in terms if t.role == "fitness"]
        self._pareto_terms = [t for t in terms if t.role == "pareto"]
        self._weights = np.array([t.weight for t in self._fitness_terms])
        self._fitness = np.empty((64, len(self._fitness_terms)))
        self._pareto = np.empty((64, len(self._pareto_terms)))
        self._seen: dict[str, Candidate] = {}
        self._feasible: list[Candidate] = []

    def __len__(self) -> int:
        """Number of feasible candidates: the different cells explored."""
        return len(self._feasible)

    def __iter__(self) -> Iterator[Candidate]:
        """Iterate over the feasible candidates in the order of their evaluation."""
        return iter(self._feasible)

    def __contains__(self, genotype: str) -> bool:
        """Whether ``genotype`` has been evaluated, feasible or not."""
        return genotype in self._seen

    @property
    def evaluated(self) -> int:
        """Number of candidates evaluated, the infeasible ones included."""
        return len(self._seen)

    @property
    def is_pareto(self) -> bool:
        """Whether any objective is a Pareto axis."""
        return bool(self._pareto_terms)

    def everything(self) -> Iterator[Candidate]:
        """Iterate over all candidates, the infeasible ones included, in the order of evaluation."""
        return iter(self._seen.values())

    def find(self, genotype: str) -> Candidate | None:
        """Return the candidate of ``genotype`` if it has been evaluated."""
        return self._seen.get(genotype)

    def feasible(self, genotype: str) -> Candidate | None:
        """Return the candidate of ``genotype`` if it has been evaluated and is feasible."""
        candidate = self._seen.get(genotype)
        return candidate if candidate is not None and candidate.feasible else None

    def add(self, proposal: Proposal, evaluation: Evaluation) -> Candidate:
        """Record a new candidate; its constraints decide whether it is feasible.

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
            candidate.row = row
            self._feasible.append(candidate)
        self._seen[proposal.genotype] = candidate
        return candidate

    def scores(self, pool: Sequence[Candidate]) -> Floats:
        """Return ``(n,)`` scores of feasible candidates, within ``pool`` or the history; 0 without a fitness term."""
        if not self._fitness_terms:
            return np.zeros(len(pool))
        rows = [c.row for c in pool]
        if not self._among_all:
            return self._aggregate(self._fitness[rows], self._weights)
        if len(self._scored) < len(self):
            self._scored = self._aggregate(self._fitness[: len(self)], self._weights)
        return self._scored[rows]

    def violations(self, candidate: Candidate) -> list[float]:
        """Return how far a candidate is outside the bounds of each constraint, relative to them.

        A bound that was not looked at, since another one before it excludes the candidate, counts nothing.
        """
        values = candidate.values
        return [t.violation(values[t.name]) if t.name in values else 0.0 for t in self._constraints]

    def violation(self, candidate: Candidate) -> float:
        """Return the sum of the :meth:`violations`, 0 for a feasible candidate."""
        return sum(self.violations(candidate))

    def ranked(self, pool: Sequence[Candidate]) -> list[Candidate]:
        """Return ``pool`` best first: what is infeasible comes last, the smallest violation first (Deb 2000).

        Without a Pareto objective: by summed score, normalised within the pool. With any: by NSGA-II's
        crowded comparison (Deb 2002) over the summed score and the Pareto objectives.
        """
        return [pool[i] for i in self.order(pool)]

    def order(self, pool: Sequence[Candidate]) -> list[int]:
        """Return the positions in ``pool``, best first, by the rule of :meth:`ranked`."""
        places = [i for i, c in enumerate(pool) if c.feasible]
        feasible = [pool[i] for i in places]
        if self._pareto_terms:
            order = nondominated_order(self._points(feasible))
        else:
            order = np.argsort(-self.scores(feasible), kind="stable")
        others = [i for i, c in enumerate(pool) if not c.feasible]
        return [places[i] for i in order.tolist()] + sorted(others, key=lambda i: self.violation(pool[i]))

    def front(self) -> list[Candidate]:
        """Return the result of the search over the feasible history.

        With a Pareto objective, the non-dominated candidates, sorted along the first Pareto objective,
        best first; without one, the single best-scoring candidate. Scores are normalised over the
        history. Empty if nothing feasible has been evaluated, or nothing that has a value in all that selects.
        """
        if not self._feasible:
            return []
        if not self._pareto_terms:
            best = self.ranked(self._feasible)[:1]
            return best if np.isfinite(self.scores(self._feasible)).any() else []
        points = self._points(self._feasible)
        front = np.flatnonzero((pareto_fronts(points) == 0) & np.isfinite(points).all(axis=1))
        front = front[np.argsort(-self._pareto[front, 0], kind="stable")]
        return [self._feasible[i] for i in front.tolist()]

    def _points(self, pool: Sequence[Candidate]) -> Floats:
        """Return the ``(n, m)`` axes of Pareto selection: the summed score, if any, and the objectives."""
        axes = self._pareto[[c.row for c in pool]]
        return np.column_stack([self.scores(pool), axes]) if self._fitness_terms else axes
