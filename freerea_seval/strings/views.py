"""The two views of a network: what a device runs, and what the network computes."""

from __future__ import annotations

import re
from typing import Literal, get_args

from freerea_patch import unknown_name
from freerea_seval.strings.graph.ir import Graph
from freerea_seval.strings.graph.simplify import functional

#: ``executed``: every operation, dead branches and multiplications by zero included; ``functional``: the function.
View = Literal["executed", "functional"]
VIEWS: tuple[View, ...] = get_args(View)
#: What a metric's name holds if it follows from the function alone; short words only where they begin, so that
#: latencies on an accelerator, a laptop1 or in bf16 are none of these.
_OF_FUNCTION = re.compile(
    r"acc(?!el)|error|loss|auc|iou|perplexity|robust|fgsm|pgd|attack|corrupt|jacobian"
    r"|(?<![a-z])(err|top-?\d|f1|map(?![a-z]))"
)


def view_of(graph: Graph, view: View) -> Graph:
    """Return a view of a network's graph of executed operations.

    Raises:
        InputError: an unknown view.
    """
    return functional(graph) if check_view(view) == "functional" else graph


def default_view(metric: str) -> View:
    """Return the view for a metric: the function for accuracy and robustness, all that runs for costs."""
    return "functional" if _OF_FUNCTION.search(metric.lower()) else "executed"


def check_view(view: str) -> View:
    """Return a view by its name.

    Raises:
        InputError: there is none of this name.
    """
    for known in VIEWS:
        if view == known:
            return known
    raise unknown_name("view of a network", view, VIEWS)
