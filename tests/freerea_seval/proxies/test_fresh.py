"""New weights and noise, and the mode that proxies with noise run in."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from freerea_seval.proxies.fresh import fresh_state, generator_for, kaiming, standard_noise, without_dropout
from tests.freerea_seval.proxies.networks import build


def test_new_weights_have_the_deviation_asked_for_and_the_network_keeps_its_own() -> None:
    network = nn.Sequential(nn.Conv2d(3, 50, 5), nn.BatchNorm2d(50), nn.LayerNorm(9), nn.Linear(400, 30))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(5)
    before = copy.deepcopy(network.state_dict())
    state, variances = fresh_state(network, generator_for(network, 0), kaiming)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert float(state["0.weight"].std()) == pytest.approx((2 / 75) ** 0.5, rel=0.05)
    assert float(state["3.weight"].std()) == pytest.approx((2 / 400) ** 0.5, rel=0.05)
    for name, value in (("0.bias", 0), ("3.bias", 0), ("1.weight", 1), ("1.bias", 0), ("1.running_mean", 0)):
        assert torch.equal(state[name], torch.full_like(state[name], value))
    assert torch.equal(state["2.weight"], torch.full((9,), 5.0))
    assert variances == [state["1.running_var"]]


def test_a_parametrised_weight_is_drawn_by_its_parameters() -> None:
    layer = parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    state, _ = fresh_state(layer, generator_for(layer, 0), kaiming)
    assert not torch.equal(state["parametrizations.weight.original1"], layer.parametrizations.weight.original1)


def test_noise_does_not_depend_on_the_layout() -> None:
    one, other = build("cell"), build("cell").to(memory_format=torch.channels_last)
    noises = [standard_noise(network, (2, 3, 8, 8), generator_for(network, 1)) for network in (one, other)]
    assert torch.equal(*noises)
    assert noises[1].is_contiguous(memory_format=torch.channels_last)


def test_the_mode_is_restored_after_an_error() -> None:
    network = build("transformer").train()
    seen = []

    def fail() -> None:
        with without_dropout(network, batch_statistics=True):
            seen.extend([network.encoder.layers[0].dropout.training, torch.backends.mha.get_fastpath_enabled()])
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [False, False]
    assert network.encoder.layers[0].dropout.training
    assert torch.backends.mha.get_fastpath_enabled()
