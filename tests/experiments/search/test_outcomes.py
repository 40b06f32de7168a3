"""What a search is worth: its answer before and after re-measuring."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.search.benchmarks import Benchmark
from experiments.search.methods import ABLATION, METHODS, Method
from experiments.search.outcomes import FinishedSearch, answers, front_quality, ranking, ranking_tau
from freerea_patch import Evaluation, History, Objective, Proposal

CELLS = ("a", "b", "c", "d")
TRUTH = Benchmark(
    "cifar10", "latency", "ms", "min", CELLS, np.array([90.0, 80.0, 70.0, 60.0]), np.array([9.0, 5.0, 4.0, 1.0])
)


def history(role: str, **predicted: float) -> History:
    terms = [Objective("naswot"), Objective("latency", "min", role, upper=8.0 if role == "constraint" else None)]  # type: ignore[arg-type]
    found = History(terms)
    for genotype, value in predicted.items():
        found.add(Proposal(genotype), Evaluation({"naswot": TRUTH.accuracies[TRUTH.rows[genotype]], "latency": value}))
    return found


def test_an_answer_that_breaks_the_bound_has_no_regret_until_the_next_ones_are_measured() -> None:
    row = answers(TRUTH, 5.0, ["a", "c", "b"])
    assert row == {
        "bound": 5.0,
        "best_accuracy": 80.0,
        "violated": 1,
        "accuracy": 90.0,
        "regret": "",
        "remeasured": 2,
        "remeasured_accuracy": 70.0,
        "remeasured_regret": 10.0,
    }


def test_an_answer_within_the_bound_needs_no_other() -> None:
    row = answers(TRUTH, 5.0, ["b", "a"])
    assert (row["violated"], row["regret"], row["remeasured"], row["remeasured_regret"]) == (0, 0.0, 1, 0.0)


def test_a_search_without_anything_within_the_bound_has_no_answer() -> None:
    assert "remeasured" not in answers(TRUTH, 1.0, ["a", "b"])
    assert answers(TRUTH, 5.0, []) == {"bound": 5.0, "best_accuracy": 80.0}


def test_a_front_that_the_device_cannot_run_is_worth_nothing(tmp_path: Path) -> None:
    unsupported = replace(TRUTH, values=np.array([np.nan, 5.0, 4.0, 1.0]))
    row = front_quality(unsupported, history("pareto", a=9.0), tmp_path)
    assert row == {"front": 1, "hypervolume": 0.0, "igd_plus": ""}


def test_the_ranking_begins_with_what_the_search_reports_and_leaves_the_infeasible_out() -> None:
    searched = history("constraint", a=9.0, b=5.0, c=4.0, d=1.0)
    search = FinishedSearch(searched, {}, 0.0, 0.0, frozenset(), 4, ["c"])
    assert ranking(search) == ["c", "b", "d"]


def test_tau_is_over_all_that_was_generated() -> None:
    seval = Method("x", hardware="seval")
    assert ranking_tau(seval, TRUTH, history("constraint", a=9.0, b=6.0, c=4.0, d=5.0)) == pytest.approx(2 / 3)
    assert ranking_tau(Method("z", hardware="seval", rounds=5), TRUTH, history("constraint", a=9.0, b=6.0)) == ""
    assert ranking_tau(Method("y", hardware="true"), TRUTH, history("constraint", a=9.0)) == ""


def test_the_points_of_a_front_are_written_by_their_true_values(tmp_path: Path) -> None:
    row = front_quality(TRUTH, history("pareto", a=9.0, b=5.0, c=5.5), tmp_path)
    assert (row["front"], row["hypervolume"], row["igd_plus"]) == (2, *TRUTH.quality(["a", "b"]))
    with open(tmp_path / "front.csv", newline="") as file:
        points = {line["genotype"]: (float(line["accuracy"]), float(line["value"])) for line in csv.DictReader(file)}
    assert points == {"a": (90.0, 9.0), "b": (80.0, 5.0)}


def test_method_names_are_unique() -> None:
    for methods in (METHODS, ABLATION):
        names = [method.name for method in methods]
        assert len(set(names)) == len(names)
