"""Numbers out of network strings: what is executed how often, what follows what, and what it costs.

The strings are those of :mod:`freerea_seval.strings.grammar`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log1p, prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from freerea_patch import InputError
from freerea_seval.strings import graph as graphs
from freerea_seval.strings.grammar import channels
from freerea_seval.strings.read import read

Matrix = npt.NDArray[np.float32]

_SUMS = ("log multiply-adds", "log parameters", "log elements", "operations", "depth")
#: Features of every string, whatever was seen in training: sizes in logarithms, so that no width is out of range.
TOTALS = tuple(f"total {part} {of}" for part in ("all", "live") for of in _SUMS)
#: Attributes that say how wide a layer is.
_WIDTHS = frozenset(("out", "num"))


@dataclass(frozen=True, eq=False)  # compared by identity, which is quick to hash: see :func:`_operation`
class Operation:
    """One operation of a network without its inputs.

    Attributes:
        label: kind, attributes, and shapes of input and result.
        group: kind and attributes but for widths, so that it is the same at every size.
        multiply_adds, parameters, elements: what it costs; elements are the result's.
    """

    label: str
    group: str
    multiply_adds: int
    parameters: int
    elements: int


class Node(NamedTuple):
    """An operation and the positions of its inputs."""

    operation: Operation
    inputs: tuple[int, ...]


def parse_string(string: str) -> list[Node]:
    """Return the operations of a network string.

    Raises:
        InputError: not a network string.
    """
    graph = read(string)
    nodes = []
    for kind, attributes, inputs, outputs in graph:
        sources, shapes, parameters = [], [], 0
        for item in inputs:
            if isinstance(item, graphs.Ref):
                sources.append(item.node)
                shapes.append(graph.nodes[item.node].outputs[item.port].shape)
            else:
                shapes.append(item.shape)
                if item.tied is None:
                    parameters += prod(item.shape)
        operation = _operation(kind, attributes, tuple(shapes), outputs, parameters)
        nodes.append(Node(operation, tuple(sources)))
    return nodes


@lru_cache(maxsize=65536)
def _operation(
    kind: str,
    attributes: tuple[tuple[str, graphs.Value], ...],
    shapes: tuple[graphs.Shape, ...],
    outputs: tuple[graphs.Spec, ...],
    parameters: int,
) -> Operation:
    width = channels(kind, [graphs.Spec(shape) for shape in shapes[:1]])
    said = [
        "dw" if name == "g" and value == width != 1 else f"{name}={value}"
        for name, value in attributes
        if name not in _WIDTHS
    ]
    group = f"{kind}({','.join(said)})" if said else kind
    results = [spec.shape for spec in outputs]
    macs = graphs.node_macs(graphs.Node(kind, attributes, (), outputs), shapes)
    return Operation(f"{group}{shapes[:1]}{results}", group, macs, parameters, sum(map(prod, results)))


class StringFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn transformer from network strings to features.

    Columns, in this order:

    - :data:`TOTALS`, over all operations and over the live ones, those whose values reach the output;
    - ``cost ...``: per group of operations (kind and window, at any width) how many there are, and the
      elements and multiply-adds that they sum up to, over all and over the live ones;
    - ``count ...``: how often an operation occurs, shapes included and inputs not;
    - ``live chain ...``: how often three live operations follow each other, identities skipped, by group;
    - ``pair ...``: how often one operation's result is another's input, by group.

    All but the totals are a sorted vocabulary of what two training strings or more show, less columns that
    repeat one before. What was never seen in training adds to the totals and to nothing else.

    Attributes:
        vocabulary_: names of the columns after the totals.
    """

    vocabulary_: list[str]

    def fit(self, strings: Sequence[str], y: object = None) -> StringFeatures:
        """Learn the vocabulary.

        Args:
            strings: ``(n,)`` network strings, at least one.
            y: ignored.

        Raises:
            InputError: nothing to learn from, or something that is no network string.
        """
        self._fit(self._described(strings))
        return self

    def transform(self, strings: Sequence[str]) -> Matrix:
        """Return the features.

        Args:
            strings: ``(n,)`` network strings.

        Returns:
            ``(n, d)`` float32.

        Raises:
            InputError: something that is no network string.
            sklearn.exceptions.NotFittedError: before :meth:`fit`.
        """
        check_is_fitted(self, "vocabulary_")
        return _matrix(self._described(strings), [*TOTALS, *self.vocabulary_])

    def fit_transform(self, strings: Sequence[str], y: object = None) -> Matrix:
        """Do both, and read every string only once."""
        described = self._described(strings)
        self._fit(described)
        return _matrix(described, [*TOTALS, *self.vocabulary_])

    def _described(self, strings: Sequence[str]) -> list[Mapping[str, float]]:
        # Many networks share a functional string.
        described = {string: _describe(parse_string(string)) for string in dict.fromkeys(check_strings(strings))}
        return [described[string] for string in strings]

    def _fit(self, described: Sequence[Mapping[str, float]]) -> None:
        if not described:
            raise InputError("features need at least one network string to learn their vocabulary from")
        seen = Counter(name for description in described for name in description)
        names = sorted(name for name, count in seen.items() if count > 1 and name not in TOTALS)
        _, first = np.unique(_matrix(described, names), axis=1, return_index=True)
        self.vocabulary_ = [names[column] for column in sorted(first)]

    def get_feature_names_out(self, input_features: object = None) -> npt.NDArray[np.object_]:
        """Return the names of the columns, ``(d,)``."""
        check_is_fitted(self, "vocabulary_")
        return np.array([*TOTALS, *self.vocabulary_], dtype=object)

    @property
    def costs_(self) -> slice:
        """The columns that costs are sums of: see ``cost ...`` above."""
        return slice(len(TOTALS), len(TOTALS) + sum(name.startswith("cost ") for name in self.vocabulary_))


