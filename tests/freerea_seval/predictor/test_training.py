"""Training: scores of a cross-validation, and what is known of a predictor."""

from __future__ import annotations

import re
from importlib.metadata import version
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import KFold

from freerea_patch import InputError
from freerea_seval.predictor.boosted import BoostedPredictor
from freerea_seval.predictor.training import agreement, train_predictor

FACTS: dict[str, Any] = {
    "metric": "latency",
    "unit": "ms",
    "direction": "min",
    "space_name": "chains",
    "view": "executed",
}


def test_the_predictor_is_fitted_on_everything(strings: list[str], values: list[float]) -> None:
    predictor, _ = train_predictor(strings[:40], values[:40], **FACTS, seed=4)
    twin = BoostedPredictor(seed=4).fit(strings[:40], values[:40])
    assert predictor.seed == 4
    assert np.array_equal(predictor.predict(strings), twin.predict(strings))


def test_the_scores_are_those_of_predictions_made_without_the_sample(strings: list[str], values: list[float]) -> None:
    targets = np.array(values[:30])
    _, info = train_predictor(strings[:30], targets, **FACTS, seed=4)
    predicted = np.empty(30)
    for kept, left in KFold(5, shuffle=True, random_state=4).split(targets):
        fold = BoostedPredictor(seed=4).fit([strings[i] for i in kept], targets[kept])
        predicted[left] = fold.predict([strings[i] for i in left])
    assert info.scores == agreement(targets, predicted)
    assert set(info.scores) == {"kendall_tau", "spearman", "rmse"}


def test_what_is_known_names_metric_data_and_versions(strings: list[str], values: list[float]) -> None:
    _, info = train_predictor(strings[:10], values[:10], **FACTS)
    assert (info.metric, info.unit, info.direction, info.space, info.samples) == ("latency", "ms", "min", "chains", 10)
    assert info.view == "executed"
    assert re.fullmatch("[0-9a-f]{64}", info.trained_on)
    assert info.versions["freerea-seval"] == version("freerea-seval")
    assert {"numpy", "scikit-learn"} <= set(info.versions)
    assert {"xgboost", "xgboost-cpu"} & set(info.versions)


def test_other_strings_or_values_have_another_hash(strings: list[str], values: list[float]) -> None:
    def trained_on(first: str, value: float) -> str:
        return train_predictor([first, *strings[1:10]], [value, *values[1:10]], **FACTS)[1].trained_on

    base = trained_on(strings[0], values[0])
    assert trained_on(strings[0], values[0]) == base
    assert trained_on(strings[11], values[0]) != base
    assert trained_on(strings[0], values[0] + 1e-9) != base


def test_fewer_than_ten_samples_are_refused(strings: list[str], values: list[float]) -> None:
    with pytest.raises(InputError, match="a predictor needs at least 10 samples, got 9; measure more networks"):
        train_predictor(strings[:9], values[:9], **FACTS)


def test_a_constant_metric_has_no_correlations(strings: list[str]) -> None:
    predictor, info = train_predictor(strings[:12], [2.5] * 12, **FACTS)
    assert info.scores == {"rmse": pytest.approx(0.0, abs=1e-9)}
    assert predictor.predict(strings[:1]) == pytest.approx([2.5])


def test_agreement_equals_its_definitions_with_ties() -> None:
    rng = np.random.default_rng(0)
    values, predicted = rng.integers(0, 5, 40).astype(float), rng.integers(0, 5, 40).astype(float)
    found = agreement(values, predicted)
    pairs = list(combinations(range(40), 2))
    a = [np.sign(values[i] - values[j]) for i, j in pairs]
    b = [np.sign(predicted[i] - predicted[j]) for i, j in pairs]
    # Kendall 1945, tau-b: ties count in neither direction.
    assert found["kendall_tau"] == pytest.approx(np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b)))

    def ranks(x: np.ndarray[Any, Any]) -> list[float]:
        return [(x < value).sum() + (x == value).sum() / 2 for value in x]

    assert found["spearman"] == pytest.approx(np.corrcoef(ranks(values), ranks(predicted))[0, 1])
    assert found["rmse"] == pytest.approx(
        np.sqrt(np.mean([(p - v) ** 2 for p, v in zip(predicted, values, strict=True)]))
    )


def test_agreement_is_perfect_or_reversed_at_the_ends() -> None:
    values = np.array([1.0, 4.0, 2.0])
    assert agreement(values, values) == pytest.approx({"rmse": 0.0, "kendall_tau": 1.0, "spearman": 1.0})
    assert agreement(values, -values)["kendall_tau"] == pytest.approx(-1.0)
    assert agreement(values, np.ones(3)) == {"rmse": pytest.approx(np.sqrt(10 / 3))}
