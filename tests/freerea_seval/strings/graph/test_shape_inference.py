"""Shapes, dtypes, parameters and multiply-adds that follow from an operation: torch is the oracle."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from freerea_seval.strings.graph.ir import Node, Ref, Spec, Weight, node_macs
from freerea_seval.strings.graph.shape_inference import infer_results, infer_weights
from freerea_seval.strings.trace.tracer import trace_module

small = st.integers(1, 3)


def operation(module: nn.Module, *shapes: tuple[int, ...]) -> tuple[Node, list[Spec], list[Weight]]:
    """Return the one operation of a module, and what it reads."""
    graph = trace_module(module, [torch.ones(shape) for shape in shapes])
    (node,) = (node for node in graph if node.kind not in ("input", "output"))
    return node, [graph.spec(ref) for ref in node.refs], list(node.weights)


def check(module: nn.Module, *shapes: tuple[int, ...]) -> Node:
    """Check that everything of a module's operation follows from it."""
    node, specs, weights = operation(module, *shapes)
    attributes = dict(node.attributes)
    assert infer_results(node.kind, attributes, specs, weights) == node.outputs
    assert infer_weights(node.kind, attributes, specs) == [weight.shape for weight in weights]
    return node


@settings(max_examples=60, deadline=None)
@given(
    dimensions=st.integers(1, 3),
    transposed=st.booleans(),
    groups=small,
    factors=st.tuples(small, small),
    geometry=st.tuples(small, small, st.integers(0, 2), small),
    bias=st.booleans(),
    size=st.integers(4, 7),
)
def test_convolutions_follow_and_cost_what_their_definition_says(
    dimensions: int,
    transposed: bool,
    groups: int,
    factors: tuple[int, int],
    geometry: tuple[int, int, int, int],
    bias: bool,
    size: int,
) -> None:
    kernel, stride, padding, dilation = geometry
    into, out = groups * factors[0], groups * factors[1]
    assume(size + 2 * padding > dilation * (kernel - 1))
    name = f"Conv{'Transpose' if transposed else ''}{dimensions}d"
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    assume(not transposed or (size - 1) * stride - 2 * padding + dilation * (kernel - 1) >= 0)
    module = getattr(nn, name)(into, out, kernel, bias=bias, **options)
    shape = (2, into, *(size,) * dimensions)
    node = check(module, shape)
    # Every weight meets every position of the output, or (transposed) of the input.
    positions = prod(shape[2:] if transposed else node.outputs[0].shape[2:])
    assert node_macs(node, [shape]) == 2 * positions * module.weight.numel()


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["AvgPool", "MaxPool"]),
    dimensions=st.integers(2, 3),  # torch runs one dimension as two
    kernel=st.integers(1, 4),
    stride=small,
    ceil=st.booleans(),
    size=st.integers(4, 9),
    data=st.data(),
)
def test_pools_follow(
    kind: str, dimensions: int, kernel: int, stride: int, ceil: bool, size: int, data: st.DataObject
) -> None:
    padding = data.draw(st.integers(0, kernel // 2))
    module = getattr(nn, f"{kind}{dimensions}d")(kernel, stride, padding, ceil_mode=ceil)
    shape = (2, 3, *(size,) * dimensions)
    assert node_macs(check(module, shape), [shape]) == 0


@pytest.mark.parametrize(
    ("module", "shape", "macs"),
    [
        (nn.Linear(4, 6), (2, 3, 4), 6 * 4 * 6),
        (nn.Linear(4, 6, bias=False), (4,), None),
        (nn.BatchNorm2d(4), (2, 4, 3, 3), 0),
        (nn.BatchNorm1d(4, affine=False), (2, 4), 0),
        (nn.LayerNorm(4), (2, 4), 0),
        (nn.GroupNorm(2, 4), (2, 4, 3), 0),
        (nn.AdaptiveAvgPool2d(2), (2, 4, 6, 6), 0),
        (nn.Softmax(-1), (2, 4), 0),
        (nn.ReLU(), (), 0),
    ],
)
def test_layers_follow(module: nn.Module, shape: tuple[int, ...], macs: int | None) -> None:
    if macs is None:  # a vector runs as a product with a matrix of one row
        assert trace_module(module, [torch.ones(shape)]).macs == 4 * 6
    else:
        assert node_macs(check(module, shape), [shape]) == macs


class Operation(nn.Module):
    def __init__(self, name: str, options: dict[str, Any]) -> None:
        super().__init__()
        self.name, self.options = name, options

    def forward(self, *tensors: Tensor) -> Any:
        return getattr(torch, self.name)(*tensors, **self.options)


@pytest.mark.parametrize(
    ("name", "options", "shapes"),
    [
        ("add", {}, [(2, 1, 4), (3, 1)]),
        ("mul", {}, [(2, 3), ()]),
        ("matmul", {}, [(2, 3, 4), (2, 4, 5)]),
        ("sum", {}, [(2, 3)]),
        ("mean", {"dim": (0, 2)}, [(2, 3, 4)]),
        ("mean", {"dim": -1, "keepdim": True}, [(2, 3, 4)]),
        ("amax", {"dim": 1}, [(2, 3)]),
        ("eq", {}, [(2, 3), (3,)]),
        ("select", {"dim": 1, "index": -1}, [(2, 3, 4)]),
        ("unbind", {"dim": 1}, [(2, 3, 4)]),
        ("split", {"split_size_or_sections": 2, "dim": 1}, [(2, 5)]),
        ("split", {"split_size_or_sections": [1, 4], "dim": 1}, [(2, 5)]),
        ("transpose", {"dim0": 0, "dim1": -1}, [(2, 3, 4)]),
        ("argmax", {"dim": 1}, [(2, 3)]),
        ("isnan", {}, [(2, 3)]),
    ],
)
def test_operations_follow(name: str, options: dict[str, Any], shapes: list[tuple[int, ...]]) -> None:
    check(Operation(name, options), *shapes)


def test_concatenation_follows() -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return torch.cat([x, y], -1)

    assert check(Both(), (2, 3), (2, 4)).outputs == (Spec((2, 7)),)


def test_attention_costs_two_products_a_head() -> None:
    node = Node("attention", (), (Ref(0), Ref(1), Ref(2)), (Spec((2, 8, 5, 6)),))
    assert node_macs(node, [(2, 8, 5, 4), (2, 2, 7, 4), (2, 2, 7, 6)]) == 2 * 8 * 5 * 7 * (4 + 6)


def test_a_grouped_product_multiplies_each_row_by_one_matrix() -> None:
    rows = Node("grouped_mm", (), (Ref(0), Ref(1)), (Spec((7, 5)),))
    assert node_macs(rows, [(7, 3), (4, 3, 5)]) == 7 * 3 * 5
    columns = Node("grouped_mm", (), (Ref(0), Ref(1)), (Spec((4, 3, 5)),))
    assert node_macs(columns, [(3, 8), (8, 5)]) == 3 * 8 * 5


def test_attributes_that_do_not_fit_a_rule_predict_nothing() -> None:
    image = [Spec((1, 3, 8, 8))]
    assert infer_results("conv", {"out": 4}, image, []) is None
    assert infer_results("conv", {"k": "word", "out": 4}, image, []) is None
    assert infer_results("unbind", {"dim": 9}, image, []) is None
    assert infer_results("input", {}, [], []) is None
    assert infer_weights("conv", {"out": 4, "k": (3, 3), "g": 0}, image) == []
