"""VKDNW: how even the eigenvalues of the Fisher information of a network's first layers are (Tybl 2025)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from freerea_seval.proxies.fresh import State, fresh_state, generator_for, kaiming, standard_noise, without_dropout
from freerea_seval.proxies.per_network import check_logits

#: The public code takes the first so many parameter tensors.
_TENSORS = 128
#: The share of the uniform distribution that it mixes into the softmax, so that no probability is zero.
_UNIFORM = 0.05
#: How far both sides of the check in :func:`jacobian` may differ, as a share of the sum of absolute values.
_TOLERANCE = 1e-3


def vkdnw(network: nn.Module, images_shape: Sequence[int], seed: int) -> float:
    """Return the entropy of the deciles of the eigenvalues of the Fisher information (Tybl 2025).

    The Fisher information is that of one weight, the first, of each of the first 128 parameter tensors, of layers
    and norms, weights and biases alike: the mean over images of ``J^T (diag p - p p^T) J``, with p the softmax and J
    the logits' derivative. As in the public code, weights are Kaiming normal, fan-in, the batch is standard normal
    noise, and the network is in eval mode, where the norms of a network that has seen no images are the identity;
    running statistics are those of such a network here too. Unlike the public code, which multiplies J by the factor L
    of the covariance ``L L^T`` where the formula has its transpose, this is the paper's matrix.

    Args:
        network: the module to rate, with an output ``(n, classes)``; it keeps its own weights.
        images_shape: ``(n, c, h, w)``.
        seed: fixes weights and noise.

    Returns:
        The score from 0 to ``log 9``, larger is better; NaN where a derivative is infinite or NaN.
    """
    generator = generator_for(network, seed)
    state, _ = fresh_state(network, generator, kaiming)
    noise = standard_noise(network, images_shape, generator)
    logits, derivatives = jacobian(network, state, noise, [name for name, _ in network.named_parameters()][:_TENSORS])
    if not (torch.isfinite(logits).all() and torch.isfinite(derivatives).all()):
        return math.nan
    probabilities = (1 - _UNIFORM) * logits.softmax(dim=1) + _UNIFORM / logits.shape[1]
    means = torch.einsum("nc,ncp->np", probabilities, derivatives)
    # The covariance of the softmax is diag p - p p^T.
    scaled = ((derivatives - means[:, None]) * probabilities[:, :, None].sqrt()).flatten(0, 1)
    eigenvalues = torch.linalg.eigvalsh(scaled.T @ scaled / len(logits)).clamp_min(0)
    deciles = torch.quantile(eigenvalues, torch.arange(0.1, 1, 0.1, dtype=eigenvalues.dtype).to(eigenvalues.device))
    shares = deciles / (deciles.sum() + 1e-10)
    return -float((shares * (shares + 1e-10).log()).sum())


def jacobian(network: nn.Module, state: State, images: Tensor, names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return the logits ``(n, classes)`` and their derivatives by the first entries of parameters, in float64.

    In eval mode an image's logits depend on no other image, so that one backward pass a class gives the gradient of
    every layer's output for all images. Its product with the layer's own derivative, a map with one channel, is summed
    over positions. That holds for layers with the batch as their first axis, whose weight nothing else reads; the
    backward pass of a random combination of all logits checks it, and what differs, such as the projections of
    ``nn.MultiheadAttention`` and embeddings, is differentiated forwards, a pass a parameter.

    Args:
        network: the module.
        state: its parameters and buffers.
        images: ``(n, c, h, w)``.
        names: of the parameters.

    Returns:
        ``(n, classes)`` and ``(n, classes, parameters)``.

    Raises:
        ValueError: the output is not ``(n, classes)``.
    """
    positions = {name: position for position, name in enumerate(names)}
    given = {name: state[name].detach().requires_grad_() for name in names}
    # Of every parameter of a call: the call, the axis of channels, and the derivative of the first channel, (n, ...).
    slopes: list[tuple[int, int, int, Tensor]] = []
    outputs: list[Tensor] = []

    def keep(prefix: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            axis = _CHANNEL_AXES[type(module)]
            for key, slope in _slopes(module, args[0].detach(), output.detach().select(axis, 0)) if args else ():
                if f"{prefix}{key}" in positions:
                    slopes.append((positions[f"{prefix}{key}"], len(outputs), axis, slope))
            outputs.append(output)
            return output.clone()  # a later module may work in place

        return hook

    with without_dropout(network, batch_statistics=False) as stack, torch.enable_grad():
        for name, module in network.named_modules():
            prefix = f"{name}." if name else ""
            if type(module) in _CHANNEL_AXES and any(f"{prefix}{key}" in positions for key in ("weight", "bias")):
                stack.callback(module.register_forward_hook(keep(prefix)).remove)
        logits = functional_call(network, state | given, (images,))
        check_logits(logits, len(images))
        derivatives = torch.zeros(*logits.shape, len(names), dtype=torch.float64, device=logits.device)
        if not logits.requires_grad:
            return logits.detach().double(), derivatives
        for column in range(logits.shape[1]):
            gradients = torch.autograd.grad(logits[:, column].sum(), outputs, retain_graph=True, allow_unused=True)
            for position, call, axis, slope in slopes:
                gradient = gradients[call]
                if gradient is not None and gradient.numel() % len(images) == 0:
                    products = (gradient.select(axis, 0) * slope).reshape(len(images), -1)
                    derivatives[:, column, position] += products.sum(dim=1)
        directions = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)).to(logits)
        combined = torch.autograd.grad((directions * logits).sum(), [*given.values()], allow_unused=True)
    terms = directions.double()[:, :, None] * derivatives
    expected = torch.stack([derivatives.new_zeros(()) if g is None else g.flatten()[0].double() for g in combined])
    differs = (terms.sum(dim=(0, 1)) - expected).abs() > _TOLERANCE * terms.abs().sum(dim=(0, 1))
    for position in differs.nonzero().flatten().tolist():
        derivatives[:, :, position] = _forwards(network, state, images, names[position])
    return logits.detach().double(), derivatives


