"""The predictor that users train: values in their unit, support, intervals, transfer, and what it says of itself."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import kendalltau
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from freerea_patch import InputError, TopologySpace
from freerea_seval.predictor.seval import SEvalPredictor
from freerea_seval.strings.encode import SpaceStrings
from freerea_seval.strings.views import View
from tests.freerea_seval.predictor.conftest import chain, cost, in_fresh_processes

Values = npt.NDArray[np.float64]
FEW: dict[str, Any] = {"n_estimators": 40}


def quick(scale: str = "linear", **parameters: Any) -> SEvalPredictor:
    """Return a predictor that is trained in a second."""
    return SEvalPredictor("boosted", scale, FEW | parameters)


@pytest.fixture(scope="module")
def table(strings: list[str], values: list[float]) -> Values:
    """Latency, unsupported with many products with zero; accuracy, not known of every third network."""
    zeros = np.array([string.count("mul(0)") for string in strings])
    latency, accuracy = np.array(values), 90.0 - zeros - np.array(values) / 50
    latency[zeros > 2] = np.inf
    accuracy[::3] = np.nan
    return np.stack([latency, accuracy], axis=1)


@pytest.fixture(scope="module")
def auto(strings: list[str], table: Values) -> SEvalPredictor:
    return SEvalPredictor().fit(strings[:80], table[:80])


def test_unseen_networks_are_ranked_and_unsupported_ones_are_told(
    auto: SEvalPredictor, strings: list[str], table: Values
) -> None:
    found = auto.predict(strings[80:])
    assert found.shape == (40, 2)
    unsupported = np.isinf(table[80:, 0])
    assert unsupported.any()
    assert (np.isposinf(found[:, 0]) == unsupported).mean() > 0.9
    both = np.isfinite(found[:, 0]) & ~unsupported
    assert kendalltau(found[both, 0], table[80:, 0][both]).statistic > 0.75
    assert np.isfinite(found[:, 1]).all()
    known = ~np.isnan(table[80:, 1])
    assert kendalltau(found[known, 1], table[80:, 1][known]).statistic > 0.6
    assert found[:, 1].mean() == pytest.approx(np.nanmean(table[:, 1]), abs=2)


def test_the_probability_of_support_is_one_where_all_were(
    auto: SEvalPredictor, strings: list[str], table: Values
) -> None:
    found = auto.supported(strings)
    assert found.shape == (120, 2)
    assert (found[:, 1] == 1).all()
    assert ((found[:, 0] < 0.5) == np.isinf(auto.predict(strings)[:, 0])).all()
    assert ((found[:80, 0] < 0.5) == np.isinf(table[:80, 0])).all()


def test_it_says_what_it_chose_and_why(auto: SEvalPredictor) -> None:
    models = {"boosted", "gp", "additive", "boosted+gp", "additive+gp", "layered", "boosted+layered"}
    assert auto.compared_.keys() == models
    assert all(-1 <= tau <= 1 for tau in auto.compared_.values())
    for name, tau in auto.compared_.items():
        if "+" not in name or name in auto.choice_.partition(" on ")[0]:
            assert f"{name} {tau:.3f}" in auto.choice_
    assert auto.weights_.shape == (len(auto.members_), 2)
    assert (auto.weights_.sum(axis=0) == 1).all()
    assert (auto.weights_.max(axis=1) > 0).all()


def test_predictions_of_unseen_networks_are_kept_for_those_that_were_measured(
    auto: SEvalPredictor, strings: list[str], table: Values
) -> None:
    assert np.shape(auto.unseen_) == (80, 2)
    nothing = np.isinf(table[:80, 0]) & np.isnan(table[:80, 1])
    assert nothing.any()
    assert (np.isnan(auto.unseen_).all(axis=1) == nothing).all()
    known = np.isfinite(table[:80]) & np.isfinite(auto.unseen_)
    seen = np.where(np.isfinite(auto.predict(strings[:80])), auto.predict(strings[:80]), np.nan)
    errors = [np.nanmean(np.abs(found - table[:80])[known]) for found in (auto.unseen_, seen)]
    assert errors[0] > 1.2 * errors[1], "what was seen in training is predicted better"


@pytest.mark.parametrize("model", ["boosted", "gp", "mlp", "ensemble"])
def test_every_model_learns_metrics_in_their_unit(model: str, strings: list[str], values: list[float]) -> None:
    pytest.importorskip("torch")
    parameters = {"boosted": FEW, "mlp": {"width": 24, "layers": 2, "epochs": 60}}.get(model)
    y = np.array(values) * 1e-3 + 5
    predictor = SEvalPredictor(model, "linear", parameters).fit(strings[:80], y[:80])
    assert predictor.members_ == (("boosted", "gp") if model == "ensemble" else (model,))
    found = predictor.predict(strings[80:])
    assert kendalltau(found, y[80:]).statistic > 0.7
    assert found == pytest.approx(y[80:], abs=8e-3)


def test_a_t5_gives_vectors_and_no_other_model_does(strings: list[str], values: list[float]) -> None:
    pytest.importorskip("transformers")
    tiny = {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 16, "epochs": 1, "max_tokens": 32}
    predictor = SEvalPredictor("t5", "linear", tiny).fit(strings[:20], values[:20])
    assert predictor.embed(strings[:3]).shape == (3, 16)
    state, files = predictor.state()
    again = SEvalPredictor()
    again.restore(json.loads(json.dumps(state)), files)
    assert again.predict(strings) == pytest.approx(predictor.predict(strings), rel=1e-5)
    assert np.array_equal(again.embed(strings[:3]), predictor.embed(strings[:3]))
    boosted = quick().fit(strings[:20], values[:20])
    with pytest.raises(InputError, match="expected a predictor of model 't5' for embeddings, this one is boosted"):
        boosted.embed(strings[:3])


@pytest.mark.parametrize("several", [False, True])
def test_shapes_are_those_of_training(several: bool, strings: list[str], values: list[float]) -> None:
    y = np.array(values)[:, None] if several else values
    predictor = quick().fit(strings[:30], y[:30])
    more = (1,) if several else ()
    for found in (predictor.predict(strings[:7]), *predictor.predict(strings[:7], interval=0.5)):
        assert found.shape == (7, *more)
        assert found.dtype == np.float64
    assert predictor.bound(strings[:7], "upper", 0.9).shape == predictor.supported(strings[:7]).shape == (7, *more)
    assert predictor.predict([]).shape == (0, *more)
    assert [part.shape for part in predictor.predict([], interval=0.9)] == [(0, *more)] * 3


def test_a_prediction_has_the_same_bits_alone_twice_and_in_any_batch(strings: list[str], table: Values) -> None:
    predictor = quick("rank").fit(strings[:80], table[:80])
    together = predictor.predict(strings)
    assert np.array_equal(np.concatenate([predictor.predict([string]) for string in strings[60:]]), together[60:])
    assert np.array_equal(predictor.predict([*strings[::-1], *strings]), np.concatenate([together[::-1], together]))


def test_a_gp_beside_the_trees_predicts_the_same_in_any_batch(auto: SEvalPredictor, strings: list[str]) -> None:
    together = auto.predict(strings)
    alone = np.concatenate([auto.predict([string]) for string in strings[80:100]])
    assert alone == pytest.approx(together[80:100], rel=1e-5)


@pytest.mark.parametrize("scale", ["linear", "log", "rank"])
def test_intervals_hold_unseen_values_as_often_as_they_say(scale: str) -> None:
    rng = np.random.default_rng(0)
    strings = rng.permutation(list(dict.fromkeys(chain(seed) for seed in range(900)))[:600]).tolist()
    y = np.array([cost(string) for string in strings]) * np.exp(0.2 * rng.standard_normal(600))
    predictor = quick(scale).fit(strings[:200], y[:200])
    for coverage in (0.5, 0.9):
        value, low, high = predictor.predict(strings[200:], interval=coverage)
        assert (low <= value).mean() > 0.99
        assert (value <= high).mean() > 0.99
        assert np.mean((low <= y[200:]) & (y[200:] <= high)) == pytest.approx(coverage, abs=0.07)
    assert np.mean(y[200:] <= predictor.bound(strings[200:], "upper", 0.9)) == pytest.approx(0.9, abs=0.06)
    assert np.mean(y[200:] >= predictor.bound(strings[200:], "lower", 0.9)) == pytest.approx(0.9, abs=0.06)


def test_both_bounds_of_an_unsupported_network_are_infinite(auto: SEvalPredictor, strings: list[str]) -> None:
    value, low, high = auto.predict(strings, interval=0.9)
    gone = np.isinf(value)
    assert gone.any()
    assert np.isposinf(low[gone]).all()
    assert np.isposinf(high[gone]).all()
    assert np.isfinite(low[~gone]).all()


@pytest.mark.parametrize("coverage", [0, 1, -0.5, 90, float("nan"), True])
def test_a_coverage_that_is_none_is_refused(coverage: float, auto: SEvalPredictor, strings: list[str]) -> None:
    with pytest.raises(InputError, match=r"coverage must be a number between 0 and 1, such as 0\.9"):
        auto.predict(strings, interval=coverage)


def test_a_missing_value_teaches_nothing_and_harms_no_other_metric(strings: list[str], table: Values) -> None:
    both = quick().fit(strings, table).predict(strings)
    assert np.array_equal(both[:, 0], quick().fit(strings, np.column_stack([table[:, 0]] * 2)).predict(strings)[:, 0])
    known = ~np.isnan(table[:, 1])
    accuracy = quick().fit([s for s, there in zip(strings, known, strict=True) if there], table[known, 1])
    assert both[:, 1] == pytest.approx(accuracy.predict(strings), abs=1.0)


def test_what_other_predictors_learned_helps_where_little_was_measured() -> None:
    strings = list(dict.fromkeys(chain(seed) for seed in range(900)))[:600]
    odd = np.array([cost(string) + 15 * (string.count("k3") % 2) for string in strings])
    base = SEvalPredictor("boosted", "linear", {"n_estimators": 200}).fit(strings[:400], odd[:400])
    few, rest = slice(400, 430), slice(430, 600)
    alone = quick().fit(strings[few], -2 * odd[few]).predict(strings[rest])
    helped = quick().fit(strings[few], -2 * odd[few], base=[base]).predict(strings[rest])
    taus = [kendalltau(found, -2 * odd[rest]).statistic for found in (alone, helped)]
    assert taus[1] > taus[0] + 0.05


def test_a_predictor_with_proxies_and_bases_comes_back_with_the_same_bits(strings: list[str], table: Values) -> None:
    rng = np.random.default_rng(0)
    proxies = rng.standard_normal((120, 2))
    base = quick("rank").fit(strings, table)
    nested = quick("log").fit(strings[:60], np.nan_to_num(table[:60, 1], nan=80.0), base=[base])
    predictor = SEvalPredictor("ensemble", "rank", None, seed=5)
    predictor.fit(strings[:40], np.arange(40.0) % 23, proxies[:40], base=[base, nested])
    state, files = predictor.state()
    assert "base-1-base-0-classifier-0-classifier.json" in files
    again = SEvalPredictor()
    again.restore(json.loads(json.dumps(state)), dict(sorted(files.items(), reverse=True)))
    assert again.get_params() == predictor.get_params()
    assert again.choice_ == predictor.choice_
    for one, other in zip(
        again.predict(strings, proxies, interval=0.8), predictor.predict(strings, proxies, interval=0.8), strict=True
    ):
        assert np.array_equal(one, other)
    assert again.state()[0] == state


def test_a_restored_predictor_knows_support_levels_and_bounds(auto: SEvalPredictor, strings: list[str]) -> None:
    state, files = auto.state()
    again = SEvalPredictor()
    again.restore(json.loads(json.dumps(state)), files)
    for one, other in zip(again.predict(strings, interval=0.9), auto.predict(strings, interval=0.9), strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(again.supported(strings), auto.supported(strings))
    assert np.array_equal(again.bound(strings, "lower", 0.9), auto.bound(strings, "lower", 0.9))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"scales": []}, "."),
        ({"members": ["boosted", "gp"], "parameters": {"model": "ensemble"}}, "gp"),
        ({"parts": {}}, "boosted"),
        ({"conformals": [{}]}, "intervals"),
        ({"classifiers": [True]}, "classifier-0"),
        ({"base": 1}, "base-0"),
        ({"parameters": {"depth": 3}}, "depth"),
        ({"members": []}, "."),
    ],
)
def test_a_state_that_does_not_fit_together_is_refused(
    damage: dict[str, Any], message: str, strings: list[str], values: list[float]
) -> None:
    state, files = quick().fit(strings[:20], values[:20]).state()
    with pytest.raises(Exception, match=message):
        SEvalPredictor().restore(state | damage, files)


def test_proxies_have_to_be_there_as_in_training(strings: list[str], values: list[float]) -> None:
    proxies = np.random.default_rng(0).standard_normal((30, 2))
    seeing = quick().fit(strings[:30], values[:30], proxies)
    assert seeing.predict(strings[:30], proxies).shape == (30,)
    with pytest.raises(InputError, match="expected 2 proxies a network, as in training"):
        seeing.predict(strings)
    with pytest.raises(InputError, match=r"expected proxies of shape \(3, 2\), got \(30, 2\)"):
        seeing.predict(strings[:3], proxies)
    with pytest.raises(InputError, match="expected no proxies a network, as in training"):
        quick().fit(strings[:30], values[:30]).predict(strings[:30], proxies)
    with pytest.raises(InputError, match=r"expected proxies of shape \(20, 2\), got \(30, 2\)"):
        quick().fit(strings[:20], values[:20], proxies)


def test_equal_strings_may_have_proxies_of_their_own(strings: list[str], values: list[float]) -> None:
    proxies = np.random.default_rng(0).standard_normal((60, 1))
    predictor = quick().fit(strings[:60], np.array(values[:60]) + 5 * proxies[:, 0], proxies)
    low, high = predictor.predict([strings[0]] * 2, [[-2.0], [2.0]])
    assert low < high


def test_the_predictor_keeps_scikit_learns_contract(strings: list[str], values: list[float]) -> None:
    predictor = quick()
    assert not [name for name in vars(predictor) if name.endswith("_")]
    assert predictor.fit(strings[:40], values[:40]) is predictor
    twin = clone(predictor)
    for call in (twin.predict, twin.supported, twin.embed):
        with pytest.raises(NotFittedError):
            call(strings)
    with pytest.raises(NotFittedError):
        twin.state()
    assert predictor.score(strings[:40], values[:40]) > 0.9


def test_distinct_networks_have_no_twin_among_what_their_prediction_was_learned_from(strings: list[str]) -> None:
    rng = np.random.default_rng(0)
    twins = [string for string in strings[:30] for _ in range(3)]
    y = np.repeat(rng.standard_normal(30), 3)  # what nothing but having seen a string tells
    taus = [
        kendalltau(SEvalPredictor("boosted", "linear", FEW, distinct=distinct).fit(twins, y).unseen_[:, 0], y).statistic
        for distinct in (False, True)
    ]
    assert taus[0] > 0.5
    assert taus[1] < 0.3


def test_the_same_data_and_seed_give_the_same_bits(strings: list[str], table: Values) -> None:
    first, again = (quick("auto").fit(list(strings[:40]), table[:40].copy()).state() for _ in range(2))
    assert first == again


@pytest.mark.slow
def test_fresh_processes_with_other_hashes_and_threads_predict_the_same_bits() -> None:
    seval = "SEvalPredictor(**{}).fit(strings[:40], values[:40]).predict(strings, interval=0.9)"
    expressions = (
        seval.format({}),
        seval.format({"model": "mlp", "parameters": {"epochs": 5}}),
        "MLPPredictor(width=64, epochs=5).fit(strings, values).predict(strings)",
        "BoostedPredictor(n_estimators=50).fit(strings, values).predict(strings)",
    )
    assert len(set(in_fresh_processes(f"np.concatenate([np.ravel(x) for x in ({', '.join(expressions)})])"))) == 1


def test_progress_is_told(strings: list[str], values: list[float]) -> None:
    told: list[tuple[float, str]] = []
    quick().fit(strings[:20], values[:20], show=lambda fraction, note: told.append((fraction, note)))
    assert [fraction for fraction, _ in told] == sorted(fraction for fraction, _ in told)
    assert told[0] == (0.0, "comparing: boosted")
    assert told[-1] == (1.0, "trained")


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "column", "view", "least"),
    [
        ("hw_nas_bench/nasbench201_cifar10.csv", "raspi4_latency", "executed", 0.83),
        ("freerea_cached_metrics/nats/cifar10/accuracies.csv", "accuracy", "functional", 0.80),
    ],
)
def test_unseen_cells_are_ranked_from_200_of_them(
    data_dir: Path, table: str, column: str, view: View, least: float
) -> None:
    with open(data_dir / table, newline="") as file:
        values = np.array([float(row[column]) for row in csv.DictReader(file)])
    cells = TopologySpace().genotypes()
    chosen = np.random.default_rng(0).permutation(len(cells))[:700].tolist()
    strings = SpaceStrings(TopologySpace(), view).strings([cells[i] for i in chosen])
    predictor = SEvalPredictor().fit(strings[:200], values[chosen[:200]])
    assert kendalltau(predictor.predict(strings[200:]), values[chosen[200:]]).statistic > least
