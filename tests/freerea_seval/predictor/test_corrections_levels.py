"""Metrics of few values are predicted as one of them, where that is better."""

from __future__ import annotations

import numpy as np
import pytest

from freerea_seval.predictor.corrections import find_levels
from freerea_seval.predictor.seval import SEvalPredictor
from tests.freerea_seval.predictor.conftest import chain


def test_few_different_values_are_predicted_as_one_of_them() -> None:
    strings = list(dict.fromkeys(chain(seed) for seed in range(260)))[:160]
    steps = np.array([min(string.count("mul(0)"), 2) * 10.0 for string in strings])
    predictor = SEvalPredictor("boosted", "linear", {"n_estimators": 100}).fit(strings[:100], steps[:100])
    assert predictor.levels_[0] is not None
    assert predictor.levels_[0].tolist() == [0, 10, 20]
    assert set(predictor.predict(strings[100:]).tolist()) <= {0.0, 10.0, 20.0}
    assert set(predictor.unseen_[:, 0].tolist()) <= {0.0, 10.0, 20.0}
    assert (predictor.predict(strings[100:]) == steps[100:]).mean() > 0.7


@pytest.mark.parametrize(
    ("values", "unseen", "expected"),
    [
        ([0, 1] * 4, [0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.4, 0.6], [0, 1]),
        ([0, 1, 2] * 2, [0, 1, 2] * 2, None),  # too many different ones
        ([5] * 8, [5] * 8, None),
        ([0, 1] * 4, [0.1] * 8, None),  # rounded, they would all be one
        ([0, 1] * 4, [np.nan] * 8, None),  # none was held out
        ([0, 1] * 4, [0, 1] * 4, None),  # no better rounded
        ([0, 1, np.inf, np.nan] + [0, 1] * 4, [0.1, 0.9, 3, 4] + [0.2, 0.8, 0.3, 0.7] * 2, [0, 1]),
    ],
)
def test_levels_are_the_few_values_of_a_metric_if_rounding_helps(
    values: list[float], unseen: list[float], expected: list[float] | None
) -> None:
    found = find_levels(np.array(values, dtype=float), np.array(unseen, dtype=float))
    assert (None if found is None else found.tolist()) == expected
