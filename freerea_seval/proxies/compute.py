"""All proxies of one network: one forward pass, and one backward pass each for images and for weights, are shared."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from freerea_patch import InputError, Measured, unknown_name
from freerea_patch.networks import Cell, preserve_state
from freerea_patch.training_free import (
    Clock,
    Forward,
    FromEmbedding,
    as_embedded,
    as_parameters,
    cell_forward,
    depthwise,
    layer_weights,
    replace_forwards,
)
from freerea_seval.costs import network_counts
from freerea_seval.proxies import ALL_PROXIES, NOT_OF_TOKENS, PROXIES, second_derivatives
from freerea_seval.proxies.az_nas import NoiseFeatures, expressivity, progressivity
from freerea_seval.proxies.independence import independence
from freerea_seval.proxies.patterns import Patterns
from freerea_seval.proxies.per_network import (
    Layer,
    check_logits,
    correlations,
    epe_nas,
    grasp,
    jacov,
    meco,
    synaptic_flow,
    weighted_layers,
    widened,
    zen,
    zico,
)
from freerea_seval.proxies.vkdnw import vkdnw

#: Proxies by what they need: the gradient of the images, that of the weights, and the shared forward pass.
_OF_IMAGES = ("epe_nas", "jacov")
_OF_WEIGHTS = ("fisher", "grad_norm", "grasp", "plain", "snip")
_PATTERNS = ("nwot", "swap")
_FORWARD = (*_OF_IMAGES, *_OF_WEIGHTS, *_PATTERNS)
#: Proxies of one pass of noise, and of one of synaptic flow.
_OF_NOISE = ("expressivity", "progressivity", "trainability")
_OF_FLOW = ("synflow", "depth")


def zero_cost_proxies(
    network: nn.Module,
    images: Tensor,
    labels: Tensor | None = None,
    names: Collection[str] = PROXIES,
    *,
    seed: int = 0,
) -> dict[str, Measured]:
    """Compute proxies of a classification network with its present weights.

    A pass that several of the named proxies need is run once, and its seconds are split evenly between them. The
    network runs in training mode; its weights, gradients, buffers and modes are restored.

    A language model is rated as a function of its embedding's output, which also takes the place of noise and ones:
    see :class:`~freerea_patch.training_free.FromEmbedding`. Its loss is that of the next token.

    Args:
        network: maps ``(n, c, h, w)`` to ``(n, classes)``, or tokens ``(n, t)`` to logits ``(n, t, vocabulary)``.
        images: ``(n, c, h, w)``, on the network's device; they are converted to the dtype of its parameters. Of a
            language model, tokens ``(n, t)``, int64.
        labels: ``(n,)`` classes; None draws them evenly from the network's classes. A language model has none.
        names: which of :data:`~freerea_seval.proxies.ALL_PROXIES`.
        seed: fixes drawn labels, the noise of meco, and the weights and the noise of zen, AZ-NAS and vkdnw.

    Returns:
        Value and seconds by name. An undefined value is NaN, or minus infinity for the logarithm of zero, so that no
        search takes it for a good one. A proxy that cannot be computed on the network is NaN beside others that can:
        grasp without second derivatives, nwot and swap without an activation, zen without a map of features,
        progressivity and trainability without two blocks, zico with one image.

    Raises:
        InputError: an unknown name, or one of :data:`~freerea_seval.proxies.NOT_OF_TOKENS` of a language model.
        ValueError: the network's output is not ``(n, classes)``; a label is out of range.
        Exception: the network cannot run on the images, or none of the proxies can be computed.
    """
    for name in names:
        if name not in ALL_PROXIES:
            raise unknown_name("zero-cost proxy", name, ALL_PROXIES)
        if name in NOT_OF_TOKENS and not images.is_floating_point():
            raise InputError(f"{name} {NOT_OF_TOKENS[name]}")
    run = _Run(network, images, labels, [name for name in ALL_PROXIES if name in names], seed)
    return run.measure()


class _Run:
    def __init__(self, network: nn.Module, images: Tensor, labels: Tensor | None, names: list[str], seed: int) -> None:
        #: Tokens of a language model, None for images.
        self.tokens = None if images.is_floating_point() else images
        self.network = network
        if self.tokens is not None:
            self.network, images = as_embedded(network, self.tokens)
        self.images = as_parameters(images, network)
        self._counted = (network, self.images[:1] if self.tokens is None else self.tokens[:1])
        self.labels = labels
        self.names = names
        self.seed = seed
        self.values: dict[str, float] = {}
        self.failure: Exception | None = None
        self.seconds = dict.fromkeys(names, 0.0)
        self.clock = Clock(images.device)

    def measure(self) -> dict[str, Measured]:
        if any(name in _FORWARD for name in self.names):
            with _prepared(self.network, twice="grasp" in self.names):
                self._shared()
        input_shape = tuple(self.images.shape[1:])
        if "l2_norm" in self.names:
            weights = (weight for layer in weighted_layers(self.network) for weight in layer_weights(layer))
            self._done("l2_norm", math.fsum(float(widened(weight).norm()) for weight in weights))
        if "params" in self.names:
            self._done("params", sum(parameter.numel() for parameter in self.network.parameters()) / 1e6)
        if "flops" in self.names:
            with self._attempt("flops"):
                self._done("flops", network_counts(self._counted[0], [self._counted[1]]).flops / 1e6)
        of_flow = [name for name in _OF_FLOW if name in self.names]
        if of_flow:
            with self._attempt(*of_flow):
                flows = dict(zip(_OF_FLOW, synaptic_flow(self.network, input_shape), strict=True))
                self.values |= {name: flows[name] for name in of_flow}
                self._charge(*of_flow)
        of_noise = [name for name in _OF_NOISE if name in self.names]
        if of_noise:
            with self._attempt(*of_noise):
                self._of_noise(of_noise)
        alone: dict[str, Callable[[], float]] = {
            "zen": lambda: zen(self.network, self.images.shape, self.seed),
            "independence": lambda: independence(self.network, self.images.shape, self.seed),
            "meco": lambda: meco(self.network, input_shape, self.seed),
            "vkdnw": lambda: vkdnw(self.network, self.images.shape, self.seed),
            "vkdnw_dim": lambda: float(len(list(self.network.parameters()))),
            "zico": self._zico,
        }
        for name, compute in alone.items():
            if name in self.names:
                with self._attempt(name):
                    self._done(name, compute())
        if self.failure is not None and not self.values:
            raise self.failure
        return {name: Measured(self.values.get(name, math.nan), self.seconds[name]) for name in self.names}

    def _of_noise(self, names: list[str]) -> None:
        features = NoiseFeatures(self.network, self.images.shape, self.seed)
        self._charge(*names)
        of_entropies = {"expressivity": expressivity, "progressivity": progressivity}
        entropies: list[float] = []
        if not of_entropies.keys().isdisjoint(names):
            entropies = features.entropies()
            self._charge(*(name for name in names if name in of_entropies))
        for name in names:
            with self._attempt(name):
                compute = of_entropies.get(name)
                self._done(name, compute(entropies) if compute else features.trainability())

    def _zico(self) -> float:
        if len(self.images) < 2:
            raise ValueError(
                "zico needs at least two images, because it compares the gradients of two parts of a batch"
            )
        gradients = []
        with _prepared(self.network, twice=False):
            for half, images in enumerate(self.images.chunk(2)):
                run = _SharedPass(self.network, images, patterns=None, outputs=False)
                labels = self._labels(run.logits.shape[1]).chunk(2)[half]
                gradients.append(run.gradients(labels, twice=False, saliency=False)[0])
        return zico(gradients)

    def _shared(self) -> None:
        of_images = [name for name in _OF_IMAGES if name in self.names]
        of_weights = [name for name in _OF_WEIGHTS if name in self.names]
        outputs = not {"fisher", "grasp"}.isdisjoint(self.names)
        wanted = not {*_PATTERNS}.isdisjoint(self.names)
        patterns = Patterns(len(self.images), self.images.device, self.names)
        run = _SharedPass(self.network, self.images, patterns=patterns if wanted else None, outputs=outputs)
        self._charge(*(name for name in _FORWARD if name in self.names))
        for name, compute in (("nwot", patterns.log_determinant), ("swap", patterns.swap)):
            if name in self.names:
                with self._attempt(name):
                    self._done(name, compute())
        labels = self._labels(run.logits.shape[1]) if of_weights or "epe_nas" in self.names else None
        if of_images:
            with self._attempt(*of_images):
                correlation = correlations(run.jacobian())
                self._charge(*of_images)
                if "jacov" in self.names:
                    self._done("jacov", jacov(correlation))
                if "epe_nas" in self.names and labels is not None:
                    self._done("epe_nas", epe_nas(correlation, labels, run.logits.shape[1]))
        if of_weights and labels is not None:
            with self._attempt(*of_weights):
                gradients, fisher = run.gradients(labels, twice="grasp" in self.names, saliency="fisher" in self.names)
                self._charge(*of_weights)
                self._of_weights(run, gradients, fisher)

    def _of_weights(self, run: _SharedPass, gradients: list[Tensor], fisher: float) -> None:
        """Compute the proxies of weights and their gradients; ``BUILTIN`` of the sources has the references."""
        if "fisher" in self.names:
            self._done("fisher", fisher)
        pairs = [(widened(w), widened(g)) for w, g in zip(run.weights, gradients, strict=True)]
        if "grad_norm" in self.names:
            # The sum of the layers' norms (Abdelfattah 2021).
            self._done("grad_norm", math.fsum(float(g.norm()) for _, g in pairs))
        if "plain" in self.names:
            # Without absolute values (Mozer 1988).
            self._done("plain", math.fsum(float((w * g).sum()) for w, g in pairs))
        if "snip" in self.names:
            # The derivative by a mask of ones on the weights is w g (Lee 2019).
            self._done("snip", math.fsum(float((w * g).abs().sum()) for w, g in pairs))
        if "grasp" in self.names:
            with self._attempt("grasp"):
                self._done("grasp", grasp(run.weights, gradients, run.flows))

    @contextmanager
    def _attempt(self, *names: str) -> Iterator[None]:
        """Leave the named proxies without a value if their computation fails on this network."""
        try:
            yield
        except torch.cuda.OutOfMemoryError:  # says nothing about the network
            raise
        except Exception as error:  # whatever an operation without a derivative may raise
            self.failure = error
            self._charge(*names)

    def _labels(self, classes: int) -> Tensor:
        labels = self.labels
        if self.tokens is not None:
            return self.tokens[:, 1:]
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
        """Split the time since the last charge between the named proxies."""
        self.clock.lap("")
        seconds = self.clock.seconds.pop("")
        for name in names:
            self.seconds[name] += seconds / len(names)


class _SharedPass:
    """One forward pass in training mode that keeps the autograd graph, and records activations by hooks.

    Args:
        network: the module to rate, within :func:`_prepared`.
        images: ``(n, c, h, w)``; of a language model, the embedding's output.
        patterns: collects activation patterns, for nwot and swap; None for neither.
        outputs: whether to keep the outputs of weighted layers, for fisher and grasp.

    Raises:
        ValueError: the output is not ``(n, classes)``.
    """

    def __init__(self, network: nn.Module, images: Tensor, *, patterns: Patterns | None, outputs: bool) -> None:
        self.layers = weighted_layers(network)
        self.weights = [weight for layer in self.layers for weight in layer_weights(layer)]
        self._owners = Counter(id(p) for module in network.modules() for p in module.parameters(recurse=False))
        self.images = images.detach().clone().requires_grad_()
        # Of every call of a weighted layer: the layer, its output, and the output's version counter.
        self._outputs: list[tuple[Layer, Tensor, int]] = []
        #: Pairs of tensors whose products add up to the sum of ``w g``, for grasp.
        self.flows: list[tuple[Tensor, Tensor]] = []
        with ExitStack() as hooks:
            if patterns is not None:
                hooks.enter_context(patterns)
            if outputs:
                for layer in self.layers:
                    hooks.callback(layer.register_forward_hook(self._keep).remove)
            self.logits = network(self.images)
        if not isinstance(network, FromEmbedding):
            check_logits(self.logits, len(images))

    def _keep(self, module: Layer, args: tuple[Tensor, ...], output: Tensor) -> None:
        self._outputs.append((module, output, output._version))

    def jacobian(self) -> Tensor:
        """Return the gradient of the summed logits, ``(n, c * h * w)``; zeros where no image reaches them."""
        if not self.logits.requires_grad:
            return torch.zeros_like(self.images).flatten(start_dim=1)
        (gradient,) = torch.autograd.grad(
            self.logits.sum(), self.images, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return gradient.flatten(start_dim=1)

    def gradients(self, labels: Tensor, *, twice: bool, saliency: bool) -> tuple[list[Tensor], float]:
        """Return the cross-entropy's gradient of every weight, zeros where there is none, and fisher.

        Args:
            labels: ``(n,)`` classes, or ``(n, t - 1)`` next tokens.
            twice: whether the gradients will be differentiated again, for which :attr:`flows` is filled.
            saliency: whether to compute fisher; it is 0 otherwise.
        """
        # The logits at the last position have no target.
        logits = self.logits if labels.dim() == 1 else self.logits[:, :-1].flatten(0, 1)
        loss = functional.cross_entropy(logits, labels.flatten())
        if not loss.requires_grad:
            return [torch.zeros_like(weight) for weight in self.weights], 0.0
        total = torch.zeros((), dtype=torch.float64, device=loss.device)
        if saliency:
            for layer, output, _ in self._outputs:
                if output.requires_grad:
                    output.register_hook(_Fisher(layer, output.detach(), total))  # type: ignore[no-untyped-call]
        calls = self._calls() if twice else []
        results = torch.autograd.grad(
            loss,
            [*self.weights, *(output for _, output in calls)],
            create_graph=twice,
            allow_unused=True,
            materialize_grads=True,
        )
        gradients, output_gradients = list(results[: len(self.weights)]), results[len(self.weights) :]
        if twice:
            self._add_flows(gradients, calls, output_gradients)
        return gradients, float(total)

    def _calls(self) -> list[tuple[Layer, Tensor]]:
        """Return the calls of layers whose weight is a parameter of their own, and whose output was not overwritten."""
        changed = {id(layer) for layer, output, version in self._outputs if output._version != version}
        calls = [(layer, output) for layer, output, _ in self._outputs if output.requires_grad]
        return [
            (layer, output)
            for layer, output in calls
            if id(layer) not in changed and self._owners[id(layer._parameters.get("weight"))] == 1
        ]

    def _add_flows(
        self, gradients: list[Tensor], calls: list[tuple[Layer, Tensor]], output_gradients: Sequence[Tensor]
    ) -> None:
        """Pair the gradient of each call's output with the output without bias, and other weights with their gradient.

        The products of both kinds of pairs sum to ``sum(w g)``; the derivative of the first kind takes four
        convolutions instead of six.
        """
        for (layer, output), gradient in zip(calls, output_gradients, strict=True):
            bias = layer.bias
            if bias is not None:
                output = output - (bias[:, None, None] if isinstance(layer, nn.Conv2d) else bias)
            self.flows.append((gradient, output))
        paired = {id(layer.weight) for layer, _ in calls}
        rest = {id(w): (g, w) for g, w in zip(gradients, self.weights, strict=True) if id(w) not in paired}
        self.flows += rest.values()


class _Fisher:
    """Hook on the gradient of a layer's output that adds the Fisher information of its channels to a total.

    Half the mean over images of ``(sum over positions of a * da)^2`` (Theis 2018; Turner 2020),
    counted once a weight of the channel, as the zero-cost benchmarks do (Abdelfattah 2021, public code).
    """

    def __init__(self, layer: Layer, activation: Tensor, total: Tensor) -> None:
        self.activation = activation
        self.total = total
        self.channel_axis = 1 if isinstance(layer, nn.Conv2d) else -1
        self.weights_a_channel = max((weight[0].numel() for weight in layer_weights(layer)), default=0)

    @torch.no_grad()
    def __call__(self, gradient: Tensor) -> None:
        products = (self.activation * gradient).movedim(self.channel_axis, -1)
        sums = products.flatten(1, -2).sum(dim=1) if products.dim() > 2 else products
        self.total += 0.5 * sums.double().square().mean(dim=0).sum() * self.weights_a_channel


@contextmanager
def _prepared(network: nn.Module, *, twice: bool) -> Iterator[None]:
    """Put a network into training mode with gradients of its weights only, and restore it afterwards.

    In-place activations are switched off, because they would overwrite what hooks keep. Poolings and cells use faster
    equivalents; with ``twice``, so do batch norms, for their second derivatives.
    """
    weights = [weight for layer in weighted_layers(network) for weight in layer_weights(layer)]
    parameters = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    in_place = [module for module in network.modules() if getattr(module, "inplace", False) is True]
    try:
        for parameter, _ in parameters:
            # The gradients of biases and norms are not needed.
            parameter.requires_grad_(any(parameter is weight for weight in weights))
        for module in in_place:
            module.inplace = False  # type: ignore[assignment]
        candidates = ((module, _faster_forward(module, twice)) for module in network.modules())
        forwards = {module: forward for module, forward in candidates if forward}
        # The fused kernels of attention have no second derivative.
        attention = sdpa_kernel(SDPBackend.MATH) if twice else nullcontext()
        with preserve_state(network), replace_forwards(forwards), torch.enable_grad(), attention:
            network.train()
            yield
    finally:
        for module in in_place:
            module.inplace = True  # type: ignore[assignment]
        for parameter, requires_grad in parameters:
            parameter.requires_grad_(requires_grad)


def _faster_forward(module: nn.Module, twice: bool) -> Forward | None:
    """Return an equivalent of the module's forward pass that takes less time, None if there is none."""
    if type(module) is nn.AvgPool2d:
        return depthwise(module)
    if type(module) is Cell:
        return cell_forward(module)
    if twice and type(module) is nn.BatchNorm2d:
        return partial(second_derivatives.batch_norm, module)
    return None
