"""The model ``ridge``: a ridge regression on the predictions of base predictors, for tens of networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import RidgeCV
from sklearn.utils.validation import check_is_fitted

from freerea_patch import InputError
from freerea_seval.predictor.models.target_transform import Scale, fit_scale
from freerea_seval.predictor.models.validation import StringRegressor, Values, checked

#: Ridge penalties, selected by leave-one-out error.
_PENALTIES = np.logspace(-3, 2, 11)


class RidgePredictor(StringRegressor):
    """A scikit-learn regressor from proxies and base predictions; it does not read the strings.

    Predictors of related metrics rank networks nearly right, but on the scale of another metric. Each column is
    therefore mapped to the normal quantiles of its ranks in training before the regression. Models that read strings
    make other errors; the mean with them is better than either.

    Args:
        seed: unused; part of the contract of all models.

    Attributes:
        columns_: the rank scale of each column.
        coefficients_: ``(m, k + 1)`` for each metric, the intercept last.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, strings: Sequence[str], y: npt.ArrayLike, proxies: npt.ArrayLike | None = None) -> RidgePredictor:
        """Learn metrics.

        Args:
            strings: ``(n,)`` network strings.
            y: ``(n,)`` values of a metric, or ``(n, m)`` of several; NaN among several is a missing value.
            proxies: ``(n, k)`` numbers of every network; one that is not finite counts as the lowest of its column.

        Raises:
            InputError: there are no proxies, fewer than five values of a metric, or values and strings that differ in
                number.
        """
        values = checked(strings, y)
        if proxies is None:
            raise InputError(
                "model 'ridge' does not read strings; give proxies or base predictors, or take another model"
            )
        self.single_ = np.ndim(y) == 1
        table = np.asarray(proxies, dtype=np.float64)
        # A column without a finite value is constant.
        columns = [column if np.isfinite(column).any() else np.zeros_like(column) for column in table.T]
        self.columns_ = [fit_scale("rank", column) for column in columns]
        points = self._points(table)
        self.coefficients_ = np.empty((values.shape[1], len(self.columns_) + 1))
        for row, column in zip(self.coefficients_, values.T, strict=True):
            measured = ~np.isnan(column)
            ridge = RidgeCV(_PENALTIES).fit(points[measured], column[measured])
            row[:] = [*ridge.coef_, ridge.intercept_]
        return self

    def predict(self, strings: Sequence[str], proxies: npt.ArrayLike | None = None) -> Values:
        """Predict ``(n,)`` or ``(n, m)`` values, shaped as in training.

        Raises:
            InputError: proxies differ in number from those of training.
            sklearn.exceptions.NotFittedError: before :meth:`fit`.
        """
        check_is_fitted(self, "coefficients_")
        table = np.asarray(np.empty((len(strings), 0)) if proxies is None else proxies, dtype=np.float64)
        if table.shape != (expected := (len(strings), len(self.columns_))):
            raise InputError(f"expected proxies of shape {expected}, got {table.shape}")
        # A sum over each row, unlike a matrix product, gives a row the same bits in any batch.
        points = self._points(table)
        values = np.stack([(points * row[:-1]).sum(axis=1) + row[-1] for row in self.coefficients_], axis=1)
        return values[:, 0] if self.single_ else values

    def _points(self, table: Values) -> Values:
        columns = [
            np.where(np.isfinite(column), scale.score(np.where(np.isfinite(column), column, 0.0)), scale.scores[0])
            for column, scale in zip(table.T, self.columns_, strict=True)
        ]
        return np.stack(columns, axis=1)

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return what was learned: values for JSON, and no files."""
        check_is_fitted(self, "coefficients_")
        columns = [scale.state() for scale in self.columns_]
        return {"single": self.single_, "columns": columns, "coefficients": self.coefficients_.tolist()}, {}

    def restore(self, state: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Take up what :meth:`state` returned; any exception means that the parts do not fit together."""
        self.single_ = bool(state["single"])
        self.columns_ = [Scale.restore(column) for column in state["columns"]]
        self.coefficients_ = np.array(state["coefficients"], dtype=np.float64)
        if self.coefficients_.ndim != 2 or self.coefficients_.shape[1] != len(self.columns_) + 1:
            raise ValueError(f"coefficients of shape {self.coefficients_.shape} for {len(self.columns_)} columns")
