"""A search space of one's own: four inverted residual blocks with Hardswish, as in MobileNetV3 (Howard 2019)."""

from __future__ import annotations

from random import Random

from torch import Tensor, nn

from freerea_patch import InputError

#: Choices of a block: kernel size and expansion. A genotype reads ``k3e2:k5e4:k3e4:k3e2``.
BLOCKS = ("k3e2", "k3e4", "k5e2", "k5e4")
WIDTHS = (16, 16, 24, 24)


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection; with a skip connection where the width stays."""

    def __init__(self, c_in: int, c_out: int, kernel: int, expansion: int) -> None:
        super().__init__()
        wide, self.skips = c_in * expansion, c_in == c_out
        self.layers = nn.Sequential(
            *(nn.Conv2d(c_in, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.Hardswish()),
            *(nn.Conv2d(wide, wide, kernel, padding=kernel // 2, groups=wide, bias=False), nn.BatchNorm2d(wide)),
            *(nn.Hardswish(), nn.Conv2d(wide, c_out, 1, bias=False), nn.BatchNorm2d(c_out)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, c_in, h, w)`` to ``(n, c_out, h, w)``."""
        y: Tensor = self.layers(x)
        return x + y if self.skips else y


class MobileSpace:
    """All networks of four blocks; made without arguments, or with the options that a config gives."""

    def __init__(self, classes: int = 10) -> None:
        self.name = f"mobile/{classes}"  # identifies the space and its options
        self.input_shape = (3, 32, 32)  # one image, without the batch
        self.classes = classes

    def check(self, genotype: str) -> None:
        """Refuse what is no genotype."""
        blocks = genotype.split(":")
        if len(blocks) != len(WIDTHS) or not set(blocks) <= set(BLOCKS):
            raise InputError(f"expected {len(WIDTHS)} of {', '.join(BLOCKS)}, joined by colons, got {genotype!r}")

    def sample(self, rng: Random) -> str:
        """Return a random genotype."""
        return ":".join(rng.choices(BLOCKS, k=len(WIDTHS)))

    def mutate(self, genotype: str, rng: Random) -> str:
        """Change one block."""
        blocks = genotype.split(":")
        index = rng.randrange(len(blocks))
        blocks[index] = rng.choice([block for block in BLOCKS if block != blocks[index]])
        return ":".join(blocks)

    def crossover(self, first: str, second: str, rng: Random) -> str:
        """Take each block from one of two parents."""
        return ":".join(rng.choice(pair) for pair in zip(first.split(":"), second.split(":"), strict=True))

    def build(self, genotype: str) -> nn.Module:
        """Return the network."""
        layers: list[nn.Module] = [nn.Conv2d(3, WIDTHS[0], 3, 2, 1, bias=False), nn.BatchNorm2d(WIDTHS[0])]
        for block, c_in, c_out in zip(genotype.split(":"), (WIDTHS[0], *WIDTHS), WIDTHS, strict=False):
            layers.append(InvertedResidual(c_in, c_out, kernel=int(block[1]), expansion=int(block[3])))
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], self.classes))
        return nn.Sequential(*layers, nn.Hardswish(), *head)
