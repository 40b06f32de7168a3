"""Where in a tensor something is written or read: two places are two strings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from freerea_seval.predictor.features.vectorizer import StringFeatures
from freerea_seval.strings.encode import encode_module
from freerea_seval.strings.graph.ir import Graph, Node, integers
from freerea_seval.strings.text.parse import parse_graph
from freerea_seval.strings.text.serialize import serialize_graph
from freerea_seval.strings.text.tokenizer import Tokenizer
from freerea_seval.strings.views import VIEWS
from tests.freerea_seval.strings.trace.tracing import Function, string_of, traced

SHAPE = (2, 3, 4)
NUMBERS = torch.arange(24).view(SHAPE)


def index(length: int) -> st.SearchStrategy[int | slice]:
    whole = st.integers(0, length - 1)
    return whole | st.builds(slice, whole, st.just(length), st.integers(1, 2))


INDICES = st.tuples(*map(index, SHAPE))


def the(kind: str, graph: Graph) -> Node:
    (node,) = [node for node in graph if node.kind == kind]
    return node


def numbers_at(node: Node, shape: torch.Size) -> Tensor:
    """Return which numbers of a whole tensor the one part of this shape has, by the attributes."""
    attributes = dict(node.attributes)
    (offset,) = integers(attributes.get("offset", 0))
    steps = iter(integers(attributes["stride"]) if "stride" in attributes else ())
    strides = list(torch.empty(shape).stride())
    if "stride" in attributes:
        strides = [next(steps) if size > 1 else 1 for size in shape]
    return NUMBERS.flatten().as_strided(shape, strides, offset)


@settings(max_examples=60, deadline=None)
@given(INDICES, st.permutations(range(3)))
def test_a_write_says_what_it_writes_to_however_the_whole_is_laid_out(place: Any, order: list[int]) -> None:
    back = [order.index(dim) for dim in range(3)]

    def fill(x: Tensor) -> Tensor:
        y = x.permute(order).contiguous().permute(back).clone()
        if y[place].numel() < y.numel():
            y[place] = 1
        return y.tanh()

    part = NUMBERS[place]
    nodes = [node for node in traced(Function(fill), torch.ones(SHAPE)) if node.kind == "update"]
    assert len(nodes) == (part.numel() < 24)
    for node in nodes:
        assert torch.equal(numbers_at(node, part.shape), part)


@settings(max_examples=60, deadline=None)
@given(INDICES)
def test_a_part_that_is_read_after_a_write_says_which_it_is(place: Any) -> None:
    def late(x: Tensor) -> Tensor:
        y = x.tanh()
        part = y[place]
        y[0, 0, 0] = 1
        return part.neg()

    found = [node for node in traced(Function(late), torch.ones(SHAPE)) if node.kind == "as_strided"]
    part = NUMBERS[place]
    assert found or part.flatten()[0] == 0  # the whole, or what was written itself
    for node in found:
        assert torch.equal(numbers_at(node, part.shape), part)


def filled(*places: Any) -> Callable[[Tensor], Tensor]:
    def fill(x: Tensor) -> Tensor:
        y = x.tanh()
        for place in places:
            y[place] = 0
        return y.neg()

    return fill


def shifted(forward: bool) -> Callable[[Tensor], Tensor]:
    def shift(x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        target = y[:, 1:] if forward else y[:, :-1]
        target.copy_(x[:, 1:])
        return y.neg()

    return shift


def erased(half: slice) -> Callable[[Tensor], Tensor]:
    def erase(x: Tensor) -> Tensor:
        y = x.tanh()
        y[:, half].mul_(0)
        return y.neg()

    return erase


PAIRS = {
    "which row is filled": (filled((slice(None), 0)), filled((slice(None), 2))),
    "which half is filled": (filled((slice(None), slice(2))), filled((slice(None), slice(1, 3)))),
    "every second or the first": (
        filled((slice(None), slice(None), slice(0, 4, 2))),
        filled((slice(None), slice(None), slice(2))),
    ),
    "the second of two writes": (filled((0, 0), (0, 1)), filled((0, 0), (1, 2))),
    "which way a shift goes": (shifted(True), shifted(False)),
    "what is multiplied by zero": (erased(slice(2)), erased(slice(1, 3))),
    "a tensor or its transpose": (
        lambda x: late_view(x[0], lambda y: y.t()),
        lambda x: late_view(x[0], lambda y: y.view(4, 3)),
    ),
}


def late_view(x: Tensor, look: Callable[[Tensor], Tensor]) -> Tensor:
    y = x.tanh()
    seen = look(y)
    y[0, 0] = 0
    return seen.neg()


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("pair", PAIRS)
def test_two_places_are_two_strings_that_are_read_back_and_made_into_tokens(pair: str, view: Any) -> None:
    strings = [encode_module(Function(function), [torch.ones(SHAPE)], view) for function in PAIRS[pair]]
    assert strings[0] != strings[1]
    tokenizer = Tokenizer()
    for string in strings:
        assert serialize_graph(parse_graph(string)) == string
        assert tokenizer.decode(*tokenizer.encode(string)) == string


def test_a_write_at_the_beginning_without_gaps_goes_without_saying() -> None:
    string = string_of(filled((slice(None), slice(2))))
    assert string == "input[1x4] tanh slice(dim=1,end=2) fill(value=0)[1x2]<- update[1x4]<-3,1 neg output"


@pytest.mark.parametrize("name", ["cauchy_", "geometric_", "log_normal_", "uniform_", "exponential_"])
def test_a_draw_in_place_does_not_read_what_was_there(name: str) -> None:
    def draw(x: Tensor) -> Tensor:
        y = x.tanh()
        getattr(y, name)(*([0.5] if name == "geometric_" else []))
        return y

    node = traced(Function(draw), torch.ones(1, 4)).nodes[-2]
    assert (node.kind, node.inputs) == (name.strip("_"), ())


def test_a_network_that_writes_to_parts_has_features_for_predictors() -> None:
    strings = [
        encode_module(Function(function), [torch.ones(SHAPE)], view)
        for pair in PAIRS.values()
        for function in pair
        for view in VIEWS
    ]
    features = StringFeatures().fit(strings).transform(strings)
    assert features.shape[0] == len(strings)
    assert np.isfinite(features).all()
