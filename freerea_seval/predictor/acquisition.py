"""Acquisition: which networks to measure next, given what is believed of their metrics.

Beliefs are normal distributions, independent between networks and metrics, on scales where larger is better. A metric
that is known has a standard deviation of 0.

References:
    Gardner 2014: Gardner et al., Bayesian Optimization with Inequality Constraints.
    Emmerich 2011: Emmerich, Deutz, Klinkenberg, Hypervolume-Based Expected Improvement.
    Knowles 2006: Knowles, ParEGO.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

Values = npt.NDArray[np.float64]

#: Power of the probability of feasibility. A measurement that turns out infeasible costs as much as any other and leads
#: to no training: with 2 instead of 1, searches within the fastest tenth of cells could train 1.6 times as many.
_CAUTION = 2.0
#: How far the reference point of hypervolumes is behind the worst values of a front, relative to the front's range.
_BEHIND = 0.1
#: Weight of the sum beside the maximum in ParEGO's scalarisation (Knowles 2006, section III).
_SUM = 0.05


class Axis(Protocol):
    """What is believed of one metric of ``n`` networks.

    Attributes:
        mean: ``(n,)``, larger is better.
    """

    mean: Values

    @property
    def std(self) -> Values:
        """Standard deviations ``(n,)`` of a measurement; 0 where the value is known."""
        ...

    def observe(self, row: int) -> None:
        """Condition on a measurement of a network that has the expected value."""
        ...


class Known:
    """A metric whose values ``(n,)`` are known."""

    def __init__(self, values: Values) -> None:
        self.mean = values
        self.std = np.zeros_like(values)

    def observe(self, row: int) -> None:
        """Learn nothing."""


def within(mean: Values, std: Values, lower: float, upper: float) -> Values:
    """Return the probabilities ``(n,)`` that values are within bounds, which may be infinite."""
    below, above = ndtr(_standardised(upper - mean, std)), ndtr(_standardised(lower - mean, std))
    return np.where(std > 0, below - above, ((mean >= lower) & (mean <= upper)).astype(np.float64))


def expected_improvement(mean: Values, std: Values, best: Values | float) -> Values:
    """Return the expected improvement ``(n,)`` over the best known value, 0 below it where a value is known."""
    return _expected_excess(mean - best, std)


def expected_hypervolume_improvement(mean: Values, std: Values, front: Values, reference: Values) -> Values:
    """Return the expected growth ``(n,)`` of the hypervolume of two axes (Emmerich 2011).

    The region that the front does not dominate is cut into strips along the first axis. A point adds in each strip the
    product of its excesses over the strip's limits, whose expectations are independent.

    Args:
        mean, std: ``(n, 2)``.
        front: ``(k, 2)`` known points, none of which dominates another.
        reference: ``(2,)`` the point below which nothing counts.
    """
    front = front[(front > reference).all(axis=1)]
    ordered = front[np.argsort(front[:, 0])]
    left = np.concatenate([[reference[0]], ordered[:, 0]])
    height = np.concatenate([ordered[:, 1], [reference[1]]])
    (first, second), (first_std, second_std) = mean.T, std.T
    right_excess = _expected_excess(first - left[0], first_std)
    gain = np.zeros(len(first))
    for i in range(len(left)):
        left_excess = right_excess
        right_excess = _expected_excess(first - left[i + 1], first_std) if i + 1 < len(left) else np.zeros(len(first))
        gain += (left_excess - right_excess) * _expected_excess(second - height[i], second_std)
    return gain


def choose(axes: Sequence[Axis], feasible: Values, count: int, alike: Sequence[str], seed: int = 0) -> list[int]:
    """Choose networks one by one, each as if those before it had their expected values.

    The value of a network is the squared probability that it is feasible (Gardner 2014 has a power of 1) times its
    expected improvement: of the best known value with one axis, of the front's hypervolume with two, and of a random
    Chebyshev scalarisation with more (Knowles 2006).

    Args:
        axes: ``m`` metrics of the ``n`` candidates and, after them, of all feasible networks that were measured;
            conditioned on the chosen networks.
        feasible: ``(n,)`` probabilities.
        count: how many to choose, at most ``n``.
        alike: ``(n,)`` strings; of networks with equal ones, one is chosen while others are left.
        seed: of the random weights.

    Returns:
        Row numbers in the order of choice.
    """
    rng = np.random.default_rng(seed)
    n = len(feasible)
    everything = np.column_stack([axis.mean for axis in axes])
    spread = np.maximum(np.ptp(everything, axis=0), 1e-12)
    everything = (everything - everything.min(axis=0)) / spread
    mean, known = everything[:n], everything[n:]
    log_feasible = _CAUTION * np.log(np.maximum(feasible, 1e-12))
    groups = np.unique(np.array(alike), return_inverse=True)[1]
    open_, fresh = np.ones((2, n), dtype=bool)
    if len(axes) == 2:  # behind the front that is believed to exist
        reference = _reference(np.concatenate([mean[feasible >= 0.5] if (feasible >= 0.5).any() else mean, known]))
    chosen: list[int] = []
    while len(chosen) < min(count, n):
        std = np.column_stack([axis.std[:n] for axis in axes]) / spread
        if len(axes) == 1:
            gain = expected_improvement(mean[:, 0], std[:, 0], known.max() if len(known) else 0.0)
        elif len(axes) == 2:
            gain = expected_hypervolume_improvement(mean, std, _non_dominated(known), reference)
        else:
            gain = _chebyshev_improvement(mean, std, known, rng.dirichlet(np.ones(len(axes))))
        # Where nothing promises an improvement, the values themselves decide.
        value = np.log(np.maximum(gain, 1e-300)) + log_feasible + 1e-6 * mean.mean(axis=1)
        candidates = open_ & fresh if (open_ & fresh).any() else open_
        best = int(np.argmax(np.where(candidates, value, -np.inf)))
        chosen.append(best)
        open_[best] = False
        fresh[groups == groups[best]] = False
        for axis in axes:
            axis.observe(best)
        if len(axes) > 1 and feasible[best] >= 0.5:
            known = np.concatenate([known, mean[best : best + 1]])
    return chosen


def _reference(points: Values) -> Values:
    """Return a point behind the front of points, by a share of its range."""
    front = _non_dominated(points)
    low, high = front.min(axis=0), front.max(axis=0)
    return np.asarray(low - _BEHIND * np.where(high - low > 1e-9, high - low, 1.0), dtype=np.float64)


def _non_dominated(points: Values) -> Values:
    if not len(points):
        return points.reshape(0, 2)
    from moocore import filter_dominated

    return np.asarray(filter_dominated(points, maximise=True), dtype=np.float64)


def _chebyshev_improvement(mean: Values, std: Values, known: Values, weights: Values) -> Values:
    """Return the expected improvement of ``min_i w_i f_i + 0.05 sum_i w_i f_i``, by the axis that decides."""

    def scalar(points: Values) -> Values:
        weighted = points * weights
        return np.asarray(weighted.min(axis=1) + _SUM * weighted.sum(axis=1), dtype=np.float64)

    decides = np.argmin(mean * weights, axis=1)
    deciding_std = np.take_along_axis(std * weights, decides[:, None], axis=1)[:, 0]
    return expected_improvement(scalar(mean), deciding_std, scalar(known).max() if len(known) else 0.0)


def _expected_excess(mean: Values, std: Values) -> Values:
    """Return the mean ``(n,)`` of the positive part of normal distributions."""
    z = _standardised(mean, std)
    density = np.exp(-0.5 * np.minimum(z**2, 1e4)) / np.sqrt(2 * np.pi)
    return np.where(std > 0, mean * ndtr(z) + std * density, np.maximum(mean, 0.0))


def _standardised(mean: Values, std: Values) -> Values:
    """Return ``mean / std``, infinite where the standard deviation is 0; 0 counts as positive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(std > 0, mean / std, np.where(mean >= 0, np.inf, -np.inf))
