"""Sources that compute on networks: training-free metrics, zero-cost proxies, and costs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from freerea_patch import InputError, Measured, MetricCache, TrainingFree, importable_from, share_cores
from freerea_patch.imports import TORCH_LOCK
from freerea_patch.spaces import input_dtype
from freerea_seval.config import LiveSettings
from freerea_seval.sources.registry import Context, MetricInfo, builtin_metric

if TYPE_CHECKING:
    from freerea_seval.proxies import ZeroCost

#: Environment variable with the file of cached metric values, instead of the one in the user's cache folder.
CACHE_VARIABLE = "FREEREA_SEVAL_CACHE"


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


def open_cache(live: LiveSettings, base: Path, dry: bool = False) -> MetricCache | None:
    """Return the cache of metric values that the settings ask for, None for ``cache: off``.

    A ``dry`` one stores nothing, and is None where the file does not exist.
    """
    if live.cache == "off":
        return None
    if live.cache is not None:
        path = base / Path(live.cache).expanduser()
    elif CACHE_VARIABLE in os.environ:
        path = Path(os.environ[CACHE_VARIABLE])
    else:
        from platformdirs import user_cache_path

        path = user_cache_path("freerea-seval") / "metrics.sqlite"
    return None if dry and not path.exists() else MetricCache(path, read_only=dry)


class TrainingFreeSource:
    """naswot, logsynflow and skip: see :class:`freerea_patch.TrainingFree`."""

    name = "training-free"

    def __init__(self, context: Context, argument: None) -> None:
        prepare_torch(context.live)
        with importable_from(context.base):  # a batch may be a function of the user's
            self._metrics = self._open(context)

    def _open(self, context: Context) -> TrainingFree | ZeroCost:
        live = context.live
        return TrainingFree(
            context.space,
            batch=context.batch,
            batch_size=live.batch_size,
            length=live.length,
            initialisations=live.initialisations,
            seed=live.seed,
            device=live.device,
            cache=open_cache(live, context.base, context.dry),
            threads=live.threads or 1,
        )

    def known(self, genotype: str, metrics: Sequence[str]) -> dict[str, Measured] | None:
        """Return what the cache has of a network: see :class:`freerea_seval.runs.workers.SpreadSource`."""
        return self._metrics.known(genotype, metrics)

    def keep(self, genotype: str, row: Mapping[str, Measured]) -> None:
        """Store in the cache what another process has computed."""
        self._metrics.keep(genotype, row)

    def describe(self, metric: str) -> MetricInfo:
        """Return a metric's direction and unit."""
        info = builtin_metric(self.name, metric)
        self._metrics.check(metric)
        return info

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterator[Mapping[str, Measured]]:
        """Yield the metrics network by network."""
        return self._metrics.evaluate(genotypes, metrics)


class ZeroCostSource(TrainingFreeSource):
    """The proxies of NAS-Bench-Suite-Zero and later ones: see :class:`freerea_seval.proxies.ZeroCost`.

    They use one initialisation, as the published values do, whatever ``live.initialisations`` is.
    """

    name = "zero-cost"

    def _open(self, context: Context) -> ZeroCost:
        from freerea_seval.proxies import ZeroCost

        live = context.live
        return ZeroCost(
            context.space,
            batch=context.batch,
            batch_size=live.batch_size,
            length=live.length,
            seed=live.seed,
            device=live.device,
            cache=open_cache(live, context.base, context.dry),
            threads=live.threads or 1,
        )


class CostSource:
    """The counts and the memory of :class:`freerea_seval.costs.SpaceCosts`."""

    #: Metrics of language models, and their names in :class:`freerea_seval.costs.ServingCosts`.
    SERVING: Mapping[str, str] = {
        "prompt_macs": "prompt_macs",
        "token_macs": "token_macs",
        "kv_cache": "kv_cache_bytes",
        "serving_memory": "memory_bytes",
        "decoder_params": "decoder_params",
    }

    def __init__(self, context: Context, argument: None) -> None:
        prepare_torch(context.live)
        from freerea_seval.costs import SpaceCosts

        costs = SpaceCosts(context.space, context.live.batch_size)
        self._space = context.space
        self._counts, self._serving = costs.counts, costs.serving
        self._memory: dict[str, Callable[[str], int]] = {
            "activations": costs.activations,
            "inference_memory": costs.inference_memory,
            "training_memory": costs.training_memory,
        }

    def describe(self, metric: str) -> MetricInfo:
        """Return a metric's direction and unit; raise :class:`InputError` for one of serving in a space of images."""
        info = builtin_metric("cost", metric)
        generates = getattr(self._space, "generates", input_dtype(self._space) == "int64")
        if metric in self.SERVING and not generates:
            raise InputError(
                f"{metric} is of language models that add token to token, whose spaces have input_dtype 'int64', such"
                f" as gpt-s; space {self._space.name} has others, for which the source has macs and inference_memory"
            )
        return info

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterator[Mapping[str, Measured]]:
        """Yield the costs network by network: counts in millions, memory in megabytes (10^6 bytes)."""
        counts = [metric for metric in metrics if metric not in (*self._memory, *self.SERVING)]
        serving = [metric for metric in metrics if metric in self.SERVING]
        for genotype in genotypes:
            row: dict[str, Measured] = {}
            with TORCH_LOCK:
                if counts:
                    began = time.perf_counter()
                    values = self._counts(genotype)
                    seconds = (time.perf_counter() - began) / len(counts)
                    row = {metric: Measured(getattr(values, metric) / 1e6, seconds) for metric in counts}
                if serving:
                    began = time.perf_counter()
                    served = self._serving(genotype)
                    seconds = (time.perf_counter() - began) / len(serving)
                    row |= {m: Measured(getattr(served, self.SERVING[m]) / 1e6, seconds) for m in serving}
                for metric in metrics:
                    if metric in self._memory:
                        began = time.perf_counter()
                        value = self._memory[metric](genotype) / 1e6
                        row[metric] = Measured(value, time.perf_counter() - began)
            yield row
