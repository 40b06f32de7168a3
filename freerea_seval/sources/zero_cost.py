"""The thirteen zero-cost proxies as a source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from freerea_patch import Measured
from freerea_patch.imports import importable_from
from freerea_seval.proxies.live import ZeroCost
from freerea_seval.sources.live import open_cache, prepare_torch
from freerea_seval.sources.registry import Context, MetricInfo, builtin_metric


class ZeroCostSource:
    """The proxies of NAS-Bench-Suite-Zero: see :class:`freerea_seval.proxies.live.ZeroCost`.

    It takes one initialisation, as the published values do, whatever ``live.initialisations`` says.
    """

    def __init__(self, context: Context, argument: None) -> None:
        live = context.live
        prepare_torch(live)
        with importable_from(context.base):  # a batch may be a function of the user's
            self._proxies = ZeroCost(
                context.space,
                batch=context.batch,
                batch_size=live.batch_size,
                seed=live.seed,
                device=live.device,
                cache=open_cache(live, context.base),
            )

    def describe(self, metric: str) -> MetricInfo:
        """Return a proxy's direction and unit."""
        return builtin_metric("zero-cost", metric)

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterator[Mapping[str, Measured]]:
        """Yield the proxies network by network."""
        return self._proxies.evaluate(genotypes, metrics)
