"""The strings of the networks of a space, in both views and in the published format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, cast

from freerea_patch import SearchSpace, SizeSpace, TopologySpace
from freerea_patch.spaces import EDGES

if TYPE_CHECKING:
    from freerea_seval.strings.views import View

VIEWS = ("executed", "functional")
PUBLISHED = "published"
STRINGS = (*VIEWS, PUBLISHED)
#: Networks whose strings are made at once.
BATCH = 250

Space = TopologySpace | SizeSpace


def sample(space: Space, cells: int | None, seed: int) -> list[int]:
    """Return the indices of random networks, all if ``cells`` is None, in one random order."""
    count = len(space.genotypes())
    return Random(seed).sample(range(count), count)[:cells]


def strings_of(space: SearchSpace, view: str, genotypes: Sequence[str]) -> Iterator[str]:
    """Yield the strings of networks in a view, or in the published format."""
    from freerea_seval.strings.encode import SpaceStrings
    from freerea_seval.strings.trace.sevalnas_format import sevalnas_string

    if view == PUBLISHED:
        # The string does not depend on the size of the batch, nor on that of the images.
        batch = published_batch(2, 8)
        yield from (sevalnas_string(authors_network(space, genotype), [batch]) for genotype in genotypes)
        return
    strings = SpaceStrings(space, view=cast("View", view))
    for start in range(0, len(genotypes), BATCH):
        yield from strings.strings(genotypes[start : start + BATCH])


def authors_network(space: SearchSpace, genotype: str) -> Any:
    """Return a network as SEval-NAS's authors have it, from NATS-Bench's public code.

    It computes the same. But every sum in a cell starts from 0, as Python's ``sum`` does, which the format writes as an
    addition; and features come before the logits, so that the string, which is the first result's, has no dense layer.
    """
    from torch import nn

    from freerea_patch.networks import Cell

    network = space.build(genotype)
    for module in list(network.modules()):
        if isinstance(module, Cell):
            module.forward = partial(_summed_from_zero, module)  # type: ignore[method-assign]
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                module.register_module(name, nn.Identity())
    return network


def _summed_from_zero(cell: Any, x: Any) -> Any:
    nodes = [x]
    for edge, (source, target) in zip(cell.edges, EDGES, strict=True):
        y = edge(nodes[source])
        if target == len(nodes):
            nodes.append(0)
        nodes[target] = nodes[target] + y
    return nodes[-1]


def published_batch(size: int, side: int) -> Any:
    """Return images that require a gradient, as SEval-NAS's code has them."""
    import torch

    return torch.rand(size, 3, side, side, requires_grad=True)
