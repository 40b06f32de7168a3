"""PyTorch networks of the NATS-Bench spaces, their initialisation, and their cost. The modules need torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freerea_patch._lazy import lazy_exports

if TYPE_CHECKING:
    from freerea_patch.networks.cost import Cost, network_cost
    from freerea_patch.networks.nats import Cell, ResidualBlock, Zero
    from freerea_patch.networks.weights import initialise, preserve_state, skip_initialisation

# fmt: off
__all__ = [
    "Cell", "Cost", "ResidualBlock", "Zero", "initialise", "network_cost", "preserve_state", "skip_initialisation",
]

if not TYPE_CHECKING:  # type checkers use the imports above
    __getattr__, __dir__ = lazy_exports(__name__, {
        "freerea_patch.networks.cost": ["Cost", "network_cost"],
        "freerea_patch.networks.nats": ["Cell", "ResidualBlock", "Zero"],
        "freerea_patch.networks.weights": ["initialise", "preserve_state", "skip_initialisation"],
    })
