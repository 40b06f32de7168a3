"""Gradient-boosted trees on string features, blended with a linear cost model; the registry names the variants.

Notation, for one metric and ``n`` different strings:
    x ``(n, d)``      features of strings, then proxies
    c ``(n, k)``      the cost features among them (operations, parameters, activations)
    t ``(n,)``        standardised values, their mean over networks with the same string
    w ``(n,)``        the number of these networks
    f(x)              the trees
    g(c) = a + c b    the linear cost model
    s                 the share of the trees; the prediction is ``s f(x) + (1 - s) g(c)``
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold
from sklearn.utils.validation import check_is_fitted

from freerea_patch import InputError
from freerea_seval.predictor.features.vectorizer import Matrix, StringFeatures, check_strings
from freerea_seval.predictor.models.validation import StringRegressor, checked, read_count
from freerea_seval.predictor.models.xgboost_io import load_trees

if TYPE_CHECKING:
    import xgboost

Values = npt.NDArray[np.float64]

#: Folds of the comparison between the trees and the linear cost model.
_FOLDS = 3
#: Below this number of different strings, trees are small.
_FEW = 500
#: From this number of different strings on, trees are large and the linear cost model is not used.
_MANY = 2000
#: Ridge penalties, selected by leave-one-out error.
_PENALTIES = np.logspace(-4, 2, 13)


class LinearCostModel(NamedTuple):
    """A linear function of the cost features: ``intercept + c @ coefficients``.

    Latency is nearly a sum of costs, which a linear model learns from few networks.
    """

    intercept: float
    coefficients: Values

    @classmethod
    def fit(cls, costs: Matrix, targets: Values, weights: Values) -> LinearCostModel:
        """Fit a ridge regression to ``(n, k)`` costs and ``(n,)`` targets."""
        if len(targets) < 2:  # leave-one-out needs two
            return cls(float(targets[0]), np.zeros(costs.shape[1]))
        x = costs.astype(np.float64)
        mean, scale = x.mean(axis=0), x.std(axis=0)
        # The factor sqrt(k) makes the same range of penalties suitable for any number of columns.
        scale = np.where(scale > 0, scale, 1.0) * np.sqrt(max(1, x.shape[1]))
        ridge = RidgeCV(_PENALTIES).fit((x - mean) / scale, targets, sample_weight=weights)
        coefficients = np.asarray(ridge.coef_ / scale, dtype=np.float64)
        return cls(float(ridge.intercept_ - mean @ coefficients), coefficients)

    def __call__(self, costs: Matrix) -> Values:
        """Map ``(n, k)`` to ``(n,)``."""
        # A sum over each row, unlike a matrix product, gives a row the same bits in any batch.
        return np.asarray((costs * self.coefficients).sum(axis=1) + self.intercept, dtype=np.float64)


class _Blend(NamedTuple):
    """The prediction of one metric: trees, linear cost model, share of the trees, and the metric's mean and scale."""

    trees: xgboost.Booster
    linear: LinearCostModel
    trees_share: float
    mean: float
    scale: float


