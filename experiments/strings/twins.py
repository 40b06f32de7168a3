"""Whether networks with one functional string compute the same: part of :mod:`experiments.strings.benchmark`."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from random import Random
from statistics import median
from typing import Any

from experiments.strings.views import VIEWS, sample, strings_of
from experiments.tables import RowJournal, markdown
from freerea_patch import InputError, TopologySpace
from freerea_seval.progress import terminal_progress

IMAGES = 4


def equality(options: argparse.Namespace) -> None:
    """Compare the outputs of pairs of cells with one functional string, and print how far they are apart."""
    space = TopologySpace()
    config = {"seed": options.seed, "cells": options.cells}
    journal = RowJournal(options.output, config, ("pair", "first", "second", "difference", "spread"))
    genotypes = [space.genotypes()[index] for index in sample(space, options.cells, options.seed)]
    done = len(journal.rows())
    pairs = twins(genotypes, list(strings_of(space, VIEWS[1], genotypes)), options.pairs, options.seed)
    with terminal_progress().task(f"{options.pairs} pairs") as show:
        for number, (first, second) in enumerate(pairs):
            show(number / len(pairs), "")
            if number >= done:
                a, b = outputs(space, first, second, seed=number)
                difference, spread = float((a - b).abs().max()), float((a.amax(0) - a.amin(0)).max())
                row = {"pair": number, "first": first, "second": second}
                journal.append({**row, "difference": f"{difference:.3e}", "spread": f"{spread:.3e}"})
    print(equality_summary(journal.rows()[: options.pairs]))


def twins(genotypes: Sequence[str], strings: Sequence[str], pairs: int, seed: int) -> list[tuple[str, str]]:
    """Return random pairs of different cells with one string: a random cell that has twins, and a random one of these.

    Raises:
        InputError: no two cells have the same string.
    """
    groups = defaultdict(list)
    for genotype, string in zip(genotypes, strings, strict=True):
        groups[string].append(genotype)
    having = [(genotype, groups[string]) for genotype, string in zip(genotypes, strings, strict=True)]
    having = [(genotype, group) for genotype, group in having if len(group) > 1]
    if not having:
        raise InputError(f"no two of {len(genotypes)} cells have the same string; take more with --cells")
    rng = Random(seed)
    found = []
    for _ in range(pairs):
        first, group = rng.choice(having)
        found.append((first, rng.choice([genotype for genotype in group if genotype != first])))
    return found


def equality_summary(rows: Sequence[dict[str, str]]) -> str:
    """Return a Markdown table of one line."""
    differences = [float(row["difference"]) for row in rows]
    spreads = [float(row["spread"]) for row in rows]
    header = [
        "pairs",
        "equal to 1e-5",
        "greatest difference",
        "whose output depends on the input",
        "median spread of it",
    ]
    return markdown(
        header,
        [
            [
                len(rows),
                sum(difference <= 1e-5 for difference in differences),
                f"{max(differences):.1e}",
                sum(spread > 1e-3 for spread in spreads),
                f"{median(spreads):.2g}",
            ]
        ],
    )


def outputs(space: TopologySpace, first: str, second: str, seed: int) -> tuple[Any, Any]:
    """Return what two networks make of the same random images, in double precision and evaluation mode.

    Operations that stand at the same place of the functional view get the same random weights, biases and statistics.
    What one network has besides (dead branches) keeps what it was built with: a batch norm of zeros yields its bias,
    which is 0.

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

    from freerea_seval.strings.graph.simplify import origins, simplify
    from freerea_seval.strings.trace.tracer import trace_module

    network = space.build(genotype)
    image = torch.zeros(1, *space.input_shape)
    graph = trace_module(network, [image])
    # Every module with parameters is one operation here, and the graph has the operations in the order of execution.
    weighted = [place for place, node in enumerate(graph) if node.weights]
    modules = dict(zip(weighted, _in_order(network, image), strict=True))
    for place, module in modules.items():
        shapes = [tuple(parameter.shape) for parameter in module.parameters()]
        if shapes != [weight.shape for weight in graph.nodes[place].weights]:
            raise InputError(f"{genotype}: operation {place} is not {module}; expected one operation a module")
    view = simplify(graph)
    parts = [modules[origin] for node, origin in zip(view, origins(graph), strict=True) if node.weights]
    return network, view, parts


def _in_order(network: Any, image: Any) -> list[Any]:
    """Return the modules that have parameters of their own in the order in which they run."""
    import torch

    ran: list[Any] = []
    having = [module for module in network.modules() if list(module.parameters(recurse=False))]
    hooks = [module.register_forward_pre_hook(lambda module, _: ran.append(module)) for module in having]
    with torch.no_grad():
        network.eval()(image)
    for hook in hooks:
        hook.remove()
    return ran


def _randomise(module: Any, generator: Any) -> None:
    """Draw a module's parameters and statistics; none is what it would be without drawing."""
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
