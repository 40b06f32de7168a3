"""Each proxy by its formula alone, on a copy of the network, with a pass of its own; and small networks."""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp
from torch.nn import functional

from freerea_patch.training_free import naswot
from tests.freerea_seval.costs.module_counts import network_cost


class Residual(nn.Module):
    """A network with a shortcut, biases, a ReLU in place, batch norm, and a layer that nothing reads."""

    def __init__(self, classes: int = 3, *, inplace: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.body = nn.Sequential(nn.ReLU(inplace), nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.unread = nn.Conv2d(4, 4, 1)
        self.end = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, 3, h, w)`` to ``(n, classes)``."""
        x = self.stem(x)
        logits: Tensor = self.head(self.end(self.body(x.clone()) + x))
        return logits


def layers(network: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]


def fresh(network: nn.Module) -> nn.Module:
    again = copy.deepcopy(network).train()
    again.zero_grad()
    return again


def gradients(network: nn.Module, images: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    net = fresh(network)
    torch.autograd.backward(functional.cross_entropy(net(images), labels))
    return [
        (layer.weight.detach(), torch.zeros_like(layer.weight) if layer.weight.grad is None else layer.weight.grad)
        for layer in layers(net)
    ]


def jacobian(network: nn.Module, images: Tensor) -> npt.NDArray[np.float32]:
    inputs = images.clone().requires_grad_()
    torch.autograd.backward(fresh(network)(inputs).sum())
    assert inputs.grad is not None
    return inputs.grad.flatten(1).numpy()


def naive(name: str, network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return one proxy."""
    pairs = gradients(network, images, labels)
    if name == "grad_norm":
        return sum(float(g.norm()) for _, g in pairs)
    if name == "plain":
        return sum(float((w * g).sum()) for w, g in pairs)
    if name == "snip":
        return sum(float((w * g).abs().sum()) for w, g in pairs)
    if name == "l2_norm":
        return sum(float(w.norm()) for w, _ in pairs)
    if name == "nwot":
        return naswot(network, images)
    if name in ("params", "flops"):
        return float(getattr(network_cost(network, tuple(images.shape[1:])), name)) / 1e6
    if name == "jacov":
        values = np.linalg.eigvalsh(np.corrcoef(jacobian(network, images).astype(np.float64)))
        return float(-np.sum(np.log(values + 1e-5) + 1 / (values + 1e-5)))
    return {"epe_nas": _epe_nas, "fisher": _fisher, "grasp": _grasp, "synflow": _synflow}[name](network, images, labels)


def _epe_nas(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    rows = jacobian(network, images).astype(np.float64)
    scores = []
    for label in sorted(set(labels.tolist())):
        members = rows[labels.numpy() == label]
        correlation = np.atleast_2d(np.corrcoef(members))
        scores.append(np.log(np.abs(correlation) + 1e-5).sum())
        if network(images).shape[1] > 100:
            scores[-1] /= len(members)
    if network(images).shape[1] > 100:
        return float(sum(abs(a - b) for a in scores for b in scores) / len(scores))
    return float(sum(abs(s) for s in scores))


def _fisher(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    net = fresh(network)
    outputs: list[tuple[Tensor, int]] = []

    def keep(layer: nn.Conv2d | nn.Linear, args: object, output: Tensor) -> Tensor:
        output.retain_grad()
        outputs.append((output, layer.weight[0].numel()))
        return output.clone()

    for layer in layers(net):
        layer.register_forward_hook(keep)
    torch.autograd.backward(functional.cross_entropy(net(images), labels))
    total = 0.0
    for output, size in outputs:
        assert output.grad is not None
        for channel in range(output.shape[1]):
            products = [
                float((output.detach()[i, channel] * output.grad[i, channel]).sum()) for i in range(len(images))
            ]
            total += 0.5 * sum(p * p for p in products) / len(images) * size
    return total


def _grasp(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """By forward-mode differentiation of the gradient along itself, in double precision."""
    net = fresh(network).double()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    names = [f"{name}.weight" for name, module in net.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    weights = {name: net.get_parameter(name).detach() for name in names}

    def loss(given: dict[str, Tensor]) -> Tensor:
        return functional.cross_entropy(functional_call(net, given, (images.double(),)), labels)

    gradient = grad(loss)
    products = jvp(gradient, (weights,), (gradient(weights),))[1]
    return -sum(float((weights[name] * products[name].detach()).sum()) for name in names)


def _synflow(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    net = fresh(network).double()
    for name, child in list(net.named_modules()):
        if isinstance(child, nn.BatchNorm2d):
            net.set_submodule(name, nn.Identity())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.abs_()
    torch.autograd.backward(net(torch.ones(1, *images.shape[1:], dtype=torch.float64)).sum())
    flows = [
        float((layer.weight.detach() * layer.weight.grad).abs().sum())
        for layer in layers(net)
        if layer.weight.grad is not None
    ]
    return float(np.log(sum(flows)))
