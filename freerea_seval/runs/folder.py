"""A run on disk: :class:`RunFolder` reads and writes a folder of this layout, :class:`Journal` its journals.

::

    RUN/
      config.yaml              the config as resolved
      run.json                 versions, seeds, where relative paths start, what the user was told of the search
      earlier/                 what the search takes over of other runs; see :mod:`freerea_seval.runs.earlier`
      measured-METRIC.csv      measurements that a source made for the run
      predictor-METRIC/        the predictor that was trained on them
      front.csv                the results of all seeds
      summary.json             numbers of networks and seconds of all seeds
      front.png                the figure
      report.html              the page
      seed-0/journal.jsonl     every evaluated candidate of a seed, in the order of evaluation
      seed-0/result.json       the result of a seed; exists if the seed is finished

A search that measures in rounds has further files: see :mod:`freerea_seval.runs.refine`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter

from freerea_patch import (
    Candidate,
    Evaluation,
    History,
    InputError,
    NothingFeasible,
    Objective,
    Proposal,
    Step,
    Times,
)
from freerea_patch.history import Origin
from freerea_patch.loop import Stopped
from freerea_seval.config import Config, dump_config, foreign_names, load_config
from freerea_seval.files import (
    JsonLines,
    check_plain,
    is_empty,
    new_folder,
    open_locked,
    read_json,
    remove_abandoned,
    temporary_folder,
    write_atomically,
)
from freerea_seval.versions import versions

#: The files run.json and result.json of a run have at most this length.
MOST_JSON_BYTES = 2**26
_LOCK = ".lock"

_Count = Annotated[int, Field(ge=0, le=2**62, strict=True)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
#: JSON has no numbers for NaN, which is an unsupported value, and for infinities: see :func:`to_json`.
_Value = Annotated[float, Field(allow_inf_nan=False, strict=True)] | Literal["inf", "-inf"] | None


@dataclass
class _Clock:
    wall_s: _Seconds
    loop_s: _Seconds


@dataclass
class _Line:
    """A line of a journal."""

    genotype: str
    generation: _Count
    parents: tuple[str, ...]
    origin: Origin
    values: dict[str, _Value]
    seconds: dict[str, _Seconds]
    clock: _Clock | None = None


class _Row(BaseModel, extra="allow"):
    """A network of a result with its score and metrics."""

    __pydantic_extra__: dict[str, _Value]
    genotype: str


class _Result(BaseModel):
    """A file ``result.json``."""

    seed: _Count
    stopped: Stopped
    explored: _Count
    infeasible: _Count
    measured: _Count | None = None
    metric_s: _Seconds
    seconds: dict[str, _Seconds]
    front: list[_Row]


class _Record(BaseModel, extra="allow"):
    """The file ``run.json``."""

    base: Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")]
    versions: dict[str, str] = {}
    notes: list[str] = []


_LINE = TypeAdapter(_Line)
_RESULT = TypeAdapter(_Result)
#: Of a file ``clock.json``: seconds of a seed in all, and of the search itself.
CLOCK = TypeAdapter(_Clock)
_RECORD = TypeAdapter(_Record)


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

    def open(self) -> None:
        """Keep other processes from adding to the file until it is closed.

        Raises:
            InputError: another process has it open.
        """
        try:
            self._lines.open()
        except BlockingIOError:
            raise InputError(f"{self.path} is being written by another process; wait for it") from None

    def steps(self, terms: Sequence[Objective] = ()) -> list[Step]:
        """Return the recorded steps; an incomplete last line is skipped.

        Args:
            terms: the objectives of the search, whose values a feasible candidate must have.

        Raises:
            InputError: a line is not a step of the search.
        """
        what = "an evaluated candidate"
        constraints = [term for term in terms if term.role == "constraint"]
        names = {term.name for term in terms}
        steps = []
        for number, row in enumerate(self._lines.rows(_LINE, what), start=1):
            values = {name: from_json(value) for name, value in row.values.items()}
            missing = names - values.keys()
            # A candidate that one bound excludes lacks what is evaluated after it.
            if missing and all(term.admits(values[term.name]) for term in constraints if term.name in values):
                raise self._lines.damaged(f"line {number}", what, f"it has no value of {min(missing)}")
            proposal = Proposal(row.genotype, row.generation, row.parents, row.origin)
            times = None if row.clock is None else Times(row.clock.wall_s, row.clock.loop_s)
            steps.append(Step(proposal, Evaluation(values, row.seconds), times))
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
        self.append_row(row)

    def append_row(self, row: dict[str, Any]) -> None:
        """Add a line."""
        self._lines.append(row)

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


class UnwrittenJournal(Journal):
    """The new lines of a journal that another process writes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.rows: list[dict[str, Any]] = []

    def append_row(self, row: dict[str, Any]) -> None:
        """Add a line."""
        self.rows.append(row)


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


