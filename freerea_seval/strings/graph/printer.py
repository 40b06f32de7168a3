"""The printed form of one operation: its kind, and whatever attributes and results do not follow by inference.

Strings consist of these labels (:mod:`freerea_seval.strings.text.serialize` adds the operands), and the canonical order
of operations compares them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from freerea_seval.strings.graph.ir import LARGEST_SIZE, Shape, Spec, Value, Weight
from freerea_seval.strings.graph.shape_inference import (
    BARE,
    SINKS,
    WINDOWS,
    channels,
    infer_dtype,
    infer_results,
    spatial,
    window_defaults,
)


@lru_cache(maxsize=65536)
def operation_label(
    kind: str,
    attributes: tuple[tuple[str, Value], ...],
    specs: tuple[Spec, ...],
    weights: tuple[Weight, ...],
    outputs: tuple[Spec, ...],
) -> str:
    """Return the printed form of an operation, without its operands, such as ``conv(16,k3,s2)``.

    Args:
        kind, attributes, outputs: of the operation.
        specs: shapes and dtypes of the inputs that other nodes produce.
        weights: the inputs that are parameters, if inference does not predict them.
    """
    printed = _printed_attributes(kind, dict(attributes), specs)
    text = f"{kind}({','.join(printed)})" if printed else kind
    # "!" even where the absence of results could be inferred: whether there are any must not depend on shapes.
    if (outputs or kind in SINKS) and outputs == infer_results(kind, dict(attributes), specs, weights):
        return text
    dtype = infer_dtype(kind, specs, weights)
    shapes = [format_shape(o.shape) + (f":{o.dtype}" if o.dtype != dtype else "") for o in outputs]
    return f"{text}[{','.join(shapes) if shapes else '!'}]"


def format_shape(shape: Shape) -> str:
    """Return a shape as strings have it, such as ``1x3x32x32``."""
    return "x".join(map(str, shape))


def _printed_attributes(kind: str, attributes: dict[str, Value], specs: Sequence[Spec]) -> list[str]:
    """Return the attributes that do not follow from the inputs or from other attributes."""
    bare, width = BARE.get(kind, "other"), channels(kind, specs)
    window = _window_defaults(kind, attributes, specs)
    printed = []
    for name, value in attributes.items():
        if name in window:
            if value != window[name]:
                printed.append("dw" if name == "g" and value == width else name + _format_window(value))
        elif name == bare and isinstance(value, (int, float)):
            if name == "other" or value != width:
                printed.append(_format_value(value))
        elif name in ("b", "plain") and value == 1:
            printed.append(name)
        else:
            printed.append(f"{name}={_format_value(value)}")
    return printed


def _window_defaults(kind: str, attributes: dict[str, Value], specs: Sequence[Spec]) -> dict[str, Value | None]:
    """Return the default values of a window's attributes; empty if the actual ones cannot be printed as a window."""
    defaults = kind in WINDOWS and window_defaults(kind, attributes.get("k"), attributes.get("d"), specs)
    for name in defaults or ():
        value = attributes.get(name, "")
        if name == "g":
            value = (value,) if isinstance(value, int) else ""
        elif not isinstance(value, tuple) or len(value) != spatial(kind, specs[0].shape):
            return {}
        if not value or not all(isinstance(size, int) and 0 <= size <= LARGEST_SIZE for size in value):
            return {}
    return defaults or {}


def _format_window(value: Value) -> str:
    sizes = value if isinstance(value, tuple) else (value,)
    return "x".join(map(str, sizes[:1] if len(set(sizes)) == 1 else sizes))


def _format_value(value: Value) -> str:
    if isinstance(value, tuple):
        return ":".join(map(_format_value, value))
    return repr(value) if isinstance(value, (int, float)) else value
