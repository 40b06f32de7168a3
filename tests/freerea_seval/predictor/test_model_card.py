"""The card in a predictor's folder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from freerea_seval.predictor.model_card import PredictedMetric, PredictorInfo, card
from freerea_seval.predictor.scores import kendall_tau

INFO = PredictorInfo(
    metrics=(
        PredictedMetric("latency_ms", "ms", "min", 80, 7, {"kendall_tau": 0.98765, "auc": 1.0, "width": 3.0}),
        PredictedMetric("val_acc", "%", "max", 60, 0, {"kendall_tau": 0.5, "rmse": 1234.5}),
    ),
    space="nats-tss/cifar10",
    view="executed",
    samples=80,
    trained_on="0f" * 32,
    choice="boosted on rank scale, by Kendall's tau in five-fold cross-validation: boosted 0.900",
    versions={"xgboost-cpu": "3.2.0", "numpy": "2.0"},
)


def test_a_card_says_what_is_predicted_how_well_and_from_what() -> None:
    text = card(INFO)
    assert text.startswith("# Predictor of latency_ms, val_acc\n")
    assert text.endswith(".\n")
    for said in (
        "on 80 networks of nats-tss/cifar10, read in the executed view",
        f"Model: {INFO.choice}.",
        f"SHA-256 `{INFO.trained_on}`",
        "Versions: numpy 2.0, xgboost-cpu 3.2.0.",
    ):
        assert said in text


def test_a_card_says_what_is_seen_beside_strings() -> None:
    assert "Beside strings" not in card(INFO)
    text = card(replace(INFO, proxies=("naswot", "snip"), base=("accuracy of nats-tss/cifar100 (b)",)))
    assert "\nInputs beside strings: proxies naswot, snip.\n" in text
    assert "\nInputs beside strings: predictions of accuracy of nats-tss/cifar100 (b).\n" in text


def test_its_table_has_a_row_a_metric_and_leaves_out_what_no_metric_has() -> None:
    head, rule, *rows = (line for line in card(INFO).splitlines() if line.startswith("|"))
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in (head, *rows)]
    assert cells == [
        ["metric", "unit", "better", "networks", "unsupported", "Kendall's tau-b", "RMSE", "AUC, supported"],
        ["latency_ms", "ms", "smaller", "80", "7", "0.988", "", "1"],
        ["val_acc", "%", "larger", "60", "0", "0.5", "1.23e+03", ""],
    ]
    assert rule.count("---") == len(cells[0])


def test_a_metric_without_scores_has_a_table_without_them() -> None:
    table = [
        line for line in card(replace(INFO, metrics=(PredictedMetric("m", "", "min", 12),))).splitlines() if "|" in line
    ]
    assert table == [
        "| metric | unit | better | networks | unsupported |",
        "| --- | --- | --- | --- | --- |",
        "| m |  | smaller | 12 | 0 |",
    ]


def test_names_are_text_and_no_markup() -> None:
    name = "<img src=x onerror=alert(1)> [a](javascript:b) | `c`\n# d"
    text = card(replace(INFO, metrics=(PredictedMetric(name, "", "min", 12),), space=name, choice=name, base=(name,)))
    assert "<" not in text.replace("| ---", "")
    assert text.count("\n# ") == 0
    assert text.count(r"&lt;img src=x onerror=alert(1)&gt; \[a\](javascript:b) \| \`c\` # d") == 5


@pytest.mark.parametrize(
    ("samples", "unsupported", "tau", "weak"),
    [(40, 0, 0.31, False), (40, 0, 0.29, True), (40, 25, 0.31, True), (10, 0, 0.4, True), (10, 0, 0.55, False)],
)
def test_predictions_are_weak_below_a_third_or_what_chance_reaches(
    samples: int, unsupported: int, tau: float, weak: bool
) -> None:
    metric = PredictedMetric("m", "", "min", samples, unsupported, {"kendall_tau": tau})
    assert metric.weak == weak
    text = metric.quality()
    assert f"cross-validated Kendall's tau {tau:.2f} on {samples} networks" in text
    assert (f"expected {metric.least_tau:.2f} or more: measure more networks, and choose" in text) == weak
    assert ("--informative" in text) == weak


def test_chance_reaches_the_least_tau_of_few_networks_one_time_in_forty() -> None:
    rng = np.random.default_rng(0)
    least = PredictedMetric("m", "", "min", 12).least_tau
    taus = [kendall_tau(rng.normal(size=12), rng.normal(size=12)) for _ in range(2000)]
    assert 0.015 < np.mean(np.array(taus) >= least) < 0.04


def test_predictions_without_a_correlation_are_weak() -> None:
    text = PredictedMetric("m", "", "min", 12, scores={"rmse": 0.0}).quality("raise 'networks'")
    assert "because all values or all predictions are equal" in text
    assert text.endswith(": raise 'networks'")
