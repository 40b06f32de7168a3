"""Features of a network string: costs of operations, their order and place, and the paths of each segment.

A network is a chain of segments between cut vertices: a residual block is one, and so is each layer of a plain network.
All features are sums over the chain. What is counted of a block of the string is cached, since networks share blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import NamedTuple

from freerea_seval.predictor.features.path_features import Step, count_paths, single, step
from freerea_seval.predictor.features.sparse_counts import Counts, Parts, Sum
from freerea_seval.strings.graph.ir import Ref, Spec, cut_vertices, node_macs
from freerea_seval.strings.graph.shape_inference import channels
from freerea_seval.strings.text import Block, Operation, parse_blocks

#: Features that sum over all operations; the others are named after what they count.
TOTALS = ("total multiply-adds", "total parameters", "total elements", "total operations", "total depth")
#: Attributes that state the width of a layer.
_WIDTHS = frozenset(("out", "num"))
_ZERO = "mul(other=0)"
#: Costs of an operation are clipped to this, so that float32 holds every sum.
_MAX_COST = 10**30


class _Costs(NamedTuple):
    """The costs of an operation, those that it has only if it is live, and its elements for two place features."""

    step: Step
    always: Counts
    live: Counts
    placed: tuple[Counts, Counts]


class _Order(NamedTuple):
    """The features of a block that do not depend on shapes.

    Attributes:
        counts: the features.
        first, last: groups of the first and last step on a path; empty if there is none.
        live: for each step, whether the end of its segment depends on it.
    """

    counts: Sum
    first: str
    last: str
    live: tuple[bool, ...]


class _Described(NamedTuple):
    """The features of a block.

    Attributes:
        costs: of its operations.
        order: what does not depend on shapes.
        placed: elements for the place features: for the first one, sums weighted with ``1`` and ``i``, the position of
            an operation in the block; for the second one, with ``1``, ``i`` and ``i^2``.
        length: number of operations.
    """

    costs: Sum
    order: _Order
    placed: tuple[Sum, ...]
    length: int


def describe(string: str) -> dict[str, float]:
    """Return the features of a network string, by name.

    Raises:
        InputError: not a network string.
    """
    features: dict[str, float] = {}
    for part, times in zip(*count_parts(string), strict=True):
        for name, value in part.numbers().items():
            features[name] = features.get(name, 0.0) + times * value
    return features


@lru_cache(maxsize=32_768)  # the models of an ensemble, and the rounds of a search, read the same strings
def count_parts(string: str) -> Parts:
    """Return the features of a network string as those of its blocks and of the transitions between them.

    Equal blocks have the same object.

    Raises:
        InputError: not a network string.
    """
    chain = parse_blocks(string)
    described = [(_block(block), times) for block, times in chain]
    length = sum([block.length * times for block, times in described])
    sums: list[Sum] = []
    multiplicities: list[float] = []
    before, start = "", 0
    for (costs, order, placed, operations), times in described:
        sums += (costs, order.counts, *placed)
        multiplicities += (times, times, *_places(start, operations, times, length))
        start += operations * times
        if not order.first:
            continue
        sums.append(_single(f"next {before} > {order.first}"))
        multiplicities.append(1)
        if times > 1:
            sums.append(_single(f"next {order.last} > {order.first}"))
            multiplicities.append(times - 1)
        before = order.last
    if any([block.single_default for block, _ in chain]):
        for pair, times in _transitions(chain):
            sums.append(_single(pair))
            multiplicities.append(times)
    return Parts(tuple(sums), tuple(multiplicities))


@lru_cache(maxsize=16384)
def _places(start: int, block: int, times: int, length: int) -> tuple[float, ...]:
    """Return the weights of the sums ``placed`` of a block that is executed some times in a row.

    The place of an operation is ``t = (p + 1/2) / length`` for its position p in the network. Place features weigh its
    elements with the Legendre polynomials ``2 t - 1`` and ``6 t^2 - 6 t + 1``, which tell early from late operations,
    and those of both ends from those between. With ``t = a + i / length`` in the block, they are polynomials of i.

    Args:
        start, block, times: position and number of the block's operations, and how often it is executed.
        length: number of the network's operations.
    """
    origins = [(start + repeat * block + 0.5) / length for repeat in range(times)]
    once, linear, square = float(times), sum(origins), sum([origin**2 for origin in origins])
    return (
        2 * linear - once,
        2 * once / length,
        6 * square - 6 * linear + once,
        (12 * linear - 6 * once) / length,
        6 * once / length**2,
    )


def _placed(costs: Sequence[_Costs]) -> tuple[Sum, ...]:
    """Return the elements of a block's operations for both place features, by powers of the position in the block."""
    powers = [tuple([float(position**power) for position in range(len(costs))]) for power in range(3)]
    first, second = (tuple([cost.placed[order] for cost in costs]) for order in range(2))
    return tuple([Sum(first, power) for power in powers[:2]] + [Sum(second, power) for power in powers])


