"""The model ``calibrated``: a cost on a device with few measurements, from reference costs.

Devices share most of what makes a network slow, and differ in the price of each operation. A Bayesian linear model of
the logarithm of a cost y of a network x, given D reference costs: the logarithms of its multiply-adds, of its elements
(the traffic of memory) and of its number of operations, and predictions for other devices, if there are any:

=========  ===========================================================================================================
f_d(x)     reference cost d, a logarithm, standardised
m(x)       the mean of f_d(x) over the references
r(x)       the deviations ``f_d(x) - m(x)``, divided by sqrt(D)
z(x)       costs of each kind of operation of x, standardised and divided by the root of their number
log y(x)   ``a + b ((1 + s) m(x) + r(x) . u + z(x) . v + e)``
s, u, v    normal, with mean 0 and the variances S, U and V
a, b       level and spread of the device: a flat prior, and a log-normal one
e          Student's t with 4 degrees of freedom; the logarithm of its squared scale has a normal prior
=========  ===========================================================================================================

a, s, u and v are integrated out in closed form (Rasmussen 2006, chapter 2), b and the scale of e on a grid. The t
distribution is a normal one whose precision is weighted for each measurement by expectation maximisation (Lange 1989),
so that an outlier counts little.

References:
    Rasmussen 2006: Rasmussen, Williams, Gaussian Processes for Machine Learning.
    Lange 1989: Lange, Little, Taylor, Robust Statistical Modeling Using the t Distribution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from freerea_patch import InputError
from freerea_seval.predictor.features.segment_features import TOTALS
from freerea_seval.predictor.features.vectorizer import StringFeatures
from freerea_seval.predictor.models.gp import FARTHEST, one_thread
from freerea_seval.predictor.models.validation import StringRegressor, Values, checked, read_count

#: Variances of s, u and v, the median of the squared scale of e, and the variance of the level a. Selected by holding
#: out each of nine devices in turn: ``python -m experiments.predictors.calibration --split validation``.
_SHARED, _DEVIATIONS, _COSTS, _NOISE, _LEVEL = 0.11, 0.27, 0.17, 0.037, 100.0
#: Median of b and the standard deviation of its logarithm.
_SPREAD, _SPREAD_DEVIATION = 0.35, 0.6
#: Grids of log b and of the logarithm of the factor of the noise variance, whose prior is standard normal.
_SPREADS, _NOISES = np.linspace(-3.0, 1.0, 41), np.linspace(-3.0, 3.0, 13)
_DEGREES = 4.0
_STEPS = 5
#: Smaller variances are rounding errors.
_SMALLEST_VARIANCE = 1e-10
#: Logarithms of predictions are clipped here, where doubles have their limits.
_LARGEST = 700.0
#: The columns of features with the references, in logarithms.
_TOTALS = [TOTALS.index(f"total {name}") for name in ("multiply-adds", "elements", "operations")]


class _Posterior(NamedTuple):
    """The posterior mean of the logarithm of one metric.

    Attributes:
        spread: mean of b.
        centre: of the measured logarithms.
        weights: ``(p,)`` means of b times the coefficients of the columns of :func:`prior_columns`.
        covariance: ``(p, p)`` of these, for the mean b and noise.
    """

    spread: float
    centre: float
    weights: Values
    covariance: Values


class CalibratedPredictor(StringRegressor):
    """A scikit-learn regressor from network strings to positive metrics, and from predictions for other devices.

    Args:
        seed: unused; part of the contract of all models.

    Attributes:
        features_: the fitted :class:`~freerea_seval.predictor.features.vectorizer.StringFeatures`.
        posteriors_: one a metric.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(
        self, strings: Sequence[str], y: npt.ArrayLike, proxies: npt.ArrayLike | None = None
    ) -> CalibratedPredictor:
        """Learn metrics.

        Args:
            strings: ``(n,)`` network strings.
            y: ``(n,)`` positive values of a metric, or ``(n, m)`` of several; NaN among several is a missing value.
            proxies: ``(n, d)`` predictions for other devices, standardised.

        Raises:
            InputError: a value is not positive, fewer than five values of a metric, or a string that is not a network
                string.
        """
        values = checked(strings, y)
        if (lowest := np.nanmin(values)) <= 0:
            raise InputError(
                f"model 'calibrated' learns positive costs, such as milliseconds, got {lowest:g}; name another model"
            )
        self.single_ = np.ndim(y) == 1
        self._learn_costs(strings, 0 if proxies is None else np.shape(proxies)[1])
        mean, columns = self._columns(strings, proxies)
        self.posteriors_ = []
        with one_thread():
            for metric in np.log(values).T:
                rows = np.flatnonzero(~np.isnan(metric))
                self.posteriors_.append(_posterior(mean[rows], columns[rows], metric[rows]))
        return self

    def _learn_costs(self, strings: Sequence[str], devices: int) -> None:
        """Learn the costs and their scales."""
        self.proxies_ = devices
        self.features_ = StringFeatures().fit(strings)
        costs = self._costs(strings)
        differs = np.ptp(costs, axis=0) > 0
        self.centre_, self.factor_ = costs.mean(axis=0), differs / np.where(differs, costs.std(axis=0), 1.0)

    def predict(self, strings: Sequence[str], proxies: npt.ArrayLike | None = None) -> Values:
        """Predict ``(n,)`` or ``(n, m)`` values, shaped as in training: the medians of the predictive distributions.

        Raises:
            InputError: a string is not a network string, or the number of other devices differs from that of training.
            sklearn.exceptions.NotFittedError: before :meth:`fit`.
        """
        check_is_fitted(self, "posteriors_")
        mean, columns = self._columns(strings, proxies)
        # A sum over each row, unlike a matrix product, gives a row the same bits in any batch.
        logarithms = [p.centre + p.spread * mean + (columns * p.weights).sum(axis=1) for p in self.posteriors_]
        values: Values = np.exp(np.minimum(np.maximum(np.stack(logarithms, axis=1), -_LARGEST), _LARGEST))
        return values[:, 0] if self.single_ else values

    def deviations(self, strings: Sequence[str], proxies: npt.ArrayLike | None = None) -> Values:
        """Return the standard deviations ``(n, m)`` of the logarithms of expected values, without noise.

        They are small for networks like those that were measured.

        Raises:
            InputError: as :meth:`predict`.
            sklearn.exceptions.NotFittedError: before :meth:`fit`.
        """
        check_is_fitted(self, "posteriors_")
        _, columns = self._columns(strings, proxies)
        with one_thread():
            variances = [((columns @ p.covariance) * columns).sum(axis=1) for p in self.posteriors_]
        return np.asarray(np.sqrt(np.maximum(np.stack(variances, axis=1), _SMALLEST_VARIANCE)))

    def _columns(self, strings: Sequence[str], proxies: npt.ArrayLike | None) -> tuple[Values, Values]:
        """Return m ``(n,)``, and the columns ``(n, p)`` of the coefficients, each times its prior deviation."""
        devices = np.asarray(proxies if proxies is not None else np.empty((len(strings), 0)), dtype=np.float64)
        if devices.shape != (len(strings), self.proxies_):
            raise InputError(f"expected predictions for {self.proxies_} devices, got shape {devices.shape}")
        standardised = (self._costs(strings) - self.centre_) * self.factor_
        totals, costs = standardised[:, : len(_TOTALS)], standardised[:, len(_TOTALS) :]
        differ = int(np.count_nonzero(self.factor_[len(_TOTALS) :]))
        costs = np.minimum(np.maximum(costs, -FARTHEST), FARTHEST) / np.sqrt(max(1, differ))
        return prior_columns(np.concatenate([devices, totals], axis=1), costs)

    def _costs(self, strings: Sequence[str]) -> Values:
        """Return the totals, and the number, elements and multiply-adds of each kind of operation, ``(n, 3 + k)``."""
        matrix = self.features_.matrix(strings)
        return np.concatenate([matrix[:, _TOTALS], matrix[:, self.features_.costs_]], axis=1).astype(np.float64)

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return what was learned: values for JSON, and no files."""
        check_is_fitted(self, "posteriors_")
        content = {
            "single": bool(self.single_),
            "vocabulary": self.features_.vocabulary_,
            "devices": self.proxies_,
            "costs": [self.centre_.tolist(), self.factor_.tolist()],
            "metrics": [[p.spread, p.centre, p.weights.tolist(), p.covariance.tolist()] for p in self.posteriors_],
        }
        return content, {}

    def restore(self, state: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Take up what :meth:`state` returned; any exception means that the parts do not fit together."""
        self.single_, self.proxies_ = bool(state["single"]), read_count(state["devices"])
        self.features_ = StringFeatures.of(state["vocabulary"])
        self.centre_, self.factor_ = (np.array(row, dtype=np.float64) for row in state["costs"])
        self.posteriors_ = [
            _Posterior(float(spread), float(centre), *(np.array(part, dtype=np.float64) for part in arrays))
            for spread, centre, *arrays in state["metrics"]
        ]
        if self.single_ and len(self.posteriors_) != 1:
            raise ValueError(f"expected one metric, got {len(self.posteriors_)}")
        columns = self.features_.costs_
        k = len(_TOTALS) + columns.stop - columns.start
        p = 2 + self.proxies_ + k
        arrays = [self.centre_, self.factor_, *(a for posterior in self.posteriors_ for a in posterior[2:])]
        if [a.shape for a in arrays] != [(k,)] * 2 + [(p,), (p, p)] * len(self.posteriors_):
            raise ValueError("its arrays do not fit together")
        if not all(np.isfinite(a).all() for a in [*arrays, *((p.spread, p.centre) for p in self.posteriors_)]):
            raise ValueError("expected finite numbers")