class RunFolder:
    """A run on disk. Make one with :meth:`create` or :meth:`open`.

    Args:
        path: the folder.
        config: its config.
        base: the folder that the config's relative paths start from.
        trusted: whether the user wants the code that the config names to run; see :meth:`check_trust`.
    """

    #: Whether the folder was made by :meth:`create`, where there was none.
    _is_new = False
    #: The open file that holds the lock, and whether :meth:`locked` closes it.
    _lock: int | None = None
    _nested = False

    def __init__(self, path: Path, config: Config, base: Path, trusted: bool = False) -> None:
        self.path = path
        self.config = config
        self.base = base
        self.trusted = trusted

    def __del__(self) -> None:
        if self._lock is not None:
            os.close(self._lock)

    @classmethod
    def create(
        cls, path: Path, config: Config, base: Path, fill: Callable[[Path], object] = lambda draft: None
    ) -> RunFolder:
        """Start a new run, which is locked until the first :meth:`locked` ends.

        Args:
            path: a folder that does not exist, or is empty.
            config: the config of the run.
            base: the folder that the config's relative paths start from.
            fill: puts further files into the folder before it appears.

        Raises:
            InputError: the folder has something in it.
        """
        remove_abandoned(path.absolute().parent)
        is_new = not path.exists()
        if not is_new and not (path.is_dir() and is_empty(path)):
            raise _not_empty(path)
        folder = cls(path, config, base.resolve(), trusted=True)
        folder._is_new = is_new
        folder._remember()
        record = {"base": str(folder.base), "seeds": config.search.seeds, "versions": versions()}
        # The folder appears in one step with everything that resuming needs, and locked: a run is never without owner
        # between being made and being searched.
        try:
            with new_folder(path) as draft:
                write_atomically(draft / "run.json", json.dumps(record, indent=2) + "\n")
                write_atomically(draft / "config.yaml", dump_config(config))
                fill(draft)
                if os.name != "nt":  # Windows has no such lock, and cannot rename a folder with an open file
                    folder._lock = open_locked(draft / _LOCK)
        except FileExistsError as error:  # another process has made it in the meantime
            raise _not_empty(path) from error
        return folder

    def discard(self) -> None:
        """Remove a locked run in which nothing was evaluated, unless something else is in its folder."""
        ours = {self.path / name for name in ("config.yaml", "run.json", _LOCK, "earlier")}
        ours |= set((self.path / "earlier").rglob("*"))
        for seed in self.config.search.seeds:
            journal = self.journal(seed).path
            ours |= {self.seed(seed), *([journal] if journal.is_file() and not journal.stat().st_size else [])}
        if set(self.path.rglob("*")) <= ours:
            # Windows cannot move a folder with an open file; the error that ended the search matters more.
            with suppress(OSError), temporary_folder(self.path.parent) as parent:
                os.replace(self.path, parent / self.path.name)
                if not self._is_new:
                    self.path.mkdir()

    def resolve(self, config: Config, notes: Sequence[str]) -> None:
        """Replace the config by the resolved one, which has what sources supply, and record notes for the report."""
        self.config = config
        self._remember()
        write_atomically(self.path / "config.yaml", dump_config(config))
        record = {**self.record(), "notes": list(notes)}
        write_atomically(self.path / "run.json", json.dumps(record, indent=2) + "\n")

    def check_trust(self, space_alone: bool = False) -> None:
        """Make sure that the user wants what the config names, or its space, to be imported or written.

        The user does after starting the run, with the option ``--trust``, or if they once did either with the same
        names and base: a file of theirs says so, outside of the run folder, because whoever makes a run folder can
        write anything into it.

        Raises:
            InputError: the user has not said so.
        """
        names = foreign_names(self.config, space_alone)
        if names and not (self.trusted or self._consent().is_file()):
            raise InputError(
                f"run {self.path}: its config names {', '.join(map(repr, names))}, which you have not run from"
                f" {self.base}: a folder alone must not cause code to run; if you trust it, add --trust"
            )

    def _consent(self) -> Path:
        """Return the file that exists if the user has run the code that the config names, with the same arguments."""
        from platformdirs import user_state_path

        config = self.config
        sources = [section.source for section in (*config.objectives, *config.report)]
        search = config.search.model_dump() if ":" in config.search.algorithm else None
        parts = [str(self.base), config.space, config.live.model_dump(), sources, search]
        content = json.dumps(parts, default=str)
        return user_state_path("freerea-seval") / "trusted" / hashlib.sha256(content.encode()).hexdigest()

    def _remember(self) -> None:
        """Record that the user runs this code; a folder that cannot be written costs a ``--trust`` later."""
        if foreign_names(self.config):
            consent = self._consent()
            with suppress(OSError):
                consent.parent.mkdir(parents=True, exist_ok=True)
                consent.touch()

    def record(self) -> dict[str, Any]:
        """Return the content of ``run.json``, with ``base``, ``versions`` and ``notes``.

        Raises:
            InputError: the file is damaged.
        """
        return read_json(self.path / "run.json", _RECORD, MOST_JSON_BYTES).model_dump()

    @property
    def notes(self) -> list[str]:
        """What the user was told of the search, one line each; see :class:`~freerea_seval.runs.setup.Setup`."""
        notes: list[str] = self.record()["notes"]
        return notes

    @classmethod
    def open(cls, path: Path, trusted: bool = False) -> RunFolder:
        """Return an existing run, after removing what killed processes left in it and beside it.

        Args:
            path: the folder.
            trusted: see :meth:`check_trust`.

        Raises:
            InputError: the folder is not a run, its files are damaged, or a link leads out of it.
        """
        for name in ("config.yaml", "run.json"):
            if not (path / name).is_file():
                raise InputError(f"{path} is not a run folder: it has no {name}; expected a folder that 'search' wrote")
        check_plain(path)
        for place in (path.absolute().parent, path, *path.glob("seed-*")):
            remove_abandoned(place)
        record = read_json(path / "run.json", _RECORD, MOST_JSON_BYTES)
        return cls(path, load_config(path / "config.yaml"), Path(record.base), trusted)

    def seed(self, seed: int) -> Path:
        """Return the folder of one seed."""
        return self.path / f"seed-{seed}"

    def journal(self, seed: int) -> Journal:
        """Return the journal of one seed."""
        return Journal(self.seed(seed) / "journal.jsonl")

    def result(self, seed: int) -> dict[str, Any] | None:
        """Return the result of one seed, None if the seed is not finished.

        Raises:
            InputError: the file is damaged.
        """
        path = self.seed(seed) / "result.json"
        if not path.is_file():
            return None
        result = read_json(path, _RESULT, MOST_JSON_BYTES)
        if result.seed != seed:
            raise InputError(f"{path}: seed: expected {seed}, got {result.seed}; restore the file")
        return result.model_dump()

    def results(self) -> list[dict[str, Any]]:
        """Return the results of all seeds.

        Raises:
            InputError: a seed is not finished, or found nothing within its constraints.
        """
        results = []
        for seed in self.config.search.seeds:
            result = self.result(seed)
            if result is None:
                raise self._unfinished(seed)
            results.append(result)
        return results

    def _unfinished(self, seed: int) -> InputError:
        """Return the error for a seed without a result: it was interrupted, or found nothing feasible."""
        resume = f"continue it with: freerea-seval search --resume {self.path}"
        history = read_history(self, seed)
        if len(history) and not history.front():
            return InputError(f"run {self.path}: seed {seed}: {history.describe_nothing_compared()}; or {resume}")
        if len(history) or not history.evaluated:
            return InputError(f"run {self.path}: seed {seed} is not finished; {resume}")
        patience = self.config.budget.patience
        text = f"run {self.path}: seed {seed} found nothing: {history.describe_infeasible()}; start another search with"
        text += f" a looser bound or a budget.patience above {patience}"
        ended = history.infeasible_in_a_row >= patience
        return NothingFeasible(text if ended else f"{text}; or if this one was interrupted, {resume}")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing to the run; within another such context, it stays locked until that ends.

        Raises:
            InputError: another process has locked it.
        """
        if self._nested:
            yield
            return
        try:
            self._lock = open_locked(self.path / _LOCK) if self._lock is None else self._lock
        except BlockingIOError:
            raise InputError(f"run {self.path} is being written by another process; wait for it") from None
        self._nested = True
        try:
            yield
        finally:
            self._nested = False
            os.close(self._lock)
            self._lock = None


def read_history(folder: RunFolder, seed: int) -> History:
    """Return the history of one seed, from its journal.

    The scores of a search that measures in rounds refer to what it explored, as those of its result do.
    """
    config = folder.config
    terms = [term for section in config.selecting for term in section.objectives()]
    history = History(terms, **config.search.scoring())
    for step in folder.journal(seed).steps(terms):
        history.add(step.proposal, step.evaluation)
    if config.refine is not None:
        explored: dict[str, Mapping[str, float]] = {}
        for path in sorted(folder.seed(seed).glob("round-*.jsonl"), key=lambda p: int(p.stem.partition("-")[2])):
            for step in Journal(path).steps():
                explored.setdefault(step.proposal.genotype, step.evaluation.values)
        refer_to_explored(history, explored, {s.column for s in config.selecting if config.is_learned(s)})
    return history


def refer_to_explored(history: History, explored: Mapping[str, Mapping[str, float]], learned: Set[str]) -> None:
    """Let scores rank measured networks, which are a selection, among all that a search explored.

    Args:
        history: of the measured networks.
        explored: the values of all networks by genotype.
        learned: the metrics that are predicted while a search explores; scores that have one refer to nothing else.
    """
    names = {term.name for term in history.terms if term.role == "fitness"}
    if names.isdisjoint(learned):
        scored = {candidate.genotype for candidate in history}
        for genotype, values in explored.items():
            if genotype not in scored and names <= set(values):
                history.refer_to(values)


def _not_empty(path: Path) -> InputError:
    return InputError(
        f"run folder {path} exists and is not empty; choose another with -o, or continue it: --resume {path}"
    )
