"""Search spaces: the interface of a space, the two spaces of NATS-Bench, and how a config names a space.

A space maps genotypes (strings) to genotypes by its operators, and to networks by ``build``. Importing it does not
import torch; :mod:`freerea_patch.networks` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freerea_patch._lazy import lazy_exports

if TYPE_CHECKING:
    from freerea_patch.spaces.nats import (
        DATASETS,
        EDGES,
        OPERATIONS,
        SizeSpace,
        TopologySpace,
        all_cells,
        format_cell,
        live_operations,
        parse_cell,
    )
    from freerea_patch.spaces.protocol import SPACES, Part, SearchSpace, find_space, make_space
else:
    __getattr__, __dir__ = lazy_exports(__name__, __file__)
