"""The Gaussian process: contract, its equations against naive twins, what it learns, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load, save
from scipy.optimize import approx_fprime
from scipy.stats import kendalltau, multivariate_normal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from freerea_patch import InputError
from freerea_seval.predictor.models import gp
from freerea_seval.predictor.models.gp import GaussianProcessPredictor, Kernel, between, squared
from tests.freerea_seval.predictor.conftest import chain


@pytest.fixture(scope="module")
def process(strings: list[str], values: list[float]) -> GaussianProcessPredictor:
    """A process that has seen the first 60."""
    return GaussianProcessPredictor().fit(strings[:60], values[:60])


@pytest.fixture(scope="module")
def proxies(strings: list[str]) -> npt.NDArray[np.float64]:
    """Three proxies of each network, one of them at times unknown."""
    found = np.random.default_rng(5).lognormal(sigma=3.0, size=(len(strings), 3))
    found[::7, 2] = np.nan
    return found


def test_the_process_keeps_scikit_learns_contract(strings: list[str], values: list[float]) -> None:
    process = GaussianProcessPredictor(seed=3)
    assert not [name for name in vars(process) if name.endswith("_")]
    assert process.fit(strings[:40], values[:40]) is process
    twin = clone(process)
    assert twin.get_params() == process.get_params() == {"seed": 3}
    with pytest.raises(NotFittedError):
        twin.predict(strings)
    with pytest.raises(NotFittedError):
        twin.state()
    assert np.array_equal(twin.fit(strings[:40], values[:40]).predict(strings), process.predict(strings))
    assert process.score(strings[:40], values[:40]) > 0.9


def test_predictions_have_the_shape_of_the_values(strings: list[str], values: list[float]) -> None:
    one = GaussianProcessPredictor().fit(strings[:20], values[:20])
    assert one.predict(strings).shape == (120,)
    assert one.predict(strings).dtype == np.float64
    assert one.predict([]).shape == (0,)
    two = GaussianProcessPredictor().fit(strings[:20], np.stack([values[:20], values[19::-1]], axis=1))
    assert [array.shape for array in two.predict(strings, return_std=True)] == [(120, 2), (120, 2)]
    assert two.predict([]).shape == (0, 2)


def naive_covariance(process: GaussianProcessPredictor, metric: int, a: Any, b: Any) -> float:
    """Return the covariance of two points from their definition, a column at a time."""
    blocks = process._blocks()
    logs = process.posteriors_[metric].parameters
    squared, linear = 0.0, 0.0
    for number, block in enumerate(blocks):
        for column in block:
            squared += ((a[column] - b[column]) / np.exp(logs[1 + number])) ** 2
            linear += np.exp(logs[1 + len(blocks) + number]) * a[column] * b[column]
    away = np.sqrt(3 * squared)
    return float(np.exp(logs[0]) * (1 + away) * np.exp(-away) + linear)


def test_mean_and_deviation_equal_those_of_a_naive_posterior(
    strings: list[str], values: list[float], proxies: Any
) -> None:
    targets = np.stack([values[:25], np.sin(np.arange(25.0))], axis=1)
    targets[3:8, 1] = np.nan
    process = GaussianProcessPredictor().fit(strings[:25], targets, proxies[:25])
    asked = slice(60, 68)
    mean, deviation = process.predict(strings[asked], proxies[asked], return_std=True)
    features = process.features_.transform(strings[asked]).astype(float)
    columns = np.sign(features) * np.log1p(np.abs(features))
    assert process.proxies_ is not None
    points = process._points(np.concatenate([columns, process.proxies_.transform(proxies[asked])], axis=1))
    for metric, column in enumerate(targets.T):
        known = [row for row in range(25) if not np.isnan(column[row])]
        y = (column[known] - np.mean(column[known])) / np.std(column[known])
        noise = np.exp(process.posteriors_[metric].parameters[-1])
        seen = process.points_[known]
        within = np.array([[naive_covariance(process, metric, a, b) for b in seen] for a in seen])
        inverse = np.linalg.inv(within + (noise + 1e-6) * np.eye(len(known)))
        for place, point in enumerate(points):
            across = np.array([naive_covariance(process, metric, point, b) for b in seen])
            expected = np.mean(column[known]) + np.std(column[known]) * across @ inverse @ y
            variance = naive_covariance(process, metric, point, point) + noise - across @ inverse @ across
            assert mean[place, metric] == pytest.approx(expected, rel=1e-5, abs=1e-5)
            assert deviation[place, metric] == pytest.approx(np.std(column[known]) * np.sqrt(variance), rel=1e-4)


def test_the_loss_is_a_normal_density_and_its_gradient_is_right() -> None:
    rng = np.random.default_rng(0)
    points, targets = [rng.normal(size=(12, 3)), rng.normal(size=(12, 2))], rng.normal(size=12)
    kernel = Kernel(*between(points, points, squared(points)))
    for parameters in rng.normal(size=(5, 6)):
        covariance = kernel.covariance(parameters) + (np.exp(parameters[-1]) + 1e-6) * np.eye(12)
        value, gradient = kernel.loss(parameters, targets)
        density = multivariate_normal(np.zeros(12), covariance).logpdf(targets)
        assert value == pytest.approx(-density - 6 * np.log(2 * np.pi))
        measured = approx_fprime(parameters, lambda x: kernel.loss(x, targets)[0], 1e-6)
        assert gradient == pytest.approx(measured, rel=1e-3, abs=1e-4)


def test_the_parameters_are_better_than_their_neighbours(
    process: GaussianProcessPredictor, values: list[float]
) -> None:
    parts = process._parts(process.points_)
    covariance = Kernel(*between(parts, parts))
    targets = (np.array(values[:60]) - process.mean_) / process.scale_
    priors = np.array([gp.AMPLITUDE, *[gp.LENGTH] * len(parts), *[gp.SLOPE] * len(parts), gp.NOISE]).T

    def loss(parameters: Any) -> float:
        return covariance.loss(parameters, targets)[0] + float((((parameters - priors[0]) / priors[1]) ** 2).sum() / 2)

    best = process.posteriors_[0].parameters
    for column in range(len(best)):
        for step in (-0.3, 0.3):
            moved = best.copy()
            moved[column] += step
            assert abs(moved[column]) > gp.LIMIT or loss(moved) > loss(best)


def test_a_block_counts_as_much_whatever_the_number_of_its_columns(process: GaussianProcessPredictor) -> None:
    names = process.features_.get_feature_names_out()
    covered = np.concatenate(process._blocks())
    assert sorted(covered) == list(range(len(names)))
    for block, part in zip(process._blocks(), process._parts(process.points_), strict=True):
        if len(block) and np.ptp(part, axis=0).any():
            assert 0.5 < (part**2).sum(axis=1).mean() <= 1.0 + 1e-9  # 1 but for what is cut off


def test_a_prediction_is_the_same_alone_and_in_any_batch(
    process: GaussianProcessPredictor, strings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = process.predict(strings, return_std=True)
    alone = [process.predict([string], return_std=True) for string in strings[::10]]
    assert together[0][::10] == pytest.approx([float(mean[0]) for mean, _ in alone], rel=1e-9)
    assert together[1][::10] == pytest.approx([float(deviation[0]) for _, deviation in alone], rel=1e-6)
    monkeypatch.setattr(gp, "_BATCH", 7)
    assert process.predict(strings) == pytest.approx(together[0], rel=1e-9)


def test_unseen_networks_are_ranked_from_few_samples(strings: list[str], values: list[float]) -> None:
    process = GaussianProcessPredictor().fit(strings[:30], values[:30])
    assert kendalltau(process.predict(strings[30:]), values[30:]).statistic > 0.75


def test_the_deviation_says_how_far_off_predictions_are(
    process: GaussianProcessPredictor, strings: list[str], values: list[float]
) -> None:
    mean, deviation = process.predict(strings[60:], return_std=True)
    off = (mean - values[60:]) / deviation
    assert np.mean(np.abs(off) < 2) > 0.8
    assert np.mean(np.abs(off) > 0.3) > 0.2
    strange = "input[1x3x64x64] " + "conv(512,k7) relu conv(512,k1) add<-1,2 " * 30 + "output"
    assert process.predict([strange], return_std=True)[1][0] > 2 * deviation.mean()


def test_equal_strings_get_the_mean_of_their_values(strings: list[str]) -> None:
    process = GaussianProcessPredictor().fit(strings[:1] * 6 + strings[1:2] * 6, [1, 2, 3, 4, 5, 6] + [9, 10] * 3)
    assert process.predict(strings[:2]) == pytest.approx([3.5, 9.5], abs=0.5)
    assert GaussianProcessPredictor().fit(strings[:1] * 5, range(5)).predict(strings) == pytest.approx([2.0] * 120)


@pytest.mark.parametrize("value", [3.7, 0.0, -1e9])
def test_a_constant_is_predicted_as_it_is(value: float, strings: list[str]) -> None:
    assert GaussianProcessPredictor().fit(strings[:20], [value] * 20).predict(strings) == pytest.approx([value] * 120)


def test_the_unit_of_the_values_does_not_matter(strings: list[str], values: list[float]) -> None:
    plain = GaussianProcessPredictor().fit(strings[:40], values[:40]).predict(strings)
    scaled = GaussianProcessPredictor().fit(strings[:40], 1e6 * np.array(values[:40]) - 5e7).predict(strings)
    assert scaled == pytest.approx(1e6 * plain - 5e7, rel=1e-4)


def test_each_of_several_metrics_is_learned_as_if_alone(strings: list[str], values: list[float]) -> None:
    both = np.stack([values[:40], np.cos(values[:40])], axis=1)
    together = GaussianProcessPredictor().fit(strings[:40], both).predict(strings)
    for metric in range(2):
        alone = GaussianProcessPredictor().fit(strings[:40], both[:, metric]).predict(strings)
        assert together[:, metric] == pytest.approx(alone, rel=1e-9)


def test_networks_without_a_value_teach_nothing_of_that_metric(strings: list[str], values: list[float]) -> None:
    some = np.stack([values[:60], values[:60]], axis=1)
    some[20:, 1] = np.nan
    found = GaussianProcessPredictor().fit(strings[:60], some).predict(strings[60:])
    errors = np.abs(found - np.array(values[60:])[:, None]).mean(axis=0)
    assert errors[0] < errors[1] < np.abs(np.array(values[60:]) - np.mean(values)).mean()


def test_what_only_a_proxy_knows_is_learned_from_it(strings: list[str], values: list[float], proxies: Any) -> None:
    targets = np.array(values) + 3 * np.log1p(proxies[:, 0])
    told = GaussianProcessPredictor().fit(strings[:60], targets[:60], proxies[:60])
    plain = GaussianProcessPredictor().fit(strings[:60], targets[:60])
    known = kendalltau(told.predict(strings[60:], proxies[60:]), targets[60:]).statistic
    assert known > 0.75 > kendalltau(plain.predict(strings[60:]), targets[60:]).statistic


def test_the_seed_draws_the_networks_that_parameters_are_learned_from(
    strings: list[str], values: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def learn(seed: int) -> GaussianProcessPredictor:
        return GaussianProcessPredictor(seed=seed).fit(strings[:60], values[:60])

    assert np.array_equal(learn(1).predict(strings), learn(2).predict(strings)), "so few are all used"
    monkeypatch.setattr(gp, "_LEARNED_FROM", 30)
    first, again, other = (learn(seed) for seed in (1, 1, 2))
    assert np.array_equal(first.predict(strings), again.predict(strings))
    assert not np.array_equal(first.posteriors_[0].parameters, other.posteriors_[0].parameters)
    assert len(first.posteriors_[0].weights) == 60
    assert kendalltau(first.predict(strings[60:]), values[60:]).statistic > 0.75


def test_fresh_processes_predict_alike_whatever_the_hash_seed_and_the_threads(strings: list[str]) -> None:
    script = (
        "import json, sys\n"
        "from freerea_seval.predictor.models.gp import GaussianProcessPredictor\n"
        "strings = json.load(sys.stdin)\n"
        "process = GaussianProcessPredictor().fit(strings[:40], [float(len(s)) for s in strings[:40]])\n"
        "print(process.predict(strings, return_std=True)[0].tolist())"
    )
    printed = set()
    for hash_seed, threads in (("0", "1"), ("77", "2")):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": threads}
        ran = subprocess.run(
            [sys.executable, "-c", script],
            input=json.dumps(strings),
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[4],
            env=environment,
        )
        printed.add(ran.stdout)
    assert len(printed) == 1


def restored(state: Any, files: dict[str, bytes]) -> GaussianProcessPredictor:
    process = GaussianProcessPredictor()
    process.restore(state, files)
    return process


def test_a_state_gives_the_same_predictions_without_fitting(
    strings: list[str], values: list[float], proxies: Any
) -> None:
    targets = np.stack([values[:30], np.cos(values[:30])], axis=1)
    targets[:5, 1] = np.nan
    for given, fitted in (
        ((), GaussianProcessPredictor().fit(strings[:30], values[:30])),
        ((proxies,), GaussianProcessPredictor().fit(strings[:30], targets, proxies[:30])),
    ):
        state, files = fitted.state()
        again = restored(json.loads(json.dumps(state)), files)
        for kept, back in zip(
            fitted.predict(strings, *given, return_std=True),
            again.predict(strings, *given, return_std=True),
            strict=True,
        ):
            assert np.array_equal(kept, back)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"centre": np.zeros(3)}, "expected .* columns and 1 metrics"),
        ({"points": np.zeros((60, 4))}, "expected .* columns and 1 metrics"),
        ({"points": np.zeros((0, 4))}, "expected .* columns and 1 metrics"),
        ({"mean": np.zeros(2)}, "expected .* columns and 1 metrics"),
        ({"0.weights": np.zeros(7)}, "metric 0: its parameters, rows and weights do not fit together"),
        ({"0.parameters": np.zeros(7)}, "metric 0: its parameters, rows and weights do not fit together"),
        ({"0.rows": np.arange(60) + 1}, "metric 0: its parameters, rows and weights do not fit together"),
        ({"0.rows": np.arange(60) * 1.0}, "metric 0: its parameters, rows and weights do not fit together"),
        ({"scale": np.array([np.nan])}, "expected finite numbers"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(
    process: GaussianProcessPredictor, change: dict[str, Any], message: str
) -> None:
    state, files = process.state()
    with pytest.raises(ValueError, match=message):
        restored(state, {"gp.safetensors": save(load(files["gp.safetensors"]) | change)})


@pytest.mark.parametrize(
    "change", [{"vocabulary": ["path conv"]}, {"metrics": 2}, {"proxies": {"worst": [0], "mean": [0], "scale": [1]}}]
)
def test_a_state_that_does_not_fit_its_files_is_refused(process: GaussianProcessPredictor, change: Any) -> None:
    state, files = process.state()
    with pytest.raises((ValueError, KeyError)):
        restored(state | change, files)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, s, v: p.fit(s[:4], v[:4]), "at least 5 values of each metric, got 4"),
        (lambda p, s, v: p.fit(s, v[:4]), r"120 strings and values of shape \(4,\)"),
        (lambda p, s, v: p.fit(["nonsense"] * 6, v[:6]), "nonsense"),
        (lambda p, s, v: p.fit(s[:1] * 2001, [0.0] * 2001), "takes at most 2000 networks, got 2001; take model"),
        (
            lambda p, s, v: p.fit(s, v, [1.0] * 120),
            r"expected proxies of shape \(networks, proxies\), got shape \(120,",
        ),
        (lambda p, s, v: p.fit(s, v, [[1.0]] * 7), "one row of proxies a string, got 120 strings and 7 rows"),
        (
            lambda p, s, v: p.fit(s[:9], v[:9]).predict(s, [[1.0]] * 120),
            "expected no proxies, as in training, got some",
        ),
        (
            lambda p, s, v: p.fit(s[:9], v[:9], [[1.0, 2.0]] * 9).predict(s),
            "expected 2 proxies a network, as in training, got none",
        ),
        (
            lambda p, s, v: p.fit(s[:9], v[:9], [[1.0, 2.0]] * 9).predict(s, [[1.0]] * 120),
            "expected 2 proxies a network, as in training, got 1",
        ),
        (lambda p, s, v: p.fit(s[:9], v[:9]).predict(s[0]), "expected a list of network strings"),
    ],
)
def test_what_cannot_be_learned_or_predicted_is_an_error_of_one_line(
    call: Any, message: str, strings: list[str], values: list[float]
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call(GaussianProcessPredictor(), strings, values)
    assert "\n" not in str(caught.value)


def test_a_network_far_from_all_training_networks_gets_a_finite_value(process: GaussianProcessPredictor) -> None:
    found = process.predict([chain(seed) for seed in range(300, 310)] + ["input[1x1] output"])
    assert np.isfinite(found).all()
