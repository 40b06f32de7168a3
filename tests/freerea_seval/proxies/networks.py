"""A convolutional network, a transformer and a cell network, each with the features of its blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from freerea_patch import TopologySpace

LIVE = "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_3x3~2|"


class Block(nn.Module):
    """A residual block, with a projection where the shape changes."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(c_in, c_out, 3, stride, 1), nn.BatchNorm2d(c_out), nn.ReLU())
        self.shortcut = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, c_in, h, w)`` to ``(n, c_out, h/s, w/s)``."""
        y: Tensor = self.body(x) + self.shortcut(x)
        return y


class Convolutional(nn.Module):
    """A ResNet, whose stem is no block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.first, self.second = nn.Sequential(Block(6, 6, 1), Block(6, 8, 2)), nn.Sequential(Block(8, 8, 1))
        self.head = nn.Sequential(nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))

    def features(self, x: Tensor) -> list[Tensor]:
        """Return what enters the first block, and what blocks return."""
        features = [self.norm(self.stem(x))]
        for block in (*self.first, *self.second):
            features.append(block(features[-1]))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, 3, h, w)`` to ``(n, 5)``."""
        y: Tensor = self.head(self.second(self.first(self.norm(self.stem(x)))))
        return y


class Transformer(nn.Module):
    """A vision transformer with dropout, made of layers of ``torch.nn``."""

    def __init__(self, side: int = 8) -> None:
        super().__init__()
        self.patches, self.position = nn.Conv2d(3, 8, 2, 2), nn.Parameter(torch.randn(1, side**2 // 4 + 1, 8))
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 12, 0.1, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)

    def _embedded(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        return torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.position

    def features(self, x: Tensor) -> list[Tensor]:
        """Return what enters the first layer, and what layers return."""
        features = [self._embedded(x)]
        for layer in self.encoder.layers:
            features.append(layer(features[-1]))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, 3, h, w)`` to ``(n, 5)``."""
        y: Tensor = self.head(self.norm(self.encoder(self._embedded(x))[:, 0]))
        return y


class CellNetwork(nn.Sequential):
    """The network of a cell."""

    def __init__(self) -> None:
        super().__init__(*TopologySpace().build(LIVE).children())

    def features(self, x: Tensor) -> list[Tensor]:
        """Return what the stem, the cells and the blocks between stages return."""
        features = [x]
        for layer in list(self)[:-1]:
            features.append(layer(features[-1]))
        return features[1:]


NETWORKS: dict[str, Callable[[], Any]] = {
    "convolutional": Convolutional,
    "transformer": Transformer,
    "cell": CellNetwork,
}


def build(kind: str, seed: int = 0) -> Any:
    """Return a network in double precision, so that its naive twin differs by little."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return NETWORKS[kind]().double()


def images(n: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return images of 8x8 pixels and labels of five classes."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(n, 3, 8, 8, generator=generator, dtype=torch.float64)
    return pixels, torch.randint(5, (n,), generator=generator)


def redrawn(network: Any, generator: torch.Generator) -> Any:
    """Draw weights as AZ-NAS and VKDNW do, in place, and put the network into eval mode."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network.eval()


def without_dropout(network: Any) -> Any:
    """Drop nothing in training mode either, which naive twins cannot repeat."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return network


def with_batch_statistics(network: Any) -> Any:
    """Let batch norms normalise by the batch."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
    return network
