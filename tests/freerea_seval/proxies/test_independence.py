"""The independence of a network's last features."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from freerea_patch import TopologySpace
from freerea_seval.proxies.compute import zero_cost_proxies
from freerea_seval.proxies.independence import independence, mean_log_eigenvalue
from freerea_seval.proxies.live import draw_weights

CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
WEAK = "|avg_pool_3x3~0|+|none~0|avg_pool_3x3~1|+|none~0|none~1|avg_pool_3x3~2|"


def cell(genotype: str) -> nn.Sequential:
    network = TopologySpace().build(genotype)
    assert isinstance(network, nn.Sequential)
    draw_weights(network, 0)
    return network


def naive(rows: np.ndarray) -> float:
    """The formula on the correlation that numpy computes."""
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(rows, rowvar=False))
    return float(np.log(eigenvalues + 1e-4).mean())


def test_it_is_the_mean_logarithm_of_the_eigenvalues_of_the_correlation() -> None:
    rows = np.random.default_rng(0).standard_normal((200, 5)) @ np.random.default_rng(1).standard_normal((5, 5)) + 3
    assert mean_log_eigenvalue(torch.from_numpy(rows)) == pytest.approx(naive(rows), rel=1e-6)


def test_independent_channels_have_most_and_equal_ones_least() -> None:
    independent = torch.from_numpy(np.linalg.qr(np.random.default_rng(0).standard_normal((64, 9)))[0])
    independent = independent - independent.mean(dim=0)
    equal = torch.arange(64.0)[:, None] * torch.arange(1.0, 9.0)
    assert mean_log_eigenvalue(independent) > -0.2
    assert mean_log_eigenvalue(equal) == pytest.approx((math.log(8) + 7 * math.log(1e-4)) / 8, abs=1e-3)


def test_scale_and_offset_of_a_channel_do_not_matter() -> None:
    rows = torch.from_numpy(np.random.default_rng(0).standard_normal((50, 6)))
    scaled = rows * torch.tensor([1, 100, 0.01, -5, 3, 1]) + torch.arange(6)
    assert mean_log_eigenvalue(scaled) == pytest.approx(mean_log_eigenvalue(rows), rel=1e-9)


def test_a_constant_channel_adds_an_eigenvalue_of_zero() -> None:
    rows = torch.from_numpy(np.random.default_rng(0).standard_normal((500, 3)))
    constant = torch.cat([rows, torch.full((500, 1), 7.0, dtype=torch.float64)], dim=1)
    eigenvalues = [*(np.linalg.eigvalsh(np.corrcoef(rows.T.numpy())) * 4 / 3), 0.0]
    assert mean_log_eigenvalue(constant) == pytest.approx(np.log(np.array(eigenvalues) + 1e-4).mean(), rel=1e-6)


def test_undefined_values() -> None:
    rows = torch.from_numpy(np.random.default_rng(0).standard_normal((50, 3)))
    assert mean_log_eigenvalue(torch.ones(50, 3)) == -math.inf
    assert math.isnan(mean_log_eigenvalue(rows.where(rows < 2, math.inf)))
    with pytest.raises(ValueError, match="several channels"):
        mean_log_eigenvalue(rows[:, :1])


def test_a_cell_equals_the_formula_on_what_its_last_cell_returns() -> None:
    network = cell(CELL)
    maps: list[torch.Tensor] = []
    network[-2].register_forward_hook(lambda module, args, output: maps.append(output))
    noise = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        network.train()(noise)
    value = independence(network, (64, 3, 32, 32), 5)
    assert value == pytest.approx(naive(maps[0].permute(0, 2, 3, 1).reshape(-1, 64).double().numpy()), rel=1e-3)
    assert len(maps) == 2


def test_small_maps_take_as_many_images_as_the_correlation_needs() -> None:
    network, sizes = cell(CELL), list[int]()
    network[-2].register_forward_hook(lambda module, args, output: sizes.append(len(output)))
    independence(network, (64, 3, 16, 16), 0)
    independence(network, (10, 3, 16, 16), 0)
    assert sizes == [4, 16, 4, 10]


def test_it_needs_neither_images_nor_labels_and_leaves_the_network_as_it_was() -> None:
    network = cell(CELL)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    (first, other) = (
        zero_cost_proxies(network, torch.full((8, 3, 32, 32), level), None, ["independence"], seed=1)["independence"]
        for level in (0.0, 1.0)
    )
    assert first.value == other.value
    assert independence(cell(WEAK), (8, 3, 32, 32), 1) < first.value
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_tokens_of_a_transformer_have_one_too() -> None:
    layers = [nn.TransformerEncoderLayer(16, 2, 32, batch_first=True) for _ in range(2)]
    network = nn.Sequential(nn.Flatten(2), nn.Linear(64, 16), nn.Sequential(*layers), nn.Flatten(), nn.Linear(48, 10))
    value = independence(network, (64, 3, 8, 8), 0)
    assert -5 < value < 0
