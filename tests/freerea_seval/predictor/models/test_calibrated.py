"""Calibration to a device with few measurements, from predictions for other devices."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.exceptions import NotFittedError

from freerea_patch import InputError, TopologySpace
from freerea_seval.predictor.models import calibrated
from freerea_seval.predictor.models.calibrated import CalibratedPredictor, prior_covariance
from freerea_seval.predictor.scores import spearman
from freerea_seval.predictor.seval import SEvalPredictor
from freerea_seval.strings.encode import SpaceStrings

Values = npt.NDArray[np.float64]

SPACE = TopologySpace()
STRINGS = SpaceStrings(SPACE).strings(SPACE.genotypes()[::130])
COUNTS = np.array([[string.count("conv"), string.count("avg_pool2d")] for string in STRINGS], dtype=float)
#: Milliseconds on three devices, whose convolutions and poolings have different prices.
DEVICES = 1.0 + COUNTS @ np.array([[0.3, 0.2, 0.1], [0.05, 0.1, 0.2]])


def standardised(values: Values) -> Values:
    logarithms = np.log(values)
    return np.asarray((logarithms - logarithms.mean(axis=0)) / logarithms.std(axis=0))


BASE = standardised(DEVICES)


def of_naive_twin(mean: Values, columns: Values, logarithms: Values, at: tuple[Values, Values]) -> Values:
    """Return predictions by Bayes' rule in the space of coefficients, point by point of the grid."""
    centre = np.median(logarithms)
    precision = np.ones(len(logarithms))
    for _ in range(calibrated._STEPS):
        total, predicted, expected = 0.0, np.zeros(len(at[0])), np.zeros(len(logarithms))
        logs = {}
        for b in np.exp(calibrated._SPREADS):
            for factor in np.exp(calibrated._NOISES):
                noise = calibrated._NOISE * factor
                targets = (logarithms - centre) / b - mean
                covariance = columns @ columns.T + np.diag(noise / precision)
                log = -0.5 * targets @ np.linalg.solve(covariance, targets) - 0.5 * np.linalg.slogdet(covariance)[1]
                log -= len(targets) * np.log(b)
                log -= 0.5 * ((np.log(b) - np.log(calibrated._SPREAD)) / calibrated._SPREAD_DEVIATION) ** 2
                logs[b, factor] = log - 0.5 * np.log(factor) ** 2
        largest = max(logs.values())
        for (b, factor), log in logs.items():
            weight, noise = np.exp(log - largest), calibrated._NOISE * factor
            targets = (logarithms - centre) / b - mean
            inner = np.eye(columns.shape[1]) + columns.T @ (columns * (precision / noise)[:, None])
            coefficients = np.linalg.solve(inner, columns.T @ (targets * precision / noise))
            squares = (targets - columns @ coefficients) ** 2 / noise
            expected += weight * (calibrated._DEGREES + 1) / (calibrated._DEGREES + squares)
            predicted += weight * b * (at[0] + at[1] @ coefficients)
            total += weight
        precision = expected / total
    return np.asarray(centre + predicted / total)


def test_the_posterior_equals_that_of_a_naive_twin() -> None:
    rng = np.random.default_rng(0)
    mean, columns = rng.normal(size=14), rng.normal(size=(14, 4))
    logarithms = 2.0 + 0.4 * (mean + columns @ [0.0, 0.3, -0.2, 0.1]) + rng.normal(0, 0.1, 14)
    logarithms[3] += 2.0
    known, other = slice(9), slice(9, None)
    posterior = calibrated._posterior(mean[known], columns[known], logarithms[known])
    predicted = posterior.centre + posterior.spread * mean[other] + columns[other] @ posterior.weights
    naive = of_naive_twin(mean[known], columns[known], logarithms[known], (mean[other], columns[other]))
    assert predicted == pytest.approx(naive, rel=1e-6)


