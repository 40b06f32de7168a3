"""What the machine reports of itself: its name, and the energy of its processor."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_POWERCAP = Path("/sys/class/powercap")


def describe_machine(device: str) -> dict[str, str | int]:
    """Return what identifies the machine for a measurement; equal in two runs on one machine."""
    description: dict[str, str | int] = {
        "cpu": cpu_model(),
        "cores": os.cpu_count() or 0,
        "architecture": platform.machine(),
        "system": platform.system(),
    }
    if device.startswith("cuda"):
        import torch

        description["gpu"] = torch.cuda.get_device_name(device)
    return description


def cpu_model(cpuinfo: Path = _CPUINFO) -> str:
    """Return the processor's name, as far as the system reports it."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Hardware", "Model"):
            return value.strip()
    return platform.processor() or platform.machine()


def governor(path: Path = _GOVERNOR) -> str | None:
    """Return the frequency governor of the processor, such as ``performance``; None where it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return None


class EnergyMeter:
    """Sums Intel's RAPL counters of all processor packages; each counter wraps around at its own maximum.

    Args:
        counters: one folder a package, with ``energy_uj`` and ``max_energy_range_uj``.
    """

    def __init__(self, counters: list[Path]) -> None:
        self._counters = counters
        self._ranges = [int((c / "max_energy_range_uj").read_text()) + 1 for c in counters]
        self._last = [self._read(c) for c in counters]
        self._total_uj = 0

    def read_mj(self) -> float:
        """Return the millijoules since the meter was made; read it at least hourly, before a counter wraps twice."""
        for package, counter in enumerate(self._counters):
            now = self._read(counter)
            self._total_uj += (now - self._last[package]) % self._ranges[package]
            self._last[package] = now
        return self._total_uj / 1e3

    @staticmethod
    def _read(counter: Path) -> int:
        return int((counter / "energy_uj").read_text())


def find_meter(powercap: Path = _POWERCAP) -> EnergyMeter | None:
    """Return the machine's energy meter; None where there is none, or where it may not be read."""
    # intel-rapl:0 is a package; intel-rapl:0:1 is a part of it, which would be counted twice.
    counters = [folder for folder in sorted(powercap.glob("intel-rapl:*")) if folder.name.count(":") == 1]
    try:
        return EnergyMeter(counters) if counters else None
    except (OSError, ValueError):
        return None
