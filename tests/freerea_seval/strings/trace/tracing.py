"""Tracing as the tests do it: by both routes, with what holds of every graph checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from freerea_patch import InputError
from freerea_seval.strings.graph.ir import Graph
from freerea_seval.strings.text.parse import parse_graph as read
from freerea_seval.strings.text.serialize import serialize_graph as write
from freerea_seval.strings.trace.tracer import trace


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
    """Trace by both routes where both see the network, and check what holds of every graph."""
    given = named or inputs
    graph = trace(network, given, "dispatch")
    assert read(write(graph)) == graph
    assert graph.parameters == sum(parameter.numel() for parameter in network.parameters())
    try:
        walked = trace(network, given, "autograd")
    except InputError as error:
        assert str(error).startswith("the autograd graph does not show everything")  # noqa: PT017
        assert trace(network, given) == graph
    else:
        assert walked == graph
    return graph


def string_of(function: Callable[..., Any], *inputs: Any) -> str:
    return write(traced(Function(function), *(inputs or [torch.ones(1, 4)])))


def sees(network: nn.Module, *inputs: Any) -> bool:
    try:
        trace(network, inputs, "autograd")
    except InputError:
        return False
    return True
