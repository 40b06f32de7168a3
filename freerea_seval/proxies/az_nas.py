"""Expressivity, progressivity and trainability of AZ-NAS, from the features of a network's blocks (Lee 2024)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from freerea_patch.training_free import FromEmbedding
from freerea_seval.proxies.fresh import fresh_state, generator_for, kaiming, standard_noise, without_dropout
from freerea_seval.proxies.per_network import weighted_layers, widened


def blocks(network: nn.Module) -> list[nn.Module]:
    """Return the blocks whose outputs are features: the outermost modules with children that a container holds.

    A container is a ``Sequential`` or a module without a forward pass, such as a ``ModuleList``. One that holds modules
    with children is opened; another one, such as convolution, norm and activation, is a block in the container that
    holds it. These are the cells of NATS-Bench's networks with the stem and the blocks between stages, the residual
    blocks of a ResNet, the layers of a transformer. In a network without blocks, each convolution or linear layer is
    one.
    """
    blocks: list[nn.Module] = []

    def enter(module: nn.Module) -> None:
        for child in module.children():
            if _is_container(module) and _is_parent(child) and not _is_opened(child):
                blocks.append(child)
            else:
                enter(child)

    enter(network)
    return blocks or list(weighted_layers(network))


def _is_container(module: nn.Module) -> bool:
    return type(module).forward in (nn.Sequential.forward, nn.Module.forward)


def _is_parent(module: nn.Module) -> bool:
    return next(module.children(), None) is not None


def _is_opened(module: nn.Module) -> bool:
    return _is_container(module) and any(map(_is_parent, module.children()))


class NoiseFeatures:
    """The features of a network for noise: what enters the first block, and what each block returns.

    As in the public code, weights are Kaiming normal, fan-in, and the batch is standard normal noise. Batch norms
    normalise by the batch, and nothing is dropped at random, where the public code has the training mode for
    convolutional networks and the eval mode for transformers. A feature is a map ``(n, c, h, w)`` or tokens
    ``(n, t, c)``; outputs of other shapes, such as the classifier's, and the images themselves are none.

    Args:
        network: the module to rate; it keeps its own weights.
        images_shape: ``(n, c, h, w)``.
        seed: fixes weights, noise and signs.
        own_weights: take the weights of the network instead of new ones, and keep no graph, so that there is no
            trainability.

    Attributes:
        features: in the order of the blocks.

    Raises:
        ValueError: no block returns a feature.
    """

    def __init__(
        self, network: nn.Module, images_shape: Sequence[int], seed: int, *, own_weights: bool = False
    ) -> None:
        self._generator = generator_for(network, seed)
        if own_weights:
            state = {name: p.detach() for name, p in network.named_parameters()}
        else:
            state, _ = fresh_state(network, self._generator, kaiming)
        noise = standard_noise(network, images_shape, self._generator)
        # What needs a gradient depends on weights: no feature is the image, whatever shape it was brought to.
        parameters = () if own_weights else network.named_parameters()
        state |= {name: state[name].requires_grad_() for name, p in parameters if p.is_floating_point()}
        self._differentiable = not own_weights
        self.features: list[Tensor] = []
        members = blocks(network)

        def enters(module: nn.Module, args: tuple[object, ...]) -> None:
            if not self.features and args:
                self._keep(args[0])

        def leaves(module: nn.Module, args: tuple[object, ...], output: object) -> None:
            self._keep(output[0] if isinstance(output, (tuple, list)) and output else output)

        with without_dropout(network, batch_statistics=True) as stack, torch.set_grad_enabled(self._differentiable):
            for module in network.modules():
                if getattr(module, "inplace", False) is True:  # it would overwrite a feature
                    stack.callback(setattr, module, "inplace", True)
                    module.inplace = False  # type: ignore[assignment]
            if members:
                stack.callback(members[0].register_forward_pre_hook(enters).remove)
            for block in members:
                stack.callback(block.register_forward_hook(leaves).remove)
            output = functional_call(network, state, (noise,))
        if isinstance(network, FromEmbedding) and self.features and self.features[-1] is output:
            self.features.pop()  # logits of all tokens: they are no features, as those of classes are none
        if not self.features:
            raise ValueError("the metric needs blocks that return maps or tokens, and this network has none")

    def _keep(self, feature: object) -> None:
        if isinstance(feature, Tensor) and feature.dim() in (3, 4) and feature.requires_grad is self._differentiable:
            self.features.append(feature)

    def entropies(self) -> list[float]:
        """Return the entropy of the spectrum of each feature's covariance over positions (Lee 2024).

        Minus infinity where a feature is constant, NaN where one is infinite or NaN.
        """
        return [_entropy(rows_of(feature.detach())) for feature in self.features]

    def trainability(self) -> float:
        """Return how near the blocks' Jacobians are to isometries, larger is better (Lee 2024).

        The mean over blocks of ``2 - s - 1 / (s + 1e-6)``, with s the largest singular value of the mean product of the
        gradient of a block's input and random signs as that of its output. Minus infinity where a block is the
        identity, NaN where a gradient is infinite or NaN.

        Raises:
            ValueError: there are fewer than two features, a feature does not depend on the one before, or has more
                positions, or tokens follow a map.
        """
        if len(self.features) < 2:
            raise ValueError("trainability needs two blocks that return maps or tokens, and this network has fewer")
        scores = []
        # From the last block to the first, the order of the public code.
        for before, after in reversed(list(pairwise(self.features))):
            chance = torch.full(after.shape, 0.5, device=after.device)
            signs = (torch.bernoulli(chance, generator=self._generator) * 2 - 1).to(after)
            gradient = _gradient(after, before, signs)
            if not torch.isfinite(gradient).all():
                return math.nan
            if gradient.shape == signs.shape and torch.equal(gradient, signs):
                return -math.inf
            outputs, inputs = rows_of(signs), rows_of(_aligned(gradient, after))
            product = widened(inputs).T @ widened(outputs) / len(outputs)
            norm = float(torch.linalg.matrix_norm(product, 2))
            scores.append(2 - norm - 1 / (norm + 1e-6))
        return math.fsum(scores) / len(scores)


def expressivity(entropies: Sequence[float]) -> float:
    """Return the sum of the features' entropies (Lee 2024)."""
    return sum(entropies)


