"""The batch of tokens: where it may come from, and what is wrong with one that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from freerea_patch import GPTSpace, InputError, Subspace, TopologySpace
from freerea_patch.training_free import LENGTH, load_inputs, load_tokens

TEN = np.arange(80, dtype=np.int32).reshape(10, 8)
SPACE = GPTSpace([32], [2], [1], [2], context=16, vocabulary=100)


def load(spec: str, size: int = 4, length: int | None = None) -> Any:
    return load_tokens(spec, size=size, vocabulary=100, context=16, length=length)


def test_random_tokens_are_of_the_vocabulary_and_fixed_by_their_seed() -> None:
    first = load_tokens("tokens", size=200, vocabulary=7, context=1024, seed=1)
    assert first.shape == (200, LENGTH)
    assert set(np.unique(first)) == set(range(7))
    np.testing.assert_array_equal(first, load_tokens("random", size=200, vocabulary=7, context=1024, seed=1))
    assert not np.array_equal(first, load_tokens("random", size=200, vocabulary=7, context=1024, seed=2))
    assert load("tokens").shape == (4, 16)  # the context
    assert load("tokens", length=5).shape == (4, 5)


def array_of_tokens(size: int) -> Any:
    return TEN[: size + 1]


def array_of_floats(size: int) -> Any:
    return TEN.astype(np.float32)


def test_tokens_come_from_a_file_or_a_function(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", tokens=TEN)
    for spec in (str(tmp_path / "t.npz"), f"{__name__}:array_of_tokens"):
        np.testing.assert_array_equal(load(spec), TEN[:4])
        assert load(spec).dtype == np.int64
        np.testing.assert_array_equal(load(spec, length=3), TEN[:4, :3])


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"images": TEN}, {}, "has no array 'tokens', only: images"),
        ({"tokens": TEN.astype(float)}, {}, r"expected whole numbers of shape \(n, tokens\), got float64"),
        ({"tokens": TEN[0]}, {}, r"expected whole numbers of shape \(n, tokens\), got int32 of shape \(8,\)"),
        ({"tokens": TEN}, {"size": 11}, "has 10 sequences, fewer than the batch size 11"),
        ({"tokens": TEN}, {"length": 9}, r"expected from 9 to 16 tokens a sequence, got 8; set live\.length"),
        ({"tokens": np.hstack([TEN, TEN, TEN])}, {}, "expected from 2 to 16 tokens a sequence, got 24"),
        ({"tokens": TEN + 90}, {}, "expected tokens from 0 to 99, got 90 to 121"),
        ({"tokens": TEN - 1}, {}, "expected tokens from 0 to 99, got -1 to 30"),
    ],
)
def test_arrays_that_are_no_tokens_are_refused(
    tmp_path: Path, arrays: dict[str, Any], options: dict[str, int], message: str
) -> None:
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(InputError, match=message):
        load(str(tmp_path / "t.npz"), **options)


def test_settings_that_do_not_fit_are_refused() -> None:
    for spec, options, message in (
        ("noise", {}, "expected 'tokens', FILE.npz or pkg.module:callable, got 'noise'"),
        ("tokens", {"size": 1}, "batch size must be at least 2"),
        ("tokens", {"length": 17}, "length: expected from 2 to 16 tokens, the context of the space, got 17"),
        (f"{__name__}:array_of_floats", {}, "expected whole numbers"),
    ):
        with pytest.raises(InputError, match=message):
            load(spec, **options)


def test_a_space_decides_between_images_and_tokens() -> None:
    assert load_inputs(SPACE, "random", size=2).dtype == np.int64
    limited = Subspace(SPACE, [SPACE._example()])
    assert load_inputs(limited, "tokens", size=2, length=4).shape == (2, 4)
    images = TopologySpace()
    assert load_inputs(images, "random", size=2).shape == (2, 3, 32, 32)
    with pytest.raises(InputError, match=r"batch: tokens is of spaces whose networks read tokens, such as gpt-s"):
        load_inputs(images, "tokens", size=2)
    with pytest.raises(InputError, match=r"length is of spaces whose networks read tokens"):
        load_inputs(images, "random", size=2, length=4)
    del limited.vocabulary
    with pytest.raises(InputError, match=r"add a member vocabulary, such as vocabulary = 50_254"):
        load_inputs(limited, "tokens", size=2)
