"""One measurement from networks to a table: visits in rounds, a journal to resume from, a CSV and a JSON.

pandas is imported here: import this module only where networks are measured.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import Discriminator, Field, Tag, TypeAdapter

from freerea_patch import InputError
from freerea_seval.files import JsonLines, write_atomically
from freerea_seval.measurement.backends import check_backend
from freerea_seval.measurement.machine import describe_machine, find_meter, governor
from freerea_seval.measurement.memory import check_memory, peaks_mb
from freerea_seval.measurement.networks import Networks
from freerea_seval.measurement.timing import (
    BURST,
    LONGEST_BURST,
    REWARM,
    ROUNDS,
    WARM_UPS,
    Rounds,
    Runnable,
    Summary,
    Timing,
    by_network,
    summaries,
)
from freerea_seval.progress import Progress
from freerea_seval.tables import to_csv
from freerea_seval.units import unit_of
from freerea_seval.versions import versions

_LOG = logging.getLogger(__name__)
Config = Mapping[str, Any]

_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
#: Columns of results, and how a CSV writes their numbers.
_FORMATS = {"latency_ms": ".6g", "latency_iqr_ms": ".4g", "rounds": ".0f", "peak_mb": ".6g", "energy_mj": ".6g"}


_Number = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]


@dataclass
class _Begin:
    """The first line of a journal of visits."""

    config: dict[str, Any]


@dataclass
class _Peak:
    """The peak memory of a network."""

    network: str
    peak_mb: _Number


@dataclass
class _Visit:
    """A visit to a network; the names of its facts are those of :class:`Timing`."""

    network: str
    turn: Annotated[int, Field(ge=0, le=2**31, strict=True)]
    seconds: _Number
    latency_ms: _Number | None = None
    ready_s: _Number = 0.0
    energy_mj: _Number | None = None
    reason: str | None = None
    failed: str | None = None


def _kind(row: Any) -> str:
    keys = row if isinstance(row, dict) else ()
    return "config" if "config" in keys else "peak" if "peak_mb" in keys else "visit"


_LINE: TypeAdapter[_Begin | _Peak | _Visit] = TypeAdapter(
    Annotated[
        Annotated[_Begin, Tag("config")] | Annotated[_Peak, Tag("peak")] | Annotated[_Visit, Tag("visit")],
        Discriminator(_kind),
    ]
)


def measure_networks(
    networks: Networks,
    output: Path | None = None,
    *,
    backend: str = "eager",
    device: str = "cpu",
    threads: int | None = None,
    rounds: int = ROUNDS,
    budget: str | None = None,
    memory: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Measure networks in rounds, and return a table with one row a network.

    With ``output``, every visit is recorded in a journal beside it, from which the same call resumes, and the results
    are written to the CSV and to a JSON of the same name.

    Args:
        networks: what to measure; with a budget, in the order of importance.
        output: the CSV, or None to keep nothing.
        backend: ``"eager"``, ``"compile"`` or ``"onnx"``.
        device: where the networks run.
        threads: CPU threads; None leaves torch's own setting.
        rounds: visits to every network.
        budget: stop after this time, such as ``"5m"``; networks at the end of the list are then left out.
        memory: also measure peak memory.
        seed: of the order within the rounds.
        progress: shows the steps.

    Returns:
        The column ``networks.column`` with the names; ``latency_ms``; ``latency_iqr_ms``, the distance between the
        quartiles of the visits; ``rounds``; and ``peak_mb`` and ``energy_mj`` where they were measured. A network that
        cannot run has NaN, and one that could not be built or exported has no row. ``attrs["units"]`` holds the units
        of columns, ``attrs["unsupported"]`` and ``attrs["failed"]`` the reasons by network.

    Raises:
        InputError: an unknown backend or device, a journal of another measurement, or no network can run.
    """
    progress = progress or Progress()
    budget_s = None if budget is None else parse_seconds(budget)
    check_backend(backend, device, threads)
    if memory:
        check_memory(backend, device)
    config: dict[str, Any] = {
        **conditions(backend, device),
        "threads": threads,
        "seed": seed,
        **networks.about,
        "networks": list(networks.names),
    }
    journal = VisitJournal(None if output is None else journal_path(output), config)

    def prepare(name: str) -> Runnable:
        return networks.prepare(name, backend=backend, device=device, threads=threads)

    try:
        visits = Rounds(networks.names, prepare, seed=seed, meter=find_meter() if device == "cpu" else None)
        total = rounds * len(networks.names)
        spent_s = sum(timing.seconds for _, timing in journal.visits)
        with progress.task(f"measuring {len(networks.names)} networks") as show:
            for name, timing in visits.visits(rounds, journal.timings, budget_s):
                journal.add(name, timing)
                spent_s += timing.seconds
                show(
                    len(journal.visits) / total if budget_s is None else spent_s / budget_s, f"round {timing.turn + 1}"
                )
        if memory:
            names = [name for name in journal.timings if name not in journal.peaks]
            with progress.task("measuring memory") as show:
                peaks = peaks_mb([networks.spec(name) for name in names])
                for index, (name, peak) in enumerate(zip(names, peaks, strict=True)):
                    show(index / len(names), "")
                    if peak is not None:
                        journal.add_peak(name, peak)
    finally:
        journal.close()
    results = results_table(networks, journal.visits, journal.peaks)
    _LOG.info("measured %d networks in %d visits of %.1f s", len(networks.names), len(journal.visits), spent_s)
    unsupported = results.attrs["failed"] | results.attrs["unsupported"]
    if unsupported and results["latency_ms"].isna().all():
        mend = "" if journal.path is None else f"; mend that, and delete {journal.path}"
        raise InputError(
            f"none of {len(unsupported)} networks can run on {device!r} with backend {backend!r}"
            f" ({' failed with '.join(next(iter(unsupported.items())))}){mend}"
        )
    if output is not None:
        facts = {name: value for name, value in config.items() if name != "networks"} | {
            **conditions(backend, device, threads),
            "rounds": rounds,
            "passes": f"{WARM_UPS} to warm up, then a round: {REWARM} that does not count,"
            f" the fastest of {BURST} that do, or up to {LONGEST_BURST} of a network that is built for a round alone",
            "latency_ms": "of all rounds, without the drift of the machine and waiting for a core that others had",
            "budget": budget,
            "governor": governor(),
            "date": datetime.now().astimezone().isoformat(timespec="seconds"),
            "versions": versions(),
        }
        write_results(output, results, facts)
    return results


