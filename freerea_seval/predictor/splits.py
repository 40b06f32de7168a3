"""Which networks to train on and to judge by: the published split, one without leaks, and a choice of networks."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from freerea_patch import InputError

Indices = npt.NDArray[np.int64]

#: Shares of the validation and the test part; the rest is for training.
_VALIDATION, _TEST = 0.2, 0.2
#: Networks below which one of the parts would be empty or the training part not the largest.
_FEWEST = 5
#: Principal components that networks are clustered by. With 100 cells of NAS-Bench-201, judged on the validation part,
#: 32 components chose no better than chance, and 200 no better than 100.
_COMPONENTS = 100
#: Components with a smaller share of the first one's spread are rounding errors, which whitening must not blow up.
_NOISE = 1e-6


class Split(NamedTuple):
    """Row numbers of three parts that share no row and together hold all, each ``(k,)``."""

    train: Indices
    validation: Indices
    test: Indices


def published_split(n: int) -> Split:
    """Return the random 60/20/20 split that published predictors are judged on.

    It is two calls of scikit-learn's ``train_test_split`` with ``random_state=42``: a fifth of the ``n`` rows is for
    testing, a quarter of the rest for validation. The rows are in the order of these calls.

    Raises:
        InputError: fewer than five rows.
    """
    if n < _FEWEST:
        raise InputError(f"a split needs at least {_FEWEST} networks, got {n}; measure more networks")
    rest, test = train_test_split(np.arange(n), test_size=_TEST, random_state=42)
    train, validation = train_test_split(rest, test_size=_VALIDATION / (1 - _TEST), random_state=42)
    return Split(train, validation, test)


def grouped_split(groups: Sequence[Hashable], seed: int = 42) -> Split:
    """Return a random 60/20/20 split that keeps the rows of a group in one part.

    With a network's functional string as its group, no test network computes the same function as one in training.

    Args:
        groups: ``(n,)`` the group of each row; rows of a group are equal to each other.
        seed: of the order in which groups are drawn; nothing else is random.

    Returns:
        The parts, their rows ascending; their sizes are as near to the shares as whole groups drawn in this order
        allow, and none is empty.

    Raises:
        InputError: fewer than five rows, or fewer than three groups.
    """
    n = len(groups)
    if n < _FEWEST:
        raise InputError(f"a split needs at least {_FEWEST} networks, got {n}; measure more networks")
    number: dict[Hashable, int] = {}  # in the order of their appearance: sets of strings have none
    labels = np.array([number.setdefault(group, len(number)) for group in groups])
    if len(number) < 3:
        raise InputError(f"three parts need at least 3 different groups, got {len(number)}; use a random split")
    sizes = np.bincount(labels)
    left = np.random.default_rng(seed).permutation(len(sizes)).tolist()
    # Training comes last and takes the rest, so that each part before it must leave a group for every later one.
    test = _take(left, sizes, round(_TEST * n), leave=2)
    validation = _take(left, sizes, round(_VALIDATION * n), leave=1)
    part = np.zeros(len(sizes), dtype=np.int64)
    part[validation], part[test] = 1, 2
    return Split(*(np.flatnonzero(part[labels] == p) for p in range(3)))


def _take(left: list[int], sizes: npt.NDArray[np.int64], rows: int, *, leave: int) -> list[int]:
    """Take from ``left`` the groups, in order, that still fit into so many rows, at least one; leave so many groups."""
    taken: list[int] = []
    for group in list(left):
        if len(left) > leave and sizes[group] <= rows:
            left.remove(group)
            taken.append(group)
            rows -= sizes[group]
    smallest = min(left, key=lambda group: sizes[group])
    # None fits any more; one too large may still bring the part nearer to its size.
    if len(left) > leave and (not taken or sizes[smallest] - rows < rows):
        left.remove(smallest)
        taken.append(smallest)
    return taken


def twins(split: Split, groups: Sequence[Hashable]) -> float:
    """Return the share of test rows whose group has a row in training, 0 to 1."""
    seen = {groups[row] for row in split.train.tolist()}
    return float(np.mean([groups[row] in seen for row in split.test.tolist()]))


def informative(features: npt.ArrayLike, count: int, seed: int = 0) -> Indices:
    """Choose the networks whose measurement should teach the most: those in the middle of clusters of all networks.

    The clusters are those of k-means (Arthur 2007, k-means++) on the whitened principal components of the standardised
    features, each represented by the network nearest to its centre; equal networks weigh as many as they are. Proper
    k-medoids (Kaufman 1990) compares all pairs of networks, too slow for a space.

    Args:
        features: ``(n, d)`` finite features of the networks that may be chosen.
        count: how many to choose, at most ``n``. They are no random sample: intervals learned from them alone
            (:mod:`freerea_seval.predictor.conformal`) may hold less often than they say.
        seed: of the clustering.

    Returns:
        ``(count,)`` different row numbers, ascending. Equal rows are chosen twice only if there are not enough others.

    Raises:
        InputError: the features are no table of finite numbers, or ``count`` is not 1 to ``n``.
    """
    table = _check_table(features)
    if not 1 <= count <= len(table):
        raise InputError(f"expected a number of networks from 1 to {len(table)} to choose, got {count}")
    rows, first, weight = np.unique(table, axis=0, return_index=True, return_counts=True)
    if len(rows) <= count:
        others = np.setdiff1d(np.arange(len(table)), first)
        more = np.random.default_rng(seed).choice(others, count - len(rows), replace=False)
        return np.sort(np.concatenate([first, more]))
    rows = (rows - np.average(rows, axis=0, weights=weight)) / _scale(table)
    size = min(_COMPONENTS, rows.shape[1], -(-len(rows) // 10))  # components of few rows are noise
    with threadpool_limits(1):  # the order of a sum depends on the number of threads, and the choice on the sum
        points = PCA(size, svd_solver="randomized", random_state=seed).fit_transform(rows)
        spread = points.std(axis=0)
        kept = spread > _NOISE * spread.max()
        points = points[:, kept] / spread[kept]
        clusters = KMeans(count, n_init=3, random_state=seed).fit(points, sample_weight=weight)
    away = np.linalg.norm(points - clusters.cluster_centers_[clusters.labels_], axis=1)
    order = np.lexsort((first, away))
    _, nearest = np.unique(clusters.labels_[order], return_index=True)
    return np.sort(first[order[nearest]])


def _check_table(features: npt.ArrayLike) -> npt.NDArray[np.float64]:
    try:
        table = np.asarray(features, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"expected a table of numbers as features, got {type(features).__name__} ({error})") from None
    if table.ndim != 2 or not table.size:
        raise InputError(f"expected features of shape (networks, features), none of them 0, got shape {table.shape}")
    if not np.isfinite(table).all():
        bad = int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0])
        raise InputError(f"features must be finite, and those of row {bad} are not; leave out such rows or columns")
    return table


def _scale(table: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the standard deviation of each column; 1 for a constant one, whose rounding error is no information."""
    return np.where(np.ptp(table, axis=0) > 0, table.std(axis=0), 1.0)
