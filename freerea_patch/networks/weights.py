"""Initialisation before a metric, and the promise that a module comes back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Draw fresh weights in place, as FreeREA does before every metric (Cavagnero 2023, public code).

    Kaiming normal, fan-out, ReLU gain for convolutions and linear layers, their biases 0; batch norm
    weight 1 and bias 0.

    Args:
        network: the module to initialise.
        generator: source of randomness, on the device of the weights.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, _BatchNorm) and module.affine:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


@contextmanager
def unharmed(network: nn.Module) -> Iterator[nn.Module]:
    """Give back buffers (batch-norm statistics) and training modes as they were, also after an error."""
    modes = [(module, module.training) for module in network.modules()]
    # A module may write to its buffers, or put other tensors in their place.
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module, _ in modes
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
