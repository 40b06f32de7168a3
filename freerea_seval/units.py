"""Units of metrics by the ending of a name, such as milliseconds for ``latency_ms``."""

from __future__ import annotations

_UNITS = {"ms": "ms", "s": "s", "mj": "mJ", "mb": "MB", "pct": "%"}


def unit_of(name: str) -> str:
    """Return the unit by the ending of a name, empty if there is none."""
    bare, _, ending = name.rpartition("_")
    return _UNITS.get(ending.lower(), "") if bare else ""


def without_unit(name: str) -> str:
    """Return a name without its ending, if that is a unit."""
    return name.rpartition("_")[0] if unit_of(name) else name
