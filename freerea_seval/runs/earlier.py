"""Earlier runs that a search starts from: their measurements, answers and explored networks.

A new run has a copy of what it takes over, with which it is made, so that resuming it needs no other run::

    RUN/earlier/0/run.json       of the first earlier run, with the path at which it was as ``origin``
    RUN/earlier/0/config.yaml    its config
    RUN/earlier/0/seed-0/        its measurements (refine.jsonl), where they were made, and its explored networks
    RUN/earlier/0/earlier/       what that run has taken over itself
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from freerea_patch import Candidate, Evaluation, InputError, make_space
from freerea_seval.config import Config, ObjectiveSection
from freerea_seval.config.schema import FEWEST_TO_LEARN
from freerea_seval.files import read_json
from freerea_seval.runs.folder import MOST_JSON_BYTES, Journal, RunFolder
from freerea_seval.runs.refine_log import RefineLog
from freerea_seval.runs.setup import Setup
from freerea_seval.sources.learned import LearnedSource, Means

_FOLDER = "earlier"
_FACTS = TypeAdapter(dict[str, Any])


@dataclass(frozen=True)
class Earlier:
    """What a run takes over.

    Attributes:
        values: the values of learned metrics, by column and network.
        explored: networks that earlier runs have evaluated, with their values of the metrics that are not learned.
    """

    values: dict[str, dict[str, list[float]]]
    explored: list[Candidate]


def copy_runs(runs: Sequence[Path], draft: Path) -> None:
    """Copy what is taken over of earlier runs into the folder of a new one.

    Raises:
        InputError: one is not a run with a section ``refine``, is being written, or is damaged.
    """
    for number, path in enumerate(runs):
        run = RunFolder.open(path)
        if run.config.refine is None:
            raise InputError(
                f"run {path}: it learned no metric, because its config has no section 'refine'; leave it out"
            )
        # Whoever may not write to a run cannot lock it.
        with run.locked() if os.access(path, os.W_OK) else nullcontext():
            seed, target = run.seed(run.config.search.seeds[0]), draft / _FOLDER / str(number)
            log, parts = seed / "refine.jsonl", sorted(seed.glob("round-*.jsonl"))
            RefineLog(log)  # what is damaged is named by its own path
            for part in parts:
                Journal(part).steps()
            (target / seed.name).mkdir(parents=True)
            shutil.copyfile(path / "config.yaml", target / "config.yaml")
            (target / "run.json").write_text(json.dumps({**run.record(), "origin": str(path.absolute())}))
            for file in (*([log] if log.exists() else []), *parts, *seed.glob("measured-*.json")):
                shutil.copyfile(file, target / seed.name / file.name)
            if (path / _FOLDER).is_dir():
                shutil.copytree(path / _FOLDER, target / _FOLDER)


def read_earlier(folder: RunFolder, setup: Setup) -> Earlier:
    """Return what a run takes over from earlier ones.

    Raises:
        InputError: an earlier run is of another space, has another unit of a metric or another way to obtain it, or
            measured it on another device; or it has no values of any learned metric.
    """
    values: dict[str, dict[str, list[float]]] = {}
    explored: dict[str, Candidate] = {}
    for run in _copies(folder.path):
        known = [row for copy in _with_copies(run) for row in _values(copy, folder, setup)]
        if not known:
            names = " or ".join(repr(section.column) for section, _ in _learned(setup))
            raise InputError(f"{_origin(run)}: it has no values of {names}; leave it out")
        for column, genotype, value in known:
            already = values.setdefault(column, {}).setdefault(genotype, [])
            # Two runs may have taken a value over from the same third one.
            if repr(value) not in map(repr, already):
                already.append(value)
        for copy in _with_copies(run):
            for candidate in _explored(copy, folder, setup):
                explored.setdefault(candidate.genotype, candidate)
    columns = {section.column for section in _needed(setup, values)}
    return Earlier(values, [c for c in explored.values() if columns <= set(c.values)])


def _copies(path: Path) -> list[RunFolder]:
    """Return the earlier runs that a folder has a copy of."""
    return [RunFolder.open(copy) for copy in _numbered(path.glob(f"{_FOLDER}/*"))]


def _numbered(paths: Iterable[Path]) -> list[Path]:
    """Return paths in the order of the numbers at the end of their names."""
    return sorted(paths, key=lambda path: (len(path.name), path.name))


def _with_copies(run: RunFolder) -> Iterator[RunFolder]:
    """Yield the runs that a run has taken over, directly or not, then the run itself."""
    for copy in _copies(run.path):
        yield from _with_copies(copy)
    yield run


def _origin(run: RunFolder) -> str:
    return f"run {run.record().get('origin', run.path)}"


def _learned(setup: Setup) -> list[tuple[ObjectiveSection, LearnedSource]]:
    return [(bound.section, bound.source) for bound in setup.bound if isinstance(bound.source, LearnedSource)]


def _seed(run: RunFolder) -> Path:
    return run.seed(run.config.search.seeds[0])


def _values(run: RunFolder, folder: RunFolder, setup: Setup) -> Iterator[tuple[str, str, float]]:
    """Yield column, network and value of the metrics that an earlier run has learned and this one learns."""
    _check_space(run, folder, setup)
    log = RefineLog(_seed(run) / "refine.jsonl")
    earlier = {section.column: section for section in run.config.objectives if run.config.is_learned(section)}
    for section, source in _learned(setup):
        known = log.known(section.column)
        if known and section.column in earlier:
            _check_metric(run, earlier[section.column], section, source)
            yield from ((section.column, g, known[g]) for g in known if _is_member(g, setup, run))


def _explored(run: RunFolder, folder: RunFolder, setup: Setup) -> Iterator[Candidate]:
    """Yield the candidates of an earlier run with their values of metrics that are computed here in the same way."""
    kept = ("metric", "source", "column")
    earlier = [tuple(getattr(section, name) for name in kept) for section in run.config.objectives]
    alike = _live(setup.config) == _live(run.config) and folder.base == run.base
    columns = [
        bound.section.column
        for bound in setup.bound
        if alike
        and not isinstance(bound.source, LearnedSource)
        and tuple(getattr(bound.section, name) for name in kept) in earlier
    ]
    for part in _numbered(_seed(run).glob("round-*.jsonl")):
        for step in Journal(part).steps():
            if _is_member(step.proposal.genotype, setup, run):
                values = {name: v for name, v in step.evaluation.values.items() if name in columns}
                # This run spent no time on it.
                yield Candidate(step.proposal, Evaluation(values, {}), 0, True)


def _live(config: Config) -> dict[str, Any]:
    """Return the settings of live networks on which values depend."""
    # The number of threads decides the order of additions; where metrics are computed, it is 1 by default.
    return {**config.live.model_dump(exclude={"cache"}), "threads": config.live.threads or 1}


def _needed(setup: Setup, values: Mapping[str, Mapping[str, Sequence[float]]]) -> Iterator[ObjectiveSection]:
    """Yield the metrics that are not learned and are part of the search from its first part on."""
    guided = any(
        sum(math.isfinite(several[0]) for several in values.get(section.column, {}).values()) < FEWEST_TO_LEARN
        for section, _ in _learned(setup)
        if section.role != "constraint"
    )
    for bound in setup.bound:
        if not isinstance(bound.source, LearnedSource) and (guided or bound.section.role != "guide"):
            yield bound.section


def _is_member(genotype: str, setup: Setup, run: RunFolder) -> bool:
    """Whether a network is among those that the search is limited to.

    Raises:
        InputError: it is not of the space.
    """
    try:
        setup.space.check(genotype)
    except InputError as error:
        if setup.config.only is None:
            raise InputError(f"{_origin(run)}: it has a network of another space ({error}); leave it out") from None
        return False
    return True


def _check_space(run: RunFolder, folder: RunFolder, setup: Setup) -> None:
    """Make sure that a run is of the same space; the code of a space of one's own is not imported for that."""
    mine, other = (_options(config) for config in (setup.config, run.config))
    if mine != other and ":" not in f"{mine.get('name')}{other.get('name')}":
        mine, other = {"name": setup.space.name}, {"name": make_space(other).name}
    if mine != other:
        raise InputError(
            f"{_origin(run)}: its networks are of the space {other!r}, those of this search of {mine!r}; leave it out"
        )


