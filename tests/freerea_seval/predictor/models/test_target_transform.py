"""Scales: monotone, invertible, and what they say they are."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import norm, rankdata

from freerea_patch import InputError
from freerea_seval.predictor.models.target_transform import SCALES, Scale, ScaleName, fit_scale

SKEWED = np.exp(np.random.default_rng(0).standard_normal(200)) * 7


@pytest.mark.parametrize("name", SCALES)
def test_a_value_comes_back_from_its_score(name: ScaleName) -> None:
    scale = fit_scale(name, SKEWED)
    assert scale.name == name
    assert scale.value(scale.score(SKEWED)) == pytest.approx(SKEWED)
    assert Scale.restore(json.loads(json.dumps(scale.state()))).score(SKEWED).tolist() == scale.score(SKEWED).tolist()


@pytest.mark.parametrize("name", SCALES)
def test_scores_are_about_standard_normal(name: ScaleName) -> None:
    scores = fit_scale(name, SKEWED).score(SKEWED)
    assert scores.mean() == pytest.approx(0, abs=0.02)
    assert scores.std() == pytest.approx(1, abs=0.03)


def test_linear_standardises_and_log_standardises_logarithms() -> None:
    assert fit_scale("linear", SKEWED).score(SKEWED) == pytest.approx((SKEWED - SKEWED.mean()) / SKEWED.std())
    logs = np.log(SKEWED)
    assert fit_scale("log", SKEWED).score(SKEWED) == pytest.approx((logs - logs.mean()) / logs.std())


def test_rank_scores_are_normal_quantiles_of_ranks_with_ties_in_their_middle() -> None:
    values = np.random.default_rng(1).integers(0, 9, 40).astype(float)
    expected = norm.ppf((rankdata(values) - 0.5) / 40)
    assert fit_scale("rank", values).score(values) == pytest.approx(expected)


def test_blend_is_the_mean_of_linear_and_rank() -> None:
    linear, rank, blend = (fit_scale(name, SKEWED).score(SKEWED) for name in ("linear", "rank", "blend"))
    assert blend == pytest.approx((linear + rank) / 2)


def test_many_values_are_kept_as_a_thousand_knots() -> None:
    values = np.random.default_rng(2).standard_normal(5000)
    scale = fit_scale("rank", values)
    assert len(scale.values) == 1000
    assert (scale.values[0], scale.values[-1]) == (values.min(), values.max())
    assert scale.value(scale.score(values)) == pytest.approx(values, abs=1e-12)


@pytest.mark.parametrize("name", SCALES)
def test_order_is_kept_beyond_what_was_seen(name: ScaleName) -> None:
    scale = fit_scale(name, SKEWED)
    assert (np.diff(scale.value(np.linspace(-6, 6, 200))) > 0).all()


def test_the_rank_scale_goes_on_as_steep_as_its_outermost_twentieth() -> None:
    values = np.arange(100.0) ** 2
    scale = fit_scale("rank", values)
    for end, inner, step in ((-1, -6, 0.7), (0, 5, -0.7)):
        slope = (scale.values[end] - scale.values[inner]) / (scale.scores[end] - scale.scores[inner])
        assert scale.value(scale.scores[[end]] + step) == pytest.approx(scale.values[[end]] + slope * step)


@pytest.mark.parametrize("name", SCALES)
@pytest.mark.parametrize("value", [0.0, 3.7, -1e9, 1e-300])
def test_a_constant_comes_back(name: ScaleName, value: float) -> None:
    scale = fit_scale(name, np.full(5, value))
    assert scale.score(np.full(2, value)) == pytest.approx([0, 0])
    assert scale.value(np.zeros(2)) == pytest.approx([value] * 2)
    assert np.isfinite(scale.value(np.array([-3.0, 3.0]))).all()


@pytest.mark.parametrize("name", SCALES)
@pytest.mark.parametrize("value", [2.5, 1e17, -1e9, 1e-166])
def test_values_that_rounding_alone_tells_apart_have_a_scale(name: ScaleName, value: float) -> None:
    values = np.array([value, np.nextafter(value, np.inf), value])
    scale = fit_scale(name, values)
    assert scale.value(scale.score(values)) == pytest.approx(values, rel=1e-12)
    Scale.restore(scale.state())


@pytest.mark.parametrize("name", SCALES)
def test_what_was_not_measured_stays_so_and_teaches_nothing(name: ScaleName) -> None:
    holes = np.concatenate([SKEWED, [np.nan, np.inf]])
    scale = fit_scale(name, holes)
    assert scale.values.tolist() == fit_scale(name, SKEWED).values.tolist()
    assert np.isnan(scale.score(holes)[-2])
    assert np.isfinite(scale.score(holes)[:-2]).all()


def test_a_logarithm_needs_positive_values() -> None:
    assert fit_scale("log", np.array([1.0, 0.0, 2.0])).name == "linear"
    assert np.isfinite(fit_scale("log", SKEWED).score(np.array([0.0, -1.0]))).all()


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.sampled_from(SCALES))
@example([1.1125369292536007e-308], "log")
def test_any_values_come_back(values: list[float], name: ScaleName) -> None:
    array = np.array(values)
    scale = fit_scale(name, array)
    span = float(np.abs(array).max()) or 1.0
    assert scale.value(scale.score(array)) == pytest.approx(array, abs=1e-9 * span)
    order = np.argsort(array)
    assert (np.diff(scale.score(array)[order]) >= 0).all()
    Scale.restore(scale.state())


def test_an_unknown_scale_is_named() -> None:
    with pytest.raises(InputError, match=r"unknown scale 'logarithm'.*Valid: blend, linear, log, rank"):
        fit_scale("logarithm", SKEWED)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "cube"},
        {"values": [1.0, 1.0]},
        {"values": [2.0, 1.0]},
        {"values": [1.0]},
        {"values": [], "scores": []},
        {"values": [1.0, 2.0, 3.0], "scores": [0.0, 1.0, 2.0]},
        {"scores": [0.0]},
        {"values": [[1.0, 2.0]], "scores": [[0.0, 1.0]]},
        {"values": [float("nan"), 1.0]},
        {"scores": [1.0, 0.0]},
        {"values": ["a", "b"]},
    ],
)
def test_what_is_no_state_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"invalid scale|could not convert"):
        Scale.restore(fit_scale("linear", SKEWED).state() | changed)
