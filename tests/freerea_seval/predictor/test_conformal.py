"""Intervals: they hold as often as they say, whatever the predictor, and say so where they cannot."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from freerea_patch import InputError
from freerea_seval.predictor.conformal import Conformal, samples_needed

Values = npt.NDArray[np.float64]
FINITE = st.floats(-1e6, 1e6)


def draw(rng: np.random.Generator, n: int) -> tuple[Values, Values]:
    """Return values with skewed errors around biased predictions, and the predictions."""
    scale = rng.uniform(0.2, 3.0, n)
    predicted = rng.normal(size=n)
    return predicted + 0.7 + scale * rng.exponential(size=n), predicted


def draw_costs(rng: np.random.Generator, n: int) -> tuple[Values, Values]:
    """Return positive values over three orders of magnitude with relative errors, and the predictions."""
    predicted = np.exp(rng.uniform(-3.0, 4.0, n))
    return predicted * np.exp(rng.normal(0.05, 0.1, n)), predicted


@pytest.mark.parametrize("drawn", [draw, draw_costs])
@pytest.mark.parametrize(("n", "coverage"), [(9, 0.9), (12, 0.9), (20, 0.9), (60, 0.9), (60, 0.5), (200, 0.8)])
def test_intervals_cover_a_new_value_as_often_as_they_promise(
    n: int, coverage: float, drawn: Callable[[np.random.Generator, int], tuple[Values, Values]]
) -> None:
    rng, draws, hits = np.random.default_rng(n), 1_500, 0
    for _ in range(draws):  # marginal coverage: a new calibration set and one new value each time
        measured, predicted = drawn(rng, n + 1)
        low, high = Conformal.fit(measured[:n], predicted[:n]).bounds(predicted[n:], coverage)
        hits += int(low[0] <= measured[n] <= high[0])
    # Without ties each side errs as often as its rank says, at most 1 / (n + 1) less than half of the rest.
    exact = 1 - 2 * math.floor((n + 1) * (1 - coverage) / 2 + 1e-9) / (n + 1)
    if exact == 1:  # too few for a side: the largest error on either is exceeded as often as any other
        exact = n / (n + 1)
    assert coverage <= exact + 1e-9
    least, most = binom.interval(1 - 1e-5, draws, exact)
    assert least <= hits <= most


def test_intervals_of_costs_are_relative_and_positive() -> None:
    rng = np.random.default_rng(3)
    intervals = Conformal.fit(*draw_costs(rng, 40))
    assert intervals.relative
    low, high = intervals.bounds([0.1, 100.0], 0.9)
    assert high / low == pytest.approx(high[0] / low[0])
    assert 0 < low[0] < 0.1 < high[0] < 0.13
    assert np.array_equal(
        Conformal.restore(json.loads(json.dumps(intervals.state()))).upper([3.0], 0.8), intervals.upper([3.0], 0.8)
    )
    # A model may predict a negative cost all the same; its bounds are in order.
    assert intervals.lower([-1.0], 0.8) < intervals.upper([-1.0], 0.8)
    # Accuracies of good networks differ less than those of bad ones.
    accuracies = 95.0 - np.exp(rng.uniform(-2.0, 4.0, 40))
    assert not Conformal.fit(accuracies + rng.normal(0.0, 0.05, 40) * (95.0 - accuracies), accuracies).relative


def test_intervals_are_proportional_to_the_deviations_of_predictions() -> None:
    rng, n = np.random.default_rng(11), 4_000
    deviations = np.exp(rng.uniform(-3.0, 0.0, n))
    predicted = np.exp(rng.uniform(-3.0, 4.0, n))
    measured = predicted * np.exp(deviations * rng.normal(size=n))
    known, new = slice(1_000), slice(1_000, None)
    intervals = Conformal.fit(measured[known], predicted[known], deviations[known])
    twin = Conformal.restore(json.loads(json.dumps(intervals.state())))
    for coverage in (0.8, 0.9):
        low, high = twin.bounds(predicted[new], coverage, deviations[new])
        covered = (low <= measured[new]) & (measured[new] <= high)
        for part in (deviations[new] < 0.1, deviations[new] > 0.5):  # in every part, unlike intervals of one width
            assert covered[part].mean() == pytest.approx(coverage, abs=0.06)
    low, high = Conformal.fit(measured[known], predicted[known]).bounds(predicted[new], 0.9)
    assert ((low <= measured[new]) & (measured[new] <= high))[deviations[new] > 0.5].mean() < 0.8


@pytest.mark.parametrize("confidence", [0.5, 0.75, 0.9])
def test_each_one_sided_bound_holds_as_often_as_it_promises(confidence: float) -> None:
    rng, draws, n = np.random.default_rng(7), 1_500, 39
    below = above = 0
    for _ in range(draws):
        measured, predicted = draw(rng, n + 1)
        intervals = Conformal.fit(measured[:n], predicted[:n])
        below += int(measured[n] <= intervals.upper(predicted[n:], confidence)[0])
        above += int(measured[n] >= intervals.lower(predicted[n:], confidence)[0])
    least, most = binom.interval(1 - 1e-5, draws, confidence)  # 40 of these confidences are whole numbers
    assert least <= below <= most
    assert least <= above <= most


@given(st.lists(FINITE, max_size=25), FINITE, st.floats(0.01, 0.99))
def test_a_bound_is_the_smallest_error_that_enough_errors_do_not_exceed(
    errors: list[float], centre: float, confidence: float
) -> None:
    intervals, n = Conformal.fit(errors, [0.0] * len(errors)), len(errors)

    def smallest(values: list[float]) -> float:
        """Return the least value that a share ``confidence`` of n + 1 does not exceed; the new one may."""
        for value in sorted(values):
            if sum(v <= value for v in values) >= (n + 1) * confidence - 1e-9:
                return value
        return math.inf

    assert intervals.upper([centre], confidence)[0] == centre + smallest(errors)
    assert intervals.lower([centre], confidence)[0] == centre - smallest([-e for e in errors])


@given(st.lists(FINITE, min_size=1, max_size=40), st.floats(0.01, 0.98), st.floats(0.001, 0.01))
def test_more_coverage_never_gives_a_narrower_interval(errors: list[float], coverage: float, more: float) -> None:
    intervals = Conformal.fit(errors, [0.0] * len(errors))
    low, high = intervals.bounds([0.0], coverage)
    lower, higher = intervals.bounds([0.0], coverage + more)
    assert lower[0] <= low[0] <= high[0] <= higher[0]


def test_too_few_samples_for_a_coverage_give_infinite_bounds() -> None:
    rng = np.random.default_rng(0)
    errors = rng.normal(size=19)

    def bounds(n: int, coverage: float) -> tuple[float, float]:
        low, high = Conformal.fit(errors[:n], np.zeros(n)).bounds([0.0], coverage)
        return float(low[0]), float(high[0])

    assert bounds(8, 0.9) == (-math.inf, math.inf)
    for few in (9, 18):
        most = np.abs(errors[:few]).max()
        assert bounds(few, 0.9) == (-most, most)
    assert bounds(19, 0.9) == (errors.min(), errors.max())
    assert Conformal.fit(errors[:8], np.zeros(8)).upper([3.0], 0.9) == math.inf
    assert Conformal.fit(errors[:9], np.zeros(9)).upper([0.0], 0.9) == errors[:9].max()
    assert bounds(0, 0.1) == (-math.inf, math.inf)


def test_values_that_were_not_measured_or_not_supported_teach_nothing() -> None:
    measured = [1.0, math.nan, 3.0, math.inf, 2.5]
    predicted = [1.5, 7.0, 2.0, math.inf, 2.5]
    kept = Conformal.fit([1.0, 3.0, 2.5], [1.5, 2.0, 2.5])
    assert Conformal.fit(measured, predicted).state() == kept.state()


def test_a_prediction_of_unsupported_is_its_own_bound() -> None:
    for n in (1, 100):  # infinite and finite errors
        low, high = Conformal.fit(np.arange(float(n)), np.zeros(n)).bounds([math.inf, 1.0], 0.9)
        assert low[0] == high[0] == math.inf
        assert low[1] < high[1]


def test_skewed_errors_give_a_lopsided_interval() -> None:
    errors = np.random.default_rng(0).exponential(size=500)
    low, high = Conformal.fit(errors, np.zeros(500)).bounds([0.0], 0.9)
    assert -math.log(0.95) == pytest.approx(low[0], abs=0.05)
    assert -math.log(0.05) == pytest.approx(high[0], abs=0.5)


@pytest.mark.parametrize("n", [0, 1, 50, 2_000, 2_001, 9_375])
def test_intervals_survive_json(n: int) -> None:
    rng = np.random.default_rng(n)
    intervals = Conformal.fit(rng.normal(size=n), rng.normal(size=n))
    text = json.dumps(intervals.state(), allow_nan=False)
    assert len(json.loads(text)["errors"]) == min(n, 2_000)
    twin = Conformal.restore(json.loads(text))
    for coverage in (0.01, 0.5, 0.9, 0.999):
        assert np.array_equal(twin.bounds([1.0, 2.0], coverage), intervals.bounds([1.0, 2.0], coverage))


@given(st.floats(0.01, 0.9999))
def test_the_kept_errors_of_many_samples_round_outwards_and_little(confidence: float) -> None:
    intervals = Conformal.fit(np.arange(1.0, 9_376.0), np.zeros(9_375))  # each error is its rank
    rank = math.ceil(9_376 * confidence - 1e-9)
    if rank > 9_375:
        assert intervals.upper([0.0], confidence) == math.inf
    else:
        assert rank <= intervals.upper([0.0], confidence)[0] < rank + 9_375 / 1_999 + 1
        assert 9_376 - rank >= intervals.lower([0.0], confidence)[0] > 9_376 - rank - 9_375 / 1_999 - 1


def test_nothing_given_is_changed() -> None:
    measured, predicted = draw(np.random.default_rng(0), 30)
    before = [a.copy() for a in (measured, predicted)]
    Conformal.fit(measured, predicted).bounds(predicted, 0.5)
    assert all(np.array_equal(a, b) for a, b in zip((measured, predicted), before, strict=True))


PLAIN = Conformal.fit([1.0, 2.0, 4.0], [1.5, 2.0, 2.0])
STATE = PLAIN.state()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PLAIN.bounds([1.0], 1.0), "coverage must be a number between 0 and 1, such as 0.9, not 1.0"),
        (lambda: PLAIN.bounds([1.0], 90), "coverage must be a number between 0 and 1, such as 0.9, not 90"),
        (lambda: PLAIN.upper([1.0], 0), "confidence must be a number between 0 and 1, such as 0.9, not 0"),
        (lambda: PLAIN.lower([1.0], True), "confidence must be a number between 0 and 1, such as 0.9, not True"),
        (lambda: PLAIN.bounds([1.0], math.nan), "not nan"),
        (
            lambda: PLAIN.bounds([[1.0]], 0.5),
            r"expected predictions of shape \(n,\), one a network, got shape \(1, 1\)",
        ),
        (lambda: PLAIN.bounds(["a"], 0.5), "expected a list of numbers as predictions, got list"),
        (lambda: Conformal.fit([1, 2], [1]), r"expected predictions of shape \(2,\), one a network, got shape \(1,\)"),
        (lambda: Conformal.fit([1, 2], [1, math.inf]), "predictions of measured networks must be finite numbers"),
        (lambda: Conformal.restore({}), "intervals: expected 'samples', 'errors' and 'relative' as they were saved"),
        (lambda: Conformal.restore({**STATE, "more": 1}), "as they were saved; train anew"),
        (lambda: Conformal.restore({**STATE, "samples": True}), "as they were saved; train anew"),
        (lambda: Conformal.restore({**STATE, "relative": False, "scaled": True}), "as they were saved; train anew"),
        (lambda: Conformal.restore({**STATE, "errors": [0.0, 1.0, math.nan]}), "as they were saved; train anew"),
        (lambda: Conformal.restore({**STATE, "samples": 4}), "expected 4 ascending errors of 4 samples, got 3; train"),
        (lambda: Conformal.restore({**STATE, "samples": -3}), "ascending errors of -3 samples, got 3"),
        (lambda: Conformal.restore({**STATE, "errors": [1.0, 0.0, 2.0]}), "expected 3 ascending errors of 3 samples"),
    ],
)
def test_what_gives_no_interval_is_an_error_of_one_line(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_an_interval_is_finite_from_so_many_samples_on(coverage: float) -> None:
    needed = samples_needed(coverage)
    for samples, finite in ((needed - 1, False), (needed, True)):
        bounds = Conformal.fit(np.arange(float(samples)), np.zeros(samples)).bounds([1.0], coverage)
        assert bool(np.isfinite(bounds).all()) == finite
