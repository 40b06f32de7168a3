"""FBNet's search space (Wu 2019): mobile networks of 22 layers, each of which is one of nine blocks.

A genotype has the number of every layer's block in :data:`BLOCKS`: ``0:3:0:0:0:7:6:3:7:7:6:7:7:7:7:7:6:7:7:7:7:3``.
The numbers are HW-NAS-Bench's (Li 2021, public code), as are the networks: those of the publication for ImageNet, and
for CIFAR the same with fewer strides.

Importing this module does not import torch; :mod:`freerea_patch.networks` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from freerea_patch.errors import InputError
from freerea_patch.spaces import Dataset, DatasetSpace, Part


class Block(NamedTuple):
    """An inverted residual block: kernel size, expansion of its width, and groups of its 1x1 convolutions."""

    kernel: int
    expansion: int
    groups: int = 1


#: The blocks by number; None is the skip, the ninth.
BLOCKS: Mapping[str, Block | None] = {
    "0": Block(3, 1),
    "1": Block(3, 1, groups=2),
    "2": Block(3, 3),
    "3": Block(3, 6),
    "4": Block(5, 1),
    "5": Block(5, 1, groups=2),
    "6": Block(5, 3),
    "7": Block(5, 6),
    "8": None,
}
#: Width and number of layers of every stage (Wu 2019, table 1).
STAGES = ((16, 1), (24, 4), (32, 4), (64, 4), (112, 4), (184, 4), (352, 1))
LAYERS = sum(layers for _, layers in STAGES)


class Skeleton(NamedTuple):
    """What surrounds the blocks: the strides of the stem and of every stage's first layer, and the last width."""

    stem_stride: int
    strides: tuple[int, ...]
    head_width: int


#: For 32 and for 224 pixels. The publication counts multiply-adds with a last width of 1504; for ImageNet, HW-NAS-Bench
#: has 1984, as FBNet's public code has for FBNet-B and FBNet-C.
_SMALL, _LARGE = Skeleton(1, (1, 1, 2, 2, 1, 2, 1), 1504), Skeleton(2, (1, 2, 2, 2, 1, 2, 1), 1984)


def parse_blocks(genotype: str) -> list[str]:
    """Return the numbers of the 22 blocks.

    Raises:
        InputError: the string is not of this space.
    """
    blocks = genotype.split(":")
    if len(blocks) != LAYERS or any(block not in BLOCKS for block in blocks):
        raise InputError(
            f"{genotype!r:.200} is not of the space fbnet; expected the numbers of {LAYERS} blocks, each from 0 to"
            f" {len(BLOCKS) - 1}, such as {':'.join('0300076377677777677773')}"
        )
    return blocks


def format_blocks(blocks: Sequence[str | int]) -> str:
    """Return the genotype of the numbers of 22 blocks."""
    return ":".join(map(str, blocks))


class FBNetSpace(DatasetSpace):
    """FBNet's space: 9**22 mobile networks.

    It has no measure of skip connections: FreeREA's is of the graph of a cell.

    Args:
        dataset: ``"cifar100"``, ``"cifar10"`` or ``"imagenet"`` (224 pixels): input shape and classes.

    Raises:
        InputError: an unknown data set.
    """

    kind = "fbnet"
    gene_names = tuple(f"layer {number}" for number in range(1, LAYERS + 1))
    gene_values = tuple(BLOCKS)
    datasets: Mapping[str, Dataset] = {
        "cifar100": Dataset((3, 32, 32), 100),
        "cifar10": Dataset((3, 32, 32), 10),
        "imagenet": Dataset((3, 224, 224), 1000),
    }

    def __init__(self, dataset: str = "cifar100") -> None:
        super().__init__(dataset)

    def _parse(self, genotype: str) -> Sequence[str]:
        return parse_blocks(genotype)

    def _format(self, values: Sequence[str]) -> str:
        return format_blocks(values)

    def parts(self, genotype: str) -> Part:
        """Return the parts of the network: stem, 22 layers, head."""
        from freerea_patch.networks import fbnet_network

        skeleton = _LARGE if self.dataset == "imagenet" else _SMALL
        return fbnet_network([BLOCKS[block] for block in parse_blocks(genotype)], skeleton, classes=self.classes)
