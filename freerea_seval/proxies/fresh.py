"""New weights and noise for proxies that prescribe both: zen, AZ-NAS and VKDNW. The network keeps its own weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from freerea_patch.networks import Cell, preserve_state
from freerea_patch.training_free import Forward, cell_forward, depthwise, layer_weights, replace_forwards

#: The parameters and buffers of a network by name, for ``torch.func.functional_call``.
State = dict[str, Tensor]


def kaiming(weight: Tensor) -> float:
    """Return the deviation of Kaiming normal initialisation, fan-in, ReLU gain (He 2015, equation 10)."""
    return math.sqrt(2 / max(1, weight[0].numel())) if weight.dim() else 1.0


def fresh_state(
    network: nn.Module, generator: torch.Generator, deviation: Callable[[Tensor], float] = lambda weight: 1.0
) -> tuple[State, list[Tensor]]:
    """Return new parameters and buffers.

    Convolutions and linear layers get normal weights and biases 0, norms over batches or groups weight 1, bias 0 and
    fresh statistics; all else is copied.

    Args:
        network: the module that they are for.
        generator: source of randomness, on the device of the weights.
        deviation: the standard deviation of a weight.

    Returns:
        Values by name, and those of them that are running variances.
    """
    # Tied weights have one name here, which functional_call spreads to all.
    owners = {id(p): name for name, p in network.named_parameters()}
    state = {name: p.detach() for name, p in network.named_parameters()}
    state |= {name: b.detach().clone() for name, b in network.named_buffers()}
    variances = []
    for prefix, module in network.named_modules():
        weight, bias = module._parameters.get("weight"), getattr(module, "bias", None)
        weights = layer_weights(module) if isinstance(module, (nn.Conv2d, nn.Linear)) else []
        if weights:
            state |= {owners[id(w)]: _drawn(w, generator).mul_(deviation(w)) for w in weights}
        elif isinstance(module, (_BatchNorm, nn.GroupNorm)) and weight is not None:
            state[owners[id(weight)]] = torch.ones_like(weight, requires_grad=False)
        else:
            bias = None
        if id(bias) in owners:
            state[owners[id(bias)]] = torch.zeros_like(module.bias)
        if isinstance(module, _BatchNorm) and module.running_var is not None:
            dot = f"{prefix}." if prefix else ""
            state[f"{dot}running_mean"].zero_()
            variances.append(state[f"{dot}running_var"].fill_(1))
    return state, variances


def _drawn(weight: Tensor, generator: torch.Generator) -> Tensor:
    """Return standard normal numbers in a weight's layout, the same whatever that is."""
    numbers = torch.randn(weight.shape, generator=generator, dtype=weight.dtype, device=weight.device)
    return torch.empty_like(weight, requires_grad=False).copy_(numbers)


def generator_for(network: nn.Module, seed: int) -> torch.Generator:
    """Return a source of randomness on the device of a network's parameters."""
    return torch.Generator(_first(network).device).manual_seed(seed)


def standard_noise(network: nn.Module, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return standard normal noise of a shape, in the dtype and the layout of a network's first parameter."""
    first = _first(network)
    noise = torch.randn(*shape, generator=generator, dtype=first.dtype, device=first.device)
    channels_last = first.dim() == 4 and first.is_contiguous(memory_format=torch.channels_last)
    return noise.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _first(network: nn.Module) -> Tensor:
    return next(network.parameters(), torch.empty(0))


@contextmanager
def without_dropout(
    network: nn.Module, *, batch_statistics: bool, faster: Collection[type[nn.Module]] = (nn.AvgPool2d, Cell)
) -> Iterator[ExitStack]:
    """Put a network into eval mode, with faster equivalents of its poolings and cells, and restore it afterwards.

    Args:
        network: the module.
        batch_statistics: whether batch norms normalise by the batch, as in training mode.
        faster: the kinds of modules with equivalents; a cell's leaves out edges that cannot change the output.

    Yields:
        A stack of callbacks for the end.
    """
    forwards: dict[nn.Module, Forward] = {}
    for module in network.modules():
        fast: Forward | None = None
        if type(module) is nn.AvgPool2d and nn.AvgPool2d in faster:
            fast = depthwise(module)
        elif type(module) is Cell and Cell in faster:
            fast = cell_forward(module)
        if fast:
            forwards[module] = fast
    with ExitStack() as stack:
        stack.enter_context(preserve_state(network))
        stack.enter_context(replace_forwards(forwards))
        # In eval mode, transformer layers may run as one operation, which calls no hooks and lacks derivatives.
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        network.eval()
        for module in network.modules():
            if batch_statistics and isinstance(module, _BatchNorm):
                module.train()
        yield stack
