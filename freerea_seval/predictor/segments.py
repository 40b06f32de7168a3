"""What a network does between two points that every path passes: its ways through, what follows what, what it costs.

A network is a chain of such segments (a residual block is one, a layer of a plain network another), and all that is
counted here adds up along the chain. Operations on every element alone, such as activations and norms, cost something
but are no step of a path.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from math import log, prod
from typing import NamedTuple

from freerea_seval.strings import graph as graphs
from freerea_seval.strings.blocks import Block, blocks
from freerea_seval.strings.grammar import channels

#: Totals over all operations; the others are named after what they count.
TOTALS = ("total multiply-adds", "total parameters", "total elements", "total operations", "total depth")
#: Operations that paths leave out.
_ACTIVATIONS = (
    *("relu", "relu6", "hardtanh", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish"),
    *("sigmoid", "tanh", "softplus", "hardswish", "hardsigmoid"),
)
_ELEMENTWISE = frozenset((*_ACTIVATIONS, "dropout", "bn", "layer_norm", "group_norm", "instance_norm"))
#: Attributes that say how wide a layer is.
_WIDTHS = frozenset(("out", "num"))
_JOINS = frozenset(("add", "cat", "sub", "mul", "maximum", "minimum"))
_ZERO = "mul(other=0)"
#: Steps in a row that are counted, beside whole paths.
_WALK = 3
#: A segment with more different paths than this is known by their number and lengths alone.
_MOST_PATHS = 256
#: No operation costs more than this, so that float32 holds every sum.
_MOST = 10**30
#: Larger fans count as this.
_WIDEST_FAN = 4

Features = Mapping[str, float]


class _Step(NamedTuple):
    """An operation without shapes: its group (kind and attributes but for widths), and the positions that it reads."""

    group: str
    reads: tuple[int, ...]


def describe(string: str) -> dict[str, float]:
    """Return what is counted of a network string, by name.

    Raises:
        InputError: not a network string.
    """
    features: defaultdict[str, float] = defaultdict(float)
    for counted, times in parts(string):
        for name, value in counted.items():
            features[name] += times * value
    return features


@lru_cache(maxsize=8192)  # the models of an ensemble read the same strings
def parts(string: str) -> tuple[tuple[Features, int], ...]:
    """Return what is counted of each block of a network string, and how often; their sum is of the whole.

    The counts of a block that is met again are the same object.
    """
    found: list[tuple[Features, int]] = []
    before = ""
    for block, times in blocks(string):
        counted, first, last = _block(block)
        found.append((counted, times))
        if not first:
            continue
        found.append((_next(before, first), 1))
        if times > 1:
            found.append((_next(last, first), times - 1))
        before = last
    return tuple(found)


@lru_cache(maxsize=16384)
def _next(before: str, after: str) -> Features:
    return {f"next {before} > {after}": 1}


@lru_cache(maxsize=16384)
def _block(block: Block) -> tuple[Features, str, str]:
    """Return what is counted of a block, and the groups of its first and last step, empty if it has none."""
    features: defaultdict[str, float] = defaultdict(float)
    steps: list[_Step] = []
    costs: list[tuple[tuple[str, float], ...]] = []
    nodes = block.nodes
    for kind, attributes, inputs, outputs in nodes:
        shapes, reads, parameters = [], [], 0
        for item in inputs:
            if type(item) is graphs.Ref:
                node, port = item
                reads.append(node)
                shapes.append(nodes[node].outputs[port].shape)
            else:
                shapes.append(item.shape)  # type: ignore[union-attr]
                if item.tied is None:  # type: ignore[union-attr]
                    parameters += prod(item.shape)  # type: ignore[union-attr]
        group, counted = _costs(kind, attributes, tuple(shapes), outputs, parameters)
        steps.append(_Step(group, tuple(reads)))
        costs.append(counted)
    for counted, live in zip(costs, _live(steps), strict=True):
        for name, value in counted:
            features[name] += value
            if live and name.startswith("cost "):
                features[f"cost live {name[5:]}"] += value
    ways, first, last = _ways(tuple(steps))
    return {**features, **ways}, first, last


@lru_cache(maxsize=16384)
def _ways(steps: tuple[_Step, ...]) -> tuple[Features, str, str]:
    """Return what is counted of a block whatever its shapes, and the groups of its first and last step."""
    features: defaultdict[str, float] = defaultdict(float)
    _count_order(steps, features)
    before = ""
    first = ""
    for segment in _cut(steps):
        those, entering, leaving = _segment(segment)
        for name, value in those.items():
            features[name] += value
        if entering:
            if first:
                features[f"next {before} > {entering}"] += 1
            first, before = first or entering, leaving
    return features, first, before


def _live(steps: Sequence[_Step]) -> list[bool]:
    """Return which steps the end of their segment depends on; a product with zero lets nothing through."""
    live = [False] * len(steps)
    for end in _ends(steps):
        live[end] = True
    for position in range(len(steps) - 1, -1, -1):
        if steps[position].group == _ZERO:
            live[position] = False
        if live[position]:
            for read in steps[position].reads:
                live[read] = True
    return live


def _count_order(steps: Sequence[_Step], features: defaultdict[str, float]) -> None:
    """Count operations and pairs of them in the order of execution, each with how far back it reads."""
    before = ""
    for position, step in enumerate(steps):
        if step.group == "entry":
            continue
        back = ",".join([str(position - read) for read in step.reads])
        word = f"{step.group}<-{back}"
        features[f"order {word}"] += 1
        if before:
            features[f"order {before} {word}"] += 1
        before = word


@lru_cache(maxsize=65536)
def _costs(
    kind: str,
    attributes: tuple[tuple[str, graphs.Value], ...],
    shapes: tuple[graphs.Shape, ...],
    outputs: tuple[graphs.Spec, ...],
    parameters: int,
) -> tuple[str, tuple[tuple[str, float], ...]]:
    """Return an operation's group, and what it adds to the counts."""
    if kind == "entry":
        return kind, ()
    width = channels(kind, [graphs.Spec(shape) for shape in shapes[:1]])
    said = [
        "dw" if name == "g" and value == width != 1 else f"{name}={value}"
        for name, value in attributes
        if name not in _WIDTHS
    ]
    group = f"{kind}({','.join(said)})" if said else kind
    results = [spec.shape for spec in outputs]
    macs = graphs.node_macs(graphs.Node(kind, attributes, (), outputs), shapes)
    elements = sum(map(prod, results))
    counted = {
        f"cost {group} operations": 1,
        f"cost {group} elements": elements,
        f"cost {group} multiply-adds": macs,
        f"count {group}{shapes[:1]}{results}": 1,
        **dict(zip(TOTALS, (macs, parameters, elements, 1), strict=False)),
    }
    return group, tuple((name, min(value, _MOST)) for name, value in counted.items() if value)


