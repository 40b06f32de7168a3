"""Objectives of ours inside code with FreeREA's seams. The modules here are written by the test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from freerea_patch import BoundObjective, Evaluation, InputError, Measured, Objective, ObjectiveSet
from freerea_patch.checkout import CheckoutMetrics, Hook

NAS_UTILS = """
def return_top_k(exemplars, K=3, metric_names=[]):
    return sorted(exemplars, key=lambda e: -e.genotype)[:K]

def is_feasible(exemplar, max_flops, max_params):
    return exemplar.flops <= max_flops

def clean_history(history, max_params, max_flops):
    return {g: e for g, e in history.items() if e.flops <= max_flops}
"""
PRUNING = """
def prune_flops_params(exemplars, history, max_flops, max_params):
    return [e for e in exemplars if e.flops <= max_flops], clean_history(history, max_params, max_flops)
"""


class Exemplar:
    def __init__(self, genotype: int, flops: float = 1.0) -> None:
        self.genotype, self.flops, self.born, self.rank = genotype, flops, True, None

    def get_metric(self, name: str) -> float:
        return float(self.genotype)

    def skip(self) -> float:
        return 0.5


class Api:
    """FreeREA's search space object, as far as the hook goes."""

    def __getitem__(self, index: int) -> Exemplar:
        return Exemplar(index)

    def get_index(self, genotype: int) -> int:
        return genotype

    def total_metrics_time(self, exemplars: Sequence[Exemplar], metrics: Sequence[str]) -> float:
        return 0.25 * len(exemplars) * len(metrics)


def module(name: str, *code: str, **names: Any) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(names)
    for text in code:
        exec(text, vars(made))
    return made


@pytest.fixture
def checkout() -> Any:
    """Four modules, each with its own binding of what ``from nas_utils import *`` gives it."""
    nas_utils = module("nas_utils", NAS_UTILS)
    star = {name: vars(nas_utils)[name] for name in ("return_top_k", "is_feasible", "clean_history")}
    pruning = module("pruning", PRUNING, **star)
    search = module("search", prune_flops_params=vars(pruning)["prune_flops_params"], **star)
    our_baselines = module("our_baselines", **star)
    return SimpleNamespace(
        path=Path("FreeREA"), nas_utils=nas_utils, pruning=pruning, search=search, our_baselines=our_baselines
    )


class Distance:
    """Objectives: be near to 5, never 7; a second each, and a log of what was asked."""

    terms = (Objective("distance", direction="min"), Objective("id", role="constraint", upper=6))

    def __init__(self) -> None:
        self.asked: list[list[Any]] = []

    def evaluate(self, genotypes: Sequence[Any]) -> Iterator[Evaluation]:
        self.asked.append(list(genotypes))
        for genotype in genotypes:
            yield Evaluation({"id": float(genotype), "distance": abs(genotype - 5.0)}, {"distance": 1.0})


def bindings(checkout: Any) -> dict[tuple[str, str], object]:
    return {
        (name, key): value
        for name in ("search", "pruning", "nas_utils", "our_baselines")
        for key, value in vars(getattr(checkout, name)).items()
    }


def test_every_binding_ranks_by_our_objectives(checkout: Any) -> None:
    pool = [Exemplar(g) for g in (1, 4, 6, 2)]
    with Hook(checkout, Api(), Distance()):
        for name in ("search", "pruning", "nas_utils", "our_baselines"):
            top = getattr(checkout, name).return_top_k(pool, 2, metric_names=["naswot"])
            assert [e.genotype for e in top] == [4, 6]
        assert pool[1].rank is not None


def test_a_constraint_bounds_population_and_history(checkout: Any) -> None:
    exemplars = [Exemplar(3), Exemplar(7), Exemplar(4, flops=9.0)]
    with Hook(checkout, Api(), Distance()):
        assert [checkout.our_baselines.is_feasible(e, 5, 5) for e in exemplars] == [True, False, False]
        kept, history = checkout.search.prune_flops_params(exemplars, {e.genotype: e for e in exemplars}, 5, 5)
        assert [e.genotype for e in kept] == [3]
        assert list(history) == [3]


def test_unborn_exemplars_do_not_compete(checkout: Any) -> None:
    pool = [Exemplar(5), Exemplar(4)]
    pool[0].born = False
    with Hook(checkout, Api(), Distance()):
        assert [e.genotype for e in checkout.search.return_top_k(pool, 2)] == [4]


def test_each_genotype_is_evaluated_once_and_new_ones_as_a_batch(checkout: Any) -> None:
    objectives = Distance()
    with Hook(checkout, Api(), objectives) as hook:
        checkout.search.return_top_k([Exemplar(1), Exemplar(2), Exemplar(1)], 2)
        checkout.pruning.return_top_k([Exemplar(2), Exemplar(3)], 2)
    assert [batch for batch in objectives.asked if batch] == [[1, 2], [3]]
    assert [str(c.genotype) for c in hook.history] == ["1", "2", "3"]


def test_our_seconds_count_against_the_budget_also_those_spent_on_infeasible_ones(checkout: Any) -> None:
    api = Api()
    with Hook(checkout, api, Distance(), preparation_s=10.0):
        checkout.nas_utils.is_feasible(Exemplar(7), 5, 5)
        assert api.total_metrics_time([Exemplar(1), Exemplar(2)], metrics=["naswot", "logsynflow", "skip"]) == 13.0
    assert api.total_metrics_time([Exemplar(1)], ["naswot"]) == 0.25


def test_everything_is_put_back_also_after_an_error_and_undo_may_be_called_twice(checkout: Any) -> None:
    api, before = Api(), bindings(checkout)
    hook = Hook(checkout, api, Distance())
    with hook:
        assert bindings(checkout) != before
    assert bindings(checkout) == before
    with pytest.raises(ZeroDivisionError), hook:
        checkout.search.return_top_k([Exemplar(1)], 1 // 0)
    hook.undo()
    assert bindings(checkout) == before
    assert "total_metrics_time" not in vars(api)


def test_a_checkout_without_a_function_that_has_to_be_replaced_is_refused(checkout: Any) -> None:
    for name in ("search", "pruning"):
        delattr(getattr(checkout, name), "prune_flops_params")
    with pytest.raises(InputError, match="FreeREA has no prune_flops_params; expected commit 9c2a726"):
        Hook(checkout, Api(), Distance())


def test_the_checkouts_own_metrics_are_a_source_with_their_own_seconds(checkout: Any) -> None:
    api = Api()
    source = CheckoutMetrics(api)
    names = ("naswot", "skip")
    with Hook(checkout, api, ObjectiveSet([BoundObjective(Objective(n), source, n) for n in names])):
        assert [e.genotype for e in checkout.search.return_top_k([Exemplar(1), Exemplar(3)], 1)] == [3]
        assert api.total_metrics_time([Exemplar(1), Exemplar(3)], names) == 0.5
    (row,) = source.evaluate([4], names)  # type: ignore[list-item]
    assert row == {"naswot": Measured(4.0, 0.25), "skip": Measured(0.5)}
