"""Objectives: what a search optimises, and the seam through which the loop learns their values.

An :class:`Objective` is a frozen value that owns its direction, bounds, weight and unit; the sign of a
metric is applied here and nowhere else, so that every other line of the loop reads "larger is better".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from freerea_patch.errors import InputError

Direction = Literal["max", "min"]
Role = Literal["fitness", "constraint", "pareto"]

#: The value of a metric where there is none: the device cannot run the network, or the metric is not
#: defined for it. It satisfies no bound and ranks behind every number.
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
            raise InputError(f"objective {self.name!r}: direction must be 'max' or 'min', not {self.direction!r}")
        if self.role not in ("fitness", "constraint", "pareto"):
            raise InputError(
                f"objective {self.name!r}: role must be 'fitness', 'constraint' or 'pareto', not {self.role!r}"
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
                f"objective {self.name!r}: weight must be a positive number, not {self.weight!r};"
                " turn a metric round with its direction"
            )

    def oriented(self, value: float) -> float:
        """Return ``value`` with the sign that makes larger better."""
        return value if self.direction == "max" else -value

    def admits(self, value: float) -> bool:
        """Whether ``value`` is within the bounds. :data:`UNSUPPORTED` (NaN) is within none."""
        if math.isnan(value):
            return False
        return (self.lower is None or value >= self.lower) and (self.upper is None or value <= self.upper)

    def violation(self, value: float) -> float:
        """Return how far ``value`` is outside the bounds, relative to the bound; infinite if :data:`UNSUPPORTED`."""
        if math.isnan(value):
            return math.inf
        excesses = [0.0]
        if self.lower is not None:
            excesses.append((self.lower - value) / (abs(self.lower) or 1.0))
        if self.upper is not None:
            excesses.append((value - self.upper) / (abs(self.upper) or 1.0))
        return max(excesses)


@dataclass(frozen=True)
class Evaluation:
    """What evaluating one genotype gave.

    Attributes:
        values: metric values by objective name, in the metrics' own units and signs. An infeasible
            candidate may lack the metrics that come after its constraints.
        seconds: seconds charged, by what they were spent on.
    """

    values: Mapping[str, float]
    seconds: Mapping[str, float] = field(default_factory=dict)


class Objectives(Protocol):
    """The seam: all that the loop knows about metrics.

    :class:`freerea_patch.evaluation.ObjectiveSet` fills it from metric sources; a test or a notebook
    may fill it with five lines of its own.
    """

    @property
    def terms(self) -> Sequence[Objective]:
        """The objectives, in the order in which they were given."""
        ...

    def evaluate(self, genotypes: Sequence[str]) -> Iterator[Evaluation]:
        """Yield one evaluation a genotype, in order, each as soon as it is known."""
        ...
