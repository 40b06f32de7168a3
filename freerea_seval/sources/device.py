"""The source ``device``: latency measured on this very machine, in eager PyTorch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from freerea_patch import UNSUPPORTED, InputError, Measured, SearchSpace
from freerea_seval.measurement.backends import check_backend
from freerea_seval.measurement.networks import space_networks
from freerea_seval.measurement.timing import Rounds, Runnable, Timing, summaries
from freerea_seval.sources.builtin import builtin_metric
from freerea_seval.sources.live import prepare_torch
from freerea_seval.sources.registry import Context, MetricInfo

#: Visits to every network. ``freerea-seval measure`` makes more of them; a search is not to wait for that.
ROUNDS = 3


def measure_latency_ms(
    space: SearchSpace,
    genotypes: Sequence[str],
    *,
    device: str = "cpu",
    on_fraction: Callable[[float, str], None] | None = None,
) -> list[float]:
    """Return the latency of one image through each network, in milliseconds.

    The networks run in evaluation mode, in rounds: see :class:`freerea_seval.measurement.timing.Rounds`.

    Args:
        space: builds the networks.
        genotypes: the networks.
        device: where they run.
        on_fraction: told the fraction done.

    Returns:
        ``(n,)`` latencies; :data:`~freerea_patch.UNSUPPORTED` for a network that cannot run.

    Raises:
        InputError: the device is not there, or no network can run.
    """
    check_backend("eager", device)
    networks = space_networks(space, genotypes)

    def make(genotype: str) -> Runnable:
        return networks.ready(genotype, device=device)

    visits: list[tuple[str, Timing]] = []
    total = ROUNDS * len(networks.names)
    for visit in Rounds(networks.names, make).visits(ROUNDS):
        visits.append(visit)
        if on_fraction is not None:
            on_fraction(len(visits) / total, "")
    reasons = [timing.reason for _, timing in visits if timing.reason is not None]
    if reasons and len(reasons) == len(networks.names):
        raise InputError(f"latency cannot be measured on {device!r} ({reasons[0]})")
    found = summaries(visits)
    return [UNSUPPORTED if (its := found[genotype]) is None else its.latency_ms for genotype in genotypes]


class DeviceSource:
    """Latency on this machine; every call measures anew."""

    def __init__(self, context: Context, argument: None) -> None:
        prepare_torch(context.live)
        self._space = context.space
        self._device = context.live.device

    def describe(self, metric: str) -> MetricInfo:
        """Return a metric's direction and unit."""
        return builtin_metric("device", metric)

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> list[dict[str, Measured]]:
        """Return the latencies of all networks, measured in turns."""
        if not genotypes:
            return []
        began = time.perf_counter()
        latencies = measure_latency_ms(self._space, genotypes, device=self._device)
        seconds = (time.perf_counter() - began) / len(genotypes)
        return [{metric: Measured(latency, seconds) for metric in metrics} for latency in latencies]
