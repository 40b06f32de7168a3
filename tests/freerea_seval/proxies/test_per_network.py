"""Effective depth, ZiCo and MeCo: against naive twins."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from freerea_seval.proxies.compute import zero_cost_proxies
from freerea_seval.proxies.per_network import meco, synaptic_flow, zico
from tests.freerea_seval.proxies.networks import NETWORKS, build, images, with_batch_statistics, without_dropout


def layers(network: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]


@pytest.mark.parametrize("kind", ["convolutional", "cell"])
def test_depth_is_the_growth_of_the_flow_with_all_weights(kind: str) -> None:
    network = build(kind)
    twin = copy.deepcopy(network).eval()
    for name, module in list(twin.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            twin.set_submodule(name, nn.Identity())
    ones = torch.ones(1, 3, 8, 8, dtype=torch.float64)

    @torch.no_grad()
    def log_flow(factor: float) -> float:
        scaled = copy.deepcopy(twin)
        for parameter in scaled.parameters():
            parameter.abs_()
        for layer in layers(scaled):
            layer.weight *= factor
        return math.log(float(scaled(ones).sum()))

    step = 1e-5
    expected = (log_flow(1 + step) - log_flow(1 - step)) / (2 * step)
    assert synaptic_flow(network, (3, 8, 8))[1] == pytest.approx(expected, rel=1e-6)


def test_depth_is_a_mean_over_paths() -> None:
    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.three = (nn.Linear(1, 1, bias=False) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            x = x.flatten(1)
            y: Tensor = self.three(self.two(torch.relu(self.one(x))) + x)
            return y

    network = Shortcut()
    with torch.no_grad():
        for layer, weight in zip((network.one, network.two, network.three), (-2.0, 3.0, 5.0), strict=True):
            layer.weight.fill_(weight)
    # Paths with the products 30 and 5, of three layers and of one.
    assert synaptic_flow(network, (1, 1, 1))[1] == pytest.approx((30 * 3 + 5 * 1) / 35)
    with torch.no_grad():
        network.three.weight.zero_()
    assert math.isnan(synaptic_flow(network, (1, 1, 1))[1])


@pytest.mark.parametrize("kind", NETWORKS)
def test_zico_equals_its_naive_twin(kind: str) -> None:
    network, (pixels, labels) = without_dropout(build(kind)), images(6)
    halves = []
    for half in (slice(3), slice(3, None)):
        twin = copy.deepcopy(network).train()
        torch.autograd.backward(functional.cross_entropy(twin(pixels[half]), labels[half]))
        halves.append([layer.weight.grad for layer in layers(twin)])
    expected = 0.0
    for gradients in zip(*halves, strict=True):
        if all(gradient is not None for gradient in gradients):
            values = np.array([gradient.numpy() for gradient in gradients])
            deviations, means = values.std(axis=0), np.abs(values).mean(axis=0)
            expected += math.log(sum(means[deviations > 0] / deviations[deviations > 0]))
    value = zero_cost_proxies(network, pixels, labels, ("zico",))["zico"].value
    assert value == pytest.approx(expected, rel=1e-6)


def test_zico_leaves_out_what_does_not_move_and_has_no_value_for_what_is_no_number() -> None:
    one, other = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 2.0])
    still = torch.ones(2)
    assert zico([[one, still], [other, still]]) == pytest.approx(math.log(2))
    assert math.isnan(zico([[one], [torch.tensor([math.nan, 1.0])]]))


@pytest.mark.parametrize("kind", NETWORKS)
def test_meco_equals_its_naive_twin(kind: str) -> None:
    network = build(kind)
    noise = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    twin = with_batch_statistics(copy.deepcopy(network).eval())
    outputs: list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = []
    for module in twin.modules():
        module.register_forward_hook(
            lambda module, args, output: outputs.append(
                (output if isinstance(output, Tensor) else output[0])[0].detach().numpy().copy()
            )
        )
    twin(noise)
    expected = 0.0
    for output in outputs:
        rows = output.reshape(len(output), -1)
        if rows.shape[1] > 1:
            with np.errstate(invalid="ignore", divide="ignore"):
                expected += np.linalg.eigvalsh(np.nan_to_num(np.corrcoef(rows)))[0]
    assert len(outputs) > 10
    assert meco(network, (3, 8, 8), 2) == pytest.approx(expected, rel=1e-6)
