"""logsynflow: synaptic flow with its gradient on a log scale (Cavagnero 2023, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from freerea_patch.networks.weights import unharmed


def logsynflow(network: nn.Module, input_shape: tuple[int, ...]) -> float:
    """Return the sum over convolution and linear weights of ``|w log(1 + g)|``.

    g is the gradient of the summed output for one input of ones, with every parameter replaced by its
    absolute value and batch norm by the identity, in double precision. The network computes with copies:
    its own parameters, gradients and buffers are never touched.

    Args:
        network: the module to rate.
        input_shape: shape of one input, without the batch.

    Returns:
        The metric, larger is better.
    """
    parameters = {
        name: parameter.detach().double().abs().requires_grad_() for name, parameter in network.named_parameters()
    }
    buffers = {
        name: buffer.double() if buffer.is_floating_point() else buffer for name, buffer in network.named_buffers()
    }
    names = [
        f"{name}.weight" if name else "weight"
        for name, module in network.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    weights = [parameters[name] for name in names if name in parameters]
    if not weights:
        return 0.0
    ones = torch.ones(1, *input_shape, dtype=torch.float64, device=weights[0].device)
    with unharmed(network), _without_batch_norm(network), torch.enable_grad():
        network.train()
        output: Tensor = functional_call(network, (parameters, buffers), (ones,))
        # A weight whose way to the output is cut has no gradient, and adds nothing.
        gradients = torch.autograd.grad(output.sum(), weights, allow_unused=True)
    flows = [(w * g.log1p()).abs().sum() for w, g in zip(weights, gradients, strict=True) if g is not None]
    return float(torch.stack(flows).sum().detach()) if flows else 0.0


@contextmanager
def _without_batch_norm(network: nn.Module) -> Iterator[None]:
    """Make every batch norm the identity; an attribute of the instance hides the method and goes again."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    try:
        for norm in norms:
            norm.__dict__["forward"] = lambda x: x
        yield
    finally:
        for norm in norms:
            norm.__dict__.pop("forward", None)
