"""Sources that compute on live networks: the training-free metrics, and the costs of a network."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from freerea_patch import InputError, Measured, MetricCache, TrainingFree
from freerea_patch.imports import importable_from
from freerea_patch.threads import share_cores
from freerea_seval.sources.registry import Context, LiveSettings, MetricInfo, builtin_metric

if TYPE_CHECKING:
    from freerea_patch.networks.cost import Cost

#: Names a file of remembered metric values other than the one in the user's cache folder.
CACHE_VARIABLE = "FREEREA_SEVAL_CACHE"
#: The metrics of the source ``cost`` that are of memory.
MEMORY = ("activations", "inference_memory", "training_memory")


def prepare_torch(live: LiveSettings) -> None:
    """Import torch and set its threads.

    Raises:
        InputError: torch is not installed.
    """
    share_cores()
    try:
        import torch
    except ImportError:
        raise InputError(
            "live networks need PyTorch, which is not installed: pip install 'freerea-seval[live]'"
        ) from None
    if live.threads is not None:
        torch.set_num_threads(live.threads)


def open_cache(live: LiveSettings, base: Path) -> MetricCache | None:
    """Return the cache of metric values that the settings ask for."""
    if live.cache == "off":
        return None
    if live.cache is not None:
        return MetricCache(base / Path(live.cache).expanduser())
    if CACHE_VARIABLE in os.environ:
        return MetricCache(Path(os.environ[CACHE_VARIABLE]))
    from platformdirs import user_cache_path

    return MetricCache(user_cache_path("freerea-seval") / "metrics.sqlite")


class TrainingFreeSource:
    """naswot, logsynflow and skip: see :class:`freerea_patch.TrainingFree`."""

    def __init__(self, context: Context, argument: None) -> None:
        live = context.live
        prepare_torch(live)
        with importable_from(context.base):  # a batch may be a function of the user's
            self._metrics = TrainingFree(
                context.space,
                batch=context.batch,
                batch_size=live.batch_size,
                initialisations=live.initialisations,
                seed=live.seed,
                device=live.device,
                cache=open_cache(live, context.base),
            )

    def describe(self, metric: str) -> MetricInfo:
        """Return a metric's direction and unit."""
        return builtin_metric("training-free", metric)

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterator[Mapping[str, Measured]]:
        """Yield the metrics network by network."""
        return self._metrics.evaluate(genotypes, metrics)


class CostSource:
    """Parameters, multiply-adds and operations: see :mod:`freerea_patch.networks.cost`.

    And memory: see :mod:`freerea_seval.costs.memory`.
    """

    def __init__(self, context: Context, argument: None) -> None:
        prepare_torch(context.live)
        from freerea_seval.costs import SpaceCosts

        self._space = context.space
        self._memory = SpaceCosts(context.space, context.live.batch_size)

    def describe(self, metric: str) -> MetricInfo:
        """Return a metric's direction and unit."""
        return builtin_metric("cost", metric)

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterator[Mapping[str, Measured]]:
        """Yield the costs network by network, in millions, those of memory of bytes."""
        counted = [metric for metric in metrics if metric not in MEMORY]
        for genotype in genotypes:
            row: dict[str, Measured] = {}
            if counted:
                began = time.perf_counter()
                cost = self._cost(genotype)
                seconds = (time.perf_counter() - began) / len(counted)
                row = {metric: Measured(getattr(cost, metric) / 1e6, seconds) for metric in counted}
            for metric in metrics:
                if metric in MEMORY:
                    began = time.perf_counter()
                    value = getattr(self._memory, metric)(genotype) / 1e6
                    row[metric] = Measured(value, time.perf_counter() - began)
            yield row

    def _cost(self, genotype: str) -> Cost:
        from freerea_patch.networks.cost import network_cost

        return network_cost(self._space.build(genotype), self._space.input_shape)
