"""What a network does between two points that every path passes: its ways through, what follows what, what it costs.

A network is a chain of such segments (a residual block is one, a layer of a plain network another), and all that is
counted here adds up along the chain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import NamedTuple

from freerea_seval.predictor.features.path_features import Step, named, step, ways
from freerea_seval.predictor.features.sparse_counts import Counts, Parts, Sum
from freerea_seval.strings.graph import ir as graphs
from freerea_seval.strings.graph.cut_vertices import cut_vertices
from freerea_seval.strings.graph.shape_inference import channels
from freerea_seval.strings.text import Block, Operation, parse_blocks

#: Totals over all operations; the others are named after what they count.
TOTALS = ("total multiply-adds", "total parameters", "total elements", "total operations", "total depth")
#: Attributes that say how wide a layer is.
_WIDTHS = frozenset(("out", "num"))
_ZERO = "mul(other=0)"
#: No operation costs more than this, so that float32 holds every sum.
_MOST = 10**30


class _Costs(NamedTuple):
    """What an operation costs: at all, and beside this where the result depends on it."""

    step: Step
    always: Counts
    live: Counts


class _Order(NamedTuple):
    """What is counted of a block whatever its shapes.

    Attributes:
        ways: what is counted.
        first, last: groups of the first and last step of a path, empty if there is none.
        live: which steps the end depends on.
    """

    ways: Sum
    first: str
    last: str
    live: tuple[bool, ...]


def describe(string: str) -> dict[str, float]:
    """Return what is counted of a network string, by name.

    Raises:
        InputError: not a network string.
    """
    features: dict[str, float] = {}
    for part, times in zip(*parts(string), strict=True):
        for name, value in part.numbers().items():
            features[name] = features.get(name, 0.0) + times * value
    return features


@lru_cache(maxsize=8192)  # the models of an ensemble read the same strings
def parts(string: str) -> Parts:
    """Return what is counted of the blocks of a network string and between them; the sum is of the whole.

    What is counted of a block that is met again is the same object.

    Raises:
        InputError: not a network string.
    """
    chain = parse_blocks(string)
    sums: list[Sum] = []
    often: list[int] = []
    before = ""
    for block, times in chain:
        costs, order = _block(block)
        sums += (costs, order.ways)
        often += (times, times)
        if not order.first:
            continue
        sums.append(_one(f"next {before} > {order.first}"))
        often.append(1)
        if times > 1:
            sums.append(_one(f"next {order.last} > {order.first}"))
            often.append(times - 1)
        before = order.last
    if any([block.single_default for block, _ in chain]):
        for pair, times in _between(chain):
            sums.append(_one(pair))
            often.append(times)
    return Parts(tuple(sums), tuple(often))


def _between(chain: Sequence[tuple[Block, int]]) -> Iterator[tuple[str, int]]:
    """Yield the pairs of operations of which one ends a block and the other begins the next.

    They are counted of networks with lone arithmetic alone. Those used to be read as one block, and what a saved
    predictor has learned from stays what it was.
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
def _one(name: str) -> Sum:
    return Sum((named(name),), (1,))


@lru_cache(maxsize=16384)
def _block(block: Block) -> tuple[Sum, _Order]:
    """Return what is counted of a block: its costs, and all else."""
    costs = [_costs(operation) for operation in block.operations]
    order = _order(tuple([its.step for its in costs]))
    counts = [its.always for its in costs] + [its.live for its, live in zip(costs, order.live, strict=True) if live]
    return Sum(tuple(counts), (1,) * len(counts)), order


@lru_cache(maxsize=16384)
def _order(steps: tuple[Step, ...]) -> _Order:
    reads = [[position - back for back in step.back] for position, step in enumerate(steps)]
    ends = cut_vertices(reads)
    words = [step.word for step in steps if step.word]
    counts = list(map(_ordered, ["", *words], words))
    times: list[float] = [1] * len(counts)
    first = before = ""
    for start, end in pairwise(ends):
        those, often, entering, leaving = ways(steps[start + 1 : end + 1])
        counts += those
        times += often
        if entering:
            if first:
                counts.append(named(f"next {before} > {entering}"))
                times.append(1)
            first, before = first or entering, leaving
    return _Order(Sum(tuple(counts), tuple(times)), first, before, _live(steps, reads, ends))


@lru_cache(maxsize=65536)
def _ordered(before: str, word: str) -> Counts:
    """Return an operation in the order of execution, and its pair with the one before, if there is one."""
    names = (f"order {word}", f"order {before} {word}") if before else (f"order {word}",)
    return Counts(dict.fromkeys(names, 1))


def _live(steps: Sequence[Step], reads: Sequence[Sequence[int]], ends: Sequence[int]) -> tuple[bool, ...]:
    """Return which steps the end of their segment depends on; a product with zero lets nothing through."""
    live = [False] * len(steps)
    for end in ends:
        live[end] = True
    for position in range(len(steps) - 1, -1, -1):
        if steps[position].group == _ZERO:
            live[position] = False
        if live[position]:
            for read in reads[position]:
                live[read] = True
    return tuple(live)


@lru_cache(maxsize=65536)
def _costs(operation: Operation) -> _Costs:
    """Return what an operation costs."""
    kind, attributes, inputs, outputs = node = operation.node
    if kind == "entry":
        return _Costs(step(kind, "", ()), Counts({}), Counts({}))
    shapes = operation.shapes
    width = channels(kind, [graphs.Spec(shape) for shape in shapes[:1]])
    said = [
        "dw" if name == "g" and value == width != 1 else f"{name}={value}"
        for name, value in attributes
        if name not in _WIDTHS
    ]
    group = f"{kind}({','.join(said)})" if said else kind
    results = [spec.shape for spec in outputs]
    macs = graphs.node_macs(node, shapes)
    elements = sum(map(prod, results))
    parameters = sum(prod(weight.shape) for weight in node.weights if weight.tied is None)
    costs = {"operations": 1, "elements": elements, "multiply-adds": macs}
    counted = {
        **{f"cost {group} {name}": value for name, value in costs.items()},
        f"count {group}{shapes[:1]}{results}": 1,
        **dict(zip(TOTALS, (macs, parameters, elements, 1), strict=False)),
    }
    back = tuple([item.node for item in inputs if isinstance(item, graphs.Ref)])
    its = step(group, f"{group}<-{','.join(map(str, back))}", back)
    return _Costs(its, _few(counted), _few({f"cost live {group} {name}": value for name, value in costs.items()}))


def _few(counted: dict[str, int]) -> Counts:
    """Return all that is not zero, in bounds."""
    return Counts({name: min(value, _MOST) for name, value in counted.items() if value})
