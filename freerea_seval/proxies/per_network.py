"""The formulas of single proxies: jacov and epe_nas of the Jacobian, grasp, synflow and zen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from freerea_patch.networks import preserve_state
from freerea_patch.training_free import IdentityNorms, depthwise, layer_weights, replace_forwards

Layer = nn.Conv2d | nn.Linear


def weighted_layers(network: nn.Module) -> list[Layer]:
    """Return the convolutions and linear layers, whose weights the proxies rate (Abdelfattah 2021).

    Of a layer with a parametrisation, such as weight norm, these are the parameters that the weight is computed from.
    """
    return [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]


def widened(values: Tensor) -> Tensor:
    """Return values without their graph, those of half precision in float32, whose sums do not overflow."""
    return values.detach() if values.dtype.itemsize > 2 else values.detach().float()


#: Keeps logarithms finite, as in the code of both papers.
_K = 1e-5
#: With more classes, epe_nas compares the classes' scores instead of adding them (Lopes 2021).
_MANY_CLASSES = 100


def correlations(jacobian: Tensor) -> Tensor:
    """Return the ``(n, n)`` correlation coefficients of the rows of an ``(n, d)`` Jacobian, in float64.

    The correlation with a constant row is NaN, such as where no path leads to the output.
    """
    rows = jacobian.double()
    rows = rows - rows.mean(dim=1, keepdim=True)
    rows = rows / rows.norm(dim=1, keepdim=True)
    correlation: Tensor = rows @ rows.T
    return correlation.clamp(-1, 1)


def jacov(correlation: Tensor) -> float:
    """Return ``-sum(log(v + k) + 1 / (v + k))`` over the eigenvalues v (Mellor 2020).

    Args:
        correlation: ``(n, n)``, see :func:`correlations`.

    Returns:
        The score, larger is better; NaN where a correlation is.
    """
    if not torch.isfinite(correlation).all():
        return math.nan
    shifted = torch.linalg.eigvalsh(correlation) + _K
    return float(-(shifted.log() + 1 / shifted).sum())


def epe_nas(correlation: Tensor, labels: Tensor, classes: int) -> float:
    """Return how strongly the gradients of each class's images correlate (Lopes 2021).

    A class scores ``sum log(|c| + k)`` over the correlations c within it. Up to a hundred classes, the
    absolute scores are added; with more, a class's score is a mean over its images, and the absolute
    differences of all pairs are added and divided by the number of classes in the batch.

    Args:
        correlation: ``(n, n)``, see :func:`correlations`.
        labels: ``(n,)``.
        classes: number of the network's classes.

    Returns:
        The score, larger is better; NaN where a correlation is.
    """
    logs = (correlation.abs() + _K).log()
    same = (labels[:, None] == labels[None, :]).to(logs.dtype)
    # Sums over pairs within a class, gathered by the class of the first image.
    present, class_index, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    scores = torch.zeros(len(present), dtype=logs.dtype, device=logs.device)
    scores.index_add_(0, class_index, (logs * same).sum(dim=1))
    if classes <= _MANY_CLASSES:
        return float(scores.abs().sum())
    scores = scores / counts
    return float((scores[:, None] - scores[None, :]).abs().sum() / len(present))


def grasp(weights: Sequence[Tensor], gradients: Sequence[Tensor], flows: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Return ``-sum(w * Hg)`` over all weights, with the sign of the zero-cost benchmarks (Wang 2020).

    H is symmetric, and ``g + Hw`` is the derivative of ``sum(w * g)``.

    Args:
        weights: the weights.
        gradients: their gradients.
        flows: pairs of tensors whose products add up to ``sum(w * g)``, with the graph that computed them.
    """
    # A layer that nothing reads has zeros without a graph.
    pairs_with_graph = [
        (one, other.detach()) for pair in flows for one, other in (pair, pair[::-1]) if one.requires_grad
    ]
    if not pairs_with_graph:
        return 0.0
    outputs, factors = zip(*pairs_with_graph, strict=True)
    derivatives = torch.autograd.grad(outputs, list(weights), factors, allow_unused=True)
    pairs = ((widened(g), widened(d)) for g, d in zip(gradients, derivatives, strict=True) if d is not None)
    return -math.fsum(float((g * (d - g)).sum()) for g, d in pairs)


