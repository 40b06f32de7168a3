"""The image data sets of NATS-Bench: input shapes and classes (Dong 2021, section 3)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

from freerea_patch.errors import unknown_name

if TYPE_CHECKING:
    from torch import nn

    from freerea_patch.networks.parts import Part


class Dataset(NamedTuple):
    """Shape ``(channels, height, width)`` of an image, and the number of classes."""

    input_shape: tuple[int, int, int]
    classes: int


DATASETS = {
    "cifar10": Dataset((3, 32, 32), 10),
    "cifar100": Dataset((3, 32, 32), 100),
    "ImageNet16-120": Dataset((3, 16, 16), 120),
}


class DatasetSpace(ABC):
    """A space whose networks are made for one of these data sets.

    Args:
        dataset: ``"cifar10"``, ``"cifar100"`` or ``"ImageNet16-120"``: input size and classes.

    Attributes:
        kind: the space's name in a config.
        name, dataset, input_shape, classes: of the space, and of its data set.

    Raises:
        InputError: an unknown data set.
    """

    kind: str

    def __init__(self, dataset: str = "cifar10") -> None:
        if dataset not in DATASETS:
            raise unknown_name("data set", dataset, DATASETS)
        self.dataset = dataset
        self.input_shape, self.classes = DATASETS[dataset]
        self.name = f"{self.kind}/{dataset}"

    @abstractmethod
    def parts(self, genotype: str) -> Part:
        """Return the network as parts that repeat."""

    def build(self, genotype: str) -> nn.Module:
        """Return the network, mapping ``(n, *input_shape)`` to ``(n, classes)``."""
        return self.parts(genotype).build()
