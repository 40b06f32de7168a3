"""VKDNW: against the Jacobian of one image and one class after the other."""

from __future__ import annotations

import copy
import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from freerea_seval.proxies import vkdnw as module
from freerea_seval.proxies.compute import zero_cost_proxies
from freerea_seval.proxies.vkdnw import jacobian, vkdnw
from tests.freerea_seval.proxies.networks import NETWORKS, build, images, redrawn


def naive_jacobian(network: nn.Module, batch: Tensor) -> npt.NDArray[np.float64]:
    """Return ``(n, classes, parameters)``."""
    parameters = list(network.parameters())[:128]
    result = []
    for image in batch:
        logits = network(image[None])[0]
        rows = [
            torch.autograd.grad(x, parameters, retain_graph=True, materialize_grads=True, allow_unused=True)
            for x in logits
        ]
        result.append([[float(gradient.flatten()[0]) for gradient in row] for row in rows])
    return np.array(result)


def naive(network: nn.Module, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    twin = redrawn(copy.deepcopy(network), generator)
    batch = torch.randn(3, 3, 8, 8, generator=generator, dtype=torch.float64)
    total = np.zeros(())
    for logits, derivative in zip(twin(batch).detach(), naive_jacobian(twin, batch), strict=True):
        p = 0.95 * logits.softmax(0).numpy() + 0.05 / len(logits)
        total = total + derivative.T @ (np.diag(p) - np.outer(p, p)) @ derivative
    deciles = np.quantile(np.linalg.eigvalsh(total / len(batch)).clip(0), np.arange(1, 10) / 10)
    shares = deciles / (deciles.sum() + 1e-10)
    return float(-(shares * np.log(shares + 1e-10)).sum())


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_metric_equals_its_naive_twin(kind: str) -> None:
    network, (pixels, labels) = build(kind), images(3)
    row = zero_cost_proxies(network, pixels, labels, ("vkdnw", "vkdnw_dim"), seed=5)
    assert row["vkdnw"].value == pytest.approx(naive(network, 5), rel=1e-6)
    assert row["vkdnw_dim"].value == len(list(network.parameters()))


class Unusual(nn.Module):
    """Layers of all kinds, tied weights, one that a function reads, one that is written to, and one that is unread."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 4, 3, stride=2, padding="valid", dilation=2)
        self.grouped, self.circular = (
            nn.Conv2d(4, 4, 3, padding=1, groups=2),
            nn.Conv2d(4, 4, 3, 1, 1, padding_mode="circular"),
        )
        self.group_norm, self.map_norm = nn.GroupNorm(2, 4), nn.LayerNorm((4, 2, 2))
        self.norm = nn.BatchNorm2d(4)
        self.read, self.unread, self.twice = (nn.Conv2d(4, 4, 1) for _ in range(3))
        self.hidden, self.tied, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.tied.weight = self.hidden.weight

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, 3, 8, 8)`` to ``(n, 3)``."""
        x = torch.tanh(self.wide(x))
        x = self.map_norm(self.group_norm(self.circular(self.grouped(x))))
        x = functional.relu(self.norm(self.twice(torch.tanh(self.twice(x)))), inplace=True)
        x = self.read(x) + functional.conv2d(x, self.read.weight)
        # The batch is the second axis.
        x = self.tied(self.hidden(x.flatten(2).permute(2, 0, 1)))
        logits: Tensor = self.head(x.mean(dim=0))
        return logits


def test_the_jacobian_of_unusual_layers_equals_its_naive_twin() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Unusual().double().eval()
    batch, _ = images(4)
    state = {name: p.detach() for name, p in network.named_parameters()} | dict(network.named_buffers())
    logits, derivatives = jacobian(network, state, batch, [name for name, _ in network.named_parameters()])
    np.testing.assert_allclose(logits, network(batch).detach(), rtol=1e-12)
    np.testing.assert_allclose(derivatives, naive_jacobian(network, batch), rtol=1e-9, atol=1e-12)


def test_convolutional_networks_take_no_pass_a_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(module, "_forwards")
    for kind in ("convolutional", "cell"):
        assert 0 < vkdnw(build(kind).float(), (3, 3, 8, 8), 0) <= math.log(9)


def test_running_statistics_and_weights_do_not_matter() -> None:
    network = build("cell")
    expected = vkdnw(network, (2, 3, 8, 8), 0)
    with torch.no_grad():
        network.train()(images(8)[0] * 9)
        for parameter in network.parameters():
            parameter.add_(1)
    assert vkdnw(network, (2, 3, 8, 8), 0) == expected


def test_a_network_without_classes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected an output of shape \(2, classes\), got \(2, 4, 8, 8\)"):
        vkdnw(nn.Conv2d(3, 4, 1), (2, 3, 8, 8), 0)
