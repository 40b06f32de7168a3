"""Strings of the networks of a search space, from parts that are traced once, or from a trace of few layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freerea_patch.imports import lazy_exports

if TYPE_CHECKING:
    from freerea_seval.strings.spaces.repeated_layers import StackGraphs, StackStrings, traced_on_meta
    from freerea_seval.strings.spaces.subgraph_cache import (
        ChainStrings,
        NotComposableError,
        SubgraphCache,
        chained,
        zeros,
    )
else:
    __getattr__, __dir__ = lazy_exports(__name__, __file__)
