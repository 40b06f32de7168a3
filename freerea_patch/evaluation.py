"""From metric sources to the seam: evaluate constraints first, then what remains for the feasible."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from freerea_patch.errors import InputError
from freerea_patch.objective import Evaluation, Objective


class Measured(NamedTuple):
    """A metric's value and the seconds that computing it took (for a remembered value: had taken)."""

    value: float
    seconds: float = 0.0


class MetricSource(Protocol):
    """Where metric values come from: a live network, a table, a benchmark, a predictor."""

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterable[Mapping[str, Measured]]:
        """Yield one mapping a genotype, in order, that holds at least ``metrics``.

        Other keys are seconds to be charged under that name (such as building the network); their
        values are ignored.
        """
        ...


@dataclass(frozen=True)
class BoundObjective:
    """An objective and the metric of the source that supplies it."""

    objective: Objective
    source: MetricSource
    metric: str


class ObjectiveSet:
    """Objectives bound to their sources: the :class:`~freerea_patch.objective.Objectives` of a search.

    Constraints are evaluated first, for the whole batch, so that a slow metric is never computed for a
    network that a bound excludes (FreeREA filters on params and FLOPs before its metrics, too). The
    other metrics follow one candidate at a time, and each source is asked once for all its metrics.

    Args:
        bound: the objectives with their sources, in reporting order.

    Raises:
        InputError: no objective, two of one name, or none that selects (only constraints).
    """

    def __init__(self, bound: Sequence[BoundObjective]) -> None:
        names = [b.objective.name for b in bound]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"two objectives are named {name!r}; give one of them a name of its own")
        if all(b.objective.role == "constraint" for b in bound):
            raise InputError("a search needs at least one objective with role 'fitness' or 'pareto'")
        self.terms: tuple[Objective, ...] = tuple(b.objective for b in bound)
        self._constraints = _by_source([b for b in bound if b.objective.role == "constraint"])
        self._selecting = _by_source([b for b in bound if b.objective.role != "constraint"])

    def evaluate(self, genotypes: Sequence[str]) -> Iterator[Evaluation]:
        """Yield an evaluation a genotype, in order; see the class for the order of work."""
        records: list[tuple[dict[str, float], dict[str, float]]] = [({}, {}) for _ in genotypes]
        feasible = [True] * len(genotypes)
        for source, bound in self._constraints:
            alive = [i for i, ok in enumerate(feasible) if ok]
            rows = iter(source.evaluate([genotypes[i] for i in alive], _metrics(bound)))
            for i in alive:
                _record(next(rows), bound, *records[i])
                values = records[i][0]
                feasible[i] = all(b.objective.admits(values[b.objective.name]) for b in bound)
        alive = [i for i, ok in enumerate(feasible) if ok]
        streams = [
            (iter(source.evaluate([genotypes[i] for i in alive], _metrics(bound))), bound)
            for source, bound in self._selecting
        ]
        for i, (values, seconds) in enumerate(records):
            if feasible[i]:
                for rows, bound in streams:
                    _record(next(rows), bound, values, seconds)
            yield Evaluation(values, seconds)


def _by_source(bound: Sequence[BoundObjective]) -> list[tuple[MetricSource, list[BoundObjective]]]:
    groups: dict[int, tuple[MetricSource, list[BoundObjective]]] = {}
    for b in bound:
        groups.setdefault(id(b.source), (b.source, []))[1].append(b)
    return list(groups.values())


def _metrics(bound: Sequence[BoundObjective]) -> list[str]:
    return list(dict.fromkeys(b.metric for b in bound))


def _record(
    row: Mapping[str, Measured],
    bound: Sequence[BoundObjective],
    values: dict[str, float],
    seconds: dict[str, float],
) -> None:
    """Add one source's row to a candidate's values and seconds."""
    for b in bound:
        values[b.objective.name] = float(row[b.metric].value)
    for name, measured in row.items():
        if measured.seconds:
            seconds[name] = seconds.get(name, 0.0) + measured.seconds
