# mypy: disable-error-code="import-untyped, import-not-found"
"""Pymoo (Blank 2020): an evaluator as its problem, and its NSGA-II as a search of ours.

The variable of an individual is a genotype, and the operators are those of the search space.

References:
    Deb 2002: Deb, Pratap, Agarwal, Meyarivan, A fast and elitist multiobjective genetic algorithm: NSGA-II.
    Blank 2020: Blank, Deb, pymoo: Multi-Objective Optimization in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from freerea_patch import InputError, Objective, Proposal, Search, SearchSpace
from freerea_patch.algorithms import MOST_CANDIDATES, Batches, Simplify, check_count
from freerea_patch.history import Aggregation
from freerea_seval.integrations.points import point, without_unreached

try:
    from pymoo.algorithms.moo.nsga2 import NSGA2 as _NSGA2
    from pymoo.config import Config
    from pymoo.core.crossover import Crossover
    from pymoo.core.duplicate import DuplicateElimination
    from pymoo.core.mutation import Mutation
    from pymoo.core.problem import Problem as _Problem
    from pymoo.core.sampling import Sampling
    from pymoo.core.termination import NoTermination
except ImportError:
    raise InputError("this needs the package pymoo: pip install 'freerea-seval[engines]'") from None

if TYPE_CHECKING:
    from freerea_seval.api.evaluator import Evaluator

Variables = npt.NDArray[np.object_]
Mask = npt.NDArray[np.bool_]

Config.warnings["not_compiled"] = False  # would be printed


class Problem(_Problem):  # type: ignore[misc]
    """The objectives of a config as a problem of pymoo; its variable is the genotype.

    Every objective that selects (roles ``fitness`` and ``pareto``) is one of pymoo's objectives, with the sign that
    makes smaller better; every constraint is the relative distance to its bound, 0 or less within it. A network
    without a finite value violates a further constraint.

    Args:
        evaluator: evaluates genotypes.
        seed: of the operators.

    Example:
        >>> import freerea_seval as fs
        >>> from pymoo.algorithms.moo.nsga2 import NSGA2
        >>> from pymoo.optimize import minimize
        >>> from freerea_seval.integrations.pymoo import Problem
        >>> problem = Problem(fs.Evaluator.from_config({"budget": {"evaluations": 1}, "objectives": [
        ...     {"metric": "params", "source": "cost", "role": "pareto"},
        ...     {"metric": "skip", "source": "training-free", "role": "pareto"}]}))
        >>> result = minimize(problem, NSGA2(pop_size=10, **problem.operators()), ("n_gen", 3), seed=1)
        >>> result.X[0, 0].startswith("|")
        True
    """

    def __init__(self, evaluator: Evaluator, seed: int = 0) -> None:
        self._evaluate_genotypes = evaluator
        self._space, self._rng = evaluator.space, Random(seed)
        terms = evaluator.objectives
        self._selecting = [t for t in terms if t.role != "constraint"]
        self._constraints = [t for t in terms if t.role == "constraint"]
        super().__init__(n_var=1, n_obj=len(self._selecting), n_ieq_constr=len(self._constraints) + 1, vtype=object)

    def _evaluate(self, X: Variables, out: dict[str, Any], *args: Any, **more: Any) -> None:  # noqa: N803
        table = self._evaluate_genotypes([str(genotype) for genotype in X[:, 0]])
        names = [t.name for t in (*self._constraints, *self._selecting)]
        points = []
        for feasible, *values in table[["feasible", *names]].itertuples(index=False):
            row = without_unreached(dict(zip(names, values, strict=True)), self._constraints)
            points.append(point(row, self._selecting, self._constraints, feasible))
        out["F"], out["G"] = (np.array(values) for values in zip(*points, strict=True))

    def operators(self) -> dict[str, Any]:
        """Return the operators of the search space, as arguments of a genetic algorithm of pymoo."""
        space, rng = self._space, self._rng
        return _operators(
            sample=lambda: space.sample(rng),
            cross=lambda first, second: space.crossover(first, second, rng),
            mutate=lambda genotype: space.mutate(genotype, rng),
        )


class NSGA2(Search):
    """Pymoo's NSGA-II (Blank 2020) on genotypes.

    Its axes are those of our Pareto selection: the summed score, if there are fitness terms, and the Pareto
    objectives. Pymoo compares fixed numbers, not candidates within a pool: scores are normalised over all that is
    feasible so far, once a generation, for parents and children alike. Constraints are pymoo's, whose population
    keeps infeasible candidates while there is room (Deb 2002, section VI).

    Pairs are crossed with pymoo's probability of 0.9, and every child has one gene mutated, to which pymoo's own
    mutation comes on average. A child that was evaluated before is a duplicate, and pymoo mates on.

    Args:
        space, terms, seed: see :class:`~freerea_patch.Search`.
        population: number of survivors, and of children in a generation.
        aggregation, simplify: see :class:`~freerea_patch.Search`.

    Raises:
        InputError: a population under 2, or what :class:`~freerea_patch.Search` refuses.
    """

    def __init__(
        self,
        space: SearchSpace,
        terms: Sequence[Objective],
        *,
        population: int = 100,
        seed: int = 0,
        aggregation: Aggregation = "sum",
        simplify: Simplify = False,
    ) -> None:
        NSGA2.check_options(space, population=population, simplify=simplify)
        super().__init__(space, terms, seed=seed, aggregation=aggregation, simplify=simplify)
        self._pareto = [t for t in terms if t.role == "pareto"]
        self._constraints = [t for t in terms if t.role == "constraint"]
        self._summed = [Objective("score")] if any(t.role == "fitness" for t in terms) else []
        axes = len(self._summed) + len(self._pareto)
        operators = _operators(self._draw, self._cross, self._mutate, _genotype, self.history.__contains__)
        self._algorithm = _NSGA2(pop_size=population, output=None, **operators).setup(
            _Problem(n_var=1, n_obj=axes, n_ieq_constr=len(self._constraints) + 1),
            seed=seed,
            termination=NoTermination(),
        )

    @classmethod
    def check_options(cls, space: SearchSpace, **options: Any) -> None:
        """Check the values of options: see :meth:`freerea_patch.Search.check_options`."""
        super().check_options(space, **options)
        check_count("population", options["population"], 2, MOST_CANDIDATES)

    def batches(self) -> Batches:
        """Yield generation after generation, and empty ones once mating produces nothing new."""
        generation = 0
        while (children := self._algorithm.ask()) is not None:
            proposals = [replace(child.X[0], generation=generation) for child in children]
            yield from self._evaluated(proposals)
            for child in children:  # a parent is a genotype without an origin
                child.X = _array([Proposal(_genotype(child.X[0]))])
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
            genotype = _genotype(individual.X[0])
            candidate = self.history.find(genotype)
            assert candidate is not None  # guaranteed by _evaluated
            values = {**candidate.values, "score": scores.get(genotype, 0.0)}
            axes, violations = point(values, [*self._summed, *self._pareto], self._constraints, candidate.feasible)
            individual.F, individual.G = np.array(axes), np.array(violations)

    def _draw(self) -> Proposal:
        return self.sample()

    def _cross(self, first: Proposal, second: Proposal) -> Proposal:
        pair = (first.genotype, second.genotype)
        return Proposal(self.space.crossover(*pair, self.rng), parents=pair, origin="crossover")

    def _mutate(self, proposal: Proposal) -> Proposal:
        genotype = self.simplified(self.space.mutate(proposal.genotype, self.rng))
        if proposal.parents:
            return replace(proposal, genotype=genotype)
        return Proposal(genotype, parents=(proposal.genotype,), origin="mutation")


def _operators(
    sample: Callable[[], Any],
    cross: Callable[[Any, Any], Any],
    mutate: Callable[[Any], Any],
    genotype: Callable[[Any], str] = str,
    known: Callable[[str], bool] = lambda genotype: False,
) -> dict[str, Any]:
    """Return the operators of a genetic algorithm.

    Args:
        sample, cross, mutate: make a variable.
        genotype: of a variable.
        known: whether a genotype was evaluated before, so that an individual with it is a duplicate.
    """

    class Draw(Sampling):  # type: ignore[misc]
        def _do(self, problem: Any, n_samples: int, **more: Any) -> Variables:
            return _array([[sample()] for _ in range(n_samples)])

    class Cross(Crossover):  # type: ignore[misc]
        def _do(self, problem: Any, X: Variables, **more: Any) -> Variables:  # noqa: N803
            return _array([[[cross(first, second)] for first, second in zip(*X[:, :, 0], strict=True)]])

    class Mutate(Mutation):  # type: ignore[misc]
        def _do(self, problem: Any, X: Variables, **more: Any) -> Variables:  # noqa: N803
            return _array([[mutate(variable)] for variable in X[:, 0]])

    class New(DuplicateElimination):  # type: ignore[misc]
        def _do(self, pop: Any, other: Any, is_duplicate: Mask) -> Mask:
            seen = {genotype(individual.X[0]) for individual in (() if other is None else other)}
            for index, name in enumerate(genotype(individual.X[0]) for individual in pop):
                is_duplicate[index] = name in seen or known(name)
                if other is None:
                    seen.add(name)
            return is_duplicate

    return {
        "sampling": Draw(),
        "crossover": Cross(n_parents=2, n_offsprings=1),
        "mutation": Mutate(),
        "eliminate_duplicates": New(),
    }


def _genotype(proposal: Proposal) -> str:
    return proposal.genotype


def _array(variables: Any) -> Variables:
    return np.array(variables, dtype=object)
