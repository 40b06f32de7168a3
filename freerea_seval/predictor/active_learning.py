"""Active learning: choose the networks whose measurement reduces the variance of a Gaussian process the most.

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
from freerea_seval.predictor.models.calibrated import prior_covariance
from freerea_seval.predictor.models.gp import GaussianProcessPredictor, Kernel, between
from freerea_seval.predictor.seval import SEvalPredictor, base_predictions

Indices = npt.NDArray[np.int64]

#: Logarithms of the kernel's amplitude, slope and noise variance; selected on half of NAS-Bench-201.
_AMPLITUDE, _SLOPE, _NOISE = 0.0, -3.0, -2.0
#: Largest number of candidates; more are subsampled, as memory grows with the square of their number.
_MOST = 5000


def most_informative(
    strings: Sequence[str],
    count: int,
    seed: int = 0,
    length_scale: float = 1.0,
    base: Sequence[SEvalPredictor] | None = None,
) -> Indices:
    """Choose the networks whose measurement is expected to be the most informative about all networks.

    The choice is greedy: each network is the one that reduces the posterior variance, summed over all networks, the
    most (Cohn 1996). The variance does not depend on values, so that all networks are chosen before any is measured.
    They are not a random sample: conformal intervals learned from them alone have no guarantee (on NAS-Bench-201 their
    coverage is above the nominal one).

    Args:
        strings: ``(n,)`` network strings; equal ones are weighted by their number.
        count: how many to choose, at most as many as there are different strings, and at most 5,000.
        seed: draws the candidates if there are more than 5,000 different strings.
        length_scale: of the kernel. 1 is best for accuracies with a hundred networks; fewer networks, and smoother
            metrics such as latency, want a longer one.
        base: if not None, the model that learns from the measurements is
            :mod:`~freerea_seval.predictor.models.calibrated`, with these predictors for other devices, if any.

    Returns:
        ``(count,)`` row numbers of different strings in the order of choice; a smaller ``count`` gives a prefix.

    Raises:
        InputError: there are no strings, ``count`` is out of range, a string is not a network string, or
            ``length_scale`` is not positive.
    """
    counts = Counter(check_strings(strings))
    if not counts:
        raise InputError("expected at least one network string to choose from, got none")
    different = sorted(counts)
    drawn = np.sort(np.random.default_rng(seed).permutation(len(different))[:_MOST])
    if not 1 <= count <= len(drawn):
        raise InputError(f"expected a number of networks from 1 to {len(drawn)} to choose, got {count}")
    candidates = [different[i] for i in drawn]
    if not 0 < length_scale < np.inf:
        raise InputError(f"expected a positive number as length_scale, got {length_scale}")
    with threadpool_limits(1):  # the number of threads decides the order of sums, and rounding the choice
        if base is not None:
            prior, noise = prior_covariance(candidates, base_predictions(base, candidates))
        else:
            # With equal parameters for all blocks, one block is equivalent.
            points = [GaussianProcessPredictor().learn_points(candidates)]
            prior = Kernel(*between(points, points)).covariance(
                np.array([_AMPLITUDE, np.log(length_scale), _SLOPE, _NOISE])
            )
            noise = float(np.exp(_NOISE))
        weights = np.array([counts[string] for string in candidates], dtype=np.float64)
        chosen = _greedy_choice(prior, weights, noise, count)
    first: dict[str, int] = {}
    for row, string in enumerate(strings):
        first.setdefault(string, row)
    return np.array([first[candidates[i]] for i in chosen], dtype=np.int64)


def _greedy_choice(
    prior: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], noise: float, count: int
) -> list[int]:
    """Choose rows of a covariance ``(n, n)`` greedily by the reduction of the weighted sum of posterior variances.

    Observing j reduces the variance of i by ``C[i, j]^2 / (C[j, j] + noise)`` with the posterior covariance C. C is the
    prior minus ``factors.T @ factors``; only the columns that a step needs are computed, so that a step takes time
    ``n^2``.
    """
    variance = prior.diagonal().copy()
    gain = (prior**2) @ weights  # for every j: sum_i weights[i] C[i, j]^2
    factors = np.empty((count, len(prior)))
    chosen: list[int] = []
    for step in range(count):
        reduction = gain / (variance + noise)
        reduction[chosen] = -np.inf
        best = int(reduction.argmax())
        previous = factors[:step]
        column = prior[best] - previous.T @ previous[:, best]
        column /= np.sqrt(column[best] + noise)
        # The update C -> C - cc' changes the squares by (cc')^2 - 2 C * cc', elementwise.
        weighted = weights * column
        across = prior @ weighted - previous.T @ (previous @ weighted)
        gain += column**2 * (weighted @ column) - 2.0 * column * across
        variance -= column**2
        factors[step] = column
        chosen.append(best)
    return chosen
