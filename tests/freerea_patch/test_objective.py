"""Objectives own their direction, bounds and weight; sets of them evaluate constraints first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from freerea_patch import UNSUPPORTED, BoundObjective, InputError, Measured, Objective, ObjectiveSet
from tests.freerea_patch.synthetic import Formulas, objectives


def test_a_smaller_value_is_better_when_the_direction_is_min() -> None:
    latency = Objective("latency", "min")
    assert latency.oriented(3.0) > latency.oriented(4.0)
    accuracy = Objective("accuracy", "max")
    assert accuracy.oriented(4.0) > accuracy.oriented(3.0)


def test_bounds_are_inclusive() -> None:
    bounded = Objective("params", role="constraint", lower=1.0, upper=2.0)
    assert [bounded.admits(value) for value in (0.99, 1.0, 1.5, 2.0, 2.01)] == [False, True, True, True, False]


def test_one_bound_is_enough() -> None:
    assert Objective("a", role="constraint", lower=1.0).admits(math.inf)
    assert not Objective("a", role="constraint", lower=1.0).admits(0.0)
    assert Objective("a", role="constraint", upper=1.0).admits(-math.inf)
    assert not Objective("a", role="constraint", upper=1.0).admits(2.0)


def test_an_unsupported_value_satisfies_no_bound() -> None:
    assert not Objective("a", role="constraint", lower=-math.inf).admits(UNSUPPORTED)
    assert not Objective("a", role="constraint", upper=math.inf).admits(UNSUPPORTED)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"direction": "up"}, "objective 'a': direction must be 'max' or 'min', got 'up'"),
        ({"role": "goal"}, "objective 'a': role must be 'fitness', 'constraint' or 'pareto', got 'goal'"),
        ({"role": "constraint"}, "objective 'a': a constraint needs a bound, 'min: NUMBER' or 'max: NUMBER'"),
        ({"upper": 2.0}, "objective 'a': 'min' and 'max' belong to role 'constraint', not 'fitness'"),
        ({"role": "pareto", "lower": 2.0}, "objective 'a': 'min' and 'max' belong to role 'constraint', not 'pareto'"),
        ({"role": "constraint", "lower": 3.0, "upper": 2.0}, "objective 'a': min 3 is larger than max 2"),
        ({"role": "constraint", "upper": math.nan}, "objective 'a': a bound must be a number, not NaN"),
        ({"weight": 0.0}, "objective 'a': weight must be a positive number, got 0.0"),
        ({"weight": -1.0}, "objective 'a': weight must be a positive number, got -1.0"),
        ({"weight": math.nan}, "objective 'a': weight must be a positive number, got nan"),
        ({"weight": math.inf}, "objective 'a': weight must be a positive number, got inf"),
    ],
)
def test_an_objective_that_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        Objective("a", **options)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def ones(genotype: str) -> float:
    return float(genotype.count("1"))


def test_every_genotype_gets_its_values_and_seconds_in_order() -> None:
    source = Formulas(0.5, ones=ones, length=lambda g: float(len(g)))
    first, second = objectives(source).evaluate(["011", "1"])
    assert first.values == {"ones": 2.0, "length": 3.0}
    assert second.values == {"ones": 1.0, "length": 1.0}
    assert first.seconds == {"ones": 0.5, "length": 0.5}


def test_a_source_is_asked_once_for_all_its_metrics() -> None:
    source = Formulas(a=ones, b=ones)
    other = Formulas(c=ones)
    bound = ObjectiveSet(
        [
            BoundObjective(Objective("a"), source, "a"),
            BoundObjective(Objective("c"), other, "c"),
            BoundObjective(Objective("b", role="pareto"), source, "b"),
        ]
    )
    list(bound.evaluate(["01", "11"]))
    assert source.asked == [("01", ("a", "b")), ("11", ("a", "b"))]
    assert other.asked == [("01", ("c",)), ("11", ("c",))]


def test_two_objectives_on_one_metric_share_its_evaluation() -> None:
    source = Formulas(0.5, a=ones)
    bound = [BoundObjective(Objective("x"), source, "a"), BoundObjective(Objective("y", "min"), source, "a")]
    (evaluation,) = ObjectiveSet(bound).evaluate(["011"])
    assert evaluation.values == {"x": 2.0, "y": 2.0}
    assert evaluation.seconds == {"a": 0.5}
    assert source.asked == [("011", ("a",))]


def test_an_infeasible_candidate_is_never_evaluated_further() -> None:
    cheap = Formulas(length=lambda g: float(len(g)))
    dear = Formulas(fitness=ones)
    bound = ObjectiveSet(
        [
            BoundObjective(Objective("fitness"), dear, "fitness"),
            BoundObjective(Objective("length", role="constraint", upper=2.0), cheap, "length"),
        ]
    )
    small, large, fitting = bound.evaluate(["1", "111", "11"])
    assert dear.asked == [("1", ("fitness",)), ("11", ("fitness",))]
    assert large.values == {"length": 3.0}
    assert small.values == {"length": 1.0, "fitness": 1.0}
    assert fitting.values == {"length": 2.0, "fitness": 2.0}


def test_a_second_constraint_source_sees_only_what_the_first_admits() -> None:
    first, second = Formulas(a=ones), Formulas(b=ones)
    bound = ObjectiveSet(
        [
            BoundObjective(Objective("a", role="constraint", upper=1.0), first, "a"),
            BoundObjective(Objective("b", role="constraint", lower=1.0), second, "b"),
            BoundObjective(Objective("f"), first, "a"),
        ]
    )
    evaluations = list(bound.evaluate(["11", "00", "01"]))
    assert [genotype for genotype, _ in second.asked] == ["00", "01"]
    assert [sorted(e.values) for e in evaluations] == [["a"], ["a", "b"], ["a", "b", "f"]]


def test_evaluations_come_one_at_a_time() -> None:
    source = Formulas(a=ones)
    stream = objectives(source).evaluate(["00", "01", "11"])
    next(stream)
    assert len(source.asked) == 1


def test_keys_that_no_objective_wants_are_charged_but_not_recorded() -> None:
    class Costly:
        def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterator[Mapping[str, Measured]]:
            for _ in genotypes:
                yield {"a": Measured(1.0, 2.0), "network": Measured(math.nan, 3.0), "free": Measured(0.0)}

    (evaluation,) = ObjectiveSet([BoundObjective(Objective("a"), Costly(), "a")]).evaluate(["x"])
    assert evaluation.values == {"a": 1.0}
    assert evaluation.seconds == {"a": 2.0, "network": 3.0}


def test_nothing_to_evaluate_gives_nothing() -> None:
    assert list(objectives(Formulas(a=ones)).evaluate([])) == []


def test_two_objectives_of_one_name_are_refused() -> None:
    source = Formulas(a=ones)
    bound = [BoundObjective(Objective("a"), source, "a"), BoundObjective(Objective("a", "min"), source, "a")]
    with pytest.raises(InputError, match="two objectives are named 'a'; give one of them another 'name'"):
        ObjectiveSet(bound)


@pytest.mark.parametrize("terms", [[], [Objective("a", role="constraint", upper=1.0)]])
def test_a_search_without_anything_to_select_by_is_refused(terms: list[Objective]) -> None:
    source = Formulas(a=ones)
    with pytest.raises(InputError, match="at least one objective with role 'fitness' or 'pareto'"):
        ObjectiveSet([BoundObjective(term, source, "a") for term in terms])
