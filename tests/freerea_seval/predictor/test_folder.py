"""Predictors as folders: what is written is read back, and what is damaged is named."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from freerea_patch import InputError
from freerea_seval.predictor import folder as module
from freerea_seval.predictor.folder import FORMAT, load_predictor, save_predictor
from freerea_seval.predictor.model_card import PredictedMetric, PredictorInfo, card
from freerea_seval.predictor.seval import SEvalPredictor

INFO = PredictorInfo(
    metrics=(
        PredictedMetric("latency", "ms", "min", 60, 9, {"kendall_tau": 0.1 + 0.2, "rmse": 1e-300}),
        PredictedMetric("accuracy", "%", "max", 40),
    ),
    space="nats-tss/cifar10",
    view="functional",
    samples=60,
    trained_on="0" * 64,
    choice="boosted on rank scale",
    versions={"xgboost-cpu": "3.2.0"},
)
FILES = ["boosted-trees-0.json", "boosted-trees-1.json", "classifier-0-classifier.json"]


@pytest.fixture(scope="module")
def trained(strings: list[str], values: list[float]) -> SEvalPredictor:
    """A predictor of two metrics, of which one is not supported by some networks and one not measured on others."""
    table = np.stack([values[:60], [90.0 - string.count("mul(0)") for string in strings[:60]]], axis=1)
    table[:9, 0], table[20:40, 1] = np.inf, np.nan
    return SEvalPredictor("boosted", "rank", {"n_estimators": 30}).fit(strings[:60], table)


@pytest.fixture
def saved(tmp_path: Path, trained: SEvalPredictor) -> Path:
    save_predictor(tmp_path / "p", trained, INFO)
    return tmp_path / "p"


def test_a_predictor_comes_back_with_the_same_bits(saved: Path, trained: SEvalPredictor, strings: list[str]) -> None:
    predictor, info = load_predictor(str(saved))
    assert info == INFO
    assert predictor.get_params() == trained.get_params()
    assert type(predictor.parameters["n_estimators"]) is int  # type: ignore[index]
    for found, expected in zip(
        predictor.predict(strings, interval=0.9), trained.predict(strings, interval=0.9), strict=True
    ):
        assert np.array_equal(found, expected)
    assert np.array_equal(predictor.supported(strings), trained.supported(strings))


@pytest.mark.parametrize("model", ["gp", "mlp", "ensemble"])
def test_every_model_comes_back(model: str, tmp_path: Path, strings: list[str], values: list[float]) -> None:
    pytest.importorskip("torch")
    parameters = {"width": 8, "epochs": 3} if model == "mlp" else None
    trained = SEvalPredictor(model, "linear", parameters).fit(strings[:30], values[:30])
    save_predictor(tmp_path / "p", trained, INFO)
    assert np.array_equal(load_predictor(tmp_path / "p")[0].predict(strings), trained.predict(strings))


def test_a_predictor_that_came_back_can_learn_and_be_saved_again(saved: Path, strings: list[str]) -> None:
    predictor, info = load_predictor(saved)
    save_predictor(saved.parent / "copy", predictor, info)
    for path in saved.iterdir():
        assert (saved.parent / "copy" / path.name).read_bytes() == path.read_bytes()
    table = np.arange(40.0)
    again = SEvalPredictor("boosted", "rank", {"n_estimators": 30}).fit(strings[:40], table)
    assert np.array_equal(predictor.fit(strings[:40], table).predict(strings), again.predict(strings))


def test_transfer_is_part_of_the_folder(tmp_path: Path, trained: SEvalPredictor, strings: list[str]) -> None:
    predictor = SEvalPredictor("boosted", "linear", {"n_estimators": 10})
    predictor.fit(strings[:30], np.arange(30.0) % 11, base=[trained])
    save_predictor(tmp_path / "p", predictor, INFO)
    assert {f"base-0-{name}" for name in FILES} < set(os.listdir(tmp_path / "p"))
    assert np.array_equal(load_predictor(tmp_path / "p")[0].predict(strings), predictor.predict(strings))


def test_the_folder_holds_strict_json_and_a_card_and_nothing_is_left_beside_it(saved: Path) -> None:
    assert sorted(os.listdir(saved)) == sorted(["README.md", *FILES, "predictor.json"])
    assert os.listdir(saved.parent) == ["p"]

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    manifest = json.loads((saved / "predictor.json").read_text(), parse_constant=refuse)
    assert (manifest["format"], manifest["kind"]) == (FORMAT, "seval")
    assert manifest["files"] == {name: hashlib.sha256((saved / name).read_bytes()).hexdigest() for name in FILES}
    assert (saved / "README.md").read_text() == card(INFO)


def test_scores_that_are_whole_numbers_come_back(tmp_path: Path, trained: SEvalPredictor) -> None:
    metric = PredictedMetric("m", "", "max", 60, scores={"r2": 1, "rmse": 1e22, "spearman": -0.0})
    save_predictor(tmp_path / "p", trained, replace(INFO, metrics=(metric,)))
    assert load_predictor(tmp_path / "p")[1].metrics == (metric,)


def test_missing_parents_are_made(tmp_path: Path, trained: SEvalPredictor) -> None:
    save_predictor(tmp_path / "a" / "b", trained, INFO)
    assert load_predictor(tmp_path / "a" / "b")[1] == INFO


def test_an_existing_predictor_is_replaced_only_on_request(saved: Path, trained: SEvalPredictor) -> None:
    with pytest.raises(InputError, match=r"predictor .*p: exists; choose another folder, or pass overwrite=True"):
        save_predictor(saved, trained, INFO)
    save_predictor(saved, trained, replace(INFO, space="s"), overwrite=True)
    assert load_predictor(saved)[1].space == "s"
    assert os.listdir(saved.parent) == ["p"]


def test_a_predictor_that_another_process_saves_in_the_meantime_stays(
    tmp_path: Path, trained: SEvalPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = SEvalPredictor.state

    def late(self: SEvalPredictor) -> Any:
        if not (tmp_path / "p").exists():
            (tmp_path / "p").mkdir()
            (tmp_path / "p" / "predictor.json").write_text("another's")
        return state(self)

    monkeypatch.setattr(SEvalPredictor, "state", late)
    with pytest.raises(InputError, match="cannot be written"):
        save_predictor(tmp_path / "p", trained, INFO)
    assert (tmp_path / "p" / "predictor.json").read_text() == "another's"
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


@pytest.mark.parametrize("kind", ["empty", "other", "more", "file"])
def test_what_is_no_predictor_is_never_replaced(kind: str, saved: Path, trained: SEvalPredictor) -> None:
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
        with pytest.raises(
            InputError, match="exists and does not hold a predictor; choose a folder that does not exist"
        ):
            save_predictor(target, trained, INFO, overwrite=overwrite)
    assert sorted(str(path) for path in saved.parent.rglob("*")) == before


@pytest.mark.parametrize("fails_at", [1, 2, 3, 4, 5, 6, 7], ids=[*FILES, "card", "manifest", "old away", "new in"])
def test_a_failure_leaves_what_was_there(
    fails_at: int, saved: Path, trained: SEvalPredictor, monkeypatch: pytest.MonkeyPatch
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
    with pytest.raises(InputError, match=r"predictor .*p: cannot be written \(disk full\); choose"):
        save_predictor(saved, trained, INFO, overwrite=True)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert os.listdir(saved.parent) == ["p"]
    assert len(calls) >= fails_at


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path, trained: SEvalPredictor) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        save_predictor(tmp_path / "file" / "p", trained, INFO)


def test_a_predictor_that_learned_nothing_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        save_predictor(tmp_path / "p", SEvalPredictor(), INFO)
    assert os.listdir(tmp_path) == []


def edit(signed: bool = True, **changes: Any) -> Callable[[Path], None]:
    """Return what changes keys of the manifest, ``__`` for a key within a key; if ``signed``, its digest fits them."""

    def change(folder: Path) -> None:
        manifest = json.loads((folder / "predictor.json").read_text())
        for name, value in changes.items():
            *outer, last = name.split("__")
            inner = manifest
            for key in outer:
                inner = inner[key]
            if value is ...:
                del inner[last]
            else:
                inner[last] = value
        if signed:
            manifest["digest"] = module._digest(manifest)
        (folder / "predictor.json").write_text(json.dumps(manifest))

    return change


def write(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def special(make: Callable[[Path], object], name: str) -> Callable[[Path], object]:
    """Return what replaces a file by something that has no end."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return change


