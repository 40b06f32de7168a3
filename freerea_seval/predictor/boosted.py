"""The predictor: gradient-boosted trees on the features of network strings, beside a ridge regression on costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold
from sklearn.utils.validation import check_is_fitted

from freerea_patch import InputError
from freerea_seval.predictor.features import Matrix, StringFeatures, check_strings

if TYPE_CHECKING:
    import xgboost

Values = npt.NDArray[np.float64]

#: Fewer samples than this teach nothing.
FEWEST = 5
#: Strengths of the ridge penalty to choose from, by leave-one-out error.
_PENALTIES = np.logspace(-4, 2, 13)
#: Folds of the comparison between the trees and the line.
_FOLDS = 3


class Line(NamedTuple):
    """A linear function of the cost features: ``intercept + x @ coefficients``."""

    intercept: float
    coefficients: Values

    def __call__(self, costs: Matrix) -> Values:
        """Map ``(n, c)`` to ``(n,)``."""
        # A sum row by row, unlike a matrix product, gives a row the same bits whatever rows come with it.
        return np.asarray((costs * self.coefficients).sum(axis=1) + self.intercept, dtype=np.float64)


class BoostedPredictor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn regressor from network strings to a metric.

    Two models see the standardised values: boosted trees on all features, and a ridge regression on the cost
    features. Latency is nearly a sum of costs, which a line learns from few samples; accuracy is not. The
    prediction is their weighted mean; the weight of the trees is the one that fits best out of fold.

    Args:
        n_estimators: number of trees.
        max_depth: depth of a tree.
        learning_rate: factor of a tree's contribution.
        subsample: share of the samples that a tree sees.
        colsample_bynode: share of the features that a split chooses from.
        seed: fixes the two shares and the folds.

    Attributes:
        features_: the fitted :class:`~freerea_seval.predictor.features.StringFeatures`.
        booster_: the trees, an ``xgboost.Booster``.
        line_: the ridge regression, folded into one :class:`Line`.
        trees_share_: weight of the trees in the mean, 0 to 1.
        mean_, scale_: what standardised the values.
    """

    def __init__(
        self,
        n_estimators: int = 300,
        max_depth: int = 3,
        learning_rate: float = 0.05,
        subsample: float = 0.8,
        colsample_bynode: float = 0.3,
        seed: int = 0,
    ) -> None:
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.learning_rate = learning_rate
        self.subsample = subsample
        self.colsample_bynode = colsample_bynode
        self.seed = seed

    def fit(self, strings: Sequence[str], y: npt.ArrayLike) -> BoostedPredictor:
        """Learn a metric.

        Args:
            strings: ``(n,)`` network strings.
            y: ``(n,)`` values of the metric in its own unit; they may all be equal.

        Raises:
            InputError: fewer than five samples, or as many values as strings are not there.
            InputError: a value is NaN, infinite or no number, or a string is no network string.
            InputError: xgboost refuses a parameter.
        """
        values = check_values(strings, y)
        self.features_ = StringFeatures()
        matrix = self.features_.fit_transform(strings)
        self.mean_ = float(values.mean())
        self.scale_ = float(values.std()) if np.ptp(values) > 0 else 1.0
        targets = (values - self.mean_) / self.scale_
        self.trees_share_ = self._best_share(matrix, targets)
        self.booster_ = self._grow(matrix, targets)
        self.line_ = _draw(matrix[:, self.features_.costs_], targets)
        return self

    def predict(self, strings: Sequence[str]) -> Values:
        """Predict the metric of ``(n,)`` network strings: ``(n,)`` in the metric's unit.

        Raises:
            InputError: a string is no network string.
            sklearn.exceptions.NotFittedError: before :meth:`fit`.
        """
        check_is_fitted(self, "booster_")
        if not len(check_strings(strings)):
            return np.empty(0)
        matrix = self.features_.transform(strings)
        mean = _mix(self.trees_share_, _ask(self.booster_, matrix), self.line_(matrix[:, self.features_.costs_]))
        return mean * self.scale_ + self.mean_

    def _best_share(self, matrix: Matrix, targets: Values) -> float:
        """Return the share of the trees whose mixture has the least squared error out of fold."""
        trees = np.empty_like(targets)
        line = np.empty_like(targets)
        for kept, left in KFold(_FOLDS, shuffle=True, random_state=self.seed).split(matrix):
            trees[left] = _ask(self._grow(matrix[kept], targets[kept]), matrix[left])
            line[left] = _draw(matrix[kept, self.features_.costs_], targets[kept])(matrix[left, self.features_.costs_])
        apart = trees - line
        if not apart.any():
            return 0.0
        return float(np.clip((targets - line) @ apart / (apart @ apart), 0.0, 1.0))

    def _grow(self, matrix: Matrix, targets: Values) -> xgboost.Booster:
        import xgboost

        parameters = {
            "objective": "reg:squarederror",
            "tree_method": "hist",
            "base_score": 0.0,
            "nthread": 1,
            "seed": self.seed,
            "max_depth": self.max_depth,
            "learning_rate": self.learning_rate,
            "subsample": self.subsample,
            "colsample_bynode": self.colsample_bynode,
        }
        try:
            return xgboost.train(parameters, xgboost.DMatrix(matrix, targets, nthread=1), self.n_estimators)
        except (xgboost.core.XGBoostError, TypeError) as error:
            raise InputError(f"xgboost cannot train with {self} ({first_line(error)}); mend its parameters") from error


def check_values(strings: Sequence[str], y: npt.ArrayLike, fewest: int = FEWEST) -> Values:
    """Return the values of a training set as an array, ``(n,)``.

    Raises:
        InputError: too few samples, as many values as strings are not there, or values that are not finite.
    """
    try:
        values = np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"expected a list of numbers as values, got {type(y).__name__} ({error})") from None
    if values.shape != (len(check_strings(strings)),):
        raise InputError(f"expected one value a string, got {len(strings)} strings and values of shape {values.shape}")
    if len(values) < fewest:
        raise InputError(f"a predictor needs at least {fewest} samples, got {len(values)}; measure more networks")
    if not np.isfinite(values).all():
        bad = np.flatnonzero(~np.isfinite(values))
        raise InputError(
            f"{len(bad)} of {len(values)} values are NaN or infinite, the first at index {bad[0]};"
            " leave out networks without a value"
        )
    return values


def _draw(costs: Matrix, targets: Values) -> Line:
    """Fit the ridge regression on standardised costs, and fold their scales into the coefficients."""
    x = costs.astype(np.float64)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    # The last factor makes one range of penalties fit any number of columns.
    scale = np.where(scale > 0, scale, 1.0) * np.sqrt(max(1, x.shape[1]))
    ridge = RidgeCV(_PENALTIES).fit((x - mean) / scale, targets)
    coefficients = np.asarray(ridge.coef_ / scale, dtype=np.float64)
    return Line(float(ridge.intercept_ - mean @ coefficients), coefficients)


def _ask(booster: xgboost.Booster, matrix: Matrix) -> Values:
    return np.asarray(booster.inplace_predict(matrix), dtype=np.float64)


def _mix(share: float, trees: Values, line: Values) -> Values:
    return share * trees + (1.0 - share) * line


def first_line(error: Exception) -> str:
    """Return what an error says in its first line, or its name if it says nothing."""
    return next((line for line in str(error).splitlines() if line), type(error).__name__)