#: The layers whose derivative by their own first weight is known, with the axis of their channels.
_CHANNEL_AXES: dict[type[nn.Module], int] = {
    nn.Conv2d: 1,
    nn.Linear: -1,
    nn.BatchNorm1d: 1,
    nn.BatchNorm2d: 1,
    nn.GroupNorm: 1,
    nn.LayerNorm: -1,
}


def _slopes(module: nn.Module, x: Tensor, first: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield the derivatives of a layer's first channel by its first weight and its first bias."""
    yield "bias", torch.ones_like(first)
    if isinstance(module, nn.Linear):
        yield "weight", x[..., 0]
    elif isinstance(module, nn.Conv2d):
        if module.padding_mode == "zeros" and x.dim() == 4:
            corner = torch.zeros_like(module.weight[:1, :1])
            corner[0, 0, 0, 0] = 1
            yield (
                "weight",
                functional.conv2d(x[:, :1], corner, None, module.stride, module.padding, module.dilation)[:, 0],
            )
    elif isinstance(module.weight, Tensor):
        weight = float(module.weight.detach().flatten()[0])
        bias = float(module.bias.detach().flatten()[0]) if isinstance(module.bias, Tensor) else 0.0
        if weight:
            yield "weight", (first - bias) / weight


def _forwards(network: nn.Module, state: State, images: Tensor, name: str) -> Tensor:
    """Return the logits' derivative ``(n, classes)`` by a parameter's first entry, by forward-mode differentiation."""
    tangent = torch.zeros_like(state[name])
    tangent[(0,) * tangent.dim()] = 1

    def logits(value: Tensor) -> Tensor:
        output: Tensor = functional_call(network, state | {name: value}, (images,))
        return output

    # The fused kernels of attention and the faster poolings have no forward-mode derivative.
    with without_dropout(network, batch_statistics=False, faster=()) as stack, torch.enable_grad():
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own use of torch.jit.script
        derivative: Tensor = jvp(logits, (state[name].detach(),), (tangent,))[1]
    return derivative.detach().double()
