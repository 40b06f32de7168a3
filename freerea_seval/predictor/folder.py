"""A trained predictor as a folder of JSON, XGBoost's JSON, safetensors and a model card; nothing is pickled."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from sklearn.utils.validation import check_is_fitted

from freerea_patch import InputError
from freerea_seval.files import read_bounded, temporary_folder, write_atomically
from freerea_seval.predictor.model_card import PredictorInfo, card
from freerea_seval.predictor.models.gbdt_ensemble import first_line
from freerea_seval.predictor.seval import SEvalPredictor

#: Increased when files, strings or features change so that an older predictor would be misread.
FORMAT = 8
KIND = "seval"
#: The files of a predictor have at most this length each; JSON, which takes up to 20 times its length in memory, less.
MOST_BYTES = 2**32
MOST_JSON_BYTES = 2**26
_MANIFEST = "predictor.json"
_CARD = "README.md"


class _Manifest(BaseModel):
    """The content of ``predictor.json``."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    format: int
    kind: str
    info: PredictorInfo
    state: dict[str, Any]
    files: dict[str, str]
    digest: str = ""


def save_predictor(
    folder: str | Path, predictor: SEvalPredictor, info: PredictorInfo, *, overwrite: bool = False
) -> None:
    """Write a predictor atomically: the folder appears complete or not at all.

    Args:
        folder: the new folder; missing parents are created.
        predictor: a fitted predictor.
        info: what it predicts.
        overwrite: replace another predictor there.

    Raises:
        InputError: the folder exists and ``overwrite`` is false, or it holds something other than a predictor.
        InputError: the folder cannot be written.
        sklearn.exceptions.NotFittedError: the predictor is not fitted.
    """
    check_is_fitted(predictor, "models_")
    folder = Path(folder).absolute()
    if folder.exists() or folder.is_symlink():
        _check_replaceable(folder, overwrite)
    state, files = predictor.state()
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = _Manifest(format=FORMAT, kind=KIND, info=info, state=state, files=hashes)
    manifest.digest = _digest(manifest.model_dump(mode="json"))
    old = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.old")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder.parent) as parent:
            new = parent / folder.name
            new.mkdir()
            for name, content in files.items():
                write_atomically(new / name, content)
            write_atomically(new / _CARD, card(info))
            write_atomically(new / _MANIFEST, manifest.model_dump_json(indent=1) + "\n")
            if overwrite and folder.exists():
                os.replace(folder, old)  # os.replace cannot replace a folder that is not empty
            try:
                os.replace(new, folder)
            except OSError:
                if old.exists():
                    os.replace(old, folder)
                raise
    except OSError as error:
        raise InputError(f"predictor {folder}: cannot be written ({error}); choose another folder") from None
    # The folder is complete; a process that was killed before that may have left the only copy under such a name.
    for replaced in folder.parent.glob(f".{glob.escape(folder.name)}.*.old"):
        shutil.rmtree(replaced, ignore_errors=True)


def load_predictor(folder: str | Path) -> tuple[SEvalPredictor, PredictorInfo]:
    """Read a predictor that :func:`save_predictor` wrote. Nothing is unpickled.

    Raises:
        InputError: the folder or a file is missing, damaged, or changed since it was written.
        InputError: another version of the package wrote it, or the folder holds another kind of predictor.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"predictor {folder}: no such folder; correct the path, or train a predictor first")
    manifest = _parse(_read(folder, _MANIFEST), folder)
    files = {}
    for name, expected in manifest.files.items():
        if Path(name).name != name:
            raise _damaged(folder, f"{_MANIFEST} names a file outside the folder, {name!r}")
        files[name] = _read(folder, name)
        if hashlib.sha256(files[name]).hexdigest() != expected:
            raise _damaged(folder, f"{name} has changed since {_MANIFEST} was written")
    predictor = SEvalPredictor()
    try:
        predictor.restore(manifest.state, files)
    except InputError:
        raise
    except Exception as error:  # each library has exceptions of its own
        raise _damaged(folder, first_line(error)) from error
    return predictor, manifest.info


def _digest(content: dict[str, Any]) -> str:
    """Return the hash of a manifest without its digest."""
    rest = {name: value for name, value in content.items() if name != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _parse(content: bytes, folder: Path) -> _Manifest:
    try:
        raw: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _damaged(folder, f"{_MANIFEST} is not JSON: {error}") from None
    kind, version = (raw.get("kind"), raw.get("format")) if isinstance(raw, dict) else (None, None)
    if isinstance(version, int) and version < FORMAT:
        raise InputError(
            f"predictor {folder}: expected format {FORMAT}, got format {version} of an older freerea-seval; train"
            " the predictor anew with: freerea-seval train"
        )
    if isinstance(version, int) and version > FORMAT:
        raise InputError(
            f"predictor {folder}: expected format {FORMAT}, got format {version} of a newer freerea-seval;"
            " update the package: pip install -U freerea-seval"
        )
    if kind != KIND:
        raise InputError(f"predictor {folder}: expected a predictor of kind {KIND!r}, got {kind!r}; train it anew")
    if raw.get("digest") != _digest(raw):
        raise _damaged(folder, f"{_MANIFEST} has changed since it was written")
    try:
        return _Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise _damaged(folder, f"{_MANIFEST}, {key}: {first['msg']}") from None


def _read(folder: Path, name: str) -> bytes:
    if not (folder / name).is_file():  # a pipe or a device may have no end
        raise InputError(
            f"predictor {folder}: {name!r:.80} is missing or no file; choose a folder of a trained predictor, or train"
            " it anew"
        )
    try:
        return read_bounded(folder / name, MOST_JSON_BYTES if name.endswith(".json") else MOST_BYTES)
    except OSError as error:
        raise InputError(f"predictor {folder}: {name} cannot be read ({error})") from None


def _damaged(folder: Path, reason: str) -> InputError:
    return InputError(f"predictor {folder}: damaged ({reason}); copy it again or train it anew")


def _check_replaceable(folder: Path, overwrite: bool) -> None:
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() and not folder.is_symlink() else set()
    if _MANIFEST not in names or not names <= {_MANIFEST, _CARD, *_files(folder)}:
        raise InputError(
            f"predictor {folder}: exists and does not hold a predictor; choose a folder that does not exist"
        )
    if not overwrite:
        raise InputError(f"predictor {folder}: exists; choose another folder, or pass overwrite=True")


def _files(folder: Path) -> set[str]:
    """Return the names of the files that a manifest of any format lists."""
    try:
        files = json.loads((folder / _MANIFEST).read_bytes())["files"]
        return set(files)
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return set()
