"""Objectives of ours inside code with FreeREA's seams. The modules here are written by the test."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from freerea_patch import BoundObjective, Evaluation, InputError, Measured, NothingFeasible, Objective, ObjectiveSet
from freerea_patch.checkout import CheckoutMetrics, Hook

NAS_UTILS = """
import time

def population_init(api, N):
    population = []
    while len(population) < N:
        if is_feasible(api.random(), 5, 5):
            population.append(api.last)
    return population

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


#: A search with the course of FreeREA's: a population, then steps that grow it, until metrics and clock are over.
SEARCH = """
import time

def search(api, N, max_time):
    start = time.time()
    exemplars = population_init(api, N)
    history = {e.genotype: e for e in exemplars}
    total = 0.0
    while total <= max_time:
        while True:
            new = api.random()
            exemplars, history = prune_flops_params([*exemplars, new], history | {new.genotype: new}, 5, 5)
            if len(exemplars) > N:
                break
        exemplars = return_top_k(exemplars, N)
        total = api.total_metrics_time(history.values(), metrics=[]) + time.time() - start
    return total
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

    drawn = 0

    def random(self) -> Exemplar:
        self.drawn += 1
        self.last = Exemplar(-self.drawn)
        return self.last

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
    names = ("return_top_k", "is_feasible", "clean_history", "population_init", "time")
    star = {name: vars(nas_utils)[name] for name in names}
    pruning = module("pruning", PRUNING, **star)
    search = module("search", SEARCH, prune_flops_params=vars(pruning)["prune_flops_params"], **star)
    our_baselines = module("our_baselines", **star)
    return SimpleNamespace(
        path=Path("FreeREA"),
        nas_utils=nas_utils,
        pruning=pruning,
        search=search,
        our_baselines=our_baselines,
        analyzer=module("analyzer", "import time"),
    )


class Distance:
    """Objectives: be near to 5, never 7; a second each, and a log of what was asked."""

    terms: tuple[Objective, ...] = (
        Objective("distance", direction="min"),
        Objective("id", role="constraint", upper=6),
    )

    def __init__(self) -> None:
        self.asked: list[list[Any]] = []

    def evaluate(self, genotypes: Sequence[Any]) -> Iterator[Evaluation]:
        self.asked.append(list(genotypes))
        for genotype in genotypes:
            yield Evaluation({"id": float(genotype), "distance": abs(genotype - 5.0)}, {"distance": 1.0})


def bindings(checkout: Any) -> dict[tuple[str, str], object]:
    return {
        (name, key): value
        for name in ("search", "pruning", "nas_utils", "our_baselines", "analyzer")
        for key, value in vars(getattr(checkout, name)).items()
    }


def test_every_binding_ranks_by_our_objectives(checkout: Any) -> None:
    pool = [Exemplar(g) for g in (1, 4, 6, 2)]
    with Hook(checkout, Api(), Distance()):
        for name in ("search", "pruning", "nas_utils", "our_baselines"):
            top = getattr(checkout, name).return_top_k(pool, 2, metric_names=["naswot"])
            assert [e.genotype for e in top] == [4, 6]
        assert pool[1].rank is not None


def test_a_search_that_ranks_by_other_metrics_is_refused_if_it_matters(checkout: Any) -> None:
    message = "FreeREA: its search ranks by a, c, expected a, b; name the metrics to keep, such as --metrics a,c"
    with Hook(checkout, Api(), Distance(), ranks_by=["a", "b"]):
        assert checkout.search.return_top_k([Exemplar(1)], 1, metric_names=["b", "a"])
        assert checkout.search.return_top_k([Exemplar(1)], 1)
        with pytest.raises(InputError, match=message):
            checkout.search.return_top_k([Exemplar(1)], 1, metric_names=["a", "c"])


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


def test_an_error_while_functions_are_replaced_puts_them_back(checkout: Any) -> None:
    class Slotted:
        __slots__ = ()

    before = bindings(checkout)
    with pytest.raises(TypeError, match="__dict__"):
        Hook(checkout, Slotted(), Distance()).__enter__()
    assert bindings(checkout) == before
    assert "search_modified" not in sys.modules


class Timed(Distance):
    """A second of a clock of its own for each network, which is charged as well."""

    terms = (Objective("distance", direction="min"),)
    now = 0.0

    def evaluate(self, genotypes: Sequence[Any]) -> Iterator[Evaluation]:
        for evaluation in super().evaluate(genotypes):
            self.now += 1.0
            yield evaluation

    def clock(self) -> float:
        self.now += 0.001  # for the search itself
        return self.now


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Timed:
    objectives = Timed()
    clock = SimpleNamespace(time=objectives.clock, perf_counter=objectives.clock, sleep=abs)
    monkeypatch.setattr("freerea_patch.checkout.time", clock)
    return objectives


def test_a_live_metric_is_charged_once(checkout: Any, timed: Timed) -> None:
    api = Api()
    with Hook(checkout, api, timed) as hook:
        assert checkout.analyzer.time.sleep(-2) == 2  # the rest of the clock's module is as it was
        total = checkout.search.search(api, 5, 100.0)
    assert 100.0 < total < 101.5
    assert 95 <= len(hook.history) <= 101


def test_every_search_inside_one_hook_has_the_whole_budget_and_the_first_pays_the_preparation(
    checkout: Any, timed: Timed
) -> None:
    api = Api()
    networks = []
    with Hook(checkout, api, timed, preparation_s=60.0) as hook:
        for _ in range(4):
            assert 100.0 < checkout.search.search(api, 5, 100.0) < 101.5
            networks.append(len(hook.history))
    assert 35 <= networks[0] <= 41
    assert all(95 <= count <= 101 for count in networks[1:])


def test_a_search_that_can_draw_nothing_feasible_ends_with_the_patience(checkout: Any) -> None:
    api = Api()
    low = Distance()
    low.terms = (Objective("distance", direction="min"), Objective("id", role="constraint", lower=6))
    message = (
        r"none of 30 candidates is within the constraints \(id >= 6\); the nearest has id -1: -1; loosen the bound$"
    )
    with Hook(checkout, api, low, patience=30), pytest.raises(NothingFeasible, match=message):
        checkout.search.search(api, 5, 100.0)


def test_a_search_whose_population_cannot_grow_ends_with_the_patience(checkout: Any) -> None:
    few = Distance()
    few.terms = (Objective("distance", direction="min"), Objective("id", role="constraint", lower=-5))
    api = Api()
    with Hook(checkout, api, few, patience=30) as hook, pytest.raises(NothingFeasible) as error:
        checkout.search.search(api, 5, 100.0)
    assert str(error.value) == (
        "the last 30 proposals added no network within the constraints to the population, and 'history' has only 5;"
        " loosen a bound, or reduce N"
    )
    assert (len(hook.history), api.drawn) == (5, 35)


def test_bounds_of_the_search_itself_that_nothing_meets_end_it_too(checkout: Any) -> None:
    heavy = Exemplar(1, flops=9.0)
    with Hook(checkout, Api(), Distance(), patience=30):
        assert not any(checkout.search.is_feasible(heavy, 5, 5) for _ in range(29))
        with pytest.raises(NothingFeasible, match="none of 30 proposals is within max_flops and max_params"):
            checkout.search.is_feasible(heavy, 5, 5)


def test_the_search_of_sevalnas_is_refused_because_the_hook_does_not_reach_it(
    checkout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = r"^FreeREA/search_modified\.py is SEval-NAS's own search, which this hook does not reach; call search\."
    with Hook(checkout, Api(), Distance()):
        modified = import_module("search_modified")
        with pytest.raises(InputError, match=message):
            modified.search(Api())
    assert "search_modified" not in sys.modules
    monkeypatch.setitem(sys.modules, "search_modified", ModuleType("search_modified"))
    with pytest.raises(InputError, match=message), Hook(checkout, Api(), Distance()):
        pass


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
    for _ in range(2):
        (row,) = source.evaluate([4], names)  # type: ignore[list-item]
        assert row == {"naswot": Measured(4.0, 0.25), "skip": Measured(0.5)}
