"""Forests of boosted trees that are grown in different ways, and the mean of those that predict a metric best.

References:
    Caruana 2004: Caruana, Niculescu-Mizil, Crew, Ksikes, Ensemble selection from libraries of models, ICML 2004.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from freerea_seval.predictor.features.vectorizer import Matrix

if TYPE_CHECKING:
    import xgboost

Values = npt.NDArray[np.float64]

#: Fewer different strings get small trees.
_FEW = 500
#: Fewer than these, middling ones.
_MANY = 2000
#: Numbers of trees that pruning tries: noisy metrics want fewer than others.
_PRUNED = (100, 150, 200, 300, 400, 500, 600)
#: Forests that a metric's mean is of, at most; the same one may count several times.
_PICKS = 4


class Kind(NamedTuple):
    """How a forest differs from the first.

    Attributes:
        order: it sees the order of execution, for which devices take more time or less, beside all else.
        deeper: levels more that its trees have.
        leaf: times as many samples that a leaf has at least.
        objective: what its trees lower.
    """

    order: bool = True
    deeper: int = 0
    leaf: int = 1
    objective: str = "reg:squarederror"


#: Forests that err differently, so that a mean is better than each. Shallow trees follow noise less, where a metric has
#: much of it; medians heed outliers less, as of a device that was disturbed.
KINDS: Mapping[str, Kind] = {
    "plain": Kind(order=False),
    "shallow": Kind(deeper=-2),
    "median": Kind(objective="reg:absoluteerror"),
    "coarse": Kind(deeper=2, leaf=3),
    "coarse-median": Kind(deeper=2, leaf=3, objective="reg:absoluteerror"),
}
#: Of each forest, by kind: how many trees it has, and how often it counts in the mean.
Growth = Mapping[str, tuple[int, int]]


class Forest(NamedTuple):
    """Trees of a kind, and how often they count in the mean."""

    kind: str
    trees: xgboost.Booster
    times: int


def growth_of(kinds: Sequence[str], trees: int | None, networks: int) -> Growth:
    """Return as many trees for each kind; None for the number that so many different strings get."""
    usual = 200 if networks < _FEW else 400
    return {kind: (usual if trees is None else trees, 1) for kind in kinds}


def grow(
    matrix: Matrix, order: slice, targets: Values, weights: Values, growth: Growth, settings: Mapping[str, Any]
) -> tuple[Forest, ...]:
    """Return forests, which grow side by side, to the same bits as one after the other.

    Args:
        matrix: ``(n, d)`` features.
        order: which of its columns are of the order of execution.
        targets, weights: ``(n,)``.
        growth: which forests.
        settings: of XGBoost; what is None follows from ``n``.

    Raises:
        XGBoostError, TypeError: xgboost refuses a setting.
    """
    import xgboost

    count = len(matrix)
    depth, rate = (3, 0.1) if count < _FEW else (5 if count < _MANY else 7, 0.05)
    usual = {"max_depth": depth, "learning_rate": rate, "min_child_weight": 1 if count < _MANY else 3}
    given = {name: value for name, value in settings.items() if value is not None}
    common = {"tree_method": "hist", "base_score": 0.0, "nthread": 1, **usual, **given}

    def one(name: str) -> xgboost.Booster:
        kind = KINDS[name]
        own = {
            "objective": kind.objective,
            "max_depth": max(1, common["max_depth"] + kind.deeper) if kind.deeper else common["max_depth"],
            "min_child_weight": common["min_child_weight"] * kind.leaf,
        }
        data = xgboost.DMatrix(_seen(matrix, order, kind), targets, weight=weights, nthread=1)
        return xgboost.train({**common, **own}, data, growth[name][0])

    with ThreadPoolExecutor(min(len(growth), os.cpu_count() or 1)) as pool:
        grown = list(pool.map(one, growth))
    return tuple(Forest(name, trees, growth[name][1]) for name, trees in zip(growth, grown, strict=True))


def ask(forests: Sequence[Forest], matrix: Matrix, order: slice) -> Values:
    """Return the mean of the forests' predictions, ``(n,)``."""
    found = np.zeros(len(matrix))
    for forest in forests:
        found += forest.times * forest.trees.inplace_predict(_seen(matrix, order, KINDS[forest.kind]))
    return found / sum([forest.times for forest in forests])


def select(
    forests: Sequence[Forest], matrix: Matrix, order: slice, score: Callable[[Values], float], *, among: bool
) -> tuple[Forest, ...]:
    """Cut forests back to the number of trees with which each predicts best, and choose among them.

    Forests join the mean one after the other, the one that makes it best each time, as long as one does (Caruana
    2004, forward selection with replacement).

    Args:
        matrix: ``(n, d)`` features of networks that were left out of training.
        order: which of its columns are of the order of execution.
        score: of predictions of these networks, ``(n,)``; larger is better.
        among: choose; otherwise, the mean is of all.
    """
    found: dict[str, Values] = {}
    trees: dict[str, int] = {}
    for forest in forests:
        part, most = _seen(matrix, order, KINDS[forest.kind]), forest.trees.num_boosted_rounds()
        best, total, grown = -np.inf, np.zeros(len(matrix)), 0
        for count in [*(count for count in _PRUNED if count < most), most]:
            total = total + forest.trees.inplace_predict(part, iteration_range=(grown, count))
            grown = count
            if (reached := score(total)) > best:
                best, found[forest.kind], trees[forest.kind] = reached, total, count
    cut = [forest._replace(trees=forest.trees[: trees[forest.kind]], times=1) for forest in forests]
    if not among:
        return tuple(cut)
    picked: list[str] = []
    best, total = -np.inf, np.zeros(len(matrix))
    while len(picked) < _PICKS:
        scores = {kind: score((total + more) / (len(picked) + 1)) for kind, more in found.items()}
        kind = max(scores, key=lambda name: scores[name])
        if scores[kind] <= best:
            break
        best, total = scores[kind], total + found[kind]
        picked.append(kind)
    return tuple(forest._replace(times=picked.count(forest.kind)) for forest in cut if forest.kind in picked)


def growth_again(forests: Sequence[Forest]) -> Growth:
    """Return the growth that forests have."""
    return {forest.kind: (forest.trees.num_boosted_rounds(), forest.times) for forest in forests}


def _seen(matrix: Matrix, order: slice, kind: Kind) -> Matrix:
    """Return what a forest sees."""
    if kind.order or order.start == order.stop:
        return matrix
    return np.concatenate([matrix[:, : order.start], matrix[:, order.stop :]], axis=1)
