"""jacov and epe_nas: how alike a network's responses to different images are."""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Keeps the logarithms finite, in both papers' code.
_K = 1e-5
#: From more classes on, epe_nas compares classes instead of adding them up (Lopes 2021).
_MANY_CLASSES = 100


def correlations(jacobian: Tensor) -> Tensor:
    """Return the ``(n, n)`` correlation coefficients of the rows of an ``(n, d)`` Jacobian, in float64.

    A constant row, as where nothing reaches the output, has NaN with everything.
    """
    rows = jacobian.double()
    rows = rows - rows.mean(dim=1, keepdim=True)
    rows = rows / rows.norm(dim=1, keepdim=True)
    correlation: Tensor = rows @ rows.T
    return correlation.clamp(-1, 1)


def jacov(correlation: Tensor) -> float:
    """Return ``-sum(log(v + k) + 1 / (v + k))`` over the eigenvalues v (Mellor 2020).

    Args:
        correlation: ``(n, n)``, see :func:`correlations`.

    Returns:
        The score, larger is better; NaN where a correlation is.
    """
    if not torch.isfinite(correlation).all():
        return math.nan
    shifted = torch.linalg.eigvalsh(correlation) + _K
    return float(-(shifted.log() + 1 / shifted).sum())


def epe_nas(correlation: Tensor, labels: Tensor, classes: int) -> float:
    """Return how alike the images of each class are (Lopes 2021).

    A class scores ``sum log(|c| + k)`` over the correlations c within it. Up to a hundred classes, the
    absolute scores are added; with more, a class's score is a mean over its images, and the absolute
    differences of all pairs are added and divided by the number of classes in the batch.

    Args:
        correlation: ``(n, n)``, see :func:`correlations`.
        labels: ``(n,)``.
        classes: number of classes that the network tells apart.

    Returns:
        The score, larger is better; NaN where a correlation is.
    """
    logs = (correlation.abs() + _K).log()
    same = (labels[:, None] == labels[None, :]).to(logs.dtype)
    # Sums over pairs within a class, gathered by the class of the first image.
    present, which, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    scores = torch.zeros(len(present), dtype=logs.dtype, device=logs.device)
    scores.index_add_(0, which, (logs * same).sum(dim=1))
    if classes <= _MANY_CLASSES:
        return float(scores.abs().sum())
    scores = scores / counts
    return float((scores[:, None] - scores[None, :]).abs().sum() / len(present))
