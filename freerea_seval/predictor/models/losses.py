"""The training loss of the models that torch trains, ``mlp`` and ``t5``: squared error and order, metrics together."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LOSSES = ("mse", "mse+ranking")

#: The ranking loss asks for at most this difference between two predictions, in standard deviations of the metric.
_MARGIN = 0.1


def regression_loss(predicted: Tensor, targets: Tensor, loss: str) -> Tensor:
    """Return the loss of standardised predictions, both ``(n, m)``; targets that are NaN are ignored.

    ``"mse+ranking"`` adds a pairwise hinge (Herbrich 2000) to the mean squared error: of two samples, the better one
    should be predicted above the other by their difference, but by no more than :data:`_MARGIN`. A perfect prediction
    has loss 0, so the two terms do not work against each other.
    """
    measured = ~targets.isnan()
    y = targets.where(measured, 0)
    squared = ((predicted - y).square() * measured).sum() / measured.sum().clamp(min=1)
    if loss == "mse":
        return squared
    differences = y.unsqueeze(1) - y.unsqueeze(0)
    pairs = (differences > 0) & measured.unsqueeze(1) & measured.unsqueeze(0)
    shortfall = differences.clamp(max=_MARGIN) - (predicted.unsqueeze(1) - predicted.unsqueeze(0))
    return squared + (shortfall.relu() * pairs).sum() / pairs.sum().clamp(min=1) / _MARGIN
