"""What a predictor refuses, in one line."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.exceptions import NotFittedError

from freerea_patch import InputError
from freerea_seval.predictor.models.gbdt_ensemble import BoostedPredictor
from freerea_seval.predictor.seval import SEvalPredictor
from tests.freerea_seval.predictor.conftest import chain

GOOD = [chain(seed) for seed in range(12)]
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("strings", "y", "message"),
    [
        (
            GOOD,
            [*range(11), NAN],
            "1 of 12 values are NaN or -inf, the first at index 11; leave out networks without a",
        ),
        (GOOD, [-INF, *range(11)], "1 of 12 values are NaN or -inf, the first at index 0; .*write inf for those that"),
        (GOOD, [*range(9), INF, INF, INF], "a predictor needs at least 10 values of each metric, got 9; measure more"),
        (GOOD, [[1, 2]] * 9 + [[1, NAN]] * 3, "a predictor needs at least 10 values of each metric, got 9"),
        (GOOD, [[1, -INF]] * 12, "12 of 24 values are NaN or -inf"),
        (GOOD, [1, 2, 3], r"expected one row of values a string, got 12 strings and values of shape \(3,\)"),
        (GOOD, [[]] * 12, r"values of shape \(12, 0\)"),
        (GOOD, ["slow"] * 12, "expected numbers as values, got list"),
        ([], [], "a predictor needs at least 10 values of each metric, got 0"),
        (GOOD[0], [1], "expected a list of network strings"),
        ([*GOOD[:11], "resnet"], list(range(12)), "'resnet'"),
    ],
)
def test_a_training_set_that_cannot_be_used_is_an_error_of_one_line(
    strings: Any, y: npt.ArrayLike, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        SEvalPredictor("boosted", "linear", {"n_estimators": 10}).fit(strings, y)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("predictor", "message"),
    [
        (SEvalPredictor("boostd"), r"unknown model 'boostd'; did you mean 'boosted'\?"),
        (SEvalPredictor(scale="ranks"), r"unknown scale 'ranks'; did you mean 'rank'\?"),
        (SEvalPredictor(parameters={"n_estimators": 3}), "parameters belong to a model; name one beside them"),
        (SEvalPredictor("boosted", parameters={"trees": 3}), "unknown parameter of model 'boosted': 'trees'. Valid: "),
        (SEvalPredictor("boosted", parameters={"subsample": 7}), "xgboost cannot train with .*subsample"),
    ],
)
def test_a_parameter_that_is_none_is_an_error_of_one_line(predictor: SEvalPredictor, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        predictor.fit(GOOD, range(12))
    assert "\n" not in str(caught.value)


def test_an_internal_error_is_not_taken_for_a_mistake_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise TypeError("internal")

    monkeypatch.setattr(BoostedPredictor, "fit", broken)
    with pytest.raises(TypeError, match="internal"):
        SEvalPredictor("boosted").fit(GOOD, range(12))


def test_a_base_predictor_that_needs_proxies_is_refused() -> None:
    base = SEvalPredictor("boosted", "linear", {"n_estimators": 3}).fit(GOOD, range(12), np.ones((12, 2)))
    with pytest.raises(
        InputError, match="a base predictor learned from 2 proxies, which are not available here; expected"
    ):
        SEvalPredictor("boosted").fit(GOOD, range(12), base=[base])
    with pytest.raises(NotFittedError):
        SEvalPredictor("boosted").fit(GOOD, range(12), base=[SEvalPredictor()])


def test_a_single_string_is_refused_at_prediction(strings: list[str]) -> None:
    values = [INF, INF, *range(18)]
    auto = SEvalPredictor("boosted", "linear", {"n_estimators": 10}).fit(strings[:20], values)
    for call in (auto.predict, auto.supported):
        with pytest.raises(InputError, match="expected a list of network strings"):
            call(strings[0])
        with pytest.raises(InputError, match="'re-lu'"):
            call(["input[1x3] re-lu output"])


@pytest.mark.parametrize("model", ["mlp", "t5"])
def test_proxies_are_refused_by_models_that_would_not_see_them(model: str) -> None:
    with pytest.raises(InputError, match="reads strings alone; with proxies or base, expected boosted"):
        SEvalPredictor(model).fit(GOOD, range(12), np.ones((12, 2)))