def prior_columns(references: Values, costs: Values) -> tuple[Values, Values]:
    """Return m ``(n,)``, and columns whose coefficients are standard normal before anything is measured.

    Args:
        references: ``(n, d)`` standardised reference costs; NaN for a network that a device cannot run, which is then
            expected to cost there what the other references say.
        costs: ``(n, k)`` standardised costs, divided by the root of their number.

    Returns:
        m, and ``(n, 2 + d + k)`` columns of the level, s, u and v.
    """
    known = ~np.isnan(references)
    mean = np.where(known, references, 0.0).sum(axis=1) / known.sum(axis=1)
    deviations = np.where(known, references - mean[:, None], 0.0)
    parts = [
        np.full((len(mean), 1), np.sqrt(_LEVEL)),
        np.sqrt(_SHARED) * mean[:, None],
        np.sqrt(_DEVIATIONS / references.shape[1]) * deviations,
        np.sqrt(_COSTS) * costs,
    ]
    return mean, np.concatenate(parts, axis=1)


def prior_covariance(strings: Sequence[str], devices: Values | None = None) -> tuple[Values, float]:
    """Return what is believed of networks before one of them is measured.

    Args:
        strings: ``(n,)`` network strings.
        devices: ``(n, d)`` standardised predictions for other devices, if there are any.

    Returns:
        The covariance ``(n, n)`` of their logarithmic costs and the variance of the noise, in units of the spread b.

    Raises:
        InputError: a string is not a network string.
    """
    empty = CalibratedPredictor()
    empty._learn_costs(strings, 0 if devices is None else devices.shape[1])
    mean, columns = empty._columns(strings, devices)
    return columns @ columns.T + _SPREAD_DEVIATION**2 * np.outer(mean, mean), _NOISE


