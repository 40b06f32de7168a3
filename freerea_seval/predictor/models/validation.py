"""What all models share: their tags, checks of training values, standardisation, means over equal strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin

from freerea_patch import InputError
from freerea_seval.predictor.features.vectorizer import check_strings

Values = npt.NDArray[np.float64]

#: The smallest number of values of a metric that a model is fitted to.
FEWEST = 5
#: A predictor that is read takes at most this number of proxies beside a string.
MOST_PROXIES = 10_000
SCALINGS = ("standard", "minmax")
#: The square of a larger number, or of a difference smaller than its inverse, is not representable as a double.
_LARGEST = 1e150


class StringRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn regressor from network strings to one metric or several."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = True, False
        tags.target_tags.multi_output = True
        return tags


def read_count(proxies: Any) -> int:
    """Return the number of proxies that a saved predictor declares; raise ValueError if there are too many."""
    count = int(proxies)
    if not 0 <= count <= MOST_PROXIES:
        raise ValueError(f"{count} proxies, expected at most {MOST_PROXIES}")
    return count


def checked(strings: Sequence[str], y: npt.ArrayLike) -> Values:
    """Return the values of a training set, ``(n, m)``.

    Raises:
        InputError: too few samples, values and strings that differ in number, or infinite values.
    """
    values = as_values(strings, y)
    missing = np.isnan(values) if values.ndim == 2 else np.zeros(values.shape, dtype=bool)
    if bad := int((~np.isfinite(values) & ~missing).sum()):
        raise InputError(
            f"{bad} of {values.size} values are infinite, or NaN with a single metric; leave out networks without one"
        )
    if values.ndim == 1:
        values, missing = values[:, None], missing[:, None]
    check_enough(~missing, FEWEST)
    return values


def as_values(strings: Sequence[str], y: npt.ArrayLike) -> Values:
    """Return values as an array, ``(n,)`` or ``(n, m)``; raise :class:`InputError` unless there is one row a string."""
    try:
        values = np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"expected numbers as values, got {type(y).__name__} ({error})") from None
    count = len(check_strings(strings))
    if values.ndim not in (1, 2) or len(values) != count or 0 in values.shape[1:]:
        raise InputError(f"expected one row of values a string, got {count} strings and values of shape {values.shape}")
    return values


def check_enough(measured: npt.NDArray[np.bool_], least: int) -> None:
    """Raise :class:`InputError` unless each metric, a column of ``(n, m)``, has at least ``least`` measured values."""
    fewest = int(measured.sum(axis=0).min())
    if fewest < least:
        raise InputError(
            f"a predictor needs at least {least} values of each metric, got {fewest}; measure more networks"
        )


def check_range(values: Values) -> None:
    """Raise :class:`InputError` unless values ``(n, m)`` and their differences can be squared."""
    finite = np.where(np.isfinite(values), values, 0.0)
    rows, columns = np.nonzero(np.abs(finite) > _LARGEST)
    if len(rows):
        raise InputError(
            f"{len(rows)} values are beyond {_LARGEST:g}, the first, at index {rows[0]}, is"
            f" {finite[rows[0], columns[0]]:g}; give the metric in a larger unit"
        )
    for column in values.T:
        spread = float(np.ptp(column[np.isfinite(column)]))
        if 0 < spread < 1 / _LARGEST:
            raise InputError(
                f"values of a metric differ by {spread:g} at most, expected at least {1 / _LARGEST:g};"
                " give the metric in a smaller unit"
            )


def scales(values: Values, scaling: str) -> tuple[Values, Values]:
    """Return the centre and the scale of each metric, ``(m,)``; the scale of a constant metric is 1."""
    if scaling == "minmax":
        centre, scale = np.nanmin(values, axis=0), np.nanmax(values, axis=0) - np.nanmin(values, axis=0)
    else:
        centre, scale = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    differs = np.nanmax(values, axis=0) > np.nanmin(values, axis=0)
    return centre, np.where(differs, scale, 1.0)


def averaged(strings: Sequence[str], values: Values) -> tuple[list[str], Values]:
    """Return the different strings and the mean of the measured values of each; NaN where none was measured."""
    index = {string: i for i, string in enumerate(dict.fromkeys(strings))}
    groups = np.array([index[string] for string in strings])
    measured = ~np.isnan(values)
    sums, counts = np.zeros((2, len(index), values.shape[1]))
    np.add.at(sums, groups, np.where(measured, values, 0.0))
    np.add.at(counts, groups, measured)
    return list(index), np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
