"""Tracing as the tests do it: what holds of every graph is checked, and the autograd walk is the oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from freerea_patch import InputError
from freerea_seval.strings.graph.ir import Graph
from freerea_seval.strings.text.parse import parse_graph as read
from freerea_seval.strings.text.serialize import serialize_graph as write
from freerea_seval.strings.trace.tracer import trace_module
from tests.freerea_seval.strings.trace.autograd_walk import UnseenError, trace_by_autograd


class Function(nn.Module):
    """A function as a network, with the modules that it uses."""

    def __init__(self, function: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def traced(network: nn.Module, *inputs: Any, **named: Any) -> Graph:
    """Trace, check what holds of every graph, and compare with the autograd walk if that shows everything."""
    arguments = named or inputs
    graph = trace_module(network, arguments)
    assert read(write(graph)) == graph
    assert graph.parameters == sum(parameter.numel() for parameter in network.parameters())
    try:
        walked = trace_by_autograd(network, arguments)
    except (UnseenError, InputError):
        return graph
    assert walked == graph
    return graph


def string_of(function: Callable[..., Any], *inputs: Any) -> str:
    return write(traced(Function(function), *(inputs or [torch.ones(1, 4)])))


def is_seen_by_autograd(network: nn.Module, *inputs: Any) -> bool:
    try:
        trace_by_autograd(network, inputs)
    except (UnseenError, InputError):
        return False
    return True
