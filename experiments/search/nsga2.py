# mypy: disable-error-code="import-untyped, import-not-found"
"""NSGA-II of pymoo as a search of ours: the same objectives, ledger and budget as FreeREA.

References:
    Deb 2002: Deb, Pratap, Agarwal, Meyarivan, A fast and elitist multiobjective genetic algorithm: NSGA-II.
    Blank 2020: Blank, Deb, pymoo: Multi-Objective Optimization in Python.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from freerea_patch import InputError, Objective, Proposal, Search, SearchSpace
from freerea_patch.algorithms import Batches
from freerea_patch.history import Aggregation

Proposals = npt.NDArray[np.object_]


class PymooNSGA2(Search):
    """Pymoo's NSGA-II (Blank 2020) on genotypes.

    Its axes are those of our Pareto selection: the summed score, if there are fitness terms, and the Pareto
    objectives. Pymoo compares fixed numbers, not candidates within a pool: scores are normalised over all that is
    feasible so far, once a generation, for parents and children alike. Constraints are pymoo's, whose population
    keeps infeasible candidates while there is room (Deb 2002, section VI).

    Pairs are crossed with pymoo's probability of 0.9, and every child has one gene mutated, to which pymoo's own
    mutation comes on average. A child that was evaluated before is a duplicate, and pymoo mates on.

    Args:
        space, terms, seed: see :class:`~freerea_patch.search.Search`.
        population: number of survivors, and of children in a generation.
        aggregation, simplify: see :class:`~freerea_patch.search.Search`.

    Raises:
        InputError: a population under 2, pymoo is not installed, or what :class:`~freerea_patch.search.Search` refuses.
    """

    def __init__(
        self,
        space: SearchSpace,
        terms: Sequence[Objective],
        *,
        population: int = 100,
        seed: int = 0,
        aggregation: Aggregation = "sum",
        simplify: bool = False,
    ) -> None:
        if population < 2:
            raise InputError(f"population must be at least 2, not {population}")
        super().__init__(space, terms, seed=seed, aggregation=aggregation, simplify=simplify)
        self._pareto = [t for t in terms if t.role == "pareto"]
        self._constraints = [t for t in terms if t.role == "constraint"]
        self._summed = any(t.role == "fitness" for t in terms)
        self._algorithm = _nsga2(self, population, seed, self._summed + len(self._pareto), len(self._constraints) + 1)

    def batches(self) -> Batches:
        """Yield generation after generation, and empty ones once mating produces nothing new."""
        generation = 0
        while (children := self._algorithm.ask()) is not None:
            proposals = [replace(_proposal(child), generation=generation) for child in children]
            yield from self._evaluated(proposals)
            for child in children:  # a parent is a genotype without an origin
                child.X = _array([Proposal(_proposal(child).genotype)])
            self._judge([*self._algorithm.pop, *children])
            self._algorithm.tell(infills=children)
            generation += 1
        while True:
            yield ()

    def _evaluated(self, proposals: Sequence[Proposal]) -> Generator[Sequence[Proposal], None, None]:
        """Yield proposals until all are evaluated: the caller may evaluate some of them at a time."""
        while waiting := [p for p in proposals if p.genotype not in self.history]:
            yield waiting

    def _judge(self, individuals: Iterable[Any]) -> None:
        """Set the objectives F (smaller is better) and the constraints G (kept at 0 or less) of individuals."""
        feasible = list(self.history)
        scores = dict(zip((c.genotype for c in feasible), self.history.scores(feasible).tolist(), strict=True))
        for individual in individuals:
            genotype = _proposal(individual).genotype
            candidate = self.history.find(genotype)
            assert candidate is not None  # guaranteed by _evaluated
            values = candidate.values
            axes = np.zeros(self._summed + len(self._pareto))  # pymoo does not look at those of infeasible ones
            if candidate.feasible:
                axes[:] = [scores[genotype]] * self._summed + [t.oriented(values[t.name]) for t in self._pareto]
            # A point that is not finite ranks last; to pymoo, it violates a constraint infinitely.
            undefined = not np.isfinite(axes).all()
            individual.F = np.zeros_like(axes) if undefined else -axes
            individual.G = np.array([*(_violation(t, values) for t in self._constraints), np.inf if undefined else 0.0])


def _violation(term: Objective, values: Mapping[str, float]) -> float:
    """Return how far a value is outside the bounds of a constraint, relative to the bound; infinite if unsupported.

    A constraint without a value counts 0: it was not evaluated, because another one excludes the candidate.
    """
    value = values.get(term.name, 0.0)
    if math.isnan(value):
        return math.inf
    if term.name not in values:
        return 0.0
    below = 0.0 if term.lower is None else (term.lower - value) / (abs(term.lower) or 1.0)
    above = 0.0 if term.upper is None else (value - term.upper) / (abs(term.upper) or 1.0)
    return max(0.0, below, above)


def _proposal(individual: Any) -> Proposal:
    """Return the proposal of an individual of pymoo: its only variable."""
    proposal: Proposal = individual.X[0]
    return proposal


def _array(proposals: Any) -> Proposals:
    return np.array(proposals, dtype=object)


def _nsga2(search: PymooNSGA2, population: int, seed: int, axes: int, constraints: int) -> Any:
    """Return pymoo's algorithm, set up with the operators of the search's space."""
    try:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.config import Config
        from pymoo.core.crossover import Crossover
        from pymoo.core.duplicate import DuplicateElimination
        from pymoo.core.mutation import Mutation
        from pymoo.core.problem import Problem
        from pymoo.core.sampling import Sampling
        from pymoo.core.termination import NoTermination
    except ImportError:
        raise InputError("NSGA-II needs the package pymoo: pip install 'freerea-seval[experiments]'") from None
    space, rng, plain = search.space, search.rng, search.simplified

    class Draw(Sampling):  # type: ignore[misc]
        def _do(self, problem: Any, n_samples: int, **more: Any) -> Proposals:
            return _array([[search.sample()] for _ in range(n_samples)])

    class Cross(Crossover):  # type: ignore[misc]
        def _do(self, problem: Any, X: Proposals, **more: Any) -> Proposals:  # noqa: N803
            pairs = [(first.genotype, second.genotype) for first, second in zip(*X[:, :, 0], strict=True)]
            children = [Proposal(space.crossover(*pair, rng), parents=pair, origin="crossover") for pair in pairs]
            return _array([[[child] for child in children]])

    class Mutate(Mutation):  # type: ignore[misc]
        def _do(self, problem: Any, X: Proposals, **more: Any) -> Proposals:  # noqa: N803
            return _array([[mutant(proposal)] for proposal in X[:, 0]])

    class New(DuplicateElimination):  # type: ignore[misc]
        def _do(self, pop: Any, other: Any, is_duplicate: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
            seen = {_proposal(individual).genotype for individual in (() if other is None else other)}
            for index, genotype in enumerate(_proposal(individual).genotype for individual in pop):
                is_duplicate[index] = genotype in seen or genotype in search.history
                if other is None:
                    seen.add(genotype)
            return is_duplicate

    def mutant(proposal: Proposal) -> Proposal:
        genotype = plain(space.mutate(proposal.genotype, rng))
        if proposal.parents:
            return replace(proposal, genotype=genotype)
        return Proposal(genotype, parents=(proposal.genotype,), origin="mutation")

    Config.warnings["not_compiled"] = False  # would be printed
    algorithm = NSGA2(
        pop_size=population,
        sampling=Draw(),
        crossover=Cross(n_parents=2, n_offsprings=1),
        mutation=Mutate(),
        eliminate_duplicates=New(),
        output=None,
    )
    problem = Problem(n_var=1, n_obj=axes, n_ieq_constr=constraints)
    return algorithm.setup(problem, seed=seed, termination=NoTermination())
