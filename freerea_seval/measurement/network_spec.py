"""How to make a network in another process: what the command line said of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from freerea_seval.config import build_network, make_space, make_tensors
from freerea_seval.measurement.backends import random_inputs

if TYPE_CHECKING:
    from torch import nn

    from freerea_seval.measurement.backends import Inputs

#: The words of the command line, as JSON has them.
Recipe = Mapping[str, Any]


def make(recipe: Recipe) -> tuple[nn.Module, Inputs]:
    """Return the network and its inputs.

    Args:
        recipe: ``{"space", "genotype", "batch_size", "seed"}``, or ``{"network", "inputs", "seed"}``.

    Raises:
        InputError: as for the command line.
    """
    import torch

    if "network" in recipe:
        module = build_network(recipe["network"])
        return module, random_inputs(make_tensors(recipe["inputs"], module), recipe["seed"])
    space = make_space(recipe["space"])
    images = torch.zeros(recipe["batch_size"], *space.input_shape)
    return space.build(recipe["genotype"]), random_inputs([images], recipe["seed"])