def test_deviations_are_those_of_a_naive_twin() -> None:
    rng = np.random.default_rng(1)
    mean, columns = rng.normal(size=9), rng.normal(size=(9, 4))
    posterior = calibrated._posterior(mean, columns, 2.0 + 0.4 * mean)  # no outlier: all measurements weigh alike
    noises = calibrated._NOISE * np.exp(calibrated._NOISES)
    # Of coefficients with a standard normal prior and measurements with some noise, in the space of coefficients.
    naive = [
        posterior.spread**2 * np.linalg.inv(np.eye(4) + columns.T @ columns * weight / noise)
        for noise, weight in ((noises[0], 1.25), (noises[-1], 0.2))
    ]
    least, most = (np.diag(covariance) for covariance in naive)
    assert (least < np.diag(posterior.covariance)).all()
    assert (np.diag(posterior.covariance) < most).all()
    assert np.linalg.eigvalsh(posterior.covariance).min() > 0


def test_networks_like_those_that_were_measured_have_small_deviations() -> None:
    rows, values = measured(10)
    model = CalibratedPredictor().fit([STRINGS[row] for row in rows], values[rows], BASE[rows])
    deviations = model.deviations(STRINGS, BASE)
    assert deviations.shape == (len(STRINGS), 1)
    assert deviations[rows].mean() < deviations.mean()


