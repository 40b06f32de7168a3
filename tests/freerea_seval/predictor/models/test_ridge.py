"""The line through what base predictors say."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import rankdata
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import RidgeCV

from freerea_patch import InputError
from freerea_seval.predictor.models.ridge import RidgePredictor
from freerea_seval.predictor.seval import SEvalPredictor
from tests.freerea_seval.predictor.conftest import chain

NAN, INF = float("nan"), float("inf")
RNG = np.random.default_rng(0)
STRINGS = [chain(seed) for seed in range(40)]
HIDDEN = RNG.standard_normal(40)
#: Twice what is to be known, each with noise, on scales of their own.
SAID = np.stack([np.exp(HIDDEN + 0.1 * RNG.standard_normal(40)), 5 - HIDDEN + 0.5 * RNG.standard_normal(40)], axis=1)


def test_it_is_a_ridge_regression_on_ranks_of_training() -> None:
    predictor = RidgePredictor().fit(STRINGS, HIDDEN, SAID)
    points = np.stack([ndtri((rankdata(column) - 0.5) / 40) for column in SAID.T], axis=1)
    naive = RidgeCV(np.logspace(-3, 2, 11)).fit(points, HIDDEN)
    assert predictor.predict(STRINGS, SAID) == pytest.approx(naive.predict(points))


@given(st.floats(0.1, 1e3), st.floats(-1e3, 1e3))
def test_a_rising_change_of_what_is_said_changes_nothing(factor: float, shift: float) -> None:
    plain = RidgePredictor().fit(STRINGS[:30], HIDDEN[:30], SAID[:30]).predict(STRINGS[:30], SAID[:30])
    other = factor * SAID + shift
    found = RidgePredictor().fit(STRINGS[:30], HIDDEN[:30], other[:30]).predict(STRINGS[:30], other[:30])
    assert found == pytest.approx(plain, abs=1e-6)


def test_several_metrics_are_learned_each_from_where_it_is_known() -> None:
    values = np.stack([HIDDEN, -3 * HIDDEN + 7], axis=1)
    values[:20, 1] = NAN
    found = RidgePredictor().fit(STRINGS, values, SAID).predict(STRINGS, SAID)
    assert found.shape == (40, 2)
    assert np.corrcoef(found[:, 0], HIDDEN)[0, 1] > 0.95
    assert np.corrcoef(found[:, 1], HIDDEN)[0, 1] < -0.95
    assert found[:, 0] == pytest.approx(RidgePredictor().fit(STRINGS, HIDDEN, SAID).predict(STRINGS, SAID))


def test_what_is_not_finite_is_the_lowest_and_a_column_without_numbers_tells_nothing() -> None:
    broken = np.column_stack([SAID, np.full(40, NAN)])
    predictor = RidgePredictor().fit(STRINGS, HIDDEN, broken)
    low = SAID[[0]].copy()
    low[0, 0] = SAID[:, 0].min()
    for value in (NAN, INF, -INF):
        odd = np.array([[value, SAID[0, 1], value]])
        assert predictor.predict(STRINGS[:1], odd) == pytest.approx(
            predictor.predict(STRINGS[:1], np.column_stack([low, [0.0]]))
        )
    plain = RidgePredictor().fit(STRINGS, HIDDEN, SAID).predict(STRINGS, SAID)
    assert predictor.predict(STRINGS, broken) == pytest.approx(plain)


def test_a_prediction_has_the_same_bits_alone_and_after_a_restart() -> None:
    predictor = RidgePredictor().fit(STRINGS, HIDDEN, SAID)
    together = predictor.predict(STRINGS, SAID)
    alone = [predictor.predict([string], [row]) for string, row in zip(STRINGS, SAID, strict=True)]
    assert np.array_equal(np.concatenate(alone), together)
    assert predictor.predict([], np.empty((0, 2))).shape == (0,)
    state, files = predictor.state()
    again = RidgePredictor()
    again.restore(json.loads(json.dumps(state)), files)
    assert np.array_equal(again.predict(STRINGS, SAID), together)
    with pytest.raises(ValueError, match="for 1 columns"):
        again.restore({**state, "columns": state["columns"][:1]}, {})


@pytest.mark.parametrize("proxies", [None, SAID[:3, :1], SAID[:2]])
def test_prediction_without_what_was_there_in_training_is_refused(proxies: Any) -> None:
    with pytest.raises(InputError, match=r"expected proxies of shape \(3, 2\), got \("):
        RidgePredictor().fit(STRINGS, HIDDEN, SAID).predict(STRINGS[:3], proxies)


def test_there_is_nothing_to_learn_from_strings_alone() -> None:
    with pytest.raises(
        InputError, match="model 'ridge' does not read strings; give proxies or base predictors, or take"
    ):
        SEvalPredictor("ridge").fit(STRINGS, HIDDEN)
    with pytest.raises(NotFittedError):
        RidgePredictor().predict(STRINGS, SAID)
