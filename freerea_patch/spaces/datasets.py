"""The image data sets of NATS-Bench: input shapes and classes (Dong 2021, section 3)."""

from __future__ import annotations

from typing import NamedTuple

from freerea_patch.errors import unknown_name


class Dataset(NamedTuple):
    """Shape ``(channels, height, width)`` of an image, and the number of classes."""

    input_shape: tuple[int, int, int]
    classes: int


DATASETS = {
    "cifar10": Dataset((3, 32, 32), 10),
    "cifar100": Dataset((3, 32, 32), 100),
    "ImageNet16-120": Dataset((3, 16, 16), 120),
}


def dataset(name: str) -> Dataset:
    """Return a data set by name.

    Raises:
        InputError: an unknown name.
    """
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    return DATASETS[name]
