"""The ways from one point that every path passes to the next: what follows what, and how long they are.

Operations on every element alone, such as activations and norms, are no step of a path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log

from freerea_seval.predictor.features.sparse_counts import Counts

#: Operations that paths leave out.
_ACTIVATIONS = (
    *("relu", "relu6", "hardtanh", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish"),
    *("sigmoid", "tanh", "softplus", "hardswish", "hardsigmoid"),
)
_ELEMENTWISE = frozenset((*_ACTIVATIONS, "dropout", "bn", "layer_norm", "group_norm", "instance_norm"))
_JOINS = frozenset(("add", "cat", "sub", "mul", "maximum", "minimum"))
#: Steps in a row that are counted, beside whole paths.
_WALK = 3
#: A segment with more different paths than this is known by their number and lengths alone.
_MOST_PATHS = 256
#: Larger fans count as this.
_WIDEST_FAN = 4


@dataclass(frozen=True, eq=False, slots=True)  # compared by identity, which is quick to hash
class Step:
    """An operation without shapes; one object for equal ones, see :func:`step`.

    Attributes:
        group: its kind and attributes but for widths.
        word: the group, and how far back it reads; empty where a block begins.
        back: how far back it reads.
    """

    group: str
    word: str
    back: tuple[int, ...]


@lru_cache(maxsize=65536)
def step(group: str, word: str, back: tuple[int, ...]) -> Step:
    """Return one object for equal steps."""
    return Step(group, word, back)


@lru_cache(maxsize=65536)
def named(name: str) -> Counts:
    """Return one of what is named so."""
    return Counts({name: 1})


@dataclass(frozen=True, eq=False, slots=True)  # compared by identity, which is quick to hash
class _Reached:
    """A step and all that leads to it from the first point; one object for equal ones.

    Attributes:
        walks: up to so many steps in a row that end with it, and how often, shorter ones first.
        counted: these walks by name, and how often each.
        paths: the ways from the first point, and how many there are of each; None if they are too many to name.
        many: how many ways there are.
        most, least, mean: the steps of each group on the longest, the shortest and a random way.
        fewest, longest: steps on the shortest and the longest way; joins are none.
    """

    walks: tuple[Mapping[str, int], ...]
    counted: tuple[tuple[Counts, ...], tuple[int, ...]]
    paths: Mapping[str, int] | None
    many: int
    most: Mapping[str, float]
    least: Mapping[str, float]
    mean: Mapping[str, float]
    fewest: int
    longest: int


_FIRST = _Reached(({"^": 1},) + ({},) * (_WALK - 1), ((), ()), {"path": 1}, 1, {}, {}, {}, 0, 0)


@lru_cache(maxsize=16384)
def ways(segment: tuple[Step, ...]) -> tuple[tuple[Counts, ...], tuple[float, ...], str, str]:
    """Return what is counted between two points, and the groups of the first and last step there, empty without any.

    Args:
        segment: the operations behind the first point.

    Returns:
        Counts, how often each, and the two groups.
    """
    labels, reads, depth = _steps(segment)
    counts: list[Counts] = [named("total depth")]
    times: list[float] = [depth]
    if len(labels) == 1:
        return tuple(counts), tuple(times), "", ""
    reached = [_FIRST]
    for label, sources in zip(labels[1:], reads[1:], strict=True):
        reached.append(_step(label, tuple([reached[source] for source in sources])))
        counts += reached[-1].counted[0]
        times += reached[-1].counted[1]
    features = _whole(reached[-1], labels)
    _count_fans(labels, reads, features)
    if len(labels) > 2:
        features["branching segments"] = 1
        features["branching steps"] = len(labels) - 1
    counts += map(named, features)
    times += features.values()
    return tuple(counts), tuple(times), labels[1], labels[-1]


def _steps(segment: Sequence[Step]) -> tuple[list[str], list[list[int]], int]:
    """Leave out operations on every element alone.

    Returns:
        The groups of the others and what they read, the first point before them, and the depth of all.
    """
    place, depth = [0], [0]
    labels, reads = ["^"], [list[int]()]
    for position, its in enumerate(segment, 1):
        group, backs = its.group, its.back
        sources = [place[position - back] for back in backs]
        depth.append(1 + max([depth[position - back] for back in backs], default=0))
        if len(sources) == 1 and group.partition("(")[0] in _ELEMENTWISE:
            place.append(sources[0])
        else:
            place.append(len(labels))
            labels.append(group)
            reads.append(sources)
    return labels, reads, depth[-1]


@lru_cache(maxsize=4096)
def _step(label: str, sources: tuple[_Reached, ...]) -> _Reached:
    """Return a step that reads others; one that reads nothing is reached from the first point all the same."""
    walks = [{label: 1}]
    for length in range(_WALK - 1):
        walks.append(_added([source.walks[length] for source in sources], f" > {label}"))
    counted = {f"walk {walk}": times for ending in walks for walk, times in ending.items()}
    sources = sources or (_FIRST,)
    join = label.partition("(")[0] in _JOINS
    paths = [source.paths for source in sources if source.paths is not None]
    longer = _added(paths, "" if join else f" {label}")
    groups = dict.fromkeys([label, *(group for source in sources for group in source.most)])
    own = {group: float(group == label) for group in groups}
    most = {g: max([source.most.get(g, 0.0) for source in sources]) + more for g, more in own.items()}
    least = {g: min([source.least.get(g, 0.0) for source in sources]) + more for g, more in own.items()}
    mean = {g: sum([source.mean.get(g, 0.0) for source in sources]) / len(sources) + more for g, more in own.items()}
    return _Reached(
        tuple(walks),
        (tuple(map(named, counted)), tuple(counted.values())),
        longer if len(paths) == len(sources) and len(longer) <= _MOST_PATHS else None,
        sum([source.many for source in sources]),
        most,
        least,
        mean,
        min([source.fewest for source in sources]) + (not join),
        max([source.longest for source in sources]) + (not join),
    )


def _added(known: Sequence[Mapping[str, int]], more: str) -> dict[str, int]:
    """Return the sum of walks or paths, each made longer."""
    longer: dict[str, int] = {}
    for walks in known:
        for walk, times in walks.items():
            name = walk + more
            longer[name] = longer.get(name, 0) + times
    return longer


def _whole(end: _Reached, labels: Sequence[str]) -> dict[str, float]:
    """Return what is counted of the ways to the end, given the groups of all steps."""
    features: dict[str, float] = dict(end.paths or {})
    for group in sorted(set(labels[1:])):
        features[f"most {group}"] = end.most.get(group, 0.0)
        features[f"least {group}"] = end.least.get(group, 0.0)
        features[f"mean {group}"] = end.mean.get(group, 0.0)
    features["log paths"] = log(end.many) if end.many > 0 else 0.0
    features["shortest path"], features["longest path"] = end.fewest, end.longest
    return features


def _count_fans(labels: Sequence[str], reads: Sequence[Sequence[int]], features: dict[str, float]) -> None:
    """Count steps that several others read, and steps that read several."""
    readers = [0] * len(labels)
    for sources in reads:
        for source in sources:
            readers[source] += 1
    for label, sources, number in zip(labels, reads, readers, strict=True):
        for what, many in (("out", number), ("in", len(sources))):
            if many > 1:
                name = f"fan {what} {label} {min(many, _WIDEST_FAN)}"
                features[name] = features.get(name, 0) + 1
