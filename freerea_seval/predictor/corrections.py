"""Corrections of predictions where a metric is known to take few values, or a network computes a constant.

Metrics of a cycle-accurate simulator, for example, have few different values: predictions are rounded to them. The
accuracy of a network whose output does not depend on its input is that of guessing. Only the functional view shows such
networks, because it removes multiplications by zero; their strings resemble those of small networks, which a model may
predict to be good.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from freerea_patch import Direction
from freerea_seval.predictor.features.dataflow import operands
from freerea_seval.predictor.scores import kendall_tau

Values = npt.NDArray[np.float64]

#: A metric is rounded only if it has at least this many networks for each of its different values.
_NETWORKS_A_LEVEL = 4


def find_levels(values: Values, unseen: Values) -> Values | None:
    """Return the different values of a metric, ascending, if rounding to them improves its out-of-fold predictions.

    Args:
        values: ``(n,)`` measured values, NaN where there is none.
        unseen: ``(n,)`` out-of-fold predictions, NaN where there is none.

    Returns:
        ``(k,)`` levels, or None if there are too many or rounding does not improve Kendall's tau-b.
    """
    measured = np.isfinite(values)
    levels = np.unique(values[measured])
    if len(levels) < 2 or len(levels) * _NETWORKS_A_LEVEL > measured.sum():
        return None
    both = measured & np.isfinite(unseen)
    rounded = _nearest(unseen[both], levels)
    if not len(rounded) or np.ptp(rounded) == 0:
        return None
    return levels if kendall_tau(values[both], rounded) > kendall_tau(values[both], unseen[both]) else None


def round_to_levels(values: Values, levels: Sequence[Values | None]) -> Values:
    """Return ``(n, m)`` values, rounded to the nearest level in each column that has levels."""
    rounded = values.copy()
    for column, steps in enumerate(levels):
        if steps is not None:
            finite = np.isfinite(values[:, column])
            rounded[finite, column] = _nearest(values[finite, column], steps)
    return rounded


def _nearest(values: Values, levels: Values) -> Values:
    nearest: Values = levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, values)]
    return nearest


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
