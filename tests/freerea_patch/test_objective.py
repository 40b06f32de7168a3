"""Objectives own their direction, bounds and weight."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freerea_patch import UNSUPPORTED, InputError, Objective


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
        ({"direction": "up"}, "objective 'a': direction must be 'max' or 'min', not 'up'"),
        ({"role": "goal"}, "objective 'a': role must be 'fitness', 'constraint' or 'pareto', not 'goal'"),
        ({"role": "constraint"}, "objective 'a': a constraint needs a bound, 'min: NUMBER' or 'max: NUMBER'"),
        ({"upper": 2.0}, "objective 'a': 'min' and 'max' belong to role 'constraint', not 'fitness'"),
        ({"role": "pareto", "lower": 2.0}, "objective 'a': 'min' and 'max' belong to role 'constraint', not 'pareto'"),
        ({"role": "constraint", "lower": 3.0, "upper": 2.0}, "objective 'a': min 3 is larger than max 2"),
        ({"role": "constraint", "upper": math.nan}, "objective 'a': a bound must be a number, not NaN"),
        ({"weight": 0.0}, "objective 'a': weight must be a positive number, not 0.0"),
        ({"weight": -1.0}, "objective 'a': weight must be a positive number, not -1.0"),
        ({"weight": math.nan}, "objective 'a': weight must be a positive number, not nan"),
        ({"weight": math.inf}, "objective 'a': weight must be a positive number, not inf"),
    ],
)
def test_an_objective_that_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        Objective("a", **options)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_violation_is_the_distance_to_the_bound_relative_to_it() -> None:
    bounded = Objective("a", role="constraint", lower=2.0, upper=10.0)
    assert [bounded.violation(value) for value in (1.0, 2.0, 5.0, 10.0, 15.0)] == [0.5, 0.0, 0.0, 0.0, 0.5]
    assert bounded.violation(math.nan) == math.inf
    assert Objective("a", role="constraint", upper=0.0).violation(3.0) == 3.0


@given(st.floats(allow_nan=False), st.floats(-1e6, 1e6))
def test_what_is_admitted_violates_nothing_and_only_that(value: float, bound: float) -> None:
    for term in (Objective("a", role="constraint", lower=bound), Objective("a", role="constraint", upper=bound)):
        assert (term.violation(value) == 0) == term.admits(value)
