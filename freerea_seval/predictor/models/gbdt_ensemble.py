"""The predictor: gradient-boosted trees on the features of network strings, beside a ridge regression on costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import KFold
from sklearn.utils.validation import check_is_fitted

from freerea_patch import InputError, unknown_name
from freerea_seval.predictor.features.vectorizer import Matrix, StringFeatures, check_strings
from freerea_seval.predictor.models.forests import KINDS, Forest, Growth, ask, grow, growth_again, growth_of, select
from freerea_seval.predictor.models.linear_cost_model import Line, draw_line
from freerea_seval.predictor.models.validation import averaged, checked
from freerea_seval.predictor.models.xgboost_io import load_trees

Values = npt.NDArray[np.float64]

#: Folds of the comparison between the trees and the line.
_FOLDS = 3
#: From so many different strings on, trees do without the line.
_MANY = 2000
#: So many networks are enough to choose among forests by; choices by hundreds are worse than none.
_ENOUGH = 1000


class _Mixture(NamedTuple):
    """What predicts one metric, standardised: trees on all features, and a line on costs."""

    forests: tuple[Forest, ...]
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
        order: the mean of five forests, of which four see the order of execution; see
            :data:`~freerea_seval.predictor.models.forests.KINDS`.
        growth: which of these forests each metric has, how many trees each has and how often it counts; see
            :meth:`prune`. None: all forests, ``n_estimators`` trees.
        seed: fixes the two shares and the folds.

    Attributes:
        features_: the fitted :class:`~freerea_seval.predictor.features.vectorizer.StringFeatures`.
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
        growth: Sequence[Growth] | None = None,
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
        growth = [None] * values.shape[1] if self.growth is None else list(self.growth)
        if len(growth) != values.shape[1]:
            raise InputError(f"growth is of {len(growth)} metrics, and there are {values.shape[1]}")
        for kind in [kind for its in self.growth or () for kind in its or ("none",)]:
            if kind not in KINDS:
                raise unknown_name("forest", kind, KINDS)
        self.mixtures_ = [
            self._fit_metric(strings, matrix, column, its) for column, its in zip(values.T, growth, strict=True)
        ]
        return self

    def _fit_metric(self, strings: Sequence[str], matrix: Matrix, values: Values, growth: Growth | None) -> _Mixture:
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
        share = 1.0 if len(x) >= _MANY else self._best_share(x, costs, targets, weights, growth)
        return _Mixture(self._grow(x, targets, weights, growth), draw_line(costs, targets, weights), share, mean, scale)

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
            (m.trees_share * ask(m.forests, matrix, self.features_.order_) + (1.0 - m.trees_share) * m.line(costs))
            * m.scale
            + m.mean
            for m in self.mixtures_
        ]
        return found[0] if self.single_ else np.stack(found, axis=1)

    def prune(self, strings: Sequence[str], y: npt.ArrayLike, proxies: npt.ArrayLike | None = None) -> list[Growth]:
        """Cut each metric's forests back to what orders networks best that were left out of training.

        All forests stay where fewer than a thousand networks of a metric were left out, too few for a choice. With
        ``distinct``, each different string is one network.

        Args:
            strings, y, proxies: as in :meth:`fit`, of the networks that were left out.

        Returns:
            The ``growth`` to train on all networks with.
        """
        from scipy.stats import kendalltau

        values = checked(strings, y)
        if self.distinct and proxies is None:
            strings, values = averaged(strings, values)
        matrix = self._beside(self.features_.matrix(strings), proxies)
        costs = matrix[:, self.features_.costs_]
        for place, (mixture, column) in enumerate(zip(self.mixtures_, values.T, strict=True)):
            known = ~np.isnan(column)
            line = (1.0 - mixture.trees_share) * mixture.line(costs[known])

            def score(
                found: Values, share: float = mixture.trees_share, line: Values = line, told: Values = column[known]
            ) -> float:
                return float(np.nan_to_num(kendalltau(told, share * found + line).statistic))  # NaN: all are equal

            among = int(known.sum()) >= _ENOUGH
            forests = select(mixture.forests, matrix[known], self.features_.order_, score, among=among)
            self.mixtures_[place] = mixture._replace(forests=forests)
        return [growth_again(mixture.forests) for mixture in self.mixtures_]

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
        self, matrix: Matrix, costs: Matrix, targets: Values, weights: Values, growth: Growth | None
    ) -> float:
        """Return the share of the trees whose mixture has the least squared error out of fold."""
        grown = np.empty_like(targets)
        line = np.empty_like(targets)
        if len(targets) < 2 * _FOLDS:
            return 0.0
        for kept, left in KFold(_FOLDS, shuffle=True, random_state=self.seed).split(matrix):
            growing = self._grow(matrix[kept], targets[kept], weights[kept], growth)
            grown[left] = ask(growing, matrix[left], self.features_.order_)
            line[left] = draw_line(costs[kept], targets[kept], weights[kept])(costs[left])
        apart = grown - line
        if not apart.any():
            return 0.0
        return float(np.clip(((targets - line) * weights) @ apart / ((apart * weights) @ apart), 0.0, 1.0))

    def _grow(self, matrix: Matrix, targets: Values, weights: Values, growth: Growth | None) -> tuple[Forest, ...]:
        import xgboost

        if growth is None:
            growth = growth_of(tuple(KINDS) if self.order else ("plain",), self.n_estimators, len(matrix))
        settings = {
            "seed": self.seed,
            "max_depth": self.max_depth,
            "learning_rate": self.learning_rate,
            "subsample": self.subsample,
            "colsample_bynode": self.colsample_bynode,
        }
        try:
            return grow(matrix, self.features_.order_, targets, weights, growth, settings)
        except (xgboost.core.XGBoostError, TypeError) as error:
            raise InputError(f"xgboost cannot train with {self} ({first_line(error)}); mend its parameters") from error

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return what was learned: what JSON can hold, and files."""
        check_is_fitted(self, "mixtures_")
        metrics = [
            {
                "intercept": m.line.intercept,
                "coefficients": m.line.coefficients.tolist(),
                "forests": [[forest.kind, forest.times] for forest in m.forests],
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
            f"trees-{i}-{forest.kind}.json": bytes(forest.trees.save_raw("json"))
            for i, mixture in enumerate(self.mixtures_)
            for forest in mixture.forests
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
            forests = tuple(
                Forest(kind, load_trees(files[f"trees-{place}-{kind}.json"]), int(times))
                for kind, times in metric["forests"]
            )
            if not forests or not all(f.kind in KINDS and f.times > 0 for f in forests):
                raise ValueError(f"forests {metric['forests']}")
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
