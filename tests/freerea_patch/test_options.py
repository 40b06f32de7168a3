"""What goes beyond the published algorithm: cells without dead operations, near-feasible candidates, repair."""

from __future__ import annotations

from freerea_patch import Budget, Candidate, FreeREA, History, Objective, ObjectiveSet, TopologySpace, run
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
