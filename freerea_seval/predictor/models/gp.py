"""The model ``gp``: a Gaussian process on the features of strings, for tens to hundreds of networks.

Notation, for ``n`` training networks whose features come in blocks (costs, paths, walks, order of execution, places,
extremes, proxies):
    D_i, P_i     squared distances and inner products of networks in block i
    a, l_i, s_i  amplitude, and length scale and slope of each block
    v            variance of the noise
    k            covariance: ``a M(sum_i D_i / l_i^2) + sum_i s_i P_i`` with the Matern function M of order 3/2

The logarithms of a, l, s and v maximise the posterior density. Numbers in comments are equations of Rasmussen 2006.

Reference:
    Rasmussen 2006: Rasmussen, Williams, Gaussian Processes for Machine Learning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from freerea_patch import InputError
from freerea_seval.predictor.features.proxies import ProxyColumns, signed_logarithms
from freerea_seval.predictor.features.vectorizer import Matrix, StringFeatures, check_strings
from freerea_seval.predictor.models.validation import StringRegressor, Values, checked, scales

Indices = npt.NDArray[np.int64]

#: The largest training set: time grows with the cube of its size, memory with the square.
MOST = 2000
#: Blocks of features that share a length scale, by the first word of their names. All other features (extremes and
#: means over paths) are a further block, and so are proxies.
_BLOCKS = (
    ("total", "cost", "count"),
    ("path",),
    ("walk", "next", "fan", "branching"),
    ("order",),
    ("place",),
)
_PLACE = _BLOCKS.index(("place",))
#: Standardised features are clipped here, so that a network of another size is not arbitrarily far from all others.
FARTHEST = 4.0
#: Number of networks that the kernel's parameters are learned from; more change them little and take long.
_LEARNED_FROM = 400
#: Networks predicted at a time.
_BATCH = 2048
_ARRAYS = "gp.safetensors"


@cache
def _libraries() -> Any:
    """Return the BLAS libraries, whose threads decide the order of sums; finding them is slower than a prediction."""
    return ThreadpoolController().select(user_api="blas")


def one_thread() -> AbstractContextManager[object]:
    """Let BLAS use one thread: the order of a sum depends on their number."""
    limit: AbstractContextManager[object] = _libraries().limit(limits=1)
    return limit


#: Normal priors of the logarithms of the kernel's parameters: mean and standard deviation. A few tens of networks
#: hardly determine the parameters; without priors, the likelihood is often largest at their limits.
AMPLITUDE, LENGTH, SLOPE, NOISE = (0.0, 1.0), (0.7, 1.0), (-2.0, 1.5), (-2.0, 1.0)
LIMIT = 8.0
_STEPS = 60
#: Added to the diagonal, so that equal strings keep the covariance positive definite.
_JITTER = 1e-6


class Kernel(NamedTuple):
    """The covariance of networks as a function of its parameters.

    Attributes:
        distances: squared distances in each block, ``(n, k)``.
        products: inner products in each block, ``(n, k)``.
    """

    distances: list[Values]
    products: list[Values]

    def among(self, rows: Indices) -> Kernel:
        """Return the covariance of some of the networks with each other."""
        pairs = np.ix_(rows, rows)
        return Kernel([d[pairs] for d in self.distances], [p[pairs] for p in self.products])

    def covariance(self, parameters: Values) -> Values:
        """Return the covariance without noise, ``(n, k)``."""
        covariance, _ = self._matern(parameters)
        for slope, product in zip(slopes(parameters), self.products, strict=True):
            covariance += slope * product
        return covariance

    def factor(self, parameters: Values) -> Values:
        """Return the lower Cholesky factor of the covariance with noise, ``(n, n)``."""
        noisy = self.covariance(parameters)
        noisy[np.diag_indices_from(noisy)] += np.exp(parameters[-1]) + _JITTER
        return np.asarray(cholesky(noisy, lower=True, overwrite_a=True, check_finite=False), dtype=np.float64)

    def _matern(self, parameters: Values) -> tuple[Values, Values]:
        """Return the Matérn function (4.17), and its exponential factor, ``(n, k)`` each."""
        scaled = np.zeros_like(self.distances[0])
        for inverse, distance in zip(_inverses(parameters), self.distances, strict=True):
            scaled += 3.0 * inverse * distance
        distance = np.sqrt(scaled)
        decay = np.exp(parameters[0] - distance)
        return (1.0 + distance) * decay, decay

    def loss(self, parameters: Values, targets: Values) -> tuple[float, Values]:
        """Return the negative logarithm of the density of ``(n,)`` targets, and its gradient (2.30 and 5.9)."""
        try:
            factor = self.factor(parameters)
        except np.linalg.LinAlgError:
            return np.inf, np.zeros_like(parameters)
        weights = cho_solve((factor, True), targets, check_finite=False)
        value = 0.5 * targets @ weights + np.log(np.diag(factor)).sum()
        inverse = np.tril(dpotri(factor, lower=1)[0])
        inverse += np.tril(inverse, -1).T
        slack = 0.5 * (inverse - np.outer(weights, weights))
        matern, decay = self._matern(parameters)
        steep = 3.0 * slack * decay
        gradient = [
            np.vdot(slack, matern),
            *(i * np.vdot(steep, d) for i, d in zip(_inverses(parameters), self.distances, strict=True)),
            *(s * np.vdot(slack, p) for s, p in zip(slopes(parameters), self.products, strict=True)),
            np.exp(parameters[-1]) * np.trace(slack),
        ]
        return float(value), np.array(gradient)


def _inverses(parameters: Values) -> Values:
    """Return the squared inverse of the length scale of each block."""
    return np.asarray(np.exp(-2.0 * parameters[1 : len(parameters) // 2]), dtype=np.float64)


def slopes(parameters: Values) -> Values:
    """Return the variance of the linear function of each block."""
    return np.asarray(np.exp(parameters[len(parameters) // 2 : -1]), dtype=np.float64)


def between(
    left: Sequence[Values], right: Sequence[Values], squares: Sequence[Values] | None = None
) -> tuple[list[Values], list[Values]]:
    """Return the squared distances and the inner products of points, block by block.

    Args:
        left, right: points, ``(n, d)`` and ``(k, d)`` a block.
        squares: squared norms of the right points, if they are available.
    """
    products = [a @ b.T for a, b in zip(left, right, strict=True)]
    pairs = zip(squared(left), squared(right) if squares is None else squares, strict=True)
    sums = [a[:, None] + b for a, b in pairs]
    return [np.maximum(s - 2.0 * p, 0.0) for s, p in zip(sums, products, strict=True)], products


def squared(points: Sequence[Values]) -> list[Values]:
    """Return the inner products of points with themselves, block by block."""
    return [(part**2).sum(axis=1) for part in points]


def maximum_a_posteriori(kernel: Kernel, targets: Values) -> Values:
    """Return the parameters of the largest posterior density, by L-BFGS-B from the means of the priors.

    Restarts from other points did not find a larger density.
    """
    blocks = len(kernel.distances)
    centre, spread = np.array([AMPLITUDE, *[LENGTH] * blocks, *[SLOPE] * blocks, NOISE]).T

    def loss(parameters: Values) -> tuple[float, Values]:
        value, gradient = kernel.loss(parameters, targets)
        deviation = (parameters - centre) / spread
        return value + 0.5 * deviation @ deviation, gradient + deviation / spread

    bounds = [(-LIMIT, LIMIT)] * len(centre)
    result = minimize(loss, centre, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _STEPS})
    return np.asarray(result.x, dtype=np.float64)


class _Posterior(NamedTuple):
    """The posterior of one metric, standardised.

    Attributes:
        parameters: ``(2 b + 2,)`` logarithms: amplitude, length scale a block, slope a block, noise variance.
        rows: ``(k,)`` the training networks with a value of the metric.
        weights: ``(k,)`` of these networks in the posterior mean.
    """

    parameters: Values
    rows: Indices
    weights: Values


class JointPosterior:
    """The joint posterior of one metric of ``n`` networks, which can be conditioned on further measurements.

    The value that a network is expected to have changes no mean, but it makes similar networks more certain.

    Attributes:
        mean: ``(n,)`` in the unit of the metric.
    """

    def __init__(
        self,
        parts: list[Values],
        training: list[Values],
        posterior: _Posterior,
        centre: float,
        scale: float,
    ) -> None:
        self._parts, self._parameters, self._scale = parts, posterior.parameters, scale
        with one_thread():
            across = Kernel(*between(parts, training)).covariance(posterior.parameters)
            factor = Kernel(*between(training, training)).factor(posterior.parameters)
            self.mean = centre + scale * (across @ posterior.weights)  # 2.25
            self._factors: Values = solve_triangular(factor, across.T, lower=True)
        linear = (slope * square for slope, square in zip(slopes(self._parameters), squared(parts), strict=True))
        prior = np.exp(self._parameters[0]) + sum(linear)
        self._variance = np.maximum(prior - (self._factors**2).sum(axis=0), 0.0)  # 2.26

    @property
    def std(self) -> Values:
        """Standard deviations ``(n,)`` of new measurements, with their noise."""
        return np.asarray(self._scale * np.sqrt(self._variance + np.exp(self._parameters[-1])), dtype=np.float64)

    def observe(self, row: int) -> None:
        """Condition on a measurement of a network that has the expected value."""
        with one_thread():
            kernel = Kernel(*between(self._parts, [part[row : row + 1] for part in self._parts]))
            column = kernel.covariance(self._parameters)[:, 0] - self._factors.T @ self._factors[:, row]
        column /= np.sqrt(self._variance[row] + np.exp(self._parameters[-1]))
        self._factors = np.vstack([self._factors, column])
        self._variance = np.maximum(self._variance - column**2, 0.0)


class GaussianProcessPredictor(StringRegressor):
    """A scikit-learn regressor from network strings to metrics: a Gaussian process for each metric.

    Args:
        seed: draws the 400 networks that the kernel's parameters are learned from, if there are more.

    Attributes:
        features_: the fitted :class:`~freerea_seval.predictor.features.vectorizer.StringFeatures`.
        proxies_: the fitted :class:`~freerea_seval.predictor.features.proxies.ProxyColumns`, or None.
        blocks_: column numbers of each block.
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
            strings: ``(n,)`` network strings, at most 2,000.
            y: ``(n,)`` values of a metric, which may all be equal, or ``(n, m)`` of several; NaN among several is a
                missing value.
            proxies: ``(n, k)`` other numbers of every network, such as zero-cost proxies; NaN or infinity is a missing
                value.

        Raises:
            InputError: fewer than five values of a metric, or values or proxies that differ from the strings in number.
            InputError: more than 2,000 strings.
            InputError: a value is infinite or not a number, or a string is not a network string.
        """
        values = checked(strings, y)
        if len(strings) > MOST:
            raise InputError(
                f"a Gaussian process takes at most {MOST} networks, got {len(strings)};"
                " take model 'boosted' or 'ensemble', or fewer networks"
            )
        self.single_ = np.ndim(y) == 1
        self.points_ = self.learn_points(strings, proxies)
        self.mean_, self.scale_ = scales(values, "standard")
        parts = self._parts(self.points_)
        rng = np.random.default_rng(self.seed)
        self.posteriors_ = []
        with one_thread():  # the order of a sum depends on the number of threads
            everything = Kernel(*between(parts, parts))
            for column in ((values - self.mean_) / self.scale_).T:
                rows = np.flatnonzero(~np.isnan(column))
                kernel = everything.among(rows)
                drawn = np.sort(rng.permutation(len(rows))[:_LEARNED_FROM])
                parameters = maximum_a_posteriori(kernel.among(drawn), column[rows[drawn]])
                factor = kernel.factor(parameters)
                self.posteriors_.append(_Posterior(parameters, rows, cho_solve((factor, True), column[rows])))
        return self

    def learn_points(self, strings: Sequence[str], proxies: npt.ArrayLike | None = None) -> Values:
        """Learn the features and their scales only; the first step of :meth:`fit`.

        Args:
            strings: ``(n,)`` network strings, at least one.
            proxies: ``(n, k)`` proxies of them.

        Returns:
            ``(n, d)`` standardised features and proxies, the points of the kernel.

        Raises:
            InputError: a string is not a network string, or proxies and strings differ in number.
        """
        self.features_ = StringFeatures()
        columns = self._columns(strings, self.features_.fit_transform(strings))
        self.proxies_ = None if proxies is None else ProxyColumns().fit(proxies)
        self.blocks_ = self._blocks()
        columns = self._with_proxies(columns, proxies)
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
            return_std: also return the standard deviations of new measurements, including noise.

        Raises:
            InputError: a string is not a network string, or proxies differ in number from those of training.
            sklearn.exceptions.NotFittedError: before :meth:`fit`.
        """
        check_is_fitted(self, "posteriors_")
        mean, spread = np.empty((2, len(check_strings(strings)), len(self.posteriors_)))
        if len(strings):
            columns = self._columns(strings, self.features_.matrix(strings))
            points = self._points(self._with_proxies(columns, proxies))
            with one_thread():
                for start in range(0, len(points), _BATCH):
                    part = slice(start, start + _BATCH)
                    mean[part], spread[part] = self._ask(points[part], return_std)
        mean, spread = mean * self.scale_ + self.mean_, spread * self.scale_
        if self.single_:
            mean, spread = mean[:, 0], spread[:, 0]
        return (mean, spread) if return_std else mean

    def joint(self, strings: Sequence[str], proxies: npt.ArrayLike | None = None) -> JointPosterior:
        """Return the joint posterior of the first metric of networks.

        Args:
            strings: ``(n,)`` network strings.
            proxies: ``(n, k)`` proxies, if training had any.

        Raises:
            InputError: a string is not a network string, or proxies differ in number from those of training.
            sklearn.exceptions.NotFittedError: before :meth:`fit`.
        """
        check_is_fitted(self, "posteriors_")
        columns = self._columns(strings, self.features_.matrix(strings))
        points = self._points(self._with_proxies(columns, proxies))
        posterior = self.posteriors_[0]
        training = self._parts(self.points_[posterior.rows])
        return JointPosterior(self._parts(points), training, posterior, float(self.mean_[0]), float(self.scale_[0]))

    def _ask(self, points: Values, return_std: bool) -> tuple[Values, Values]:
        """Return mean and standard deviation, ``(n, m)`` each and standardised; without ``return_std`` zeros for it."""
        mean, spread = np.zeros((2, len(points), len(self.posteriors_)))
        parts = self._parts(points)
        kernels: dict[bytes, Kernel] = {}
        for column, (parameters, rows, weights) in enumerate(self.posteriors_):
            training, squares = self._training_parts(rows)
            kernel = kernels.get(rows.tobytes())
            if kernel is None:
                kernel = kernels[rows.tobytes()] = Kernel(*between(parts, training, squares))
            across = kernel.covariance(parameters)
            mean[:, column] = across @ weights  # 2.25
            if return_std:
                explained = solve_triangular(
                    Kernel(*between(training, training)).factor(parameters), across.T, lower=True
                )
                own = np.exp(parameters[0]) + sum(
                    slope * (part**2).sum(axis=1) for slope, part in zip(slopes(parameters), parts, strict=True)
                )
                variance = own + np.exp(parameters[-1]) - (explained**2).sum(axis=0)  # 2.26
                spread[:, column] = np.sqrt(np.maximum(variance, 0.0))
        return mean, spread

    def _columns(self, strings: Sequence[str], features: Matrix) -> Values:
        """Return the columns of networks, before they are standardised, from their features, ``(n, d)``."""
        return signed_logarithms(features.astype(np.float64))

    def _with_proxies(self, columns: Values, proxies: npt.ArrayLike | None) -> Values:
        """Append proxies as columns."""
        if (proxies is None) != (self.proxies_ is None):
            expected = "no proxies" if self.proxies_ is None else f"{len(self.proxies_.mean_)} proxies a network"
            raise InputError(f"expected {expected}, as in training, got {'none' if proxies is None else 'some'}")
        if proxies is None or self.proxies_ is None:
            return columns
        table = self.proxies_.transform(proxies)
        if len(table) != len(columns):
            raise InputError(f"expected one row of proxies a string, got {len(columns)} strings and {len(table)} rows")
        return np.concatenate([columns, table], axis=1)

    def _set_scales(self, columns: Values) -> None:
        """Learn the standardisation of columns, ``(d,)``; every block has the same weight, whatever its size."""
        differs = np.ptp(columns, axis=0) > 0
        self.centre_, self.spread_ = columns.mean(axis=0), np.where(differs, columns.std(axis=0), 1.0)
        self.share_ = np.zeros(len(differs))
        for block in self.blocks_:
            self.share_[block] = differs[block] / np.sqrt(max(1, differs[block].sum()))

    def _points(self, columns: Values) -> Values:
        farthest = self._farthest()
        clipped = np.minimum(np.maximum((columns - self.centre_) / self.spread_, -farthest), farthest)
        return np.asarray(clipped * self.share_, dtype=np.float64)

    def _farthest(self) -> float | Values:
        """Return at what distance from the mean standardised columns are clipped: of all, or ``(d,)``."""
        return FARTHEST

    def _blocks(self) -> list[Indices]:
        """Return the columns of each block."""
        names = [name.split(" ")[0] for name in self.features_.get_feature_names_out()]
        number = [next((i for i, b in enumerate(_BLOCKS) if name in b), len(_BLOCKS)) for name in names]
        blocks = [np.flatnonzero(np.array(number) == i) for i in range(len(_BLOCKS) + 1)]
        if not len(blocks[_PLACE]):  # the vocabulary is of a version that had no such features
            del blocks[_PLACE]
        if self.proxies_ is not None:
            blocks.append(len(names) + np.arange(len(self.proxies_.mean_)))
        return blocks

    def _parts(self, points: Values) -> list[Values]:
        return [points[:, block] for block in self.blocks_]

    def _training_parts(self, rows: Indices) -> tuple[list[Values], list[Values]]:
        """Return the blocks of training points and their squared norms, which are cached."""
        cached: dict[bytes, tuple[list[Values], list[Values]]]
        points, cached = getattr(self, "_cached", (None, {}))
        if points is not self.points_:
            cached = {}
            self._cached = self.points_, cached
        key = rows.tobytes()
        if key not in cached:
            parts = self._parts(self.points_[rows])
            cached[key] = parts, squared(parts)
        return cached[key]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_cached"}

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return what was learned: values for JSON, and files by name.

        Raises:
            sklearn.exceptions.NotFittedError: before :meth:`fit`.
        """
        check_is_fitted(self, "posteriors_")
        from safetensors.numpy import save

        content = {
            "vocabulary": self.features_.vocabulary_,
            "single": bool(self.single_),
            "proxies": None if self.proxies_ is None else self.proxies_.state(),
            "metrics": len(self.posteriors_),
        }
        arrays = {name: getattr(self, f"{name}_") for name in ("points", "centre", "spread", "share", "mean", "scale")}
        for column, posterior in enumerate(self.posteriors_):
            arrays |= {f"{column}.{name}": array for name, array in posterior._asdict().items()}
        return content, {_ARRAYS: save({name: np.ascontiguousarray(array) for name, array in arrays.items()})}

    def restore(self, state: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Take up what :meth:`state` returned.

        Raises:
            Exception: the parts do not fit together; safetensors has exceptions of its own.
        """
        from safetensors.numpy import load

        arrays = load(files[_ARRAYS])
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError("expected finite numbers")
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
            raise ValueError(f"expected one metric, got {metrics}")
        self.posteriors_ = []
        for column in range(metrics):
            posterior = _Posterior(*(arrays[f"{column}.{name}"] for name in _Posterior._fields))
            parameters, rows, weights = posterior
            shapes = [parameters.shape, rows.shape, weights.shape]
            if (
                shapes != [(2 * len(blocks) + 2,), (len(rows),), (len(rows),)]
                or rows.dtype != np.int64
                or not set(rows) <= set(range(n))
            ):
                raise ValueError(f"metric {column}: its parameters, rows and weights do not fit together")
            self.posteriors_.append(posterior)
        self.predict(["input[1x1] output"], np.zeros((1, len(self.proxies_.mean_))) if self.proxies_ else None)
