"""The journal of a search: one line of JSON per evaluated candidate, in an append-only file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from freerea_patch import Candidate, Evaluation, InputError, Proposal, Step, Times
from freerea_seval.files import JsonLines


def to_json(value: float) -> float | str | None:
    """Write unsupported values (NaN) as null and infinities as strings, because JSON has no such numbers."""
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


def from_json(value: float | str | None) -> float:
    """Read a value written by :func:`to_json`."""
    return math.nan if value is None else float(value)


class Journal:
    """A file of the steps of a search.

    Args:
        path: the file; see :class:`~freerea_seval.files.JsonLines`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = JsonLines(path)

    def steps(self) -> list[Step]:
        """Return the recorded steps; an incomplete last line is skipped.

        Raises:
            InputError: a line is not a step of a search.
        """
        steps = []
        for number, row in enumerate(self._lines.rows(), start=1):
            try:
                proposal = Proposal(row["genotype"], row["generation"], tuple(row["parents"]), row["origin"])
                values = {name: from_json(value) for name, value in row["values"].items()}
                times = Times(**row["clock"]) if "clock" in row else None
                steps.append(Step(proposal, Evaluation(values, row["seconds"]), times))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(
                    f"{self.path}, line {number}: expected an evaluated candidate ({type(error).__name__}: {error});"
                    " restore the file, or delete it from this line on and resume"
                ) from None
        return steps

    def append(self, candidate: Candidate, times: Times | None = None) -> None:
        """Add a candidate, and the clocks if the search depends on them.

        Raises:
            OSError: the disk is full; the lines before are complete.
        """
        proposal, evaluation = candidate.proposal, candidate.evaluation
        row: dict[str, Any] = {
            "genotype": proposal.genotype,
            "origin": proposal.origin,
            "generation": proposal.generation,
            "parents": list(proposal.parents),
            "values": {name: to_json(value) for name, value in evaluation.values.items()},
            "seconds": dict(evaluation.seconds),
        }
        if times is not None:
            row["clock"] = {"wall_s": times.wall_s, "loop_s": times.loop_s}
        self._lines.append(row)

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


class Recorder:
    """Appends each new candidate of a search to the journal, and compares replayed candidates with it.

    Args:
        journal: the journal.
        steps: its steps so far.
        with_clock: whether to record the clocks, which is needed if they can end the search.
    """

    def __init__(self, journal: Journal, steps: Sequence[Step], with_clock: bool) -> None:
        self._journal = journal
        self._steps = steps
        self._with_clock = with_clock
        self._position = 0

    def record(self, candidate: Candidate, times: Times) -> None:
        """Record the next candidate.

        Raises:
            InputError: the journal has another candidate at this position.
            OSError: the disk is full.
        """
        if self._position >= len(self._steps):
            self._journal.append(candidate, times if self._with_clock else None)
        elif candidate.proposal != self._steps[self._position].proposal:
            recorded = self._steps[self._position].proposal.genotype
            raise InputError(
                f"{self._journal.path}, line {self._position + 1}: this search would evaluate"
                f" {candidate.proposal.genotype!r} here, the journal has {recorded!r}; the config or the program has"
                " changed since"
            )
        self._position += 1
