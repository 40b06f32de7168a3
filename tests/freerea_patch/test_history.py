"""The history: which candidates are feasible, how pools are ranked (against naive twins), and the front."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from freerea_patch import Evaluation, History, InputError, Objective, Proposal
from freerea_patch.history import (
    Aggregation,
    Candidate,
    Floats,
    crowding_distances,
    fitness_scores,
    nondominated_order,
    pareto_fronts,
    rank_scores,
)

FITNESS = (Objective("a"), Objective("b", "min", weight=2.0))
PARETO = (Objective("a"), Objective("latency", "min", "pareto"), Objective("accuracy", "max", "pareto"))


def add(history: History, genotype: str, **values: float) -> Candidate:
    return history.add(Proposal(genotype, generation=3), Evaluation(values))


def test_a_new_history_is_empty_and_has_no_result() -> None:
    history = History(FITNESS)
    assert (len(history), history.evaluated, list(history), history.front()) == (0, 0, [], [])
    assert "x" not in history
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
    assert list(history.all_candidates()) == [inside, outside]
    assert (len(history), history.evaluated) == (1, 2)
    assert "out" in history
    assert history.front() == [inside]


def test_an_unsupported_constraint_makes_a_candidate_infeasible() -> None:
    history = History([*FITNESS, Objective("size", role="constraint", upper=10.0)])
    assert not add(history, "x", a=1.0, b=1.0, size=math.nan).feasible


def test_a_missing_constraint_makes_a_candidate_infeasible() -> None:
    bounds = [Objective(name, role="constraint", upper=10.0) for name in ("first", "second")]
    assert not add(History([*FITNESS, *bounds]), "x", first=11.0).feasible
    assert not add(History([*FITNESS, *bounds]), "x", second=11.0).feasible


def test_the_nearest_candidate_violates_the_fewest_constraints_and_these_the_least() -> None:
    bounds = [Objective("size", role="constraint", upper=10.0, unit="M"), Objective("ms", role="constraint", lower=0.0)]
    history = History([*FITNESS, *bounds])
    assert history.describe_infeasible() == "none of 0 candidates is within the constraints (size <= 10 M; ms >= 0)"
    for expected, genotype, values in (
        ("no supported size: nan", "nan", {"size": math.nan}),
        ("size 30 M: far", "far", {"size": 30.0}),  # excluded by its size before its ms was evaluated
        ("size 12.5 M: near", "near", {"size": 12.5}),
        ("size 12.5 M: near", "later", {"size": 13.0}),
        ("size 11 M and ms -9: both", "both", {"size": 11.0, "ms": -9.0}),
        ("ms -0.5: one", "one", {"size": 9.0, "ms": -0.5}),
    ):
        add(history, genotype, **values)
        assert history.describe_infeasible().endswith(f"; the nearest has {expected}")


def test_infeasible_candidates_are_counted_since_the_last_feasible_one() -> None:
    history = History([*FITNESS, Objective("size", role="constraint", upper=10.0)])
    counts = []
    for number, size in enumerate([11.0, 12.0, 1.0, math.nan]):
        add(history, str(number), a=1.0, b=1.0, size=size)
        counts.append(history.infeasible_in_a_row)
    assert counts == [1, 2, 0, 1]


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


def test_logarithms_of_ranks_punish_the_metric_that_a_candidate_is_worst_in() -> None:
    values = [(1, 5), (2, 4), (3, 3), (4, 2), (5, 1)]
    histories = [History([Objective("a"), Objective("b")], aggregation=a) for a in ("ranks", "log-ranks")]
    pools = [[add(h, f"{a}", a=float(a), b=float(b)) for a, b in values] for h in histories]
    np.testing.assert_allclose(histories[0].scores(pools[0]), 0.5)
    expected = [math.log(a / 5) / 2 + math.log(b / 5) / 2 for a, b in values]
    np.testing.assert_allclose(histories[1].scores(pools[1]), expected)
    assert histories[1].ranked(pools[1])[0].genotype == "3"


def test_scores_within_the_history_follow_it_as_it_grows() -> None:
    history = History([Objective("a")], normalisation="history")
    first = add(history, "x", a=1.0)
    np.testing.assert_allclose(history.scores([first]), [1.0])
    last = add(history, "y", a=4.0)
    np.testing.assert_allclose(history.scores([first]), [0.25])
    np.testing.assert_allclose(history.scores([last, first]), [1.0, 0.25])


@pytest.mark.parametrize("aggregation", ["sum", "ranks", "log-ranks"])
def test_scores_can_refer_to_networks_that_are_no_candidates(aggregation: Aggregation) -> None:
    alone, all_of_them = (History(FITNESS, aggregation=aggregation, normalisation="history") for _ in range(2))
    values = [(1.0, 5.0), (100.0, 4.0), (2.0, 1.0), (3.0, 9.0)]
    for i, (a, b) in enumerate(values):
        add(all_of_them, f"{i}", a=a, b=b)
        if i % 2:
            add(alone, f"{i}", a=a, b=b)
        else:
            alone.refer_to({"a": a, "b": b})
    expected = all_of_them.scores([c for c in all_of_them if int(c.genotype) % 2])
    np.testing.assert_array_equal(alone.scores(list(alone)), expected)
    assert [c.genotype for c in alone] == ["1", "3"]


@pytest.mark.parametrize(
    ("option", "known"), [("aggregation", "log-ranks, ranks, sum"), ("normalisation", "history, pool")]
)
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


def test_a_candidate_without_a_score_is_no_leader() -> None:
    history = History(FITNESS)
    for genotype, a in (("x", math.nan), ("y", 1.0), ("z", math.inf), ("u", 2.0), ("v", 1.5)):
        add(history, genotype, a=a, b=0.0)
    assert [c.genotype for c in history.leaders(2)] == ["u", "v"]
    assert [c.genotype for c in history.leaders(5)] == ["u", "v", "y"]


@pytest.mark.parametrize("terms", [FITNESS, PARETO], ids=["score", "pareto"])
def test_what_has_no_values_is_no_result(terms: tuple[Objective, ...]) -> None:
    history = History(terms)
    add(history, "x", **{term.name: math.nan for term in terms})
    assert history.front() == []
    known = add(history, "y", **{term.name: 1.0 for term in terms})
    assert history.front() == [known]


#: Few different values, so that ties and duplicates are common; now and then no number.
COARSE = st.integers(-3, 3).map(float)
ANY = st.one_of(COARSE, st.sampled_from([math.nan, math.inf, -math.inf]))
SHAPES = st.tuples(st.integers(0, 12), st.integers(1, 3))


def naive_scores(values: list[list[float]], weights: list[float]) -> list[float]:
    """Cavagnero 2023's score, one candidate and one metric at a time."""
    sound = [row for row in values if all(math.isfinite(v) for v in row)]
    scores = []
    for row in values:
        if row not in sound:
            scores.append(-math.inf)
            continue
        terms = [
            w * v / (max(abs(r[k]) for r in sound) + 1e-9) for k, (w, v) in enumerate(zip(weights, row, strict=True))
        ]
        scores.append(sum(terms))
    return scores


