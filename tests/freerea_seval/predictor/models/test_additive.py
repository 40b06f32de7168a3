"""Costs that are sums over operations."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.exceptions import NotFittedError

from freerea_patch import TopologySpace
from freerea_seval.predictor.models.additive import AdditivePredictor
from freerea_seval.predictor.seval import SEvalPredictor
from freerea_seval.strings.encode import SpaceStrings

SPACE = TopologySpace()
STRINGS = SpaceStrings(SPACE).strings(SPACE.genotypes()[::260])


def additive_ms(strings: list[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A device on which a convolution takes 0.3 ms, a pooling 0.1 ms, and every network 1 ms besides."""
    cells = [[string.count(f"{op}") for op in ("conv", "avg_pool2d")] for string in strings]
    return np.array([1.0 + 0.3 * convolutions + 0.1 * pools for convolutions, pools in cells])


def test_the_weights_minimise_the_relative_error_and_are_not_negative() -> None:
    rng = np.random.default_rng(0)
    values = np.exp(rng.normal(0, 0.3, len(STRINGS)))
    model = AdditivePredictor().fit(STRINGS, values)
    costs = model._costs(STRINGS)
    largest = costs.max(axis=0)

    def error(weights: np.ndarray[Any, np.dtype[np.float64]]) -> float:
        return float((((costs / largest) @ weights / values - 1) ** 2).sum())

    assert (model.weights_ >= 0).all()
    naive = minimize(
        error, np.full(costs.shape[1], 0.01), bounds=[(0, None)] * costs.shape[1], options={"maxiter": 5000}
    )
    assert error(model.weights_[0] * largest) <= naive.fun + 1e-6


def test_costs_that_are_sums_are_learned_from_twenty_networks_and_selected_among_the_models() -> None:
    spaced = STRINGS[::3]
    true = additive_ms(STRINGS)
    model = AdditivePredictor().fit(spaced, additive_ms(spaced))
    assert np.abs(model.predict(STRINGS) / true - 1).max() < 0.05
    chosen = SEvalPredictor().fit(spaced, additive_ms(spaced))
    weights = dict(zip(chosen.members_, chosen.weights_[:, 0], strict=True))
    assert weights["additive"] > 0.5
    assert np.abs(chosen.predict(STRINGS) / true - 1).max() < 0.1


@settings(deadline=None, max_examples=10)
@given(st.floats(1e-6, 1e6))
def test_the_unit_of_a_metric_does_not_matter(factor: float) -> None:
    values = additive_ms(STRINGS) ** 1.5
    expected = AdditivePredictor().fit(STRINGS, values).predict(STRINGS)
    assert AdditivePredictor().fit(STRINGS, factor * values).predict(STRINGS) == pytest.approx(
        factor * expected, rel=1e-5
    )


def test_several_metrics_missing_values_and_values_that_are_not_positive_are_learned() -> None:
    values = np.stack([additive_ms(STRINGS), -additive_ms(STRINGS), additive_ms(STRINGS) * 0], axis=1)
    values[::2, 0] = np.nan
    predicted = AdditivePredictor().fit(STRINGS, values).predict(STRINGS)
    assert predicted.shape == values.shape
    assert predicted[:, 0] == pytest.approx(additive_ms(STRINGS), rel=0.05)
    assert np.abs(predicted[:, 1:]).max() == 0


def test_a_saved_model_predicts_the_same_bits_and_one_that_does_not_fit_is_refused() -> None:
    model = AdditivePredictor().fit(STRINGS, additive_ms(STRINGS))
    with pytest.raises(NotFittedError):
        AdditivePredictor().predict(STRINGS)
    state, files = model.state()
    again = AdditivePredictor()
    again.restore(json.loads(json.dumps(state)), files)
    assert (again.predict(STRINGS[:7]) == model.predict(STRINGS)[:7]).all()
    for wrong in ({"weights": [[1.0]]}, {"weights": [[float("nan")] * len(state["weights"][0])]}):
        with pytest.raises(ValueError, match="weights"):
            AdditivePredictor().restore({**state, **wrong}, files)
