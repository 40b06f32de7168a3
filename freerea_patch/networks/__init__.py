"""PyTorch networks of the NATS-Bench spaces, their initialisation, and their cost. The modules need torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freerea_patch._lazy import lazy_exports

if TYPE_CHECKING:
    from freerea_patch.networks.cost import Cost, network_cost
    from freerea_patch.networks.nats import Cell, ResidualBlock, Zero
    from freerea_patch.networks.weights import initialise, preserve_state, skip_initialisation
else:
    __getattr__, __dir__ = lazy_exports(__name__, __file__)