def naive_fronts(points: list[list[float]]) -> list[int]:
    """Peel off, front after front, the points that no remaining point dominates."""
    fronts = [-1] * len(points)
    remaining = [i for i, p in enumerate(points) if all(math.isfinite(v) for v in p)]
    number = 0
    while remaining:
        front = [i for i in remaining if not any(dominates(points[j], points[i]) for j in remaining)]
        for i in front:
            fronts[i] = number
        remaining = [i for i in remaining if i not in front]
        number += 1
    return [number if front < 0 else front for front in fronts]


def dominates(a: list[float], b: list[float]) -> bool:
    return all(x >= y for x, y in zip(a, b, strict=True)) and any(x > y for x, y in zip(a, b, strict=True))


def naive_crowding(points: list[list[float]]) -> list[float]:
    """Deb 2002's procedure, one point and one axis at a time."""
    distances = [0.0] * len(points)
    for axis in range(len(points[0]) if points else 0):
        order = sorted(range(len(points)), key=lambda i: points[i][axis])
        spread = points[order[-1]][axis] - points[order[0]][axis]
        if not spread:
            continue
        for position, i in enumerate(order):
            if position in (0, len(order) - 1):
                distances[i] = math.inf
            else:
                distances[i] += (points[order[position + 1]][axis] - points[order[position - 1]][axis]) / spread
    return distances


