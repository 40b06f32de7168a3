"""Measuring on another device: networks out as ONNX with a script, and the script's results back in."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from freerea_patch import InputError
from freerea_seval.files import write_atomically
from freerea_seval.measurement.networks import Networks
from freerea_seval.measurement.results_io import json_path

_FORMAT = 1
#: What goes along with the networks, by its name there.
_SCRIPTS = {"measure.py": "device_script.py", "detrend.py": "detrend.py"}
_COLUMNS = ("network", "latency_ms", "latency_iqr_ms", "rounds", "machine", "reason")
#: Mistakes that an error names; it counts the others.
_NAMED = 10


def export(
    networks: Networks, folder: Path, on_fraction: Callable[[float, str], object] = lambda done, text: None
) -> None:
    """Write the networks as ONNX, with a manifest and a script that measures them.

    An export that was stopped goes on: files that are there are kept if the manifest, written first, is the same.

    Raises:
        InputError: the folder holds something else, or a network cannot be exported.
    """
    from freerea_seval.measurement.backends import input_names, one_line, onnx_bytes

    entries = [
        {"network": name, "file": f"{place:05d}.onnx", "id": hashlib.sha256(name.encode()).hexdigest()[:12]}
        for place, name in enumerate(networks.names)
    ]
    if not entries:
        raise InputError("no networks to export")
    said: list[dict[str, Any]] | None = None
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "manifest.json"
    for place, (name, entry) in enumerate(zip(networks.names, entries, strict=True)):
        on_fraction(place / len(entries), f"{place} of {len(entries)}")
        target = folder / entry["file"]
        if said is not None and target.exists():
            continue
        module, inputs = networks.make(name)
        if isinstance(inputs, Mapping):
            tensors = dict(inputs)
        else:
            tensors = dict(zip(input_names(module, inputs), inputs, strict=True))
        if said is None:
            said = [
                {"name": key, "shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
                for key, tensor in tensors.items()
            ]
            text = json.dumps(
                {"format": _FORMAT, "column": networks.column, **networks.about, "inputs": said, "networks": entries},
                indent=1,
            )
            if manifest.exists() and manifest.read_text() != text + "\n":
                raise InputError(f"{folder} holds another export; choose another folder with -o")
            if not manifest.exists():
                if any(folder.iterdir()):
                    raise InputError(f"{folder} is not empty, and no export; choose another folder with -o")
                write_atomically(manifest, text + "\n")
        if target.exists():  # of an export that was stopped
            continue
        try:
            content = onnx_bytes(module, inputs)
        except Exception as error:  # whatever the exporter raises
            raise InputError(f"network {name!r} cannot be written as ONNX ({one_line(error)})") from error
        write_atomically(target, content)
    for name, source in _SCRIPTS.items():
        write_atomically(folder / name, Path(__file__).with_name(source).read_text(encoding="utf-8"))


class Row(NamedTuple):
    """A network's results: milliseconds and rounds, or the reason why it has none."""

    latency_ms: float | None
    latency_iqr_ms: float
    rounds: int
    reason: str


