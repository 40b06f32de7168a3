"""The formulas of single proxies: jacov and epe_nas of the Jacobian, grasp, synflow and depth, zen, meco and zico."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.func import functional_call

from freerea_patch.networks import preserve_state
from freerea_patch.training_free import IdentityNorms, depthwise, layer_weights, replace_forwards
from freerea_seval.proxies.fresh import fresh_state, generator_for, standard_noise, without_dropout

Layer = nn.Conv2d | nn.Linear


def weighted_layers(network: nn.Module) -> list[Layer]:
    """Return the convolutions and linear layers, whose weights the proxies rate (Abdelfattah 2021).

    Of a layer with a parametrisation, such as weight norm, these are the parameters that the weight is computed from.
    """
    return [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]


def check_logits(logits: object, images: int) -> None:
    """Make sure that a network's output is ``(images, classes)``.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != images:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"expected an output of shape ({images}, classes), got {shape}")


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


def synaptic_flow(network: nn.Module, input_shape: tuple[int, ...]) -> tuple[float, float]:
    """Return synflow and depth, which share a pass.

    In the pass, all parameters are replaced by their absolute values and every norm by the identity, for one input of
    ones, in double precision. g is the gradient of the summed output R. The network computes with copies.

    - synflow is the logarithm of ``sum |w g|`` (Tanaka 2020), as the benchmark publishes it.
    - depth is ``sum |w g| / R``, the mean number of weighted layers on a path to the output. R is the sum over paths of
      the products of their weights, and ``sum w g`` of one layer the part of R whose paths have a weight of the layer,
      because R is homogeneous of degree one in it: the conservation of synaptic flow (Tanaka 2020, section 4). A path
      starts at the input or at a bias. Where Softmax multiplies activations, R is no sum over paths, and depth is the
      ratio alone.

    Returns:
        Both, larger is better; synflow is minus infinity where nothing flows, depth NaN where R is not positive.
    """
    parameters = {name: p.detach().double().abs().requires_grad_() for name, p in network.named_parameters()}
    buffers = {name: b.double() if b.is_floating_point() else b for name, b in network.named_buffers()}
    owners = {id(p): name for name, p in network.named_parameters()}
    weights = [parameters[owners[id(w)]] for layer in weighted_layers(network) for w in layer_weights(layer)]
    if not weights:
        return -math.inf, math.nan
    ones = torch.ones(1, *input_shape, dtype=torch.float64, device=weights[0].device)
    with ExitStack() as stack:
        stack.enter_context(preserve_state(network))
        # In eval mode, so that nothing is dropped at random.
        network.eval()
        with torch.enable_grad():
            with IdentityNorms(network):
                output: Tensor = functional_call(network, (parameters, buffers), (ones,))
            if not isinstance(output, Tensor):
                raise TypeError(f"expected a network that returns one tensor, got {type(output).__name__}")
            if not output.requires_grad:
                return -math.inf, math.nan
            summed = output.sum()
            gradients = torch.autograd.grad(summed, weights, allow_unused=True)
    flows = ((w.detach() * g).abs().sum() for w, g in zip(weights, gradients, strict=True) if g is not None)
    total, reached = math.fsum(map(float, flows)), float(summed.detach())
    if not math.isfinite(total):
        return math.nan, math.nan
    depth = total / reached if math.isfinite(reached) and reached > 0 else math.nan
    return math.log(total) if total > 0 else -math.inf, depth


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
    generator = generator_for(network, seed)
    state, variances = fresh_state(network, generator)
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

    noises = [standard_noise(network, images_shape, generator) for _ in range(2)]
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


@torch.no_grad()
def meco(network: nn.Module, input_shape: Sequence[int], seed: int) -> float:
    """Return the sum over modules of the smallest eigenvalue of their channels' correlation (Jiang 2023).

    Input is one image of standard normal noise; batch norms normalise by it, and nothing is dropped at random. As in
    the public code, every module counts, also one that only contains others, and rows are the first axis behind the
    batch: a map's channels, a transformer's tokens. The smallest eigenvalue is 0 where a row is constant, or where
    there are no more columns than rows.

    Args:
        network: the module to rate, with its present weights.
        input_shape: ``(c, h, w)``. The public code takes 64x64 pixels in one place and 32x32 in another.
        seed: fixes the noise.

    Returns:
        The score, larger is better; NaN where a feature is infinite or NaN.
    """
    noise = standard_noise(network, (1, *input_shape), generator_for(network, seed))
    eigenvalues: list[float] = []
    # A container returns the output of its last module.
    last: tuple[Tensor | None, int, float] = (None, 0, 0.0)

    def add(module: nn.Module, args: object, output: object) -> None:
        nonlocal last
        if isinstance(output, (tuple, list)):
            output = next((part for part in output if isinstance(part, Tensor)), None)
        if isinstance(output, Tensor) and output.dim() > 2:
            if last[0] is not output or last[1] != output._version:
                last = output, output._version, _least_eigenvalue(widened(output[0].flatten(start_dim=1)))
            eigenvalues.append(last[2])

    # Edges that cannot change the output have features nevertheless.
    with without_dropout(network, batch_statistics=True, faster=(nn.AvgPool2d,)) as stack:
        for module in network.modules():
            stack.callback(module.register_forward_hook(add).remove)
        network(noise)
    return math.fsum(eigenvalues)


def _least_eigenvalue(rows: Tensor) -> float:
    """Return the smallest eigenvalue of the correlation of rows ``(c, positions)``; that with a constant row is 0."""
    rows = rows - rows.mean(dim=1, keepdim=True)
    norms = rows.norm(dim=1, keepdim=True)
    if not torch.isfinite(norms).all():
        return math.nan
    # The correlation is positive semidefinite, and of a lower rank than its size in these cases.
    if rows.shape[1] <= rows.shape[0] or (norms == 0).any():
        return 0.0
    rows = rows / norms
    return float(torch.linalg.eigvalsh(rows @ rows.T)[0])


def zico(gradients: Sequence[Sequence[Tensor]]) -> float:
    """Return the sum over layers of ``log sum(mean |g| / deviation of g)``, larger is better (Li 2023).

    Mean and deviation of each weight's gradient are over parts of the batch. A weight whose gradient is the same in
    all parts is left out, and so is a layer without another weight.

    Args:
        gradients: of every part, the gradient of each layer's weight.
    """
    logs = []
    for layer in zip(*gradients, strict=True):
        stacked = torch.stack([widened(gradient).flatten() for gradient in layer])
        deviation = stacked.std(dim=0, correction=0)
        moved = deviation != 0  # also NaN
        ratios = stacked.abs().mean(dim=0)[moved] / deviation[moved]
        if total := float(ratios.sum()):
            logs.append(math.log(total))
    return math.fsum(logs)
