"""Measuring on another device: export networks as ONNX with a script, and import the script's results."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from pydantic import BaseModel, Field, ValidationError

from freerea_patch import InputError
from freerea_seval.files import check_new, is_empty, locked_folder, read_bounded, write_atomically
from freerea_seval.measurement.backends import check_onnx, one_line, onnx_bytes, onnx_inputs
from freerea_seval.measurement.networks import Networks
from freerea_seval.measurement.run import write_results
from freerea_seval.tables import read_csv

if TYPE_CHECKING:
    from torch import Tensor

_FORMAT = 1
#: A manifest has at most this length.
MOST_BYTES = 2**26
_MANIFEST = "manifest.json"
#: The files that are exported beside the networks, and the modules of this package that they are copies of.
_SCRIPTS = {"measure.py": "device_script.py", "detrend.py": "detrend.py"}
_COLUMNS = ("network", "latency_ms", "latency_iqr_ms", "rounds", "machine", "reason")
#: An error lists this many mistakes and counts the others.
_LISTED_MISTAKES = 10


def export(
    networks: Networks, folder: Path, on_fraction: Callable[[float, str], object] = lambda fraction, note: None
) -> dict[str, str]:
    """Write the networks as ONNX, with a manifest and a script that measures them.

    An interrupted export can be resumed: existing files are kept if the manifest, which is written first, is of the
    same networks and inputs. The script is written last, so that an incomplete export cannot be measured.

    Returns:
        Why networks could not be exported, by name; the manifest lists them as ``failed``.

    Raises:
        InputError: the folder holds something else, another process is writing to it, no network or an input cannot be
            exported, or the package onnx is missing.
    """
    check_onnx("onnx")
    entries = [
        {"network": name, "file": f"{index:05d}.onnx", "id": hashlib.sha256(name.encode()).hexdigest()[:12]}
        for index, name in enumerate(networks.names)
    ]
    if not entries:
        raise InputError("no networks to export")
    folder.mkdir(parents=True, exist_ok=True)
    with locked_folder(folder):
        return _export(networks, folder, entries, on_fraction)


def _export(
    networks: Networks, folder: Path, entries: list[dict[str, str]], on_fraction: Callable[[float, str], object]
) -> dict[str, str]:
    is_new = is_empty(folder)
    manifest: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for index, entry in enumerate(entries):
        on_fraction(index / len(entries), f"{index} of {len(entries)}")
        target = folder / entry["file"]
        if manifest and target.exists():
            continue
        try:
            module, inputs = networks.make(entry["network"])
            if not manifest:
                described = [_describe(name, tensor) for name, tensor in onnx_inputs(inputs).items()]
                header = {"format": _FORMAT, "column": networks.column, **networks.about, "inputs": described}
                manifest = {**header, "networks": entries, "failed": failed}
                _begin_manifest(folder, manifest, is_new)
                if target.exists():
                    continue
            if [_describe(name, tensor) for name, tensor in onnx_inputs(inputs).items()] != manifest["inputs"]:
                raise InputError(
                    f"{entry['network']} has other inputs than {entries[0]['network']}; export it into another folder"
                )
            content = onnx_bytes(module, inputs)
        except InputError:
            raise
        except Exception as error:  # whatever a user's network or the exporter raises
            failed[entry["network"]] = one_line(error)
            continue
        write_atomically(target, content)
    if len(failed) == len(entries):
        (folder / _MANIFEST).unlink(missing_ok=True)  # so that the folder can be used again
        name, reason = next(iter(failed.items()))
        raise InputError(f"none of {len(entries)} networks can be written as ONNX ({name} failed with {reason})")
    manifest["networks"] = [entry for entry in entries if entry["network"] not in failed]
    write_atomically(folder / _MANIFEST, json.dumps(manifest, indent=1) + "\n")
    for name, source in _SCRIPTS.items():
        write_atomically(folder / name, Path(__file__).with_name(source).read_text(encoding="utf-8"))
    return failed


def _describe(name: str, tensor: Tensor) -> dict[str, Any]:
    """Return an input as the manifest has it.

    Raises:
        InputError: NumPy, which makes the input on the device, has no such dtype.
    """
    import torch

    dtype = str(tensor.dtype).removeprefix("torch.")
    try:
        torch.empty(0, dtype=tensor.dtype).numpy()
    except (TypeError, RuntimeError):
        raise InputError(
            f"input {name!r} is {dtype}, which NumPy cannot make on the device; export with inputs of a dtype such as"
            " float32, which the network may convert"
        ) from None
    return {"name": name, "shape": list(tensor.shape), "dtype": dtype}


def _begin_manifest(folder: Path, manifest: Mapping[str, Any], is_new: bool) -> None:
    """Write the manifest into an empty folder, or make sure that the one there has the same networks and inputs."""
    path = folder / _MANIFEST
    if path.exists():
        if _request(_read_manifest(path)) != _request(json.loads(json.dumps(manifest))):
            raise InputError(f"{folder} holds another export; choose another folder with -o")
        return
    if not is_new:
        raise InputError(f"{folder} is not empty, and no export; choose another folder with -o")
    write_atomically(path, json.dumps(manifest, indent=1) + "\n")


def _request(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest with the names of all networks that were to be exported."""
    names = {entry["network"] for entry in manifest["networks"]} | set(manifest.get("failed", {}))
    return {**manifest, "networks": names, "failed": None}


