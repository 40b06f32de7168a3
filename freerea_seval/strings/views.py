"""The two views of a network: the operations that it executes, and the function that it computes."""

from __future__ import annotations

import re
from typing import Literal, get_args

from freerea_patch import unknown_name
from freerea_seval.strings.graph.ir import Graph
from freerea_seval.strings.graph.simplify import simplify

#: ``executed``: all operations, including dead branches and multiplications by zero, for latency, energy and memory;
#: ``functional``: the simplified graph, for accuracy and robustness.
View = Literal["executed", "functional"]
VIEWS: tuple[View, ...] = get_args(View)
#: Matches names of metrics that depend on the function alone. Short words must begin a word, so that latencies on an
#: accelerator or a laptop1, or in bf16, do not match.
_FUNCTIONAL_METRICS = re.compile(
    r"acc(?!el)|error|loss|auc|iou|perplexity|robust|fgsm|pgd|attack|corrupt|jacobian"
    r"|(?<![a-z])(err|top-?\d|f1|map(?![a-z]))"
)


def view_of(graph: Graph, view: View) -> Graph:
    """Return a view of the graph of executed operations.

    Raises:
        InputError: an unknown view.
    """
    return simplify(graph) if check_view(view) == "functional" else graph


def default_view(metric: str) -> View:
    """Return the view that suits a metric, by its name: functional for accuracy and robustness, executed for costs."""
    return "functional" if _FUNCTIONAL_METRICS.search(metric.lower()) else "executed"


def check_view(view: str) -> View:
    """Return the view of this name.

    Raises:
        InputError: an unknown view.
    """
    for valid in VIEWS:
        if view == valid:
            return valid
    raise unknown_name("view of a network", view, VIEWS)
