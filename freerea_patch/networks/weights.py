"""Initialisation of networks, and context managers that keep a network's state unchanged."""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Draw new weights in place, as FreeREA does before every metric (Cavagnero 2023, public code).

    Convolutions and linear layers: Kaiming normal, fan-out, ReLU gain; biases 0. Batch norm: weight 1, bias 0.

    Args:
        network: the module to initialise.
        generator: source of randomness, on the device of the weights.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            # Drawing into contiguous memory takes a ninth of the time, and gives the same weights in every layout.
            weight = torch.empty_like(module.weight, memory_format=torch.contiguous_format)
            nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu", generator=generator)
            module.weight.copy_(weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, _BatchNorm) and module.affine:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


@contextmanager
def skip_initialisation() -> Iterator[None]:
    """Build convolutions and linear layers without torch's own initialisation, for :func:`initialise` to follow.

    Until then, their weights and biases are uninitialised memory.
    """
    methods = {kind: kind.__dict__.get("reset_parameters") for kind in (nn.Conv2d, nn.Linear)}
    try:
        for kind in methods:
            kind.reset_parameters = lambda self: None  # type: ignore[method-assign]
        yield
    finally:
        for kind, method in methods.items():
            if method is None:
                del kind.reset_parameters
            else:
                kind.reset_parameters = method  # type: ignore[method-assign]


@contextmanager
def preserve_state(network: nn.Module, unchanged: Container[nn.Module] = ()) -> Iterator[nn.Module]:
    """Restore buffers (batch-norm statistics) and training modes on exit, also after an error.

    Args:
        network: the module.
        unchanged: modules whose buffers do not change, so that they need not be copied.
    """
    modes = [(module, module.training) for module in network.modules()]
    # A module may write to its buffers, or replace them by other tensors.
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module, _ in modes
        if module not in unchanged
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        yield network
    finally:
        for module, training in modes:
            if module.training != training:
                module.training = training
        with torch.no_grad():
            for module, name, buffer, saved in buffers:
                buffer.copy_(saved)
                if getattr(module, name, None) is not buffer:
                    setattr(module, name, buffer)
