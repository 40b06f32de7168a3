"""Operations as they are recorded, before they are a graph."""

from __future__ import annotations

from typing import NamedTuple

from freerea_seval.strings.graph.ir import Ref, Spec, Value


class Parameter(NamedTuple):
    """A parameter as an operation reads it: which one it is, its shape and dtype."""

    key: int
    spec: Spec


#: What an operation reads: a result of another one, or a parameter.
Source = Ref | Parameter

#: An operation: kind, attributes, inputs, results.
Row = tuple[str, dict[str, Value], list[Source], list[Spec]]
