"""Trees that somebody has changed are refused before XGBoost follows their indices out of memory, or for ever."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from freerea_patch import InputError
from freerea_seval.predictor import folder as folder_module
from freerea_seval.predictor.folder import load_predictor, save_predictor
from freerea_seval.predictor.models.gbdt_ensemble import BoostedPredictor
from freerea_seval.predictor.models.xgboost_io import MOST_FEATURES, load_trees
from freerea_seval.predictor.seval import SEvalPredictor
from tests.freerea_seval.predictor.test_folder import INFO


@pytest.fixture(scope="module")
def content(fitted: BoostedPredictor) -> bytes:
    """The trees of a predictor, as it saves them."""
    return fitted.state()[1]["trees-0.json"]


def test_trees_that_nobody_changed_come_back(content: bytes, fitted: BoostedPredictor) -> None:
    trees = load_trees(content)
    assert trees.num_boosted_rounds() == 60
    matrix = np.random.default_rng(0).random((20, trees.num_features()))
    assert np.array_equal(trees.inplace_predict(matrix), fitted.blends_[0].trees.inplace_predict(matrix))


def at(*place: str | int, value: Any) -> Callable[[Any], None]:
    """Return what sets a value within the learner."""

    def change(whole: Any) -> None:
        found = whole["learner"]
        for key in place[:-1]:
            found = found[key]
        found[place[-1]] = value

    return change


MODEL = ("gradient_booster", "model")
TREE = (*MODEL, "trees", 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (at("learner_model_param", "num_feature", value=str(MOST_FEATURES + 1)), "number of features"),
        (at("learner_model_param", "num_feature", value="-1"), "number of features"),
        (at(*TREE, "left_children", 0, value=10**6), "tree 0: a child out of range"),
        (at(*TREE, "right_children", 0, value=10**6), "tree 0: a child out of range"),
        (at(*TREE, "left_children", 0, value=-5), "tree 0: a child out of range"),
        (at(*TREE, "left_children", 0, value=-1), "tree 0: a child out of range"),
        (at(*TREE, "left_children", 1, value=0), "tree 0: a child out of range"),  # a circle
        (at(*TREE, "left_children", 1, value=1), "tree 0: a child of two parents"),  # a circle
        (at(*TREE, "left_children", 0, value=1.5), "tree 0: left_children"),
        (at(*TREE, "left_children", value=[]), "tree 0: left_children"),
        (at(*TREE, "parents", 0, value=1), "tree 0: a root with a parent"),
        (at(*TREE, "parents", 1, value=10**6), "tree 0: a child of two parents"),
        (at(*TREE, "split_indices", 0, value=10**6), "tree 0: a split index out of range"),
        (at(*TREE, "split_indices", 0, value=-1), "tree 0: a split index out of range"),
        (at(*TREE, "split_type", 0, value=1), "tree 0: splits by category"),
        (at(*TREE, "split_conditions", value=[1.0]), "tree 0: number of nodes"),
        (at(*TREE, "tree_param", "num_nodes", value="1000000"), "tree 0: number of nodes"),
        (at(*TREE, "tree_param", "size_leaf_vector", value="9"), "tree 0: its size"),
        (at(*TREE, "id", value=1), "numbers of trees"),
        (at(*TREE, "id", value=10**6), "numbers of trees"),
        (at(*TREE, "id", value=False), "numbers of trees"),
        (at(*MODEL, "tree_info", 0, value=7), "trees of more than one output"),
        (at(*MODEL, "iteration_indptr", 1, value=10**6), "another number of trees"),
        (at(*MODEL, "gbtree_model_param", "num_trees", value="1000000"), "another number of trees"),
        (at("learner_model_param", "num_class", value="9"), "more than one output"),
        (at("gradient_booster", "name", value="dart"), "booster 'dart'"),
        (at("gradient_booster", value=3), "no trees of XGBoost: TypeError"),
    ],
)
def test_an_index_out_of_range_is_an_error(change: Callable[[Any], None], message: str, content: bytes) -> None:
    whole = json.loads(content)
    change(whole)
    with pytest.raises(ValueError, match=message):
        load_trees(json.dumps(whole).encode())


@pytest.mark.parametrize("changed", [b"{}", b"[]", b"3", b"\x00" * 50, b"[" * 100_000, '{"a": 1}'.encode("utf-16")])
def test_what_is_no_file_of_trees_is_an_error(changed: bytes) -> None:
    with pytest.raises(ValueError, match=r"no trees of XGBoost|codec can't decode|Expecting value"):
        load_trees(changed)


def test_a_key_that_is_there_twice_is_an_error(content: bytes) -> None:
    with pytest.raises(ValueError, match="a duplicate key"):
        load_trees(content.replace(b'"left_children"', b'"left_children":[1000000],"left_children"', 1))


def test_a_changed_tree_with_renewed_hashes_is_a_damaged_folder(
    tmp_path: Path, strings: list[str], values: list[float]
) -> None:
    table = np.where(np.arange(40) % 4 == 0, np.inf, values[:40])
    saved = tmp_path / "p"
    save_predictor(saved, SEvalPredictor("boosted", "linear", {"n_estimators": 3}).fit(strings[:40], table), INFO)
    before = (saved / "predictor.json").read_bytes()
    for name in ("boosted-trees-0.json", "classifier-0-classifier.json"):
        trees, manifest = json.loads(content := (saved / name).read_bytes()), json.loads(before)
        at(*TREE, "left_children", 0, value=10**6)(trees)
        (saved / name).write_text(json.dumps(trees))
        manifest["files"][name] = hashlib.sha256((saved / name).read_bytes()).hexdigest()
        manifest["digest"] = folder_module._digest(manifest)
        (saved / "predictor.json").write_text(json.dumps(manifest))
        with pytest.raises(InputError, match=r"damaged \(no trees that this package writes: tree 0: a child out of"):
            load_predictor(saved)
        (saved / name).write_bytes(content)