def synflow(network: nn.Module, input_shape: tuple[int, ...]) -> float:
    """Return the logarithm of ``sum |w g|`` (Tanaka 2020), as the benchmark publishes it.

    g is the gradient of the summed output for one input of ones, with all parameters replaced by their
    absolute values and every norm by the identity, in double precision. The network computes with copies.

    Returns:
        The score, larger is better; minus infinity where nothing flows.
    """
    parameters = {name: p.detach().double().abs().requires_grad_() for name, p in network.named_parameters()}
    buffers = {name: b.double() if b.is_floating_point() else b for name, b in network.named_buffers()}
    owners = {id(p): name for name, p in network.named_parameters()}
    weights = [parameters[owners[id(w)]] for layer in weighted_layers(network) for w in layer_weights(layer)]
    if not weights:
        return -math.inf
    ones = torch.ones(1, *input_shape, dtype=torch.float64, device=weights[0].device)
    with ExitStack() as stack:
        stack.enter_context(preserve_state(network))
        # In eval mode, so that nothing is dropped at random.
        network.eval()
        with torch.enable_grad():
            with IdentityNorms():
                output: Tensor = functional_call(network, (parameters, buffers), (ones,))
            if not isinstance(output, Tensor):
                raise TypeError(f"expected a network that returns one tensor, got {type(output).__name__}")
            if not output.requires_grad:
                return -math.inf
            gradients = torch.autograd.grad(output.sum(), weights, allow_unused=True)
    flows = ((w.detach() * g).abs().sum() for w, g in zip(weights, gradients, strict=True) if g is not None)
    total = math.fsum(map(float, flows))
    if not math.isfinite(total):
        return math.nan
    return math.log(total) if total > 0 else -math.inf


#: The size of the second noise in zen (Lin 2021).
_MIXUP = 1e-2


@torch.no_grad()
def zen(network: nn.Module, images_shape: Sequence[int], seed: int) -> float:
    """Return the Zen-score: how far a small step in the input moves the features (Lin 2021).

    Convolutions and linear layers get standard normal weights and biases 0, norms weight 1 and bias 0 and
    fresh statistics; all of them copies. Two batches of standard normal noise a and b: the logarithm of
    the mean over images of ``|features(a) - features(a + 0.01 b)|``, summed over positions and channels,
    plus ``log sqrt(mean variance)`` of every batch norm after the two passes. Features are the last map
    with more than one position that a module without children returns: what global pooling gets.

    Args:
        network: the module to rate.
        images_shape: ``(n, c, h, w)``.
        seed: fixes weights and noise.

    Returns:
        The score, larger is better; minus infinity where the input moves nothing; NaN where a feature is infinite or
        NaN.

    Raises:
        ValueError: no module returns a map.
    """
    first = next(network.parameters(), torch.empty(0))
    generator = torch.Generator(first.device).manual_seed(seed)
    # Tied weights have one name here, which functional_call spreads to all.
    owners = {id(p): name for name, p in network.named_parameters()}
    state = {name: p.detach() for name, p in network.named_parameters()}
    state |= {name: b.detach().clone() for name, b in network.named_buffers()}
    variances = []
    for prefix, module in network.named_modules():
        weight, bias = module._parameters.get("weight"), getattr(module, "bias", None)
        weights = layer_weights(module) if isinstance(module, (nn.Conv2d, nn.Linear)) else []
        if weights:
            state |= {owners[id(given)]: _drawn(given, generator) for given in weights}
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
    maps: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[object, ...], output: object) -> None:
        if isinstance(output, Tensor) and output.dim() > 2 and output[0, 0].numel() > 1:
            maps[:] = [output]

    def features(noise: Tensor) -> Tensor:
        maps.clear()
        functional_call(network, state, (noise,))
        if not maps:
            raise ValueError("zen needs a module that returns a map of features, and this network has none")
        # A later module may work in place.
        return maps[0].clone()

    noises = [
        torch.randn(*images_shape, generator=generator, dtype=first.dtype, device=first.device).contiguous(
            memory_format=_layout(first)
        )
        for _ in range(2)
    ]
    with ExitStack() as stack:
        stack.enter_context(preserve_state(network))
        pools = {module: depthwise(module) for module in network.modules() if type(module) is nn.AvgPool2d}
        stack.enter_context(replace_forwards({pool: forward for pool, forward in pools.items() if forward}))
        network.train()
        for module in network.modules():
            if all(name == "parametrizations" for name, _ in module.named_children()):
                stack.callback(module.register_forward_hook(keep).remove)
        moved = widened(features(noises[0]) - features(noises[0] + _MIXUP * noises[1]))
    distance = float(moved.abs().flatten(start_dim=1).sum(dim=1).mean())
    scales = [float(widened(variance).mean()) for variance in variances]
    if not all(map(math.isfinite, (distance, *scales))):
        return math.nan
    if distance <= 0 or any(scale <= 0 for scale in scales):
        return -math.inf
    return math.log(distance) + 0.5 * math.fsum(map(math.log, scales))


def _drawn(weight: Tensor, generator: torch.Generator) -> Tensor:
    """Return standard normal numbers in a weight's layout, the same whatever that is."""
    numbers = torch.randn(weight.shape, generator=generator, dtype=weight.dtype, device=weight.device)
    return torch.empty_like(weight, requires_grad=False).copy_(numbers)


def _layout(weight: Tensor) -> torch.memory_format:
    """Return the layout that the network was put into."""
    channels_last = weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format
