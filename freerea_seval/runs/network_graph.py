"""A network as a graph to be drawn: its layers as a chain, its cells as four nodes and six edges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from freerea_patch.spaces import EDGES

if TYPE_CHECKING:
    from torch import nn

Point = tuple[float, float]

#: Distance of the nodes of a cell, which lie on a line from x = 0.
_DISTANCE = 2.0
#: How far the curves of the longer edges are bent, so that none passes a node.
_BENDS = {(0, 2): 0.9, (0, 3): 1.9, (1, 3): -0.9}


@dataclass(frozen=True)
class Layer:
    """Equal layers in a row.

    Attributes:
        names: of the class with its main settings; several of an ``nn.Sequential``.
        shape: of the output, without the batch, such as ``16x32x32``.
        count: how many.
    """

    names: tuple[str, ...]
    shape: str
    count: int = 1


@dataclass(frozen=True)
class NetworkGraph:
    """What a drawing shows: the input and the layers, and the six operations of every different cell."""

    layers: tuple[Layer, ...]
    cells: tuple[tuple[str, ...], ...]


def network_graph(network: nn.Module, input_shape: Sequence[int], dtype: str = "float32") -> NetworkGraph:
    """Return the layers of a network, which are its children if it is an ``nn.Sequential``, and its cells.

    Args:
        network: the module.
        input_shape: of one input, without the batch.
        dtype: of the input.
    """
    import torch
    from torch import nn

    from freerea_patch.networks import Cell
    from freerea_seval.export.source import operation_of, record_shapes

    shapes = record_shapes(network, input_shape, getattr(torch, dtype))
    children = list(network) if isinstance(network, nn.Sequential) else [network]
    runs = groupby((_layer_names(child), _sizes(shapes[child][1][1:])) for child in children)
    layers = [Layer(names, shape, len(list(run))) for (names, shape), run in runs]
    cells = dict.fromkeys(tuple(map(operation_of, m.edges)) for m in network.modules() if isinstance(m, Cell))
    return NetworkGraph((Layer(("input",), _sizes(input_shape)), *layers), tuple(cells))


def _sizes(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _layer_names(module: nn.Module) -> tuple[str, ...]:
    """Return the class of a layer with its main settings, or those of the layers in an ``nn.Sequential``."""
    from torch import nn

    if isinstance(module, nn.Sequential):
        return tuple(name for child in module for name in _layer_names(child))
    size = getattr(module, "kernel_size", getattr(module, "kernel", None))
    name = type(module).__name__
    if size is not None:
        name += f" {_sizes((size, size) if isinstance(size, int) else size)}"
    expansion, groups = getattr(module, "expansion", None), getattr(module, "groups", 1)
    if expansion is None:
        return (name,)
    return (name, f"expansion {expansion}" + (f", groups {groups}" if groups > 1 else ""))


@dataclass(frozen=True)
class Edge:
    """An edge of a cell, a quadratic Bézier curve between two of its nodes.

    Attributes:
        operation: on the edge; ``none`` for one that is not there.
        start, bend, end: control points; the curve ends before the circle of the node.
    """

    operation: str
    start: Point
    bend: Point
    end: Point

    def at(self, t: float) -> Point:
        """Return the point of the curve at ``t`` in [0, 1]."""
        weights = ((1 - t) ** 2, 2 * t * (1 - t), t**2)
        x, y = (
            sum(weight * control for weight, control in zip(weights, controls, strict=True))
            for controls in zip(self.start, self.bend, self.end, strict=True)
        )
        return x, y

    @property
    def middle(self) -> Point:
        """The point of the curve below or above which its control point lies, for the label."""
        return self.bend[0], (self.start[1] + self.bend[1]) / 2


def cell_nodes() -> list[tuple[str, Point]]:
    """Return the names and places of the nodes of a cell."""
    return [(name, (_DISTANCE * number, 0.0)) for number, name in enumerate(("in", "1", "2", "out"))]


def cell_edges(operations: Sequence[str]) -> Iterator[Edge]:
    """Yield the edges of a cell.

    Args:
        operations: six, in the order of :data:`~freerea_patch.spaces.EDGES`.
    """
    for (source, target), operation in zip(EDGES, operations, strict=True):
        x0, x1 = _DISTANCE * source, _DISTANCE * target
        bend = (x0 + x1) / 2, _BENDS.get((source, target), 0.0)
        yield Edge(operation, (x0, 0.0), bend, (x1 + 0.1 * (bend[0] - x1), 0.1 * bend[1]))
