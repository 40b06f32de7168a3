"""One line for every mistake in a config: the key, what was expected, and what came."""

from __future__ import annotations

import copy

import pytest

from freerea_patch import InputError
from freerea_seval.config import check_config

GOOD = {
    "search": {"seeds": [0]},
    "budget": {"evaluations": 20},
    "live": {"batch_size": 8},
    "objectives": [{"metric": "naswot", "source": "training-free"}],
}
LIMITS = "metric_seconds, wall_seconds, total_seconds, evaluations, patience"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("budget=5", f"budget: expected keys with values ({LIMITS}), got 5"),
        ("budget=null", f"budget: expected keys with values ({LIMITS}), got nothing"),
        ("budget=[1]", f"budget: expected keys with values ({LIMITS}), got a list of 1"),
        ("search=5", "search: expected keys with values (algorithm, seeds), got 5"),
        ("refine=true", "refine: expected keys with values (start, rounds, networks), got True"),
        ("budget.evaluations=2.5", "budget.evaluations: expected a whole number, got 2.5"),
        ("budget.evaluations=ten", "budget.evaluations: expected a whole number, got 'ten'"),
        ("budget.evaluations=.inf", "budget.evaluations: expected a finite number, got inf"),
        ("search.seeds=0", "search.seeds: expected a list, got 0"),
        ("search.seeds={a: 1}", "search.seeds: expected a list, got keys with values"),
        ("search.seeds=[-1]", "search.seeds.0: expected at least 0, got -1"),
        ("space=5", "space: expected a text or keys with values, got 5"),
        ("objectives.0.source=[cost]", "objectives.0.source: expected a text or keys with values, got a list of 1"),
        ("objectives.0.metric=5", "objectives.0.metric: expected a text, got 5"),
        ("objectives.0.weight=0", "objectives.0.weight: expected more than 0, got 0"),
        ("objectives.0.weight=heavy", "objectives.0.weight: expected a number, got 'heavy'"),
        ("objectives.0.optional=perhaps", "objectives.0.optional: expected true or false, got 'perhaps'"),
        ("objectives.0.confidence=1", "objectives.0.confidence: expected less than 1, got 1"),
        ("live.batch_sizes=8", "unknown key in live 'batch_sizes'; did you mean 'batch_size'?"),
        ("objectives.0.metrics=a", "unknown key in objectives.0 'metrics'; did you mean 'metric'?"),
    ],
)
def test_a_mistake_says_what_was_expected_and_what_came(override: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        check_config(copy.deepcopy(GOOD), "config c.yaml", [override])
    assert str(error.value).startswith(f"config c.yaml: {message}")
