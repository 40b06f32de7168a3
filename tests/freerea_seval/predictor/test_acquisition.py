from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freerea_patch import TopologySpace
from freerea_seval.predictor.acquisition import (
    Known,
    choose,
    expected_hypervolume_improvement,
    expected_improvement,
    within,
)
from freerea_seval.predictor.features.proxies import signed_logarithms
from freerea_seval.predictor.models import gp
from freerea_seval.predictor.models.gp import GaussianProcessPredictor
from freerea_seval.strings.encode import SpaceStrings

DRAWS = 200_000


class Uncertain:
    """An axis without correlations between networks."""

    def __init__(self, mean: list[float], std: list[float]) -> None:
        self.mean, self.std = np.array(mean), np.array(std)
        self.observed: list[int] = []

    def observe(self, row: int) -> None:
        self.observed.append(row)
        self.std[row] = 0.0


def test_the_expected_improvement_is_the_mean_of_draws() -> None:
    mean, std = np.array([0.0, 1.0, -2.0]), np.array([1.0, 0.5, 2.0])
    draws = mean + std * np.random.default_rng(0).standard_normal((DRAWS, 3))
    expected = np.maximum(draws - 0.3, 0).mean(axis=0)
    assert expected_improvement(mean, std, 0.3) == pytest.approx(expected, abs=0.01)


def test_a_known_value_improves_by_what_it_exceeds() -> None:
    assert expected_improvement(np.array([1.0, 3.0]), np.zeros(2), 2.0).tolist() == [0.0, 1.0]


def test_the_probability_of_bounds_is_the_share_of_draws() -> None:
    mean, std = np.array([0.0, 1.0]), np.array([1.0, 0.5])
    draws = mean + std * np.random.default_rng(0).standard_normal((DRAWS, 2))
    expected = ((draws >= -0.5) & (draws <= 1.2)).mean(axis=0)
    assert within(mean, std, -0.5, 1.2) == pytest.approx(expected, abs=0.01)
    assert within(np.array([1.0, 2.0, 0.5]), np.zeros(3), 1.0, 2.0).tolist() == [1.0, 1.0, 0.0]
    assert within(np.array([5.0]), np.zeros(1), -np.inf, np.inf).tolist() == [1.0]


def test_the_probability_of_feasibility_counts_squared() -> None:
    best = 1.0
    axis = Known(np.array([5.0, 3.0, best]))  # improvements of 4 and 2; 0.3 * 4 > 0.5 * 2, but 0.09 * 4 < 0.25 * 2
    assert choose([axis], np.array([0.3, 0.5]), 2, ["a", "b"]) == [1, 0]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 5), st.integers(0, 10_000))
def test_the_expected_hypervolume_improvement_is_the_mean_of_draws(size: int, seed: int) -> None:
    from moocore import filter_dominated, hypervolume

    rng = np.random.default_rng(seed)
    front = filter_dominated(rng.random((size, 2)), maximise=True) if size else np.empty((0, 2))
    reference = np.array([-0.1, -0.2])
    mean, std = rng.random((1, 2)), rng.uniform(0.05, 0.5, (1, 2)) * rng.integers(0, 2, 2)
    draws = mean + std * rng.standard_normal((1500, 2))

    def volume(points: np.ndarray) -> float:
        return float(hypervolume(points, ref=reference, maximise=True)) if len(points) else 0.0

    base = volume(front)
    gains = [volume(np.vstack([front, draw])) - base for draw in draws]
    error = 4 * np.std(gains) / np.sqrt(len(gains)) + 1e-3
    assert expected_hypervolume_improvement(mean, std, front, reference)[0] == pytest.approx(np.mean(gains), abs=error)


def test_points_behind_the_reference_do_not_count() -> None:
    mean, std, reference = np.array([[0.8, 0.8]]), np.zeros((1, 2)), np.array([0.45, 0.45])
    gain = expected_hypervolume_improvement(mean, std, np.array([[0.1, 0.9], [0.9, 0.1]]), reference)
    assert gain[0] == pytest.approx(0.35**2)


def test_an_infeasible_network_is_chosen_last() -> None:
    axis = Uncertain([1.0, 2.0, 3.0], [0.1, 0.1, 0.1])
    assert choose([axis], np.array([1.0, 1.0, 0.0]), 3, ["a", "b", "c"]) == [1, 0, 2]


def test_known_values_follow_the_candidates() -> None:
    """The last two values are those of measured networks; only an improvement on them is worth a measurement."""
    axis = Uncertain([1.0, 2.2, 2.0, 1.5], [0.0, 0.0, 0.0, 0.0])
    assert choose([axis], np.array([1.0, 0.6]), 1, ["a", "b"]) == [1]


def test_of_networks_that_are_alike_one_is_chosen() -> None:
    axis = Uncertain([3.0, 3.0, 1.0], [0.5, 0.5, 0.5])
    chosen = choose([axis], np.ones(3), 2, ["same", "same", "other"])
    assert set(chosen) == {0, 2} or set(chosen) == {1, 2}
    assert choose([Uncertain([3.0, 3.0], [0.5, 0.5])], np.ones(2), 2, ["same", "same"]) == [0, 1]


def test_two_axes_are_chosen_along_the_front() -> None:
    first, second = Known(np.array([0.0, 0.5, 0.52, 1.0, 0.1])), Known(np.array([1.0, 0.5, 0.49, 0.0, 0.1]))
    assert {0, 3} <= set(choose([first, second], np.ones(5), 3, list("abcde")))


def test_three_axes_depend_on_the_seed_alone() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((3, 30))
    names = [str(i) for i in range(30)]

    def chosen(seed: int) -> list[int]:
        return choose([Known(axis) for axis in values], np.ones(30), 8, names, seed)

    assert chosen(1) == chosen(1) != chosen(2)
    dominated = [i for i in range(30) if any((values[:, j] > values[:, i]).all() for j in range(30))]
    assert not {*chosen(1)[:2], *chosen(2)[:2]} & set(dominated)


def test_every_chosen_network_is_observed() -> None:
    axis = Uncertain([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    assert choose([axis], np.ones(3), 2, ["a", "b", "c"]) == axis.observed


def test_conditioning_equals_a_posterior_with_one_more_network(monkeypatch: pytest.MonkeyPatch) -> None:
    space = TopologySpace("cifar10")
    strings = SpaceStrings(space).strings(list(space.genotypes())[::1500])
    values = np.sin(np.arange(len(strings)))
    seen, unseen = strings[:6], strings[6:]
    model = GaussianProcessPredictor().fit(seen, values[:6])
    joint = model.joint(unseen)
    mean, std = model.predict(unseen, return_std=True)
    assert joint.mean == pytest.approx(mean)
    assert joint.std == pytest.approx(std)
    joint.observe(2)
    # The naive way: the same parameters and features, and the covariance of the larger training set.
    parameters = model.posteriors_[0].parameters
    points = model._points(signed_logarithms(model.features_.matrix([*seen, *unseen]).astype(np.float64)))
    parts = model._parts(points)
    known, rest = [0, 1, 2, 3, 4, 5, 8], list(range(6, len(strings)))
    covariance = gp.Kernel(*gp.between(parts, parts)).covariance(parameters)
    noise = np.exp(parameters[-1])
    noisy = covariance[np.ix_(known, known)] + (noise + 1e-6) * np.eye(len(known))
    across = covariance[np.ix_(known, rest)]
    variance = covariance[rest, rest] - np.einsum("ij,ij->j", across, np.linalg.solve(noisy, across))
    assert joint.std == pytest.approx(float(model.scale_[0]) * np.sqrt(variance + noise), rel=1e-4)
