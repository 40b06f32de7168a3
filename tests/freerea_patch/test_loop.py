"""The loop: budgets, clocks, charges, and replay."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from freerea_patch import (
    BoundObjective,
    Budget,
    Candidate,
    InputError,
    Ledger,
    Measured,
    NothingFeasible,
    Objective,
    ObjectiveSet,
    RandomSearch,
    Step,
    Times,
    make_search,
    run,
)
from tests.freerea_patch.synthetic import BitSpace, Formulas, noise, objectives

TERMS = [Objective("a")]


class Clock:
    """A clock that moves when told to, and a tick at every look."""

    def __init__(self, tick: float = 0.0) -> None:
        self.now = 0.0
        self.tick = tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


class Slow:
    """A source whose every evaluation moves the clock by ten seconds."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterator[Mapping[str, Measured]]:
        for genotype in genotypes:
            self.clock.now += 10.0
            yield {"a": Measured(noise("a")(genotype), 10.0)}


def use(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> ObjectiveSet:
    monkeypatch.setattr("freerea_patch.loop.time", SimpleNamespace(perf_counter=clock))
    return ObjectiveSet([BoundObjective(TERMS[0], Slow(clock), "a")])


@pytest.mark.parametrize("algorithm", ["freerea", "freerea-minus", "random"])
@pytest.mark.parametrize("evaluations", [1, 7, 100, 117])
def test_a_budget_of_evaluations_is_exact(algorithm: str, evaluations: int) -> None:
    source = Formulas(a=noise("a"))
    result = run(make_search(algorithm, BitSpace(16), TERMS), objectives(source), Budget(evaluations=evaluations))
    assert len(result.history) == len(source.asked) == evaluations
    assert result.stopped == "budget"


def test_a_budget_of_evaluations_counts_feasible_candidates() -> None:
    terms = [*TERMS, Objective("ones", role="constraint", upper=6.0)]
    source = Formulas(a=noise("a"), ones=lambda g: float(g.count("1")))
    result = run(RandomSearch(BitSpace(16), terms), objectives(source, *terms), Budget(evaluations=30))
    assert len(result.history) == 30
    assert result.history.evaluated > 30


def test_a_budget_of_metric_seconds_ends_with_the_first_candidate_over_it() -> None:
    source = Formulas(0.75, a=noise("a"))
    result = run(RandomSearch(BitSpace(16), TERMS), objectives(source), Budget(metric_seconds=10))
    assert len(result.history) == 14  # 13 cost 9.75 s, 14 cost 10.5 s
    assert result.ledger.seconds == {"a": 10.5}


def test_a_ledger_may_have_seconds_on_it_already() -> None:
    source = Formulas(0.75, a=noise("a"))
    ledger = Ledger()
    ledger.charge({"predictor": 9.0})
    result = run(RandomSearch(BitSpace(16), TERMS), objectives(source), Budget(metric_seconds=10), ledger=ledger)
    assert len(result.history) == 2
    assert result.ledger is ledger
    assert ledger.seconds == {"predictor": 9.0, "a": 1.5}


def test_infeasible_candidates_are_charged_for_their_constraints() -> None:
    terms = [*TERMS, Objective("ones", role="constraint", upper=6.0)]
    source = Formulas(1.0, a=noise("a"), ones=lambda g: float(g.count("1")))
    result = run(RandomSearch(BitSpace(16), terms), objectives(source, *terms), Budget(evaluations=30))
    assert result.ledger.seconds == {"ones": float(result.history.evaluated), "a": 30.0}


def test_loop_seconds_leave_the_evaluation_of_metrics_out(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = use(Clock(), monkeypatch)
    result = run(RandomSearch(BitSpace(16), TERMS), bound, Budget(evaluations=40))
    assert result.times == Times(wall_s=400.0, loop_s=0.0)


def test_loop_seconds_are_those_between_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    bound = use(clock, monkeypatch)

    def linger(candidate: Candidate, spent: float, times: Times) -> None:
        clock.now += 1.0

    result = run(RandomSearch(BitSpace(16), TERMS), bound, Budget(evaluations=40), on_candidate=linger)
    # The clocks are read before the last call.
    assert result.times == Times(wall_s=439.0, loop_s=39.0)


def test_a_replayed_run_continues_from_its_recorded_values_and_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    bound = use(clock, monkeypatch)
    complete: list[Step] = []

    def record(candidate: Candidate, spent: float, times: Times) -> None:
        complete.append(Step(candidate.proposal, candidate.evaluation, times))

    whole = run(RandomSearch(BitSpace(16), TERMS), bound, Budget(wall_seconds=300), on_candidate=record)
    assert len(complete) == 30
    for kept in (0, 1, 16, 29):
        evaluated = clock.now
        replayed = run(RandomSearch(BitSpace(16), TERMS), bound, Budget(wall_seconds=300), replay=complete[:kept])
        assert clock.now - evaluated == 10.0 * (30 - kept)
        assert replayed.times == whole.times
        assert replayed.ledger.seconds == whole.ledger.seconds
        assert [c.proposal for c in replayed.history] == [c.proposal for c in whole.history]


@pytest.mark.parametrize(("limit", "candidates"), [("wall_seconds", 10), ("total_seconds", 10), ("metric_seconds", 10)])
def test_a_budget_of_seconds_ends_once_they_have_passed(
    limit: str, candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = use(Clock(), monkeypatch)
    result = run(RandomSearch(BitSpace(16), TERMS), bound, Budget(**{limit: 100}))
    assert len(result.history) == candidates


class SlowBound:
    """A constraint that one candidate of four violates; the seconds of each evaluation move the clock."""

    def __init__(self, clock: Clock, seconds: Sequence[float]) -> None:
        self.clock = clock
        self.seconds = seconds
        self.evaluated: list[str] = []

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> list[Mapping[str, Measured]]:
        rows: list[Mapping[str, Measured]] = []
        for genotype in genotypes:
            seconds = self.seconds[min(len(self.evaluated), len(self.seconds) - 1)]
            self.evaluated.append(genotype)
            self.clock.now += seconds
            rows.append({"bound": Measured(noise("bound")(genotype), seconds)})
        return rows


@pytest.mark.parametrize("limit", ["wall_seconds", "total_seconds", "metric_seconds"])
@pytest.mark.parametrize(("seconds", "evaluated"), [([1.0], 30), ([2.0**-7], 3840), ([0.125, 0.125, 9.0], 7)])
def test_constraints_are_evaluated_within_the_seconds_of_the_budget_and_none_is_lost(
    limit: str, seconds: list[float], evaluated: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    use(clock, monkeypatch)
    source = SlowBound(clock, seconds)
    terms = [Objective("bound", role="constraint", upper=0.75), Objective("a")]
    bound = ObjectiveSet(
        [BoundObjective(terms[0], source, "bound"), BoundObjective(terms[1], Formulas(a=noise("a")), "a")]
    )
    budget = Budget(**{limit: 30})
    steps: list[Step] = []

    def record(candidate: Candidate, spent: float, times: Times) -> None:
        steps.append(Step(candidate.proposal, candidate.evaluation, times))

    def search() -> RandomSearch:
        return RandomSearch(BitSpace(16), terms)

    result = run(search(), bound, budget, on_candidate=record)
    assert [step.proposal.genotype for step in steps] == source.evaluated
    assert len(steps) == evaluated
    assert result.times.wall_s < 30 + 4 * max(seconds)
    for kept in (0, 1, len(steps) - 1, len(steps)):
        source.evaluated = [step.proposal.genotype for step in steps[:kept]]
        again = run(search(), bound, budget, replay=steps[:kept])
        assert [c.proposal for c in again.history] == [c.proposal for c in result.history]
        assert again.ledger.seconds == pytest.approx(result.ledger.seconds)


def test_a_batch_is_evaluated_whole_without_a_limit_in_seconds_and_never_beyond_the_patience() -> None:
    class Batches(Formulas):
        sizes: ClassVar[list[int]] = []

        def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterator[Mapping[str, Measured]]:
            self.sizes.append(len(genotypes))
            return super().evaluate(genotypes, metrics)

    source = Batches(bound=lambda genotype: 1.0, a=noise("a"))
    terms = [Objective("bound", role="constraint", upper=0.0), Objective("a")]
    with pytest.raises(NothingFeasible):
        run(RandomSearch(BitSpace(16), terms), objectives(source, *terms), Budget(evaluations=100, patience=40))
    assert [size for size in Batches.sizes if size] == [16, 16, 8]


def test_total_seconds_count_the_loop_besides_the_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    # Ten seconds a candidate, and at least a second of loop from each look at the ticking clock.
    bound = use(Clock(tick=1.0), monkeypatch)
    result = run(RandomSearch(BitSpace(16), TERMS), bound, Budget(total_seconds=100))
    assert 5 <= len(result.history) < 10


def test_the_callback_sees_every_candidate_and_what_is_spent() -> None:
    seen: list[tuple[str, float]] = []
    result = run(
        RandomSearch(BitSpace(16), TERMS),
        objectives(Formulas(a=noise("a"))),
        Budget(evaluations=4),
        on_candidate=lambda candidate, spent, times: seen.append((candidate.genotype, spent)),
    )
    assert seen == list(zip([c.genotype for c in result.history], [0.25, 0.5, 0.75, 1.0], strict=True))


def test_the_result_is_the_best_of_the_history() -> None:
    result = run(RandomSearch(BitSpace(16), TERMS), objectives(Formulas(a=noise("a"))), Budget(evaluations=50))
    assert result.front == [max(result.history, key=lambda c: c.values["a"])]


def test_candidates_without_a_number_never_win() -> None:
    source = Formulas(a=lambda g: float("nan") if g.startswith("1") else noise("a")(g))
    result = run(make_search("freerea", BitSpace(10), TERMS), objectives(source), Budget(evaluations=150))
    assert result.front[0].genotype.startswith("0")
    assert any(c.genotype.startswith("1") for c in result.history)


def test_five_lines_implement_the_objectives_of_a_search() -> None:
    from freerea_patch import Evaluation, TopologySpace

    class Mine:
        terms = (Objective("length"),)

        def evaluate(self, genotypes: Sequence[str]) -> Iterator[Evaluation]:
            return (Evaluation({"length": float(len(genotype))}) for genotype in genotypes)

    result = run(make_search("freerea", TopologySpace(), Mine.terms), Mine(), Budget(evaluations=120))
    assert result.front[0].values["length"] == max(len(c.genotype) for c in result.history)


ONES = [*TERMS, Objective("ones", role="constraint", upper=2.0, unit="bits")]


def ones(genotype: str) -> float:
    return float(genotype.count("1"))


@pytest.mark.parametrize("algorithm", ["freerea", "freerea-minus", "random"])
def test_a_search_without_a_feasible_candidate_ends_with_the_patience_and_names_the_nearest(algorithm: str) -> None:
    source = Formulas(a=noise("a"), ones=lambda g: 3.0 + ones(g))
    with pytest.raises(NothingFeasible) as error:
        run(make_search(algorithm, BitSpace(16), ONES), objectives(source, *ONES), Budget(evaluations=9, patience=40))
    evaluated = list(dict.fromkeys(genotype for genotype, _ in source.asked))[:40]
    nearest = min(evaluated, key=ones)
    assert str(error.value) == (
        "none of 40 candidates is within the constraints (ones <= 2 bits); the nearest has"
        f" ones {3 + ones(nearest):g} bits: {nearest}; loosen the bound, or raise budget.patience (40)"
    )


def test_a_search_that_found_something_ends_with_it_when_the_patience_is_over() -> None:
    found: list[str] = []

    def rare(genotype: str) -> float:  # the first ten candidates are feasible
        found.append(genotype)
        return 0.0 if len(found) <= 10 else 9.0

    source = Formulas(a=noise("a"), ones=rare)
    result = run(RandomSearch(BitSpace(16), ONES), objectives(source, *ONES), Budget(evaluations=99, patience=30))
    assert result.stopped == "patience"
    assert (len(result.history), result.history.evaluated) == (10, 40)
    assert result.front[0].genotype in found[:10]


def test_a_feasible_candidate_renews_the_patience() -> None:
    source = Formulas(a=noise("a"), ones=lambda g: 9.0 if g[:2] != "00" else 0.0)
    result = run(RandomSearch(BitSpace(16), ONES), objectives(source, *ONES), Budget(evaluations=60, patience=40))
    assert result.stopped == "budget"
    assert result.history.evaluated > 150


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
    message = "a budget needs at least one of: metric_seconds, wall_seconds, total_seconds, evaluations$"
    with pytest.raises(InputError, match=message):
        Budget(patience=10)


@pytest.mark.parametrize("limit", [*LIMITS, "patience"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, 10**400])
def test_a_limit_that_is_not_positive_is_refused(limit: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{limit} must be a positive number, got {value!r}"):
        Budget(**{"evaluations": 1, limit: value})


@pytest.mark.parametrize("evaluations", [2.5, 1e2])
def test_networks_are_counted_in_whole_numbers(evaluations: Any) -> None:
    for name in ("evaluations", "patience"):
        with pytest.raises(InputError, match=f"{name} must be a whole number, got {evaluations}"):
            Budget(**{"evaluations": 1, name: evaluations})


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("value", ["10", True])
def test_a_limit_is_a_number(limit: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{limit} must be a positive number, got {value!r}"):
        Budget(**{limit: value})