def check_strings(strings: Sequence[str]) -> Sequence[str]:
    """Return ``strings``; raise :class:`InputError` unless it is a sequence of strings."""
    if isinstance(strings, str) or not all(isinstance(string, str) for string in strings):
        raise InputError("expected a list of network strings, such as SpaceStrings(space).strings(genotypes) gives")
    return strings


def _matrix(described: Sequence[Mapping[str, float]], names: Sequence[str]) -> Matrix:
    matrix = np.zeros((len(described), len(names)), dtype=np.float32)
    column = {name: place for place, name in enumerate(names)}
    for row, description in zip(matrix, described, strict=True):
        for name, value in description.items():
            if name in column:
                row[column[name]] = value
    return matrix


def _describe(nodes: Sequence[Node]) -> dict[str, float]:
    """Return all features of one string by name."""
    live = _live(nodes)
    features: defaultdict[str, float] = defaultdict(float)
    for part, kept in (("all", [True] * len(nodes)), ("live", live)):
        tally = Counter(node.operation for node, keep in zip(nodes, kept, strict=True) if keep)
        multiply_adds = parameters = elements = 0
        for operation, times in tally.items():
            multiply_adds += times * operation.multiply_adds
            parameters += times * operation.parameters
            elements += times * operation.elements
            features[f"cost {part} {operation.group} operations"] += times
            features[f"cost {part} {operation.group} elements"] += times * operation.elements
            features[f"cost {part} {operation.group} multiply-adds"] += times * operation.multiply_adds
            if part == "all":
                features[f"count {operation.label}"] += times
        totals = [*map(log1p, (multiply_adds, parameters, elements)), tally.total(), _depth(nodes, kept)]
        for of, total in zip(_SUMS, totals, strict=True):
            features[f"total {part} {of}"] = total
    pairs = Counter((nodes[source].operation.group, node.operation.group) for node in nodes for source in node.inputs)
    for pair, times in pairs.items():
        features[f"pair {' -> '.join(pair)}"] = times
    origin = _origins(nodes)
    chains: Counter[tuple[str, str, str]] = Counter()
    for position, (operation, inputs) in enumerate(nodes):
        if not live[position] or origin[position] != position:
            continue
        for source in inputs:
            middle, before = nodes[origin[source]]
            for first in before if live[origin[source]] else ():
                if live[origin[first]]:
                    chains[nodes[origin[first]].operation.group, middle.group, operation.group] += 1
    for chain, times in chains.items():
        features[f"live chain {' -> '.join(chain)}"] = times
    return features


def _origins(nodes: Sequence[Node]) -> list[int]:
    """Return which node made the value of each: itself, or the one whose result an identity passes on."""
    origin = list(range(len(nodes)))
    for position, (operation, inputs) in enumerate(nodes):
        if operation.group == "alias" and inputs:
            origin[position] = origin[inputs[0]]
    return origin


def _live(nodes: Sequence[Node]) -> list[bool]:
    """Return which results reach the output, which is the last one; a product with zero lets nothing through."""
    live = [False] * len(nodes)
    live[-1] = True
    for position in range(len(nodes) - 1, -1, -1):
        if nodes[position].operation.group == "mul(other=0)":
            live[position] = False
        if live[position]:
            for source in nodes[position].inputs:
                live[source] = True
    return live


def _depth(nodes: Sequence[Node], kept: Sequence[bool]) -> int:
    """Return the number of operations on the longest path through those that are kept."""
    depth = [0] * len(nodes)
    for position, (_, inputs) in enumerate(nodes):
        if kept[position]:
            longest = 0
            for source in inputs:
                if depth[source] > longest:
                    longest = depth[source]
            depth[position] = 1 + longest
    return max(depth)
