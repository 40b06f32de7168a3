"""Objectives bound to sources: constraints first, each source asked once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import pytest

from freerea_patch import BoundObjective, InputError, Measured, Objective, ObjectiveSet
from tests.freerea_patch.synthetic import Formulas, objectives


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
    with pytest.raises(InputError, match="two objectives are named 'a'; give one of them a name of its own"):
        ObjectiveSet(bound)


@pytest.mark.parametrize("terms", [[], [Objective("a", role="constraint", upper=1.0)]])
def test_a_search_without_anything_to_select_by_is_refused(terms: list[Objective]) -> None:
    source = Formulas(a=ones)
    with pytest.raises(InputError, match="at least one objective with role 'fitness' or 'pareto'"):
        ObjectiveSet([BoundObjective(term, source, "a") for term in terms])
