"""Costs of a network that are computed without running it: parameters, multiply-adds, memory.

:mod:`~freerea_seval.costs.model` traces a network (or the parts of a search space's network) into a graph without
values; :mod:`~freerea_seval.costs.published` counts its operations as the benchmarks do,
:mod:`~freerea_seval.costs.memory` walks it for the peak memory of inference and training, and
:mod:`~freerea_seval.costs.serving` counts what a language model costs that answers a prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freerea_patch.imports import lazy_exports

if TYPE_CHECKING:
    from freerea_seval.costs.memory import OPTIMISERS
    from freerea_seval.costs.model import Costs, SpaceCosts, network_costs, network_counts
    from freerea_seval.costs.published import Counts, published_counts
    from freerea_seval.costs.serving import ServingCosts, serving_costs
else:
    __getattr__, __dir__ = lazy_exports(__name__, __file__)
