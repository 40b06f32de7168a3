"""Objectives: what a search optimises, and the interface through which the loop obtains their values.

An :class:`Objective` is a frozen value that owns its direction, bounds, weight and unit. The sign of a metric is
applied in :meth:`Objective.oriented` and nowhere else, so that every other line of the loop reads "larger is better".
An :class:`ObjectiveSet` binds objectives to metric sources and evaluates genotypes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from freerea_patch.errors import InputError

Direction = Literal["max", "min"]
Role = Literal["fitness", "constraint", "pareto"]

#: The value of a metric that is undefined for a network, for instance because the device cannot run the network. It
#: satisfies no bound and ranks behind every number.
UNSUPPORTED = math.nan


@dataclass(frozen=True)
class Objective:
    """One metric and its part in a search.

    Args:
        name: the column under which its values are recorded; unique in a search.
        direction: ``"max"`` or ``"min"``: which values are better.
        role: ``"fitness"`` (a term of the summed score), ``"constraint"`` (bounds that hold inside the
            loop) or ``"pareto"`` (an axis of non-dominated selection).
        weight: factor of a fitness term.
        lower, upper: inclusive bounds of a constraint, in the metric's unit.
        unit: unit of the values, for display.
        source: where the values come from, for display.

    Raises:
        InputError: unknown direction or role.
        InputError: a constraint without a bound or with crossed bounds, or a bound on another role.
        InputError: a weight that is not a positive number.
    """

    name: str
    direction: Direction = "max"
    role: Role = "fitness"
    weight: float = 1.0
    lower: float | None = None
    upper: float | None = None
    unit: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if self.direction not in ("max", "min"):
            raise InputError(f"objective {self.name!r}: direction must be 'max' or 'min', got {self.direction!r}")
        if self.role not in ("fitness", "constraint", "pareto"):
            raise InputError(
                f"objective {self.name!r}: role must be 'fitness', 'constraint' or 'pareto', got {self.role!r}"
            )
        bounds = [bound for bound in (self.lower, self.upper) if bound is not None]
        if any(math.isnan(bound) for bound in bounds):
            raise InputError(f"objective {self.name!r}: a bound must be a number, not NaN")
        if (self.role == "constraint") != bool(bounds):
            raise InputError(
                f"objective {self.name!r}: a constraint needs a bound, 'min: NUMBER' or 'max: NUMBER'"
                if not bounds
                else f"objective {self.name!r}: 'min' and 'max' belong to role 'constraint', not {self.role!r}"
            )
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            raise InputError(f"objective {self.name!r}: min {self.lower:g} is larger than max {self.upper:g}")
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise InputError(
                f"objective {self.name!r}: weight must be a positive number, got {self.weight!r};"
                " to reverse a metric, change its direction"
            )

    def oriented(self, value: float) -> float:
        """Return ``value`` with the sign that makes larger better."""
        return value if self.direction == "max" else -value

    def admits(self, value: float) -> bool:
        """Whether ``value`` is within the bounds. :data:`UNSUPPORTED` (NaN) is within none."""
        if math.isnan(value):
            return False
        return (self.lower is None or value >= self.lower) and (self.upper is None or value <= self.upper)

    def excess(self, value: float) -> float:
        """Return how far ``value`` is outside the bounds, relative to the violated bound; 0 within them.

        The distance to a bound of zero is absolute. :data:`UNSUPPORTED` (NaN) is infinitely far.
        """
        if self.admits(value):
            return 0.0
        bound = self.lower if self.lower is not None and not value >= self.lower else self.upper
        if bound is None or math.isnan(value):
            return math.inf
        return abs(value - bound) / (abs(bound) or 1.0)

    @property
    def bounds(self) -> str:
        """The bounds of a constraint for messages, such as ``params >= 1 and <= 2.5 M``."""
        lower = [] if self.lower is None else [f">= {self.lower:g}"]
        upper = [] if self.upper is None else [f"<= {self.upper:g}"]
        return f"{self.name} {' and '.join(lower + upper)} {self.unit}".rstrip()


@dataclass(frozen=True)
class Evaluation:
    """The result of evaluating one genotype.

    Attributes:
        values: metric values by objective name, in the metrics' own units and signs. An infeasible candidate lacks the
            metrics that are evaluated after its constraints.
        seconds: seconds charged to the budget, by metric or step.
    """

    values: Mapping[str, float]
    seconds: Mapping[str, float] = field(default_factory=dict)


class Objectives(Protocol):
    """The interface between the loop and the metrics.

    :class:`ObjectiveSet` implements it on metric sources; a test or a notebook can implement it in five lines.
    """

    @property
    def terms(self) -> Sequence[Objective]:
        """The objectives, in reporting order."""
        ...

    def evaluate(self, genotypes: Sequence[str]) -> Iterator[Evaluation]:
        """Yield one evaluation per genotype, in order, each as soon as it is available."""
        ...


class Measured(NamedTuple):
    """A metric's value and the seconds that it took to compute; a cached value keeps the seconds of its computation."""

    value: float
    seconds: float = 0.0


