"""Numbers out of network strings: what is executed how often, what follows what, and what it costs.

The strings are those of :mod:`freerea_seval.strings.trace`, whose docstring has the grammar.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import log1p, prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from freerea_patch import InputError

try:
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    raise InputError("predictors need scikit-learn: pip install 'freerea-seval[predictor]'") from error

Matrix = npt.NDArray[np.float32]

#: Features of every string, whatever was seen in training: sizes in logarithms, so that no width is out of range.
TOTALS = tuple(
    f"{part} {total}"
    for part in ("all", "live")
    for total in ("log multiply-adds", "log parameters", "log elements", "operations", "depth")
)

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
        label, _, distances = token.partition("<-")
        operation = _operation(label)
        inputs = tuple(position - int(d) if d.isdecimal() else -1 for d in distances.split(",")) if distances else ()
        if operation is None or any(not 0 <= source < position for source in inputs):
            raise InputError(
                f"{token[:60]!r} is no token of a network string; expected one such as"
                " 'relu[16x32x32]<-1', as freerea_seval.strings.trace writes them"
            )
        nodes.append(Node(operation, inputs))
    return nodes


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


def _live(nodes: Sequence[Node]) -> list[bool]:
    """Return which nodes' values reach the output: a product with zero lets nothing through."""
    live = [False] * len(nodes)
    if live:
        live[-1] = True
    for position in range(len(nodes) - 1, -1, -1):
        operation, inputs = nodes[position]
        if operation.group == "mul(0)":
            live[position] = False
        elif live[position]:
            for source in inputs:
                live[source] = True
    return live


def _totals(nodes: Sequence[Node]) -> list[float]:
    """Return the sizes, number and longest path of some nodes of a string, the others being None."""
    raise NotImplementedError
