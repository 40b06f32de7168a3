"""Which networks to measure: those that a Gaussian process expects to learn the most from.

References:
    Cohn 1996: Cohn, Ghahramani, Jordan, Active Learning with Statistical Models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from freerea_patch import InputError
from freerea_seval.predictor.features.vectorizer import check_strings
from freerea_seval.predictor.models.gp import GaussianProcessPredictor
from freerea_seval.predictor.models.kernel import Kernel, between

Indices = npt.NDArray[np.int64]

#: Logarithms of the kernel's amplitude, slope and noise variance: those that chose best on half of NAS-Bench-201.
_AMPLITUDE, _SLOPE, _NOISE = 0.0, -3.0, -2.0
#: More different networks than this are represented by so many of them, drawn: memory grows with their square.
_MOST = 5000


def most_informative(strings: Sequence[str], count: int, seed: int = 0, length_scale: float = 1.0) -> Indices:
    """Choose the networks whose measurement should teach the most about all of them.

    One after the other, it is the one that lowers the variance of a Gaussian process the most, summed over all networks
    (Cohn 1996). The variance does not depend on the values, so that all are chosen before any is measured. What
    is chosen is no random sample: intervals learned from it alone (:mod:`freerea_seval.predictor.conformal`) promise
    nothing. On NAS-Bench-201 they hold more often than they say.

    Args:
        strings: ``(n,)`` network strings; equal ones weigh as many as they are.
        count: how many to choose, at most as many as there are different strings, and at most 5,000.
        seed: draws the networks to choose from where there are more than 5,000 different strings.
        length_scale: how far one network tells of others. 1 is best for accuracies from a hundred networks; the fewer
            there are and the smoother a metric is, as latency, the longer.

    Returns:
        ``(count,)`` row numbers of different strings, the most informative first: fewer are the first of more.

    Raises:
        InputError: there are no strings, ``count`` is out of range, a string is no network string, or ``length_scale``
            is no positive number.
    """
    times = Counter(check_strings(strings))
    if not times:
        raise InputError("expected at least one network string to choose from, got none")
    different = sorted(times)
    drawn = np.sort(np.random.default_rng(seed).permutation(len(different))[:_MOST])
    if not 1 <= count <= len(drawn):
        raise InputError(f"expected a number of networks from 1 to {len(drawn)} to choose, got {count}")
    candidates = [different[i] for i in drawn]
    if not 0 < length_scale < np.inf:
        raise InputError(f"expected a positive number as length_scale, got {length_scale}")
    # Blocks of features with equal parameters are as good as one.
    points = [GaussianProcessPredictor().learn_points(candidates)]
    parameters = np.array([_AMPLITUDE, np.log(length_scale), _SLOPE, _NOISE])
    with threadpool_limits(1):  # the order of a sum depends on the number of threads, and the choice on the sum
        prior = Kernel(*between(points, points)).covariance(parameters)
        weights = np.array([times[string] for string in candidates], dtype=np.float64)
        chosen = _lowering(prior, weights, float(np.exp(_NOISE)), count)
    first: dict[str, int] = {}
    for row, string in enumerate(strings):
        first.setdefault(string, row)
    return np.array([first[candidates[i]] for i in chosen], dtype=np.int64)


def _lowering(prior: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], noise: float, count: int) -> list[int]:
    """Choose rows of a covariance, ``(n, n)``: each lowers the weighted sum of variances left by those before it most.

    Observing ``j`` takes the square of its posterior covariance with ``i``, over its variance with noise, from the
    variance of ``i``. Of the posterior covariance, the prior less ``known.T @ known``, only what a step needs is made,
    so that a step takes the square of ``n``.
    """
    variance = prior.diagonal().copy()
    gain = (prior**2) @ weights  # of every j: the squares of its posterior covariances, weighted and summed
    known = np.empty((count, len(prior)))
    chosen: list[int] = []
    for step in range(count):
        lowered = gain / (variance + noise)
        lowered[chosen] = -np.inf
        best = int(lowered.argmax())
        before = known[:step]
        column = prior[best] - before.T @ before[:, best]
        column /= np.sqrt(column[best] + noise)
        # What (C - cc')^2 adds to C^2, C being the posterior covariance before this step.
        weighted = weights * column
        across = prior @ weighted - before.T @ (before @ weighted)
        gain += column**2 * (weighted @ column) - 2.0 * column * across
        variance -= column**2
        known[step] = column
        chosen.append(best)
    return chosen