class MetricSource(Protocol):
    """A supplier of metric values: a live network, a table, a benchmark, a predictor."""

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterable[Mapping[str, Measured]]:
        """Yield one mapping per genotype, in order, with at least the keys ``metrics``.

        The seconds of other keys (such as building the network) are charged under that name; their values are ignored.
        """
        ...


@dataclass(frozen=True)
class BoundObjective:
    """An objective and the metric of the source that supplies it."""

    objective: Objective
    source: MetricSource
    metric: str


class ObjectiveSet:
    """Objectives bound to their sources: the :class:`Objectives` of a search.

    Constraints are evaluated first, of all genotypes, so that a slow metric is never computed for a network that a
    bound excludes (FreeREA also filters on params and FLOPs before it computes its metrics). The other metrics follow,
    one candidate at a time. Each source is called once for all of its metrics.

    Args:
        bound: the objectives with their sources, in reporting order.

    Raises:
        InputError: no objective, two of one name, or none that selects (only constraints).
    """

    def __init__(self, bound: Sequence[BoundObjective]) -> None:
        names = [b.objective.name for b in bound]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"two objectives are named {name!r}; give one of them another 'name'")
        if all(b.objective.role == "constraint" for b in bound):
            raise InputError("a search needs at least one objective with role 'fitness' or 'pareto'")
        self.terms: tuple[Objective, ...] = tuple(b.objective for b in bound)
        self._constraints = _by_source([b for b in bound if b.objective.role == "constraint"])
        self._selecting = _by_source([b for b in bound if b.objective.role != "constraint"])

    def evaluate(self, genotypes: Sequence[str]) -> Iterator[Evaluation]:
        """Yield one evaluation per genotype, in order; the class describes the order of work."""
        records: list[tuple[dict[str, float], dict[str, float]]] = [({}, {}) for _ in genotypes]
        feasible = list(range(len(genotypes)))  # positions of the genotypes that no constraint has excluded so far
        for source, metrics, bound in self._constraints:
            rows = source.evaluate([genotypes[i] for i in feasible], metrics)
            positions, feasible = feasible, []
            for i, row in zip(positions, rows, strict=True):
                values, seconds = records[i]
                _record(row, bound, values, seconds)
                if all(b.objective.admits(values[b.objective.name]) for b in bound):
                    feasible.append(i)
        streams = [
            (iter(source.evaluate([genotypes[i] for i in feasible], metrics)), bound)
            for source, metrics, bound in self._selecting
        ]
        remaining = set(feasible)
        for i, (values, seconds) in enumerate(records):
            if i in remaining:
                for stream, bound in streams:
                    _record(next(stream), bound, values, seconds)
            yield Evaluation(values, seconds)


def _by_source(bound: Sequence[BoundObjective]) -> list[tuple[MetricSource, list[str], list[BoundObjective]]]:
    """Group objectives by source: the source, its distinct metrics, its objectives."""
    groups: dict[int, list[BoundObjective]] = {}
    for b in bound:
        groups.setdefault(id(b.source), []).append(b)
    return [(group[0].source, list(dict.fromkeys(b.metric for b in group)), group) for group in groups.values()]


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
