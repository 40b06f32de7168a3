"""Multiply-adds of single operations, against counts by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from freerea_seval.strings import Node, Spec, parse_graph, serialize_graph, trace_module
from freerea_seval.strings.graph.ir import Ref, node_macs
from tests.freerea_seval.strings.trace.tracing import Function


def zeros(*shape: int) -> Tensor:
    return torch.zeros(shape)


@pytest.mark.parametrize(
    ("function", "inputs", "expected"),
    [
        (torch.addbmm, [zeros(3, 4), zeros(6, 3, 5), zeros(6, 5, 4)], 6 * 3 * 5 * 4),
        (torch.baddbmm, [zeros(6, 3, 4), zeros(6, 3, 5), zeros(6, 5, 4)], 6 * 3 * 5 * 4),
        (torch.addmm, [zeros(3, 4), zeros(3, 5), zeros(5, 4)], 3 * 5 * 4),
        (torch.addmv, [zeros(3), zeros(3, 5), zeros(5)], 3 * 5),
        (torch.mv, [zeros(3, 5), zeros(5)], 3 * 5),
        (torch.dot, [zeros(5), zeros(5)], 5),
        (torch.vdot, [zeros(5), zeros(5)], 5),
        (torch.inner, [zeros(2, 3, 5), zeros(4, 5)], 2 * 3 * 4 * 5),
        (lambda x, y: torch.tensordot(x, y, dims=([2], [2])), [zeros(2, 4, 5), zeros(2, 3, 5)], 2 * 4 * 5 * 2 * 3),
        (lambda x, y: torch.einsum("abc,acd->bd", x, y), [zeros(2, 3, 4), zeros(2, 4, 5)], 2 * 3 * 4 * 5),
        (F.scaled_dot_product_attention, [zeros(3, 4, 5, 6), zeros(3, 4, 7, 6), zeros(3, 4, 7, 8)], 12 * 5 * 7 * 14),
        # Queries, keys and values broadcast: 3 x 4 heads.
        (F.scaled_dot_product_attention, [zeros(1, 4, 5, 6), zeros(3, 1, 7, 6), zeros(3, 4, 7, 8)], 12 * 5 * 7 * 14),
        (F.scaled_dot_product_attention, [zeros(4, 5, 6), zeros(1, 7, 6), zeros(1, 7, 6)], 4 * 5 * 7 * 12),
        (lambda x, y: F.bilinear(x, y, zeros(7, 5, 6)), [zeros(2, 3, 5), zeros(2, 3, 6)], 2 * 3 * 7 * 5 * 6),
        (lambda x, y: torch.cdist(x, y, p=1.0), [zeros(2, 4, 5), zeros(2, 3, 5)], 2 * 4 * 3 * 5),
        (torch.cdist, [zeros(2, 4, 5), zeros(2, 30, 5)], 2 * 4 * 30 * 5),
        (F.pdist, [zeros(4, 5)], 4 * 3 // 2 * 5),
        (lambda x: torch.conv_tbc(x, zeros(3, 4, 6), zeros(6)), [zeros(9, 2, 4)], 7 * 2 * 6 * 3 * 4),
        (lambda x: F.conv_transpose2d(x, zeros(4, 3, 2, 2), groups=2), [zeros(1, 4, 5, 5)], 4 * 25 * 3 * 4),
        (lambda x: F.conv3d(x, zeros(6, 2, 3, 3, 3), groups=2), [zeros(1, 4, 5, 5, 5)], 6 * 27 * 2 * 27),
        (lambda x, y: torch._int_mm(x, y), [zeros(32, 32).to(torch.int8), zeros(32, 16).to(torch.int8)], 32 * 32 * 16),
    ],
)
def test_multiply_adds(function: Callable[..., Any], inputs: list[Tensor], expected: int) -> None:
    graph = trace_module(Function(function), inputs)
    assert graph.macs == expected
    assert parse_graph(serialize_graph(graph)) == graph
    assert parse_graph(serialize_graph(graph)).macs == expected


def test_bilinear_and_lstm_layers() -> None:
    bilinear = nn.Bilinear(5, 6, 7)
    assert trace_module(bilinear, [zeros(2, 3, 5), zeros(2, 3, 6)]).macs == 2 * 3 * 7 * 5 * 6
    lstm = trace_module(nn.LSTM(4, 5, batch_first=True), [zeros(2, 3, 4)])
    assert lstm.macs == 2 * 3 * 20 * (4 + 5)


@pytest.mark.parametrize(
    ("kind", "shapes", "out", "expected"),
    [
        # torchvision: input, weight, offset, mask, bias; 2 groups.
        (
            "torchvision.deform_conv2d",
            [(1, 4, 8, 8), (6, 2, 3, 3), (1, 18, 6, 6), (1, 9, 6, 6), (6,)],
            (1, 6, 6, 6),
            3888,
        ),
        ("scaled_mm", [(16, 32), (32, 48), (), ()], (16, 48), 16 * 32 * 48),
        ("weight_int8pack_mm", [(5, 32), (48, 32), (48,)], (5, 48), 5 * 32 * 48),
        ("addmm_activation", [(3,), (2, 4), (4, 3)], (2, 3), 24),
        ("mine.matmul", [(2, 4), (4, 3)], (2, 3), 0),
    ],
)
def test_operations_that_this_machine_cannot_run(
    kind: str, shapes: list[tuple[int, ...]], out: tuple[int, ...], expected: int
) -> None:
    node = Node(kind, (), tuple(Ref(index) for index in range(len(shapes))), (Spec(out),))
    assert node_macs(node, shapes) == expected
