"""All proxies of one network, from as few passes as they need."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor, nn

from freerea_patch.errors import unknown_name
from freerea_patch.evaluation import Measured
from freerea_patch.networks.cost import network_cost
from freerea_patch.training_free.live import _Clock
from freerea_seval.proxies import PROXIES
from freerea_seval.proxies.convolutions import Asked
from freerea_seval.proxies.gradient_passes import SharedPass, prepared, weighted_layers
from freerea_seval.proxies.jacobian import correlations, epe_nas, jacov
from freerea_seval.proxies.per_network import grasp, synflow, zen

#: Who needs the shared forward pass, the gradient of the images, and that of the weights.
_OF_IMAGES = ("epe_nas", "jacov")
_OF_WEIGHTS = ("fisher", "grad_norm", "grasp", "plain", "snip")
_FORWARD = (*_OF_IMAGES, *_OF_WEIGHTS, "nwot")


def zero_cost_proxies(
    network: nn.Module,
    images: Tensor,
    labels: Tensor | None = None,
    names: Collection[str] = PROXIES,
    *,
    seed: int = 0,
) -> dict[str, Measured]:
    """Compute proxies of a classification network with the weights that it has.

    A pass that several of the named proxies need is run once, and its seconds are split evenly between
    them. The network runs in training mode and comes back as it was: weights, gradients, buffers, modes.

    Args:
        network: maps ``(n, c, h, w)`` to ``(n, classes)``.
        images: ``(n, c, h, w)``, on the network's device.
        labels: ``(n,)`` classes; None draws them evenly from the network's classes.
        names: which of :data:`~freerea_seval.proxies.PROXIES`.
        seed: fixes drawn labels, and the weights and the noise of zen.

    Returns:
        Value and seconds by name. A value that does not exist is NaN, or minus infinity where it is the
        logarithm of nothing: nothing a search can take for a good network.

    Raises:
        InputError: an unknown name.
        ValueError: the network's output is not ``(n, classes)``; it has no ``nn.ReLU`` module, for nwot, or
            no map of features, for zen; a label is out of range.
    """
    for name in names:
        if name not in PROXIES:
            raise unknown_name("zero-cost proxy", name, PROXIES)
    run = _Run(network, images, labels, [name for name in PROXIES if name in names], seed)
    return run.measure()


class _Run:
    def __init__(self, network: nn.Module, images: Tensor, labels: Tensor | None, names: list[str], seed: int) -> None:
        self.network = network
        self.images = images
        self.labels = labels
        self.names = names
        self.seed = seed
        self.values: dict[str, float] = {}
        self.seconds = dict.fromkeys(names, 0.0)
        self.clock = _Clock(images.device)

    def measure(self) -> dict[str, Measured]:
        if any(name in _FORWARD for name in self.names):
            with prepared(self.network, again="grasp" in self.names) as asked:
                self._shared(asked)
        input_shape = tuple(self.images.shape[1:])
        if "l2_norm" in self.names:
            norms = [float(layer.weight.detach().norm()) for layer in weighted_layers(self.network)]
            self._done("l2_norm", math.fsum(norms))
        costs = [name for name in ("flops", "params") if name in self.names]
        if costs:
            cost = network_cost(self.network, input_shape)
            self.values |= {name: getattr(cost, name) / 1e6 for name in costs}
            self._charge(*costs)
        if "synflow" in self.names:
            self._done("synflow", synflow(self.network, input_shape))
        if "zen" in self.names:
            self._done("zen", zen(self.network, self.images.shape, self.seed))
        return {name: Measured(self.values[name], self.seconds[name]) for name in self.names}

    def _shared(self, asked: Asked) -> None:
        of_images = [name for name in _OF_IMAGES if name in self.names]
        of_weights = [name for name in _OF_WEIGHTS if name in self.names]
        outputs = not {"fisher", "grasp"}.isdisjoint(self.names)
        run = SharedPass(self.network, asked, self.images, kernel="nwot" in self.names, outputs=outputs)
        self._charge(*(name for name in _FORWARD if name in self.names))
        if "nwot" in self.names:
            self._done("nwot", run.kernel.log_determinant())
        labels = self._labels(run.logits.shape[1]) if of_weights or "epe_nas" in self.names else None
        if of_images:
            correlation = correlations(run.jacobian())
            self._charge(*of_images)
            if "jacov" in self.names:
                self._done("jacov", jacov(correlation))
            if "epe_nas" in self.names and labels is not None:
                self._done("epe_nas", epe_nas(correlation, labels, run.logits.shape[1]))
        if of_weights and labels is not None:
            gradients, fisher = run.gradients(labels, again="grasp" in self.names, saliency="fisher" in self.names)
            self._charge(*of_weights)
            self._of_weights(run, gradients, fisher)

    def _of_weights(self, run: SharedPass, gradients: list[Tensor], fisher: float) -> None:
        """Rate weights by their gradients: see the sources' :data:`~freerea_seval.sources.registry.BUILTIN`."""
        if "fisher" in self.names:
            self._done("fisher", fisher)
        pairs = [(w.detach(), g.detach()) for w, g in zip(run.weights, gradients, strict=True)]
        if "grad_norm" in self.names:
            # The norms of the layers, added (Abdelfattah 2021).
            self._done("grad_norm", math.fsum(float(g.norm()) for _, g in pairs))
        if "plain" in self.names:
            # Without absolute values (Mozer 1988).
            self._done("plain", math.fsum(float((w * g).sum()) for w, g in pairs))
        if "snip" in self.names:
            # The derivative by a mask of ones on the weights is w g (Lee 2019).
            self._done("snip", math.fsum(float((w * g).abs().sum()) for w, g in pairs))
        if "grasp" in self.names:
            self._done("grasp", grasp(run.weights, gradients, run.flows))

    def _labels(self, classes: int) -> Tensor:
        labels = self.labels
        if labels is None:
            generator = torch.Generator().manual_seed(self.seed)
            labels = torch.randint(classes, (len(self.images),), generator=generator)
        elif not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise ValueError(f"expected labels from 0 to {classes - 1}, got {int(labels.min())} to {int(labels.max())}")
        return labels.to(self.images.device)

    def _done(self, name: str, value: float) -> None:
        self.values[name] = value
        self._charge(name)

    def _charge(self, *names: str) -> None:
        """Split the time since the last charge."""
        self.clock.lap("")
        seconds = self.clock.seconds.pop("")
        for name in names:
            self.seconds[name] += seconds / len(names)
