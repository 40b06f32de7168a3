"""Metrics with few different values, such as those of a cycle-accurate simulator: predictions are rounded to them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from freerea_seval.predictor.scores import kendall_tau

Values = npt.NDArray[np.float64]

#: A metric is rounded only if it has at least this many networks for each of its different values.
_NETWORKS_A_LEVEL = 4


def find_levels(values: Values, unseen: Values) -> Values | None:
    """Return the different values of a metric, ascending, if rounding to them improves its out-of-fold predictions.

    Args:
        values: ``(n,)`` measured values, NaN where there is none.
        unseen: ``(n,)`` out-of-fold predictions, NaN where there is none.

    Returns:
        ``(k,)`` levels, or None if there are too many or rounding does not improve Kendall's tau-b.
    """
    measured = np.isfinite(values)
    levels = np.unique(values[measured])
    if len(levels) < 2 or len(levels) * _NETWORKS_A_LEVEL > measured.sum():
        return None
    both = measured & np.isfinite(unseen)
    rounded = _nearest(unseen[both], levels)
    if not len(rounded) or np.ptp(rounded) == 0:
        return None
    return levels if kendall_tau(values[both], rounded) > kendall_tau(values[both], unseen[both]) else None


def round_to_levels(values: Values, levels: Sequence[Values | None]) -> Values:
    """Return ``(n, m)`` values, rounded to the nearest level in each column that has levels."""
    rounded = values.copy()
    for column, steps in enumerate(levels):
        if steps is not None:
            finite = np.isfinite(values[:, column])
            rounded[finite, column] = _nearest(values[finite, column], steps)
    return rounded


def _nearest(values: Values, levels: Values) -> Values:
    nearest: Values = levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, values)]
    return nearest
