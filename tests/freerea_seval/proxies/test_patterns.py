"""SWAP: distinct patterns, against columns that numpy compares whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from freerea_seval.proxies.compute import zero_cost_proxies
from tests.freerea_seval.proxies.networks import NETWORKS, build, images, without_dropout


@pytest.mark.parametrize("n", [4, 9, 64])
@pytest.mark.parametrize("kind", NETWORKS)
def test_patterns_are_counted_as_numpy_counts_columns(kind: str, n: int) -> None:
    network, (pixels, labels) = without_dropout(build(kind)), images(n)
    patterns: list[Tensor] = []
    network.train()
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda module, args, output: patterns.append(output.flatten(1) > 0))
        if isinstance(module, nn.TransformerEncoderLayer):
            module.linear1.register_forward_hook(lambda module, args, output: patterns.append(output.flatten(1) > 0))
    network(pixels)
    expected = len(np.unique(torch.cat(patterns, dim=1).numpy(), axis=1).T)
    for names in (("swap",), ("swap", "nwot")):
        row = zero_cost_proxies(without_dropout(build(kind)), pixels, labels, names)
        assert row["swap"].value == expected


def test_what_swap_lacks_is_named() -> None:
    class TokensFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.layer(x))
            return torch.relu(x.flatten(2).permute(2, 0, 1)).mean(dim=0)

    pixels, labels = images()
    pixels = pixels.float()
    with pytest.raises(ValueError, match="swap needs activations such as ReLU"):
        zero_cost_proxies(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), pixels, labels, ("swap",))
    with pytest.raises(ValueError, match="swap needs activations with the batch as their first axis"):
        zero_cost_proxies(TokensFirst(), pixels, labels, ("swap",))
