"""Choosing what to measure: against a naive twin, what it chooses, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from freerea_patch import InputError
from freerea_seval.predictor import active_learning as informative
from freerea_seval.predictor.active_learning import most_informative
from freerea_seval.predictor.models.gp import GaussianProcessPredictor


def naive_choice(strings: list[str], count: int, length: float) -> list[str]:
    """Choose with the whole posterior covariance, updated in each step, of every network, equal ones too."""
    process = GaussianProcessPredictor()
    points = process.learn_points(sorted(set(strings)))
    everyone = [points[sorted(set(strings)).index(string)] for string in strings]
    amplitude, slope, noise = np.exp([0.0, -3.0, -2.0])
    covariance = np.empty((len(strings), len(strings)))
    for i, a in enumerate(everyone):
        for j, b in enumerate(everyone):
            away = np.sqrt(3) * np.linalg.norm(a - b) / length
            covariance[i, j] = amplitude * (1 + away) * np.exp(-away) + slope * a @ b
    chosen: list[str] = []
    for _ in range(count):
        left = {string: strings.index(string) for string in sorted(set(strings)) if string not in chosen}
        lowered = {s: (covariance[:, j] ** 2).sum() / (covariance[j, j] + noise) for s, j in left.items()}
        best = max(lowered, key=lambda string: lowered[string])
        chosen.append(best)
        column = covariance[:, left[best]].copy()
        covariance -= np.outer(column, column) / (column[left[best]] + noise)
    return chosen


@pytest.mark.parametrize("length_scale", [1.0, 2.7])
@pytest.mark.parametrize("repeated", [0, 3, 30])
def test_the_choice_equals_that_of_a_naive_twin(strings: list[str], repeated: int, length_scale: float) -> None:
    some = strings[:40] + strings[5:8] * repeated
    chosen = most_informative(some, 12, length_scale=length_scale)
    assert [some[row] for row in chosen] == naive_choice(some, 12, length_scale)
    assert chosen.dtype == np.int64


def test_fewer_are_the_first_of_more(strings: list[str]) -> None:
    assert np.array_equal(most_informative(strings, 30)[:8], most_informative(strings, 8))


def test_equal_networks_are_chosen_once_and_weigh_as_many_as_they_are(strings: list[str]) -> None:
    for count in (1, 19, 20):
        chosen = most_informative(strings[:20] * 4, count)
        assert len(set(chosen.tolist())) == count
        assert chosen.max() < 20, "the first of equal ones stands for all"
    alone = {most_informative(strings[:20] + [string] * 400, 1)[0] for string in strings[:20]}
    assert alone == set(range(20))


def test_the_order_of_the_networks_does_not_matter(strings: list[str]) -> None:
    order = np.random.default_rng(0).permutation(len(strings))
    chosen = most_informative([strings[i] for i in order], 15)
    assert np.array_equal(order[chosen], most_informative(strings, 15))


def test_what_is_chosen_leaves_less_open_than_chance(strings: list[str]) -> None:
    def left(rows: Any) -> float:
        """Return the variance of all networks that these leave, with one kernel for all choices."""
        points = GaussianProcessPredictor().learn_points(strings)
        away = np.sqrt(3) * np.linalg.norm(points[:, None] - points, axis=2)
        prior = (1 + away) * np.exp(-away) + np.exp(-3) * points @ points.T
        across = prior[:, rows]
        inverse = np.linalg.inv(prior[np.ix_(rows, rows)] + np.exp(-2) * np.eye(len(rows)))
        return float(np.trace(prior - across @ inverse @ across.T))

    drawn = [left(np.random.default_rng(seed).permutation(len(strings))[:15]) for seed in range(20)]
    assert left(most_informative(strings, 15)) < min(drawn)


def test_many_networks_are_represented_by_some_that_the_seed_draws(
    strings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert np.array_equal(most_informative(strings, 10, seed=1), most_informative(strings, 10, seed=2)), "all are used"
    monkeypatch.setattr(informative, "_MOST", 50)
    first, again, other = (most_informative(strings, 50, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert set(first.tolist()) != set(other.tolist())
    with pytest.raises(InputError, match="expected a number of networks from 1 to 50 to choose, got 51"):
        most_informative(strings, 51)


def test_fresh_processes_choose_alike_whatever_the_hash_seed_and_the_threads() -> None:
    script = (
        "from freerea_seval.predictor.active_learning import most_informative\n"
        "from tests.freerea_seval.predictor.conftest import chain\n"
        "print(most_informative([chain(seed) for seed in range(150)], 40).tolist())"
    )
    printed = set()
    for hash_seed, threads in (("0", "1"), ("77", "2")):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": threads}
        ran = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[3],
            env=environment,
        )
        printed.add(ran.stdout)
    assert len(printed) == 1
    assert len(printed.pop()) > 100


def test_a_single_network_is_the_most_informative_of_itself(strings: list[str]) -> None:
    assert most_informative(strings[:1] * 3, 1).tolist() == [0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: most_informative(s[:7], 8), "expected a number of networks from 1 to 7 to choose, got 8"),
        (lambda s: most_informative(s[:7] * 5, 8), "from 1 to 7 to choose, got 8"),
        (lambda s: most_informative(s, 0), "from 1 to 120 to choose, got 0"),
        (lambda s: most_informative([], 1), "expected at least one network string to choose from, got none"),
        (lambda s: most_informative(s[0], 1), "expected a list of network strings"),
        (lambda s: most_informative([*s[:5], "nonsense"], 1), "nonsense"),
    ],
)
def test_what_cannot_be_chosen_from_is_an_error_of_one_line(call: Any, message: str, strings: list[str]) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call(strings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length_scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_length_scale_is_a_positive_number(strings: list[str], length_scale: float) -> None:
    with pytest.raises(InputError, match="expected a positive number as length_scale, got"):
        most_informative(strings, 3, length_scale=length_scale)
