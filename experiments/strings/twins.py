"""Whether networks with one functional string compute the same: part of :mod:`experiments.strings.benchmark`."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from random import Random
from typing import Any

import pandas as pd

from experiments.strings.views import VIEWS, sample, strings_of
from experiments.tables import RowJournal, markdown
from freerea_patch import InputError, TopologySpace

IMAGES = 4


def equality(options: argparse.Namespace) -> None:
    """Compare the outputs of pairs of cells with one functional string, and print how far they are apart."""
    space = TopologySpace()
    config = {"seed": options.seed, "cells": options.cells}
    journal = RowJournal(options.output, config, ("pair", "first", "second", "difference", "spread"))
    genotypes = [space.genotypes()[index] for index in sample(space, options.cells, options.seed)]
    pairs = twins(genotypes, list(strings_of(space, VIEWS[1], genotypes)), options.pairs, options.seed)
    for number, first, second in journal.missing(
        ("pair", "first", "second"), [(number, *pair) for number, pair in enumerate(pairs)], f"{options.pairs} pairs"
    ):
        a, b = outputs(space, first, second, seed=number)
        difference, spread = float((a - b).abs().max()), float((a.amax(0) - a.amin(0)).max())
        row = {"pair": number, "first": first, "second": second}
        journal.append({**row, "difference": f"{difference:.3e}", "spread": f"{spread:.3e}"})
    print(equality_summary(journal.frame()[: options.pairs]))


def twins(genotypes: Sequence[str], strings: Sequence[str], pairs: int, seed: int) -> list[tuple[str, str]]:
    """Return random pairs of different cells with one string: a random cell that has twins, and a random one of these.

    Raises:
        InputError: no two cells have the same string.
    """
    groups = defaultdict(list)
    for genotype, string in zip(genotypes, strings, strict=True):
        groups[string].append(genotype)
    twins = [(genotype, groups[string]) for genotype, string in zip(genotypes, strings, strict=True)]
    twins = [(genotype, group) for genotype, group in twins if len(group) > 1]
    if not twins:
        raise InputError(f"no two of {len(genotypes)} cells have the same string; take more with --cells")
    rng = Random(seed)
    drawn = (rng.choice(twins) for _ in range(pairs))
    return [(first, rng.choice([genotype for genotype in group if genotype != first])) for first, group in drawn]


def equality_summary(rows: pd.DataFrame) -> str:
    """Return a Markdown table of one line."""
    difference, spread = rows["difference"], rows["spread"]
    header = ["pairs", "equal to 1e-5", "greatest difference", "whose output depends on the input"]
    line = [len(rows), (difference <= 1e-5).sum(), f"{difference.max():.1e}", (spread > 1e-3).sum()]
    return markdown([*header, "median spread of it"], [[*line, f"{spread.median():.2g}"]])


def outputs(space: TopologySpace, first: str, second: str, seed: int) -> tuple[Any, Any]:
    """Return what two networks make of the same random images, in double precision and evaluation mode.

    Operations at the same position of the functional view get the same random weights, biases and statistics. Dead
    branches of one network keep their initial weights: a batch norm of zeros yields its bias, which is 0.

    Returns:
        Two tensors ``(n, classes)``.

    Raises:
        InputError: their functional views differ.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    networks, views, parts = zip(*(_corresponding(space, genotype) for genotype in (first, second)), strict=True)
    if views[0] != views[1]:
        raise InputError(f"{first} and {second} have no functional view in common; expected cells of one string")
    for one, other in zip(*parts, strict=True):
        _randomise(one, generator)
        other.load_state_dict(one.state_dict())
    x = torch.randn(IMAGES, *space.input_shape, generator=generator).double()
    with torch.no_grad():
        one, other = (network.double().eval()(x) for network in networks)
    return one, other


def _corresponding(space: TopologySpace, genotype: str) -> tuple[Any, Any, list[Any]]:
    """Return a network, its functional view, and the modules whose parameters the view's operations read, in order."""
    import torch

    from freerea_seval.strings import trace_module
    from freerea_seval.strings.graph.simplify import origins, simplify

    network = space.build(genotype)
    image = torch.zeros(1, *space.input_shape)
    graph = trace_module(network, [image])
    # Every module with parameters is one operation here, and the graph has the operations in the order of execution.
    weighted = [position for position, node in enumerate(graph) if node.weights]
    modules = dict(zip(weighted, _in_order(network, image), strict=True))
    for position, module in modules.items():
        shapes = [tuple(parameter.shape) for parameter in module.parameters()]
        if shapes != [weight.shape for weight in graph.nodes[position].weights]:
            raise InputError(f"{genotype}: operation {position} is not {module}; expected one operation a module")
    view = simplify(graph)
    parts = [modules[origin] for node, origin in zip(view, origins(graph), strict=True) if node.weights]
    return network, view, parts


def _in_order(network: Any, image: Any) -> list[Any]:
    """Return the modules that have parameters of their own in the order in which they run."""
    import torch

    ran: list[Any] = []
    parametric = [module for module in network.modules() if list(module.parameters(recurse=False))]
    hooks = [module.register_forward_pre_hook(lambda module, _: ran.append(module)) for module in parametric]
    with torch.no_grad():
        network.eval()(image)
    for hook in hooks:
        hook.remove()
    return ran


def _randomise(module: Any, generator: Any) -> None:
    """Draw a module's parameters and statistics from distributions unlike those of its initialisation."""
    import torch

    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if not tensor.is_floating_point():
                continue
            if name in ("bias", "running_mean"):
                tensor.normal_(0, 0.5, generator=generator)
            elif tensor.ndim < 2:
                tensor.uniform_(0.5, 1.5, generator=generator)
            else:
                tensor.normal_(0, tensor[0].numel() ** -0.5, generator=generator)