def one_front(points: Floats) -> Floats:
    return crowding_distances(points, np.zeros(len(points), dtype=np.intp))


def naive_order(points: list[list[float]]) -> list[int]:
    fronts = naive_fronts(points)
    crowding = [0.0] * len(points)
    for number in set(fronts):
        members = [i for i, front in enumerate(fronts) if front == number and all(map(math.isfinite, points[i]))]
        for i, distance in zip(members, naive_crowding([points[i] for i in members]), strict=True):
            crowding[i] = distance
    return sorted(range(len(points)), key=lambda i: (fronts[i], -crowding[i], i))


@given(arrays(float, SHAPES, elements=ANY), st.lists(st.floats(0.1, 10), min_size=3, max_size=3))
def test_scores_equal_the_naive_twin(values: Floats, weights: list[float]) -> None:
    columns = values.shape[1]
    expected = naive_scores(values.tolist(), weights[:columns])
    np.testing.assert_allclose(fitness_scores(values, np.array(weights[:columns])), expected, rtol=1e-12, atol=1e-12)


def naive_ranks(values: list[list[float]], weights: list[float], logarithmic: bool = False) -> list[float]:
    """For each metric, the others that are worse, and half of those that are equal, among the others."""
    sound = [row for row in values if all(math.isfinite(v) for v in row)]
    scores = []
    for row in values:
        if row not in sound:
            scores.append(-math.inf)
            continue
        ranks = []
        for k, value in enumerate(row):
            worse = sum(other[k] < value for other in sound)
            equal = sum(other[k] == value for other in sound) - 1
            rank = worse + equal / 2
            ranks.append(math.log((rank + 1) / len(sound)) if logarithmic else rank / max(len(sound) - 1, 1))
        scores.append(sum(w * r for w, r in zip(weights, ranks, strict=True)) / sum(weights))
    return scores


