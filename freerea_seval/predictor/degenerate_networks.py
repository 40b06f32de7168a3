"""Networks whose output does not depend on their input: they compute nothing, and are never better than chance.

Only the functional view tells them, as it leaves out what multiplies by zero. To a model they look like networks of few
operations, which may be nearly the best.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from freerea_patch import Direction
from freerea_seval.predictor.features.dataflow import operands

Values = npt.NDArray[np.float64]

#: An operation that reads no other, such as zeros: without one, every operation goes back to an input.
_ROOT = re.compile(r"<-(?![\d#])")
_BRACE = re.compile(r"(?:\d+\*)?[{}]")


def is_constant(string: str) -> bool:
    """Whether the output of a network does not depend on any of its inputs."""
    if not _ROOT.search(string):
        return False
    reads = operands(string)
    words = [word for word in string.split() if not _BRACE.match(word)]
    left, reached = [len(reads) - 1], set[int]()
    while left:
        place = left.pop()
        if place not in reached:
            reached.add(place)
            left += reads[place]
    return not any(words[place].startswith("input") for place in reached)


def which_are_constant(strings: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Return :func:`is_constant` of ``(n,)`` strings."""
    return np.array([is_constant(string) for string in strings], dtype=bool)


def values_of_constants(values: Values, constant: npt.NDArray[np.bool_], directions: Sequence[Direction]) -> Values:
    """Return what is predicted of networks whose output is constant.

    Args:
        values: ``(n, m)`` of the training networks, NaN where there is none.
        constant: ``(n,)`` which of them are constant.
        directions: which values are better, one a metric.

    Returns:
        ``(m,)``: the mean of those in training. Without any, the worst value in training where larger ones are better,
        and NaN for a metric of which smaller ones are: that may be a cost, and nothing costs less.
    """
    found = np.full(values.shape[1], np.nan)
    for place, (column, direction) in enumerate(zip(values.T, directions, strict=True)):
        known = column[constant & np.isfinite(column)]
        if len(known):
            found[place] = known.mean()
        elif direction == "max":
            found[place] = np.nanmin(column)
    return found
