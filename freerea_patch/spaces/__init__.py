"""Search spaces: NATS-Bench's topology and size spaces, and the protocol for one of your own."""

from __future__ import annotations

from freerea_patch.spaces.datasets import DATASETS
from freerea_patch.spaces.protocol import SearchSpace
from freerea_patch.spaces.size import SizeSpace
from freerea_patch.spaces.topology import TopologySpace

#: Built-in spaces by the name that a config uses.
SPACES: dict[str, type[TopologySpace] | type[SizeSpace]] = {"nats-tss": TopologySpace, "nats-sss": SizeSpace}

__all__ = ["DATASETS", "SPACES", "SearchSpace", "SizeSpace", "TopologySpace"]
