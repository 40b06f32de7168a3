"""Ranking a pool of candidates: FreeREA's summed score, or non-dominated selection.

All values here are oriented: larger is better.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


def fitness_scores(values: Floats, weights: Floats) -> Floats:
    """Return FreeREA's score of every candidate within its pool (Cavagnero 2023, section 3.3).

    The score is the weighted sum over metrics of ``value / (max |value| over the pool + 1e-9)``. A
    metric that is constant over the pool shifts all scores alike. A candidate with a NaN or infinite
    value scores minus infinity and takes no part in the maxima.

    Args:
        values: ``(n, k)`` oriented metric values.
        weights: ``(k,)`` positive weights.

    Returns:
        ``(n,)`` scores.
    """
    finite = np.isfinite(values).all(axis=1)
    if finite.all():
        if not len(values):
            return np.empty(0)
        return cast(Floats, (values / (np.abs(values).max(axis=0) + 1e-9)) @ weights)
    scores = np.full(len(values), -np.inf)
    scores[finite] = fitness_scores(values[finite], weights)
    return scores


def rank_scores(values: Floats, weights: Floats) -> Floats:
    """Return the weighted mean over metrics of every candidate's rank within its pool, from 0 (worst) to 1.

    Unlike a sum of values, it does not depend on how a metric is scaled: FreeREA's sum lets the one decide that
    varies most beside its own maximum, which is the skip metric. Candidates that tie share the mean of their ranks. A
    candidate with a NaN or infinite value scores minus infinity and has no rank.

    Args:
        values: ``(n, k)`` oriented metric values.
        weights: ``(k,)`` positive weights.

    Returns:
        ``(n,)`` scores.
    """
    finite = np.isfinite(values).all(axis=1)
    scores = np.full(len(values), -np.inf)
    scores[finite] = 0.0
    count = int(finite.sum())
    for axis, weight in zip(values[finite].T, weights / weights.sum(), strict=True):
        ascending = np.sort(axis)
        below, upto = (np.searchsorted(ascending, axis, side=side) for side in ("left", "right"))
        scores[finite] += weight * (below + upto - 1) / (2 * max(count - 1, 1))
    return scores


def crowding_distances(points: Floats, fronts: Indices | None = None) -> Floats:
    """Return the crowding distance of every point within its front (Deb 2002, section III-B).

    Along each axis, a point adds the gap between its two neighbours over the front's range; the points
    at the ends are infinitely far. An axis on which all points agree adds nothing.

    Args:
        points: ``(n, m)`` finite points.
        fronts: ``(n,)`` the number of every point's front; all are of one front if left out.

    Returns:
        ``(n,)`` distances, larger for lonelier points.
    """
    fronts = np.zeros(len(points), dtype=np.intp) if fronts is None else fronts
    distances = np.zeros(len(points))
    if not len(points):
        return distances
    # All fronts at once, one after the other: a pool has few points and many fronts.
    sizes = np.bincount(fronts)
    sizes = sizes[sizes > 0]
    last = sizes.cumsum() - 1
    first = last - sizes + 1
    for axis in points.T:
        order = np.lexsort((axis, fronts))
        ranked = axis[order]
        spread = (ranked[last] - ranked[first]).repeat(sizes)
        gaps = np.empty(len(points))
        gaps[1:-1] = ranked[2:] - ranked[:-2]
        gaps[first] = gaps[last] = np.inf
        spans = spread > 0
        distances[order[spans]] += gaps[spans] / spread[spans]
    return distances


def nondominated_order(points: Floats) -> Indices:
    """Order a pool by NSGA-II's crowded comparison (Deb 2002): lower front first, then lonelier first.

    Points with a NaN or infinite coordinate come last; ties keep the order of the pool.

    Args:
        points: ``(n, m)`` oriented points.

    Returns:
        ``(n,)`` positions, best first.
    """
    fronts = pareto_fronts(points)
    finite = np.isfinite(points).all(axis=1)
    crowding = np.zeros(len(points))
    crowding[finite] = crowding_distances(points[finite], fronts[finite])
    return np.lexsort((-crowding, fronts))


def pareto_fronts(points: Floats) -> Indices:
    """Return the number of every point's front, 0 for the non-dominated ones.

    Points with a NaN or infinite coordinate share one front behind all others.

    Args:
        points: ``(n, m)`` oriented points.

    Returns:
        ``(n,)`` front numbers.
    """
    finite = np.isfinite(points).all(axis=1)
    fronts = np.zeros(len(points), dtype=np.intp)
    if finite.any():
        from moocore import pareto_rank  # a search on a summed score never needs it

        fronts[finite] = pareto_rank(points[finite], maximise=True)
    fronts[~finite] = fronts[finite].max(initial=-1) + 1
    return fronts
