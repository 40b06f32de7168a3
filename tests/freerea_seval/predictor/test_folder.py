"""Predictors as folders: what is written is read back, and what is damaged is named."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from freerea_patch import InputError
from freerea_seval.predictor import folder as module
from freerea_seval.predictor.boosted import BoostedPredictor
from freerea_seval.predictor.folder import PredictorInfo, load_predictor, save_predictor

INFO = PredictorInfo(
    metric="latency",
    unit="ms",
    direction="min",
    space="nats-tss/cifar10",
    view="functional",
    samples=80,
    trained_on="0" * 64,
    versions={"xgboost-cpu": "3.2.0"},
    scores={"kendall_tau": 0.1 + 0.2, "rmse": 1e-300},
)


@pytest.fixture
def saved(tmp_path: Path, fitted: BoostedPredictor) -> Path:
    save_predictor(tmp_path / "p", fitted, INFO)
    return tmp_path / "p"


def test_a_predictor_comes_back_with_the_same_bits(saved: Path, fitted: BoostedPredictor, strings: list[str]) -> None:
    assert 0.1 < fitted.trees_share_ < 0.9, "both models must have a part for this to be a test"
    predictor, info = load_predictor(str(saved))
    assert info == INFO
    assert predictor.get_params() == fitted.get_params()
    assert type(predictor.n_estimators) is int
    assert json.loads(predictor.booster_.save_config())["learner"]["generic_param"]["nthread"] == "1"
    assert np.array_equal(predictor.predict(strings), fitted.predict(strings))


def test_a_predictor_that_came_back_can_learn_and_be_saved_again(
    saved: Path, strings: list[str], values: list[float], fitted: BoostedPredictor
) -> None:
    predictor, info = load_predictor(saved)
    save_predictor(saved.parent / "copy", predictor, info)
    for name in ("predictor.json", "model.json"):
        assert (saved.parent / "copy" / name).read_bytes() == (saved / name).read_bytes()
    predictor.fit(strings[:80], values[:80])
    assert np.array_equal(predictor.predict(strings), fitted.predict(strings))


def test_the_folder_holds_two_files_of_strict_json_and_nothing_is_left_beside_it(saved: Path) -> None:
    assert sorted(os.listdir(saved)) == ["model.json", "predictor.json"]
    assert os.listdir(saved.parent) == ["p"]

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    manifest = json.loads((saved / "predictor.json").read_text(), parse_constant=refuse)
    assert (manifest["format"], manifest["kind"]) == (2, "boosted")
    assert manifest["files"] == {"model.json": hashlib.sha256((saved / "model.json").read_bytes()).hexdigest()}
    json.loads((saved / "model.json").read_text())


def test_missing_parents_are_made(tmp_path: Path, fitted: BoostedPredictor) -> None:
    save_predictor(tmp_path / "a" / "b", fitted, INFO)
    assert load_predictor(tmp_path / "a" / "b")[1] == INFO


def test_an_existing_predictor_is_replaced_only_on_request(saved: Path, fitted: BoostedPredictor) -> None:
    with pytest.raises(InputError, match=r"predictor .*p: exists; name another folder, or ask to overwrite it"):
        save_predictor(saved, fitted, INFO)
    save_predictor(saved, fitted, PredictorInfo("energy", "mJ", "min", "s", "executed", 5, "1" * 64), overwrite=True)
    assert load_predictor(saved)[1].metric == "energy"
    assert os.listdir(saved.parent) == ["p"]


@pytest.mark.parametrize("kind", ["empty", "other", "more", "file"])
def test_what_is_no_predictor_is_never_replaced(kind: str, saved: Path, fitted: BoostedPredictor) -> None:
    target = saved.parent / "mine"
    if kind == "file":
        target.write_text("mine")
    elif kind == "more":
        shutil.copytree(saved, target)
        (target / "notes.txt").write_text("mine")
    else:
        target.mkdir()
        if kind == "other":
            (target / "notes.txt").write_text("mine")
    before = sorted(str(path) for path in saved.parent.rglob("*"))
    for overwrite in (False, True):
        with pytest.raises(InputError, match="exists and is no predictor's folder; name one that does not exist"):
            save_predictor(target, fitted, INFO, overwrite=overwrite)
    assert sorted(str(path) for path in saved.parent.rglob("*")) == before


@pytest.mark.parametrize("fails_at", [1, 2, 3, 4], ids=["model", "manifest", "old away", "new in"])
def test_a_failure_leaves_what_was_there(
    fails_at: int, saved: Path, fitted: BoostedPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    replace = os.replace

    def failing(source: str | Path, target: str | Path) -> None:
        calls.append(target)
        if len(calls) == fails_at:
            raise OSError("disk full")
        replace(source, target)

    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(InputError, match=r"predictor .*p: cannot be written \(disk full\); name a folder"):
        save_predictor(saved, fitted, INFO, overwrite=True)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert os.listdir(saved.parent) == ["p"]
    assert len(calls) >= fails_at


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path, fitted: BoostedPredictor) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        save_predictor(tmp_path / "file" / "p", fitted, INFO)


def test_a_predictor_that_learned_nothing_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        save_predictor(tmp_path / "p", BoostedPredictor(), INFO)
    assert os.listdir(tmp_path) == []


def edit(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        manifest = json.loads((folder / "predictor.json").read_text())
        manifest.update(changes)
        (folder / "predictor.json").write_text(json.dumps(manifest))

    return change


def drop(key: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        manifest = json.loads((folder / "predictor.json").read_text())
        del manifest[key]
        (folder / "predictor.json").write_text(json.dumps(manifest))

    return change


def write(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-9])


def replace_model(content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "model.json").write_bytes(content)
        edit(files={"model.json": hashlib.sha256(content).hexdigest()})(folder)

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "no such folder; train one first, or mend the path"),
        (lambda folder: (folder / "predictor.json").unlink(), "predictor.json is missing; name a folder that holds"),
        (lambda folder: (folder / "model.json").unlink(), "model.json is missing; name a folder that holds"),
        (write("predictor.json", "metric: latency"), r"damaged \(predictor.json is not JSON: .*\); copy it again"),
        (write("predictor.json", "[" * 100_000), r"damaged \(predictor.json is not JSON"),
        (write("predictor.json", "[1]"), "expected a predictor of kind 'boosted', got None"),
        (cut("predictor.json"), r"damaged \(predictor.json is not JSON"),
        (cut("model.json"), r"damaged \(model.json is not the file that predictor.json was written with\)"),
        (edit(files={}), r"damaged \(model.json is not the file that predictor.json was written with\)"),
        (edit(format=3), "written in format 3 by a newer freerea-seval, and this one reads 2; update the package"),
        (edit(format=3, kind="encoder"), "written in format 3 by a newer freerea-seval"),
        (edit(format=1), "written in format 1 by an older freerea-seval; train it anew$"),
        (
            lambda folder: (edit(format=1)(folder), drop("info")(folder)),
            "written in format 1 by an older freerea-seval",
        ),
        (edit(kind="encoder"), "expected a predictor of kind 'boosted', got 'encoder'; train it anew"),
        (edit(format="1"), r"damaged \(predictor.json, format: Input should be a valid integer\)"),
        (edit(extra=1), r"damaged \(predictor.json, extra: Extra inputs are not permitted\)"),
        (drop("mean"), r"damaged \(predictor.json, mean: Field required\)"),
        (edit(scale=None), r"damaged \(predictor.json, scale: Input should be a valid number\)"),
        (edit(mean=float("nan")), r"damaged \(predictor.json, mean: Input should be a finite number\)"),
        (edit(info={"metric": "latency"}), r"damaged \(predictor.json, info.unit: "),
        (
            edit(info=asdict(INFO) | {"view": "drawn"}),
            r"damaged \(predictor.json, info.view: .*'executed' or 'functional'",
        ),
        (edit(vocabulary=["cost all input operations"]), r"damaged \("),
        (edit(coefficients=[1.0, 2.0]), r"damaged \("),
        (edit(parameters={"depth": 3}), r"damaged \(Invalid parameter 'depth'"),
        (replace_model(b"{}"), r"damaged \("),
        (replace_model(b"\x00" * 50), r"damaged \("),
    ],
)
def test_what_is_damaged_is_an_error_of_one_line(damage: Callable[[Path], object], message: str, saved: Path) -> None:
    damage(saved)
    with pytest.raises(InputError, match=rf"^predictor .*p: {message}") as caught:
        load_predictor(saved)
    assert "\n" not in str(caught.value)


def test_loading_never_unpickles(saved: Path) -> None:
    source = Path(module.__file__).read_text()
    assert "pickle" not in source
    assert "joblib" not in source