def sparse(name: str, size: int) -> Callable[[Path], object]:
    """Return what makes a file longer than any disk, without writing anything."""
    return lambda folder: os.truncate(folder / name, size)


def cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-9])


def without_a_word(name: str) -> Callable[[Path], object]:
    """Return what takes the first word out of a vocabulary that the manifest holds, and signs that."""

    def change(folder: Path) -> None:
        manifest = json.loads((folder / "predictor.json").read_text())
        edit(**{f"state__parts__{name}__vocabulary": manifest["state"]["parts"][name]["vocabulary"][1:]})(folder)

    return change


def replace_model(content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / FILES[0]).write_bytes(content)
        edit(True, **{f"files__{FILES[0]}": hashlib.sha256(content).hexdigest()})(folder)

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "no such folder; correct the path, or train a predictor first"),
        (
            lambda folder: (folder / "predictor.json").unlink(),
            "'predictor.json' is missing or no file; choose a folder of a",
        ),
        (
            lambda folder: (folder / FILES[1]).unlink(),
            "'boosted-trees-1.json' is missing or no file; choose a folder of a",
        ),
        (
            lambda folder: (folder / FILES[2]).unlink(),
            "'classifier-0-classifier.json' is missing or no file; choose a folder of a",
        ),
        (write("predictor.json", "metric: latency"), r"damaged \(predictor.json is not JSON: .*\); copy it again"),
        (write("predictor.json", "[" * 100_000), r"damaged \(predictor.json is not JSON"),
        (write("predictor.json", "[1]"), "expected a predictor of kind 'seval', got None"),
        (cut("predictor.json"), r"damaged \(predictor.json is not JSON"),
        (cut(FILES[0]), r"damaged \(boosted-trees-0.json has changed since predictor.json was written\)"),
        (cut(FILES[2]), r"damaged \(classifier-0-classifier.json has changed since predictor.json was written\)"),
        (
            edit(signed=False, info__samples=61),
            r"damaged \(predictor.json has changed since it was written\); copy it again",
        ),
        (edit(signed=False, extra=1), r"damaged \(predictor.json has changed since it was written\)"),
        (edit(signed=False, state__single=True), r"damaged \(predictor.json has changed since it was written\)"),
        (edit(signed=False, digest=""), r"damaged \(predictor.json has changed since it was written\)"),
        (edit(signed=False, digest=...), r"damaged \(predictor.json has changed since it was written\)"),
        (
            edit(format=FORMAT + 1),
            f"expected format {FORMAT}, got format {FORMAT + 1} of a newer freerea-seval; update the package",
        ),
        (
            edit(format=FORMAT + 1, kind="encoder"),
            f"expected format {FORMAT}, got format {FORMAT + 1} of a newer freerea-seval",
        ),
        (
            edit(signed=False, format=2),
            "expected format .*, got format 2 of an older freerea-seval; train .* with: freerea-seval train$",
        ),
        (
            edit(format=1, info=...),
            "expected format .*, got format 1 of an older freerea-seval; train the predictor anew with",
        ),
        (edit(kind="boosted"), "expected a predictor of kind 'seval', got 'boosted'; train it anew"),
        (edit(format="a"), r"damaged \(predictor.json, format: Input should be a valid integer"),
        (edit(extra=1), r"damaged \(predictor.json, extra: Extra inputs are not permitted\)"),
        (edit(state=...), r"damaged \(predictor.json, state: Field required\)"),
        (edit(info__metrics=[{"name": "latency"}]), r"damaged \(predictor.json, info.metrics.0.unit: "),
        (edit(info__view="drawn"), r"damaged \(predictor.json, info.view: .*'executed' or 'functional'"),
        (edit(files={}), r"damaged \("),
        (edit(files={"../secret": "0"}), r"damaged \(predictor.json names a file outside the folder, '../secret'\)"),
        (edit(files={"..": "0"}), r"'\.\.' is missing or no file"),
        (edit(files={"a\0b": "0"}), r"'a\\x00b' is missing or no file"),
        (edit(files={"\ud800": "0"}), r"damaged \("),
        (special(os.mkfifo, FILES[0]), r"'boosted-trees-0.json' is missing or no file"),
        (special(lambda path: path.symlink_to("/dev/zero"), FILES[0]), r"'boosted-trees-0.json' is missing or no file"),
        (special(os.mkfifo, "predictor.json"), r"'predictor.json' is missing or no file"),
        (without_a_word("boosted"), r"damaged \(.*mismatch"),
        (without_a_word("classifier-0"), r"damaged \(.*mismatch"),
        (edit(state__parameters={"depth": 3}), r"damaged \(Invalid parameter 'depth'"),
        (edit(state__parts={}), r"damaged \("),
        (edit(state__scales=[]), r"damaged \("),
        (edit(state__scales=[{"name": "x" * 50_000, "values": []}] * 2), r"damaged \(.{1,200}\); copy it again"),
        (edit(state__weights=[1.0]), r"damaged \(weights of shape \(1,\), expected one for each model and metric"),
        (edit(state__conformals=[]), r"damaged \("),
        (edit(state__proxies=10**10), r"damaged \(10000000000 proxies, expected at most 10000\)"),
        (edit(state__parts__boosted__proxies=10**10), r"damaged \(10000000000 proxies, expected at most 10000\)"),
        (edit(state__base=10**10), r"damaged \('base-0'\)"),
        (sparse("predictor.json", 2**40), r"predictor.json cannot be read \(.*more than 64 MiB\)"),
        (sparse(FILES[0], 2**40), r"boosted-trees-0.json cannot be read \(.*more than 64 MiB\)"),
        (replace_model(b"{}"), r"damaged \(.*no trees of XGBoost"),
        (replace_model(b"\x00" * 50), r"damaged \("),
    ],
)
def test_what_is_damaged_is_an_error_of_one_line(damage: Callable[[Path], object], message: str, saved: Path) -> None:
    damage(saved)
    with pytest.raises(InputError, match=rf"^predictor .*p: {message}") as caught:
        load_predictor(saved)
    assert "\n" not in str(caught.value)


def test_the_card_may_be_edited_or_thrown_away(saved: Path) -> None:
    (saved / "README.md").write_text("mine")
    assert load_predictor(saved)[1] == INFO
    (saved / "README.md").unlink()
    assert load_predictor(saved)[1] == INFO


def test_a_copy_that_a_killed_save_moved_aside_goes_when_the_folder_is_complete(
    saved: Path, trained: SEvalPredictor
) -> None:
    (saved.parent / ".p.0123.old").mkdir()
    (saved.parent / ".pp.0123.old").mkdir()  # of another predictor, which may have no other copy
    save_predictor(saved, trained, INFO, overwrite=True)
    assert sorted(os.listdir(saved.parent)) == [".pp.0123.old", "p"]


def test_loading_never_unpickles() -> None:
    source = Path(module.__file__).read_text()
    assert not {"pickle", "joblib"} & set(re.findall(r"\w+", source))
