"""What a measurement may depend on, besides the networks: the machine."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def describe_machine(device: str) -> dict[str, str | int]:
    """Return what identifies the machine for a measurement: two runs on one machine give the same."""
    found: dict[str, str | int] = {
        "cpu": cpu_model(),
        "cores": os.cpu_count() or 0,
        "architecture": platform.machine(),
        "system": platform.system(),
    }
    if device.startswith("cuda"):
        import torch

        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def cpu_model(cpuinfo: Path = _CPUINFO) -> str:
    """Return the processor's name, as far as the system tells it."""
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
    """Return how the processor's clock is governed, such as ``performance``; None where that cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return None
