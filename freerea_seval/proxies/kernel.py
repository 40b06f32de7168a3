"""The kernel of activation patterns, gathered in a forward pass that serves other proxies as well."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class PatternKernel:
    """Counts on how many ReLU units two images agree (Mellor 2021), layer by layer.

    The value is that of :func:`freerea_patch.training_free.naswot.naswot`, which runs the network itself.
    """

    def __init__(self, images: int, device: torch.device) -> None:
        self._shared = torch.zeros(images, images, dtype=torch.float64, device=device)
        self._ones = torch.zeros(images, dtype=torch.float64, device=device)
        self._units = 0

    def add(self, outputs: Tensor) -> None:
        """Add the outputs of one ReLU, ``(n, ...)``."""
        codes = (outputs > 0).flatten(start_dim=1).to(torch.float32)
        self._shared += codes @ codes.T
        self._ones += codes.sum(dim=1)
        self._units += codes.shape[1]

    def log_determinant(self) -> float:
        """Return ``log det``; minus infinity for a kernel that is singular by the rule of numpy's matrix_rank."""
        # Units on in both, plus units off in both.
        kernel = self._units - self._ones[:, None] - self._ones[None, :] + 2 * self._shared
        eigenvalues = torch.linalg.eigvalsh(kernel)
        if eigenvalues[0] <= eigenvalues[-1] * len(kernel) * torch.finfo(eigenvalues.dtype).eps:
            return -math.inf
        return float(eigenvalues.log().sum())