def read_results(results: Path) -> tuple[dict[str, Any], str, dict[str, Row]]:
    """Return the manifest, the machine's name, and the rows by network, of a file that the script wrote.

    Args:
        results: ``results.csv``, with ``manifest.json`` beside it.

    Raises:
        InputError: a file is missing or of another form; or, with every mistake named by row: a network that is not in
            the manifest, is there twice or not at all, a number that is none, or a row of another machine.
    """
    manifest = _read_manifest(results.with_name("manifest.json"))
    known = [entry["network"] for entry in manifest["networks"]]
    try:
        lines = list(csv.reader(io.StringIO(results.read_text(encoding="utf-8-sig"))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"cannot read the results {results} ({error}); expected the CSV that measure.py wrote"
        ) from None
    if not lines or not set(_COLUMNS) <= set(lines[0]):
        raise InputError(
            f"{results}: expected the columns {', '.join(_COLUMNS)}, as measure.py writes them,"
            f" got {', '.join(lines[0]) if lines else 'an empty file'}"
        )
    mistakes: list[str] = []
    rows: dict[str, Row] = {}
    seen: dict[str, int] = {}
    machine: str | None = None
    for number, fields in enumerate(lines[1:], start=2):
        if not any(fields):
            continue
        if len(fields) != len(lines[0]):
            mistakes.append(f"row {number}: {len(fields)} fields, not {len(lines[0])}")
            continue
        said = dict(zip(lines[0], fields, strict=True))
        name = said["network"]
        if name not in known:
            mistakes.append(f"row {number}: {name[:80]!r} is not a network of the manifest")
            continue
        if name in seen:
            mistakes.append(f"row {number}: {name!r} is there already, in row {seen[name]}")
            continue
        seen[name] = number
        machine = said["machine"] if machine is None else machine
        if said["machine"] != machine:
            mistakes.append(f"row {number}: measured on {said['machine']!r}, the rows above on {machine!r}")
        try:
            rows[name] = _row(said)
        except InputError as error:
            mistakes.append(f"row {number}: {error}")
    missing = [name for name in known if name not in seen]
    mistakes += [f"no row for {name!r}" for name in missing]
    if mistakes:
        more = f"; and {len(mistakes) - _NAMED} more" if len(mistakes) > _NAMED else ""
        raise InputError(f"{results}: {'; '.join(mistakes[:_NAMED])}{more}; run measure.py again, or mend the rows")
    return manifest, machine or "", rows


def import_results(results: Path, output: Path) -> tuple[int, int]:
    """Write a CSV as ``freerea-seval measure`` does, and a JSON beside it, from what the script measured elsewhere.

    Returns:
        How many networks have a latency, and how many could not run.

    Raises:
        InputError: as :func:`read_results`; or there is such a CSV.
    """
    if output.exists():
        raise InputError(f"{output} exists already; choose another file with -o")
    manifest, machine, rows = read_results(results)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([manifest["column"], "latency_ms", "latency_iqr_ms", "rounds"])
    for name, row in rows.items():
        if row.latency_ms is None:
            writer.writerow([name, "", "", ""])
        else:
            writer.writerow([name, f"{row.latency_ms:.6g}", f"{row.latency_iqr_ms:.4g}", row.rounds])
    unsupported = {name: row.reason for name, row in rows.items() if row.latency_ms is None}
    facts = {key: value for key, value in manifest.items() if key not in ("format", "column", "networks")}
    said = {"backend": "onnx", "machine": machine, **facts, "unsupported": unsupported}
    write_atomically(json_path(output), json.dumps(said, indent=2) + "\n")
    write_atomically(output, text.getvalue())
    return len(rows) - len(unsupported), len(unsupported)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != _FORMAT or not isinstance(manifest["column"], str):
            raise ValueError(f"format {manifest['format']!r}")
        if not all(isinstance(entry["network"], str) for entry in manifest["networks"]):
            raise ValueError("a network without a name")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} cannot be used ({type(error).__name__}: {error});"
            " expected the manifest that 'measure export' wrote, in the folder of the results"
        ) from None
    return dict(manifest)


def _row(said: dict[str, str]) -> Row:
    if said["reason"].strip():
        if said["latency_ms"].strip():
            raise InputError(f"both a latency and a reason why there is none ({said['reason'][:80]!r})")
        return Row(None, 0.0, 0, said["reason"].strip())
    latency, spread = (_number(name, said[name]) for name in ("latency_ms", "latency_iqr_ms"))
    if latency == 0:
        raise InputError("latency_ms is 0; a network takes some time")
    rounds = said["rounds"].strip()
    if not (rounds.isascii() and rounds.isdigit() and 0 < len(rounds) < 10 and int(rounds)):
        raise InputError(f"rounds is {rounds[:40]!r}, expected a number from 1")
    return Row(latency, spread, int(rounds), "")


def _number(name: str, text: str) -> float:
    if not text.strip():
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