def _transitions(chain: Sequence[tuple[Block, int]]) -> Iterator[tuple[str, int]]:
    """Yield the pairs of operations across the borders of blocks.

    They are counted only if a block has arithmetic with a single default operand. Such networks were read as one block
    in an earlier version, and saved predictors have learned from its features.
    """
    before = ""
    for block, times in chain:
        words = [word for operation in block.operations if (word := _costs(operation).step.word)]
        if before:
            yield f"order {before} {words[0]}", 1
        if times > 1:
            yield f"order {words[-1]} {words[0]}", times - 1
        before = words[-1]


@lru_cache(maxsize=16384)
def _single(name: str) -> Sum:
    return Sum((single(name),), (1,))


@lru_cache(maxsize=16384)
def _block(block: Block) -> _Described:
    """Return the features of a block."""
    costs = [_costs(operation) for operation in block.operations]
    order = _order(tuple([cost.step for cost in costs]))
    counts = [cost.always for cost in costs] + [cost.live for cost, live in zip(costs, order.live, strict=True) if live]
    executed = [cost for cost in costs if cost.step.word]
    return _Described(Sum(tuple(counts), (1,) * len(counts)), order, _placed(executed), len(executed))


@lru_cache(maxsize=16384)
def _order(steps: tuple[Step, ...]) -> _Order:
    reads = [[position - distance for distance in step.distances] for position, step in enumerate(steps)]
    cuts = cut_vertices(reads)
    words = [step.word for step in steps if step.word]
    counts = list(map(_executed, ["", *words], words))
    times: list[float] = [1] * len(counts)
    first = before = ""
    for start, end in pairwise(cuts):
        path_counts, path_times, entering, leaving = count_paths(steps[start + 1 : end + 1])
        counts += path_counts
        times += path_times
        if entering:
            if first:
                counts.append(single(f"next {before} > {entering}"))
                times.append(1)
            first, before = first or entering, leaving
    return _Order(Sum(tuple(counts), tuple(times)), first, before, _live(steps, reads, cuts))


@lru_cache(maxsize=65536)
def _executed(before: str, word: str) -> Counts:
    """Return the counts of an operation in the order of execution, and of its pair with the previous one, if any."""
    names = (f"order {word}", f"order {before} {word}") if before else (f"order {word}",)
    return Counts(dict.fromkeys(names, 1))


def _live(steps: Sequence[Step], reads: Sequence[Sequence[int]], cuts: Sequence[int]) -> tuple[bool, ...]:
    """Return whether the end of its segment depends on each step; a product with zero depends on nothing."""
    live = [False] * len(steps)
    for cut in cuts:
        live[cut] = True
    for position in range(len(steps) - 1, -1, -1):
        if steps[position].group == _ZERO:
            live[position] = False
        if live[position]:
            for source in reads[position]:
                live[source] = True
    return tuple(live)


@lru_cache(maxsize=65536)
def _costs(operation: Operation) -> _Costs:
    kind, attributes, inputs, outputs = node = operation.node
    if kind == "entry":
        return _Costs(step(kind, "", ()), Counts({}), Counts({}), (Counts({}), Counts({})))
    shapes = operation.shapes
    width = channels(kind, [Spec(shape) for shape in shapes[:1]])
    texts = [
        "dw" if name == "g" and value == width != 1 else f"{name}={value}"
        for name, value in attributes
        if name not in _WIDTHS
    ]
    group = f"{kind}({','.join(texts)})" if texts else kind
    results = [spec.shape for spec in outputs]
    macs = node_macs(node, shapes)
    elements = sum(map(prod, results))
    parameters = sum(prod(weight.shape) for weight in node.weights if weight.tied is None)
    costs = {"operations": 1, "elements": elements, "multiply-adds": macs}
    always = {
        **{f"cost {group} {name}": value for name, value in costs.items()},
        f"count {group}{shapes[:1]}{results}": 1,
        **dict(zip(TOTALS, (macs, parameters, elements, 1), strict=False)),
    }
    live = {f"cost live {group} {name}": value for name, value in costs.items()}
    distances = tuple([item.node for item in inputs if isinstance(item, Ref)])
    word = f"{group}<-{','.join(map(str, distances))}"
    first, second = (_nonzero({f"place {order} {group}": elements}) for order in (1, 2))
    return _Costs(step(group, word, distances), _nonzero(always), _nonzero(live), (first, second))


def _nonzero(numbers: dict[str, int]) -> Counts:
    return Counts({name: min(value, _MAX_COST) for name, value in numbers.items() if value})
