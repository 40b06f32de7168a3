"""The models by name, and scikit-learn's own checks of them, as far as these know text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import make_scorer, mean_absolute_error
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks

from freerea_patch import InputError
from freerea_seval.predictor.models import registry as by_name
from freerea_seval.predictor.models.gbdt_ensemble import BoostedPredictor
from freerea_seval.predictor.models.mlp import MLPPredictor
from freerea_seval.predictor.models.registry import MODELS, ask, make, members, train
from freerea_seval.predictor.seval import SEvalPredictor

ESTIMATORS: list[Callable[[], Any]] = [
    lambda: BoostedPredictor(n_estimators=5),
    lambda: MLPPredictor(width=8, layers=1, epochs=3),
    lambda: SEvalPredictor("boosted", "linear", {"n_estimators": 5}),
]
NAMES = ["boosted", "mlp", "seval"]
estimators = pytest.mark.parametrize("new", ESTIMATORS, ids=NAMES)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "ensemble"])
def test_every_model_is_made_with_the_seed_unless_its_parameters_say_another(name: str) -> None:
    assert make(name, 3, {}).seed == 3
    assert make(name, 3, {"seed": 5}).seed == 5
    with pytest.raises(InputError, match=f"unknown parameter of model '{name}': 'colour'. Valid: .*seed"):
        make(name, 3, {"colour": 5})


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(InputError, match=r"unknown model 'boostd'; did you mean 'boosted'\?"):
        make("boostd", 0, {})


@pytest.mark.parametrize(
    ("networks", "proxies", "expected"),
    [
        (10, False, ("boosted", "gp")),
        (1000, True, ("boosted", "gp")),
        (1001, False, ("boosted", "mlp")),
        (1001, True, ("boosted",)),
    ],
)
def test_an_ensemble_is_trees_beside_what_the_number_of_networks_allows(
    networks: int, proxies: bool, expected: tuple[str, ...]
) -> None:
    pytest.importorskip("torch")
    assert members("ensemble", networks, proxies) == expected
    assert members("gp", networks, proxies) == ("gp",)


def test_without_torch_a_large_ensemble_is_trees_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_name, "find_spec", lambda name: None)
    assert members("ensemble", 1001, False) == ("boosted",)
    assert members("ensemble", 1000, False) == ("boosted", "gp")


def test_proxies_reach_the_models_that_use_them_and_no_other(strings: list[str], values: list[float]) -> None:
    targets, more = np.array(values)[:40, None], np.random.default_rng(0).standard_normal((40, 2))
    boosted = train("boosted", strings[:40], targets, more, 0, {"n_estimators": 3}, False)
    assert boosted.proxies_ == 2
    assert ask("boosted", boosted, strings[:40], more).shape == (40, 1)
    mlp = train("mlp", strings[:40], targets, more, 0, {"width": 4, "epochs": 1}, False)
    assert ask("mlp", mlp, strings[:40], more).shape == (40, 1)
    assert train("boosted", strings[:40], targets, None, 0, {"n_estimators": 3}, False).proxies_ == 0


def test_trees_alone_know_what_distinct_networks_are(strings: list[str], values: list[float]) -> None:
    targets = np.array(values)[:40, None]
    assert train("boosted", strings[:40], targets, None, 0, {"n_estimators": 3}, True).distinct
    assert train("gp", strings[:20], targets[:20], None, 0, {}, True).predict(strings[:3]).shape == (3, 1)


#: Checks that need no table of numbers; what else scikit-learn has for text it does not say.
CHECKS = (
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimators_unfitted",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_mixin_order",
)


@estimators
@pytest.mark.parametrize("check", CHECKS)
def test_scikit_learns_checks_of_parameters_and_tags_hold(check: str, new: Callable[[], Any]) -> None:
    function = getattr(estimator_checks, check, None)
    if function is None:
        pytest.skip(f"this scikit-learn has no {check}")
    function(type(new()).__name__, new())


@estimators
def test_tags_say_that_it_reads_text(new: Callable[[], Any]) -> None:
    sklearn_utils = pytest.importorskip("sklearn.utils")
    if not hasattr(sklearn_utils, "get_tags"):
        pytest.skip("this scikit-learn has no tags")
    tags = sklearn_utils.get_tags(new())
    assert tags.estimator_type == "regressor"
    assert tags.input_tags.string
    assert not tags.input_tags.two_d_array
    assert tags.target_tags.multi_output


@estimators
def test_a_clone_learns_the_same(new: Callable[[], Any], strings: list[str], values: list[float]) -> None:
    fitted = new().fit(strings, values)
    twin = clone(fitted)
    assert twin.get_params() == fitted.get_params()
    assert not [name for name in vars(twin) if name.endswith("_")]
    assert np.array_equal(twin.fit(strings, values).predict(strings), fitted.predict(strings))


@estimators
def test_pipelines_and_cross_validation_take_it(
    new: Callable[[], Any], strings: list[str], values: list[float]
) -> None:
    pipeline = make_pipeline(FunctionTransformer(lambda them: [string.strip() for string in them]), new())
    padded = [f" {string} " for string in strings]
    folds = KFold(3, shuffle=True, random_state=0)
    assert np.array_equal(
        cross_val_predict(pipeline, padded, values, cv=folds), cross_val_predict(new(), strings, values, cv=folds)
    )
    scores = cross_val_score(new(), np.array(strings, dtype=object), values, cv=folds)
    assert scores.shape == (3,)
    assert np.isfinite(scores).all()


def test_a_grid_search_finds_the_parameters_that_predict_best(strings: list[str], values: list[float]) -> None:
    scoring = make_scorer(mean_absolute_error, greater_is_better=False)
    search = GridSearchCV(BoostedPredictor(learning_rate=0.2), {"n_estimators": [1, 60]}, cv=3, scoring=scoring)
    search.fit(strings, values)
    assert search.best_params_ == {"n_estimators": 60}
    assert search.best_estimator_.n_estimators == 60
    nested = GridSearchCV(SEvalPredictor("boosted", "linear"), {"parameters": [{"n_estimators": 2}]}, cv=2)
    assert nested.fit(strings, values).best_estimator_.models_[0].n_estimators == 2
