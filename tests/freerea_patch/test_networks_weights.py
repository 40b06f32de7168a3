"""Initialisation, and giving a module back as it was."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from freerea_patch import TopologySpace
from freerea_patch.networks import initialise, preserve_state, skip_initialisation


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("normalise", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_parametrised_weights_are_drawn_too(normalise: Callable[[nn.Module], nn.Module]) -> None:
    networks = [nn.Sequential(normalise(nn.Linear(40, 30))).eval() for _ in range(2)]
    for network in networks:
        initialise(network, seeded())
    layers: list[Any] = [network[0] for network in networks]
    first, second = (layer.weight.detach() for layer in layers)
    initialise(networks[1], seeded(1))
    if normalise is parametrizations.weight_norm:  # spectral norm also depends on the vectors of its own buffers
        assert torch.allclose(first, second)
        assert first.std().item() == pytest.approx(math.sqrt(2 / 30), rel=0.05)
    assert not torch.allclose(first, layers[1].weight)


def test_weights_are_kaiming_normal_by_fan_out() -> None:
    network = nn.Sequential(nn.Conv2d(32, 64, 3), nn.Linear(400, 300))
    initialise(network, seeded())
    conv, linear = network[0].weight.detach(), network[1].weight.detach()  # type: ignore[operator]
    assert conv.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.02)
    assert linear.std().item() == pytest.approx(math.sqrt(2 / 300), rel=0.02)
    assert abs(conv.mean().item()) < 0.002


def test_biases_are_zero_and_batch_norm_is_the_identity() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 5), nn.BatchNorm1d(5))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(7.0)
    initialise(network, seeded())
    for layer, weight, bias in ((0, None, 0), (1, 1, 0), (2, None, 0), (3, 1, 0)):
        assert (network[layer].bias == bias).all()  # type: ignore[union-attr]
        if weight is not None:
            assert (network[layer].weight == weight).all()  # type: ignore[union-attr]


def test_layers_without_affine_parameters_are_passed_over() -> None:
    initialise(nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False)), seeded())


def test_the_generator_alone_decides() -> None:
    space = TopologySpace()
    first, second = (space.build(space.sample(Random(0))) for _ in range(2))
    initialise(first, seeded(1))
    torch.manual_seed(99)
    initialise(second, seeded(1))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    initialise(second, seeded(2))
    assert not torch.equal(next(first.parameters()), next(second.parameters()))


def test_a_module_comes_back_with_its_buffers_and_modes() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    network.train()
    network[1].eval()
    before = state(network)
    with preserve_state(network) as same:
        assert same is network
        network.train()(torch.randn(4, 3, 5, 5))
        assert not torch.equal(network[1].running_mean, before["1.running_mean"])  # type: ignore[arg-type]
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert [module.training for module in network] == [True, False, True]


def test_a_module_comes_back_after_an_error() -> None:
    network = nn.Sequential(nn.BatchNorm2d(4)).eval()
    before = state(network)
    with pytest.raises(KeyError), preserve_state(network):  # noqa: PT012 - the module must be harmed before the error
        network.train()(torch.randn(4, 4, 5, 5))
        raise KeyError
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not network.training
    assert not network[0].training


def test_a_buffer_is_restored_in_place() -> None:
    network = nn.BatchNorm2d(4)
    mean = network.running_mean
    with preserve_state(network):
        network(torch.randn(4, 4, 5, 5))
    assert network.running_mean is mean


def test_weights_do_not_follow_the_order_of_memory() -> None:
    plain, last = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for network in (plain, last):
        initialise(network, seeded())
    assert torch.equal(plain.weight, last.weight)
    assert last.weight.is_contiguous(memory_format=torch.channels_last)


def test_layers_are_built_without_weights_of_torchs_own() -> None:
    usual = nn.Conv2d.reset_parameters, nn.Linear.reset_parameters
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with skip_initialisation():
        network = TopologySpace().build(TopologySpace().sample(Random(0)))
    assert torch.equal(torch.get_rng_state(), before)
    assert (nn.Conv2d.reset_parameters, nn.Linear.reset_parameters) == usual
    twin = TopologySpace().build(TopologySpace().sample(Random(0)))
    for one in (network, twin):
        initialise(one, seeded())
    assert all(torch.equal(tensor, state(twin)[name]) for name, tensor in network.state_dict().items())


def test_layers_draw_weights_again_after_an_error() -> None:
    usual = nn.Conv2d.reset_parameters, nn.Linear.reset_parameters
    with pytest.raises(KeyError), skip_initialisation():
        raise KeyError
    assert (nn.Conv2d.reset_parameters, nn.Linear.reset_parameters) == usual


def test_modules_that_nobody_touches_are_not_copied() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3))
    with preserve_state(network, unchanged=[network[0]]):
        for norm in network:
            norm.running_mean.fill_(7.0)  # type: ignore[operator]
    assert network[0].running_mean.tolist() == [7.0] * 3  # type: ignore[operator]
    assert network[1].running_mean.tolist() == [0.0] * 3  # type: ignore[operator]
