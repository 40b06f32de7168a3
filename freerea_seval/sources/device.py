"""The source ``device``: latency measured on this very machine, in eager PyTorch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

from freerea_patch import InputError, Measured, SearchSpace
from freerea_patch.training_free.live import check_device
from freerea_seval.sources.builtin import builtin_metric
from freerea_seval.sources.live import prepare_torch
from freerea_seval.sources.registry import Context, MetricInfo

WARM_UPS = 2
ROUNDS = 11


def measure_latency_ms(
    space: SearchSpace,
    genotypes: Sequence[str],
    *,
    device: str = "cpu",
    on_fraction: Callable[[float, str], None] | None = None,
) -> list[float]:
    """Return the median latency of one image through each network, in milliseconds.

    The networks run in evaluation mode, in rounds: one run of each a round, so that a drift of the
    machine hits all alike.

    Args:
        space: builds the networks.
        genotypes: the networks.
        device: where they run.
        on_fraction: told the fraction done.

    Raises:
        InputError: the device is not there, or a network cannot run.
    """
    import torch

    place = check_device(device)
    image = torch.zeros(1, *space.input_shape, device=place)
    times_ms: list[list[float]] = [[] for _ in genotypes]
    try:
        networks = [space.build(genotype).to(place).eval() for genotype in genotypes]
        with torch.inference_mode():
            for network in networks:
                for _ in range(WARM_UPS):
                    network(image)
            for turn in range(ROUNDS):
                for network, runs in zip(networks, times_ms, strict=True):
                    _synchronise(place)
                    began = time.perf_counter()
                    network(image)
                    _synchronise(place)
                    runs.append((time.perf_counter() - began) * 1e3)
                if on_fraction is not None:
                    on_fraction((turn + 1) / ROUNDS, "")
    except RuntimeError as error:
        raise InputError(f"latency cannot be measured on {device!r} ({str(error).splitlines()[0]})") from error
    return [statistics.median(runs) for runs in times_ms]


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


def _synchronise(place: object) -> None:
    """Wait for a GPU to finish; a CPU has finished when the call returns."""
    if getattr(place, "type", None) == "cuda":
        import torch

        torch.cuda.synchronize()
