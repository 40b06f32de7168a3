"""What a measurement leaves: a journal of visits while it runs, and a CSV with a JSON beside it."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from freerea_patch import InputError
from freerea_seval.files import lock, write_atomically
from freerea_seval.measurement.timing import Summary, Timing, by_network

Config = Mapping[str, Any]
Timings = dict[str, list[Timing]]


def journal_path(output: Path) -> Path:
    """Return the journal's place beside a CSV; raise :class:`InputError` for a folder."""
    if output.is_dir():
        raise InputError(f"{output} is a folder; give a file with -o")
    return output.with_name(output.name + ".journal.jsonl")


def json_path(output: Path) -> Path:
    """Return the place of what is told beside a CSV."""
    return output.with_suffix(".json")


class VisitJournal:
    """A file of visits, one line of JSON each, below a line that says what is measured.

    A line goes to the operating system as one write: a killed process leaves at most a torn last line, which goes.

    Args:
        path: the file, made if it is not there.
        config: what decides the values; a journal of another one is refused.

    Raises:
        InputError: the journal is of another measurement, or a line is not of a journal.
    """

    def __init__(self, path: Path, config: Config) -> None:
        self.path = path
        #: Visits in their order, and peak megabytes by network, as far as they are known.
        self.visits: list[tuple[str, Timing]] = []
        self.peaks: dict[str, float] = {}
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            lock(self._handle)
        except BlockingIOError:
            os.close(self._handle)
            raise InputError(f"{path} is being written by another process; wait for it, or choose another -o") from None
        try:
            whole = self._read(json.loads(json.dumps(config)))  # through JSON: a tuple equals the list that comes back
        except InputError:
            self.close()
            raise
        if not whole:
            self._append({"config": config})

    @property
    def timings(self) -> Timings:
        """Visits by network."""
        return by_network(self.visits)

    def add(self, network: str, timing: Timing) -> None:
        """Add a visit."""
        said = {name: value for name, value in asdict(timing).items() if value is not None}
        self._append({"network": network, **said})
        self.visits.append((network, timing))

    def add_peak(self, network: str, peak_mb: float) -> None:
        """Add the peak memory of a network."""
        self._append({"network": network, "peak_mb": peak_mb})
        self.peaks[network] = peak_mb

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)

    def _read(self, config: Config) -> bytes:
        """Take in what is there, and return it without a torn last line, which goes."""
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                row = json.loads(line)
                if number > 1:
                    self._take(row)
                    continue
                recorded = row["config"]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(
                    f"{self.path}, line {number}: not a line of a journal ({type(error).__name__}: {error});"
                    " restore the file, or delete it from this line on"
                ) from None
            if recorded != config:
                raise InputError(
                    f"{self.path} is of another measurement ({_difference(recorded, config)}); choose another -o"
                )
        if len(whole) < len(data):
            os.truncate(self.path, len(whole))
        return whole

    def _take(self, row: dict[str, Any]) -> None:
        network = row.pop("network")
        if "peak_mb" in row:
            self.peaks[network] = float(row["peak_mb"])
        else:
            self.visits.append((network, Timing(**{"latency_ms": None, **row})))

    def _append(self, row: Mapping[str, object]) -> None:
        data = (json.dumps(row, allow_nan=False) + "\n").encode()
        while data:
            data = data[os.write(self._handle, data) :]


def _difference(recorded: Any, config: Mapping[str, Any]) -> str:
    if not isinstance(recorded, dict):
        return "it has no config"
    for name in (*config, *recorded):
        if recorded.get(name) != config.get(name):
            if isinstance(config.get(name), (list, dict)):
                return f"of other {name}"
            return f"{name} {recorded.get(name)!r}, now {config.get(name)!r}"
    return "another config"


def write_results(
    output: Path,
    column: str,
    found: Mapping[str, Summary | None],
    timings: Timings,
    peaks: Mapping[str, float],
    facts: Config,
) -> None:
    """Write the CSV and the JSON: a network that cannot run has empty cells, and its reason in the JSON.

    Args:
        output: the CSV.
        column: header of the networks' names.
        found: see :func:`freerea_seval.measurement.timing.summaries`; in the order of the rows.
        timings, peaks: what they come from, and megabytes by network as far as they are known.
        facts: what the JSON shall say besides.
    """
    energy = any(s is not None and s.energy_mj is not None for s in found.values())
    header = [column, "latency_ms", "latency_iqr_ms", "rounds"]
    header += ["peak_mb"] * bool(peaks) + ["energy_mj"] * energy
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for name, s in found.items():
        cells: list[object] = [name, "", "", ""]
        if s is not None:
            cells = [name, f"{s.latency_ms:.6g}", f"{s.latency_iqr_ms:.4g}", s.rounds]
        if peaks:
            cells.append(f"{peaks[name]:.6g}" if name in peaks and s is not None else "")
        if energy:
            cells.append("" if s is None or s.energy_mj is None else f"{s.energy_mj:.6g}")
        writer.writerow(cells)
    unsupported = {name: next(t.reason for t in timings[name] if t.reason) for name, s in found.items() if s is None}
    write_atomically(json_path(output), json.dumps({**facts, "unsupported": unsupported}, indent=2) + "\n")
    write_atomically(output, text.getvalue())
