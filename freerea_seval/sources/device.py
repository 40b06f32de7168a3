"""The source ``device``: latency measured on this machine, in eager PyTorch."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

from freerea_patch import UNSUPPORTED, InputError, Measured, SearchSpace
from freerea_patch.imports import TORCH_LOCK
from freerea_seval.measurement.networks import space_networks
from freerea_seval.measurement.run import measure_networks
from freerea_seval.progress import Progress
from freerea_seval.sources.live import prepare_torch
from freerea_seval.sources.registry import Context, MetricInfo, builtin_metric

#: Visits to every network, fewer than those of ``freerea-seval measure``, so that a search does not wait for long.
ROUNDS = 3


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
    networks = space_networks(space, genotypes)
    results = measure_networks(networks, output, rounds=ROUNDS, device=device, progress=progress)
    for genotype, reason in results.attrs["failed"].items():
        raise InputError(f"network {genotype!r} cannot be built ({reason})")
    latency_ms = dict(zip(results["genotype"], results["latency_ms"], strict=True))
    return [UNSUPPORTED if math.isnan(latency_ms[genotype]) else latency_ms[genotype] for genotype in genotypes]


class DeviceSource:
    """Latency on this machine; every call measures again."""

    def __init__(self, context: Context, argument: None) -> None:
        prepare_torch(context.live)
        self._space = context.space
        self._device = context.live.device

    def describe(self, metric: str) -> MetricInfo:
        """Return a metric's direction and unit."""
        return builtin_metric("device", metric)

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> list[dict[str, Measured]]:
        """Return the latencies of all networks, which are measured in rounds."""
        if not genotypes:
            return []
        with TORCH_LOCK:
            began = time.perf_counter()
            latencies = measure_latency_ms(self._space, genotypes, device=self._device)
        seconds = (time.perf_counter() - began) / len(genotypes)
        return [{metric: Measured(latency, seconds) for metric in metrics} for latency in latencies]
