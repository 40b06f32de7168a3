"""Intervals around predictions that hold with a chosen probability, from the errors made out of fold.

References:
    Vovk 2005: Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World (validity by exchangeability).
    Papadopoulos 2002: Inductive confidence machines for regression (residuals of held-out samples, normalised ones).
    Lei 2018: Distribution-free predictive inference for regression (the finite-sample quantile, section 2.2).
    Romano 2019: Conformalized quantile regression (each side with half of the error, theorem 2).
    Barber 2021: Predictive inference with the jackknife+ (what holds for residuals out of fold).
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

#: Residuals that are kept: with more samples, every so many-eth of the sorted ones.
_MOST = 2_000


@dataclass(frozen=True, eq=False)
class Conformal:
    """The errors of a predictor on samples that it had not seen, and the bounds that follow from them.

    A bound at confidence c is the prediction plus the ``ceil((n + 1) c)``-th smallest error of ``n``. If a new network
    and the ``n`` are exchangeable, it holds with probability at least c, and without ties at most ``c + 1 / (n + 1)``,
    whatever the predictor and the distribution (Vovk 2005, Lei 2018). With too few samples for c the bound is infinite:
    nothing narrower can be promised. Two things stray from this. Errors out of fold are those of predictors trained on
    a part of the samples, while the predictions come from one trained on all, which is promised for similar intervals
    only (Barber 2021: error at most twice the nominal one; what is found is the nominal one). And of more than
    2,000 errors not all are kept, which rounds the bounds outwards, by at most ``n / 2,000`` ranks.

    Unsupported networks have no error: the bounds are those of the value, given that there is one.

    Args:
        samples: number of errors, ``n``.
        errors: ``(k,)`` kept ones, ascending: measured minus predicted, in the metric's unit or, with
            ``normalised``, in units of the difficulty.
        normalised: whether each error is divided by the difficulty of its network.
    """

    samples: int
    errors: Values
    normalised: bool

    @classmethod
    def fit(
        cls, measured: npt.ArrayLike, out_of_fold: npt.ArrayLike, difficulty: npt.ArrayLike | None = None
    ) -> Conformal:
        """Learn from predictions of samples that were made without them.

        Args:
            measured: ``(n,)`` values; NaN (not measured) and infinite ones (unsupported) are left out.
            out_of_fold: ``(n,)`` their predictions.
            difficulty: ``(n,)`` positive scales of the errors to expect, such as the spread of an ensemble: the
                intervals become wide where it is large (Papadopoulos 2002; Lei 2018, section 5.2).

        Raises:
            InputError: the shapes differ, a prediction of a measured value is not finite, or a difficulty not positive.
        """
        values = check_numbers(measured, "measured values")
        predicted = check_numbers(out_of_fold, "predictions", values.shape)
        scale = np.ones_like(values) if difficulty is None else check_numbers(difficulty, "difficulties", values.shape)
        known = np.isfinite(values)
        if not np.isfinite(predicted[known]).all():
            raise InputError("predictions of measured networks must be finite numbers to learn intervals from")
        errors = np.sort((values[known] - predicted[known]) / _positive(scale[known]))
        return cls(len(errors), errors[_ranks(len(errors)) - 1], difficulty is not None)

    def bounds(
        self, predicted: npt.ArrayLike, coverage: float, difficulty: npt.ArrayLike | None = None
    ) -> tuple[Values, Values]:
        """Return the interval that holds the value with probability ``coverage``, missing half of the rest each side.

        Each side has its own quantile, because errors of accuracy and of latency are skewed (Romano 2019, theorem 2).
        Where there are too few samples for these, but enough for the largest error on either side to promise the
        coverage, that is what both bounds are away (Lei 2018): 9 to 18 samples do for 0.9.

        Args:
            predicted: ``(n,)`` predictions; one that is infinite (unsupported) is both its bounds.
            coverage: the probability, between 0 and 1.
            difficulty: ``(n,)`` their difficulties, if :meth:`fit` had any.

        Returns:
            Lower and upper bounds, ``(n,)`` each, in the metric's unit.

        Raises:
            InputError: ``coverage`` is not between 0 and 1, or the difficulties do not go with :meth:`fit`.
        """
        side = (1 + _probability(coverage, "coverage")) / 2
        if self._rank(side) > self.samples >= self._rank(coverage):
            error = float(np.abs(self.errors).max())
            return self._around(predicted, -error, difficulty), self._around(predicted, error, difficulty)
        return self.lower(predicted, side, difficulty), self.upper(predicted, side, difficulty)

    def upper(self, predicted: npt.ArrayLike, confidence: float, difficulty: npt.ArrayLike | None = None) -> Values:
        """Return ``(n,)`` values that the metric stays at or below with probability ``confidence``.

        Args and errors are those of :meth:`bounds`.
        """
        rank = self._rank(confidence)
        if rank > self.samples:
            return self._around(predicted, math.inf, difficulty)
        # The list may be thinned out: the next larger error that is kept.
        return self._around(predicted, self.errors[np.searchsorted(_ranks(self.samples), rank)], difficulty)

    def lower(self, predicted: npt.ArrayLike, confidence: float, difficulty: npt.ArrayLike | None = None) -> Values:
        """Return ``(n,)`` values that the metric stays at or above with probability ``confidence``.

        Args and errors are those of :meth:`bounds`.
        """
        rank = self.samples + 1 - self._rank(confidence)
        if rank < 1:
            return self._around(predicted, -math.inf, difficulty)
        place = np.searchsorted(_ranks(self.samples), rank, side="right") - 1
        return self._around(predicted, self.errors[place], difficulty)

    def state(self) -> dict[str, Any]:
        """Return what :meth:`restore` needs, as JSON can hold it: at most 2,000 numbers."""
        return {"samples": self.samples, "errors": self.errors.tolist(), "normalised": self.normalised}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Conformal:
        """Return what :meth:`state` was asked of.

        Raises:
            InputError: it is no such state.
        """
        samples: Any = state.get("samples")
        errors, normalised = state.get("errors"), state.get("normalised")
        numbers = isinstance(errors, list) and all(isinstance(e, float) and math.isfinite(e) for e in errors)
        if len(state) != 3 or type(samples) is not int or not (numbers and isinstance(normalised, bool)):
            raise InputError("intervals: expected 'samples', 'errors' and 'normalised' as they were saved; train anew")
        found = np.array(errors, dtype=np.float64)
        if len(found) != (kept := min(samples, _MOST)) or (np.diff(found) < 0).any():
            raise InputError(
                f"intervals: expected {kept} ascending errors of {samples} samples, got {len(found)}; train anew"
            )
        return cls(samples, found, normalised)

    def _rank(self, confidence: float) -> int:
        """Return ceil((n + 1) c), which may be ``n + 1`` (Lei 2018)."""
        # What is subtracted is rounding error: 20 * 0.95 must not become 20.
        return math.ceil((self.samples + 1) * _probability(confidence, "confidence") - 1e-9)

    def _around(self, predicted: npt.ArrayLike, error: float, difficulty: npt.ArrayLike | None) -> Values:
        centre = check_numbers(predicted, "predictions")
        if (difficulty is not None) != self.normalised:
            raise InputError(
                "these intervals were learned with difficulties; give those of the predictions, too"
                if self.normalised
                else "these intervals were learned without difficulties; leave them out, or learn with them"
            )
        scale = np.ones_like(centre) if difficulty is None else check_numbers(difficulty, "difficulties", centre.shape)
        known = np.isfinite(centre)
        bound = centre.copy()
        bound[known] += error * _positive(scale[known])
        return bound


def samples_needed(probability: float) -> int:
    """Return how many errors an interval, or a bound on one side, takes to be finite."""
    held = _probability(probability, "a probability")
    return math.ceil(held / (1 - held) - 1e-9)  # ceil((n + 1) c) <= n; what is subtracted is rounding error


def _ranks(samples: int) -> npt.NDArray[np.int64]:
    """Return the ranks, 1 to ``samples``, of the sorted errors that are kept, the first and the last among them."""
    return np.linspace(1, samples, min(samples, _MOST)).round().astype(np.int64)


def check_numbers(values: npt.ArrayLike, what: str, shape: tuple[int, ...] | None = None) -> Values:
    """Return numbers, one a network, as an array ``(n,)``.

    Raises:
        InputError: they are no numbers, no list, or not of the given shape.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"expected a list of numbers as {what}, got {type(values).__name__} ({error})") from None
    if array.ndim != 1 or (shape is not None and array.shape != shape):
        wanted = "(n,)" if shape is None else str(shape)
        raise InputError(f"expected {what} of shape {wanted}, one a network, got shape {array.shape}")
    return array


def _positive(difficulty: Values) -> Values:
    if not (np.isfinite(difficulty) & (difficulty > 0)).all():
        raise InputError("difficulties must be positive finite numbers; add a small constant to ones that can be zero")
    return difficulty


def _probability(value: float, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise InputError(f"{what} must be a number between 0 and 1, such as 0.9, not {value!r}")
    return float(value)
