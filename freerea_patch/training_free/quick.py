"""Forward passes that leave out what cannot change a metric; afterwards a module computes as it did before."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from freerea_patch.networks.nats import Cell, Zero
from freerea_patch.spaces.cell import EDGES

Forward: TypeAlias = Callable[[Tensor], Tensor]

_NODES = EDGES[-1][1] + 1


@contextmanager
def instead(forwards: Mapping[nn.Module, Forward]) -> Iterator[None]:
    """Let modules compute something else; an attribute of the instance hides the method and goes again."""
    hidden = {module: module.__dict__["forward"] for module in forwards if "forward" in module.__dict__}
    try:
        for module, forward in forwards.items():
            module.__dict__["forward"] = forward
        yield
    finally:
        for module in forwards:
            module.__dict__.pop("forward", None)
            if module in hidden:
                module.__dict__["forward"] = hidden[module]


#: Names of glibc's malloc.h, and bytes: how much free memory stays, and above what a block is the system's own.
_MALLOPT = ((-1, 1 << 30), (-3, 32 << 20))


def keep_memory() -> None:
    """Let glibc keep freed memory: a page that goes back to the system is zeroed again for the next layer.

    Elsewhere this does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for name, value in _MALLOPT:
        mallopt(name, value)


def batch_statistics(norm: _BatchNorm) -> Forward:
    """Return batch norm in training mode without its running statistics, which then need not be put back."""
    return lambda x: F.batch_norm(x, None, None, norm.weight, norm.bias, True, 0.0, norm.eps)


def depthwise(pool: nn.AvgPool2d) -> Forward | None:
    """Return 3x3 pooling as a depthwise convolution, which takes oneDNN a sixth of the time.

    Sums are in another order, so that results differ in the last digit. None for pooling of another kind than the
    cells', whose means at a border are over the pixels that are there.
    """
    kind = (pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode, pool.count_include_pad, pool.divisor_override)
    if kind != (3, 1, 1, False, False, None):
        return None
    shares: dict[tuple[int, int], Tensor] = {}

    def forward(x: Tensor) -> Tensor:
        if x.ndim != 4 or x.device.type != "cpu":
            return type(pool).forward(pool, x)
        height, width = x.shape[2:]
        if (height, width) not in shares:
            pixels = F.conv2d(x.new_ones(1, 1, height, width), x.new_ones(1, 1, 3, 3), padding=1)
            shares[height, width] = pixels.reciprocal()
        sums: Tensor = _Sums.apply(x)  # type: ignore[no-untyped-call]
        return sums.mul_(shares[height, width])

    return forward


class _Sums(torch.autograd.Function):
    """Sums over 3x3 pixels: a linear map that is its own transpose, and thus its own derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return F.conv2d(x, x.new_ones(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Sums.apply(gradient)  # type: ignore[no-untyped-call]


def cell_forward(cell: Cell) -> Forward | None:
    """Return the forward pass of a cell without edges whose result is zero, or is only multiplied by zero.

    The ReLUs of these edges are called nevertheless, as naswot counts them. None for a cell with an edge that is none
    of the spaces'.
    """
    if not all(_is_known(edge) for edge in cell.edges):
        return None
    edges = [(edge, *ends) for edge, ends in zip(cell.edges, EDGES, strict=True)]
    zero: dict[nn.Module, bool] = {}
    empty = [False] * _NODES
    for node in range(1, _NODES):
        entering = [(edge, source) for edge, source, target in edges if target == node]
        zero |= {edge: isinstance(edge, Zero) or (empty[source] and _keeps_zeros(edge)) for edge, source in entering}
        empty[node] = all(zero[edge] for edge, _ in entering)
    read = [False] * (_NODES - 1) + [True]
    for node in reversed(range(_NODES - 1)):
        leaving = [(edge, target) for edge, source, target in edges if source == node]
        read[node] = any(_relu(edge) or (read[target] and not zero[edge]) for edge, target in leaving)

    def forward(x: Tensor) -> Tensor:
        nodes: list[Tensor | None] = [x] + [None] * (_NODES - 1)
        for edge, source, target in edges:
            whole = read[target] and not zero[edge]
            run = edge if whole else _relu(edge)
            if run is not None:
                value = nodes[source]
                # Only a node with the width of the first can be empty, as none keeps the width.
                y = run(x.mul(0.0) if value is None else value)
                before = nodes[target]
                if whole and before is not None:
                    # In place where the result is new, which needs no more memory.
                    y = before + y if type(edge) is nn.Identity else y.add_(before)
                if whole:
                    nodes[target] = y
        return x.mul(0.0) if nodes[-1] is None else nodes[-1]

    return forward


def _is_known(edge: nn.Module) -> bool:
    """Return whether an edge is one of those of :func:`~freerea_patch.networks.nats.cell_operation`."""
    if type(edge) is nn.Sequential:
        types = [type(module) for module in edge]
        return types[-2:] == [nn.Conv2d, nn.BatchNorm2d] and types[:-2] in ([], [nn.ReLU])
    return type(edge) in (nn.Identity, nn.AvgPool2d, Zero)


def _relu(edge: nn.Module) -> nn.Module | None:
    """Return the ReLU that a known edge begins with, if any."""
    return edge[0] if isinstance(edge, nn.Sequential) and isinstance(edge[0], nn.ReLU) else None


def _keeps_zeros(edge: nn.Module) -> bool:
    """Return whether a known edge maps zeros to zeros."""
    biases = (parameter for name, parameter in edge.named_parameters() if name.endswith("bias"))
    return not any(bias.any() for bias in biases)
