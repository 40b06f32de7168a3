"""What a metric's name says: its unit, and which values are better."""

from __future__ import annotations

import re

from freerea_patch import Direction

#: Units by the ending of a name, ``_ms``.
UNITS = {"ms": "ms", "s": "s", "mj": "mJ", "mb": "MB", "pct": "%"}
_IN_BRACKETS = {**UNITS, "us": "µs", "µs": "µs", "j": "J", "kb": "KB", "gb": "GB", "w": "W", "mw": "mW", "%": "%"}
_BRACKETED = re.compile(r"(?P<bare>.*[^\W_])[\s_]*[(\[]\s*(?P<unit>[^()\[\]]*?)\s*[)\]]")
#: Words of names, by which values are better. Short words must stand alone, so that ``latency_accelerator`` has no
#: accuracy and ``maps`` is no ``map``.
_LARGER = re.compile(
    r"accuracy|throughput|robustness|(?<![a-z])(acc|m?iou|auc|auroc|m?ap|map|f1|fps|psnr|ssim|bleu|top-?[15](?!.*err))"
    r"(?![a-z])"
)
_SMALLER = re.compile(
    r"latency|latencies|energy|memory|perplexity|param(eter)?s(?![a-z])"
    r"|(?<![a-z])(time|seconds|power|size|macs|flops|loss|error|err|mem|ms|mj|mb)(?![a-z])"
)
_ACCURACY = re.compile(r"accuracy|accuracies|(?<![a-z])acc(?![a-z])")
#: A change of a metric, or a ratio of two, may be better in either direction.
_RELATIVE = re.compile(
    r"drop|degradation|reduction|saving|gain|improve|speed-?up|efficien|(?<![a-z])(per|ratio|success)(?![a-z])"
)


def unit_of(name: str) -> str:
    """Return the unit by the ending of a name, ``_ms`` or ``(ms)``; empty if there is none."""
    return _split(name)[1]


def without_unit(name: str) -> str:
    """Return a name without its ending, if that is a unit."""
    return _split(name)[0]


def direction_of(name: str) -> Direction | None:
    """Return which values of a metric are better, by its name; None if the name does not say it."""
    text = name.lower()
    larger, smaller = _LARGER.search(text), _SMALLER.search(text)
    if _RELATIVE.search(text) or bool(larger) == bool(smaller):
        return None
    return "max" if larger else "min"


def is_accuracy(name: str) -> bool:
    """Whether a metric is an accuracy by its name: a fraction, or a percentage."""
    return bool(_ACCURACY.search(name.lower())) and direction_of(name) == "max"


def _split(name: str) -> tuple[str, str]:
    bare, _, ending = name.rpartition("_")
    if bare and ending.lower() in UNITS:
        return bare, UNITS[ending.lower()]
    bracketed = _BRACKETED.fullmatch(name)
    if bracketed and bracketed["unit"].lower() in _IN_BRACKETS:
        return bracketed["bare"], _IN_BRACKETS[bracketed["unit"].lower()]
    return name, ""
