"""The independence of a network's last features, a measure of what it can tell apart before any training."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from freerea_seval.proxies.az_nas import NoiseFeatures, rows_of
from freerea_seval.proxies.per_network import widened

#: Images to begin with, and how many positions a channel needs for its correlations to be estimated.
_IMAGES = 4
_POSITIONS_A_CHANNEL = 4
#: Added to the eigenvalues, whose mean is 1, so that a redundant channel has a finite logarithm.
_RIDGE = 1e-4


@torch.no_grad()
def independence(network: nn.Module, images_shape: Sequence[int], seed: int) -> float:
    """Return the mean of ``log(v + 1e-4)`` over the eigenvalues v of the correlation of the last features' channels.

    The features are the output of the last block for a few images of standard normal noise, with the network's present
    weights. For Gaussian channels, half the negative sum is their total correlation (Watanabe 1960), which is 0 where
    they are independent. MeCo sums the smallest eigenvalue over all modules (Jiang 2023), and AZ-NAS the entropy of the
    eigenvalues of the covariance over all blocks (Lee 2024). The logarithms of the last block alone need fewer images,
    and rank networks better beside their parameters (``python -m experiments.training_free.guides``).

    Args:
        network: the module to rate.
        images_shape: ``(n, c, h, w)``; at most n images are used, and only as many as the correlations need.
        seed: fixes the noise.

    Returns:
        The metric, larger is better, at most 0; minus infinity for features that are constant, NaN where one is
        infinite or NaN.

    Raises:
        ValueError: no block returns a map or tokens, or the last one has a single channel.
    """
    count = min(_IMAGES, images_shape[0])
    rows = _last_rows(network, (count, *images_shape[1:]), seed)
    enough = math.ceil(count * _POSITIONS_A_CHANNEL * rows.shape[1] / len(rows))
    if count < min(enough, images_shape[0]):
        rows = _last_rows(network, (min(enough, images_shape[0]), *images_shape[1:]), seed)
    return mean_log_eigenvalue(rows)


def _last_rows(network: nn.Module, images_shape: Sequence[int], seed: int) -> Tensor:
    return widened(rows_of(NoiseFeatures(network, images_shape, seed, own_weights=True).features[-1]))


def mean_log_eigenvalue(rows: Tensor) -> float:
    """Return the mean of ``log(v + 1e-4)`` over the eigenvalues of the correlation of the columns of ``(n, c)`` rows.

    A constant column adds an eigenvalue of 0. The eigenvalues are divided by their mean.
    """
    if rows.shape[1] < 2:
        raise ValueError("independence needs a last block with several channels, and this network has one")
    rows = (rows - rows.mean(dim=0, keepdim=True)).double()
    norms = rows.norm(dim=0)
    if not torch.isfinite(norms).all():
        return math.nan
    varying = norms > 1e-6 * math.sqrt(len(rows))
    if not varying.any():
        return -math.inf
    rows = rows / norms.where(varying, math.inf)
    eigenvalues = torch.linalg.eigvalsh(rows.T @ rows).clamp_min(0)
    return float((eigenvalues * (len(eigenvalues) / eigenvalues.sum()) + _RIDGE).log().mean())
