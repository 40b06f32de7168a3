"""Values on the meta device: of what neither weights nor inputs decide, such as positions and masks.

Libraries look at these to choose a kernel (``if mask.all()``), which the meta device cannot answer by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from freerea_seval.strings.trace.operations import EMPTY, schema_of

#: Larger tensors are not computed.
_LARGEST = 1 << 20
#: Operations that return a value.
_ASKING = frozenset(("local_scalar_dense", "equal", "is_nonzero"))


class Values:
    """Runs operations on the meta device, and on real twins of its tensors where these are known."""

    def __init__(self) -> None:
        # Tensors are known by their identity, so they are kept.
        self._twins: dict[int, tuple[Tensor, Tensor]] = {}

    def run(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run an operation."""
        schema = schema_of(func)
        given = [item for item in tree_leaves((args, kwargs)) if isinstance(item, Tensor)]
        known = all(not tensor.is_meta or id(tensor) in self._twins for tensor in given)
        if known and schema.kind in _ASKING:
            return func(*tree_map(self._twin, args), **kwargs)
        result = func(*args, **kwargs)
        if schema.writes and not known and any(id(tensor) in self._twins for tensor in given):
            self._twins.clear()  # what was written to may be seen through others
        results = [item for item in tree_leaves(result) if isinstance(item, Tensor)]
        random = schema.kind in EMPTY or "generator" in schema.defaults
        if known and not random and results and all(t.is_meta and t.numel() <= _LARGEST for t in results):
            named = tree_map(self._twin, dict(kwargs))
            if named.get("device") is not None:
                named["device"] = torch.device("cpu")
            with suppress(RuntimeError):  # of operations that the CPU has not
                twins = tree_leaves(func(*tree_map(self._twin, args), **named))
                self._twins |= {id(one): (one, twin) for one, twin in zip(results, twins, strict=True)}
        return result

    def _twin(self, item: Any) -> Any:
        return self._twins[id(item)][1] if isinstance(item, Tensor) and item.is_meta else item
