"""Whether a device runs a network."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from freerea_patch import InputError
from freerea_seval.predictor.models.feasibility_classifier import FeasibilityClassifier


@pytest.fixture(scope="module")
def runs(strings: list[str]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """A device that cannot multiply by zero, unless there are few convolutions."""
    return np.array(["mul(0)" not in s or s.count("conv") < 4 for s in strings])


@pytest.fixture(scope="module")
def support(strings: list[str], runs: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> FeasibilityClassifier:
    return FeasibilityClassifier(seed=1).fit(strings[:80], runs[:80])


def test_unseen_networks_are_told_apart(
    support: FeasibilityClassifier, strings: list[str], runs: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> None:
    found = support.probability(strings)
    assert found.shape == (120,)
    assert found.dtype == np.float64
    assert ((found >= 0) & (found <= 1)).all()
    assert ((found[:80] > 0.5) == runs[:80]).all()
    assert roc_auc_score(runs[80:], found[80:]) > 0.95
    assert support.probability([]).shape == (0,)


def test_a_probability_has_the_same_bits_alone_and_in_any_batch(
    support: FeasibilityClassifier, strings: list[str]
) -> None:
    together = support.probability(strings)
    assert np.array_equal(np.concatenate([support.probability([string]) for string in strings[:20]]), together[:20])


def test_it_comes_back_with_the_same_bits(support: FeasibilityClassifier, strings: list[str]) -> None:
    state, files = support.state()
    again = FeasibilityClassifier(seed=1)
    again.restore(json.loads(json.dumps(state)), files)
    assert np.array_equal(again.probability(strings), support.probability(strings))
    assert again.state() == (state, files)


def test_the_seed_is_all_the_randomness(strings: list[str], runs: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> None:
    first, again, other = (FeasibilityClassifier(seed).fit(strings, runs).probability(strings) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("damage", "message"),
    [("shorter vocabulary", "mismatch"), ("no file", "classifier.json"), ("another file", "no trees of XGBoost")],
)
def test_what_does_not_fit_together_is_refused(damage: str, message: str, support: FeasibilityClassifier) -> None:
    state, files = support.state()
    if damage == "shorter vocabulary":
        state = {"vocabulary": state["vocabulary"][1:]}
    files = {"no file": {}, "another file": {"classifier.json": b"{}"}}.get(damage, files)
    with pytest.raises(Exception, match=message):
        FeasibilityClassifier().restore(state, files)


def test_what_is_no_network_string_is_an_error(support: FeasibilityClassifier) -> None:
    with pytest.raises(InputError, match="'re-lu'"):
        support.probability(["input[1x3] re-lu output"])
