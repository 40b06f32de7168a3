"""XGBoost's JSON from an untrusted file: indices are checked first, because XGBoost follows them unchecked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import xgboost

#: XGBoost allocates memory for as many features as a file declares; vocabularies have some thousands.
MOST_FEATURES = 2**20
#: What XGBoost writes as the parent of a root.
_NO_PARENT = 2**31 - 1
#: Arrays of a tree with one entry for each node, beside its indices.
_PER_NODE = ("base_weights", "default_left", "loss_changes", "split_conditions", "split_type", "sum_hessian")


def load_trees(content: bytes) -> xgboost.Booster:
    """Return the trees of a file that ``save_raw("json")`` gave.

    An index out of range would crash the process, and a cycle would never end. A hash cannot protect from this: whoever
    changes the file can change the hash.

    Raises:
        ValueError: the file is not JSON, or its content is not of this form.
        Exception: XGBoost cannot read it; it has exceptions of its own.
    """
    import xgboost

    try:
        _check(json.loads(content.decode("utf-8"), object_pairs_hook=_once))
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no trees of XGBoost: {type(error).__name__} {error}") from None
    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(content))
    return booster


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; a duplicate key is refused, as XGBoost might use the value that was not checked."""
    unique = dict(pairs)
    if len(unique) < len(pairs):
        raise ValueError("no trees of XGBoost: a duplicate key")
    return unique


def _check(content: Mapping[str, Any]) -> None:
    learner = content["learner"]
    parameters, booster = learner["learner_model_param"], learner["gradient_booster"]
    _demand(booster["name"] == "gbtree", f"booster {booster['name']!r}")
    single = int(parameters["num_class"]) == 0 and int(parameters.get("num_target", 1)) == 1
    _demand(single and "," not in parameters["base_score"], "more than one output")
    _demand(0 <= int(parameters["num_feature"]) <= MOST_FEATURES, "number of features")
    model = booster["model"]
    _demand(not model.get("cats", {}).get("enc"), "categories")
    trees = model["trees"]
    rounds = model.get("iteration_indptr", list(range(len(trees) + 1)))
    counted = int(model["gbtree_model_param"]["num_trees"]) == len(trees) and rounds == list(range(len(trees) + 1))
    _demand(counted and int(model["gbtree_model_param"]["num_parallel_tree"]) == 1, "another number of trees")
    _demand(model["tree_info"] == [0] * len(trees), "trees of more than one output")
    # XGBoost puts each tree in the place that its id names; a place that stays empty crashes the process.
    _demand([repr(tree["id"]) for tree in trees] == [str(number) for number in range(len(trees))], "numbers of trees")
    for number, tree in enumerate(trees):
        _check_tree(tree, int(parameters["num_feature"]), f"tree {number}")


def _check_tree(tree: Mapping[str, Any], features: int, name: str) -> None:
    param = tree["tree_param"]
    nodes = int(param["num_nodes"])
    _demand(nodes > 0 and int(param["size_leaf_vector"]) <= 1 and int(param["num_deleted"]) == 0, f"{name}: its size")
    _demand(all(isinstance(tree[k], list) and len(tree[k]) == nodes for k in _PER_NODE), f"{name}: number of nodes")
    _demand(not any(tree["split_type"]) and not tree.get("categories_nodes"), f"{name}: splits by category")
    left, right, parents, splits = (
        _indices(tree[key], nodes, f"{name}: {key}")
        for key in ("left_children", "right_children", "parents", "split_indices")
    )
    inner = np.flatnonzero((left != -1) | (right != -1))
    for children in (left[inner], right[inner]):
        _demand(bool(((children > 0) & (children < nodes)).all()), f"{name}: a child out of range")
        # If each child names its parent and the root has none, no cycle can be reached.
        _demand(bool((parents[children] == inner).all()), f"{name}: a child of two parents")
    _demand(parents[0] == _NO_PARENT, f"{name}: a root with a parent")
    _demand(bool(((parents[1:] >= 0) & (parents[1:] < nodes)).all()), f"{name}: a parent out of range")
    _demand(bool(((splits >= 0) & (splits < features))[inner].all()), f"{name}: a split index out of range")


def _indices(values: Any, nodes: int, name: str) -> npt.NDArray[np.int64]:
    array = np.asarray(values)
    _demand(array.dtype.kind == "i" and array.shape == (nodes,), name)
    return array


def _demand(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"no trees that this package writes: {what}")
