"""The passes of a network that serve several proxies: one forward, and a backward each for images and weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from freerea_patch.networks import Cell, preserve_state
from freerea_patch.training_free import Forward, PatternKernel, cell_forward, depthwise, replace_forwards
from freerea_seval.proxies import convolutions, norms
from freerea_seval.proxies.convolutions import Asked

Layer = nn.Conv2d | nn.Linear


def weighted_layers(network: nn.Module) -> list[Layer]:
    """Return the convolutions and linear layers, which are all that the proxies rate (Abdelfattah 2021)."""
    return [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]


class SharedPass:
    """One forward pass in training mode with the gradient graph kept, and what hooks saw of it.

    Args:
        network: the module to rate, inside of :func:`prepared`.
        asked: what that gave.
        images: ``(n, c, h, w)``.
        kernel: whether to collect the kernel of activation patterns.
        outputs: whether to keep the outputs of weighted layers, for fisher and grasp.

    Raises:
        ValueError: the output is not ``(n, classes)``, or the kernel is asked for without ReLUs.
    """

    def __init__(self, network: nn.Module, asked: Asked, images: Tensor, *, kernel: bool, outputs: bool) -> None:
        self._asked = asked
        self.layers = weighted_layers(network)
        self.weights = [layer.weight for layer in self.layers]
        self._owners = Counter(id(p) for module in network.modules() for p in module.parameters(recurse=False))
        self.images = images.detach().clone().requires_grad_()
        self.kernel = PatternKernel(len(images), images.device)
        # Every call of a weighted layer: its output, and the version of that.
        self._outputs: list[tuple[Layer, Tensor, int]] = []
        #: Pairs of tensors whose products add up to the sum of ``w g``, for grasp.
        self.flows: list[tuple[Tensor, Tensor]] = []
        with ExitStack() as hooks:
            if kernel:
                self._watch_relus(network, hooks)
            if outputs:
                for layer in self.layers:
                    hooks.callback(layer.register_forward_hook(self._keep).remove)
            self.logits = network(self.images)
        if not isinstance(self.logits, Tensor) or self.logits.dim() != 2 or len(self.logits) != len(images):
            shape = tuple(self.logits.shape) if isinstance(self.logits, Tensor) else type(self.logits).__name__
            raise ValueError(f"expected an output of shape ({len(images)}, classes), got {shape}")

    def _watch_relus(self, network: nn.Module, hooks: ExitStack) -> None:
        relus = [module for module in network.modules() if isinstance(module, nn.ReLU)]
        if not relus:
            raise ValueError("nwot needs nn.ReLU modules, and this network has none")
        for relu in relus:
            hooks.callback(relu.register_forward_hook(self._agree).remove)

    @torch.no_grad()
    def _agree(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        self.kernel.add(output)

    def _keep(self, module: Layer, args: tuple[Tensor, ...], output: Tensor) -> None:
        self._outputs.append((module, output, output._version))

    def jacobian(self) -> Tensor:
        """Return the gradient of the summed logits, ``(n, c * h * w)``; zeros where no image reaches them."""
        if not self.logits.requires_grad:
            return torch.zeros_like(self.images).flatten(start_dim=1)
        self._asked.weights = False
        (gradient,) = torch.autograd.grad(
            self.logits.sum(), self.images, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        self._asked.weights = True
        return gradient.flatten(start_dim=1)

    def gradients(self, labels: Tensor, *, again: bool, saliency: bool) -> tuple[list[Tensor], float]:
        """Return the cross-entropy's gradient of every weight, zeros where there is none, and fisher.

        Args:
            labels: ``(n,)`` classes.
            again: whether the gradients will be differentiated again, for which :attr:`flows` is filled.
            saliency: whether to compute fisher; it is 0 otherwise.
        """
        loss = functional.cross_entropy(self.logits, labels)
        if not loss.requires_grad:
            return [torch.zeros_like(weight) for weight in self.weights], 0.0
        total = torch.zeros((), dtype=torch.float64, device=loss.device)
        if saliency:
            for layer, output, _ in self._outputs:
                if output.requires_grad:
                    output.register_hook(_Fisher(layer, output.detach(), total))  # type: ignore[no-untyped-call]
        calls = self._calls() if again else []
        found = torch.autograd.grad(
            loss,
            [*self.weights, *(output for _, output in calls)],
            create_graph=again,
            allow_unused=True,
            materialize_grads=True,
        )
        gradients, of_outputs = list(found[: len(self.weights)]), found[len(self.weights) :]
        if again:
            self._add_flows(gradients, calls, of_outputs)
        return gradients, float(total)

    def _calls(self) -> list[tuple[Layer, Tensor]]:
        """Return the calls of layers, if no other module has the weight, and nobody wrote to the output."""
        written = {id(layer) for layer, output, version in self._outputs if output._version != version}
        calls = [(layer, output) for layer, output, _ in self._outputs if output.requires_grad]
        return [
            (layer, output)
            for layer, output in calls
            if id(layer) not in written and self._owners[id(layer.weight)] == 1
        ]

    def _add_flows(
        self, gradients: list[Tensor], calls: list[tuple[Layer, Tensor]], of_outputs: Sequence[Tensor]
    ) -> None:
        """Pair the gradient of every call's output with what the weights did to it, or else of weights with these.

        Both products are ``w g``; the first has a derivative of four convolutions instead of six.
        """
        for (layer, output), gradient in zip(calls, of_outputs, strict=True):
            bias = layer.bias
            if bias is not None:
                output = output - (bias[:, None, None] if isinstance(layer, nn.Conv2d) else bias)
            self.flows.append((gradient, output))
        called = {id(layer.weight) for layer, _ in calls}
        rest = {id(w): (g, w) for g, w in zip(gradients, self.weights, strict=True) if id(w) not in called}
        self.flows += rest.values()


class _Fisher:
    """Adds the Fisher information of one layer's channels, when its output's gradient comes by.

    Half the mean over images of ``(sum over positions of a * da)^2`` (Theis 2018; Turner 2020),
    counted once a weight of the channel, as the zero-cost benchmarks do (Abdelfattah 2021, public code).
    """

    def __init__(self, layer: Layer, activation: Tensor, total: Tensor) -> None:
        self.activation = activation
        self.total = total
        self.channel_axis = 1 if isinstance(layer, nn.Conv2d) else -1
        self.weights_a_channel = layer.weight[0].numel()

    @torch.no_grad()
    def __call__(self, gradient: Tensor) -> None:
        products = (self.activation * gradient).movedim(self.channel_axis, -1)
        sums = products.flatten(1, -2).sum(dim=1) if products.dim() > 2 else products
        self.total += 0.5 * sums.double().square().mean(dim=0).sum() * self.weights_a_channel


@contextmanager
def prepared(network: nn.Module, *, again: bool) -> Iterator[Asked]:
    """Put a network into training mode with gradients of its weights, and give it back as it was.

    Activations in place are suspended: they would overwrite what hooks keep. Poolings and cells leave out work that
    changes nothing; with ``again``, convolutions and batch norms compute so that they can be differentiated twice at
    less cost.
    """
    weights = [layer.weight for layer in weighted_layers(network)]
    parameters = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    in_place = [module for module in network.modules() if getattr(module, "inplace", False) is True]
    asked = Asked()
    try:
        for parameter, _ in parameters:
            # Nobody asks for the gradients of biases and norms.
            parameter.requires_grad_(any(parameter is weight for weight in weights))
        for module in in_place:
            module.inplace = False  # type: ignore[assignment]
        quick = ((module, _quick(module, asked, again)) for module in network.modules())
        forwards = {module: forward for module, forward in quick if forward}
        with preserve_state(network), replace_forwards(forwards), torch.enable_grad():
            network.train()
            yield asked
    finally:
        for module in in_place:
            module.inplace = True  # type: ignore[assignment]
        for parameter, required in parameters:
            parameter.requires_grad_(required)


def _quick(module: nn.Module, asked: Asked, again: bool) -> Forward | None:
    """Return a forward pass of less cost than the module's own, if there is one."""
    if type(module) is nn.AvgPool2d:
        return depthwise(module)
    if type(module) is Cell:
        return cell_forward(module)
    if again and type(module) is nn.BatchNorm2d:
        return partial(norms.twice_differentiable, module)
    if again and type(module) is nn.Conv2d:
        return partial(convolutions.twice_differentiable, module, asked)
    return None
