"""The graph of a network, without torch.

:mod:`.ir` defines nodes and graphs. :mod:`.shape_inference` infers the shapes of results and parameters, and
:mod:`.printer` prints what cannot be inferred. :mod:`.simplify` makes the functional view of a graph, in the order of
:mod:`.canonical_order`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freerea_patch._lazy import lazy_exports

if TYPE_CHECKING:
    from freerea_seval.strings.graph.ir import Graph, Node, Ref, Shape, Spec, Value, Weight, integers, node_macs
    from freerea_seval.strings.graph.printer import operation_label
    from freerea_seval.strings.graph.shape_inference import (
        BINARY,
        SINKS,
        channels,
        infer_dtype,
        infer_results,
        infer_weights,
    )

__all__ = [
    "BINARY",
    "SINKS",
    "Graph",
    "Node",
    "Ref",
    "Shape",
    "Spec",
    "Value",
    "Weight",
    "channels",
    "infer_dtype",
    "infer_results",
    "infer_weights",
    "integers",
    "node_macs",
    "operation_label",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "freerea_seval.strings.graph.ir": [
            "Graph",
            "Node",
            "Ref",
            "Shape",
            "Spec",
            "Value",
            "Weight",
            "integers",
            "node_macs",
        ],
        "freerea_seval.strings.graph.printer": ["operation_label"],
        "freerea_seval.strings.graph.shape_inference": [
            "BINARY",
            "SINKS",
            "channels",
            "infer_dtype",
            "infer_results",
            "infer_weights",
        ],
    },
)