def conditions(backend: str, device: str, threads: int | None = None) -> dict[str, Any]:
    """Return what a measurement on this machine depends on, beside the networks; see :func:`measure_networks`."""
    import torch

    return {
        "backend": backend,
        "device": device,
        "threads": torch.get_num_threads() if threads is None else threads,
        "machine": describe_machine(device),
    }


def results_table(
    networks: Networks, visits: Sequence[tuple[str, Timing]], peaks: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """Return the table of :func:`measure_networks` for visits, with the networks that were visited."""
    peaks = peaks or {}
    by_name: dict[str, Summary | None] = summaries(visits)
    rows = []
    failed = {name: timing.failed for name, timing in visits if timing.failed}
    for name in networks.names:
        if name in by_name and name not in failed:
            summary = by_name[name]
            cells = {} if summary is None else {**asdict(summary), "peak_mb": peaks.get(name)}
            rows.append({networks.column: name, **cells})
    table = pd.DataFrame(rows, columns=[networks.column, *_FORMATS])
    for column in _FORMATS:
        table[column] = table[column].astype("Int64" if column == "rounds" else float)
    table = table.drop(columns=[name for name in ("peak_mb", "energy_mj") if table[name].isna().all()])
    table.attrs["units"] = {name: unit_of(name) for name in table.columns if unit_of(name)}
    reasons = {name: timing.reason for name, timing in visits if timing.reason}
    table.attrs["unsupported"] = {name: reasons[name] for name in by_name if name in reasons}
    table.attrs["failed"] = failed
    return table


def write_results(output: Path, results: pd.DataFrame, facts: Config) -> None:
    """Write a table of results as CSV, and as JSON beside it the facts and the reasons of what has no values.

    A network that cannot run has empty cells; one that could not be built or exported has no row.
    """
    cells = results.astype(object)
    for column in results.columns.intersection(list(_FORMATS)):
        cells[column] = ["" if pd.isna(value) else format(value, _FORMATS[column]) for value in results[column]]
    facts = {**facts, **{name: results.attrs[name] for name in ("unsupported", "failed")}}
    write_atomically(json_path(output), json.dumps(facts, indent=2) + "\n")
    write_atomically(output, to_csv(cells))


def journal_path(output: Path) -> Path:
    """Return the path of the journal beside a CSV; raise :class:`InputError` for a folder."""
    if output.is_dir():
        raise InputError(f"{output} is a folder; give a file with -o")
    return output.with_name(output.name + ".journal.jsonl")


def json_path(output: Path) -> Path:
    """Return the path of the facts beside a CSV."""
    return output.with_suffix(".json")


class VisitJournal:
    """Visits to networks, recorded in a file whose first line is the config of the measurement.

    Args:
        path: the file, made if it is missing and locked against other processes; None records nothing.
        config: what the values depend on; a journal with another config is refused.

    Raises:
        InputError: the journal belongs to another measurement, is in use, or has a line that is not of a journal.
    """

    def __init__(self, path: Path | None, config: Config) -> None:
        self.path = path
        #: Visits in their order, and peak megabytes by network where they were measured.
        self.visits: list[tuple[str, Timing]] = []
        self.peaks: dict[str, float] = {}
        if path is None:
            return
        self._file = JsonLines(path)
        try:
            self._file.open()
            self._read(path, json.loads(json.dumps(config)))  # through JSON: a tuple comes back as a list
        except BlockingIOError:
            raise InputError(f"{path} is being written by another process; wait for it, or choose another -o") from None
        except InputError:
            self.close()
            raise

    def _read(self, path: Path, config: Config) -> None:
        what = "a visit of a measurement"
        rows = self._file.rows(_LINE, what)
        recorded = rows[0].config if rows and isinstance(rows[0], _Begin) else None
        if not rows:
            self._file.append({"config": config})
        elif recorded != config:
            raise InputError(f"{path} is of another measurement ({_difference(recorded, config)}); choose another -o")
        for number, row in enumerate(rows[1:], start=2):
            if isinstance(row, _Begin):
                raise self._file.damaged(f"line {number}", what, "a config, which is the first line")
            if isinstance(row, _Peak):
                self.peaks[row.network] = row.peak_mb
            else:
                facts = asdict(row)
                self.visits.append((facts.pop("network"), Timing(**facts)))

    @property
    def timings(self) -> dict[str, list[Timing]]:
        """Visits by network."""
        return by_network(self.visits)

    def add(self, network: str, timing: Timing) -> None:
        """Record a visit."""
        self.visits.append((network, timing))
        if self.path is not None:
            values = {name: value for name, value in asdict(timing).items() if value is not None}
            self._file.append({"network": network, **values})

    def add_peak(self, network: str, peak_mb: float) -> None:
        """Record the peak memory of a network."""
        self.peaks[network] = peak_mb
        if self.path is not None:
            self._file.append({"network": network, "peak_mb": peak_mb})

    def close(self) -> None:
        """Close and unlock the file."""
        if self.path is not None:
            self._file.close()


def _difference(recorded: Any, config: Config) -> str:
    if not isinstance(recorded, dict):
        return "it has no config"
    for name in (*config, *recorded):
        if recorded.get(name) != config.get(name):
            if isinstance(config.get(name), (list, dict)):
                return f"of other {name}"
            return f"{name} {recorded.get(name)!r:.80}, now {config.get(name)!r:.80}"
    return "another config"


def parse_seconds(text: str) -> float:
    """Return the seconds of ``60s``, ``5m``, ``1h``, or ``60``.

    Raises:
        InputError: the text is none of these, or not more than 0.
    """
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(s|m|min|h|)", text.strip(), re.ASCII)
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not seconds:
        raise InputError(f"--budget {text!r:.80}: expected a time such as 60s, 5m or 1h")
    return seconds
