"""Whatever a network returns, its tensors are the outputs of the graph."""

from __future__ import annotations

from collections import OrderedDict, UserDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from freerea_patch import InputError
from freerea_seval.strings import VIEWS, encode_module
from tests.freerea_seval.strings.trace.tracing import Function


@dataclass
class Data:
    logits: Tensor
    label: str = "cat"


class Pair(NamedTuple):
    logits: Tensor
    none: None = None


class Slots:
    __slots__ = ("logits",)

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


class OneSlot:
    __slots__ = "logits"

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


MODEL = nn.Linear(2, 2)


class Cyclic:
    def __init__(self, logits: Tensor) -> None:
        self.logits, self.me, self.model = logits, self, MODEL


WRAPPERS: list[Callable[[Tensor], Any]] = [
    lambda y: SimpleNamespace(logits=y),
    lambda y: {y},
    lambda y: frozenset([y]),
    lambda y: deque([y]),
    lambda y: UserDict(logits=y),
    lambda y: OrderedDict(logits=y, loss=None),
    lambda y: [{"a": SimpleNamespace(b={y})}, 3, "text"],
    Data,
    Pair,
    Slots,
    OneSlot,
    Cyclic,
]


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_tensors_are_found_in_whatever_is_returned(wrap: Callable[[Tensor], Any]) -> None:
    layer = nn.Linear(4, 3)
    for view in VIEWS:
        found = encode_module(Function(lambda x: wrap(layer(x)), layer=layer), [torch.zeros(2, 4)], view)
        assert found == "input[2x4] linear(3,b) output"


def test_the_tensors_of_a_set_are_in_the_order_of_computation() -> None:
    for order in (1, -1):
        network = Function(lambda x, order=order: set([x, x.relu(), x.tanh()][::order]))
        assert encode_module(network, [torch.zeros(2, 4)]) == "input[2x4] relu tanh<-2 output<-3,2,1"


@pytest.mark.parametrize(
    ("wrap", "name"),
    [
        (lambda y: y.detach().numpy(), "ndarray"),
        (lambda y: (y, y.detach().numpy()), "ndarray"),
        (lambda y: y.sum().item(), "float"),
        (lambda y: (t for t in [y]), "generator"),
        (lambda y: None, "NoneType"),
        (lambda y: {"a": [1, "text"]}, "dict"),
    ],
)
def test_a_result_without_tensors_is_named(wrap: Callable[[Tensor], Any], name: str) -> None:
    with pytest.raises(InputError, match=f"the network returns (a )?{name}.*; return tensors"):
        encode_module(Function(lambda x: wrap(x.relu())), [torch.zeros(2, 4)])
