"""The history: who is feasible, how pools are ranked, and what the result is."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import numpy as np
import pytest

from freerea_patch import Evaluation, History, InputError, Objective, Proposal
from freerea_patch.history import Candidate
from freerea_patch.selection import fitness_scores, nondominated_order, rank_scores

FITNESS = (Objective("a"), Objective("b", "min", weight=2.0))
PARETO = (Objective("a"), Objective("latency", "min", "pareto"), Objective("accuracy", "max", "pareto"))


def add(history: History, genotype: str, **values: float) -> Candidate:
    return history.add(Proposal(genotype, generation=3), Evaluation(values))


def test_a_new_history_is_empty_and_has_no_result() -> None:
    history = History(FITNESS)
    assert (len(history), history.evaluated, list(history), history.front()) == (0, 0, [], [])
    assert "x" not in history
    assert history.feasible("x") is None
    assert history.ranked([]) == []


def test_a_candidate_keeps_its_values_and_is_born_in_its_generation() -> None:
    candidate = add(History(FITNESS), "x", a=1.0, b=2.0)
    assert candidate.genotype == "x"
    assert candidate.values == {"a": 1.0, "b": 2.0}
    assert candidate.generation == 3
    assert candidate.feasible


def test_an_infeasible_candidate_is_remembered_but_takes_no_part() -> None:
    history = History([*FITNESS, Objective("size", role="constraint", upper=10.0)])
    inside = add(history, "in", a=1.0, b=1.0, size=10.0)
    outside = add(history, "out", size=11.0)
    assert (inside.feasible, outside.feasible) == (True, False)
    assert list(history) == [inside]
    assert list(history.everything()) == [inside, outside]
    assert (len(history), history.evaluated) == (1, 2)
    assert "out" in history
    assert history.feasible("out") is None
    assert history.front() == [inside]


def test_an_unsupported_constraint_makes_a_candidate_infeasible() -> None:
    history = History([*FITNESS, Objective("size", role="constraint", upper=10.0)])
    assert not add(history, "x", a=1.0, b=1.0, size=math.nan).feasible


def test_a_missing_constraint_makes_a_candidate_infeasible() -> None:
    bounds = [Objective(name, role="constraint", upper=10.0) for name in ("first", "second")]
    assert not add(History([*FITNESS, *bounds]), "x", first=11.0).feasible
    assert not add(History([*FITNESS, *bounds]), "x", second=11.0).feasible


def test_a_feasible_candidate_without_a_metric_is_an_error() -> None:
    with pytest.raises(KeyError, match="b"):
        add(History(FITNESS), "x", a=1.0)


def test_scores_are_normalised_within_the_pool() -> None:
    history = History(FITNESS)
    x, y, z = (add(history, name, a=a, b=b) for name, a, b in (("x", 1.0, 4.0), ("y", 2.0, 2.0), ("z", 100.0, 0.0)))
    # b is better when smaller and weighs 2: x has 1/2 - 2 * 4/4, y has 2/2 - 2 * 2/4.
    np.testing.assert_allclose(history.scores([x, y]), [-1.5, 0.0], atol=1e-8)
    np.testing.assert_allclose(history.scores([x, y, z]), [0.01 - 2.0, 0.02 - 1.0, 1.0], atol=1e-8)


def test_ranks_can_take_the_place_of_the_sum() -> None:
    history = History(FITNESS, aggregation="ranks")
    pool = [add(history, f"{i}", a=float(a), b=float(b)) for i, (a, b) in enumerate([(1, 5), (100, 4), (2, 1)])]
    expected = rank_scores(np.array([[1.0, -5.0], [100.0, -4.0], [2.0, -1.0]]), np.array([1.0, 2.0]))
    np.testing.assert_array_equal(history.scores(pool), expected)
    assert [c.genotype for c in history.ranked(pool)] == ["2", "1", "0"]


def test_scores_within_the_history_follow_it_as_it_grows() -> None:
    history = History([Objective("a")], normalisation="history")
    first = add(history, "x", a=1.0)
    np.testing.assert_allclose(history.scores([first]), [1.0])
    last = add(history, "y", a=4.0)
    np.testing.assert_allclose(history.scores([first]), [0.25])
    np.testing.assert_allclose(history.scores([last, first]), [1.0, 0.25])


def test_the_infeasible_rank_behind_all_feasible_the_smallest_violation_first() -> None:
    bounds = [Objective("ms", role="constraint", upper=10.0), Objective("mb", role="constraint", lower=2.0)]
    history = History([Objective("a"), *bounds])
    far, poor, near, good, unknown = (
        add(history, "far", ms=15.0, mb=1.0),
        add(history, "poor", a=0.0, ms=10.0, mb=2.0),
        add(history, "near", ms=11.0),
        add(history, "good", a=1.0, ms=1.0, mb=9.0),
        add(history, "unknown", ms=math.nan),
    )
    assert [history.violation(c) for c in (far, poor, near)] == pytest.approx([0.5 + 0.5, 0.0, 0.1])
    assert history.ranked([unknown, far, poor, near, good]) == [good, poor, near, far, unknown]


@pytest.mark.parametrize(("option", "known"), [("aggregation", "ranks, sum"), ("normalisation", "history, pool")])
def test_an_unknown_way_of_scoring_is_refused(option: str, known: str) -> None:
    options: dict[str, Any] = {option: "mean"}
    with pytest.raises(InputError, match=f"unknown {option} 'mean'. Valid: {known}"):
        History(FITNESS, **options)


def test_scores_without_a_fitness_term_are_zero() -> None:
    history = History(PARETO[1:])
    candidate = add(history, "x", latency=1.0, accuracy=1.0)
    assert history.scores([candidate]).tolist() == [0.0]


def test_many_candidates_rank_as_the_plain_arrays_do() -> None:
    rng = Random(0)
    rows = [(rng.random(), rng.random()) for _ in range(300)]
    history = History(FITNESS)
    candidates = [add(history, str(i), a=a, b=b) for i, (a, b) in enumerate(rows)]
    scores = fitness_scores(np.array([[a, -b] for a, b in rows]), np.array([1.0, 2.0]))
    assert [c.genotype for c in history.ranked(candidates)] == [str(i) for i in np.argsort(-scores)]
    assert history.front() == history.ranked(candidates)[:1]


def test_ties_keep_the_order_of_the_pool() -> None:
    history = History(FITNESS)
    pool = [add(history, name, a=1.0, b=1.0) for name in "xyz"]
    assert history.ranked(pool) == pool
    assert history.ranked(pool[::-1]) == pool[::-1]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_ranks_worst(bad: float) -> None:
    history = History(FITNESS)
    spoilt = add(history, "spoilt", a=bad, b=0.0)
    poor = add(history, "poor", a=-100.0, b=100.0)
    assert history.ranked([spoilt, poor]) == [poor, spoilt]


def test_with_pareto_objectives_the_score_is_one_axis_of_several() -> None:
    rng = Random(1)
    rows = [{"a": rng.random(), "latency": rng.random(), "accuracy": rng.random()} for _ in range(40)]
    history = History(PARETO)
    candidates = [add(history, str(i), **row) for i, row in enumerate(rows)]
    best = max(row["a"] for row in rows)
    points = np.array([[row["a"] / (best + 1e-9), -row["latency"], row["accuracy"]] for row in rows])
    assert history.is_pareto
    assert [c.genotype for c in history.ranked(candidates)] == [str(i) for i in nondominated_order(points)]


def test_the_front_holds_what_nothing_dominates_along_the_first_pareto_objective() -> None:
    history = History(PARETO[1:])
    slow = add(history, "slow", latency=9.0, accuracy=90.0)
    add(history, "dominated", latency=9.5, accuracy=80.0)
    fast = add(history, "fast", latency=1.0, accuracy=70.0)
    middle = add(history, "middle", latency=5.0, accuracy=85.0)
    add(history, "unsupported", latency=math.nan, accuracy=99.0)
    assert history.front() == [fast, middle, slow]


def test_without_pareto_objectives_the_front_is_the_single_best() -> None:
    history = History(FITNESS)
    add(history, "x", a=1.0, b=1.0)
    best = add(history, "y", a=2.0, b=1.0)
    assert not history.is_pareto
    assert history.front() == [best]


@pytest.mark.parametrize("terms", [FITNESS, PARETO], ids=["score", "pareto"])
def test_what_has_no_values_is_no_result(terms: tuple[Objective, ...]) -> None:
    history = History(terms)
    add(history, "x", **{term.name: math.nan for term in terms})
    assert history.front() == []
    known = add(history, "y", **{term.name: 1.0 for term in terms})
    assert history.front() == [known]
