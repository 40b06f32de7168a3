"""The journal of a search: one line of JSON a candidate, only ever appended to."""

from __future__ import annotations

import json
import math
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freerea_patch import Candidate, Evaluation, InputError, Objective, Objectives, Stopwatch, Times


@dataclass(frozen=True)
class Entry:
    """One line of a journal.

    Attributes:
        genotype, origin, generation, parents: how the candidate came to be.
        evaluation: its values and seconds.
        times: the clocks when it was told; only in searches that the clock can end.
    """

    genotype: str
    origin: str
    generation: int
    parents: tuple[str, ...]
    evaluation: Evaluation
    times: Times | None = None

    @classmethod
    def of(cls, candidate: Candidate, times: Times | None) -> Entry:
        """Return the entry of a candidate that was just told."""
        p = candidate.proposal
        return cls(p.genotype, p.origin, p.generation, p.parents, candidate.evaluation, times)

    @property
    def identity(self) -> tuple[object, ...]:
        """What the course of the search decides: all but what evaluating the candidate gave."""
        return self.genotype, self.origin, self.generation, self.parents

    def line(self) -> str:
        """Return the entry as a line of JSON; equal entries give equal bytes."""
        row: dict[str, Any] = {
            "genotype": self.genotype,
            "origin": self.origin,
            "generation": self.generation,
            "parents": list(self.parents),
            "values": {name: to_json(value) for name, value in self.evaluation.values.items()},
            "seconds": dict(self.evaluation.seconds),
        }
        if self.times is not None:
            row["clock"] = {"wall_s": self.times.wall_s, "loop_s": self.times.loop_s}
        return json.dumps(row, allow_nan=False) + "\n"

    @classmethod
    def parse(cls, line: str) -> Entry:
        """Return the entry of a line; raise ``ValueError`` or ``KeyError`` if it is none."""
        row = json.loads(line)
        evaluation = Evaluation({k: from_json(v) for k, v in row["values"].items()}, row["seconds"])
        clock = row.get("clock")
        return cls(
            row["genotype"],
            row["origin"],
            row["generation"],
            tuple(row["parents"]),
            evaluation,
            Times(**clock) if clock else None,
        )


def to_json(value: float) -> float | str | None:
    """Write unsupported (NaN) as null and infinities as strings: JSON has no numbers for them."""
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


def from_json(value: float | str | None) -> float:
    """Read what :func:`to_json` wrote."""
    return math.nan if value is None else float(value)


class Journal:
    """A file of entries.

    Each line goes to the operating system as one write, so that a killed process leaves at most one torn
    line, the last, which :meth:`entries` leaves out and :meth:`open` cuts off.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def entries(self) -> list[Entry]:
        """Return the whole lines.

        Raises:
            InputError: a line that is not the last cannot be read.
        """
        if not self.path.exists():
            return []
        lines = self.path.read_bytes().split(b"\n")[:-1]  # what follows the last newline is torn
        found = []
        for number, line in enumerate(lines, start=1):
            try:
                found.append(Entry.parse(line.decode()))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(
                    f"{self.path}, line {number}: not an entry of a journal ({type(error).__name__}: {error});"
                    " restore the file, or delete it from this line on and resume"
                ) from None
        return found

    def open(self) -> None:
        """Make the file ready for appending, without a torn last line."""
        if self.path.exists():
            content = self.path.read_bytes()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                os.truncate(self.path, whole)
        self._handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    def append(self, entry: Entry) -> None:
        """Add an entry.

        Raises:
            OSError: the disk is full; what was there before is whole.
        """
        if self._handle is None:
            self.open()
        assert self._handle is not None
        data = entry.line().encode()
        while data:
            data = data[os.write(self._handle, data) :]

    def close(self) -> None:
        """Close the file."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


class Replayed:
    """Objectives that answer from a journal as far as it goes, and from the real ones after that.

    A search is fixed by its seed and by the values that it is told, so that told the recorded ones it
    takes the recorded course and arrives where it was killed.

    Args:
        objectives: the real ones.
        entries: the journal.
    """

    def __init__(self, objectives: Objectives, entries: Sequence[Entry]) -> None:
        self._objectives = objectives
        self._recorded: Mapping[str, Evaluation] = {e.genotype: e.evaluation for e in entries}

    @property
    def terms(self) -> Sequence[Objective]:
        """The objectives' terms."""
        return self._objectives.terms

    def evaluate(self, genotypes: Sequence[str]) -> Iterator[Evaluation]:
        """Yield recorded evaluations, then new ones: the recorded candidates come first in every batch."""
        recorded = [g for g in genotypes if g in self._recorded]
        for genotype in recorded:
            yield self._recorded[genotype]
        yield from self._objectives.evaluate(genotypes[len(recorded) :])


class ReplayedStopwatch(Stopwatch):
    """Shows the recorded clocks, candidate by candidate, and then goes on from the last.

    Args:
        entries: the journal.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        super().__init__()
        self._recorded = deque(entry.times for entry in entries if entry.times is not None)

    def read(self) -> Times:
        """Return the next recorded clocks, or the running ones after them."""
        if self._recorded:
            self.set(self._recorded.popleft())
        return super().read()


class Recorder:
    """Appends each new candidate of a search, and holds the replayed ones against the journal.

    Args:
        journal: the journal, opened.
        entries: what it holds already.
        with_clock: whether to record the clocks, as a search needs that they can end.
    """

    def __init__(self, journal: Journal, entries: Sequence[Entry], with_clock: bool) -> None:
        self._journal = journal
        self._entries = entries
        self._with_clock = with_clock
        self._told = 0

    def record(self, candidate: Candidate, times: Times) -> None:
        """Take note of the next candidate.

        Raises:
            InputError: the journal has another candidate in this place.
            OSError: the disk is full.
        """
        entry = Entry.of(candidate, times if self._with_clock else None)
        if self._told >= len(self._entries):
            self._journal.append(entry)
        elif entry.identity != self._entries[self._told].identity:
            raise InputError(
                f"{self._journal.path}, line {self._told + 1}: this search would evaluate {entry.genotype!r} here, the"
                f" journal has {self._entries[self._told].genotype!r}; the config or the program has changed since"
            )
        self._told += 1