def _ends(steps: Sequence[_Step]) -> list[int]:
    """Return the steps that every path passes: no later one reads past them."""
    last_reader = list(range(len(steps)))
    for position, step in enumerate(steps):
        for source in step.reads:
            last_reader[source] = position
    ends: list[int] = []
    reach = 0
    for position in range(len(steps)):
        if reach <= position:
            ends.append(position)
        reach = max(reach, last_reader[position])
    return ends


def _cut(steps: Sequence[_Step]) -> list[tuple[_Step, ...]]:
    """Cut a chain where every path passes; positions in a segment count from the step that it reads."""
    return [
        tuple(
            _Step(group, tuple([max(0, read - start) for read in reads])) for group, reads in steps[start + 1 : end + 1]
        )
        for start, end in pairwise(_ends(steps))
    ]


@lru_cache(maxsize=65536)
def _segment(segment: tuple[_Step, ...]) -> tuple[Features, str, str]:
    """Return what is counted of a segment, and the groups of its first and last step, empty if it has none."""
    features: defaultdict[str, float] = defaultdict(float)
    depth = [0] * (len(segment) + 1)
    for position, step in enumerate(segment, 1):
        depth[position] = 1 + max((depth[read] for read in step.reads), default=0)
    features["total depth"] = depth[-1]
    labels, reads = _steps(segment)
    if len(labels) == 1:
        return features, "", ""
    _count_walks(labels, reads, features)
    _count_paths(labels, reads, features)
    _count_fans(labels, reads, features)
    if len(labels) > 2:
        features["branching segments"] = 1
        features["branching steps"] = len(labels) - 1
    return features, labels[1], labels[-1]


