"""Training: scores on what was not seen, and what is known of a predictor."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest

from freerea_patch import InputError
from freerea_seval.predictor.scores import scores
from freerea_seval.predictor.seval import SEvalPredictor
from freerea_seval.predictor.training import Proxies, Target, _unseen_scores, train_predictor

LATENCY, ACCURACY = Target("latency", "ms", "min"), Target("accuracy", "%", "max")
FACTS: dict[str, Any] = {
    "space_name": "chains",
    "view": "executed",
    "model": "boosted",
    "scale": "linear",
    "parameters": {"n_estimators": 20},
}


def test_the_predictor_is_fitted_on_everything(strings: list[str], values: list[float]) -> None:
    predictor, _ = train_predictor(strings[:40], values[:40], [LATENCY], **FACTS, seed=4)
    twin = SEvalPredictor("boosted", "linear", {"n_estimators": 20}, seed=4).fit(strings[:40], values[:40])
    assert predictor.get_params() == twin.get_params()
    assert np.array_equal(predictor.predict(strings), twin.predict(strings))


def test_the_scores_are_those_of_predictions_made_without_the_sample(strings: list[str], values: list[float]) -> None:
    predictor, info = train_predictor(strings[:40], values[:40], [LATENCY], **FACTS)
    (metric,) = info.metrics
    expected = scores(np.array(values[:40]), predictor.unseen_[:, 0], direction="min")
    assert {name: metric.scores[name] for name in expected} == expected
    assert {"kendall_tau", "spearman", "rmse", "r2"} <= set(metric.scores)
    assert (
        metric.scores["kendall_tau"]
        < scores(values[:40], predictor.predict(strings[:40]), direction="min")["kendall_tau"]
    )


def test_what_is_known_names_metrics_data_choice_and_versions(strings: list[str], values: list[float]) -> None:
    table = np.stack([values[:40], np.arange(40.0) % 17], axis=1)
    table[:5, 0], table[10:30, 1] = np.inf, np.nan
    predictor, info = train_predictor(strings[:40], table, [LATENCY, ACCURACY], **FACTS)
    assert [(m.name, m.unit, m.direction, m.samples, m.unsupported) for m in info.metrics] == [
        ("latency", "ms", "min", 40, 5),
        ("accuracy", "%", "max", 20, 0),
    ]
    assert (info.space, info.view, info.samples, info.choice) == ("chains", "executed", 40, predictor.choice_)
    assert re.fullmatch("[0-9a-f]{64}", info.trained_on)
    assert info.versions["freerea-seval"] == version("freerea-seval")
    assert {"numpy", "scikit-learn"} <= set(info.versions)
    assert {"xgboost", "xgboost-cpu"} & set(info.versions)


def test_other_strings_or_values_have_another_hash(strings: list[str], values: list[float]) -> None:
    def trained_on(first: str, value: float) -> str:
        return train_predictor([first, *strings[1:10]], [value, *values[1:10]], [LATENCY], **FACTS)[1].trained_on

    base = trained_on(strings[0], values[0])
    assert trained_on(strings[0], values[0]) == base
    assert trained_on(strings[11], values[0]) != base
    assert trained_on(strings[0], values[0] + 1e-9) != base


def test_proxies_and_base_predictors_are_learned_from_and_named(strings: list[str], values: list[float]) -> None:
    base, without = train_predictor(strings[:40], values[:40], [LATENCY], **FACTS)
    more = np.arange(80.0).reshape(40, 2)
    arguments: Any = (strings[:40], values[:40], [LATENCY])
    predictor, info = train_predictor(*arguments, **FACTS, proxies=Proxies(["a", "b"], more), base={"latency": base})
    assert (info.proxies, info.base) == (("a", "b"), ("latency",))
    assert info.trained_on != without.trained_on
    twin = SEvalPredictor("boosted", "linear", {"n_estimators": 20}).fit(strings[:40], values[:40], more, base=[base])
    assert np.array_equal(predictor.predict(strings[:40], more), twin.predict(strings[:40], more))


def test_a_metric_that_nothing_was_held_out_of_has_no_scores() -> None:
    nothing = np.full(3, np.nan)
    assert _unseen_scores(np.array([1.0, 2.0, np.inf]), nothing, "min") == {}


def test_fewer_than_ten_samples_are_refused(strings: list[str], values: list[float]) -> None:
    with pytest.raises(InputError, match="a predictor needs at least 10 values of each metric, got 9; measure more"):
        train_predictor(strings[:9], values[:9], [LATENCY], **FACTS)


def test_a_constant_metric_has_no_correlations(strings: list[str]) -> None:
    predictor, info = train_predictor(strings[:12], [2.5] * 12, [LATENCY], **FACTS)
    assert not {"kendall_tau", "spearman", "r2"} & set(info.metrics[0].scores)
    assert info.metrics[0].scores["rmse"] == pytest.approx(0.0, abs=1e-9)
    assert predictor.predict(strings[:1]) == pytest.approx([2.5])


def test_progress_is_told(strings: list[str], values: list[float]) -> None:
    told: list[float] = []
    train_predictor(strings[:12], values[:12], [LATENCY], **FACTS, show=lambda fraction, note: told.append(fraction))
    assert told[0] == 0
    assert told[-1] == 1
