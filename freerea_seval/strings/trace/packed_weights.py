"""Packed weights of quantised operations: PyTorch's quantised modules hold them in objects instead of parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from freerea_seval.strings.graph.ir import Spec

#: Quantised operations with weights, and a part of the name that says what else they compute.
_LAYER = re.compile(r"quantized\.(linear|conv(?:_transpose)?)(?:(\d)d)?_?(\w*)")
#: Arguments that depend on calibration: scales and zero points of results.
_CALIBRATED = re.compile("scale|zero_point")


def packed_objects(value: object) -> list[torch.ScriptObject]:
    """Return the objects in an argument that may hold weights: itself, or the items of a list."""
    items = value if isinstance(value, (list, tuple)) else [value]
    return [item for item in items if isinstance(item, torch.ScriptObject)]


def unpack(packed: Any) -> list[Tensor]:
    """Return the weights that an object holds, the weight of a layer before its bias."""
    has = packed._has_method
    stack: list[Any] = [packed.unpack() if has("unpack") else packed.__getstate__() if has("__getstate__") else ()]
    tensors: list[Tensor] = []
    layers: list[Tensor] = []
    while stack:
        item = stack.pop()
        if isinstance(item, Tensor):
            tensors.append(item)
        elif isinstance(item, torch.ScriptObject):
            layers += unpack(item)
        elif isinstance(item, (list, tuple)):
            stack += reversed(item)
    return layers or tensors  # a recurrent cell holds layers, and their biases once more


def normalised_layer(
    kind: str, arguments: Mapping[str, object], packed: Sequence[Any], specs: Sequence[Spec]
) -> tuple[str, dict[str, object], list[Spec]]:
    """Return kind, arguments and weights of a quantised operation in the form of those that are not quantised.

    A layer becomes ``linear``, ``conv`` or ``deconv``; that it is quantised shows in the dtypes, and what else it
    computes in the attribute ``variant``, such as ``relu`` or ``dynamic``. Any other operation keeps its name.

    Args:
        kind, arguments: of the operation.
        packed: the objects among its arguments.
        specs: of the weights in these objects.
    """
    others = {name: value for name, value in arguments.items() if not _CALIBRATED.search(name)}
    match = _LAYER.fullmatch(kind)
    if match is None or len(packed) != 1:
        return kind, others, list(specs)
    layer, rank, variant = match[1], int(match[2] or 0), match[3]
    others["variant"] = variant or None
    weight, *bias = specs
    if layer == "linear":
        return "linear", others, [weight._replace(dtype="float16") if "fp16" in variant else weight, *bias]
    for name in ("stride", "padding", "output_padding", "dilation"):
        others[name] = getattr(packed[0], name)()[-rank:]
    others |= {"groups": packed[0].groups(), "transposed": layer == "conv_transpose"}
    # Weights of a convolution over one dimension are packed as those over two.
    return "conv", others, [weight._replace(shape=(*weight.shape[:2], *weight.shape[-rank:])), *bias]