def _posterior(mean: Values, columns: Values, logarithms: Values) -> _Posterior:
    """Return the posterior given ``(n,)`` logarithms, with m ``(n,)`` and columns ``(n, p)``."""
    centre = float(np.median(logarithms))
    targets, kernel = logarithms - centre, columns @ columns.T
    spreads, noises = np.exp(_SPREADS), _NOISE * np.exp(_NOISES)
    prior = -0.5 * ((_SPREADS - np.log(_SPREAD)) / _SPREAD_DEVIATION) ** 2 - 0.5 * _NOISES[:, None] ** 2
    precision = np.ones(len(targets))  # the weight of each measurement
    for _ in range(_STEPS):
        # The eigenvalues of the weighted covariance serve all noises and spreads: a noise is added to each of them.
        root = np.sqrt(precision)
        eigenvalues, vectors = np.linalg.eigh(root[:, None] * kernel * root)
        variances = np.maximum(eigenvalues, 0.0) + noises[:, None]  # (noises, n)
        residuals = (root * targets) @ vectors / spreads[:, None] - (root * mean) @ vectors  # (spreads, n)
        logs = (
            prior
            - 0.5 * (residuals**2 / variances[:, None]).sum(axis=2)
            - 0.5 * np.log(variances).sum(axis=1)[:, None]
            - len(targets) * _SPREADS
        )
        density = np.exp(logs - logs.max())
        density /= density.sum()
        dual = root * (residuals / variances[:, None] @ vectors.T)  # (noises, spreads, n)
        # The residual of a measurement is the variance of its noise times its weight in the dual solution.
        squares = noises[:, None, None] * (dual / precision) ** 2
        precision = (density[:, :, None] * (_DEGREES + 1.0) / (_DEGREES + squares)).sum(axis=(0, 1))
    weights = columns.T @ (density[:, :, None] * spreads[:, None] * dual).sum(axis=(0, 1))
    spread, noise = float(density.sum(axis=0) @ spreads), float(density.sum(axis=1) @ noises)
    # The covariance of coefficients whose prior is standard normal (Rasmussen 2006, 2.11).
    weighted = root[:, None] * columns
    inner = weighted @ weighted.T + noise * np.eye(len(targets))
    covariance = np.eye(columns.shape[1]) - weighted.T @ np.linalg.solve(inner, weighted)
    return _Posterior(spread, centre, weights, spread**2 * covariance)
