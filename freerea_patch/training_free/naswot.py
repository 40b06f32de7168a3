"""naswot: how differently a network's ReLUs fire on the images of one batch (Mellor 2021)."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from freerea_patch.networks.nats import Cell
from freerea_patch.networks.weights import unharmed
from freerea_patch.training_free.quick import Forward, batch_statistics, cell_forward, depthwise, instead

#: numpy counts bits from version 2 on.
_COUNTS_BITS = hasattr(np, "bitwise_count")
#: Rows that are compared at once: more are fewer calls, fewer stay in the cache.
_ROWS = 8
#: Inputs of ReLUs that are remembered, as one tensor may go into several: a cell has four nodes.
_REMEMBERED = 4


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
    kernel = PatternKernel(len(images), images.device)
    forwards: dict[nn.Module, Forward] = {}
    relus = 0
    for module in network.modules():
        quick: Forward | None = None
        if isinstance(module, nn.ReLU):
            quick = kernel.watched(module)
            relus += 1
        elif isinstance(module, _BatchNorm) and type(module) in (nn.BatchNorm1d, nn.BatchNorm2d):
            quick = batch_statistics(module)
        elif type(module) is nn.AvgPool2d:
            quick = depthwise(module)
        elif type(module) is Cell:
            quick = cell_forward(module)
        if quick:
            forwards[module] = quick
    if not relus:
        raise ValueError("naswot needs nn.ReLU modules, and this network has none")
    with unharmed(network, untouched=forwards), instead(forwards):
        network.train()(images)
    return kernel.log_determinant()


class PatternKernel:
    """Sums the kernel layer by layer, so that the codes of the whole network are never held at once.

    ``c c^T + (1 - c)(1 - c)^T = u - s 1^T - 1 s^T + 2 c c^T`` with u units and s ones an image: one product
    of 0/1 matrices, whose diagonal is s. On a CPU it counts bits; elsewhere it is a matrix product, whose entries are
    integers that float32 holds exactly up to 2^24 a layer.
    """

    def __init__(self, images: int, device: torch.device) -> None:
        self._shared = torch.zeros(images, images, dtype=torch.float64, device=device)
        self._units = 0
        # Input, output, their versions, and the product and units of the pattern.
        self._seen: deque[tuple[Tensor, Tensor, tuple[int, int], Tensor, int]] = deque(maxlen=_REMEMBERED)

    def watched(self, relu: nn.ReLU) -> Forward:
        """Return the forward pass of a ReLU that adds its pattern; of one tensor, it is computed once."""
        usual = relu.forward

        def forward(x: Tensor) -> Tensor:
            for seen, output, versions, product, units in self._seen:
                if seen is x and (x._version, output._version) == versions:
                    self._add(product, units)
                    return output
            output = usual(x)
            product, units = self._product(output)
            self._add(product, units)
            if type(relu) is nn.ReLU and not relu.inplace:
                self._seen.append((x, output, (x._version, output._version), product, units))
            return output

        return forward

    def add(self, output: Tensor) -> None:
        """Add the pattern of one ReLU's output, ``(n, ...)``."""
        self._add(*self._product(output))

    def _add(self, product: Tensor, units: int) -> None:
        self._shared += product
        self._units += units

    def _product(self, output: Tensor) -> tuple[Tensor, int]:
        """Return the products ``c c^T`` of the pattern of one layer, and its number of units."""
        if output.ndim == 4 and output.is_contiguous(memory_format=torch.channels_last):
            output = output.permute(0, 2, 3, 1)  # the order of units does not matter, and this one needs no copy
        values = output.flatten(start_dim=1)
        units = values.shape[1]
        if _COUNTS_BITS and values.device.type == "cpu" and values.dtype in (torch.float32, torch.float64):
            return torch.from_numpy(common_ones(values.detach().numpy() > 0)), units
        codes = (values > 0).float()
        return codes @ codes.T, units

    def log_determinant(self) -> float:
        """Return ``log |det K|``, minus infinity where the kernel is singular."""
        ones = self._shared.diagonal()
        kernel = self._units - ones[:, None] - ones[None, :] + 2 * self._shared
        # The kernel is positive semidefinite. Where it is singular, a determinant would be made of rounding
        # errors and its logarithm a number like any other; the line is that of numpy's matrix_rank.
        eigenvalues = torch.linalg.eigvalsh(kernel)
        if eigenvalues[0] <= eigenvalues[-1] * len(kernel) * torch.finfo(eigenvalues.dtype).eps:
            return -math.inf
        return float(eigenvalues.log().sum())


def common_ones(codes: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return in how many places two rows of an ``(n, units)`` array are both true, for all pairs."""
    packed = np.packbits(codes, axis=1)
    if odd := packed.shape[1] % 8:
        packed = np.pad(packed, ((0, 0), (0, 8 - odd)))
    words = packed.view(np.uint64)
    counts = np.empty((len(words), len(words)), dtype=np.int64)
    for first in range(0, len(words), _ROWS):
        rows, until = slice(first, first + _ROWS), slice(first + _ROWS)
        counts[rows, until] = np.bitwise_count(words[rows, None] & words[until]).sum(axis=2)
        counts[until, rows] = counts[rows, until].T
    return counts
