"""The predictor: gradient-boosted trees on the features of network strings, beside a ridge regression on costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import KFold
from sklearn.utils.validation import check_is_fitted

from freerea_patch import InputError
from freerea_seval.predictor.features.matrix import Matrix, StringFeatures, check_strings
from freerea_seval.predictor.models.line import Line, draw_line
from freerea_seval.predictor.models.samples import checked
from freerea_seval.predictor.models.trees import load_trees

if TYPE_CHECKING:
    import xgboost

Values = npt.NDArray[np.float64]

#: Folds of the comparison between the trees and the line.
_FOLDS = 3
#: Fewer different strings get small trees.
_FEW = 500
#: From so many different strings on, trees do without the line.
_MANY = 2000
_FORESTS = 3
#: Numbers of trees that pruning tries: noisy metrics want fewer than others.
_PRUNED = (100, 150, 200, 300, 400, 500)


class _Mixture(NamedTuple):
    """What predicts one metric, standardised: trees on all features, and a line on costs."""

    forests: tuple[xgboost.Booster, ...]
    line: Line
    trees_share: float
    mean: float
    scale: float


class BoostedPredictor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn regressor from network strings to metrics.

    Two models see the standardised values of a metric: boosted trees on all features, and a ridge regression on the
    cost features. Latency is nearly a sum of costs, which a line learns from few samples; accuracy is not. The
    prediction is their weighted mean; the weight of the trees is the one that fits best out of fold. From two
    thousand different strings on, trees need no line.

    Args:
        n_estimators: number of trees; None for 200 with few samples, 400 from 500 different strings on.
        max_depth: depth of a tree; None for 3 with few samples, 5 from 500 different strings on, 7 from 2,000.
        learning_rate: factor of a tree's contribution; None for 0.1 with few samples, 0.05 with more.
        subsample: share of the samples that a tree sees.
        colsample_bynode: share of the features that a split chooses from.
        distinct: equal strings weigh as one, however many networks have them. Without this they weigh as many as they
            are, which is right for predicting networks like those of training.
        order: two more forests, of which one sees the order of execution beside all else, and one that order alone.
        growth: how many of these forests each metric has, and how many trees each of them; see :meth:`prune`. None:
            all forests, ``n_estimators`` trees.
        seed: fixes the two shares and the folds.

    Attributes:
        features_: the fitted :class:`~freerea_seval.predictor.features.matrix.StringFeatures`.
        mixtures_: trees, line and their shares, one a metric.
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
        growth: Sequence[tuple[int, int]] | None = None,
        seed: int = 0,
    ) -> None:
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.learning_rate = learning_rate
        self.subsample = subsample
        self.colsample_bynode = colsample_bynode
        self.distinct = distinct
        self.order = order
        self.growth = growth
        self.seed = seed

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = True, False
        tags.target_tags.multi_output = True
        return tags

    def fit(self, strings: Sequence[str], y: npt.ArrayLike, proxies: npt.ArrayLike | None = None) -> BoostedPredictor:
        """Learn metrics.

        Args:
            strings: ``(n,)`` network strings.
            y: ``(n,)`` values of a metric, which may all be equal, or ``(n, m)`` of several; NaN among several is not
                known.
            proxies: ``(n, k)`` more that is known of every network, such as zero-cost proxies; NaN where it is not.

        Raises:
            InputError: fewer than five samples, or as many values as strings are not there.
            InputError: a value is infinite or no number, or a string is no network string.
            InputError: xgboost refuses a parameter.
        """
        values = checked(strings, y)
        self.single_ = np.ndim(y) == 1
        self.features_ = StringFeatures()
        matrix = self.features_.fit_transform(strings)
        self.proxies_ = 0 if proxies is None else np.shape(proxies)[-1]
        matrix = self._beside(matrix, proxies)
        everything = (_FORESTS if self.order else 1, self.n_estimators)
        growth = [everything] * values.shape[1] if self.growth is None else list(self.growth)
        if len(growth) != values.shape[1]:
            raise InputError(f"growth is of {len(growth)} metrics, and there are {values.shape[1]}")
        self.mixtures_ = [
            self._fit_metric(strings, matrix, column, *its) for column, its in zip(values.T, growth, strict=True)
        ]
        return self

    def _fit_metric(
        self, strings: Sequence[str], matrix: Matrix, values: Values, forests: int, trees: int | None
    ) -> _Mixture:
        known = np.flatnonzero(~np.isnan(values))
        mean = float(values[known].mean())
        scale = float(values[known].std()) if np.ptp(values[known]) > 0 else 1.0
        targets = (values[known] - mean) / scale
        if not self.proxies_:
            # Equal strings have equal features: their mean, with a weight, teaches the same in less time.
            _, first, group, counts = np.unique(
                np.array(strings, dtype=object)[known].astype(str),
                return_index=True, return_inverse=True, return_counts=True,
            )  # fmt: skip
            # In the order of the samples, so that a permutation of equal strings does not matter.
            targets = np.bincount(group, targets) / counts
            order = np.argsort(first)
            rows, targets, weights = known[first[order]], targets[order], counts[order].astype(np.float64)
            if self.distinct:
                weights = np.ones(len(rows))
        else:
            rows, weights = known, np.ones(len(known))
        x = matrix[rows]
        costs = x[:, self.features_.costs_]
        share = 1.0 if len(x) >= _MANY else self._best_share(x, costs, targets, weights, forests, trees)
        grown = self._grow(x, targets, weights, forests, trees)
        return _Mixture(grown, draw_line(costs, targets, weights), share, mean, scale)

    def predict(self, strings: Sequence[str], proxies: npt.ArrayLike | None = None) -> Values:
        """Predict ``(n,)`` or ``(n, m)`` values, as there were in training.

        Raises:
            InputError: a string is no network string, or proxies are not there as in training.
            sklearn.exceptions.NotFittedError: before :meth:`fit`.
        """
        check_is_fitted(self, "mixtures_")
        if not len(check_strings(strings)):
            return np.empty(0 if self.single_ else (0, len(self.mixtures_)))
        matrix = self._beside(self.features_.matrix(strings), proxies)
        costs = matrix[:, self.features_.costs_]
        found = [
            (m.trees_share * self._ask(m.forests, matrix) + (1.0 - m.trees_share) * m.line(costs)) * m.scale + m.mean
            for m in self.mixtures_
        ]
        return found[0] if self.single_ else np.stack(found, axis=1)

    def prune(
        self, strings: Sequence[str], y: npt.ArrayLike, proxies: npt.ArrayLike | None = None
    ) -> list[tuple[int, int]]:
        """Cut each metric's forests back to what orders networks best that were left out of training.

        Args:
            strings, y, proxies: as in :meth:`fit`, of the networks that were left out.

        Returns:
            The ``growth`` to train on all networks with.
        """
        from scipy.stats import kendalltau

        values = checked(strings, y)
        matrix = self._beside(self.features_.matrix(strings), proxies)
        costs = matrix[:, self.features_.costs_]
        growth = []
        for place, (mixture, column) in enumerate(zip(self.mixtures_, values.T, strict=True)):
            known = ~np.isnan(column)
            trees = mixture.forests[0].num_boosted_rounds()
            line = (1.0 - mixture.trees_share) * mixture.line(costs[known])
            parts = self._parts(matrix[known], len(mixture.forests))
            sums, grown = np.zeros((len(parts), int(known.sum()))), 0
            best, kept = -np.inf, (len(parts), trees)
            for count in [*(count for count in _PRUNED if count < trees), trees]:
                for total, forest, part in zip(sums, mixture.forests, parts, strict=True):
                    total += forest.inplace_predict(part, iteration_range=(grown, count))
                grown = count
                for forests in range(1, len(parts) + 1):
                    found = mixture.trees_share * sums[:forests].mean(axis=0) + line
                    tau = kendalltau(column[known], found).statistic
                    if tau > best:
                        best, kept = tau, (forests, count)
            growth.append(kept)
            pruned = tuple(forest[: kept[1]] for forest in mixture.forests[: kept[0]])
            self.mixtures_[place] = mixture._replace(forests=pruned)
        return growth

    def _beside(self, matrix: Matrix, proxies: npt.ArrayLike | None) -> Matrix:
        """Put proxies behind the features."""
        if (proxies is None) != (self.proxies_ == 0):
            raise InputError(f"expected {self.proxies_ or 'no'} proxies a network, as in training")
        if proxies is None:
            return matrix
        more = np.asarray(proxies, dtype=np.float32)
        if more.shape != (len(matrix), self.proxies_):
            raise InputError(f"expected proxies of shape {(len(matrix), self.proxies_)}, got {more.shape}")
        return np.concatenate([matrix, np.where(np.isfinite(more), more, np.nan)], axis=1)

    def _best_share(
        self, matrix: Matrix, costs: Matrix, targets: Values, weights: Values, forests: int, trees: int | None
    ) -> float:
        """Return the share of the trees whose mixture has the least squared error out of fold."""
        grown = np.empty_like(targets)
        line = np.empty_like(targets)
        if len(targets) < 2 * _FOLDS:
            return 0.0
        for kept, left in KFold(_FOLDS, shuffle=True, random_state=self.seed).split(matrix):
            growing = self._grow(matrix[kept], targets[kept], weights[kept], forests, trees)
            grown[left] = self._ask(growing, matrix[left])
            line[left] = draw_line(costs[kept], targets[kept], weights[kept])(costs[left])
        apart = grown - line
        if not apart.any():
            return 0.0
        return float(np.clip(((targets - line) * weights) @ apart / ((apart * weights) @ apart), 0.0, 1.0))

    def _grow(
        self, matrix: Matrix, targets: Values, weights: Values, forests: int, trees: int | None
    ) -> tuple[xgboost.Booster, ...]:
        import xgboost

        count = len(matrix)
        depth, usual, rate = (3, 200, 0.1) if count < _FEW else (5 if count < _MANY else 7, 400, 0.05)
        parameters = {
            "objective": "reg:squarederror",
            "tree_method": "hist",
            "base_score": 0.0,
            "nthread": 1,
            "seed": self.seed,
            "max_depth": depth if self.max_depth is None else self.max_depth,
            "min_child_weight": 1 if count < _MANY else 3,
            "learning_rate": rate if self.learning_rate is None else self.learning_rate,
            "subsample": self.subsample,
            "colsample_bynode": self.colsample_bynode,
        }
        try:
            rounds = usual if trees is None else trees
            return tuple(
                xgboost.train(parameters, xgboost.DMatrix(part, targets, weight=weights, nthread=1), rounds)
                for part in self._parts(matrix, forests)
            )
        except (xgboost.core.XGBoostError, TypeError) as error:
            raise InputError(f"xgboost cannot train with {self} ({first_line(error)}); mend its parameters") from error

    def _parts(self, matrix: Matrix, forests: int) -> list[Matrix]:
        """Return what the first forests see: all but the order of execution; all; and that order alone.

        Devices take more time for one order than for another. Forests that see different things err differently, so
        that their mean is better than each.
        """
        order = self.features_.order_
        without = np.concatenate([matrix[:, : order.start], matrix[:, order.stop :]], axis=1)
        if forests == 1 or order.start == order.stop:
            return [without]
        return [without, matrix, np.ascontiguousarray(matrix[:, order])][:forests]

    def _ask(self, forests: Sequence[xgboost.Booster], matrix: Matrix) -> Values:
        found = [f.inplace_predict(part) for f, part in zip(forests, self._parts(matrix, len(forests)), strict=True)]
        return np.asarray(found[0] if len(found) == 1 else np.mean(found, axis=0), dtype=np.float64)

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return what was learned: what JSON can hold, and files."""
        check_is_fitted(self, "mixtures_")
        metrics = [
            {
                "intercept": m.line.intercept,
                "coefficients": m.line.coefficients.tolist(),
                "forests": len(m.forests),
                "trees_share": m.trees_share,
                "mean": m.mean,
                "scale": m.scale,
            }
            for m in self.mixtures_
        ]
        said = {
            "vocabulary": self.features_.vocabulary_,
            "single": bool(self.single_),
            "proxies": self.proxies_,
            "metrics": metrics,
        }
        files = {
            f"trees-{i}-{j}.json": bytes(forest.save_raw("json"))
            for i, mixture in enumerate(self.mixtures_)
            for j, forest in enumerate(mixture.forests)
        }
        return said, files

    def restore(self, state: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Take up what :meth:`state` returned.

        Raises:
            Exception: it does not fit together; xgboost has types of its own.
        """
        self.features_ = StringFeatures.of(state["vocabulary"])
        self.single_, self.proxies_ = bool(state["single"]), int(state["proxies"])
        self.mixtures_ = []
        costs = self.features_.costs_
        for place, metric in enumerate(state["metrics"]):
            forests = tuple(load_trees(files[f"trees-{place}-{n}.json"]) for n in range(metric["forests"]))
            line = Line(float(metric["intercept"]), np.array(metric["coefficients"], dtype=np.float64))
            if line.coefficients.shape != (costs.stop - costs.start,):
                raise ValueError(f"{line.coefficients.size} coefficients of {costs.stop - costs.start} costs")
            self.mixtures_.append(
                _Mixture(forests, line, *(float(metric[name]) for name in ("trees_share", "mean", "scale")))
            )
        self.predict(["input[1x1] output"], np.zeros((1, self.proxies_)) if self.proxies_ else None)


def first_line(error: Exception) -> str:
    """Return what an error says in its first line, or its name if it says nothing."""
    return next((line for line in str(error).splitlines() if line), type(error).__name__)