@pytest.mark.parametrize("logarithmic", [False, True])
@given(values=arrays(float, SHAPES, elements=ANY), weights=st.lists(st.floats(0.1, 10), min_size=3, max_size=3))
def test_rank_scores_equal_the_naive_twin(values: Floats, weights: list[float], logarithmic: bool) -> None:
    columns = values.shape[1]
    expected = naive_ranks(values.tolist(), weights[:columns], logarithmic)
    scores = rank_scores(values, np.array(weights[:columns]), logarithmic=logarithmic)
    np.testing.assert_allclose(scores, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("aggregation", ["sum", "ranks", "log-ranks"])
@given(rows=st.lists(st.tuples(ANY, ANY), max_size=8))
def test_scores_within_the_history_are_those_of_all_candidates_so_far(
    aggregation: Aggregation, rows: list[tuple[float, float]]
) -> None:
    history = History(FITNESS, aggregation=aggregation, normalisation="history")
    for number, (a, b) in enumerate(rows, start=1):
        add(history, str(number), a=a, b=b)
        pool = list(history)[number // 2 :]
        values, weights = np.array([[a, -b] for a, b in rows[:number]]), np.array([1.0, 2.0])
        logarithmic = aggregation == "log-ranks"
        naive = (
            fitness_scores(values, weights)
            if aggregation == "sum"
            else rank_scores(values, weights, logarithmic=logarithmic)
        )
        np.testing.assert_allclose(history.scores(pool), naive[number // 2 :], rtol=1e-15)


@given(arrays(float, st.tuples(st.integers(1, 12), st.just(2)), elements=COARSE))
def test_no_rising_scale_of_a_metric_changes_rank_scores(values: Floats) -> None:
    scaled = np.column_stack([np.exp(values[:, 0]) + 100, values[:, 1]])
    np.testing.assert_array_equal(rank_scores(scaled, np.ones(2)), rank_scores(values, np.ones(2)))


def test_scores_equal_the_formula_worked_by_hand() -> None:
    # naswot 700, 800; logsynflow 2e6, 1e6; skip 1, 0. The maxima are 800, 2e6 and 1, so the scores are
    # 700/800 + 1 + 1 = 2.875 and 1 + 0.5 + 0 = 1.5.
    values = np.array([[700.0, 2e6, 1.0], [800.0, 1e6, 0.0]])
    np.testing.assert_allclose(fitness_scores(values, np.ones(3)), [2.875, 1.5], rtol=1e-8)


def test_the_largest_magnitude_divides_even_if_it_is_negative() -> None:
    # max |-4| = 4: -4 / 4 = -1 and 2 / 4 = 0.5.
    np.testing.assert_allclose(fitness_scores(np.array([[-4.0], [2.0]]), np.ones(1)), [-1.0, 0.5], rtol=1e-8)


def test_a_weight_multiplies_its_term() -> None:
    values = np.array([[1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(fitness_scores(values, np.array([3.0, 1.0])), [3.0, 1.0], rtol=1e-8)


@given(arrays(float, SHAPES, elements=COARSE), COARSE)
def test_a_constant_column_changes_no_rank(values: Floats, constant: float) -> None:
    with_constant = np.column_stack([values, np.full(len(values), constant)])
    without = fitness_scores(values, np.ones(values.shape[1]))
    scores = fitness_scores(with_constant, np.ones(with_constant.shape[1]))
    shift = np.sign(constant)
    np.testing.assert_allclose(scores, without + shift, atol=1e-8)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_scores_worst_and_leaves_the_others_alone(bad: float) -> None:
    sound = np.array([[-5.0, 1.0], [2.0, 1.0]])
    spoilt = np.array([[-5.0, 1.0], [100.0, bad], [2.0, 1.0]])
    scores = fitness_scores(spoilt, np.ones(2))
    assert scores[1] == -math.inf
    np.testing.assert_array_equal(scores[[0, 2]], fitness_scores(sound, np.ones(2)))


def test_an_empty_pool_has_no_scores() -> None:
    assert fitness_scores(np.empty((0, 2)), np.ones(2)).shape == (0,)


def test_a_pool_without_any_number_scores_minus_infinity() -> None:
    assert fitness_scores(np.array([[math.nan], [math.inf]]), np.ones(1)).tolist() == [-math.inf, -math.inf]


@given(arrays(float, SHAPES, elements=COARSE))
def test_crowding_distances_equal_the_naive_twin(points: Floats) -> None:
    np.testing.assert_allclose(one_front(points) if len(points) else [], naive_crowding(points.tolist()))


def test_crowding_distance_worked_by_hand() -> None:
    # Ranges 4 and 4; the middle point's neighbours are the ends: 4/4 + 4/4. The ends are infinitely far.
    points = np.array([[0.0, 4.0], [1.0, 2.0], [4.0, 0.0]])
    assert one_front(points).tolist() == [math.inf, 2.0, math.inf]


def test_an_axis_on_which_all_agree_adds_no_crowding_distance() -> None:
    assert one_front(np.array([[1.0], [1.0], [1.0]])).tolist() == [0.0, 0.0, 0.0]


@given(arrays(float, SHAPES, elements=ANY))
def test_fronts_equal_the_naive_twin(points: Floats) -> None:
    assert pareto_fronts(points).tolist() == naive_fronts(points.tolist())


@given(arrays(float, SHAPES, elements=ANY))
def test_the_nondominated_order_equals_the_naive_twin(points: Floats) -> None:
    assert nondominated_order(points).tolist() == naive_order(points.tolist())


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_large_pools_equal_the_naive_twins(axes: int, seed: int) -> None:
    # Large enough for fronts of many points at different distances; the seed is in the test's name.
    points = np.random.default_rng(seed).integers(0, 12, (60, axes)).astype(float)
    np.testing.assert_allclose(one_front(points), naive_crowding(points.tolist()))
    assert nondominated_order(points).tolist() == naive_order(points.tolist())


@given(arrays(float, SHAPES, elements=ANY))
def test_points_that_are_no_numbers_come_last(points: Floats) -> None:
    sound = [bool(np.isfinite(points[i]).all()) for i in nondominated_order(points)]
    assert sound == sorted(sound, reverse=True)


@given(arrays(float, SHAPES, elements=ANY))
def test_ranking_leaves_its_input_alone(points: Floats) -> None:
    before = points.copy()
    fitness_scores(points, np.ones(points.shape[1]))
    nondominated_order(points)
    np.testing.assert_array_equal(points, before)