def _steps(segment: Sequence[_Step]) -> tuple[list[str], list[list[int]]]:
    """Leave out operations on every element alone; return the others' groups and what they read, the entry first."""
    place = [0]
    labels, reads = ["^"], [list[int]()]
    for step in segment:
        sources = [place[read] for read in step.reads]
        if len(sources) == 1 and step.group.partition("(")[0] in _ELEMENTWISE:
            place.append(sources[0])
        else:
            place.append(len(labels))
            labels.append(step.group)
            reads.append(sources)
    return labels, reads


def _count_walks(labels: Sequence[str], reads: Sequence[Sequence[int]], features: defaultdict[str, float]) -> None:
    """Count steps that follow each other, up to three in a row."""
    ending = [Counter({label: 1}) for label in labels]
    for length in range(1, _WALK + 1):
        for walks in ending:
            for walk, times in walks.items():
                features[f"walk {walk}"] += times
        if length < _WALK:
            longer: list[Counter[str]] = []
            for label, sources in zip(labels, reads, strict=True):
                walks = Counter()
                for source in sources:
                    for walk, times in ending[source].items():
                        walks[f"{walk} > {label}"] += times
                longer.append(walks)
            ending = longer
    del features["walk ^"]


def _count_paths(labels: Sequence[str], reads: Sequence[Sequence[int]], features: defaultdict[str, float]) -> None:
    """Count the ways through a segment, and the steps of each group on the longest, the shortest and a random one."""
    joins = [label.partition("(")[0] in _JOINS for label in labels]
    groups = sorted(set(labels[1:]))
    many = [1] + [0] * (len(labels) - 1)
    paths: list[Counter[str] | None] = [Counter({"": 1})]
    most, least, mean = ([[0.0] * len(groups)] for _ in range(3))
    steps: list[tuple[int, int]] = [(0, 0)]
    for position in range(1, len(labels)):
        sources = reads[position] or [0]
        own = [float(group == labels[position]) for group in groups]
        many[position] = sum(many[source] for source in sources)
        most.append([max(column) + o for *column, o in zip(*(most[s] for s in sources), own, strict=True)])
        least.append([min(column) + o for *column, o in zip(*(least[s] for s in sources), own, strict=True)])
        mean.append(
            [sum(column) / len(sources) + o for *column, o in zip(*(mean[s] for s in sources), own, strict=True)]
        )
        step = 0 if joins[position] else 1
        steps.append((min(steps[s][0] for s in sources) + step, max(steps[s][1] for s in sources) + step))
        paths.append(_longer(paths, sources, "" if joins[position] else f" {labels[position]}"))
    for path, times in (paths[-1] or Counter()).items():
        features[f"path{path}"] += times
    for place, group in enumerate(groups):
        features[f"most {group}"] = most[-1][place]
        features[f"least {group}"] = least[-1][place]
        features[f"mean {group}"] = mean[-1][place]
    features["log paths"] = log(many[-1]) if many[-1] > 0 else 0.0
    features["shortest path"], features["longest path"] = steps[-1]


def _longer(paths: Sequence[Counter[str] | None], sources: Sequence[int], step: str) -> Counter[str] | None:
    """Return the paths that end with a step, or None if they are too many to name."""
    longer: Counter[str] = Counter()
    for source in sources:
        known = paths[source]
        if known is None:
            return None
        for path, times in known.items():
            longer[path + step] += times
    return longer if len(longer) <= _MOST_PATHS else None


def _count_fans(labels: Sequence[str], reads: Sequence[Sequence[int]], features: defaultdict[str, float]) -> None:
    """Count steps that several others read, and steps that read several."""
    readers = Counter(source for sources in reads for source in sources)
    for position, (label, sources) in enumerate(zip(labels, reads, strict=True)):
        if readers[position] > 1:
            features[f"fan out {label} {min(readers[position], _WIDEST_FAN)}"] += 1
        if len(sources) > 1:
            features[f"fan in {label} {min(len(sources), _WIDEST_FAN)}"] += 1
