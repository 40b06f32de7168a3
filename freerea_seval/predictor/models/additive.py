"""The model ``additive``: a cost as a sum of what each operation adds, for tens to hundreds of networks.

A device that executes a network eagerly, operation by operation, takes about the sum of their times (look-up tables of
FBNet, Wu 2019). The cost of a network is ``w . x``, where ``x`` counts, for each kind of operation, how often it occurs
and its elements and multiply-adds. The weights are not negative and minimise the squared *relative* error, so that fast
networks count as much as slow ones.

References:
    Wu 2019: FBNet: Hardware-Aware Efficient ConvNet Design via Differentiable Neural Architecture Search.
    Lawson 1974: Lawson, Hanson, Solving Least Squares Problems, chapter 23.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from sklearn.utils.validation import check_is_fitted

from freerea_seval.predictor.features.vectorizer import StringFeatures
from freerea_seval.predictor.models.validation import StringRegressor, Values, checked


class AdditivePredictor(StringRegressor):
    """A scikit-learn regressor from network strings to metrics that are sums over operations.

    Args:
        seed: unused; part of the contract of all models.

    Attributes:
        features_: the fitted :class:`~freerea_seval.predictor.features.vectorizer.StringFeatures`.
        weights_: ``(m, k + 1)`` what each column of costs adds to a metric, the constant last.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, strings: Sequence[str], y: npt.ArrayLike) -> AdditivePredictor:
        """Learn metrics.

        Args:
            strings: ``(n,)`` network strings.
            y: ``(n,)`` values of a metric, or ``(n, m)`` of several; NaN among several is a missing value. Errors are
                relative to the values of a metric if all of them are positive.

        Raises:
            InputError: fewer than five values of a metric, values that differ from the strings in number, a value that
                is infinite or not a number, or a string that is not a network string.
        """
        values = checked(strings, y)
        self.single_ = np.ndim(y) == 1
        self.features_ = StringFeatures().fit(strings)
        costs = self._costs(strings)
        largest = np.maximum(costs.max(axis=0), 1.0)  # columns of one size: Lawson's algorithm has absolute tolerances
        self.weights_ = np.empty((values.shape[1], costs.shape[1]))
        for weights, column in zip(self.weights_, values.T, strict=True):
            measured = ~np.isnan(column)
            target = column[measured]
            relative = 1.0 / (target if (target > 0).all() else np.full_like(target, np.abs(target).max() or 1.0))
            solution, _ = nnls(costs[measured] / largest * relative[:, None], target * relative)
            weights[:] = solution / largest
        return self

    def predict(self, strings: Sequence[str]) -> Values:
        """Predict ``(n,)`` or ``(n, m)`` values, shaped as in training.

        Raises:
            InputError: a string is not a network string.
            sklearn.exceptions.NotFittedError: before :meth:`fit`.
        """
        check_is_fitted(self, "weights_")
        costs = self._costs(strings)
        # A sum over each row, unlike a matrix product, gives a row the same bits in any batch.
        values = np.stack([(costs * weights).sum(axis=1) for weights in self.weights_], axis=1)
        return values[:, 0] if self.single_ else values

    def _costs(self, strings: Sequence[str]) -> Values:
        """Return ``(n, k + 1)``: the columns of costs, and ones."""
        columns = self.features_.matrix(strings)[:, self.features_.costs_].astype(np.float64)
        return np.concatenate([columns, np.ones((len(columns), 1))], axis=1)

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return what was learned: values for JSON, and no files."""
        check_is_fitted(self, "weights_")
        return {
            "single": self.single_,
            "vocabulary": self.features_.vocabulary_,
            "weights": self.weights_.tolist(),
        }, {}

    def restore(self, state: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Take up what :meth:`state` returned; any exception means that the parts do not fit together."""
        self.single_ = bool(state["single"])
        self.features_ = StringFeatures.of(state["vocabulary"])
        self.weights_ = np.array(state["weights"], dtype=np.float64)
        columns = self.features_.costs_
        if self.weights_.ndim != 2 or self.weights_.shape[1] != columns.stop - columns.start + 1:
            raise ValueError(f"weights of shape {self.weights_.shape} do not fit the vocabulary")
        if not np.isfinite(self.weights_).all():
            raise ValueError("expected finite weights")
