"""Splits: the published one, and one that keeps equal networks together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from freerea_patch import InputError
from freerea_seval.predictor.splits import Split, grouped_split, published_split


def check_parts(split: Split, n: int) -> None:
    assert np.array_equal(np.sort(np.concatenate(split)), np.arange(n))
    assert all(len(part) for part in split)


def test_the_published_split_is_two_calls_with_seed_42() -> None:
    rest, test = train_test_split(list(range(15_625)), test_size=0.2, random_state=42)
    train, validation = train_test_split(rest, test_size=0.25, random_state=42)
    split = published_split(15_625)
    assert [part.tolist() for part in split] == [train, validation, test]
    assert [len(part) for part in split] == [9_375, 3_125, 3_125]
    check_parts(split, 15_625)


@pytest.mark.parametrize("n", [5, 6, 7, 23])
def test_few_networks_are_split_into_three_parts_of_which_training_is_the_largest(n: int) -> None:
    split = published_split(n)
    check_parts(split, n)
    assert len(split.train) >= max(len(split.validation), len(split.test))


@given(st.lists(st.integers(0, 12), min_size=5, max_size=60), st.integers(0, 3))
def test_a_grouped_split_keeps_every_group_in_one_part(groups: list[int], seed: int) -> None:
    if len(set(groups)) < 3:
        with pytest.raises(InputError, match="at least 3 different groups"):
            grouped_split(groups, seed)
        return
    split = grouped_split(groups, seed)
    check_parts(split, len(groups))
    parts = [{groups[row] for row in part.tolist()} for part in split]
    assert sum(map(len, parts)) == len(set(groups))
    assert not {groups[row] for row in split.train.tolist()} & {groups[row] for row in split.test.tolist()}
    assert all((np.diff(part) > 0).all() for part in split)


@given(st.lists(st.integers(0, 5), min_size=5, max_size=40))
def test_groups_count_by_what_is_equal_not_by_their_names(groups: list[int]) -> None:
    if len(set(groups)) >= 3:
        numbers, names = grouped_split(groups), grouped_split([f"conv({g})" for g in groups])
        assert all(np.array_equal(a, b) for a, b in zip(numbers, names, strict=True))


@pytest.mark.parametrize("n", [5, 50, 1_000])
def test_groups_of_one_give_exactly_the_shares(n: int) -> None:
    split = grouped_split(range(n))
    assert [len(part) for part in split] == [n - 2 * (n // 5), n // 5, n // 5]


def test_large_groups_are_passed_over_where_smaller_ones_fit() -> None:
    groups = ["large"] * 45 + ["middle"] * 15 + [f"single {i}" for i in range(40)]
    for seed in range(10):
        split = grouped_split(groups, seed)
        assert [len(part) for part in split] == [60, 20, 20]
        assert set(range(45)) <= set(split.train.tolist())


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [
        ([10, 10, 10], [10, 10, 10]),  # every part is three groups' worth or none
        ([90, 5, 5], [90, 5, 5]),  # the small ones are left for both parts
        ([25, 25, 25, 25], [50, 25, 25]),
        ([19, 19, 19, 19, 24], [62, 19, 19]),  # 19 is as near to 20 as it gets
    ],
)
def test_where_no_group_fits_the_nearest_is_taken_and_no_part_is_empty(sizes: list[int], parts: list[int]) -> None:
    groups = [number for number, size in enumerate(sizes) for _ in range(size)]
    for seed in range(10):
        assert [len(part) for part in grouped_split(groups, seed)] == parts


def test_another_seed_gives_another_grouped_split() -> None:
    groups = [i // 3 for i in range(300)]
    first, again, other = (grouped_split(groups, seed).test.tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_fresh_processes_split_alike_whatever_the_hash_seed_and_the_threads() -> None:
    script = (
        "from freerea_seval.predictor.splits import grouped_split\n"
        "print(grouped_split([f'conv({i % 40})' for i in range(200)]).test.tolist())"
    )
    printed = set()
    for hash_seed, threads in (("0", "1"), ("77", "2")):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": threads}
        ran = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[3],
            env=environment,
        )
        printed.add(ran.stdout)
    assert len(printed) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: published_split(4), "a split needs at least 5 networks, got 4; measure more networks"),
        (lambda: grouped_split(list("abcd")), "a split needs at least 5 networks, got 4"),
        (lambda: grouped_split(list("aaabb")), "three parts need at least 3 different groups, got 2; use a random"),
    ],
)
def test_what_cannot_be_split_is_an_error_of_one_line(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
