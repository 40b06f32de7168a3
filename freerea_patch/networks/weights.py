"""Initialisation before a metric, and the promise that a module comes back as it was."""

from __future__ import annotations

from collections.abc import Container, Iterator
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
            # Drawn in the usual order of memory: a ninth of the time, and the same weights whatever their order is.
            drawn = torch.empty_like(module.weight, memory_format=torch.contiguous_format)
            nn.init.kaiming_normal_(drawn, mode="fan_out", nonlinearity="relu", generator=generator)
            module.weight.copy_(drawn)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, _BatchNorm) and module.affine:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


@contextmanager
def undrawn() -> Iterator[None]:
    """Build convolutions and linear layers without torch's own weights, which :func:`initialise` draws again.

    Their weights and biases are whatever is in memory until then.
    """
    usual = {kind: kind.__dict__.get("reset_parameters") for kind in (nn.Conv2d, nn.Linear)}
    try:
        for kind in usual:
            kind.reset_parameters = lambda self: None  # type: ignore[method-assign]
        yield
    finally:
        for kind, method in usual.items():
            if method is None:
                del kind.reset_parameters
            else:
                kind.reset_parameters = method  # type: ignore[method-assign]


@contextmanager
def unharmed(network: nn.Module, untouched: Container[nn.Module] = ()) -> Iterator[nn.Module]:
    """Give back buffers (batch-norm statistics) and training modes as they were, also after an error.

    Args:
        network: the module.
        untouched: modules whose buffers nobody changes, so that there is no need to copy them.
    """
    modes = [(module, module.training) for module in network.modules()]
    # A module may write to its buffers, or put other tensors in their place.
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module, _ in modes
        if module not in untouched
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
