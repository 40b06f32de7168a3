"""Ask and tell; the generations of FreeREA and of its ablation; random search; options; algorithms by name."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import EntryPoint
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import pytest

from freerea_patch import (
    ALGORITHMS,
    Batches,
    Budget,
    Candidate,
    Evaluation,
    FreeREA,
    FreeREAMinus,
    InputError,
    NothingFeasible,
    Objective,
    ObjectiveSet,
    Proposal,
    RandomSearch,
    RankedFreeREA,
    Search,
    TopologySpace,
    algorithm_options,
    find_algorithm,
    make_search,
    run,
)
from freerea_patch.algorithms import (
    BATCH_SIZE,
    MOST_CANDIDATES,
    MOST_MUTATIONS,
    MOST_RANDOM,
    MOST_TOURNAMENTS,
    PATIENCE,
)
from tests.freerea_patch.synthetic import BitSpace, Formulas, noise, objectives

TERMS = [Objective("a"), Objective("b")]
NO_SEARCH = "expected a subclass of freerea_patch.Search with 'batches', got"
#: All but ``freerea-ranked``, which is ``freerea`` with other options.
BUILT_IN = [name for name in ALGORITHMS if name != "freerea-ranked"]


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
    """The population before and after an ageing, its generations before, and who joined since the last one."""

    before: dict[str, Candidate]
    generations: dict[str, int]
    after: dict[str, Candidate]
    joined: set[str]


class Watched(FreeREA):
    """Records each ageing."""

    latest: set[str]
    ageings: list[Ageing]

    def feasible(self, proposals: Sequence[Proposal]) -> list[Candidate]:
        candidates = super().feasible(proposals)
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
        assert following.before.keys() == survivors | following.joined


def test_a_reborn_candidate_has_its_old_values_and_the_generation_of_its_rebirth(ageings: list[Ageing]) -> None:
    reborn = [c for ageing in ageings for c in ageing.before.values() if c.generation > c.proposal.generation]
    assert reborn
    for candidate in reborn:
        assert candidate.values == {"a": noise("a")(candidate.genotype), "b": noise("b")(candidate.genotype)}
    for generation, ageing in enumerate(ageings[1:], start=2):
        assert {ageing.generations[genotype] for genotype in ageing.joined} == {generation}


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


def test_a_round_of_several_tournaments_has_the_offspring_of_each_from_one_population() -> None:
    search = FreeREA(BitSpace(16), TERMS, population=40, tournament=5, tournaments=7, n_random=1, seed=3)
    start, offspring = after_start(search, 40)
    known = {c.genotype for c in start}
    assert [p.origin for p in offspring] == ["mutation", "mutation", "crossover", "random"] * 7
    assert all(set(p.parents) <= known for p in offspring)
    assert len({p.parents for p in offspring if p.origin == "crossover"}) > 1
    assert {p.generation for p in offspring} == {1}


def test_genotypes_are_simplified_where_the_space_can() -> None:
    space = TopologySpace()
    assert make_search("random", space, TERMS, simplify="auto").simplify is True
    assert make_search("random", BitSpace(4), TERMS, simplify="auto").simplify is False


def test_several_tournaments_make_the_batches_of_the_start_larger_and_the_same_networks() -> None:
    given = [format(number, "016b") for number in range(0, 65536, 2048)]
    batches: dict[int, list[list[Proposal]]] = {}
    for tournaments in (1, 3):
        search = FreeREA(BitSpace(16), TERMS, population=90, tournament=5, start=given, tournaments=tournaments)
        batches[tournaments] = []
        while len(search.history) < 90:
            batches[tournaments].append(search.ask())
            tell_all(search, batches[tournaments][-1])
    assert max(len(batch) for batch in batches[1]) == BATCH_SIZE
    assert [len(batch) for batch in batches[3]] == [32, 3 * BATCH_SIZE, 10]
    assert [p for batch in batches[1] for p in batch] == [p for batch in batches[3] for p in batch]


@pytest.mark.parametrize("tournaments", [1, 4])
def test_a_round_removes_as_many_old_candidates_as_it_has_tournaments(
    tournaments: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[list[int]] = [[]]
    age = FreeREA._age

    def counted(search: FreeREA, population: dict[str, Candidate]) -> None:
        before = len(population)
        assert before > search.population
        age(search, population)
        removed[-1].append(before - len(population))

    monkeypatch.setattr(FreeREA, "_age", counted)
    search = FreeREA(BitSpace(16), TERMS, population=20, tournament=5, tournaments=tournaments, seed=3)
    after_start(search, 20)
    for _ in range(12):
        removed.append([])
        for proposal in list(search._pending.values()):
            search.tell(proposal, Evaluation({"a": noise("a")(proposal.genotype), "b": noise("b")(proposal.genotype)}))
        search.ask()
    assert {sum(counts) for counts in removed[1:] if counts} == {tournaments}


@pytest.mark.parametrize(
    ("algorithm", "options", "expected"),
    [("freerea", {}, "a14a6fa42d702413"), ("freerea-ranked", {"n_random": 1, "unseen": 2}, "454b6ac649e04691")],
)
def test_with_one_tournament_a_round_a_seed_has_the_course_that_it_always_had(
    algorithm: str, options: dict[str, int], expected: str
) -> None:
    source = Formulas(
        worth=lambda g: (crc32(g.encode()) % 9973) / 7, cost=lambda g: float(crc32(g[::-1].encode()) % 10)
    )
    terms = (Objective("worth"), Objective("cost", "min", "constraint", upper=9.0))
    search = make_search(algorithm, TopologySpace(), terms, seed=3, population=30, tournament=8, **options)
    history = run(search, objectives(source, *terms), Budget(evaluations=300)).history
    course = [(p.genotype, p.generation, p.parents, p.origin) for p in (c.proposal for c in history.all_candidates())]
    assert hashlib.sha256(repr(course).encode()).hexdigest()[:16] == expected


def test_the_start_is_n_random_candidates() -> None:
    start, _ = after_start(FreeREA(BitSpace(16), TERMS, population=40, tournament=5, seed=3), 40)
    assert len(start) == 40
    assert all(c.proposal.origin == "random" and c.generation == 0 for c in start)


def test_the_start_draws_on_until_n_candidates_are_feasible() -> None:
    source = Formulas(a=noise("a"), b=noise("b"), ones=lambda g: float(g.count("1")))
    terms = [*TERMS, Objective("ones", role="constraint", upper=6.0)]
    result = run(FreeREA(BitSpace(16), terms, population=40), objectives(source, *terms), Budget(evaluations=50))
    drawn = [c for c in result.history.all_candidates() if c.proposal.generation == 0]
    assert sum(c.feasible for c in drawn) == 40
    assert not all(c.feasible for c in drawn)


class WatchedMinus(FreeREAMinus):
    """Records who entered the queue, in order, and the rank of each parent in the queue."""

    entered: list[Candidate]
    ranks: list[int]

    def feasible(self, proposals: Sequence[Proposal]) -> list[Candidate]:
        candidates = super().feasible(proposals)
        self.entered += candidates
        return candidates

    def mutate(self, parent: Candidate, generation: int) -> Proposal:
        queue = self.entered[-self.population :]
        self.ranks.append(best(queue, len(queue)).index(parent.genotype))
        return super().mutate(parent, generation)


def test_the_ablation_mutates_winners_of_a_queue_that_the_first_in_leaves() -> None:
    search = WatchedMinus(BitSpace(8), TERMS, population=20, tournament=5, seed=5)
    search.entered, search.ranks = [], []
    result = run(search, objectives(table()), Budget(evaluations=200))
    # A parent that had left the queue would have no rank in it. The best of five out of twenty has rank 2.9 on
    # average, counted from 0; a random one, 9.5.
    assert len(search.ranks) > 180
    assert sum(search.ranks) / len(search.ranks) < 4
    assert {c.proposal.origin for c in list(result.history)[20:]} == {"mutation"}


@pytest.mark.parametrize("algorithm", BUILT_IN)
def test_no_genotype_is_evaluated_twice(algorithm: str) -> None:
    source = table()
    run(make_search(algorithm, BitSpace(6), TERMS), objectives(source), Budget(evaluations=50))
    asked = [genotype for genotype, _ in source.asked]
    assert len(asked) == len(set(asked)) == 50


@pytest.mark.parametrize("algorithm", BUILT_IN)
@pytest.mark.parametrize("length", [1, 3])
def test_a_small_space_ends_as_exhausted(algorithm: str, length: int) -> None:
    result = run(make_search(algorithm, BitSpace(length), TERMS), objectives(table()), Budget(evaluations=1_000))
    assert result.stopped == "exhausted"
    assert len(result.history) == 2**length
    assert [c.genotype for c in result.front] == best(result.history, 1)


@pytest.mark.parametrize("algorithm", BUILT_IN)
def test_a_space_with_one_feasible_candidate_ends_with_it(algorithm: str) -> None:
    source = Formulas(a=noise("a"), b=noise("b"), ones=lambda g: float(g.count("1")))
    terms = [*TERMS, Objective("ones", role="constraint", upper=0.0)]
    result = run(make_search(algorithm, BitSpace(4), terms), objectives(source, *terms), Budget(evaluations=1_000))
    assert [c.genotype for c in result.front] == ["0000"]
    assert result.stopped == "exhausted"


@pytest.mark.parametrize("algorithm", BUILT_IN)
def test_an_impossible_constraint_is_an_input_error(algorithm: str) -> None:
    terms = [*TERMS, Objective("ones", role="constraint", upper=-1.0)]
    source = Formulas(a=noise("a"), b=noise("b"), ones=lambda g: float(g.count("1")))
    with pytest.raises(
        InputError, match=r"none of 32 candidates .* \(ones <= -1\); the nearest has ones 0: 00000; loosen"
    ):
        run(make_search(algorithm, BitSpace(5), terms), objectives(source, *terms), Budget(evaluations=10))


@pytest.mark.parametrize("algorithm", BUILT_IN)
def test_a_constraint_holds_for_the_whole_history(algorithm: str) -> None:
    source = Formulas(a=noise("a"), b=noise("b"), ones=lambda g: float(g.count("1")))
    terms = [*TERMS, Objective("ones", role="constraint", lower=2.0, upper=6.0)]
    result = run(make_search(algorithm, BitSpace(12), terms), objectives(source, *terms), Budget(evaluations=150))
    assert all(2 <= c.genotype.count("1") <= 6 for c in result.history)
    assert result.history.evaluated > len(result.history) == 150
    with_fitness = {genotype for genotype, metrics in source.asked if metrics == ("a", "b")}
    assert with_fitness == {c.genotype for c in result.history}


@pytest.mark.parametrize("algorithm", BUILT_IN)
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
    results = {
        name: run(
            make_search(name, BitSpace(40), [Objective("a")], seed=0), objectives(source), Budget(evaluations=400)
        )
        for name in BUILT_IN
    }
    ones = {name: result.front[0].values["a"] for name, result in results.items()}
    assert ones["freerea"] > ones["freerea-minus"] > ones["random"]


#: First sixteen digits of the hash of the history of each algorithm: a change to a search's course shows here.
TRACES = {"freerea": "0214d48ab205c37f", "freerea-minus": "312ca26b8bbcc537", "random": "2b08482df8d29180"}


def trace(algorithm: str) -> str:
    search = make_search(algorithm, TopologySpace(), TERMS, seed=7)
    result = run(search, objectives(table()), Budget(evaluations=200))
    return hashlib.sha256("\n".join(c.genotype for c in result.history).encode()).hexdigest()[:16]


@pytest.mark.parametrize("algorithm", BUILT_IN)
def test_the_course_of_a_seed_is_pinned(algorithm: str) -> None:
    assert trace(algorithm) == TRACES[algorithm]


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_the_course_of_a_seed_does_not_follow_the_hashes_of_strings(hash_seed: str) -> None:
    script = "from tests.freerea_patch.test_algorithms import *; print({a: trace(a) for a in BUILT_IN})"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", script]
    ran = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == str(TRACES)


@pytest.mark.parametrize("algorithm", BUILT_IN)
def test_another_seed_takes_another_course(algorithm: str) -> None:
    histories = [
        [c.genotype for c in run(search, objectives(table()), Budget(evaluations=30)).history]
        for search in (make_search(algorithm, TopologySpace(), TERMS, seed=seed) for seed in (0, 1))
    ]
    assert histories[0] != histories[1]


@pytest.mark.parametrize(
    ("algorithm", "options", "message"),
    [
        ("freerea", {"population": 1}, "population must be between 2 and 100000, got 1"),
        ("freerea", {"tournament": 101}, "tournament must be between 2 and the population (100), got 101"),
        ("freerea", {"tournament": 1}, "tournament must be between 2 and the population (100), got 1"),
        ("freerea", {"n_random": -1}, "n_random must be between 0 and 1000, got -1"),
        ("freerea", {"population": 10.0}, "population must be a whole number, got 10.0"),
        ("freerea", {"tournament": "3"}, "tournament must be a whole number, got '3'"),
        ("freerea", {"unseen": -2}, "unseen must be between 0 and 100, got -2"),
        ("freerea", {"tournaments": 0}, "tournaments must be between 1 and 1000, got 0"),
        ("freerea-ranked", {"tournaments": 1.5}, "tournaments must be a whole number, got 1.5"),
        ("freerea", {"n_random": 10**9}, "n_random must be between 0 and 1000, got 1000000000"),
        ("freerea", {"unseen": 10**9}, "unseen must be between 0 and 100, got 1000000000"),
        ("freerea", {"population": 10**9}, "population must be between 2 and 100000, got 1000000000"),
        ("random", {"simplify": True}, "space bits/4 has no method 'simplified'; set 'simplify: false'"),
        ("freerea-minus", {"population": 4}, "tournament must be between 2 and the population (4), got 5"),
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
        (
            "freerae",
            {},
            "unknown algorithm 'freerae'; did you mean 'freerea'?"
            " Valid: freerea, freerea-minus, freerea-ranked, pkg.module:Class, random",
        ),
        ("random:Random", {}, f"algorithm 'random:Random': {NO_SEARCH} <class 'random.Random'>"),
        ("freerea_patch:Search", {}, f"algorithm 'freerea_patch:Search': {NO_SEARCH} {Search!r}"),
    ],
)
def test_options_that_make_no_sense_are_refused(algorithm: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        make_search(algorithm, BitSpace(4), TERMS, **options)
    assert str(error.value) == message


def test_freerea_ranked_is_freerea_with_three_other_defaults() -> None:
    space = TopologySpace()
    options = {"population": 10, "tournament": 3, "seed": 2}
    histories = [
        run(search, objectives(table()), Budget(evaluations=60)).history
        for search in (
            make_search("freerea-ranked", space, TERMS, **options),
            make_search(
                "freerea", space, TERMS, aggregation="ranks", normalisation="history", simplify=True, **options
            ),
        )
    ]
    assert [c.proposal for c in histories[0]] == [c.proposal for c in histories[1]]
    assert set(algorithm_options(RankedFreeREA)) == set(algorithm_options(FreeREA))
    assert algorithm_options(RankedFreeREA)["simplify"].default == "auto"


class Custom(RandomSearch):
    """An algorithm of a user, with an option that has no default."""

    def __init__(self, space: Any, terms: Any, *, step: int, **options: Any) -> None:
        super().__init__(space, terms, **options)
        self.step = step


def test_an_algorithm_of_ones_own_is_named_by_module_and_class_and_has_its_own_options() -> None:
    name = f"{__name__}:Custom"
    assert find_algorithm(name) is Custom
    assert list(algorithm_options(Custom)) == ["step", "aggregation", "normalisation", "simplify"]
    search = make_search(name, BitSpace(4), TERMS, step=3, aggregation="ranks")
    assert isinstance(search, Custom)
    assert search.step == 3
    with pytest.raises(InputError, match="needs the option 'step', which has no default"):
        make_search(name, BitSpace(4), TERMS)
    with pytest.raises(InputError, match="'stepp'; did you mean 'step'"):
        make_search(name, BitSpace(4), TERMS, stepp=3)


def test_an_installed_package_adds_algorithms_by_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("custom", f"{__name__}:Custom", "freerea_seval.algorithms")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [point] if group == point.group else [])
    assert find_algorithm("custom") is Custom
    with pytest.raises(InputError, match="unknown algorithm 'custum'; did you mean 'custom'"):
        find_algorithm("custum")


BUDGET = Budget(evaluations=40)


def test_a_simplified_search_proposes_no_operation_that_nothing_depends_on() -> None:
    space = TopologySpace()
    terms = [Objective("a"), Objective("b")]
    search = FreeREA(space, terms, population=10, tournament=3, simplify=True)
    history = run(search, objectives(Formulas(a=noise("a"), b=noise("b"))), Budget(evaluations=60)).history
    assert {c.proposal.origin for c in history} == {"random", "mutation", "crossover"}
    assert all(space.simplified(c.genotype) == c.genotype for c in history)


def bounded() -> ObjectiveSet:
    """Few candidates are within the bound, and the number of ones says how far the others are from it."""
    ones = Objective("ones", role="constraint", lower=7.0)
    return objectives(Formulas(a=noise("a"), ones=lambda g: float(g.count("1"))), Objective("a"), ones)


def test_an_offspring_that_was_seen_is_mutated_on_until_it_is_new() -> None:
    seam = objectives(Formulas(a=lambda g: float(g.count("1"))), Objective("a"))
    # At the optimum most mutants were seen: without the option, rounds pass in which nothing is evaluated.
    renewed, plain = (
        run(FreeREA(BitSpace(6), seam.terms, population=4, tournament=2, unseen=unseen), seam, BUDGET).history
        for unseen in (50, 0)
    )
    assert max(c.generation for c in renewed) < max(c.generation for c in plain)
    assert all(parent in renewed for c in renewed for parent in c.proposal.parents)


def test_a_search_that_has_seen_all_ends_with_unseen_offspring_as_well() -> None:
    seam = objectives(Formulas(a=noise("a")), Objective("a"))
    search = FreeREA(BitSpace(4), seam.terms, population=4, tournament=2, unseen=3)
    result = run(search, seam, Budget(evaluations=100))
    assert (result.stopped, len(result.history)) == ("exhausted", 16)


@pytest.mark.parametrize(
    "options",
    [
        {"unseen": MOST_MUTATIONS},
        {"population": MOST_CANDIDATES},
        {"n_random": MOST_RANDOM},
        {"tournaments": MOST_TOURNAMENTS},
    ],
)
def test_a_small_space_is_exhausted_with_the_largest_options(options: dict[str, Any]) -> None:
    seam = objectives(Formulas(a=noise("a")), Objective("a"))
    search = make_search("freerea", BitSpace(1), seam.terms, **{"population": 4, "tournament": 2, **options})
    result = run(search, seam, Budget(evaluations=100))
    assert (result.stopped, len(result.history)) == ("exhausted", 2)


def test_a_search_begins_with_what_it_is_given_and_draws_the_rest() -> None:
    seam = bounded()
    start = ["1111111000", "0000000000", "1111111111", "1111111000"]
    search = FreeREA(BitSpace(10), seam.terms, population=4, tournament=2, start=start)
    history = run(search, seam, Budget(evaluations=20)).history
    first = [c for c in history.all_candidates() if c.generation == 0 or not c.proposal.parents]
    assert [c.genotype for c in first if c.proposal.origin == "given"] == list(dict.fromkeys(start))
    # Two of them are feasible, and the population of four takes as many random ones.
    assert sum(c.feasible for c in first if c.proposal.origin == "random") == 2


def test_the_population_has_the_best_of_what_is_given() -> None:
    seam = objectives(Formulas(ones=lambda g: float(g.count("1"))), Objective("ones"))
    start = ["1" * ones + "0" * (10 - ones) for ones in range(9)]
    search = FreeREA(BitSpace(10), seam.terms, population=3, tournament=3, start=start)
    history = run(search, seam, Budget(evaluations=12)).history
    children = [c for c in history if c.proposal.parents]
    assert children
    assert all(c.proposal.origin != "random" for c in history)
    # The two best of all three are the parents of the first generation.
    assert set(children[0].proposal.parents) <= {start[8], start[7]}


def test_what_is_given_must_be_of_the_space() -> None:
    with pytest.raises(InputError, match="is not a cell"):
        FreeREA(TopologySpace(), [Objective("a")], start=["1111"])


class Scripted(Search):
    """Proposes a script, batch by batch, then the last batch without end."""

    script: list[list[str]]

    def batches(self) -> Batches:
        for genotypes in self.script:
            yield [Proposal(genotype) for genotype in genotypes]
        while True:
            yield [Proposal(genotype) for genotype in self.script[-1]]


def scripted(*batches: list[str]) -> Search:
    search = Scripted(BitSpace(2), [Objective("a")])
    search.script = list(batches)  # read by the first ask
    return search


def tell_ones(search: Search, proposals: list[Proposal]) -> None:
    for proposal in proposals:
        search.tell(proposal, Evaluation({"a": 1.0}))


def names(proposals: list[Proposal]) -> list[str]:
    return [proposal.genotype for proposal in proposals]


def test_what_was_seen_before_is_not_handed_out_again() -> None:
    search = scripted(["00", "01"], ["01", "10"])
    first = search.ask()
    assert names(first) == ["00", "01"]
    tell_ones(search, first)
    assert names(search.ask()) == ["10"]


def test_a_genotype_proposed_twice_in_a_round_is_handed_out_once() -> None:
    assert names(scripted(["00", "01", "00"]).ask()) == ["00", "01"]


def test_a_limit_cuts_a_round_short_and_the_course_goes_on() -> None:
    search = scripted(["00", "01"], ["10"])
    first = search.ask(1)
    assert names(first) == ["00"]
    tell_ones(search, first)
    assert names(search.ask()) == ["10"]
    assert "01" not in search.history


def test_asking_before_telling_is_an_error_that_names_what_waits() -> None:
    search = scripted(["00", "01"])
    waiting = search.ask()
    tell_ones(search, waiting[:1])
    with pytest.raises(RuntimeError, match=r"ask\(\) before tell\(\): 1 candidates still wait .* the first is '01'"):
        search.ask()


def test_telling_what_was_not_asked_is_an_error() -> None:
    search = scripted(["00"])
    with pytest.raises(RuntimeError, match=r"tell\(\) without ask\(\): '11' is not waiting"):
        search.tell(Proposal("11"), Evaluation({"a": 1.0}))


def test_a_proposal_whose_evaluation_lacks_a_metric_still_waits() -> None:
    search = scripted(["00"])
    (proposal,) = search.ask()
    with pytest.raises(KeyError, match="a"):
        search.tell(proposal, Evaluation({}))
    assert search.tell(proposal, Evaluation({"a": 1.0})).values == {"a": 1.0}


def test_telling_twice_is_an_error() -> None:
    search = scripted(["00"])
    (proposal,) = search.ask()
    tell_ones(search, [proposal])
    with pytest.raises(RuntimeError, match="'00' is not waiting"):
        search.tell(proposal, Evaluation({"a": 1.0}))


def test_candidates_may_be_told_in_any_order() -> None:
    search = scripted(["00", "01"], ["10"])
    tell_ones(search, search.ask()[::-1])
    assert [c.genotype for c in search.history] == ["01", "00"]
    assert names(search.ask()) == ["10"]


def test_a_search_is_exhausted_after_its_patience() -> None:
    search = scripted(["00"])
    tell_ones(search, search.ask())
    assert not search.exhausted
    assert search.ask() == []
    assert search.exhausted
    assert search.ask() == []


def test_a_new_candidate_renews_the_patience() -> None:
    search = scripted(["00"], *[["00"]] * (PATIENCE - 1), ["01"], *[["00"]] * (PATIENCE - 1), ["10"])
    for expected in ("00", "01", "10"):
        proposals = search.ask()
        assert names(proposals) == [expected]
        tell_ones(search, proposals)


def test_a_search_that_never_finds_a_feasible_candidate_says_which_bounds_are_in_the_way() -> None:
    terms = [
        Objective("a"),
        Objective("params", role="constraint", lower=1.0, upper=2.5, unit="M"),
        Objective("latency", role="constraint", upper=3.0),
    ]
    search = RandomSearch(BitSpace(2), terms)
    with pytest.raises(NothingFeasible) as error:  # noqa: PT012 - the search takes several rounds to find out
        while True:
            for proposal in search.ask():
                search.tell(proposal, Evaluation({"params": 9.0}))
    assert str(error.value) == (
        "none of 4 candidates is within the constraints (params >= 1 and <= 2.5 M; latency <= 3);"
        f" the nearest has params 9 M: {next(search.history.all_candidates()).genotype}; loosen the bound"
    )


def test_front_is_that_of_the_history() -> None:
    search = scripted(["00", "01"])
    assert search.front() == []
    for proposal, value in zip(search.ask(), (1.0, 2.0), strict=True):
        search.tell(proposal, Evaluation({"a": value}))
    assert [c.genotype for c in search.front()] == ["01"]
