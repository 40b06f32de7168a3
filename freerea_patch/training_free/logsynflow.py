"""logsynflow: synaptic flow with its gradient on a log scale (Cavagnero 2023, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from freerea_patch.networks.nats import Cell
from freerea_patch.networks.weights import unharmed
from freerea_patch.training_free.quick import Forward, cell_forward, instead


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
    names: list[str] = []
    buffers: dict[str, Tensor] = {}
    forwards: dict[nn.Module, Forward] = {}
    for name, module in network.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(module, _BatchNorm):
            forwards[module] = _identity
            continue
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            names.append(f"{prefix}weight")
        elif type(module) is Cell and (quick := cell_forward(module)):
            forwards[module] = quick
        for own, buffer in module.named_buffers(recurse=False):
            buffers[prefix + own] = buffer.double() if buffer.is_floating_point() else buffer.clone()
    weights = [parameters[name] for name in names if name in parameters]
    if not weights:
        return 0.0
    ones = torch.ones(1, *input_shape, dtype=torch.float64, device=weights[0].device)
    with unharmed(network, untouched=set(network.modules())), instead(forwards), torch.enable_grad():
        network.train()
        output: Tensor = functional_call(network, (parameters, buffers), (ones,))
        # A weight whose way to the output is cut has no gradient, and adds nothing.
        gradients = torch.autograd.grad(output.sum(), weights, allow_unused=True)
    pairs = zip(weights, gradients, strict=True)
    flows = [g.log1p().mul_(w.detach()).abs_().sum() for w, g in pairs if g is not None]
    return float(torch.stack(flows).sum()) if flows else 0.0


def _identity(x: Tensor) -> Tensor:
    return x