def measured(count: int) -> tuple[list[int], Values]:
    """Return networks, and the milliseconds of all on a device that resembles the others."""
    return list(range(0, len(STRINGS), len(STRINGS) // count))[:count], 2.0 + COUNTS @ np.array([0.7, 0.35])


def predicted(rows: list[int], values: Values) -> Values:
    model = CalibratedPredictor().fit([STRINGS[row] for row in rows], values[rows], BASE[rows])
    return model.predict(STRINGS, BASE)


def test_ten_measurements_calibrate_a_device_that_resembles_others() -> None:
    rows, values = measured(10)
    assert np.median(np.abs(predicted(rows, values) / values - 1)) < 0.01
    alone = SEvalPredictor("gp").fit([STRINGS[row] for row in rows], values[rows]).predict(STRINGS)
    assert spearman(predicted(rows, values), values) > spearman(alone, values)


def test_without_other_devices_it_starts_from_costs_of_its_own() -> None:
    rows, values = measured(10)
    strings = [STRINGS[row] for row in rows]
    found = CalibratedPredictor().fit(strings, values[rows]).predict(STRINGS)
    assert np.median(np.abs(found / values - 1)) < 0.02
    assert spearman(found, values) > spearman(SEvalPredictor("gp").fit(strings, values[rows]).predict(STRINGS), values)


def test_it_is_a_candidate_for_few_positive_values_and_for_all_beside_other_devices() -> None:
    _, values = measured(10)

    def candidates(count: int, values: Values, base: list[SEvalPredictor]) -> set[str]:
        return set(SEvalPredictor().fit(STRINGS[:count], values[:count], base=base).compared_)

    base = SEvalPredictor("gp", "log").fit(STRINGS, DEVICES)
    assert "calibrated" in candidates(24, values, [])
    assert "calibrated" not in candidates(25, values, [])
    assert "calibrated" not in candidates(24, -values, [])
    assert "calibrated" in candidates(25, values, [base])


def test_its_choice_names_leave_one_out_and_no_scale() -> None:
    rows, values = measured(10)
    fitted = SEvalPredictor("calibrated").fit([STRINGS[row] for row in rows], values[rows])
    assert fitted.choice_.startswith("calibrated, by Kendall's tau in leave-one-out cross-validation: calibrated 0.")


def test_an_outlier_counts_little() -> None:
    rows, values = measured(12)
    disturbed = values.copy()
    disturbed[rows[5]] *= 8.0
    assert np.median(np.abs(predicted(rows, disturbed) / values - 1)) < 0.03


def test_the_unit_does_not_matter() -> None:
    rows, values = measured(10)
    assert predicted(rows, values * 1e3) == pytest.approx(1e3 * predicted(rows, values), rel=1e-9)


def test_a_metric_that_was_measured_of_some_networks_only_is_learned_from_these() -> None:
    rows, values = measured(20)
    both = np.stack([values, 3.0 * values], axis=1)
    both[rows[::2], 1] = np.nan
    model = CalibratedPredictor().fit([STRINGS[row] for row in rows], both[rows], BASE[rows])
    found = model.predict(STRINGS, BASE)
    assert found[:, 0] == pytest.approx(predicted(rows, values))
    assert np.median(np.abs(found[:, 1] / both[:, 0] / 3.0 - 1)) < 0.02


def test_a_device_that_cannot_run_a_network_says_nothing_about_it() -> None:
    rows, values = measured(12)
    base = BASE.copy()
    base[::3, 2] = np.nan
    base[5] = np.nan
    model = CalibratedPredictor().fit([STRINGS[row] for row in rows], values[rows], base[rows])
    assert np.median(np.abs(model.predict(STRINGS, base) / values - 1)) < 0.05


def test_the_state_goes_through_json_and_is_checked() -> None:
    rows, values = measured(10)
    model = CalibratedPredictor().fit([STRINGS[row] for row in rows], values[rows], BASE[rows])
    state, files = model.state()
    twin = CalibratedPredictor()
    twin.restore(json.loads(json.dumps(state)), files)
    assert np.array_equal(twin.predict(STRINGS, BASE), model.predict(STRINGS, BASE))
    changes: list[dict[str, Any]] = [
        {"devices": 2},
        {"vocabulary": [name for name in state["vocabulary"] if not name.startswith("cost conv")]},
        {"metrics": [[1.0, float("nan"), *state["metrics"][0][2:]]]},
        {"metrics": [[*state["metrics"][0][:3], [[1.0]]]]},
        {"metrics": state["metrics"] * 2},
    ]
    for change in changes:
        with pytest.raises(ValueError, match=r"arrays|finite|one metric"):
            CalibratedPredictor().restore({**state, **change}, {})


def test_the_prior_expects_similar_networks_to_cost_alike() -> None:
    covariance, noise = prior_covariance(STRINGS, BASE)
    assert np.linalg.eigvalsh(covariance).min() > -1e-6
    assert noise > 0
    order = np.argsort(BASE.mean(axis=1))
    neighbours, ends = (
        covariance[a, a] + covariance[b, b] - 2 * covariance[a, b] for a, b in (order[:2], order[[0, -1]])
    )
    assert neighbours < ends


@pytest.mark.parametrize(
    ("values", "base", "message"),
    [
        (np.arange(10.0), BASE[:10], "learns positive costs, such as milliseconds, got 0; name another model"),
        (np.ones(4), BASE[:4], "at least 5 values of each metric, got 4"),
    ],
)
def test_what_cannot_be_learned_is_one_line(values: Values, base: Values | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        CalibratedPredictor().fit(STRINGS[: len(values)], values, base)


def test_zero_cost_proxies_are_no_costs_on_other_devices() -> None:
    rows, values = measured(10)
    strings = [STRINGS[row] for row in rows]
    with pytest.raises(InputError, match="starts from costs, which proxies are not; leave them out, or take gp"):
        SEvalPredictor("calibrated").fit(strings, values[rows], BASE[rows])


def test_it_predicts_from_as_many_devices_as_it_learned_from() -> None:
    rows, values = measured(10)
    model = CalibratedPredictor().fit([STRINGS[row] for row in rows], values[rows], BASE[rows])
    with pytest.raises(InputError, match="expected predictions for 3 devices, got shape"):
        model.predict(STRINGS, BASE[:, :2])
    with pytest.raises(NotFittedError):
        CalibratedPredictor().predict(STRINGS, BASE)
