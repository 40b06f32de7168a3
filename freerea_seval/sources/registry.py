"""The registry of metric sources: frozen records, listed without importing what they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from freerea_patch import Direction, InputError, Measured, SearchSpace, import_object, unknown_name
from freerea_seval.config import LiveSettings
from freerea_seval.progress import Progress


@dataclass(frozen=True)
class MetricInfo:
    """What a source knows of one of its metrics.

    Attributes:
        name: the metric's name in the source.
        direction: ``"max"``, ``"min"``, or None where only the user can know.
        unit: unit of the values, empty for none.
        description: one line.
    """

    name: str
    direction: Direction | None = None
    unit: str = ""
    description: str = ""


class Source(Protocol):
    """A metric source that can be configured: it evaluates, and it knows its metrics."""

    def describe(self, metric: str) -> MetricInfo:
        """Return what is known of ``metric``; raise :class:`InputError` if the source does not have it."""
        ...

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterable[Mapping[str, Measured]]:
        """Yield one mapping a genotype, in order: see :class:`freerea_patch.MetricSource`."""
        ...


@dataclass(frozen=True)
class Context:
    """What a source may need to know of the search that it serves.

    Attributes:
        space: the search space.
        live: settings for live networks.
        base: the folder that relative paths of the config start from.
        folder: where a source may keep files that belong to the run; None outside of runs.
        seed: seed for what the source prepares.
        progress: shows the steps of long preparations.
    """

    space: SearchSpace
    live: LiveSettings = field(default_factory=LiveSettings)
    base: Path = Path()
    folder: Path | None = None
    seed: int = 0
    progress: Progress = field(default_factory=Progress)

    @property
    def batch(self) -> str:
        """The batch of live networks; a file is relative to the config's folder."""
        return str(self.base / self.live.batch) if self.live.batch.endswith(".npz") else self.live.batch

    def path(self, argument: object, what: str) -> Path:
        """Return a path argument, relative to the config's folder.

        Raises:
            InputError: the argument is missing or is no path.
        """
        if not isinstance(argument, str) or not argument:
            raise InputError(f"{what}: expected a path, got {argument!r}")
        return self.base / Path(argument).expanduser()


@dataclass(frozen=True)
class SourceRecord:
    """An entry of the registry.

    Attributes:
        name: the name that a config uses.
        origin: one line: where the values come from.
        factory: ``pkg.module:callable``, called as ``callable(context, argument)``; returns a
            :class:`Source`.
        argument: what the config gives the source, empty if nothing: ``source: {name: argument}``.
        metrics: the metrics it has; empty if these depend on the argument.
    """

    name: str
    origin: str
    factory: str
    argument: str = ""
    metrics: tuple[MetricInfo, ...] = ()

    def metric(self, name: str) -> MetricInfo:
        """Return one of :attr:`metrics` by name.

        Raises:
            InputError: the source has no such metric.
        """
        for info in self.metrics:
            if info.name == name:
                return info
        raise unknown_name(f"metric of source {self.name!r}:", name, [m.name for m in self.metrics])


class Registry:
    """Sources by name."""

    def __init__(self) -> None:
        self._records: dict[str, SourceRecord] = {}

    def add(self, record: SourceRecord) -> None:
        """Add a source.

        Raises:
            ValueError: the name is taken.
        """
        if record.name in self._records:
            raise ValueError(f"a metric source named {record.name!r} is registered already")
        self._records[record.name] = record

    def __iter__(self) -> Iterator[SourceRecord]:
        """Iterate over the sources in the order of registration."""
        return iter(self._records.values())

    def __getitem__(self, name: str) -> SourceRecord:
        """Return the source of a name; raise :class:`InputError` if there is none."""
        if name not in self._records:
            raise unknown_name("metric source", name, self._records)
        return self._records[name]

    def open(self, name: str, argument: Any, context: Context) -> Source:
        """Return the source of a name, made with its argument.

        Raises:
            InputError: there is no such source, or it takes no argument, or cannot use this one.
        """
        record = self[name]
        if argument is not None and not record.argument:
            raise InputError(f"source {name!r} takes no argument, got {argument!r}; write 'source: {name}'")
        if argument is None and record.argument:
            raise InputError(f"source {name!r} needs an argument: 'source: {{{name}: ...}}', {record.argument}")
        source: Source = import_object(record.factory, f"source {name!r}")(context, argument)
        return source