class BoostedPredictor(StringRegressor):
    """A scikit-learn regressor from network strings to metrics.

    The share of the trees is the one with the least squared error out of fold; from 2,000 different strings on it is 1.

    Args:
        n_estimators: number of trees; None for 200 below 500 different strings, 400 below 2,000, and then 600 with
            ``order`` and 400 without.
        max_depth: depth of a tree; None for 3 below 500 different strings, 5 below 2,000, and then 9 with ``order`` and
            7 without.
        learning_rate: factor of a tree's contribution; None for 0.1 below 500 different strings, then 0.05.
        subsample: share of the samples that a tree sees.
        colsample_bynode: share of the features that a split chooses from.
        distinct: weigh each different string once, instead of by the number of its networks. The default suits new
            networks that are distributed like those of training.
        order: use the features of the order of execution as well, which some devices depend on.
        objective: XGBoost's loss.
        seed: fixes the subsamples and the folds.

    Attributes:
        features_: the fitted :class:`~freerea_seval.predictor.features.vectorizer.StringFeatures`.
        blends_: what predicts each metric.
    """

    def __init__(
        self,
        n_estimators: int | None = None,
        max_depth: int | None = None,
        learning_rate: float | None = None,
        subsample: float = 0.7,
        colsample_bynode: float = 0.3,
        distinct: bool = False,
        order: bool = False,
        objective: str = "reg:squarederror",
        seed: int = 0,
    ) -> None:
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.learning_rate = learning_rate
        self.subsample = subsample
        self.colsample_bynode = colsample_bynode
        self.distinct = distinct
        self.order = order
        self.objective = objective
        self.seed = seed

    def fit(self, strings: Sequence[str], y: npt.ArrayLike, proxies: npt.ArrayLike | None = None) -> BoostedPredictor:
        """Learn metrics.

        Args:
            strings: ``(n,)`` network strings.
            y: ``(n,)`` values of a metric, which may all be equal, or ``(n, m)`` of several; NaN among several is a
                missing value.
            proxies: ``(n, p)`` other numbers of every network, such as zero-cost proxies; NaN is a missing value.

        Raises:
            InputError: fewer than five samples, or values that do not match the strings in number.
            InputError: a value is infinite or not a number, or a string is not a network string.
            InputError: xgboost refuses a parameter.
        """
        values = checked(strings, y)
        self.single_ = np.ndim(y) == 1
        self.features_ = StringFeatures()
        matrix = self.features_.fit_transform(strings)
        self.proxies_ = 0 if proxies is None else np.shape(proxies)[-1]
        matrix = self._with_proxies(matrix, proxies)
        self.blends_ = [self._fit_metric(strings, matrix, column) for column in values.T]
        return self

    def _fit_metric(self, strings: Sequence[str], matrix: Matrix, values: Values) -> _Blend:
        measured = np.flatnonzero(~np.isnan(values))
        mean = float(values[measured].mean())
        scale = float(values[measured].std()) if np.ptp(values[measured]) > 0 else 1.0
        targets = (values[measured] - mean) / scale
        if not self.proxies_:
            # Equal strings have equal features: their mean with a weight gives the same fit in less time.
            _, first, group, counts = np.unique(
                np.array(strings, dtype=object)[measured].astype(str),
                return_index=True, return_inverse=True, return_counts=True,
            )  # fmt: skip
            # In the order of first occurrence, so that permuting equal strings changes nothing.
            targets = np.bincount(group, targets) / counts
            order = np.argsort(first)
            rows, targets, weights = measured[first[order]], targets[order], counts[order].astype(np.float64)
            if self.distinct:
                weights = np.ones(len(rows))
        else:
            rows, weights = measured, np.ones(len(measured))
        x = matrix[rows]
        costs = x[:, self.features_.costs_]
        share = 1.0 if len(x) >= _MANY else self._best_share(x, costs, targets, weights)
        linear = LinearCostModel.fit(costs, targets, weights)
        return _Blend(self._boost(x, targets, weights), linear, share, mean, scale)

    def predict(self, strings: Sequence[str], proxies: npt.ArrayLike | None = None) -> Values:
        """Predict ``(n,)`` or ``(n, m)`` values, shaped as in training.

        Raises:
            InputError: a string is not a network string, or the proxies differ in number from those of training.
            sklearn.exceptions.NotFittedError: before :meth:`fit`.
        """
        check_is_fitted(self, "blends_")
        if not len(check_strings(strings)):
            return np.empty(0 if self.single_ else (0, len(self.blends_)))
        matrix = self._with_proxies(self.features_.matrix(strings), proxies)
        costs = matrix[:, self.features_.costs_]
        columns = [
            (b.trees_share * self._ask(b.trees, matrix) + (1.0 - b.trees_share) * b.linear(costs)) * b.scale + b.mean
            for b in self.blends_
        ]
        return columns[0] if self.single_ else np.stack(columns, axis=1)

    def _with_proxies(self, matrix: Matrix, proxies: npt.ArrayLike | None) -> Matrix:
        """Append proxies as columns."""
        if (proxies is None) != (self.proxies_ == 0):
            raise InputError(f"expected {self.proxies_ or 'no'} proxies a network, as in training")
        if proxies is None:
            return matrix
        table = np.asarray(proxies, dtype=np.float32)
        if table.shape != (len(matrix), self.proxies_):
            raise InputError(f"expected proxies of shape {(len(matrix), self.proxies_)}, got {table.shape}")
        return np.concatenate([matrix, np.where(np.isfinite(table), table, np.nan)], axis=1)

    def _best_share(self, matrix: Matrix, costs: Matrix, targets: Values, weights: Values) -> float:
        """Return the share of the trees whose blend has the least squared error out of fold."""
        if len(targets) < 2 * _FOLDS:
            return 0.0
        trees, linear = np.empty_like(targets), np.empty_like(targets)
        for train, test in KFold(_FOLDS, shuffle=True, random_state=self.seed).split(matrix):
            trees[test] = self._ask(self._boost(matrix[train], targets[train], weights[train]), matrix[test])
            linear[test] = LinearCostModel.fit(costs[train], targets[train], weights[train])(costs[test])
        difference = trees - linear
        if not difference.any():
            return 0.0
        # Least squares of t on g + s (f - g), weighted.
        share = ((targets - linear) * weights) @ difference / ((difference * weights) @ difference)
        return float(np.clip(share, 0.0, 1.0))

    def _boost(self, matrix: Matrix, targets: Values, weights: Values) -> xgboost.Booster:
        import xgboost

        n = len(matrix)
        size = 0 if n < _FEW else 1 if n < _MANY else 2
        trees = (200, 400, 600 if self.order else 400)[size] if self.n_estimators is None else self.n_estimators
        settings = {
            "objective": self.objective,
            "tree_method": "hist",
            "base_score": 0.0,
            "nthread": 1,
            "seed": self.seed,
            "max_depth": (3, 5, 9 if self.order else 7)[size] if self.max_depth is None else self.max_depth,
            "learning_rate": (0.1, 0.05, 0.05)[size] if self.learning_rate is None else self.learning_rate,
            "min_child_weight": (1, 1, 3)[size],
            "subsample": self.subsample,
            "colsample_bynode": self.colsample_bynode,
        }
        try:
            data = xgboost.DMatrix(self._visible(matrix), targets, weight=weights, nthread=1)
            # As xgboost.train does, without its monitoring of every tree: a quarter of the time on few networks.
            booster = xgboost.Booster(settings, [data])
            for number in range(trees):
                booster.update(data, number)
            return booster[:]  # without what is kept for further training
        except (xgboost.core.XGBoostError, TypeError) as error:
            raise InputError(
                f"xgboost cannot train with {self} ({first_line(error)}); correct its parameters"
            ) from error

    def _ask(self, trees: xgboost.Booster, matrix: Matrix) -> Values:
        return np.asarray(trees.inplace_predict(self._visible(matrix)), dtype=np.float64)

    def _visible(self, matrix: Matrix) -> Matrix:
        """Return the columns that the trees see."""
        features = self.features_
        hidden = (features.place_,) if self.order else (features.order_, features.place_)
        return features.without(matrix, *hidden)

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return what was learned: values for JSON, and files by name."""
        check_is_fitted(self, "blends_")
        metrics = [
            {
                "intercept": blend.linear.intercept,
                "coefficients": blend.linear.coefficients.tolist(),
                "trees_share": blend.trees_share,
                "mean": blend.mean,
                "scale": blend.scale,
            }
            for blend in self.blends_
        ]
        content = {
            "vocabulary": self.features_.vocabulary_,
            "single": bool(self.single_),
            "proxies": self.proxies_,
            "order": bool(self.order),
            "metrics": metrics,
        }
        return content, {f"trees-{i}.json": bytes(b.trees.save_raw("json")) for i, b in enumerate(self.blends_)}

    def restore(self, state: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Take up what :meth:`state` returned.

        Raises:
            Exception: the parts do not fit together; xgboost has exceptions of its own.
        """
        self.features_ = StringFeatures.of(state["vocabulary"])
        self.single_, self.order = bool(state["single"]), bool(state["order"])
        self.proxies_ = read_count(state["proxies"])
        self.blends_ = []
        width = self.features_.costs_.stop - self.features_.costs_.start
        for number, metric in enumerate(state["metrics"]):
            linear = LinearCostModel(float(metric["intercept"]), np.array(metric["coefficients"], dtype=np.float64))
            if linear.coefficients.shape != (width,):
                raise ValueError(f"{linear.coefficients.size} coefficients of {width} costs")
            rest = (float(metric[name]) for name in ("trees_share", "mean", "scale"))
            self.blends_.append(_Blend(load_trees(files[f"trees-{number}.json"]), linear, *rest))
        self.predict(["input[1x1] output"], np.zeros((1, self.proxies_)) if self.proxies_ else None)


def first_line(error: Exception) -> str:
    """Return the beginning of the first line of an error's message, or the error's name if the message is empty."""
    return next((line[:200] for line in str(error).splitlines() if line), type(error).__name__)
