"""Interquartile means, their intervals and paired tests, each beside a plain way to the same number."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, trim_mean, wilcoxon

from freerea_seval.runs.statistics import RESAMPLES, Summary, closed, interquartile_mean, paired_p, summarise

values = st.lists(st.floats(-100, 100), min_size=1, max_size=12)


def plain_iqm(numbers: list[float]) -> float:
    cut = len(numbers) // 4
    middle = sorted(numbers)[cut : len(numbers) - cut]
    return sum(middle) / len(middle)


def plain_p(differences: list[float]) -> float:
    """Every way to give the ranks signs is as likely as the one that came."""
    sizes = sorted(abs(d) for d in differences)
    ranks = [(2 * sizes.index(abs(d)) + sizes.count(abs(d)) + 1) / 2 for d in differences]
    came = sum(rank for rank, d in zip(ranks, differences, strict=True) if d > 0)
    sums = [
        sum(r for r, positive in zip(ranks, signs, strict=True) if positive)
        for signs in product((0, 1), repeat=len(ranks))
    ]
    below = sum(s <= came for s in sums) / len(sums)
    above = sum(s >= came for s in sums) / len(sums)
    return min(1.0, 2 * min(below, above))


@settings(deadline=None)
@given(values)
def test_the_interquartile_mean_is_the_mean_of_the_sorted_middle(numbers: list[float]) -> None:
    assert interquartile_mean(numbers) == pytest.approx(plain_iqm(numbers), abs=1e-9)


def test_one_bad_seed_moves_the_mean_and_not_the_interquartile_mean() -> None:
    summary = summarise([[1.0] * 7 + [81.0]])
    assert summary is not None
    assert (summary.runs, summary.mean, summary.iqm) == (8, 11.0, 1.0)


def test_values_stay_as_they_were() -> None:
    numbers = np.array([3.0, 1.0, 2.0, 5.0])
    summarise([numbers])
    assert numbers.tolist() == [3.0, 1.0, 2.0, 5.0]


def test_an_interval_is_that_of_drawing_seeds_again_within_their_benchmark() -> None:
    rng = random.Random(5)
    groups = [[rng.gauss(place, 1) for _ in range(9)] for place in (0, 4, 20)]
    found = summarise(groups)
    assert found is not None
    means = []
    for _ in range(RESAMPLES):
        means.append(plain_iqm([rng.choice(group) for group in groups for _ in group]))
    means.sort()
    low, high = means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES)]
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.1 * (high - low))
    together = summarise([[value for group in groups for value in group]])
    assert together is not None
    assert together.high - together.low > 2 * (found.high - found.low), "benchmarks differ more than seeds do"


def test_an_interval_of_one_benchmark_is_scipys() -> None:
    numbers = [1.0, 2.5, 2.7, 3.1, 4.0, 4.4, 6.0, 9.0, 9.5, 12.0]
    found = summarise([numbers])
    assert found is not None
    theirs = bootstrap(
        (numbers,), lambda x, axis: trim_mean(x, 0.25, axis=axis), method="percentile", n_resamples=20_000
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.4)


def test_the_same_values_give_the_same_interval() -> None:
    groups = [[1.0, 2.0, 4.0, 8.0, 16.0, 33.0, 47.0, 52.0, 75.0, 99.0]]
    assert summarise(groups) == summarise(groups)
    assert summarise(groups, seed=1) != summarise(groups, seed=2)


def test_no_value_has_no_summary_and_one_value_is_its_own_interval() -> None:
    assert summarise([]) is None
    assert summarise([[], []]) is None
    assert summarise([[], [3.5]]) == Summary(1, 3.5, 3.5, 3.5, 3.5)


@settings(deadline=None)
@given(st.lists(st.integers(-4, 4).filter(bool), min_size=2, max_size=8))
def test_a_paired_test_counts_signs_of_ranks_also_with_ties(differences: list[int]) -> None:
    first = {seed: 10.0 + d for seed, d in enumerate(differences)}
    second = dict.fromkeys(first, 10.0)
    found = paired_p(first, second)
    assert found == pytest.approx(plain_p([float(d) for d in differences]))
    assert paired_p(second, first) == pytest.approx(found), "the other way round is as likely"


def test_one_pair_has_no_p_value() -> None:
    assert paired_p({1: 2.0, 2: 3.0}, {1: 1.0, 3: 1.0}) is None


def test_a_paired_test_without_ties_is_scipys() -> None:
    rng = np.random.default_rng(3)
    for count in (5, 12, 40):
        differences = rng.normal(0.3, 1, count)
        found = paired_p(dict(enumerate(differences)), dict.fromkeys(range(count), 0.0))
        assert found == pytest.approx(wilcoxon(differences).pvalue, rel=1e-6)


def test_pairs_are_made_by_key_and_others_are_left_out() -> None:
    first = {3: 1.0, 1: 2.0, 2: 3.0, 9: 50.0}
    second = {1: 1.5, 2: 2.4, 3: 0.3, 8: -50.0}
    assert paired_p(first, second) == pytest.approx(plain_p([0.7, 0.5, 0.6])) == pytest.approx(0.25)


def test_pairs_without_a_difference_say_nothing() -> None:
    assert paired_p({1: 0.1 + 0.2, 2: 5.0}, {1: 0.3, 2: 5.0}) == 1.0
    with_zeros = paired_p({1: 0.0, 2: 1.0, 3: 2.0, 4: 3.0}, {1: 0.0, 2: 0.0, 3: 0.0, 4: 0.0})
    assert with_zeros == pytest.approx(plain_p([1.0, 2.0, 3.0]))


def test_without_a_common_key_there_is_no_test() -> None:
    assert paired_p({1: 1.0}, {2: 1.0}) is None
    assert paired_p({}, {}) is None


def test_many_seeds_that_all_agree_are_very_unlikely_by_chance() -> None:
    found = paired_p({seed: seed + 1.0 for seed in range(30)}, dict.fromkeys(range(30), 0.0))
    assert found is not None
    assert found < 1e-5


def test_what_is_closed_of_a_regret_counts_common_seeds_only() -> None:
    reference = {"0": 4.0, "1": 2.0, "2": 9.0}
    assert closed({"0": 1.0, "1": 2.0, "3": 100.0}, reference) == pytest.approx(0.5)
    assert closed({"0": 8.0}, reference) == pytest.approx(-1.0)
    assert closed(reference, reference) == 0
    assert closed({"7": 1.0}, reference) is None
    assert closed({"0": 1.0}, {"0": 0.0}) is None
