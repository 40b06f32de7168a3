"""The predictor: contract, errors, determinism, and what it learns."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xgboost
from scipy.stats import kendalltau
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from freerea_patch import InputError
from freerea_seval.predictor.models.gbdt_ensemble import BoostedPredictor, LinearCostModel
from tests.freerea_seval.predictor.conftest import chain

Values = npt.NDArray[np.float64]


def test_the_predictor_keeps_scikit_learns_contract(strings: list[str], values: list[float]) -> None:
    predictor = BoostedPredictor(n_estimators=5, seed=3)
    assert not [name for name in vars(predictor) if name.endswith("_")]
    assert predictor.fit(strings, values) is predictor
    assert {"features_", "blends_"} <= set(vars(predictor))
    twin = clone(predictor)
    assert twin.get_params() == predictor.get_params()
    assert twin.get_params()["seed"] == 3
    with pytest.raises(NotFittedError):
        twin.predict(strings)
    assert np.array_equal(
        twin.set_params(n_estimators=5).fit(strings, values).predict(strings), predictor.predict(strings)
    )
    assert predictor.score(strings, values) > 0.9


def test_predictions_are_one_float_a_string(fitted: BoostedPredictor, strings: list[str]) -> None:
    found = fitted.predict(strings[80:])
    assert found.shape == (40,)
    assert found.dtype == np.float64
    assert fitted.predict([]).shape == (0,)


def test_a_prediction_has_the_same_bits_alone_and_in_any_batch(fitted: BoostedPredictor, strings: list[str]) -> None:
    assert 0.1 < fitted.blends_[0].trees_share < 0.9, "both models must have a part for this to be a test"
    together = fitted.predict(strings)
    assert np.array_equal(np.concatenate([fitted.predict([string]) for string in strings]), together)
    assert np.array_equal(fitted.predict(strings[::-1])[::-1], together)


def test_unseen_networks_are_ranked_from_few_samples(strings: list[str], values: list[float]) -> None:
    predictor = BoostedPredictor().fit(strings[:30], values[:30])
    assert kendalltau(predictor.predict(strings[30:]), values[30:]).statistic > 0.75


def share(predictor: BoostedPredictor) -> float:
    (mixture,) = predictor.blends_
    return mixture.trees_share


def test_a_sum_of_costs_is_left_to_the_line_and_what_is_none_to_the_trees(strings: list[str]) -> None:
    sums = [float(len(string.split()) + 2 * string.count(",k3)")) for string in strings]
    assert share(BoostedPredictor().fit(strings, sums)) < 0.1
    steps = [float(string.count("conv") > 4) * (1 + (string.count("mul(0)") > 0)) for string in strings]
    assert share(BoostedPredictor().fit(strings, steps)) > 0.6


def test_the_line_equals_scikit_learns_pipeline(fitted: BoostedPredictor, strings: list[str]) -> None:
    costs = fitted.features_.transform(strings)[:, fitted.features_.costs_]
    targets = np.random.default_rng(0).standard_normal(len(strings))
    # The penalty is a multiple of the number of columns, which the folded line writes as smaller columns.
    penalties = np.logspace(-4, 2, 13) * costs.shape[1]
    twin = make_pipeline(StandardScaler(), RidgeCV(penalties)).fit(costs.astype(float), targets)
    assert LinearCostModel.fit(costs, targets, np.ones(len(targets)))(costs) == pytest.approx(
        twin.predict(costs.astype(float)), abs=1e-6
    )


@pytest.mark.parametrize("value", [3.7, 0.0, -1e9])
def test_a_constant_is_predicted_as_it_is(value: float, strings: list[str]) -> None:
    predictor = BoostedPredictor().fit(strings[:20], [value] * 20)
    assert predictor.predict(strings) == pytest.approx([value] * len(strings), rel=1e-12)


@pytest.mark.parametrize("samples", [5, 6, 7])
def test_five_samples_are_enough_to_fit(samples: int, strings: list[str], values: list[float]) -> None:
    found = BoostedPredictor().fit(strings[:samples], values[:samples]).predict(strings)
    assert np.isfinite(found).all()


def test_equal_strings_get_the_mean_of_their_values(strings: list[str]) -> None:
    found = BoostedPredictor().fit([strings[0]] * 6, [1, 2, 3, 4, 5, 6]).predict(strings[:1])
    assert found == pytest.approx([3.5], abs=0.2)


def test_the_unit_of_the_values_does_not_matter(strings: list[str], values: list[float]) -> None:
    predictor = BoostedPredictor(n_estimators=20)
    plain = predictor.fit(strings, values).predict(strings)
    scaled = predictor.fit(strings, 1e6 * np.array(values) - 5e7).predict(strings)
    assert scaled == pytest.approx(1e6 * plain - 5e7, rel=1e-4)


def test_the_seed_is_all_the_randomness(strings: list[str], values: list[float]) -> None:
    first, again, other = (BoostedPredictor(seed=seed).fit(strings, values) for seed in (1, 1, 2))
    assert np.array_equal(first.predict(strings), again.predict(strings))
    assert first.state() == again.state() != other.state()
    assert share(first) == share(again) != share(other)


GOOD = [chain(seed) for seed in range(6)]


@pytest.mark.parametrize(
    ("strings", "y", "message"),
    [
        (GOOD, [1, 2, 3, float("nan"), 5, 6], "1 of 6 values are infinite, or NaN with a single metric; leave out"),
        (GOOD, [1, float("inf"), 3, float("nan"), 5, 6], "2 of 6 values are infinite, or NaN with a single metric"),
        (GOOD, [[1, float("inf"), 3, 4, 5, 6]] * 6, "6 of 36 values are infinite"),
        (GOOD, [1, 2, 3], r"expected one row of values a string, got 6 strings and values of shape \(3,\)"),
        (
            GOOD,
            [[1, 2, 3, 4, 5, 6]],
            r"expected one row of values a string, got 6 strings and values of shape \(1, 6\)",
        ),
        (GOOD, [[]] * 6, r"values of shape \(6, 0\)"),
        (GOOD, ["slow"] * 6, "expected numbers as values, got list"),
        (GOOD[:4], [1, 2, 3, 4], "a predictor needs at least 5 values of each metric, got 4; measure more networks"),
        (GOOD, [[1, 2]] * 4 + [[1, float("nan")]] * 2, "a predictor needs at least 5 values of each metric, got 4"),
        ([], [], "a predictor needs at least 5 values of each metric, got 0"),
        (GOOD[0], [1], "expected a list of network strings"),
        ([*GOOD[:5], "resnet"], [1, 2, 3, 4, 5, 6], "'resnet'"),
    ],
)
def test_a_training_set_that_cannot_be_used_is_an_error_of_one_line(
    strings: Any, y: npt.ArrayLike, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        BoostedPredictor().fit(strings, y)
    assert "\n" not in str(caught.value)


def test_a_parameter_that_xgboost_refuses_is_named() -> None:
    with pytest.raises(
        InputError, match=r"cannot train with BoostedPredictor\(subsample=7\) \(.*subsample.*\)"
    ) as caught:
        BoostedPredictor(subsample=7).fit(GOOD, range(6))
    assert "\n" not in str(caught.value)


def two(strings: list[str], values: list[float]) -> npt.NDArray[np.float64]:
    """Latency, and an accuracy in another unit that is not known of every third network."""
    accuracy = np.array([90.0 - string.count("mul(0)") for string in strings])
    accuracy[::3] = np.nan
    return np.stack([np.array(values), accuracy], axis=1)


def test_several_metrics_are_columns_and_one_that_is_missing_teaches_nothing(
    strings: list[str], values: list[float]
) -> None:
    both = two(strings, values)
    known = ~np.isnan(both[:, 1])
    found = BoostedPredictor(n_estimators=20).fit(strings, both).predict(strings)
    assert found.shape == (120, 2)
    latency = BoostedPredictor(n_estimators=20).fit(strings, values).predict(strings)
    assert np.array_equal(found[:, 0], latency)
    assert kendalltau(found[~known, 1], [-string.count("mul(0)") for string in strings[::3]]).statistic > 0.6
    one = BoostedPredictor(n_estimators=20).fit(strings, np.array(values)[:, None])
    assert np.array_equal(one.predict(strings), latency[:, None])
    assert one.predict([]).shape == (0, 1)


def test_proxies_are_columns_beside_the_strings_and_may_have_holes(strings: list[str]) -> None:
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal(120)
    proxies = np.stack([hidden, rng.standard_normal(120)], axis=1)
    proxies[5, 0], proxies[6, 0], proxies[7, 1] = np.nan, np.inf, -np.inf
    blind = BoostedPredictor(n_estimators=60).fit(strings[:80], hidden[:80])
    seeing = BoostedPredictor(n_estimators=60).fit(strings[:80], hidden[:80], proxies[:80])
    assert kendalltau(seeing.predict(strings[80:], proxies[80:]), hidden[80:]).statistic > 0.7
    assert kendalltau(blind.predict(strings[80:]), hidden[80:]).statistic < 0.3
    assert np.isfinite(seeing.predict(strings[:2], [[np.nan, np.inf]] * 2)).all()
    with pytest.raises(InputError, match="expected 2 proxies a network, as in training"):
        seeing.predict(strings)
    with pytest.raises(InputError, match="expected no proxies a network, as in training"):
        blind.predict(strings, proxies)
    with pytest.raises(InputError, match=r"expected proxies of shape \(3, 2\), got \(120, 2\)"):
        seeing.predict(strings[:3], proxies)


def test_distinct_strings_weigh_the_same_however_often_they_occur(strings: list[str], values: list[float]) -> None:
    often, they = [*strings[:30], *strings[:5] * 20], [*values[:30], *values[:5] * 20]
    once = BoostedPredictor(n_estimators=20).fit(strings[:30], np.array(values[:30]) - np.mean(values[:30]))
    same, other = (
        BoostedPredictor(n_estimators=20, distinct=distinct).fit(often, they).state()[1] for distinct in (True, False)
    )
    assert once.blends_[0].trees.num_boosted_rounds() == 20
    assert same != other
    weighed = BoostedPredictor(n_estimators=20, distinct=True).fit(often, they).predict(strings)
    assert weighed == pytest.approx(once.predict(strings) + np.mean(values[:30]), abs=1.5)


@pytest.mark.parametrize("proxies", [False, True])
def test_a_state_restores_the_same_bits(proxies: bool, strings: list[str], values: list[float]) -> None:
    more = np.random.default_rng(0).standard_normal((120, 3)) if proxies else None
    predictor = BoostedPredictor(n_estimators=20).fit(strings, two(strings, values), more)
    state, files = predictor.state()
    assert sorted(files) == ["trees-0.json", "trees-1.json"]
    again = BoostedPredictor(n_estimators=20)
    again.restore(json.loads(json.dumps(state)), files)
    assert np.array_equal(again.predict(strings, more), predictor.predict(strings, more))
    assert again.state() == (state, files)


def test_what_learned_nothing_has_no_state() -> None:
    with pytest.raises(NotFittedError):
        BoostedPredictor().state()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("columns", "mismatch"),
        ("cost", "coefficients of"),
        ("coefficients", "coefficients of"),
        ("one coefficient", "1 coefficients of"),
        ("file", "trees-0"),
        ("trees", "no trees of XGBoost"),
        ("name", "scale"),
    ],
)
def test_a_state_that_does_not_fit_together_is_refused(damage: str, message: str, fitted: BoostedPredictor) -> None:
    state, files = fitted.state()
    state = json.loads(json.dumps(state))
    (metric,) = state["metrics"]
    if damage == "columns":
        state["vocabulary"].pop()
    elif damage == "cost":
        state["vocabulary"].remove(next(name for name in state["vocabulary"] if name.startswith("cost ")))
    elif damage == "coefficients":
        metric["coefficients"].pop()
    elif damage == "one coefficient":
        metric["coefficients"] = [1.0]
    elif damage == "file":
        files = {}
    elif damage == "trees":
        files = {"trees-0.json": b"{}"}
    else:
        del metric["scale"]
    with pytest.raises(Exception, match=message):
        BoostedPredictor().restore(state, files)


def test_trees_are_those_of_xgboosts_own_training(
    strings: list[str], values: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[dict[str, Any], xgboost.DMatrix]] = []

    class Booster(xgboost.Booster):
        def __init__(self, settings: dict[str, Any], data: list[xgboost.DMatrix]) -> None:
            seen.append((settings, data[0]))
            super().__init__(settings, data)

    with monkeypatch.context() as patch:
        patch.setattr(xgboost, "Booster", Booster)
        predictor = BoostedPredictor(n_estimators=30).fit(strings, values)
    expected = xgboost.train(*seen[-1], 30).save_raw("json")
    assert predictor.blends_[0].trees.save_raw("json") == expected
