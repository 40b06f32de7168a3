"""Peephole rewrites remove what frameworks insert around operations, and nothing else."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from freerea_seval.strings.graph.ir import Ref, Spec
from freerea_seval.strings.trace.operations import Operation, Parameter
from freerea_seval.strings.trace.peephole import rewrite
from freerea_seval.strings.trace.recorder import GraphBuilder

#: kind, attributes, inputs, shapes of the results
Row = tuple[str, dict[str, Any], list[Any], list[tuple[int, ...]]]


def weight(*shape: int) -> Parameter:
    return Parameter(1, Spec(shape))


def rewritten(*rows: Row) -> list[Row]:
    """Return operations after the rewrites; inputs may be positions."""
    operations = [
        Operation(
            kind, attributes, [Ref(i) if isinstance(i, int) else i for i in inputs], [Spec(shape) for shape in shapes]
        )
        for kind, attributes, inputs, shapes in rows
    ]
    before = deepcopy(operations)
    made = rewrite(operations)
    assert operations == before
    assert rewrite(made) == made
    return [
        (
            kind,
            attributes,
            [i.node if isinstance(i, Ref) and not i.port else i for i in inputs],
            [s.shape for s in specs],
        )
        for kind, attributes, inputs, specs in made
    ]


def test_a_linear_layer_between_reshapes_is_a_linear_layer() -> None:
    rows = rewritten(
        ("input", {}, [], [(2, 3, 4)]),
        ("reshape", {}, [0], [(6, 4)]),
        ("linear", {}, [1, weight(5, 4)], [(6, 5)]),
        ("reshape", {}, [2], [(2, 3, 5)]),
        ("output", {}, [3], []),
    )
    assert rows == [
        ("input", {}, [], [(2, 3, 4)]),
        ("linear", {}, [0, weight(5, 4)], [(2, 3, 5)]),
        ("output", {}, [1], []),
    ]


def test_a_bias_added_behind_a_linear_layer_is_the_layer_s() -> None:
    bias = Parameter(2, Spec((5,)))
    rows = rewritten(
        ("input", {}, [], [(3, 4)]),
        ("linear", {"out": 5}, [0, weight(5, 4)], [(3, 5)]),
        ("add", {}, [1, bias], [(3, 5)]),
        ("output", {}, [2], []),
    )
    assert rows[1] == ("linear", {"out": 5, "b": 1}, [0, weight(5, 4), bias], [(3, 5)])
    assert [row[0] for row in rows] == ["input", "linear", "output"]


@pytest.mark.parametrize("more", [("add", {}, [1, weight(3, 5)]), ("add", {"alpha": 2}, [1, weight(5)])])
def test_what_is_no_bias_stays(more: tuple[str, dict[str, Any], list[Any]]) -> None:
    rows = rewritten(
        ("input", {}, [], [(3, 4)]),
        ("linear", {"out": 5}, [0, weight(5, 4)], [(3, 5)]),
        (*more, [(3, 5)]),
        ("output", {}, [2], []),
    )
    assert [row[0] for row in rows] == ["input", "linear", "add", "output"]


def test_a_reshape_that_something_else_reads_stays() -> None:
    rows = rewritten(
        ("input", {}, [], [(2, 3, 4)]),
        ("reshape", {}, [0], [(6, 4)]),
        ("linear", {}, [1, weight(5, 4)], [(6, 5)]),
        ("reshape", {}, [2], [(2, 3, 5)]),
        ("relu", {}, [1], [(6, 4)]),
        ("output", {}, [3, 4], []),
    )
    assert [row[0] for row in rows] == ["input", "reshape", "linear", "relu", "output"]
    assert rows[2][2][0] == 0
    assert rows[4][2] == [2, 3]


@pytest.mark.parametrize("shape", [(3, 2, 5), (6, 5, 1), (30,)])
def test_a_linear_layer_whose_result_is_reshaped_otherwise_stays(shape: tuple[int, ...]) -> None:
    rows: list[Row] = [
        ("input", {}, [], [(2, 3, 4)]),
        ("reshape", {}, [0], [(6, 4)]),
        ("linear", {}, [1, weight(5, 4)], [(6, 5)]),
        ("reshape", {}, [2], [shape]),
        ("output", {}, [3], []),
    ]
    assert rewritten(*rows) == rows


def test_a_product_of_batches_is_one_product() -> None:
    rows = rewritten(
        ("input", {}, [], [(2, 3, 4, 5)]),
        ("input", {}, [], [(2, 3, 5, 6)]),
        ("reshape", {}, [0], [(6, 4, 5)]),
        ("reshape", {}, [1], [(6, 5, 6)]),
        ("matmul", {}, [2, 3], [(6, 4, 6)]),
        ("reshape", {}, [4], [(2, 3, 4, 6)]),
        ("output", {}, [5], []),
    )
    assert rows[2:] == [("matmul", {}, [0, 1], [(2, 3, 4, 6)]), ("output", {}, [2], [])]


def test_views_that_change_nothing_are_gone_and_the_first_of_two_reshapes() -> None:
    rows = rewritten(
        ("input", {}, [], [(2, 1, 4)]),
        ("expand", {}, [0], [(2, 1, 4)]),
        ("permute", {"dims": (1, 0, 2)}, [1], [(1, 2, 4)]),
        ("reshape", {}, [2], [(8,)]),
        ("relu", {}, [3], [(8,)]),
        ("reshape", {}, [4], [(2, 4)]),
        ("reshape", {}, [5], [(8,)]),
        ("output", {}, [6], []),
    )
    assert rows == [
        ("input", {}, [], [(2, 1, 4)]),
        ("reshape", {}, [0], [(8,)]),
        ("relu", {}, [1], [(8,)]),
        ("output", {}, [2], []),
    ]


def test_a_permutation_that_moves_something_stays() -> None:
    rows: list[Row] = [
        ("input", {}, [], [(2, 2)]),
        ("permute", {"dims": (1, 0)}, [0], [(2, 2)]),
        ("output", {}, [1], []),
    ]
    assert rewritten(*rows) == rows


def test_equal_views_are_one_and_other_results_of_a_view_are_kept() -> None:
    rows = rewritten(
        ("input", {}, [], [(4, 2)]),
        ("slice", {"end": 2}, [0], [(2, 2)]),
        ("slice", {"end": 2}, [0], [(2, 2)]),
        ("slice", {"end": 3}, [0], [(3, 2)]),
        ("split", {"sizes": 2}, [0], [(2, 2), (2, 2)]),
        ("add", {}, [1, 2], [(2, 2)]),
        ("output", {}, [5, 3, Ref(4, 1)], []),
    )
    assert [row[0] for row in rows] == ["input", "slice", "slice", "split", "add", "output"]
    assert rows[4][2] == [1, 1]
    assert rows[5][2] == [4, 2, Ref(3, 1)]


def test_views_that_nothing_ever_read_stay_since_they_were_executed() -> None:
    rows: list[Row] = [("input", {}, [], [(4, 2)]), ("reshape", {}, [0], [(8,)]), ("output", {}, [0], [])]
    assert rewritten(*rows) == rows


def test_a_graph_can_be_made_twice_of_one_builder() -> None:
    builder = GraphBuilder()
    first = Ref(builder.add("input", [], [Spec((2, 3))]))
    second = Ref(builder.add("view", [first], [Spec((2, 3))]))
    assert builder.graph([second]) == builder.graph([second])
