"""FreeREA's generations, seen from outside and around its ageing; its ablation; random search."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from freerea_patch import (
    ALGORITHMS,
    Budget,
    Candidate,
    Evaluation,
    FreeREA,
    FreeREAMinus,
    InputError,
    Objective,
    Proposal,
    Search,
    TopologySpace,
    make_search,
    run,
)
from tests.freerea_patch.synthetic import BitSpace, Formulas, noise, objectives

TERMS = [Objective("a"), Objective("b")]


def table() -> Formulas:
    return Formulas(a=noise("a"), b=noise("b"))


def scores(pool: Iterable[Candidate]) -> dict[str, float]:
    """The published score, by hand: the sum of value / (largest magnitude in the pool + 1e-9)."""
    pool = list(pool)
    largest = {m: max(abs(c.values[m]) for c in pool) + 1e-9 for m in ("a", "b")}
    return {c.genotype: sum(c.values[m] / largest[m] for m in ("a", "b")) for c in pool}


def best(pool: Iterable[Candidate], count: int) -> list[str]:
    score = scores(pool)
    return sorted(score, key=lambda genotype: -score[genotype])[:count]


def tell_all(search: Search, proposals: Sequence[Proposal]) -> list[Candidate]:
    evaluations = objectives(table()).evaluate([p.genotype for p in proposals])
    return [search.tell(proposal, evaluation) for proposal, evaluation in zip(proposals, evaluations, strict=True)]


class Ageing(NamedTuple):
    """The population before and after an ageing, its generations before, and who was told since the last one."""

    before: dict[str, Candidate]
    generations: dict[str, int]
    after: dict[str, Candidate]
    told: set[str]


class Watched(FreeREA):
    """Records each ageing."""

    latest: set[str]
    ageings: list[Ageing]

    def told(self, proposals: Sequence[Proposal]) -> list[Candidate]:
        candidates = super().told(proposals)
        self.latest.update(c.genotype for c in candidates)
        return candidates

    def _age(self, population: dict[str, Candidate]) -> None:
        before = dict(population)
        generations = {genotype: c.generation for genotype, c in population.items()}
        super()._age(population)
        self.ageings.append(Ageing(before, generations, dict(population), set(self.latest)))
        self.latest.clear()


@pytest.fixture(scope="module")
def ageings() -> list[Ageing]:
    """Of a search in a space small enough for rebirths and large enough for many generations."""
    search = Watched(BitSpace(9), TERMS, population=20, tournament=5, seed=4)
    search.latest, search.ageings = set(), []
    run(search, objectives(table()), Budget(evaluations=250))
    assert len(search.ageings) > 60
    return search.ageings


def test_a_population_ages_once_it_is_larger_than_n(ageings: list[Ageing]) -> None:
    # It then has at most the three offspring of the last tournament more.
    assert all(20 < len(ageing.before) <= 23 for ageing in ageings)


def test_a_population_holds_a_genotype_once(ageings: list[Ageing]) -> None:
    for ageing in ageings:
        assert [c.genotype for c in ageing.before.values()] == list(ageing.before)
        assert [c.genotype for c in ageing.after.values()] == list(ageing.after)


def test_one_candidate_of_the_oldest_generation_dies_of_age(ageings: list[Ageing]) -> None:
    for ageing in ageings:
        (dead,) = ageing.before.keys() - ageing.after.keys()
        assert ageing.generations[dead] == min(ageing.generations.values())


def test_the_n_best_of_the_rest_survive(ageings: list[Ageing]) -> None:
    for ageing, following in pairwise(ageings):
        survivors = set(best(ageing.after.values(), 20))
        assert following.before.keys() == survivors | following.told


def test_a_reborn_candidate_has_its_old_values_and_the_generation_of_its_rebirth(ageings: list[Ageing]) -> None:
    reborn = [c for ageing in ageings for c in ageing.before.values() if c.generation > c.proposal.generation]
    assert reborn
    for candidate in reborn:
        assert candidate.values == {"a": noise("a")(candidate.genotype), "b": noise("b")(candidate.genotype)}
    for generation, ageing in enumerate(ageings[1:], start=2):
        assert {ageing.generations[genotype] for genotype in ageing.told} == {generation}


def test_nobody_dies_of_age_while_all_are_of_one_generation() -> None:
    search = FreeREA(BitSpace(6), TERMS)
    population = {g: Candidate(Proposal(g), Evaluation({}), generation=2, feasible=True) for g in ("x", "y", "z")}
    search._age(population)
    assert list(population) == ["x", "y", "z"]
    population["y"].generation = 1
    search._age(population)
    assert list(population) == ["x", "z"]


def after_start(search: Search, size: int) -> tuple[list[Candidate], list[Proposal]]:
    """Drive a search through its start; return that, and what it proposes next."""
    start: list[Candidate] = []
    while len(start) < size:
        start += tell_all(search, search.ask())
    return start, search.ask()


def test_a_tournament_gives_two_mutants_and_a_crossover_child_of_its_two_best() -> None:
    # With the whole population in the tournament, its winners are known.
    search = FreeREA(BitSpace(16), TERMS, population=40, tournament=40, n_random=2, seed=3)
    start, offspring = after_start(search, 40)
    winners = best(start, 2)
    assert [p.origin for p in offspring] == ["mutation", "mutation", "crossover", "random", "random"]
    assert [p.parents for p in offspring] == [(winners[0],), (winners[1],), tuple(winners), (), ()]
    assert [p.generation for p in offspring] == [1] * 5
    for mutant in offspring[:2]:
        assert sum(a != b for a, b in zip(mutant.genotype, mutant.parents[0], strict=True)) == 1
    assert all(gene in genes for gene, *genes in zip(offspring[2].genotype, *winners, strict=True))


def test_the_start_is_n_random_candidates() -> None:
    start, _ = after_start(FreeREA(BitSpace(16), TERMS, population=40, tournament=5, seed=3), 40)
    assert len(start) == 40
    assert all(c.proposal.origin == "random" and c.generation == 0 for c in start)


def test_the_start_draws_on_until_n_candidates_are_feasible() -> None:
    source = Formulas(a=noise("a"), b=noise("b"), ones=lambda g: float(g.count("1")))
    terms = [*TERMS, Objective("ones", role="constraint", upper=6.0)]
    result = run(FreeREA(BitSpace(16), terms, population=40), objectives(source, *terms), Budget(evaluations=50))
    drawn = [c for c in result.history.everything() if c.proposal.generation == 0]
    assert sum(c.feasible for c in drawn) == 40
    assert not all(c.feasible for c in drawn)


class WatchedMinus(FreeREAMinus):
    """Records who entered the queue, in order, and the rank of each parent in the queue."""

    entered: list[Candidate]
    ranks: list[int]

    def told(self, proposals: Sequence[Proposal]) -> list[Candidate]:
        candidates = super().told(proposals)
        self.entered += candidates
        return candidates

    def mutant(self, parent: Candidate, generation: int) -> Proposal:
        queue = self.entered[-self.population :]
        self.ranks.append(best(queue, len(queue)).index(parent.genotype))
        return super().mutant(parent, generation)


def test_the_ablation_mutates_winners_of_a_queue_that_the_first_in_leaves() -> None:
    search = WatchedMinus(BitSpace(8), TERMS, population=20, tournament=5, seed=5)
    search.entered, search.ranks = [], []
    result = run(search, objectives(table()), Budget(evaluations=200))
    # A parent that had left the queue would have no rank in it. The best of five out of twenty has rank 2.9 on
    # average, counted from 0; a random one, 9.5.
    assert len(search.ranks) > 180
    assert sum(search.ranks) / len(search.ranks) < 4
    assert {c.proposal.origin for c in list(result.history)[20:]} == {"mutation"}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_genotype_is_evaluated_twice(algorithm: str) -> None:
    source = table()
    run(make_search(algorithm, BitSpace(6), TERMS), objectives(source), Budget(evaluations=50))
    asked = [genotype for genotype, _ in source.asked]
    assert len(asked) == len(set(asked)) == 50


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("length", [1, 3])
def test_a_small_space_ends_as_exhausted(algorithm: str, length: int) -> None:
    result = run(make_search(algorithm, BitSpace(length), TERMS), objectives(table()), Budget(evaluations=1_000))
    assert result.stopped == "exhausted"
    assert len(result.history) == 2**length
    assert [c.genotype for c in result.front] == best(result.history, 1)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_space_with_one_feasible_candidate_ends_with_it(algorithm: str) -> None:
    source = Formulas(a=noise("a"), b=noise("b"), ones=lambda g: float(g.count("1")))
    terms = [*TERMS, Objective("ones", role="constraint", upper=0.0)]
    result = run(make_search(algorithm, BitSpace(4), terms), objectives(source, *terms), Budget(evaluations=1_000))
    assert [c.genotype for c in result.front] == ["0000"]
    assert result.stopped == "exhausted"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_impossible_constraint_is_an_input_error(algorithm: str) -> None:
    terms = [*TERMS, Objective("ones", role="constraint", upper=-1.0)]
    source = Formulas(a=noise("a"), b=noise("b"), ones=lambda g: float(g.count("1")))
    with pytest.raises(InputError, match=r"none of \d+ candidates is within the constraints \(ones <= -1\); loosen"):
        run(make_search(algorithm, BitSpace(5), terms), objectives(source, *terms), Budget(evaluations=10))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_constraint_holds_for_the_whole_history(algorithm: str) -> None:
    source = Formulas(a=noise("a"), b=noise("b"), ones=lambda g: float(g.count("1")))
    terms = [*TERMS, Objective("ones", role="constraint", lower=2.0, upper=6.0)]
    result = run(make_search(algorithm, BitSpace(12), terms), objectives(source, *terms), Budget(evaluations=150))
    assert all(2 <= c.genotype.count("1") <= 6 for c in result.history)
    assert result.history.evaluated > len(result.history) == 150
    with_fitness = {genotype for genotype, metrics in source.asked if metrics == ("a", "b")}
    assert with_fitness == {c.genotype for c in result.history}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_pareto_objectives_give_a_front_that_nothing_in_the_history_dominates(algorithm: str) -> None:
    terms = [Objective("a"), Objective("b", "min", "pareto"), Objective("c", "max", "pareto")]
    source = Formulas(a=noise("a"), b=noise("b"), c=noise("c"))
    result = run(make_search(algorithm, BitSpace(12), terms), objectives(source, *terms), Budget(evaluations=150))

    def axes(c: Candidate) -> tuple[float, ...]:
        return c.values["a"], -c.values["b"], c.values["c"]

    def dominated(c: Candidate) -> bool:
        pairs = (zip(axes(other), axes(c), strict=True) for other in result.history if other is not c)
        return any(all(x >= y for x, y in pair) for pair in pairs)

    assert set(map(id, result.front)) == {id(c) for c in result.history if not dominated(c)}


def test_evolution_beats_random_search_on_a_metric_that_mutation_can_climb() -> None:
    source = Formulas(a=lambda g: float(g.count("1")))
    found = {
        name: run(
            make_search(name, BitSpace(40), [Objective("a")], seed=0), objectives(source), Budget(evaluations=400)
        )
        for name in ALGORITHMS
    }
    ones = {name: result.front[0].values["a"] for name, result in found.items()}
    assert ones["freerea"] > ones["freerea-minus"] > ones["random"]


#: First sixteen digits of the hash of the history of each algorithm: a change to a search's course shows here.
TRACES = {"freerea": "0214d48ab205c37f", "freerea-minus": "312ca26b8bbcc537", "random": "2b08482df8d29180"}


def trace(algorithm: str) -> str:
    search = make_search(algorithm, TopologySpace(), TERMS, seed=7)
    result = run(search, objectives(table()), Budget(evaluations=200))
    return hashlib.sha256("\n".join(c.genotype for c in result.history).encode()).hexdigest()[:16]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_course_of_a_seed_is_pinned(algorithm: str) -> None:
    assert trace(algorithm) == TRACES[algorithm]


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_the_course_of_a_seed_does_not_follow_the_hashes_of_strings(hash_seed: str) -> None:
    script = "from tests.freerea_patch.test_algorithms import *; print({a: trace(a) for a in ALGORITHMS})"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", script]
    ran = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == str(TRACES)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_another_seed_takes_another_course(algorithm: str) -> None:
    histories = [
        [c.genotype for c in run(search, objectives(table()), Budget(evaluations=30)).history]
        for search in (make_search(algorithm, TopologySpace(), TERMS, seed=seed) for seed in (0, 1))
    ]
    assert histories[0] != histories[1]


@pytest.mark.parametrize(
    ("algorithm", "options", "message"),
    [
        ("freerea", {"population": 1}, "population must be at least 2, not 1"),
        ("freerea", {"tournament": 101}, "tournament must be between 2 and the population (100), not 101"),
        ("freerea", {"tournament": 1}, "tournament must be between 2 and the population (100), not 1"),
        ("freerea", {"n_random": -1}, "n_random must not be negative, got -1"),
        ("freerea", {"repair": -1}, "repair must not be negative, got -1"),
        ("freerea", {"population": 10.0}, "population must be a whole number, got 10.0"),
        ("freerea", {"tournament": "3"}, "tournament must be a whole number, got '3'"),
        ("freerea", {"unseen": -2}, "unseen must not be negative, got -2"),
        ("random", {"simplify": True}, "space bits/4 has no method 'simplified'; leave 'simplify' out"),
        ("freerea-minus", {"population": 4}, "tournament must be between 2 and the population (4), not 5"),
        (
            "freerea-minus",
            {"n_random": 1},
            "unknown option of algorithm 'freerea-minus': 'n_random'. Valid: population, tournament",
        ),
        (
            "random",
            {"population": 5},
            (
                "unknown option of algorithm 'random': 'population'; did you mean 'normalisation'?"
                " Valid: aggregation, normalisation, simplify"
            ),
        ),
        ("freerae", {}, "unknown algorithm 'freerae'; did you mean 'freerea'? Valid: freerea, freerea-minus, random"),
    ],
)
def test_options_that_make_no_sense_are_refused(algorithm: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        make_search(algorithm, BitSpace(4), TERMS, **options)
    assert str(error.value) == message
