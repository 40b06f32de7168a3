# mypy: disable-error-code="import-untyped, import-not-found"
"""NSGA-II of pymoo as a search: what it finds, keeps, counts and compares."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymoo.algorithms.moo import nsga2
from pymoo.optimize import minimize

import freerea_seval as fs
from freerea_patch import Budget, Candidate, InputError, Objective, SearchResult, TopologySpace, run
from freerea_patch.history import pareto_fronts
from freerea_patch.imports import import_object
from freerea_patch.spaces import all_cells
from freerea_seval.integrations.pymoo import NSGA2, Problem
from tests.freerea_patch.synthetic import BitSpace, Formulas, noise, objectives

LEADING = Objective("leading", role="pareto")
TRAILING = Objective("trailing", "min", role="pareto")


def leading(genotype: str) -> float:
    """Leading ones; with the trailing zeros a known problem, whose front is 1...10...0."""
    return float(len(genotype) - len(genotype.lstrip("1")))


def trailing(genotype: str) -> float:
    """Trailing zeros, negative: smaller is better."""
    return float(len(genotype.rstrip("0")) - len(genotype))


def table() -> Formulas:
    return Formulas(leading=leading, trailing=trailing, limit=noise("limit"), a=noise("a"), b=noise("b"))


def search_bits(*terms: Objective, bits: int = 9, evaluations: int = 200, seed: int = 0) -> SearchResult:
    bound = objectives(table(), *terms)
    search = NSGA2(BitSpace(bits), bound.terms, population=20, seed=seed)
    return run(search, bound, Budget(evaluations=evaluations))


def true_front(bits: int, kept: Callable[[str], bool]) -> set[tuple[float, float]]:
    genotypes = ["".join(g) for g in product("01", repeat=bits)]
    points = np.array([(leading(g), -trailing(g)) for g in genotypes if kept(g)])
    return set(map(tuple, points[pareto_fronts(points) == 0].tolist()))


def points(candidates: Iterable[Candidate]) -> set[tuple[float, float]]:
    return {(c.values["leading"], -c.values["trailing"]) for c in candidates}


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_the_true_front_without_seeing_half_of_the_space(seed: int) -> None:
    result = search_bits(LEADING, TRAILING, seed=seed)
    assert result.stopped == "budget"
    assert len(result.history) == 200 < 2**9 / 2
    assert points(result.front) == true_front(9, lambda genotype: True)


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_the_true_front_within_a_constraint(seed: int) -> None:
    limit = Objective("limit", role="constraint", lower=0.3, upper=0.8)
    result = search_bits(LEADING, TRAILING, limit, evaluations=120, seed=seed)
    assert all(0.3 <= c.values["limit"] <= 0.8 for c in result.front)
    assert points(result.front) == true_front(9, lambda genotype: 0.3 <= noise("limit")(genotype) <= 0.8)
    infeasible = [c for c in result.history.all_candidates() if not c.feasible]
    assert infeasible
    assert all(set(c.values) == {"limit"} for c in infeasible)


def test_it_goes_towards_feasible_ones_when_it_starts_with_none() -> None:
    bound = objectives(table(), TRAILING, Objective("leading", role="constraint", lower=8))
    result = run(NSGA2(BitSpace(9), bound.terms, population=10), bound, Budget(evaluations=2))
    assert {c.genotype for c in result.history} == {"111111110", "111111111"}
    assert not any(c.feasible for c in list(result.history.all_candidates())[:10])
    assert result.history.evaluated < 150


def test_a_summed_score_alone_is_an_axis_as_well() -> None:
    result = search_bits(Objective("leading"), Objective("trailing", "min"))
    (best,) = result.front
    assert leading(best.genotype) - trailing(best.genotype) == 9


def test_values_that_are_no_numbers_rank_last_and_end_nothing() -> None:
    source = Formulas(a=lambda g: math.nan if g[0] == "1" else noise("a")(g), trailing=trailing)
    bound = objectives(source, Objective("a"), TRAILING)
    search = NSGA2(BitSpace(8), bound.terms, population=10)
    result = run(search, bound, Budget(evaluations=100))
    assert result.stopped == "budget"
    assert all(c.genotype[0] == "0" for c in result.front)
    later = [c.genotype for c in result.history if c.generation >= 3]
    assert sum(g[0] == "0" for g in later) > len(later) / 2


def test_parents_and_children_are_compared_by_scores_over_all_that_is_feasible_so_far() -> None:
    bound = objectives(
        table(), Objective("a"), Objective("b", weight=2.0), LEADING, Objective("limit", "min", "constraint", upper=0.7)
    )
    search = NSGA2(BitSpace(8), bound.terms, population=10)
    tell, told = search._algorithm.tell, []

    def check(infills: Any) -> None:
        everyone = list(search.history)
        largest = {m: max(abs(c.values[m]) for c in everyone) + 1e-9 for m in ("a", "b")}
        for individual in (*search._algorithm.pop, *infills):
            candidate = search.history.find(individual.X[0].genotype)
            assert candidate is not None
            values = candidate.values
            assert pytest.approx([max(0.0, (values["limit"] - 0.7) / 0.7), 0.0]) == individual.G
            if candidate.feasible:
                score = values["a"] / largest["a"] + 2 * values["b"] / largest["b"]
                assert pytest.approx([-score, -values["leading"]]) == individual.F
        told.append(len(infills))
        tell(infills=infills)

    search._algorithm.tell = check
    run(search, bound, Budget(evaluations=60))
    assert len(told) > 3


def test_nothing_is_evaluated_twice_and_a_space_may_be_exhausted() -> None:
    source = table()
    bound = objectives(source, LEADING, TRAILING)
    result = run(NSGA2(BitSpace(5), bound.terms, population=8), bound, Budget(evaluations=1000))
    assert result.stopped == "exhausted"
    assert sorted(genotype for genotype, _ in source.asked) == ["".join(g) for g in product("01", repeat=5)]


def test_children_have_the_generation_and_the_parents_that_they_come_from() -> None:
    result = search_bits(LEADING, TRAILING)
    born = {c.genotype: c.generation for c in result.history.all_candidates()}
    assert set(born.values()) >= {0, 1, 2, 3}
    parents = {"random": 0, "mutation": 1, "crossover": 2}
    origins = set()
    for candidate in result.history.all_candidates():
        proposal = candidate.proposal
        origins.add(proposal.origin)
        assert len(proposal.parents) == parents[proposal.origin]
        assert all(born[parent] < proposal.generation for parent in proposal.parents)
        assert (proposal.origin == "random") == (proposal.generation == 0)
    assert origins == set(parents)


def test_the_course_does_not_depend_on_how_many_are_taken_at_a_time() -> None:
    def course(limit: int | None) -> list[str]:
        bound = objectives(table(), LEADING, TRAILING, Objective("limit", role="constraint", upper=0.6))
        search = NSGA2(BitSpace(9), bound.terms, population=10)
        while search.history.evaluated < 100:
            proposals = search.ask(limit)
            for proposal, evaluation in zip(proposals, bound.evaluate([p.genotype for p in proposals]), strict=True):
                search.tell(proposal, evaluation)
        return [c.genotype for c in search.history.all_candidates()][:100]

    assert course(None) == course(1) == course(7)


def test_a_seed_fixes_the_course_whatever_the_hash_seed() -> None:
    code = (
        "from tests.freerea_seval.integrations.test_pymoo import LEADING, TRAILING, Objective, search_bits\n"
        "result = search_bits(LEADING, TRAILING, Objective('limit', role='constraint', upper=0.6), evaluations=80)\n"
        "print(*[c.genotype for c in result.history.all_candidates()])"
    )
    root = Path(__file__).parents[3]
    hash_seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        cwd=root, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    limit = Objective("limit", role="constraint", upper=0.6)
    again = [
        search_bits(LEADING, TRAILING, limit, evaluations=80, seed=seed).history.all_candidates() for seed in (0, 1)
    ]
    courses = [[c.genotype for c in everyone] for everyone in again]
    assert printed.split() == courses[0] != courses[1]


def test_genotypes_may_be_simplified() -> None:
    space = TopologySpace()
    bound = objectives(
        Formulas(a=noise("a"), convolutions=lambda g: g.count("conv")),
        Objective("a", role="pareto"),
        Objective("convolutions", "min", "pareto"),
    )
    search = NSGA2(space, bound.terms, population=10, simplify=True)
    run(search, bound, Budget(evaluations=50))
    genotypes = [c.genotype for c in search.history]
    assert genotypes == [space.simplified(g) for g in genotypes]


def test_pymoo_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    search_bits(LEADING, TRAILING, evaluations=50)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("library", ["pymoo", "optuna", "ray"])
def test_without_the_library_there_is_one_line_that_says_what_to_install(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == library:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"freerea_seval.integrations.{library}", raising=False)
    with pytest.raises(InputError) as error:
        import_object(f"freerea_seval.integrations.{library}:anything", "engine")
    extra = "ray" if library == "ray" else "engines"
    assert str(error.value) == f"this needs the package {library}: pip install 'freerea-seval[{extra}]'"


def test_a_population_of_one_is_refused() -> None:
    with pytest.raises(InputError, match="population must be between 2 and 100000, got 1"):
        NSGA2(BitSpace(4), [LEADING], population=1)


def test_the_problem_of_pymoo_has_the_values_of_our_search() -> None:
    evaluator = fs.Evaluator.from_config(
        {
            "budget": {"evaluations": 1},
            "objectives": [
                {"metric": "params", "source": "cost", "role": "pareto"},
                {"metric": "skip", "source": "training-free"},
                {"metric": "flops", "source": "cost", "role": "constraint", "max": 100},
            ],
        }
    )
    problem = Problem(evaluator)
    result = minimize(problem, nsga2.NSGA2(pop_size=12, **problem.operators()), ("n_gen", 4), seed=1)
    genotypes = [individual.X[0] for individual in result.pop]
    table = evaluator(genotypes)
    assert len(set(genotypes)) == 12
    assert table["feasible"].all()
    assert np.array_equal(result.pop.get("F"), np.column_stack([table["params"], -table["skip"]]))
    assert len(result.X) == (pareto_fronts(-result.pop.get("F")) == 0).sum()
    first = Problem(evaluator).evaluate(np.array([[all_cells()[1462]]], dtype=object), return_values_of=["G"])
    flops = evaluator([all_cells()[1462]])["flops"].iloc[0]
    assert flops > 100
    assert first.ravel().tolist() == pytest.approx([flops / 100 - 1, 0.0])
