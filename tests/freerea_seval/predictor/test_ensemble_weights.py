"""How much each model counts: by how often it is the best of networks that are drawn again."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from freerea_seval.predictor.ensemble_weights import Evidence, shares_of

Values = npt.NDArray[np.float64]


def noisy(noise: float, networks: int = 60, seed: int = 1) -> Values:
    return truth(networks) + noise * np.random.default_rng(seed).standard_normal(networks)


def truth(networks: int = 60) -> Values:
    return np.random.default_rng(0).standard_normal(networks)


def test_what_is_far_better_always_wins() -> None:
    evidence = Evidence(truth(), {"good": noisy(0.01), "bad": noisy(3.0)}, None)
    assert evidence.wins(0) == {"good": 100, "bad": 0}


def test_what_is_nearly_as_good_wins_often_and_more_so_of_fewer_networks() -> None:
    def share(networks: int) -> float:
        """Of the worse one, the mean over ten draws of noise."""
        pairs = [
            {"better": noisy(0.30, networks, seed), "worse": noisy(0.45, networks, seed + 10)} for seed in range(1, 11)
        ]
        return float(np.mean([Evidence(truth(networks), found, None).wins(0)["worse"] / 100 for found in pairs]))

    assert 0.1 < share(12) < 0.5
    assert share(800) == 0


def test_wins_are_those_of_networks_drawn_with_replacement() -> None:
    found = {"one": noisy(0.5, 20, 1), "two": noisy(0.5, 20, 2)}
    rng, won = np.random.default_rng(3), {"one": 0, "two": 0}
    for _ in range(100):
        rows = rng.integers(0, 20, 20)
        one, two = (kendalltau(truth(20)[rows], column[rows]).statistic for column in found.values())
        won["one" if one >= two else "two"] += 1
    assert Evidence(truth(20), found, None).wins(3) == won


def test_networks_without_a_value_or_a_prediction_do_not_count() -> None:
    values, found = truth(), {"one": noisy(0.3), "two": noisy(0.5, seed=2)}
    gaps = values.copy(), {name: column.copy() for name, column in found.items()}
    gaps[0][::7], gaps[1]["two"][::5] = np.nan, np.inf
    kept = np.flatnonzero(np.isfinite(gaps[0]) & np.isfinite(gaps[1]["two"]))
    expected = Evidence(values[kept], {name: column[kept] for name, column in found.items()}, None)
    evidence = Evidence(*gaps, None)
    assert evidence.taus() == expected.taus()
    assert evidence.wins(0) == expected.wins(0)


def test_networks_of_a_unit_are_judged_by_their_mean() -> None:
    unit = np.arange(60) % 11
    found = {"one": noisy(0.3), "two": noisy(0.5, seed=2)}

    def means(column: Values) -> Values:
        return np.array([column[unit == u].mean() for u in range(11)])

    expected = Evidence(means(truth()), {name: means(column) for name, column in found.items()}, None)
    evidence = Evidence(truth(), found, unit)
    assert evidence.taus() == pytest.approx(expected.taus())
    assert evidence.wins(0) == expected.wins(0)


@pytest.mark.parametrize("values", [np.full(9, np.nan), np.ones(9)])
def test_without_an_order_the_first_wins(values: Values) -> None:
    evidence = Evidence(values, {"one": np.arange(9.0), "two": np.arange(9.0)}, None)
    assert evidence.taus() == {"one": 0.0, "two": 0.0}
    assert evidence.wins(0) == {"one": 100, "two": 0}


def test_a_candidate_shares_what_it_wins_among_its_parts() -> None:
    parts = {"a": ("a",), "b": ("b",), "a+b": ("a", "b")}
    assert shares_of({"a": 50, "b": 30, "a+b": 20}, parts) == pytest.approx({"a": 0.6, "b": 0.4})
    assert shares_of({"a+b": 1}, parts) == {"a": 0.5, "b": 0.5}
    assert shares_of({"b": 1}, parts) == {"b": 1.0}


def test_a_model_with_less_than_a_tenth_has_no_part() -> None:
    parts = {"a": ("a",), "b": ("b",), "c": ("c",)}
    assert shares_of({"a": 60, "b": 31, "c": 9}, parts) == pytest.approx({"a": 60 / 91, "b": 31 / 91})


@given(st.lists(st.integers(0, 100), min_size=3, max_size=3).filter(any))
def test_shares_are_positive_and_sum_to_one(won: list[int]) -> None:
    parts = {"a": ("a",), "b": ("b",), "a+b": ("a", "b")}
    shares = shares_of(dict(zip(parts, won, strict=True)), parts)
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) >= 0.1
