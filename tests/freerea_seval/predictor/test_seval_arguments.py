"""Settings, base predictors, strings and values that a predictor cannot use are one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from freerea_patch import InputError
from freerea_seval.predictor.folder import load_predictor, save_predictor
from freerea_seval.predictor.models.validation import check_range
from freerea_seval.predictor.seval import SEvalPredictor
from freerea_seval.predictor.training import Target, train_predictor
from tests.freerea_seval.predictor.conftest import chain
from tests.freerea_seval.predictor.test_folder import INFO

GOOD = [chain(seed) for seed in range(12)]
QUICK = {"n_estimators": 3}


class Frame:
    """What a table of pandas does: it counts its rows, and yields the names of its columns."""

    ndim = 2

    def __len__(self) -> int:
        return 12

    def __iter__(self) -> Any:
        return iter(["string"])


@pytest.fixture(scope="module")
def learned() -> SEvalPredictor:
    return SEvalPredictor("boosted", "linear", QUICK).fit(GOOD, range(12))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": None}, "model must be a name, such as 'auto', not None"),
        ({"scale": 3}, "scale must be a name, such as 'auto', not 3"),
        ({"model": "boosted", "parameters": [1]}, r"parameters must be a mapping, such as .*, not \[1\]"),
        ({"seed": -1}, "seed must be a whole number from 0 to 4294967295, not -1"),
        ({"seed": 5_000_000_000}, "seed must be a whole number from 0 to 4294967295, not 5000000000"),
        ({"seed": None}, "seed must be a whole number from 0 to 4294967295, not None"),
        ({"seed": True}, "seed must be a whole number"),
        ({"seed": "a"}, "seed must be a whole number"),
    ],
)
def test_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        SEvalPredictor(**settings).fit(GOOD, range(12))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", [2**32 - 1, np.int64(7)])
def test_seeds_at_the_end_of_the_range_and_of_numpy_are_used_and_saved(seed: Any, tmp_path: Path) -> None:
    values = [np.inf, np.inf, *range(10)]
    predictor = SEvalPredictor("ensemble", seed=seed).fit(GOOD, values)
    save_predictor(tmp_path / "p", predictor, INFO)
    restored = load_predictor(tmp_path / "p")[0]
    assert restored.seed == seed
    assert np.array_equal(restored.predict(GOOD), predictor.predict(GOOD))


@pytest.mark.parametrize("strings", [None, 3, Frame(), dict.fromkeys(GOOD), set(GOOD), (s for s in GOOD), b"ab"])
def test_what_is_no_list_of_strings(strings: Any, learned: SEvalPredictor) -> None:
    for call in (learned.predict, learned.supported, lambda s: SEvalPredictor().fit(s, range(12))):
        with pytest.raises(InputError, match="expected a list of network strings"):
            call(strings)


def test_an_array_of_strings_is_a_list(learned: SEvalPredictor) -> None:
    assert np.array_equal(learned.predict(np.array(GOOD)), learned.predict(GOOD))  # type: ignore[call-overload]


def test_the_side_of_a_bound(learned: SEvalPredictor) -> None:
    with pytest.raises(InputError, match="side must be 'lower' or 'upper', not 'foo'"):
        learned.bound(GOOD, "foo", 0.5)  # type: ignore[arg-type]


def test_base_predictors_that_are_none(learned: SEvalPredictor) -> None:
    for base in (learned, [3], {"a": learned}, ["folder"], "folder", None):
        with pytest.raises(InputError, match="base must be a list of trained predictors") as caught:
            SEvalPredictor().fit(GOOD, range(12), base=base)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("proxies", "message"),
    [
        ([["a"]] * 12, "expected a table of numbers as proxies, got list"),
        (3, r"expected proxies of shape \(networks, proxies\), got shape \(\)"),
    ],
)
def test_proxies_that_are_none(proxies: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SEvalPredictor("boosted").fit(GOOD, range(12), proxies)


def test_values_that_cannot_be_squared_are_refused() -> None:
    for factor, message in (
        (1e300, "11 values are beyond 1e.150, the first, at index 1, is 1e.300; give the metric in a larger unit"),
        (-1e300, "11 values are beyond 1e.150"),
        (
            1e-310,
            "values of a metric differ by 1.1e-309 at most, expected at least 1e-150; give .* in a smaller unit",
        ),
    ):
        with pytest.raises(InputError, match=message):
            SEvalPredictor("boosted").fit(GOOD, np.arange(12.0) * factor)
    check_range(np.array([[1e-310, np.nan], [1e-310, np.inf], [1e-310, 1e150]]))  # equal values are no mistake


@pytest.mark.parametrize("factor", [1e148, 1e-148])
def test_the_largest_and_the_smallest_values_make_a_folder_that_can_be_read(factor: float, tmp_path: Path) -> None:
    values = np.arange(1.0, 13.0) * factor
    target = Target("latency", "ms", "min")
    predictor, info = train_predictor(GOOD, values, [target], space_name="chains", view="executed")
    save_predictor(tmp_path / "p", predictor, info)
    assert load_predictor(tmp_path / "p")[1] == info
    assert np.isfinite(predictor.predict(GOOD)).all()
