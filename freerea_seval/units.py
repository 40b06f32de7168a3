"""Units in the names of metrics: the last word of ``latency_ms`` says milliseconds."""

from __future__ import annotations

_UNITS = {"ms": "ms", "s": "s", "mj": "mJ", "mb": "MB", "pct": "%"}


def unit_of(name: str) -> str:
    """Return the unit that a name ends in, empty if none."""
    bare, _, ending = name.rpartition("_")
    return _UNITS.get(ending.lower(), "") if bare else ""


def without_unit(name: str) -> str:
    """Return a name without the unit that it ends in."""
    return name.rpartition("_")[0] if unit_of(name) else name