def import_results(results: Path, output: Path, strings: str = "") -> tuple[int, int]:
    """Convert what the script measured into the CSV and JSON that ``freerea-seval measure`` writes.

    Args:
        results: ``results.csv``, with ``manifest.json`` beside it.
        output: the CSV.
        strings: key under which the manifest may have the strings of the networks, for a column ``string``.

    Returns:
        The number of networks with a latency, and of those that could not run.

    Raises:
        InputError: the output exists, or an input is missing or of another form.
        InputError: mistakes in the results, each with its row: a network that is not in the manifest, repeated or
            missing; a value that is not a valid number; rows of another machine.
    """
    check_new(output, "file")
    manifest = _read_manifest(results.with_name(_MANIFEST))
    rows, machine = _read_results(results, [entry["network"] for entry in manifest["networks"]])
    columns = {"network": manifest["column"]}
    table = pd.DataFrame(rows)
    table.attrs["failed"] = manifest.get("failed", {})
    table.attrs["unsupported"] = {row["network"]: row["reason"] for row in rows if row["reason"]}
    about = {key: value for key, value in manifest.items() if key not in ("format", "column", "networks", "failed")}
    facts = {"backend": "onnx", "machine": machine, **about}
    table = table.drop(columns="reason")
    if isinstance(manifest.get(strings), dict):
        table["string"] = table["network"].map(manifest[strings])
    write_results(output, table.rename(columns=columns), facts)
    unsupported = len(table.attrs["unsupported"])
    return len(table) - unsupported, unsupported


def _read_results(results: Path, networks: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
    """Return the rows of the script's CSV, and the machine's name."""
    frame = read_csv(results)
    if not set(_COLUMNS) <= set(frame.columns):
        raise InputError(
            f"{results}: expected the columns {', '.join(_COLUMNS)}, as measure.py writes them,"
            f" got {', '.join(frame.columns)}"
        )
    names = {" ".join(name.split()): name for name in networks}
    machine: str = frame["machine"].iloc[0] if len(frame) else ""
    lines: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    mistakes: list[str] = []
    for line, row in zip(frame.index, frame.to_dict("records"), strict=True):
        name = row["network"]
        if name not in names:
            mistakes.append(f"row {line}: {name[:80]!r} is not a network of the manifest")
        elif name in lines:
            mistakes.append(f"row {line}: {name[:200]!r} is there already, in row {lines[name]}")
        else:
            lines[name] = line
            if row["machine"] != machine:
                mistakes.append(f"row {line}: measured on {row['machine'][:80]!r}, the rows above on {machine[:80]!r}")
            try:
                rows.append({"network": names[name], **_parse_row(row)})
            except InputError as error:
                mistakes.append(f"row {line}: {error}")
    mistakes += [f"no row for {name[:200]!r}" for name in names if name not in lines]
    if mistakes:
        more = f"; and {len(mistakes) - _LISTED_MISTAKES} more" if len(mistakes) > _LISTED_MISTAKES else ""
        raise InputError(
            f"{results}: {'; '.join(mistakes[:_LISTED_MISTAKES])}{more}; run measure.py again, or correct the rows"
        )
    return rows, machine


def _parse_row(row: Mapping[Any, str]) -> dict[str, float | str]:
    """Return a row's numbers, NaN with a reason for a network that could not run."""
    if row["reason"]:
        if row["latency_ms"]:
            raise InputError(f"both a latency and a reason why there is none ({row['reason'][:80]!r})")
        return {"latency_ms": math.nan, "latency_iqr_ms": math.nan, "rounds": math.nan, "reason": row["reason"]}
    latency_ms, iqr_ms = (_parse_number(name, row[name]) for name in ("latency_ms", "latency_iqr_ms"))
    if latency_ms == 0:
        raise InputError("latency_ms is 0; a network takes some time")
    rounds = row["rounds"]
    if not (rounds.isascii() and rounds.isdigit() and 0 < len(rounds) < 10 and int(rounds)):
        raise InputError(f"rounds is {rounds[:40]!r}, expected a number from 1")
    return {"latency_ms": latency_ms, "latency_iqr_ms": iqr_ms, "rounds": int(rounds), "reason": ""}


def _parse_number(name: str, text: str) -> float:
    if not text:
        raise InputError(f"{name} is missing, and no reason says why")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{name} is {text[:40]!r}, expected a finite number")
    if value < 0:
        raise InputError(f"{name} is {text[:40]}, which is negative")
    return value


class _Entry(BaseModel):
    network: str


class _Manifest(BaseModel):
    """What an import needs of a manifest; other keys describe the measurement."""

    format: Literal[1]
    column: Literal["genotype", "network"]
    networks: list[_Entry] = Field(min_length=1)
    failed: dict[str, str] = {}
    strings: dict[str, str] = {}


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        content = read_bounded(path, MOST_BYTES)
        manifest: dict[str, Any] = json.loads(content)
        _Manifest.model_validate(manifest)
    except (OSError, ValueError, RecursionError) as error:
        problem = f"{type(error).__name__}: {error}"
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            problem = f"{'.'.join(map(str, first['loc']))[:80]}: {first['msg']}"
        raise InputError(
            f"{path} cannot be used ({problem}); expected the manifest that 'measure export' wrote, in the folder of"
            " the results"
        ) from None
    return manifest
