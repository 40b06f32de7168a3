"""The small network on features: contract, several metrics, state, determinism."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import kendalltau
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from freerea_patch import InputError
from freerea_seval.predictor.models.mlp import MLPPredictor
from tests.freerea_seval.predictor.conftest import chain

pytest.importorskip("torch")

QUICK: dict[str, Any] = {"width": 24, "layers": 2, "epochs": 60}


@pytest.fixture(scope="module")
def both(strings: list[str], values: list[float]) -> npt.NDArray[np.float64]:
    """Latency, and an accuracy that is not known of every third network."""
    accuracy = np.array([90.0 - string.count("mul(0)") for string in strings])
    accuracy[::3] = np.nan
    return np.stack([np.array(values), accuracy], axis=1)


@pytest.fixture(scope="module")
def joint(strings: list[str], both: npt.NDArray[np.float64]) -> MLPPredictor:
    return MLPPredictor(**QUICK).fit(strings[:80], both[:80])


def test_the_predictor_keeps_scikit_learns_contract(strings: list[str], values: list[float]) -> None:
    predictor = MLPPredictor(**QUICK, seed=3)
    assert not [name for name in vars(predictor) if name.endswith("_")]
    assert predictor.fit(strings, values) is predictor
    twin = clone(predictor)
    assert twin.get_params() == predictor.get_params()
    with pytest.raises(NotFittedError):
        twin.predict(strings)
    with pytest.raises(NotFittedError):
        twin.state()
    assert np.array_equal(twin.fit(strings, values).predict(strings), predictor.predict(strings))
    assert predictor.score(strings, values) > 0.9


def test_unseen_networks_are_ranked_in_both_metrics(
    joint: MLPPredictor, strings: list[str], values: list[float]
) -> None:
    found = joint.predict(strings[80:])
    assert found.shape == (40, 2)
    assert kendalltau(found[:, 0], values[80:]).statistic > 0.75
    assert kendalltau(found[:, 1], [-string.count("mul(0)") for string in strings[80:]]).statistic > 0.6
    assert found[:, 1].mean() == pytest.approx(90, abs=3)


def test_shapes_are_those_of_training(joint: MLPPredictor, strings: list[str], values: list[float]) -> None:
    assert joint.predict([]).shape == (0, 2)
    single = MLPPredictor(width=8, layers=1, epochs=2).fit(strings, values)
    assert single.predict(strings[:3]).shape == (3,)
    assert single.predict([]).shape == (0,)
    column = MLPPredictor(width=8, layers=1, epochs=2).fit(strings, np.array(values)[:, None])
    assert np.array_equal(column.predict(strings), single.predict(strings)[:, None])


def test_a_prediction_does_not_depend_on_what_else_is_in_the_batch(joint: MLPPredictor, strings: list[str]) -> None:
    together = joint.predict(strings)
    assert np.concatenate([joint.predict([string]) for string in strings[:20]]) == pytest.approx(
        together[:20], rel=1e-12
    )
    assert joint.predict(strings[::-1])[::-1] == pytest.approx(together, rel=1e-12)


def test_equal_strings_are_one_sample_with_their_mean(strings: list[str], values: list[float]) -> None:
    twice = MLPPredictor(**QUICK).fit(strings * 2, [*(v - 1 for v in values), *(v + 1 for v in values)])
    once = MLPPredictor(**QUICK).fit(strings, values)
    assert twice.predict(strings) == pytest.approx(once.predict(strings), rel=1e-6)


def test_the_unit_of_the_values_does_not_matter(strings: list[str], values: list[float]) -> None:
    plain, scaled = (
        MLPPredictor(width=8, epochs=5).fit(strings, y).predict(strings)
        for y in (np.array(values), 1e6 * np.array(values) - 5e7)
    )
    assert scaled == pytest.approx(1e6 * plain - 5e7, rel=1e-4)


def test_a_constant_and_a_network_of_another_size_have_finite_predictions(strings: list[str]) -> None:
    predictor = MLPPredictor(width=8, epochs=5).fit(strings[:20], [3.5] * 20)
    wide = "input[" + "x".join(["999999999999999999"] * 30) + "] 100*relu linear output"
    assert np.isfinite(predictor.predict([*strings, wide])).all()
    assert MLPPredictor(**QUICK).fit(strings[:20], [3.5] * 20).predict(strings[:1]) == pytest.approx([3.5], abs=0.2)


def test_the_seed_is_all_the_randomness_and_the_callers_is_left_alone(strings: list[str], values: list[float]) -> None:
    import torch

    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    first, again, other = (MLPPredictor(width=8, epochs=3, seed=s).fit(strings, values) for s in (1, 1, 2))
    assert torch.rand(1) == expected
    assert first.state() == again.state()
    assert first.state() != other.state()


def test_a_state_restores_the_same_bits(joint: MLPPredictor, strings: list[str]) -> None:
    state, files = joint.state()
    assert list(files) == ["mlp.safetensors"]
    again = MLPPredictor(**QUICK)
    again.restore(json.loads(json.dumps(state)), files)
    assert np.array_equal(again.predict(strings), joint.predict(strings))
    assert again.state() == (state, files)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"vocabulary": []}, "broadcast"),
        ({"layers": 9}, "9?.weight"),
        ({"layers": 10**15}, "3.weight"),
        ({"layers": 1}, "layers"),
        (None, "mlp.safetensors"),
        (b"{}", "(?i)header"),
    ],
)
def test_a_state_that_does_not_fit_together_is_refused(
    damage: dict[str, Any] | bytes | None, message: str, joint: MLPPredictor
) -> None:
    state, files = joint.state()
    if isinstance(damage, dict):
        state |= damage
    else:
        files = {} if damage is None else {"mlp.safetensors": damage}
    with pytest.raises(Exception, match=message):
        MLPPredictor(**QUICK).restore(state, files)


def test_progress_is_told(strings: list[str], values: list[float]) -> None:
    told: list[float] = []
    MLPPredictor(width=8, epochs=4).fit(strings, values, show=lambda fraction, note: told.append(fraction))
    assert told == sorted(told)
    assert told[-1] == 1.0


GOOD = [chain(seed) for seed in range(6)]


@pytest.mark.parametrize(
    ("strings", "y", "message"),
    [
        (GOOD, [1, 2, 3, float("nan"), 5, 6], "1 of 6 values are infinite, or NaN with a single metric"),
        (GOOD, [1, 2, 3], "expected one row of values a string, got 6 strings"),
        (GOOD[:4], [1, 2, 3, 4], "a predictor needs at least 5 values of each metric, got 4"),
        (GOOD[0], [1], "expected a list of network strings"),
        ([*GOOD[:5], "resnet"], [1, 2, 3, 4, 5, 6], "'resnet'"),
    ],
)
def test_a_training_set_that_cannot_be_used_is_an_error_of_one_line(
    strings: Any, y: npt.ArrayLike, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        MLPPredictor(width=4, epochs=1).fit(strings, y)
    assert "\n" not in str(caught.value)
