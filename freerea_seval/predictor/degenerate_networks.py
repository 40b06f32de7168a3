"""Networks whose output does not depend on their input: their accuracy is that of guessing.

Only the functional view shows them, because it removes multiplications by zero. Their strings resemble those of small
networks, which a model may predict to be good.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from freerea_patch import Direction
from freerea_seval.predictor.features.dataflow import operands

Values = npt.NDArray[np.float64]

#: An operation without operands, such as zeros. If there is none, every operation depends on an input.
_ROOT = re.compile(r"<-(?![\d#])")
_BRACE = re.compile(r"(?:\d+\*)?[{}]")


def has_constant_output(string: str) -> bool:
    """Whether the output of a network depends on none of its inputs: a search backwards from the output."""
    if not _ROOT.search(string):
        return False
    reads = operands(string)
    words = [word for word in string.split() if not _BRACE.match(word)]
    stack, reached = [len(reads) - 1], set[int]()
    while stack:
        position = stack.pop()
        if position not in reached:
            reached.add(position)
            stack += reads[position]
    return not any(words[position].startswith("input") for position in reached)


def constant_outputs(strings: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Return :func:`has_constant_output` of ``(n,)`` strings."""
    return np.array([has_constant_output(string) for string in strings], dtype=bool)


def values_of_constants(values: Values, constant: npt.NDArray[np.bool_], directions: Sequence[Direction]) -> Values:
    """Return the prediction for networks with a constant output.

    Args:
        values: ``(n, m)`` of the training networks, NaN where there is none.
        constant: ``(n,)`` which of them have a constant output.
        directions: which values are better, one a metric.

    Returns:
        ``(m,)``: the mean over those in training. Without any, the worst value of the training data if larger values
        are better, and NaN (no prediction of its own) if smaller ones are: the metric may be a cost, and such a network
        is cheap.
    """
    predictions = np.full(values.shape[1], np.nan)
    for column, (metric, direction) in enumerate(zip(values.T, directions, strict=True)):
        measured = metric[constant & np.isfinite(metric)]
        if len(measured):
            predictions[column] = measured.mean()
        elif direction == "max":
            predictions[column] = np.nanmin(metric)
    return predictions
