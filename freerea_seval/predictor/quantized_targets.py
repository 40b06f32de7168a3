"""Metrics that take few different values, such as those of a cycle-accurate simulator: predicted as one of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

#: A metric with at most one different value to so many networks is predicted as one of its values, if that is better.
_TO_A_LEVEL = 4


def levels_of(values: Values, unseen: Values) -> Values | None:
    """Return the values that a metric takes, if it takes few and predictions are better when rounded to them."""
    from scipy.stats import kendalltau

    known = np.isfinite(values)
    levels = np.unique(values[known])
    if len(levels) < 2 or len(levels) * _TO_A_LEVEL > known.sum():
        return None
    both = known & np.isfinite(unseen)
    rounded = levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, unseen[both])]
    if not len(rounded) or np.ptp(rounded) == 0:
        return None
    plain, level = (kendalltau(values[both], found, variant="b").statistic for found in (unseen[both], rounded))
    return levels if level > plain else None


def to_levels(values: Values, levels: Sequence[Values | None]) -> Values:
    """Return ``(n, m)`` values, rounded to the nearest level where a metric has levels."""
    found = values.copy()
    for place, steps in enumerate(levels):
        if steps is not None:
            finite = np.isfinite(found[:, place])
            found[finite, place] = steps[np.searchsorted((steps[1:] + steps[:-1]) / 2, found[finite, place])]
    return found
