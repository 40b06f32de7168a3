"""Nevergrad: an evaluator as a loss that its optimizers minimise."""

from __future__ import annotations

from typing import Any

import pytest

import freerea_seval as fs
from freerea_patch import InputError

ng = pytest.importorskip("nevergrad")
from freerea_seval.integrations.nevergrad import NevergradLoss  # noqa: E402

BOUND = {"metric": "flops", "source": "cost", "role": "constraint", "max": 100}


def make_loss(*objectives: dict[str, Any]) -> NevergradLoss:
    config = {"budget": {"evaluations": 1}, "objectives": list(objectives)}
    return NevergradLoss(fs.Evaluator.from_config(config))


def test_losses_are_the_values_of_the_evaluator_with_the_sign_that_makes_less_better() -> None:
    loss = make_loss(
        {"metric": "params", "source": "cost", "role": "pareto"}, {"metric": "skip", "source": "training-free"}, BOUND
    )
    optimizer = ng.optimizers.DE(loss.parametrization, budget=30)
    optimizer.parametrization.random_state.seed(0)
    feasible = 0
    for _ in range(30):
        candidate = optimizer.ask()
        losses, violation = loss(candidate.value), loss.violation(candidate.value)
        row = loss._evaluator([loss.genotype(candidate.value)]).iloc[0]
        if row["feasible"]:
            assert losses == [row["params"], -row["skip"]]
            assert violation == 0
            feasible += 1
        else:
            assert losses == [1e20, 1e20]
            assert violation == pytest.approx(row["flops"] / 100 - 1)
        optimizer.tell(candidate, losses, violation)
    assert 0 < feasible < 30
    front = [loss.genotype(candidate.value) for candidate in optimizer.pareto_front()]
    assert all(loss._evaluator(front)["feasible"])


def test_an_optimizer_comes_to_the_largest_networks_within_a_bound() -> None:
    loss = make_loss({"metric": "params", "source": "cost", "direction": "max"}, BOUND)
    optimizer = ng.optimizers.DiscreteOnePlusOne(loss.parametrization, budget=60)
    optimizer.parametrization.random_state.seed(0)
    best = optimizer.minimize(loss, constraint_violation=[loss.violation])
    (flops,) = loss._evaluator([loss.genotype(best.value)])["flops"]
    assert 70 < flops <= 100


def test_a_space_without_genes_is_refused() -> None:
    evaluator = fs.Evaluator.from_config(
        {
            "space": {"name": "tests.freerea_patch.synthetic:BitSpace", "length": 4},
            "budget": {"evaluations": 1},
            "objectives": [{"metric": "ones", "source": {"python": "math:isnan"}, "direction": "max"}],
        }
    )
    with pytest.raises(InputError, match="has no method choices"):
        NevergradLoss(evaluator)
