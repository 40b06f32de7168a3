"""What a search may spend, and the ledger of what it has spent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from freerea_patch.errors import InputError


class Ledger:
    """Seconds charged so far, by what they were spent on.

    A remembered value is charged what it had cost when it was computed, so that a search takes the same
    course whether its metrics come from a cache, from a published table with timings, or live.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def charge(self, seconds: Mapping[str, float]) -> None:
        """Add seconds by name."""
        for name, value in seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + value

    @property
    def total_s(self) -> float:
        """All seconds charged."""
        return sum(self.seconds.values())


@dataclass(frozen=True)
class Budget:
    """When a search stops: as soon as any of its limits is reached.

    Args:
        metric_seconds: seconds on the ledger.
        wall_seconds: seconds since the search began.
        total_seconds: FreeREA's own rule (Cavagnero 2023, section 4): seconds on the ledger plus the wall
            clock of the search itself, which is its time outside the evaluation of metrics.
        evaluations: different feasible candidates in the history.

    Raises:
        InputError: no limit, or one that is not positive.
    """

    metric_seconds: float | None = None
    wall_seconds: float | None = None
    total_seconds: float | None = None
    evaluations: int | None = None

    def __post_init__(self) -> None:
        limits = {f.name: getattr(self, f.name) for f in fields(self)}
        if all(limit is None for limit in limits.values()):
            raise InputError(f"a budget needs at least one of: {', '.join(limits)}")
        for name, limit in limits.items():
            if limit is not None and (isinstance(limit, (bool, str)) or not limit > 0):
                raise InputError(f"budget {name} must be a positive number, not {limit!r}")
        if self.evaluations is not None and not isinstance(self.evaluations, int):
            raise InputError(f"budget evaluations must be a whole number, not {self.evaluations!r}")

    @property
    def uses_clock(self) -> bool:
        """Whether the wall clock can end the search, which then is not fixed by its seed alone."""
        return self.wall_seconds is not None or self.total_seconds is not None

    def spent(self, *, metric_s: float, wall_s: float, loop_s: float, evaluations: int) -> float:
        """Return the largest fraction of a limit that is used up; at 1 or more the search stops."""
        used = (
            (metric_s, self.metric_seconds),
            (wall_s, self.wall_seconds),
            (metric_s + loop_s, self.total_seconds),
            (evaluations, self.evaluations),
        )
        return max(amount / limit for amount, limit in used if limit is not None)