def _options(config: Config) -> dict[str, Any]:
    space = config.whole_space
    return {"name": space} if isinstance(space, str) else dict(space)


def _check_metric(run: RunFolder, earlier: ObjectiveSection, section: ObjectiveSection, source: LearnedSource) -> None:
    """Make sure that the values of a metric are what this search would measure."""
    column = f"{_origin(run)}: its {section.column}"
    if (earlier.unit or "") != (section.unit or ""):
        raise InputError(
            f"{column} is in {earlier.unit or 'no unit'!r}, that of this search in {section.unit or 'no unit'!r}; give"
            " the objective the same 'unit', or leave the run out"
        )
    if source.asks:  # the user answers for where values come from
        return
    advice = f"learn it with 'ask: {section.metric}', which takes values from anywhere, or leave the run out"
    means = Means.read(earlier.source_argument)
    if (means.kind, means.argument, earlier.metric) != (source.means.kind, source.means.argument, section.metric):
        raise InputError(
            f"{column} came from '{means.kind}: {means.argument}', that of this search comes from"
            f" '{source.means.kind}: {source.means.argument}'; {advice}"
        )
    conditions = source.conditions()
    if not conditions:
        return
    measured = [
        read_json(path, _FACTS, MOST_JSON_BYTES)
        for path in _seed(run).glob("measured-*.json")
        if re.fullmatch(rf"measured-{re.escape(section.column)}-\d+", path.stem)
    ]
    if not measured:
        raise InputError(f"{column} was measured on a device that it does not name; {advice}")
    for facts in measured:
        for name, here in conditions.items():
            if facts.get(name) != here:
                raise InputError(f"{column} was measured with {name} {facts.get(name)!r}, here {here!r}; {advice}")
