"""A ridge regression on what networks cost: latency is nearly a sum of costs, which it learns from few networks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import RidgeCV

from freerea_seval.predictor.features.vectorizer import Matrix

Values = npt.NDArray[np.float64]

#: Strengths of the penalty to choose from, by leave-one-out error.
_PENALTIES = np.logspace(-4, 2, 13)


class Line(NamedTuple):
    """A linear function of the cost features: ``intercept + x @ coefficients``."""

    intercept: float
    coefficients: Values

    def __call__(self, costs: Matrix) -> Values:
        """Map ``(n, c)`` to ``(n,)``."""
        # A sum row by row, unlike a matrix product, gives a row the same bits whatever rows come with it.
        return np.asarray((costs * self.coefficients).sum(axis=1) + self.intercept, dtype=np.float64)


def draw_line(costs: Matrix, targets: Values, weights: Values) -> Line:
    """Fit a line to ``(n, c)`` costs and ``(n,)`` targets; the scales of the costs are folded into its coefficients."""
    if len(targets) < 2:  # nothing to leave out
        return Line(float(targets[0]), np.zeros(costs.shape[1]))
    x = costs.astype(np.float64)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    # The last factor makes one range of penalties fit any number of columns.
    scale = np.where(scale > 0, scale, 1.0) * np.sqrt(max(1, x.shape[1]))
    ridge = RidgeCV(_PENALTIES).fit((x - mean) / scale, targets, sample_weight=weights)
    coefficients = np.asarray(ridge.coef_ / scale, dtype=np.float64)
    return Line(float(ridge.intercept_ - mean @ coefficients), coefficients)
