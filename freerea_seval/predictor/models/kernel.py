"""The covariance of a Gaussian process over blocks of features, and its likeliest parameters.

References:
    Rasmussen 2006: Rasmussen, Williams, Gaussian Processes for Machine Learning (the numbers are its equations).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, cholesky
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

#: Normal priors of the logarithms of the kernel's parameters, mean and standard deviation. A few tens of networks
#: leave them open; without priors the likelihood runs off to their limits.
AMPLITUDE, LENGTH, SLOPE, NOISE = (0.0, 1.0), (0.7, 1.0), (-2.0, 1.5), (-2.0, 1.0)
LIMIT = 8.0
_STEPS = 60
#: Added to the diagonal, so that equal strings do no harm.
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
        found, _ = self._near(parameters)
        for slope, product in zip(slopes(parameters), self.products, strict=True):
            found += slope * product
        return found

    def factor(self, parameters: Values) -> Values:
        """Return the lower Cholesky factor of the covariance with noise, ``(n, n)``."""
        noisy = self.covariance(parameters)
        noisy[np.diag_indices_from(noisy)] += np.exp(parameters[-1]) + _JITTER
        return np.asarray(cholesky(noisy, lower=True, overwrite_a=True, check_finite=False), dtype=np.float64)

    def _near(self, parameters: Values) -> tuple[Values, Values]:
        """Return the Matérn function (4.17), and its exponential factor, ``(n, k)`` each."""
        squared = np.zeros_like(self.distances[0])
        for inverse, distance in zip(_inverses(parameters), self.distances, strict=True):
            squared += 3.0 * inverse * distance
        away = np.sqrt(squared)
        decay = np.exp(parameters[0] - away)
        return (1.0 + away) * decay, decay

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
        near, decay = self._near(parameters)
        steep = 3.0 * slack * decay
        gradient = [
            np.vdot(slack, near),
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
        squares: of the right ones, if they are known.
    """
    products = [a @ b.T for a, b in zip(left, right, strict=True)]
    pairs = zip(squared(left), squared(right) if squares is None else squares, strict=True)
    sums = [a[:, None] + b for a, b in pairs]
    return [np.maximum(s - 2.0 * p, 0.0) for s, p in zip(sums, products, strict=True)], products


def squared(points: Sequence[Values]) -> list[Values]:
    """Return the inner products of points with themselves, block by block."""
    return [(part**2).sum(axis=1) for part in points]


def likeliest(kernel: Kernel, targets: Values) -> Values:
    """Return the parameters of the largest posterior density, found from the means of their priors.

    Other starts led nowhere better.
    """
    blocks = len(kernel.distances)
    centre, spread = np.array([AMPLITUDE, *[LENGTH] * blocks, *[SLOPE] * blocks, NOISE]).T

    def loss(parameters: Values) -> tuple[float, Values]:
        value, gradient = kernel.loss(parameters, targets)
        away = (parameters - centre) / spread
        return value + 0.5 * away @ away, gradient + away / spread

    bounds = [(-LIMIT, LIMIT)] * len(centre)
    found = minimize(loss, centre, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _STEPS})
    return np.asarray(found.x, dtype=np.float64)
