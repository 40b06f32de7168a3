"""The predictor: contract, errors, determinism, and what it learns."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import kendalltau
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from freerea_patch import InputError, TopologySpace
from freerea_seval.predictor.boosted import BoostedPredictor, _draw
from freerea_seval.strings.encode import SpaceStrings
from freerea_seval.strings.views import View
from tests.freerea_seval.predictor.conftest import chain


def test_the_predictor_keeps_scikit_learns_contract(strings: list[str], values: list[float]) -> None:
    predictor = BoostedPredictor(n_estimators=5, seed=3)
    assert not [name for name in vars(predictor) if name.endswith("_")]
    assert predictor.fit(strings, values) is predictor
    assert {"booster_", "features_", "line_", "mean_", "scale_", "trees_share_"} <= set(vars(predictor))
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
    assert 0.1 < fitted.trees_share_ < 0.9, "both models must have a part for this to be a test"
    together = fitted.predict(strings)
    assert np.array_equal(np.concatenate([fitted.predict([string]) for string in strings]), together)
    assert np.array_equal(fitted.predict(strings[::-1])[::-1], together)


def test_unseen_networks_are_ranked_from_few_samples(strings: list[str], values: list[float]) -> None:
    predictor = BoostedPredictor().fit(strings[:30], values[:30])
    assert kendalltau(predictor.predict(strings[30:]), values[30:]).statistic > 0.75


def test_a_sum_of_costs_is_left_to_the_line_and_what_is_none_to_the_trees(strings: list[str]) -> None:
    sums = [float(len(string.split()) + 2 * string.count(",k3)")) for string in strings]
    assert BoostedPredictor().fit(strings, sums).trees_share_ < 0.1
    steps = [float(string.count("conv") > 4) * (1 + (string.count("mul(0)") > 0)) for string in strings]
    assert BoostedPredictor().fit(strings, steps).trees_share_ > 0.6


def test_the_line_equals_scikit_learns_pipeline(fitted: BoostedPredictor, strings: list[str]) -> None:
    costs = fitted.features_.transform(strings)[:, fitted.features_.costs_]
    targets = np.random.default_rng(0).standard_normal(len(strings))
    # The penalty is a multiple of the number of columns, which the folded line writes as smaller columns.
    penalties = np.logspace(-4, 2, 13) * costs.shape[1]
    twin = make_pipeline(StandardScaler(), RidgeCV(penalties)).fit(costs.astype(float), targets)
    assert _draw(costs, targets)(costs) == pytest.approx(twin.predict(costs.astype(float)), abs=1e-6)


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
    assert first.booster_.save_raw() == again.booster_.save_raw() != other.booster_.save_raw()
    assert first.trees_share_ == again.trees_share_ != other.trees_share_


def test_fresh_processes_predict_the_same_bits(strings: list[str], values: list[float]) -> None:
    script = (
        "import sys; from freerea_seval.predictor.boosted import BoostedPredictor\n"
        "from tests.freerea_seval.predictor.conftest import chain, cost\n"
        "strings = list(dict.fromkeys(map(chain, range(60))))\n"
        "predictor = BoostedPredictor(n_estimators=50).fit(strings, [cost(s) for s in strings])\n"
        "print(predictor.predict(strings).tobytes().hex())"
    )
    root = Path(__file__).parents[3]
    printed = set()
    for hash_seed in ("0", "77"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", script]
        ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, env=environment)
        printed.add(ran.stdout)
    assert len(printed) == 1


GOOD = [chain(seed) for seed in range(6)]


@pytest.mark.parametrize(
    ("strings", "y", "message"),
    [
        (GOOD, [1, 2, 3, float("nan"), 5, 6], "1 of 6 values are NaN or infinite, the first at index 3; leave out"),
        (GOOD, [1, float("inf"), 3, float("nan"), 5, 6], "2 of 6 values are NaN or infinite, the first at index 1"),
        (GOOD, [1, 2, 3], r"expected one value a string, got 6 strings and values of shape \(3,\)"),
        (GOOD, [[1, 2, 3, 4, 5, 6]], r"expected one value a string, got 6 strings and values of shape \(1, 6\)"),
        (GOOD, ["slow"] * 6, "expected a list of numbers as values, got list"),
        (GOOD[:4], [1, 2, 3, 4], "a predictor needs at least 5 samples, got 4; measure more networks"),
        ([], [], "a predictor needs at least 5 samples, got 0"),
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


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "column", "view", "least"),
    [
        # Measured on 2,500 test cells: 0.861 and 0.831, standard deviations over five training sets 0.008 and 0.004.
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
    predictor = BoostedPredictor().fit(strings[:200], values[chosen[:200]])
    assert kendalltau(predictor.predict(strings[200:]), values[chosen[200:]]).statistic > least
