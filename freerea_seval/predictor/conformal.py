"""Conformal prediction: intervals that contain the value with a chosen probability, from out-of-fold errors.

References:
    Vovk 2005: Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World (validity by exchangeability).
    Lei 2018: Distribution-free predictive inference for regression (the finite-sample quantile, section 2.2; errors
        relative to what is expected of each sample, section 5.2).
    Romano 2019: Conformalized quantile regression (a separate quantile for each side, theorem 2).
    Barber 2021: Predictive inference with the jackknife+ (guarantees for out-of-fold residuals).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from freerea_patch import InputError

Values = npt.NDArray[np.float64]

#: Largest number of errors that are kept; of more, an evenly spaced subset of the sorted ones.
_MAX_KEPT = 2_000
#: The exponential of a larger number is not representable as a double.
_LARGEST_LOGARITHM = 700.0


@dataclass(frozen=True, eq=False)
class Conformal:
    """Out-of-fold errors of a predictor, and the bounds that follow from them.

    The bound at confidence c is the prediction plus the ``ceil((n + 1) c)``-th smallest of ``n`` errors. If a new
    network and the ``n`` training networks are exchangeable, the bound holds with probability at least c, and without
    ties at most ``c + 1 / (n + 1)``, for any predictor and distribution (Vovk 2005, Lei 2018). With too few samples for
    c, the bound is infinite. Two approximations are made. Out-of-fold errors are those of predictors fitted to a part
    of the samples, while predictions come from one fitted to all (Barber 2021: error at most twice the nominal one; in
    practice it is the nominal one). And of more than 2,000 errors only 2,000 are kept, which widens bounds by at most
    ``n / 2,000`` ranks.

    Unsupported networks have no error: bounds are conditional on a network being supported.

    Errors of costs grow with the cost. Where all values and predictions are positive, errors are differences of
    logarithms, if intervals of 90 % are narrower then for the geometric mean of the predictions.

    Errors of networks unlike those that were measured are larger. Where the model has a standard deviation of the
    logarithm of each prediction, errors are divided by it, and intervals are proportional to it (Lei 2018, section
    5.2).

    Args:
        samples: number of errors, ``n``.
        errors: ``(k,)`` kept errors, ascending: measured minus predicted, in the metric's unit, or as logarithms.
        relative: whether errors are differences of logarithms.
        scaled: whether these are divided by the standard deviations of the predictions.
    """

    samples: int
    errors: Values
    relative: bool = False
    scaled: bool = False

    @classmethod
    def fit(
        cls, measured: npt.ArrayLike, out_of_fold: npt.ArrayLike, deviations: npt.ArrayLike | None = None
    ) -> Conformal:
        """Learn from out-of-fold predictions.

        Args:
            measured: ``(n,)`` values; NaN (not measured) and infinite ones (unsupported) are ignored.
            out_of_fold: ``(n,)`` predictions by models that were fitted without these samples.
            deviations: ``(n,)`` standard deviations of the logarithms of these predictions, if the models have them;
                all values and predictions are positive then.

        Raises:
            InputError: the shapes differ, or a prediction of a measured value is not finite.
        """
        values = check_numbers(measured, "measured values")
        predicted = check_numbers(out_of_fold, "predictions", values.shape)
        finite = np.isfinite(values)
        if not np.isfinite(predicted[finite]).all():
            raise InputError("predictions of measured networks must be finite numbers to learn intervals from")
        values, predicted = values[finite], predicted[finite]
        errors, relative = values - predicted, False
        if deviations is not None:
            errors = np.log(values / predicted) / check_numbers(deviations, "deviations", finite.shape)[finite]
            relative = True
        elif len(values) and (values > 0).all() and (predicted > 0).all():
            logarithms = np.log(values / predicted)
            narrower = np.quantile(np.abs(logarithms), 0.9) * np.exp(np.log(predicted).mean())
            relative = bool(narrower < np.quantile(np.abs(errors), 0.9))
            errors = logarithms if relative else errors
        errors = np.sort(errors)
        return cls(len(errors), errors[_ranks(len(errors)) - 1], relative, deviations is not None)

    def bounds(
        self, predicted: npt.ArrayLike, coverage: float, deviations: Values | None = None
    ) -> tuple[Values, Values]:
        """Return the interval that contains the value with probability ``coverage``, with equal error on both sides.

        Each side has its own quantile, because errors of accuracy and latency are skewed (Romano 2019, theorem 2). If
        there are too few samples for this but enough for the largest absolute error to guarantee the coverage, both
        bounds are that far away (Lei 2018): 9 to 18 samples for 0.9.

        Args:
            predicted: ``(n,)`` predictions; an infinite one (unsupported) is returned as both bounds.
            coverage: the probability, between 0 and 1.
            deviations: ``(n,)`` standard deviations of the logarithms of the predictions, if training had any.

        Returns:
            Lower and upper bounds, ``(n,)`` each, in the metric's unit.

        Raises:
            InputError: ``coverage`` is not between 0 and 1.
        """
        side = (1 + _probability(coverage, "coverage")) / 2
        if self._rank(side) > self.samples >= self._rank(coverage):
            error = float(np.abs(self.errors).max())
            return self._shift(predicted, -error, deviations), self._shift(predicted, error, deviations)
        return self.lower(predicted, side, deviations), self.upper(predicted, side, deviations)

    def upper(self, predicted: npt.ArrayLike, confidence: float, deviations: Values | None = None) -> Values:
        """Return ``(n,)`` values that the metric does not exceed with probability ``confidence``."""
        rank = self._rank(confidence)
        if rank > self.samples:
            return self._shift(predicted, math.inf, deviations)
        # If not all errors are kept, the next larger one that is.
        return self._shift(predicted, self.errors[np.searchsorted(_ranks(self.samples), rank)], deviations)

    def lower(self, predicted: npt.ArrayLike, confidence: float, deviations: Values | None = None) -> Values:
        """Return ``(n,)`` values that the metric reaches with probability ``confidence``; see :meth:`bounds`."""
        rank = self.samples + 1 - self._rank(confidence)
        if rank < 1:
            return self._shift(predicted, -math.inf, deviations)
        error = self.errors[np.searchsorted(_ranks(self.samples), rank, side="right") - 1]
        return self._shift(predicted, error, deviations)

    def state(self) -> dict[str, Any]:
        """Return values for JSON: at most 2,000 numbers."""
        content = {"samples": self.samples, "errors": self.errors.tolist(), "relative": self.relative}
        return {**content, "scaled": True} if self.scaled else content

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Conformal:
        """Return the intervals of a :meth:`state`.

        Raises:
            InputError: the state is invalid.
        """
        samples: Any = state.get("samples")
        errors, relative, scaled = state.get("errors"), state.get("relative"), state.get("scaled", False)
        numbers = isinstance(errors, list) and all(isinstance(e, float) and math.isfinite(e) for e in errors)
        known = set(state) <= {"samples", "errors", "relative", "scaled"} and scaled in (False, relative)
        if not known or type(samples) is not int or type(relative) is not bool or not numbers:
            raise InputError("intervals: expected 'samples', 'errors' and 'relative' as they were saved; train anew")
        ascending = np.array(errors, dtype=np.float64)
        if len(ascending) != (kept := min(samples, _MAX_KEPT)) or (np.diff(ascending) < 0).any():
            raise InputError(
                f"intervals: expected {kept} ascending errors of {samples} samples, got {len(ascending)}; train anew"
            )
        return cls(samples, ascending, relative, bool(scaled))

    def _shift(self, predicted: npt.ArrayLike, error: float, deviations: Values | None) -> Values:
        """Add an error to the finite ones among ``(n,)`` predictions."""
        bound = check_numbers(predicted, "predictions").copy()
        finite = np.isfinite(bound)
        errors: Values | float = error
        if self.scaled:
            assert deviations is not None
            errors = error * deviations[finite]
        if self.relative:
            errors = np.abs(bound[finite]) * np.expm1(np.minimum(errors, _LARGEST_LOGARITHM))
        bound[finite] += errors
        return bound

    def _rank(self, confidence: float) -> int:
        """Return ceil((n + 1) c), which may be ``n + 1`` (Lei 2018)."""
        # The subtraction compensates rounding: 20 * 0.95 must give 19.
        return math.ceil((self.samples + 1) * _probability(confidence, "confidence") - 1e-9)


def samples_needed(probability: float) -> int:
    """Return the number of errors from which an interval, or a one-sided bound, is finite."""
    confidence = _probability(probability, "a probability")
    return math.ceil(confidence / (1 - confidence) - 1e-9)  # the smallest n with ceil((n + 1) c) <= n


def _ranks(samples: int) -> npt.NDArray[np.int64]:
    """Return the ranks, 1 to ``samples``, of the sorted errors that are kept, including the first and the last."""
    return np.linspace(1, samples, min(samples, _MAX_KEPT)).round().astype(np.int64)


def check_numbers(values: npt.ArrayLike, what: str, shape: tuple[int, ...] | None = None) -> Values:
    """Return numbers, one a network, as an array ``(n,)``.

    Raises:
        InputError: they are not numbers, not one-dimensional, or not of the given shape.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"expected a list of numbers as {what}, got {type(values).__name__} ({error})") from None
    if array.ndim != 1 or (shape is not None and array.shape != shape):
        expected = "(n,)" if shape is None else str(shape)
        raise InputError(f"expected {what} of shape {expected}, one a network, got shape {array.shape}")
    return array


def _probability(value: float, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise InputError(f"{what} must be a number between 0 and 1, such as 0.9, not {value!r}")
    return float(value)
