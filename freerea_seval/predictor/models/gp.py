"""The model ``gp``: a Gaussian process on the features of strings, for tens to hundreds of networks.

References:
    Rasmussen 2006: Rasmussen, Williams, Gaussian Processes for Machine Learning (the numbers are its equations).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, solve_triangular
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from freerea_patch import InputError
from freerea_seval.predictor.features.proxies import ProxyColumns
from freerea_seval.predictor.features.vectorizer import StringFeatures, check_strings
from freerea_seval.predictor.models.kernel import Kernel, between, likeliest, slopes, squared
from freerea_seval.predictor.models.validation import Values, checked, scales

Indices = npt.NDArray[np.int64]

#: With more networks than this, time (their cube) and memory (their square) are better spent on another model.
MOST = 1500
#: Features that share a length scale, by the first word of their names; all others are one more block, of extremes
#: and means over paths, and proxies another.
_BLOCKS = (
    ("total", "cost", "count"),
    ("path",),
    ("walk", "next", "fan", "branching"),
    ("order",),
)
#: Standardised features end here, so that a network of another size is no stranger than the strangest that was seen.
_FARTHEST = 4.0
#: More networks change the kernel's parameters little and take long.
_LEARNED_FROM = 400
#: Networks predicted at a time.
_BATCH = 2048
_ARRAYS = "gp.safetensors"


@cache
def _libraries() -> Any:
    """The libraries whose threads decide the order of a sum; finding them takes longer than a prediction."""
    return ThreadpoolController().select(user_api="blas")


def _one_thread() -> AbstractContextManager[object]:
    limit: AbstractContextManager[object] = _libraries().limit(limits=1)
    return limit


class _Posterior(NamedTuple):
    """What predicts one metric, standardised.

    Attributes:
        parameters: ``(2 b + 2,)`` logarithms: amplitude, length scale a block, slope a block, noise variance.
        rows: which ``(k,)`` training networks it was measured of.
        weights: ``(k,)`` of them in the mean.
    """

    parameters: Values
    rows: Indices
    weights: Values


class GaussianProcessPredictor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn regressor from network strings to metrics: a Gaussian process for each of them.

    The features come in blocks (costs, paths, walks, order of execution, extremes over paths, proxies). The covariance
    of two networks is a Matérn function (of order 3/2) of their distance, with a length scale for each block, plus a
    linear function of each block, plus noise; all of these are those of the largest posterior density.

    Args:
        seed: draws the 400 networks that the kernel's parameters are learned from, where there are more.

    Attributes:
        features_: the fitted :class:`~freerea_seval.predictor.features.vectorizer.StringFeatures`.
        proxies_: the fitted :class:`~freerea_seval.predictor.features.proxies.ProxyColumns`, or None.
        blocks_: the columns of each block.
        points_: ``(n, d)`` standardised features and proxies of the training networks.
        posteriors_: parameters and weights, one a metric.
        mean_, scale_: ``(m,)`` what standardised the metrics.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(
        self, strings: Sequence[str], y: npt.ArrayLike, proxies: npt.ArrayLike | None = None
    ) -> GaussianProcessPredictor:
        """Learn metrics.

        Args:
            strings: ``(n,)`` network strings, at most 1,500.
            y: ``(n,)`` values of a metric, which may all be equal, or ``(n, m)`` of several; NaN among several is not
                known.
            proxies: ``(n, k)`` more that is known of every network, such as zero-cost proxies; NaN or infinite where
                it is not.

        Raises:
            InputError: fewer than five values of a metric, or not as many values or proxies as strings.
            InputError: more than 1,500 strings.
            InputError: a value is infinite or no number, or a string is no network string.
        """
        values = checked(strings, y)
        if len(strings) > MOST:
            raise InputError(
                f"a Gaussian process learns from at most {MOST} networks, got {len(strings)};"
                " train model 'boosted' or 'ensemble', or on fewer networks"
            )
        self.single_ = np.ndim(y) == 1
        self.points_ = self.learn_points(strings, proxies)
        self.mean_, self.scale_ = scales(values, "standard")
        parts = self._parts(self.points_)
        rng = np.random.default_rng(self.seed)
        self.posteriors_ = []
        with _one_thread():  # the order of a sum depends on the number of threads
            everything = Kernel(*between(parts, parts))
            for column in ((values - self.mean_) / self.scale_).T:
                rows = np.flatnonzero(~np.isnan(column))
                kernel = everything.among(rows)
                drawn = np.sort(rng.permutation(len(rows))[:_LEARNED_FROM])
                parameters = likeliest(kernel.among(drawn), column[rows[drawn]])
                factor = kernel.factor(parameters)
                self.posteriors_.append(_Posterior(parameters, rows, cho_solve((factor, True), column[rows])))
        return self

    def learn_points(self, strings: Sequence[str], proxies: npt.ArrayLike | None = None) -> Values:
        """Learn features and their scales alone, which :meth:`fit` begins with.

        Args:
            strings: ``(n,)`` network strings, at least one.
            proxies: ``(n, k)`` proxies of them.

        Returns:
            ``(n, d)`` standardised features and proxies: the kernel is one of distances and products of such points.

        Raises:
            InputError: a string is no network string, or there are not as many proxies as strings.
        """
        self.features_ = StringFeatures()
        columns = np.log1p(self.features_.fit_transform(strings).astype(np.float64))
        self.proxies_ = None if proxies is None else ProxyColumns().fit(proxies)
        self.blocks_ = self._blocks()
        columns = self._beside(columns, proxies)
        self._set_scales(columns)
        return self._points(columns)

    @overload
    def predict(
        self, strings: Sequence[str], proxies: npt.ArrayLike | None = None, return_std: Literal[False] = False
    ) -> Values: ...

    @overload
    def predict(
        self, strings: Sequence[str], proxies: npt.ArrayLike | None = None, *, return_std: Literal[True]
    ) -> tuple[Values, Values]: ...

    def predict(
        self, strings: Sequence[str], proxies: npt.ArrayLike | None = None, return_std: bool = False
    ) -> Values | tuple[Values, Values]:
        """Predict ``(n,)`` or ``(n, m)`` values, as there were in training.

        Args:
            strings: ``(n,)`` network strings.
            proxies: ``(n, k)`` proxies, if training had any.
            return_std: return the standard deviations of new measurements, noise included, as well.

        Raises:
            InputError: a string is no network string, or proxies are not there as in training.
            sklearn.exceptions.NotFittedError: before :meth:`fit`.
        """
        check_is_fitted(self, "posteriors_")
        found, spread = np.empty((2, len(check_strings(strings)), len(self.posteriors_)))
        if len(strings):
            columns = np.log1p(self.features_.matrix(strings).astype(np.float64))
            points = self._points(self._beside(columns, proxies))
            with _one_thread():
                for start in range(0, len(points), _BATCH):
                    part = slice(start, start + _BATCH)
                    found[part], spread[part] = self._ask(points[part], return_std)
        found, spread = found * self.scale_ + self.mean_, spread * self.scale_
        if self.single_:
            found, spread = found[:, 0], spread[:, 0]
        return (found, spread) if return_std else found

    def _ask(self, points: Values, return_std: bool) -> tuple[Values, Values]:
        """Return mean and standard deviation, ``(n, m)`` each and standardised; without ``return_std`` zeros for it."""
        found, spread = np.zeros((2, len(points), len(self.posteriors_)))
        parts = self._parts(points)
        kernels: dict[bytes, Kernel] = {}
        for place, (parameters, rows, weights) in enumerate(self.posteriors_):
            known, squares = self._known(rows)
            kernel = kernels.get(rows.tobytes())
            if kernel is None:
                kernel = kernels[rows.tobytes()] = Kernel(*between(parts, known, squares))
            across = kernel.covariance(parameters)
            found[:, place] = across @ weights  # 2.25
            if return_std:
                explained = solve_triangular(Kernel(*between(known, known)).factor(parameters), across.T, lower=True)
                own = np.exp(parameters[0]) + sum(
                    slope * (part**2).sum(axis=1) for slope, part in zip(slopes(parameters), parts, strict=True)
                )
                variance = own + np.exp(parameters[-1]) - (explained**2).sum(axis=0)  # 2.26
                spread[:, place] = np.sqrt(np.maximum(variance, 0.0))
        return found, spread

    def _beside(self, columns: Values, proxies: npt.ArrayLike | None) -> Values:
        """Put proxies behind the features."""
        if (proxies is None) != (self.proxies_ is None):
            expected = "no proxies" if self.proxies_ is None else f"{len(self.proxies_.mean_)} proxies a network"
            raise InputError(f"expected {expected}, as in training, got {'none' if proxies is None else 'some'}")
        if proxies is None or self.proxies_ is None:
            return columns
        more = self.proxies_.transform(proxies)
        if len(more) != len(columns):
            raise InputError(f"expected one row of proxies a string, got {len(columns)} strings and {len(more)} rows")
        return np.concatenate([columns, more], axis=1)

    def _set_scales(self, columns: Values) -> None:
        """Learn what makes columns points, ``(d,)``: a block counts as much whatever the number of its columns."""
        differs = np.ptp(columns, axis=0) > 0
        self.centre_, self.spread_ = columns.mean(axis=0), np.where(differs, columns.std(axis=0), 1.0)
        self.share_ = np.zeros(len(differs))
        for block in self.blocks_:
            self.share_[block] = differs[block] / np.sqrt(max(1, differs[block].sum()))

    def _points(self, columns: Values) -> Values:
        # For few networks np.clip takes three times as long.
        inside = np.minimum(np.maximum((columns - self.centre_) / self.spread_, -_FARTHEST), _FARTHEST)
        return np.asarray(inside * self.share_, dtype=np.float64)

    def _blocks(self) -> list[Indices]:
        """Return the columns of each block."""
        names = [name.split(" ")[0] for name in self.features_.get_feature_names_out()]
        number = [next((i for i, b in enumerate(_BLOCKS) if name in b), len(_BLOCKS)) for name in names]
        blocks = [np.flatnonzero(np.array(number) == i) for i in range(len(_BLOCKS) + 1)]
        if self.proxies_ is not None:
            blocks.append(len(names) + np.arange(len(self.proxies_.mean_)))
        return blocks

    def _parts(self, points: Values) -> list[Values]:
        return [points[:, block] for block in self.blocks_]

    def _known(self, rows: Indices) -> tuple[list[Values], list[Values]]:
        """Return the parts of the points of training networks, and their squares, which are remembered."""
        remembered: dict[bytes, tuple[list[Values], list[Values]]]
        points, remembered = getattr(self, "_remembered", (None, {}))
        if points is not self.points_:
            remembered = {}
            self._remembered = self.points_, remembered
        key = rows.tobytes()
        if key not in remembered:
            parts = self._parts(self.points_[rows])
            remembered[key] = parts, squared(parts)
        return remembered[key]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_remembered"}

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return what was learned: what JSON can hold, and files by name.

        Raises:
            sklearn.exceptions.NotFittedError: before :meth:`fit`.
        """
        check_is_fitted(self, "posteriors_")
        from safetensors.numpy import save

        said = {
            "vocabulary": self.features_.vocabulary_,
            "single": bool(self.single_),
            "proxies": None if self.proxies_ is None else self.proxies_.state(),
            "metrics": len(self.posteriors_),
        }
        arrays = {name: getattr(self, f"{name}_") for name in ("points", "centre", "spread", "share", "mean", "scale")}
        for place, posterior in enumerate(self.posteriors_):
            arrays |= {f"{place}.{name}": array for name, array in posterior._asdict().items()}
        return said, {_ARRAYS: save({name: np.ascontiguousarray(array) for name, array in arrays.items()})}

    def restore(self, state: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Take up what :meth:`state` returned.

        Raises:
            Exception: it does not fit together; safetensors has types of its own.
        """
        from safetensors.numpy import load

        arrays = load(files[_ARRAYS])
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError("a Gaussian process is of finite numbers")
        self.features_ = StringFeatures.of(state["vocabulary"])
        self.single_ = bool(state["single"])
        self.proxies_ = None if state["proxies"] is None else ProxyColumns.restore(state["proxies"])
        self.blocks_ = blocks = self._blocks()
        metrics, d = int(state["metrics"]), sum(map(len, blocks))
        self.points_, self.mean_, self.scale_ = (arrays[name] for name in ("points", "mean", "scale"))
        self.centre_, self.spread_, self.share_ = (arrays[name] for name in ("centre", "spread", "share"))
        shapes = [getattr(self, f"{name}_").shape for name in ("centre", "spread", "share", "mean", "scale")]
        n = len(self.points_)
        if [*shapes, self.points_.shape] != [(d,)] * 3 + [(metrics,)] * 2 + [(n, d)]:
            raise ValueError(f"expected {d} columns and {metrics} metrics")
        if self.single_ and metrics != 1:
            raise ValueError(f"values are of one metric, and there are {metrics}")
        self.posteriors_ = []
        for place in range(metrics):
            posterior = _Posterior(*(arrays[f"{place}.{name}"] for name in _Posterior._fields))
            parameters, rows, weights = posterior
            shapes = [parameters.shape, rows.shape, weights.shape]
            if (
                shapes != [(2 * len(blocks) + 2,), (len(rows),), (len(rows),)]
                or rows.dtype != np.int64
                or not set(rows) <= set(range(n))
            ):
                raise ValueError(f"metric {place}: its parameters, rows and weights do not fit together")
            self.posteriors_.append(posterior)
        self.predict(["input[1x1] output"], np.zeros((1, len(self.proxies_.mean_))) if self.proxies_ else None)