def progressivity(entropies: Sequence[float]) -> float:
    """Return the least growth of the entropy from a feature to the next (Lee 2024).

    Raises:
        ValueError: there are fewer than two features.
    """
    if len(entropies) < 2:
        raise ValueError("progressivity needs two blocks that return maps or tokens, and this network has fewer")
    if any(map(math.isnan, entropies)):
        return math.nan
    # Minus infinity for a constant feature, also between two of them.
    return -math.inf if -math.inf in entropies else min(after - before for before, after in pairwise(entropies))


def _entropy(rows: Tensor) -> float:
    rows = widened(rows)
    rows = rows - rows.mean(dim=0, keepdim=True)
    covariance = rows.T @ rows / len(rows)
    if not torch.isfinite(covariance).all():
        return math.nan
    # A covariance has no negative eigenvalue but by rounding.
    eigenvalues = torch.linalg.eigvalsh(covariance.double()).clamp_min(0)
    total = float(eigenvalues.sum())
    if total <= 0:
        return -math.inf
    shares = eigenvalues / total
    return -float((shares * (shares + 1e-8).log()).sum())


def rows_of(feature: Tensor) -> Tensor:
    """Return the vectors ``(n * positions, c)`` of a map or of tokens."""
    if feature.dim() == 4:
        feature = feature.permute(0, 2, 3, 1)
    return feature.reshape(-1, feature.shape[-1])


def _gradient(after: Tensor, before: Tensor, signs: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(after, before, signs, retain_graph=True, allow_unused=True)
    if gradient is None:
        raise ValueError("trainability needs blocks that follow each other, and these do not")
    return gradient


def _aligned(gradient: Tensor, after: Tensor) -> Tensor:
    """Return the gradient of a block's input with as many positions as its output, the further ones as channels.

    At a ratio that is no whole number, the gradient is cropped or filled with zeros at the border.
    """
    if gradient.dim() != after.dim() or (gradient.dim() == 3 and gradient.shape[:2] != after.shape[:2]):
        raise ValueError(f"trainability of blocks from {tuple(gradient.shape)} to {tuple(after.shape)} is not defined")
    if gradient.dim() == 3 or gradient.shape[2:] == after.shape[2:]:
        return gradient
    height, width = after.shape[2:]
    stride = round(gradient.shape[2] / height)
    if stride < 1 or stride != round(gradient.shape[3] / width):
        raise ValueError(f"trainability of blocks from {tuple(gradient.shape)} to {tuple(after.shape)} is not defined")
    border = (0, stride * width - gradient.shape[3], 0, stride * height - gradient.shape[2])
    return functional.pixel_unshuffle(functional.pad(gradient, border), stride)
