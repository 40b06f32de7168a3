"""Search algorithms: FreeREA, FreeREA-minus, random search (Cavagnero 2023, arXiv 2207.05135), and your own.

An algorithm is a subclass of :class:`Search`, which has the ask/tell interface and its bookkeeping. The subclass
proposes batches of genotypes in the generator :meth:`Search.batches`. :func:`find_algorithm` finds algorithms by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from inspect import Parameter, isabstract, signature
from random import Random
from typing import Any, Literal, get_type_hints

from freerea_patch.errors import InputError, NothingFeasible, unknown_name
from freerea_patch.history import Aggregation, Candidate, History, Normalisation, Proposal
from freerea_patch.imports import import_object
from freerea_patch.objective import Evaluation, Objective
from freerea_patch.spaces import SearchSpace

#: A search is exhausted after this number of consecutive batches without a new feasible candidate.
PATIENCE = 1_000
#: Random candidates per batch: sources can work on a batch, and a budget can end the search between batches.
BATCH_SIZE = 16
#: The largest population, the largest number of random candidates a tournament, and the most mutations of a duplicate;
#: with these, a search of an exhausted space ends within seconds. A round has at most :data:`MOST_TOURNAMENTS`.
MOST_CANDIDATES = 100_000
MOST_RANDOM = 1_000
MOST_MUTATIONS = 100
MOST_TOURNAMENTS = 1_000
#: A package adds algorithms by entry points of this group: ``name = pkg.module:Class``.
ENTRY_POINTS = "freerea_seval.algorithms"

Batches = Generator[Sequence[Proposal], None, None]
#: Whether genotypes are simplified; ``"auto"``: in a space that can.
Simplify = bool | Literal["auto"]


class Search(ABC):
    """A search over a space, driven by :meth:`ask` and :meth:`tell`.

    A subclass implements its algorithm as the generator :meth:`batches`. Keyword-only parameters of its constructor
    are its options, which a config may set.

    Args:
        space: the search space.
        terms: the objectives, whose roles, directions and bounds determine the selection.
        seed: determines the course of the search, given the same metric values.
        aggregation: how the fitness metrics become one score: the ``sum`` of their values, each relative to the
            largest, as FreeREA has it; the mean of their ``ranks``; or that of the logarithms of ranks, ``log-ranks``.
        normalisation: among which networks values and ranks are compared: the ``pool`` that is to be ranked, or all of
            the ``history``.
        simplify: remove operations that the output does not depend on from every proposed genotype; ``"auto"`` does so
            in spaces with a method ``simplified``. Such operations change metrics and cost time, but do not change the
            function that the network computes.

    Raises:
        InputError: an unknown aggregation or normalisation, or ``simplify`` in a space that does not support it.
    """

    #: Candidates of a batch that need not wait for each other.
    batch_size = BATCH_SIZE

    def __init__(
        self,
        space: SearchSpace,
        terms: Sequence[Objective],
        *,
        seed: int = 0,
        aggregation: Aggregation = "sum",
        normalisation: Normalisation = "pool",
        simplify: Simplify = False,
    ) -> None:
        Search.check_options(space, simplify=simplify)
        self.space = space
        self.simplify = hasattr(space, "simplified") if simplify == "auto" else simplify
        self.history = History(terms, aggregation=aggregation, normalisation=normalisation)
        self.rng = Random(seed)
        self._batches = self.batches()
        self._pending: dict[str, Proposal] = {}
        self._idle_batches = 0

    @classmethod
    def check_options(cls, space: SearchSpace, **options: Any) -> None:
        """Check the values of options without constructing the search; the constructor calls it as well.

        A run calls it with all options before it opens metric sources, which can take minutes.

        Raises:
            InputError: a value that the algorithm cannot use in ``space``.
        """
        if options.get("simplify") is True and not hasattr(space, "simplified"):
            raise InputError(f"space {space.name} has no method 'simplified'; set 'simplify: false'")

    @abstractmethod
    def batches(self) -> Batches:
        """Yield batches of proposals without end; on resumption, their evaluations are in :attr:`history`.

        Genotypes that have been evaluated before are not evaluated again. A proposal may also return unevaluated,
        because the caller of :meth:`ask` can limit the number of candidates.
        """

    @property
    def exhausted(self) -> bool:
        """Whether :data:`PATIENCE` consecutive batches, counted by size, brought no new feasible candidate."""
        return self._idle_batches * self.batch_size >= PATIENCE * BATCH_SIZE

    def ask(self, limit: int | None = None) -> list[Proposal]:
        """Return the next candidates to evaluate, all of them new, at most ``limit``.

        Returns:
            At least one proposal, or none if the search is exhausted.

        Raises:
            RuntimeError: :meth:`tell` has not been called for all candidates of the last call.
            NothingFeasible: the search is exhausted without a single feasible candidate.
        """
        if self._pending:
            raise RuntimeError(
                f"ask() before tell(): {len(self._pending)} candidates still wait for their evaluation,"
                f" the first is {next(iter(self._pending))!r}"
            )
        while not self.exhausted:
            self._idle_batches += 1
            new: dict[str, Proposal] = {}
            for proposal in next(self._batches):
                if proposal.genotype not in self.history:
                    new.setdefault(proposal.genotype, proposal)
            if new:
                proposals = list(new.values())[:limit]
                self._pending = {p.genotype: p for p in proposals}
                return proposals
        if not len(self.history):
            raise NothingFeasible(f"{self.history.describe_infeasible()}; loosen the bound")
        return []

    def tell(self, proposal: Proposal, evaluation: Evaluation) -> Candidate:
        """Record the evaluation of one proposal of the last :meth:`ask`.

        Raises:
            RuntimeError: the proposal is not pending: it was never returned by :meth:`ask`, or is evaluated already.
        """
        if proposal.genotype not in self._pending:
            raise RuntimeError(f"tell() without ask(): {proposal.genotype!r} is not waiting for an evaluation")
        candidate = self.history.add(proposal, evaluation)
        del self._pending[proposal.genotype]  # last: if the evaluation lacks a metric, the proposal stays pending
        if candidate.feasible:
            self._idle_batches = 0
        return candidate

    def front(self) -> list[Candidate]:
        """Return the result so far: see :meth:`freerea_patch.history.History.front`."""
        return self.history.front()

    def sample_feasible(self, count: int) -> Generator[Sequence[Proposal], None, list[Candidate]]:
        """Yield batches of random proposals until ``count`` of them are feasible, and return these.

        A genotype drawn twice counts twice, so that the space may be smaller than ``count``.
        """
        candidates: list[Candidate] = []
        while len(candidates) < count:
            batch = [self.sample() for _ in range(min(self.batch_size, count - len(candidates)))]
            yield batch
            candidates += self.feasible(batch)
        return candidates

    def evaluate_given(self, genotypes: Sequence[str]) -> Generator[Sequence[Proposal], None, list[Candidate]]:
        """Yield batches of proposals of ``genotypes``, and return the feasible candidates, each once."""
        candidates: dict[str, Candidate] = {}
        for first in range(0, len(genotypes), self.batch_size):
            part = genotypes[first : first + self.batch_size]
            batch = [Proposal(self.simplified(g), origin="given") for g in part]
            yield batch
            candidates |= {c.genotype: c for c in self.feasible(batch)}
        return list(candidates.values())

    def feasible(self, proposals: Sequence[Proposal]) -> list[Candidate]:
        """Return the feasible candidates among ``proposals``, in order, including repeated ones."""
        candidates = (self.history.find(p.genotype) for p in proposals)
        return [c for c in candidates if c is not None and c.feasible]

    def sample(self, generation: int = 0) -> Proposal:
        """Propose a random genotype of the space."""
        return Proposal(self.simplified(self.space.sample(self.rng)), generation)

    def mutate(self, parent: Candidate, generation: int) -> Proposal:
        """Propose a mutation of ``parent``."""
        genotype = self.space.mutate(parent.genotype, self.rng)
        return Proposal(self.simplified(genotype), generation, (parent.genotype,), "mutation")

    def crossover(self, first: Candidate, second: Candidate, generation: int) -> Proposal:
        """Propose a crossover of two candidates."""
        genotype = self.space.crossover(first.genotype, second.genotype, self.rng)
        return Proposal(self.simplified(genotype), generation, (first.genotype, second.genotype), "crossover")

    def simplified(self, genotype: str) -> str:
        """Return the genotype to propose: simplified if the option ``simplify`` is set."""
        if not self.simplify:
            return genotype
        simplified: str = self.space.simplified(genotype)  # type: ignore[attr-defined]
        return simplified


class FreeREA(Search):
    """Training-free evolution with tournament selection, mutation, crossover and ageing.

    A generation repeats the following until the population exceeds ``population``: the two best of ``tournament``
    random members are the parents of one mutation each and of one crossover, and the feasible offspring join the
    population. Then one member of the oldest generation is removed, and the best ``population`` of the rest survive.
    With Pareto objectives, NSGA-II's crowded comparison replaces the summed score (see :meth:`History.ranked`).

    With ``tournaments``, a round has several tournaments in the same population, whose offspring are evaluated
    together, and so at the same time where there are worker processes. Afterwards as many members of the oldest
    generation are removed as there were tournaments, but no more than leaves ``population``.

    Args:
        space, terms, seed: see :class:`Search`.
        population: N, the number of survivors; at most :data:`MOST_CANDIDATES`.
        tournament: n, the number of candidates in a tournament.
        tournaments: K, the number of tournaments a round, 1 as published; at most :data:`MOST_TOURNAMENTS`. Batches of
            the initial population are K times as large, too.
        n_random: random candidates added to the offspring of every tournament; at most :data:`MOST_RANDOM`.
        aggregation, normalisation, simplify: see :class:`Search`.
        unseen: replace offspring that have been evaluated before by a mutation of them, up to this number of times,
            at most :data:`MOST_MUTATIONS`.
        start: genotypes for the initial population, such as those of an earlier search: the best ``population`` of
            them, completed by random candidates.

    Raises:
        InputError: a population under 2, a tournament outside 2 to ``population``, a number that is negative or
            larger than its bound, a genotype in ``start`` that is not in the space, or an option that :class:`Search`
            rejects.
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
        simplify: Simplify = False,
        unseen: int = 0,
        start: Sequence[str] = (),
        tournaments: int = 1,
    ) -> None:
        FreeREA.check_options(
            space,
            population=population,
            tournament=tournament,
            n_random=n_random,
            unseen=unseen,
            start=start,
            tournaments=tournaments,
        )
        self.population = population
        self.tournament = tournament
        self.tournaments = tournaments
        self.batch_size = BATCH_SIZE * tournaments
        self.n_random = n_random
        self.unseen = unseen
        self.start = tuple(start)
        super().__init__(
            space, terms, seed=seed, aggregation=aggregation, normalisation=normalisation, simplify=simplify
        )

    @classmethod
    def check_options(cls, space: SearchSpace, **options: Any) -> None:
        """Check the values of options: see :meth:`Search.check_options`."""
        super().check_options(space, **options)
        _check_sizes(options["population"], options["tournament"])
        check_count("n_random", options["n_random"], 0, MOST_RANDOM)
        check_count("unseen", options["unseen"], 0, MOST_MUTATIONS)
        check_count("tournaments", options["tournaments"], 1, MOST_TOURNAMENTS)
        for genotype in options["start"]:
            space.check(genotype)

    def batches(self) -> Batches:
        """Yield the initial population, then the offspring of one tournament after another."""
        candidates = yield from self.evaluate_given(self.start)
        candidates = self.history.ranked(candidates)[: self.population]
        candidates += yield from self.sample_feasible(self.population - len(candidates))
        # A dict keeps genotypes unique and in the order in which they joined. With a set of strings, as in the public
        # code, the survivors would depend on PYTHONHASHSEED.
        population = {c.genotype: c for c in candidates}
        generation = 0
        while True:
            generation += 1
            while True:
                members = list(population.values())
                offspring = [p for _ in range(self.tournaments) for p in self._offspring(members, generation)]
                yield offspring
                for candidate in self.feasible(offspring):
                    # A candidate that was evaluated before rejoins with its recorded values and a new generation.
                    candidate.generation = generation
                    population.setdefault(candidate.genotype, candidate)
                if len(population) > self.population:
                    break
            for _ in range(min(self.tournaments, len(population) - self.population)):
                self._age(population)
            if len(population) > self.population:
                survivors = self.history.ranked(list(population.values()))[: self.population]
                population = {c.genotype: c for c in survivors}

    def _offspring(self, members: Sequence[Candidate], generation: int) -> list[Proposal]:
        """Propose the offspring of one tournament."""
        ranked = self.history.ranked(self.rng.sample(members, min(self.tournament, len(members))))
        first, second = ranked[0], ranked[min(1, len(ranked) - 1)]
        offspring = [
            self.mutate(first, generation),
            self.mutate(second, generation),
            self.crossover(first, second, generation),
            *(self.sample(generation) for _ in range(self.n_random)),
        ]
        return [self._unseen(proposal, generation) for proposal in offspring]

    def _unseen(self, proposal: Proposal, generation: int) -> Proposal:
        """Replace a proposal that has been evaluated before by a mutation of it, ``unseen`` times at most."""
        for _ in range(self.unseen):
            duplicate = self.history.find(proposal.genotype)
            if duplicate is None:
                break
            proposal = self.mutate(duplicate, generation)
        return proposal

    def _age(self, population: dict[str, Candidate]) -> None:
        """Remove a random member of the oldest generation, unless all are of the same generation."""
        oldest = min(c.generation for c in population.values())
        eldest = [g for g, c in population.items() if c.generation == oldest]
        if len(eldest) < len(population):
            del population[self.rng.choice(eldest)]


