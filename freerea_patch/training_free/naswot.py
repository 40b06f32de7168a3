"""naswot: how differently a network's ReLUs fire on the images of one batch (Mellor 2021)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from freerea_patch.networks.weights import unharmed


@torch.no_grad()
def naswot(network: nn.Module, images: Tensor) -> float:
    """Return ``log |det K|`` of the kernel of activation patterns.

    With c the ``(n, units)`` binary pattern of all ReLU outputs, ``K = c c^T + (1 - c)(1 - c)^T`` counts
    on how many units two images agree (Mellor 2021, equation 2). The network runs in training mode, as in
    FreeREA, so that batch norm uses the statistics of the batch; its own statistics are left alone.

    Args:
        network: a module whose ReLUs are ``nn.ReLU`` modules.
        images: ``(n, c, h, w)`` batch on the network's device.

    Returns:
        The metric, larger is better; minus infinity if the kernel is singular, as where two images share
        one pattern.

    Raises:
        ValueError: the network has no ``nn.ReLU`` module.
    """
    agreement = _Agreement(len(images), images.device)

    def record(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        agreement.add((output > 0).flatten(start_dim=1))

    relus = [module for module in network.modules() if isinstance(module, nn.ReLU)]
    if not relus:
        raise ValueError("naswot needs nn.ReLU modules, and this network has none")
    hooks = [relu.register_forward_hook(record) for relu in relus]
    try:
        with unharmed(network):
            network.train()(images)
    finally:
        for hook in hooks:
            hook.remove()
    # The kernel is positive semidefinite. Where it is singular, a determinant would be made of rounding
    # errors and its logarithm a number like any other; the line is that of numpy's matrix_rank.
    eigenvalues = torch.linalg.eigvalsh(agreement.kernel())
    if eigenvalues[0] <= eigenvalues[-1] * len(images) * torch.finfo(eigenvalues.dtype).eps:
        return -math.inf
    return float(eigenvalues.log().sum())


class _Agreement:
    """Sums the kernel layer by layer, so that the codes of the whole network are never held at once.

    ``c c^T + (1 - c)(1 - c)^T = u - s 1^T - 1 s^T + 2 c c^T`` with u units and s ones an image: one product
    of 0/1 matrices, whose entries are integers that float32 holds exactly up to 2^24 a layer.
    """

    def __init__(self, images: int, device: torch.device) -> None:
        self.shared = torch.zeros(images, images, dtype=torch.float64, device=device)
        self.ones = torch.zeros(images, dtype=torch.float64, device=device)
        self.units = 0

    def add(self, pattern: Tensor) -> None:
        """Add the ``(n, units)`` binary pattern of one layer."""
        codes = pattern.to(torch.float32)
        self.shared += codes @ codes.T
        self.ones += codes.sum(dim=1)
        self.units += codes.shape[1]

    def kernel(self) -> Tensor:
        """Return the ``(n, n)`` kernel."""
        return self.units - self.ones[:, None] - self.ones[None, :] + 2 * self.shared
