"""Numbers out of network strings: what is executed how often, what follows what, and what it costs.

The strings are those of :mod:`freerea_seval.strings.trace`, whose docstring has the grammar.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import log1p, prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from freerea_patch import InputError

Matrix = npt.NDArray[np.float32]

_SUMS = ("log multiply-adds", "log parameters", "log elements", "operations", "depth")
#: Features of every string, whatever was seen in training: sizes in logarithms, so that no width is out of range.
TOTALS = tuple(f"total {part} {of}" for part in ("all", "live") for of in _SUMS)

_TOKEN = re.compile(r"(?P<kind>\w+)(?:\((?P<attributes>[^()]+)\))?(?:\[(?P<shape>[\dx]*)\])?")
#: Kinds whose attributes begin with two widths.
_WIDTHS = frozenset(("conv", "deconv", "linear", "matmul"))


class Operation(NamedTuple):
    """One token without its inputs.

    Attributes:
        label: the token's text: kind, attributes and shape.
        group: kind and attributes but for widths, so that it is the same at every size.
        multiply_adds, parameters, elements: what the token says of them; elements are the result's.
    """

    label: str
    group: str
    multiply_adds: int
    parameters: int
    elements: int


class Node(NamedTuple):
    """A token and the positions of its inputs."""

    operation: Operation
    inputs: tuple[int, ...]


def parse_string(string: str) -> list[Node]:
    """Return the tokens of a network string.

    Raises:
        InputError: not a string of :func:`freerea_seval.strings.trace.network_string`.
    """
    nodes: list[Node] = []
    for position, token in enumerate(string.split()):
        label, arrow, distances = token.partition("<-")
        operation = _operation(label)
        inputs = [position - int(d) if d.isdecimal() else -1 for d in distances.split(",")] if arrow else []
        if operation is None or not all(0 <= source < position for source in inputs):
            raise _no_string(token, "no token of a network string")
        nodes.append(Node(operation, tuple(inputs)))
    if not nodes or (nodes[0].operation.group, nodes[-1].operation.group) != ("input", "output"):
        raise _no_string(string, "no network string")
    return nodes


def _no_string(text: str, what: str) -> InputError:
    shortened = text if len(text) <= 60 else text[:60] + "..."
    return InputError(
        f"{shortened!r} is {what}; expected what freerea_seval.strings.trace"
        " writes, such as 'input[3x32x32] relu[3x32x32]<-1 output<-1'"
    )


@lru_cache(maxsize=65536)
def _operation(label: str) -> Operation | None:
    match = _TOKEN.fullmatch(label)
    if match is None:
        return None
    kind, attributes = match["kind"], (match["attributes"] or "").split(",")
    costs = {"m": 0, "w": 0}
    kept = []
    for place, attribute in enumerate(attributes):
        if attribute[:1] in costs and attribute[1:].isdecimal():
            costs[attribute[0]] = int(attribute[1:])
        elif attribute and not (kind in _WIDTHS and place < 2):
            kept.append(attribute)
    sizes = match["shape"]
    elements = prod(map(int, filter(None, sizes.split("x")))) if sizes is not None else 0
    return Operation(label, f"{kind}({','.join(kept)})" if kept else kind, costs["m"], costs["w"], elements)


class StringFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn transformer from network strings to features.

    Columns, in this order:

    - :data:`TOTALS`, over all operations and over the live ones, those whose values reach the output;
    - ``cost ...``: per group of operations (kind and window, at any width) how many there are, and the
      elements and multiply-adds that they sum up to, over all and over the live ones;
    - ``count ...``: how often a token occurs, shape included and inputs not;
    - ``live chain ...``: how often three live operations follow each other, by group;
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
        return [_describe(parse_string(string)) for string in check_strings(strings)]

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
    pairs: Counter[tuple[str, str]] = Counter()
    chains: Counter[tuple[str, str, str]] = Counter()
    for position, (operation, inputs) in enumerate(nodes):
        for source in inputs:
            middle, before = nodes[source]
            pairs[middle.group, operation.group] += 1
            if live[position] and live[source]:
                for first in before:
                    if live[first]:
                        chains[nodes[first].operation.group, middle.group, operation.group] += 1
    for pair, times in pairs.items():
        features[f"pair {' -> '.join(pair)}"] = times
    for chain, times in chains.items():
        features[f"live chain {' -> '.join(chain)}"] = times
    return features


def _live(nodes: Sequence[Node]) -> list[bool]:
    """Return which results reach the output, which is the last token; a product with zero lets nothing through."""
    live = [False] * len(nodes)
    live[-1] = True
    for position in range(len(nodes) - 1, -1, -1):
        if nodes[position].operation.group == "mul(0)":
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
            depth[position] = 1 + max([depth[source] for source in inputs], default=0)
    return max(depth)
