"""A trained predictor as a folder of two safe files: ``predictor.json`` and the trees in ``model.json``."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from sklearn.utils.validation import check_is_fitted

from freerea_patch import InputError
from freerea_patch.objective import Direction
from freerea_seval.files import write_atomically
from freerea_seval.predictor.boosted import BoostedPredictor, Line, first_line
from freerea_seval.predictor.features import StringFeatures
from freerea_seval.strings.views import View

#: Raised when the files, the strings or the features change so that an older predictor would be misread.
FORMAT = 2
KIND = "boosted"
_MANIFEST = "predictor.json"
_MODEL = "model.json"


@dataclass(frozen=True)
class PredictorInfo:
    """What a predictor predicts, and what it learned from.

    Attributes:
        metric: name of the metric.
        unit: unit of the predictions, empty for none.
        direction: which values are better.
        space: name of the space whose networks it saw.
        view: which view of networks its strings are; see :data:`freerea_seval.strings.views.View`.
        samples: number of training networks.
        trained_on: SHA-256 of the training strings and values.
        versions: of the packages that trained it, by name.
        scores: of a cross-validation on the training data, by name: see
            :func:`freerea_seval.predictor.training.agreement`.
    """

    metric: str
    unit: str
    direction: Direction
    space: str
    view: View
    samples: int
    trained_on: str
    versions: dict[str, str] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)


class _Manifest(BaseModel):
    """The content of ``predictor.json``."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    format: int
    kind: str
    info: PredictorInfo
    parameters: dict[str, int | float]
    vocabulary: list[str]
    mean: float
    scale: float
    trees_share: float
    intercept: float
    coefficients: list[float]
    files: dict[str, str]


def save_predictor(
    folder: str | Path, predictor: BoostedPredictor, info: PredictorInfo, *, overwrite: bool = False
) -> None:
    """Write a predictor; the folder appears whole or not at all.

    Args:
        folder: where to, with missing parents made.
        predictor: a fitted predictor.
        info: what it predicts.
        overwrite: replace another predictor there.

    Raises:
        InputError: the folder exists and is not to be overwritten, or holds other things than a predictor.
        InputError: it cannot be written.
        sklearn.exceptions.NotFittedError: the predictor has learned nothing yet.
    """
    check_is_fitted(predictor, "booster_")
    folder = Path(folder).absolute()
    if folder.exists() or folder.is_symlink():
        _check_replaceable(folder, overwrite)
    model = bytes(predictor.booster_.save_raw("json"))
    manifest = _Manifest(
        format=FORMAT,
        kind=KIND,
        info=info,
        parameters=predictor.get_params(),
        vocabulary=predictor.features_.vocabulary_,
        mean=predictor.mean_,
        scale=predictor.scale_,
        trees_share=predictor.trees_share_,
        intercept=predictor.line_.intercept,
        coefficients=predictor.line_.coefficients.tolist(),
        files={_MODEL: hashlib.sha256(model).hexdigest()},
    )
    new, old = (folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.{part}") for part in ("new", "old"))
    try:
        new.mkdir(parents=True)
        write_atomically(new / _MODEL, model)
        write_atomically(new / _MANIFEST, manifest.model_dump_json(indent=1) + "\n")
        if folder.exists():
            os.replace(folder, old)  # a folder that holds files cannot be replaced in one step
        try:
            os.replace(new, folder)
        except OSError:
            if old.exists():
                os.replace(old, folder)
            raise
    except OSError as error:
        raise InputError(f"predictor {folder}: cannot be written ({error}); name a folder that you can write") from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def load_predictor(folder: str | Path) -> tuple[BoostedPredictor, PredictorInfo]:
    """Read a predictor that :func:`save_predictor` wrote.

    Raises:
        InputError: the folder or a file is missing, damaged, or changed since it was written.
        InputError: a newer version of the package wrote it, or it is another kind of predictor.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"predictor {folder}: no such folder; train one first, or mend the path")
    manifest = _parse(_read(folder, _MANIFEST), folder)
    model = _read(folder, _MODEL)
    if hashlib.sha256(model).hexdigest() != manifest.files.get(_MODEL):
        raise _damaged(folder, f"{_MODEL} is not the file that {_MANIFEST} was written with")
    try:
        predictor = _restore(manifest, model)
    except Exception as error:  # xgboost raises its own types on a model that it cannot read
        raise _damaged(folder, first_line(error)) from error
    return predictor, manifest.info


def _restore(manifest: _Manifest, model: bytes) -> BoostedPredictor:
    import xgboost

    predictor = BoostedPredictor()
    predictor.set_params(**manifest.parameters)
    predictor.features_ = StringFeatures()
    predictor.features_.vocabulary_ = manifest.vocabulary
    predictor.booster_ = xgboost.Booster({"nthread": 1})
    predictor.booster_.load_model(bytearray(model))
    predictor.line_ = Line(manifest.intercept, np.array(manifest.coefficients))
    predictor.trees_share_ = manifest.trees_share
    predictor.mean_ = manifest.mean
    predictor.scale_ = manifest.scale
    predictor.predict(["input[1x1] output"])  # finds trees, vocabulary and coefficients that do not fit together
    return predictor


def _parse(content: bytes, folder: Path) -> _Manifest:
    try:
        raw: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _damaged(folder, f"{_MANIFEST} is not JSON: {error}") from None
    kind, version = (raw.get("kind"), raw.get("format")) if isinstance(raw, dict) else (None, None)
    if isinstance(version, int) and version < FORMAT:
        raise InputError(f"predictor {folder}: written in format {version} by an older freerea-seval; train it anew")
    if isinstance(version, int) and version > FORMAT:
        raise InputError(
            f"predictor {folder}: written in format {version} by a newer freerea-seval, and this one reads {FORMAT};"
            " update the package: pip install -U freerea-seval"
        )
    if kind != KIND:
        raise InputError(f"predictor {folder}: expected a predictor of kind {KIND!r}, got {kind!r}; train it anew")
    try:
        return _Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise _damaged(folder, f"{_MANIFEST}, {place}: {first['msg']}") from None


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        raise InputError(
            f"predictor {folder}: {name} is missing; name a folder that holds a trained predictor, or train it anew"
        ) from None
    except OSError as error:
        raise InputError(f"predictor {folder}: {name} cannot be read ({error})") from None


def _damaged(folder: Path, reason: str) -> InputError:
    return InputError(f"predictor {folder}: damaged ({reason}); copy it again or train it anew")


def _check_replaceable(folder: Path, overwrite: bool) -> None:
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() and not folder.is_symlink() else set()
    if _MANIFEST not in names or not names <= {_MANIFEST, _MODEL}:
        raise InputError(f"predictor {folder}: exists and is no predictor's folder; name one that does not exist")
    if not overwrite:
        raise InputError(f"predictor {folder}: exists; name another folder, or ask to overwrite it")
