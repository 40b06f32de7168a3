"""FreeREA, its ablation FreeREA-minus, and random search (Cavagnero 2023, arXiv 2207.05135)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from inspect import signature
from typing import Any

from freerea_patch.errors import InputError, unknown_name
from freerea_patch.history import Aggregation, Candidate, Normalisation, Proposal
from freerea_patch.objective import Objective
from freerea_patch.search import DRAWS_A_ROUND, Rounds, Search
from freerea_patch.spaces.protocol import SearchSpace


class FreeREA(Search):
    """Training-free evolution with tournament, mutation, crossover and ageing.

    A generation is a round, or as many as it takes, of one tournament and its offspring: the two best of
    ``tournament`` candidates give a mutant each and one crossover child. Then the population ages by
    one candidate and its best ``population`` survive. With Pareto objectives, "best" is NSGA-II's
    crowded comparison instead of the summed score (see :meth:`History.ranked`).

    Args:
        space, terms, seed: see :class:`~freerea_patch.search.Search`.
        population: N, the number of survivors.
        tournament: n, the number of candidates that compete to be parents.
        n_random: fresh random candidates that join the offspring.
        aggregation, normalisation, simplify: see :class:`~freerea_patch.search.Search`.
        near_feasible: let infeasible candidates into the population, behind all feasible ones and by their violation
            (Deb 2000), instead of drawing until ``population`` of them are feasible.
        repair: mutate an infeasible offspring on until it is feasible, at most so many times.
        unseen: mutate an offspring that was seen before on until it is new, at most so many times.
        start: genotypes to begin with, such as those of an earlier search: the best ``population`` of them, and random
            candidates as far as these are fewer.

    Raises:
        InputError: a population under 2, a tournament outside 2 to ``population``, a negative ``n_random``,
            ``repair`` or ``unseen``, a genotype in ``start`` that is not of the space, or what
            :class:`~freerea_patch.search.Search` refuses.
    """

    def __init__(
        self,
        space: SearchSpace,
        terms: Sequence[Objective],
        *,
        population: int = 100,
        tournament: int = 25,
        n_random: int = 0,
        seed: int = 0,
        aggregation: Aggregation = "sum",
        normalisation: Normalisation = "pool",
        simplify: bool = False,
        near_feasible: bool = False,
        repair: int = 0,
        unseen: int = 0,
        start: Sequence[str] = (),
    ) -> None:
        _check_sizes(population, tournament, n_random)
        for name, times in (("repair", repair), ("unseen", unseen)):
            if times < 0:
                raise InputError(f"{name} must not be negative, got {times}")
        for genotype in start:
            space.check(genotype)
        self.population = population
        self.tournament = tournament
        self.n_random = n_random
        self.near_feasible = near_feasible
        self.repair = repair
        self.unseen = unseen
        self.start = tuple(start)
        super().__init__(
            space, terms, seed=seed, aggregation=aggregation, normalisation=normalisation, simplify=simplify
        )

    def course(self) -> Rounds:
        """Yield the start, then tournament after tournament."""
        start = yield from self.given(self.start, self._admitted)
        start = self.history.ranked(start)[: self.population]
        start += yield from self.draw(self.population - len(start), self._admitted)
        # A dict holds each genotype once, in the order in which candidates joined; a set of strings, as
        # in the public code, would make the survivors depend on PYTHONHASHSEED.
        population = {c.genotype: c for c in start}
        generation = 0
        while True:
            generation += 1
            while True:
                pool = self.rng.sample(list(population.values()), min(self.tournament, len(population)))
                ranked = self.history.ranked(pool)
                first, second = ranked[0], ranked[min(1, len(ranked) - 1)]
                offspring = [
                    self.mutant(first, generation),
                    self.mutant(second, generation),
                    self.child(first, second, generation),
                    *(self.random(generation) for _ in range(self.n_random)),
                ]
                offspring = [self._renewed(proposal, generation) for proposal in offspring]
                yield offspring
                for _ in range(self.repair):
                    offspring = self._mended(offspring, generation)
                    yield offspring
                for candidate in self._admitted(offspring):
                    # Seen before: it returns with its old values, and only its generation is new.
                    candidate.generation = generation
                    population.setdefault(candidate.genotype, candidate)
                if len(population) > self.population:
                    break
            self._age(population)
            if len(population) > self.population:
                survivors = self.history.ranked(list(population.values()))[: self.population]
                population = {c.genotype: c for c in survivors}

    def _renewed(self, proposal: Proposal, generation: int) -> Proposal:
        """Return the proposal, or a mutant of it if it was seen before, or of that one, and so on."""
        for _ in range(self.unseen):
            seen = self.history.find(proposal.genotype)
            if seen is None:
                break
            proposal = self.mutant(seen, generation)
        return proposal

    def _mended(self, offspring: Sequence[Proposal], generation: int) -> list[Proposal]:
        """Return the offspring with a mutant in the place of each that is infeasible."""
        found = [(proposal, self.history.find(proposal.genotype)) for proposal in offspring]
        return [p if c is None or c.feasible else self.mutant(c, generation) for p, c in found]

    def _admitted(self, proposals: Sequence[Proposal]) -> list[Candidate]:
        """Return the candidates among ``proposals`` that the population takes, in order, repeats included."""
        if not self.near_feasible:
            return self.told(proposals)
        return [c for p in proposals if (c := self.history.find(p.genotype)) is not None]

    def _age(self, population: dict[str, Candidate]) -> None:
        """Remove one candidate of the oldest generation, unless all are of one age."""
        oldest = min(c.generation for c in population.values())
        eldest = [g for g, c in population.items() if c.generation == oldest]
        if len(eldest) < len(population):
            del population[self.rng.choice(eldest)]


class FreeREAMinus(Search):
    """The paper's ablation: plain ageing evolution on the same metrics.

    Each step, the winner of a tournament (drawn with replacement, as in Real 2019) gives one mutant,
    which joins the queue while the candidate that has been in it longest leaves.

    Args:
        space, terms, seed: see :class:`~freerea_patch.search.Search`.
        population: length of the queue.
        tournament: number of candidates that compete to be the parent.

    Raises:
        InputError: a population under 2, or a tournament outside 2 to ``population``.
    """

    def __init__(
        self,
        space: SearchSpace,
        terms: Sequence[Objective],
        *,
        population: int = 100,
        tournament: int = 5,
        seed: int = 0,
    ) -> None:
        _check_sizes(population, tournament, 0)
        self.population = population
        self.tournament = tournament
        super().__init__(space, terms, seed=seed)

    def course(self) -> Rounds:
        """Yield the start, then mutant after mutant."""
        start = yield from self.draw(self.population, self.told)
        queue = deque(start)
        generation = 0
        while True:
            generation += 1
            winner = self.history.ranked(self.rng.choices(queue, k=self.tournament))[0]
            offspring = [self.mutant(winner, generation)]
            yield offspring
            for candidate in self.told(offspring):
                candidate.generation = generation
                queue.append(candidate)
                queue.popleft()


class RandomSearch(Search):
    """The baseline: uniform random candidates."""

    def course(self) -> Rounds:
        """Yield random draws for ever."""
        while True:
            yield [self.random() for _ in range(DRAWS_A_ROUND)]


def _check_sizes(population: int, tournament: int, n_random: int) -> None:
    for name, size in (("population", population), ("tournament", tournament), ("n_random", n_random)):
        if isinstance(size, bool) or not isinstance(size, int):
            raise InputError(f"{name} must be a whole number, got {size!r}")
    if population < 2:
        raise InputError(f"population must be at least 2, not {population}")
    if not 2 <= tournament <= population:
        raise InputError(f"tournament must be between 2 and the population ({population}), not {tournament}")
    if n_random < 0:
        raise InputError(f"n_random must not be negative, got {n_random}")


#: Algorithms by the name that a config uses.
ALGORITHMS: dict[str, type[Search]] = {
    "freerea": FreeREA,
    "freerea-minus": FreeREAMinus,
    "random": RandomSearch,
}


def algorithm_options(algorithm: str) -> dict[str, Any]:
    """Return the options of an algorithm with their defaults."""
    parameters = signature(ALGORITHMS[algorithm]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "seed"}


def make_search(
    algorithm: str, space: SearchSpace, terms: Sequence[Objective], *, seed: int = 0, **options: Any
) -> Search:
    """Return a search by the name of its algorithm.

    Args:
        algorithm: a name in :data:`ALGORITHMS`.
        options: what the algorithm takes besides (population, tournament, aggregation, ...).

    Raises:
        InputError: an unknown algorithm or an option that it does not take.
    """
    if algorithm not in ALGORITHMS:
        raise unknown_name("algorithm", algorithm, ALGORITHMS)
    known = algorithm_options(algorithm)
    for option in options:
        if option not in known:
            raise unknown_name(f"option of algorithm {algorithm!r}:", option, known)
    return ALGORITHMS[algorithm](space, terms, seed=seed, **options)
