"""What a search may spend."""

from __future__ import annotations

import math
from typing import Any

import pytest

from freerea_patch import Budget, InputError, Ledger

LIMITS = ("metric_seconds", "wall_seconds", "total_seconds", "evaluations")


def spent(budget: Budget, **used: float) -> float:
    nothing: dict[str, Any] = {"metric_s": 0.0, "wall_s": 0.0, "loop_s": 0.0, "evaluations": 0}
    return budget.spent(**nothing | used)


def test_a_ledger_adds_seconds_by_name() -> None:
    ledger = Ledger()
    assert ledger.total_s == 0
    ledger.charge({"naswot": 1.0, "network": 0.5})
    ledger.charge({"naswot": 2.0})
    assert ledger.seconds == {"naswot": 3.0, "network": 0.5}
    assert ledger.total_s == 3.5


@pytest.mark.parametrize(
    ("limit", "used"), [("metric_seconds", "metric_s"), ("wall_seconds", "wall_s"), ("evaluations", "evaluations")]
)
def test_a_limit_is_spent_by_its_own_clock_alone(limit: str, used: str) -> None:
    budget = Budget(**{limit: 10})
    assert spent(budget, **{used: 5}) == 0.5
    assert spent(budget, **{used: 10}) == 1.0
    assert (
        spent(budget, **{other: 99 for other in ("metric_s", "wall_s", "loop_s", "evaluations") if other != used}) == 0
    )


def test_total_seconds_are_those_of_metrics_and_of_the_loop() -> None:
    assert spent(Budget(total_seconds=10), metric_s=4, loop_s=3, wall_s=99, evaluations=99) == 0.7


def test_the_limit_that_is_nearest_counts() -> None:
    assert spent(Budget(metric_seconds=10, evaluations=4), metric_s=5, evaluations=3) == 0.75


def test_only_clocks_make_a_search_depend_on_the_machine() -> None:
    assert [Budget(**{limit: 1}).uses_clock for limit in LIMITS] == [False, True, True, False]


def test_a_budget_without_a_limit_is_refused() -> None:
    with pytest.raises(InputError, match="a budget needs at least one of: metric_seconds, wall_seconds, total_seconds"):
        Budget()


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("value", [0, -1, math.nan])
def test_a_limit_that_is_not_positive_is_refused(limit: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"budget {limit} must be a positive number, not {value!r}"):
        Budget(**{limit: value})


@pytest.mark.parametrize("evaluations", [2.5, 1e2])
def test_networks_are_counted_in_whole_numbers(evaluations: Any) -> None:
    with pytest.raises(InputError, match=f"budget evaluations must be a whole number, not {evaluations}"):
        Budget(evaluations=evaluations)


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("value", ["10", True])
def test_a_limit_is_a_number(limit: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"budget {limit} must be a positive number, not {value!r}"):
        Budget(**{limit: value})