class RankedFreeREA(FreeREA):
    """FreeREA with the three options that find better networks under a bound; each can be set separately.

    Rank scores instead of the sum of values, normalised over the history instead of the pool, on genotypes without
    operations that the output does not depend on.

    Args:
        space, terms: see :class:`Search`.
        aggregation, normalisation, simplify: see :class:`Search`.
        options: the other options of :class:`FreeREA`.
    """

    def __init__(
        self,
        space: SearchSpace,
        terms: Sequence[Objective],
        *,
        aggregation: Aggregation = "ranks",
        normalisation: Normalisation = "history",
        simplify: Simplify = "auto",
        **options: Any,
    ) -> None:
        super().__init__(
            space, terms, aggregation=aggregation, normalisation=normalisation, simplify=simplify, **options
        )


class FreeREAMinus(Search):
    """The paper's ablation: plain ageing evolution on the same metrics.

    In each step, the winner of a tournament (drawn with replacement, as in Real 2019) is mutated; the mutation joins
    the queue, and the oldest member of the queue leaves it.

    Args:
        space, terms, seed: see :class:`Search`.
        population: length of the queue; at most :data:`MOST_CANDIDATES`.
        tournament: number of candidates in a tournament.

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
        FreeREAMinus.check_options(space, population=population, tournament=tournament)
        self.population = population
        self.tournament = tournament
        super().__init__(space, terms, seed=seed)

    @classmethod
    def check_options(cls, space: SearchSpace, **options: Any) -> None:
        """Check the values of options: see :meth:`Search.check_options`."""
        super().check_options(space, **options)
        _check_sizes(options["population"], options["tournament"])

    def batches(self) -> Batches:
        """Yield the initial population, then one mutation after another."""
        queue = deque((yield from self.sample_feasible(self.population)))
        generation = 0
        while True:
            generation += 1
            winner = self.history.ranked(self.rng.choices(queue, k=self.tournament))[0]
            offspring = [self.mutate(winner, generation)]
            yield offspring
            for candidate in self.feasible(offspring):
                candidate.generation = generation
                queue.append(candidate)
                queue.popleft()


class RandomSearch(Search):
    """The baseline: uniformly random candidates."""

    def batches(self) -> Batches:
        """Yield random candidates."""
        while True:
            yield [self.sample() for _ in range(BATCH_SIZE)]


def _check_sizes(population: object, tournament: object) -> None:
    check_count("population", population, 2, MOST_CANDIDATES)
    check_count("tournament", tournament, 2, population, f" and the population ({population})")


def check_count(name: str, count: object, least: int, most: Any, most_text: str = "") -> None:
    """Check an option that is a number of candidates or of attempts; ``most_text`` says what ``most`` is."""
    if isinstance(count, bool) or not isinstance(count, int):
        raise InputError(f"{name} must be a whole number, got {count!r}")
    if not least <= count <= most:
        raise InputError(f"{name} must be between {least}{most_text or f' and {most}'}, got {count}")


#: Built-in algorithms by the name that a config uses: a class, or ``"pkg.module:Class"``.
ALGORITHMS: Mapping[str, type[Search] | str] = {
    "freerea": FreeREA,
    "freerea-ranked": RankedFreeREA,
    "freerea-minus": FreeREAMinus,
    "random": RandomSearch,
}


def find_algorithm(name: str, others: Iterable[str] = ()) -> type[Search]:
    """Return an algorithm by name.

    Args:
        name: a built-in algorithm, one that an installed package adds (:data:`ENTRY_POINTS`), or ``pkg.module:Class``.
        others: names that are valid as well, for the error.

    Raises:
        InputError: an unknown name, or an object that is not an algorithm.
    """
    target: Any = ALGORITHMS.get(name, name)
    if target is name and ":" not in name:
        from importlib.metadata import entry_points

        installed = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
        if name not in installed:
            raise unknown_name("algorithm", name, [*ALGORITHMS, *installed, *others, "pkg.module:Class"])
        target = installed[name]
    algorithm = import_object(target, f"algorithm {name!r}") if isinstance(target, str) else target
    if not (isinstance(algorithm, type) and issubclass(algorithm, Search)) or isabstract(algorithm):
        raise InputError(
            f"algorithm {name!r}: expected a subclass of freerea_patch.Search with 'batches', got {algorithm!r}"
        )
    return algorithm


def algorithm_options(algorithm: type[Search]) -> dict[str, Parameter]:
    """Return the options of an algorithm: the keyword-only parameters of its constructor, without the seed.

    Where a constructor takes ``**options``, the options of the base class are included. An annotation that cannot be
    resolved at run time is replaced by ``Any``.
    """
    options: dict[str, Parameter] = {}
    for cls in algorithm.__mro__:
        if "__init__" not in vars(cls):
            continue
        constructor: Any = vars(cls)["__init__"]
        try:
            hints = get_type_hints(constructor, include_extras=True)
        except NameError:  # a type that is imported for type checkers only
            hints = {}
        parameters = signature(constructor).parameters.values()
        for p in parameters:
            if p.kind is Parameter.KEYWORD_ONLY and p.name != "seed":
                options.setdefault(p.name, p.replace(annotation=hints.get(p.name, Any)))
        if not any(p.kind is Parameter.VAR_KEYWORD for p in parameters):
            break
    return options


def check_option_names(name: str, algorithm: type[Search], options: Mapping[str, Any]) -> None:
    """Check that an algorithm takes the options and lacks none.

    Raises:
        InputError: an unknown option, or an option without default that is missing.
    """
    parameters = algorithm_options(algorithm)
    for option in options:
        if option not in parameters:
            raise unknown_name(f"option of algorithm {name!r}:", option, parameters)
    for option, parameter in parameters.items():
        if parameter.default is Parameter.empty and option not in options:
            raise InputError(f"algorithm {name!r} needs the option {option!r}, which has no default")


def make_search(
    algorithm: str, space: SearchSpace, terms: Sequence[Objective], *, seed: int = 0, **options: Any
) -> Search:
    """Return a search by the name of its algorithm.

    Args:
        algorithm: see :func:`find_algorithm`.
        space, terms, seed: see :class:`Search`.
        options: options of the algorithm.

    Raises:
        InputError: an unknown algorithm or option, or a value that the algorithm rejects.
    """
    cls = find_algorithm(algorithm)
    check_option_names(algorithm, cls, options)
    return cls(space, terms, seed=seed, **options)
