"""Forests of several kinds: what each sees, that they grow alike side by side, and which of them make the mean."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import kendalltau

from freerea_seval.predictor.features.vectorizer import Matrix
from freerea_seval.predictor.models import forests as module
from freerea_seval.predictor.models.forests import KINDS, Forest, ask, grow, growth_again, growth_of, select

Values = npt.NDArray[np.float64]


class Data(NamedTuple):
    """Features of which the last two are of the order of execution, and what is to be learned from them."""

    matrix: Matrix
    targets: Values
    order: slice


@pytest.fixture(scope="module")
def data() -> Data:
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((400, 6)).astype(np.float32)
    targets = matrix[:, 0] + matrix[:, 1] * (matrix[:, 2] > 0) + 0.7 * matrix[:, 5] + 0.3 * rng.standard_normal(400)
    return Data(matrix, targets.astype(np.float64), slice(4, 6))


def grown(data: Data, targets: Values | None = None, trees: int = 150, kinds: tuple[str, ...] = tuple(KINDS)) -> tuple[
    Forest, ...
]:  # fmt: skip
    """Return forests that learned the first half."""
    y = (data.targets if targets is None else targets)[:200]
    settings = {"seed": 0, "subsample": 0.7, "colsample_bynode": 0.5, "max_depth": None}
    return grow(data.matrix[:200], data.order, y, np.ones(200), growth_of(kinds, trees, 200), settings)


def score_of(data: Data) -> Callable[[Values], float]:
    return lambda found: float(kendalltau(data.targets[200:], found).statistic)


def test_forests_have_the_same_bits_side_by_side_and_one_after_the_other(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for cores in (1, 4, None):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        found.append([bytes(forest.trees.save_raw("json")) for forest in grown(data)])
    assert found[0] == found[1] == found[2]
    assert len(set(found[0])) == len(KINDS)


def test_only_plain_forests_do_without_the_order_of_execution(data: Data) -> None:
    forests = {forest.kind: forest for forest in grown(data)}
    assert {kind: forest.trees.num_features() for kind, forest in forests.items()} == {
        kind: 4 if kind == "plain" else 6 for kind in KINDS
    }
    shuffled = data.matrix.copy()
    shuffled[:, data.order] = shuffled[::-1, data.order]
    for kind, forest in forests.items():
        same = np.array_equal(ask([forest], shuffled, data.order), ask([forest], data.matrix, data.order))
        assert same == (kind == "plain")


def test_without_such_columns_all_see_the_same(data: Data) -> None:
    settings = {"seed": 0}
    (plain,) = grow(data.matrix, slice(0, 0), data.targets, np.ones(400), growth_of(["plain"], 5, 400), settings)
    assert plain.trees.num_features() == 6
    assert ask([plain], data.matrix, slice(0, 0)).shape == (400,)


def test_shallow_trees_are_shallower_and_coarse_ones_deeper_with_larger_leaves(data: Data) -> None:
    def levels(forest: Forest) -> int:
        return max(line.count("\t") for tree in forest.trees.get_dump() for line in tree.split("\n"))

    forests = {forest.kind: forest for forest in grown(data)}
    assert levels(forests["shallow"]) == 1
    assert levels(forests["plain"]) == 3
    assert levels(forests["coarse"]) == 5
    assert [growth_of(["plain"], None, n)["plain"][0] for n in (499, 500)] == [200, 400]


def test_medians_heed_outliers_less(data: Data) -> None:
    disturbed = data.targets + 30.0 * (np.random.default_rng(1).random(400) < 0.1)
    reached = {
        forest.kind: score_of(data)(ask([forest], data.matrix[200:], data.order)) for forest in grown(data, disturbed)
    }
    assert (
        min(reached["median"], reached["coarse-median"])
        > max(reached[k] for k in ("plain", "shallow", "coarse")) + 0.02
    )


def test_a_mean_counts_forests_as_often_as_it_says(data: Data) -> None:
    first, second = (forest.trees for forest in grown(data, kinds=("shallow", "median")))
    found = ask([Forest("shallow", first, 3), Forest("median", second, 1)], data.matrix, data.order)
    expected = (3 * first.inplace_predict(data.matrix).astype(float) + second.inplace_predict(data.matrix)) / 4
    assert found == pytest.approx(expected, abs=1e-6)


def naive_select(forests: tuple[Forest, ...], data: Data) -> dict[str, tuple[int, int]]:
    """Cut every forest at every number of trees, then add them one by one."""
    score, matrix = score_of(data), data.matrix[200:]
    cut = {}
    for forest in forests:
        most = forest.trees.num_boosted_rounds()
        every = [Forest(forest.kind, forest.trees[:n], 1) for n in sorted({*module._PRUNED, most}) if n <= most]
        cut[forest.kind] = max(every, key=lambda one: score(ask([one], matrix, data.order)))
    picked: list[Forest] = []
    for _ in range(module._PICKS):
        more = max(cut.values(), key=lambda one: score(ask([*picked, one], matrix, data.order)))
        if picked and score(ask([*picked, more], matrix, data.order)) <= score(ask(picked, matrix, data.order)):
            break
        picked.append(more)
    kinds = [forest.kind for forest in picked]
    return {kind: (one.trees.num_boosted_rounds(), kinds.count(kind)) for kind, one in cut.items() if kind in kinds}


@pytest.mark.parametrize("noise", [0.0, 0.5, 2.0])
def test_forests_join_the_mean_as_long_as_one_makes_it_better(noise: float, data: Data) -> None:
    noisy = data.targets + noise * np.random.default_rng(2).standard_normal(400)
    forests = grown(data, noisy, 350)
    chosen = select(forests, data.matrix[200:], data.order, score_of(data), among=True)
    assert growth_again(chosen) == naive_select(forests, data)
    assert 1 <= sum(forest.times for forest in chosen) <= 4
    # No mean of so many is much better than the one that was found step by step.
    cut = select(forests, data.matrix[200:], data.order, score_of(data), among=False)
    every = [
        ask(some, data.matrix[200:], data.order) for n in (1, 2, 3, 4) for some in combinations_with_replacement(cut, n)
    ]
    best = max(map(score_of(data), every))
    assert score_of(data)(ask(chosen, data.matrix[200:], data.order)) > best - 0.01


def test_without_a_choice_every_forest_counts_once(data: Data) -> None:
    forests = grown(data, trees=350)
    cut = select(forests, data.matrix[200:], data.order, score_of(data), among=False)
    assert [(forest.kind, forest.times) for forest in cut] == [(kind, 1) for kind in KINDS]
    assert {forest.trees.num_boosted_rounds() for forest in cut} <= {100, 150, 200, 300, 350}
    again = grow(
        data.matrix[:200], data.order, data.targets[:200], np.ones(200), growth_again(cut),
        {"seed": 0, "subsample": 0.7, "colsample_bynode": 0.5},
    )  # fmt: skip
    assert [forest.trees.get_dump() for forest in again] == [forest.trees.get_dump() for forest in cut]
