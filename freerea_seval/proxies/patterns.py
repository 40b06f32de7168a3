"""The activation patterns of a batch: naswot's kernel, and SWAP's number of distinct patterns."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from freerea_patch.training_free import PatternKernel


class Patterns(PatternKernel):
    """Collects what nwot and swap need from the activations that run in its context.

    Args:
        images: their number.
        device: where the activations are.
        names: which of both.
    """

    def __init__(self, images: int, device: torch.device, names: Collection[str]) -> None:
        super().__init__(images, device)
        self._names = names
        self._none = torch.zeros(images, images, dtype=torch.float64, device=device)
        self._distinct: list[npt.NDArray[np.void]] = []

    def product(self, output: Tensor) -> tuple[Tensor, int]:
        """Collect the pattern of one layer."""
        if "swap" in self._names:
            self._distinct.append(_distinct((self.units(output) > 0).cpu().numpy()))
        return super().product(output) if "nwot" in self._names else (self._none, output[0].numel())

    def swap(self) -> float:
        """Return the number of distinct patterns of units over the images (Peng 2024).

        All activations count, by the signs of their inputs; the public code has ReLU on maps alone. The paper's
        factor of the parameters, a Gaussian whose centre and width are set for a space, is left out: a constraint on
        the metric ``params`` bounds the size.

        Raises:
            ValueError: no activation has run, or one with another first axis than the batch.
        """
        if len({columns.dtype for columns in self._distinct}) > 1:
            raise ValueError("swap needs activations with the batch as their first axis, and one here has another")
        if not self._distinct:
            raise ValueError("swap needs activations such as ReLU, GELU or Hardswish, and this network runs none")
        return float(len(np.unique(np.concatenate(self._distinct))))


def _distinct(codes: npt.NDArray[np.bool_]) -> npt.NDArray[np.void]:
    """Return the distinct columns of ``(n, units)`` codes, each as one value."""
    columns = np.ascontiguousarray(np.packbits(codes, axis=0).T)
    size = columns.shape[1]
    # Numbers are sorted faster than bytes.
    return np.unique(columns.view(np.uint64 if size == 8 else f"V{size}").ravel())
