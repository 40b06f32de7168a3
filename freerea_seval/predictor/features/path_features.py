"""Features of the paths between two consecutive cut vertices of a network.

=========== ======================================================================================================
segment     the operations between two consecutive cut vertices, which every path through the network passes
step        an operation of a segment, without shapes
group       the kind and attributes of a step, without widths
walk        up to three consecutive steps
path        all steps from the begin of the segment to its end; joins (add, cat, ...) are not counted as steps
=========== ======================================================================================================

Element-wise operations, such as activations and norms, are left out of paths. Everything is computed by dynamic
programming over the steps in topological order: what reaches a step follows from what reaches the steps that it reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log

from freerea_seval.predictor.features.sparse_counts import Counts

_ACTIVATIONS = (
    *("relu", "relu6", "hardtanh", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish"),
    *("sigmoid", "tanh", "softplus", "hardswish", "hardsigmoid"),
)
_ELEMENTWISE = frozenset((*_ACTIVATIONS, "dropout", "bn", "layer_norm", "group_norm", "instance_norm"))
_JOINS = frozenset(("add", "cat", "sub", "mul", "maximum", "minimum"))
#: Number of steps of the longest walks.
_WALK = 3
#: The largest number of walks or paths: each shortcut of a chain doubles them, and a feature is a float32.
MOST_WALKS = 2**100
#: The paths of a segment with more distinct ones are not counted by name.
_MAX_PATHS = 256
#: Larger fan-ins and fan-outs are counted as this one.
_MAX_FAN = 4


@dataclass(frozen=True, eq=False, slots=True)
class Step:
    """An operation without shapes; :func:`step` returns one object for equal ones, compared by identity.

    Attributes:
        group: its kind and attributes without widths.
        word: the group and the distances of its operands; empty for the entry of a block.
        distances: of its operands.
    """

    group: str
    word: str
    distances: tuple[int, ...]


@lru_cache(maxsize=65536)
def step(group: str, word: str, distances: tuple[int, ...]) -> Step:
    """Return one object for equal steps."""
    return Step(group, word, distances)


@lru_cache(maxsize=65536)
def single(name: str) -> Counts:
    """Return a count of one."""
    return Counts({name: 1})


@dataclass(frozen=True, eq=False, slots=True)
class _Reached:
    """A step and everything that leads to it from the begin of the segment.

    Attributes:
        walks: by length minus one, the walks that end with the step, and their numbers.
        counted: these walks as counts, and their numbers.
        paths: the paths to the step and their numbers; None if there are too many.
        path_count: the number of paths.
        most, least, mean: by group, the number of its steps on the path with most, with least, and on a random path.
        shortest, longest: lengths of paths.
    """

    walks: tuple[Mapping[str, int], ...]
    counted: tuple[tuple[Counts, ...], tuple[int, ...]]
    paths: Mapping[str, int] | None
    path_count: int
    most: Mapping[str, float]
    least: Mapping[str, float]
    mean: Mapping[str, float]
    shortest: int
    longest: int


_BEGIN = _Reached(({"^": 1},) + ({},) * (_WALK - 1), ((), ()), {"path": 1}, 1, {}, {}, {}, 0, 0)


@lru_cache(maxsize=16384)
def count_paths(segment: tuple[Step, ...]) -> tuple[tuple[Counts, ...], tuple[float, ...], str, str]:
    """Return the features of a segment.

    Args:
        segment: its steps, without the cut vertex that it begins with.

    Returns:
        Counts, their multipliers, and the groups of the first and last step on a path; empty if there is none.
    """
    groups, reads, depth = _without_elementwise(segment)
    counts: list[Counts] = [single("total depth")]
    times: list[float] = [depth]
    if len(groups) == 1:
        return tuple(counts), tuple(times), "", ""
    reached = [_BEGIN]
    for group, sources in zip(groups[1:], reads[1:], strict=True):
        reached.append(_reach(group, tuple([reached[source] for source in sources])))
        counts += reached[-1].counted[0]
        times += reached[-1].counted[1]
    features = _path_statistics(reached[-1], groups)
    _count_fans(groups, reads, features)
    if len(groups) > 2:
        features["branching segments"] = 1
        features["branching steps"] = len(groups) - 1
    counts += map(single, features)
    times += features.values()
    return tuple(counts), tuple(times), groups[1], groups[-1]


def _without_elementwise(segment: Sequence[Step]) -> tuple[list[str], list[list[int]], int]:
    """Leave out element-wise operations.

    Returns:
        The groups of the other steps and the steps that they read, behind an entry for the begin of the segment, and
        the depth of the segment with all its steps.
    """
    index, depth = [0], [0]  # by position in the segment, the index among the steps that are kept
    groups, reads = ["^"], [list[int]()]
    for position, step in enumerate(segment, 1):
        sources = [index[position - distance] for distance in step.distances]
        depth.append(1 + max([depth[position - distance] for distance in step.distances], default=0))
        if len(sources) == 1 and step.group.partition("(")[0] in _ELEMENTWISE:
            index.append(sources[0])
        else:
            index.append(len(groups))
            groups.append(step.group)
            reads.append(sources)
    return groups, reads, depth[-1]


@lru_cache(maxsize=4096)
def _reach(group: str, sources: tuple[_Reached, ...]) -> _Reached:
    """Return a step that reads others; one without operands counts as reading the begin of the segment."""
    walks = [{group: 1}]
    for length in range(_WALK - 1):
        walks.append(_extended([source.walks[length] for source in sources], f" > {group}"))
    counted = {f"walk {walk}": times for ending in walks for walk, times in ending.items()}
    sources = sources or (_BEGIN,)
    is_join = group.partition("(")[0] in _JOINS
    named = [source.paths for source in sources if source.paths is not None]
    paths = _extended(named, "" if is_join else f" {group}")
    groups = dict.fromkeys([group, *(name for source in sources for name in source.most)])
    own = {name: float(name == group) for name in groups}
    most = {g: max([source.most.get(g, 0.0) for source in sources]) + more for g, more in own.items()}
    least = {g: min([source.least.get(g, 0.0) for source in sources]) + more for g, more in own.items()}
    mean = {g: sum([source.mean.get(g, 0.0) for source in sources]) / len(sources) + more for g, more in own.items()}
    return _Reached(
        tuple(walks),
        (tuple(map(single, counted)), tuple(counted.values())),
        paths if len(named) == len(sources) and len(paths) <= _MAX_PATHS else None,
        sum([source.path_count for source in sources]),
        most,
        least,
        mean,
        min([source.shortest for source in sources]) + (not is_join),
        max([source.longest for source in sources]) + (not is_join),
    )


def _extended(counts: Sequence[Mapping[str, int]], suffix: str) -> dict[str, int]:
    """Return the sum of counts of walks or paths, each extended by a step."""
    total: dict[str, int] = {}
    for walks in counts:
        for walk, times in walks.items():
            name = walk + suffix
            total[name] = min(total.get(name, 0) + times, MOST_WALKS)
    return total


def _path_statistics(end: _Reached, groups: Sequence[str]) -> dict[str, float]:
    """Return the features of the paths to the end of a segment with these groups."""
    features: dict[str, float] = dict(end.paths or {})
    for group in sorted(set(groups[1:])):
        features[f"most {group}"] = end.most.get(group, 0.0)
        features[f"least {group}"] = end.least.get(group, 0.0)
        features[f"mean {group}"] = end.mean.get(group, 0.0)
    features["log paths"] = log(end.path_count) if end.path_count > 0 else 0.0
    features["shortest path"], features["longest path"] = end.shortest, end.longest
    return features


def _count_fans(groups: Sequence[str], reads: Sequence[Sequence[int]], features: dict[str, float]) -> None:
    """Count steps with several readers, and steps with several operands."""
    readers = [0] * len(groups)
    for sources in reads:
        for source in sources:
            readers[source] += 1
    for group, sources, number in zip(groups, reads, readers, strict=True):
        for side, fan in (("out", number), ("in", len(sources))):
            if fan > 1:
                name = f"fan {side} {group} {min(fan, _MAX_FAN)}"
                features[name] = features.get(name, 0) + 1
