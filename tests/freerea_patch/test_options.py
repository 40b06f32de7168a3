"""Beyond the published algorithm: cells without dead operations, near-feasible candidates, repair, new offspring."""

from __future__ import annotations

import pytest

from freerea_patch import Budget, Candidate, FreeREA, History, InputError, Objective, ObjectiveSet, TopologySpace, run
from tests.freerea_patch.synthetic import BitSpace, Formulas, noise, objectives

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


def test_near_feasible_candidates_start_a_population_and_leave_it_to_the_feasible() -> None:
    seam = bounded()
    search = FreeREA(BitSpace(10), seam.terms, population=8, tournament=3, near_feasible=True)
    assert len(search.ask()) == 8
    result = run(FreeREA(BitSpace(10), seam.terms, population=8, tournament=3, near_feasible=True), seam, BUDGET)
    strict = run(FreeREA(BitSpace(10), seam.terms, population=8, tournament=3), seam, BUDGET)
    assert all(c.values["ones"] >= 7 for c in result.history)
    assert result.history.evaluated < strict.history.evaluated


def test_repair_mutates_an_infeasible_child_on() -> None:
    seam = bounded()
    repaired, plain = (
        run(FreeREA(BitSpace(10), seam.terms, population=4, tournament=2, repair=repair), seam, BUDGET).history
        for repair in (2, 0)
    )

    def from_infeasible(history: History) -> list[Candidate]:
        parents = ((c, [history.find(p) for p in c.proposal.parents]) for c in history.everything())
        return [c for c, found in parents if any(p is not None and not p.feasible for p in found)]

    assert from_infeasible(plain) == []
    children = from_infeasible(repaired)
    assert any(c.feasible for c in children)
    assert all(c.proposal.origin == "mutation" for c in children)


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


def test_a_search_begins_with_what_it_is_given_and_draws_the_rest() -> None:
    seam = bounded()
    given = ["1111111000", "0000000000", "1111111111", "1111111000"]
    search = FreeREA(BitSpace(10), seam.terms, population=4, tournament=2, start=given)
    history = run(search, seam, Budget(evaluations=20)).history
    first = [c for c in history.everything() if c.generation == 0 or not c.proposal.parents]
    assert [c.genotype for c in first if c.proposal.origin == "given"] == list(dict.fromkeys(given))
    # Two of them are feasible, and the population of four takes as many random ones.
    assert sum(c.feasible for c in first if c.proposal.origin == "random") == 2


def test_the_population_has_the_best_of_what_is_given() -> None:
    seam = objectives(Formulas(ones=lambda g: float(g.count("1"))), Objective("ones"))
    given = ["1" * ones + "0" * (10 - ones) for ones in range(9)]
    search = FreeREA(BitSpace(10), seam.terms, population=3, tournament=3, start=given)
    history = run(search, seam, Budget(evaluations=12)).history
    children = [c for c in history if c.proposal.parents]
    assert children
    assert all(c.proposal.origin != "random" for c in history)
    # The two best of all three are the parents of the first generation.
    assert set(children[0].proposal.parents) <= {given[8], given[7]}


def test_what_is_given_must_be_of_the_space() -> None:
    with pytest.raises(InputError, match="is not a cell"):
        FreeREA(TopologySpace(), [Objective("a")], start=["1111"])
