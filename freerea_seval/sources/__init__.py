"""Metric sources: where the values of objectives come from.

:mod:`~freerea_seval.sources.registry` lists the sources and their metrics without importing them. Opening one gives an
object that describes its metrics and evaluates genotypes; each source is a module of its own in this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freerea_patch.imports import lazy_exports

if TYPE_CHECKING:
    from freerea_seval.sources.live import prepare_torch
    from freerea_seval.sources.registry import (
        Context,
        MetricInfo,
        Registry,
        Source,
        SourceRecord,
        load_registry,
    )
    from freerea_seval.sources.table import Advice, Table, read_table
else:
    __getattr__, __dir__ = lazy_exports(__name__, __file__)
