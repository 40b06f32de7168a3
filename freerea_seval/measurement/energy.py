"""Energy of the processor by Intel's RAPL counters, as Linux exposes them under ``/sys/class/powercap``."""

from __future__ import annotations

from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


class EnergyMeter:
    """Adds up the packages' counters, which start over now and then.

    Args:
        counters: one folder a package, with ``energy_uj`` and ``max_energy_range_uj``.
    """

    def __init__(self, counters: list[Path]) -> None:
        self._counters = counters
        self._ranges = [int((c / "max_energy_range_uj").read_text()) + 1 for c in counters]
        self._last = [self._read(c) for c in counters]
        self._total_uj = 0

    def read_mj(self) -> float:
        """Return the energy since the meter was made, in millijoules. Read it once an hour at least."""
        for place, counter in enumerate(self._counters):
            now = self._read(counter)
            self._total_uj += (now - self._last[place]) % self._ranges[place]
            self._last[place] = now
        return self._total_uj / 1e3

    @staticmethod
    def _read(counter: Path) -> int:
        return int((counter / "energy_uj").read_text())


def find_meter(powercap: Path = POWERCAP) -> EnergyMeter | None:
    """Return the machine's meter; None where there is none, or where it may not be read."""
    # intel-rapl:0 is a package; intel-rapl:0:1 is a part of it, and would count twice.
    counters = [folder for folder in sorted(powercap.glob("intel-rapl:*")) if folder.name.count(":") == 1]
    try:
        return EnergyMeter(counters) if counters else None
    except (OSError, ValueError):
        return None
