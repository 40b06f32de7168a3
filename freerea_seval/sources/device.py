"""The source ``device``: latency, peak memory and energy measured on this machine, in eager PyTorch."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from freerea_patch import UNSUPPORTED, InputError, Measured, SearchSpace
from freerea_patch.imports import TORCH_LOCK, torch_threads
from freerea_seval.measurement.machine import find_meter
from freerea_seval.measurement.memory import check_memory
from freerea_seval.measurement.networks import SERVED, Networks, check_served, serving_networks, space_networks
from freerea_seval.measurement.run import measure_networks
from freerea_seval.progress import Progress
from freerea_seval.sources.live import prepare_torch
from freerea_seval.sources.registry import Context, MetricInfo, builtin_metric

if TYPE_CHECKING:
    from freerea_seval.measurement.ssh import SshMachine

#: What is measured, and its column of results; see :func:`freerea_seval.measurement.measure_networks`.
COLUMNS = {
    "latency": "latency_ms",
    "memory": "peak_mb",
    "energy": "energy_mj",
    "time_to_first_token": "latency_ms",
    "time_per_token": "latency_ms",
}
#: Visits to every network, fewer than those of ``freerea-seval measure``, so that a search does not wait for long.
ROUNDS = 3


def check_measurable(metric: object, device: str) -> None:
    """Make sure that this machine can measure a metric.

    Raises:
        InputError: it cannot; with what is needed.
    """
    if metric not in COLUMNS:
        raise InputError(
            f"'measure' can be latency, memory or energy, not {metric!r}, and of language models time_to_first_token"
            " or time_per_token; measure others by a function of yours: {python: pkg.module:callable}"
        )
    if metric == "memory":
        check_memory("eager", device)
    if metric == "energy" and (device != "cpu" or find_meter() is None):
        raise InputError(
            "energy is measured on --device cpu by Intel's RAPL counters, and needs Linux and permission to read"
            " /sys/class/powercap/intel-rapl:*/energy_uj; grant it, or choose another metric"
        )


def measure(context: Context, metric: str, genotypes: Sequence[str], output: Path | None = None) -> list[float]:
    """Return a metric of networks, in its unit, with ``live.threads`` threads, one by default.

    Args:
        context: the search.
        metric: one of :data:`COLUMNS`.
        genotypes: the networks.
        output: as for :func:`measure_latency_ms`.

    Returns:
        ``(n,)`` values; :data:`~freerea_patch.UNSUPPORTED` for a network that cannot run.

    Raises:
        InputError: as :func:`check_measurable` and :func:`measure_latency_ms`.
    """
    space, device, progress = context.space, context.live.device, context.progress
    with torch_threads(context.live.threads or 1):
        if metric == "latency":
            return measure_latency_ms(space, genotypes, device=device, progress=progress, output=output)
        check_measurable(metric, device)
        if metric in SERVED:
            return _measured(serving_networks(space, genotypes, metric), genotypes, metric, device, progress, output)
        named = {"space_name": context.space_name, "base": context.base}
        networks = space_networks(space, genotypes, **named)  # type: ignore[arg-type]
        return _measured(networks, genotypes, metric, device, progress, output)


def measure_latency_ms(
    space: SearchSpace,
    genotypes: Sequence[str],
    *,
    device: str = "cpu",
    progress: Progress | None = None,
    output: Path | None = None,
) -> list[float]:
    """Return the latency of one image through each network, in milliseconds.

    Args:
        space: builds the networks.
        genotypes: the networks.
        device: where they run.
        progress: shows the fraction done.
        output: CSV for the results, with a journal beside it, from which an interrupted measurement resumes.

    Returns:
        ``(n,)`` latencies; :data:`~freerea_patch.UNSUPPORTED` for a network that cannot run.

    Raises:
        InputError: the device does not exist, no network can run, or one cannot be built.
    """
    return _measured(space_networks(space, genotypes), genotypes, "latency", device, progress, output)


def measure_elsewhere(machine: SshMachine, context: Context, genotypes: Sequence[str], output: Path) -> list[float]:
    """Return the latencies of networks on another machine, in milliseconds.

    Args:
        machine: the other machine.
        context: the search.
        genotypes: the networks.
        output: as for :func:`measure_latency_ms`.

    Returns:
        ``(n,)`` latencies; :data:`~freerea_patch.UNSUPPORTED` for a network that cannot run there, or not as ONNX.

    Raises:
        InputError: as :meth:`freerea_seval.measurement.ssh.SshMachine.measure`.
    """
    networks = space_networks(context.space, genotypes)
    latency_ms = machine.measure(networks, output, ROUNDS, context.progress)
    return [float(latency_ms.get(genotype) or UNSUPPORTED) for genotype in genotypes]


def _measured(
    networks: Networks,
    genotypes: Sequence[str],
    metric: str,
    device: str,
    progress: Progress | None,
    output: Path | None,
) -> list[float]:
    memory = metric == "memory"  # which is the same in every round
    results = measure_networks(
        networks, output, rounds=1 if memory else ROUNDS, device=device, memory=memory, progress=progress
    )
    for genotype, reason in results.attrs["failed"].items():
        raise InputError(f"network {genotype!r} cannot be built ({reason})")
    if COLUMNS[metric] not in results:
        raise InputError(f"{metric} could be measured of none of {len(genotypes)} networks; choose another metric")
    values = dict(zip(results["genotype"], results[COLUMNS[metric]], strict=True))
    return [UNSUPPORTED if math.isnan(values[genotype]) else values[genotype] for genotype in genotypes]


class DeviceSource:
    """Metrics of this machine; every call measures again."""

    def __init__(self, context: Context, argument: None) -> None:
        prepare_torch(context.live)
        self._context = context

    def describe(self, metric: str) -> MetricInfo:
        """Return a metric's direction and unit; raise :class:`InputError` if this machine cannot measure it."""
        info = builtin_metric("device", metric)
        check_measurable(metric, self._context.live.device)
        if metric in SERVED:
            check_served(self._context.space, metric)
        return info

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> list[dict[str, Measured]]:
        """Return the values of all networks, which are measured in rounds, metric by metric."""
        rows: list[dict[str, Measured]] = [{} for _ in genotypes]
        for metric in metrics if genotypes else ():
            with TORCH_LOCK:
                began = time.perf_counter()
                values = measure(self._context, metric, genotypes)
            seconds = (time.perf_counter() - began) / len(genotypes)
            for row, value in zip(rows, values, strict=True):
                row[metric] = Measured(value, seconds)
        return rows
