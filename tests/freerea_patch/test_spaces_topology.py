"""The topology space: its genotypes, its operators and its order."""

from __future__ import annotations

import csv
from collections import Counter
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freerea_patch import InputError, SearchSpace, TopologySpace
from freerea_patch.spaces import EDGES, OPERATIONS, all_cells, format_cell, parse_cell

CELLS = st.lists(st.sampled_from(OPERATIONS), min_size=6, max_size=6).map(format_cell)
RNGS = st.integers(0, 2**32).map(Random)
SPACE = TopologySpace()
ARCHITECTURE_0 = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
ARCHITECTURE_1 = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"


@given(CELLS)
def test_a_parsed_cell_formats_to_itself(cell: str) -> None:
    assert format_cell(parse_cell(cell)) == cell


def test_operations_are_parsed_in_the_order_of_the_edges() -> None:
    operations = dict(zip(EDGES, parse_cell(ARCHITECTURE_1), strict=True))
    assert operations[0, 1] == operations[0, 2] == operations[1, 3] == "nor_conv_3x3"
    assert operations[1, 2] == "avg_pool_3x3"
    assert operations[0, 3] == operations[2, 3] == "skip_connect"


@given(st.text(alphabet="|+~012nor_cv3x1skipetagl", max_size=120))
def test_a_string_that_is_no_cell_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a cell of the topology space; expected the form"):
        parse_cell(text)


@given(CELLS, st.integers(0, 120), st.sampled_from(["", "|", "+", "~", "0", "x"]))
def test_a_damaged_cell_is_refused(cell: str, position: int, replacement: str) -> None:
    damaged = cell[:position] + replacement + cell[position + 1 :]
    if damaged == cell:
        assert parse_cell(damaged)
    else:
        with pytest.raises(InputError):
            SPACE.check(damaged)


def test_an_unknown_operation_is_named_with_the_valid_ones() -> None:
    cell = format_cell(["none"] * 5 + ["max_pool_3x3"])
    with pytest.raises(
        InputError, match=r"unknown operation 'max_pool_3x3' in .*; valid operations: none, skip_connect"
    ):
        parse_cell(cell)


def test_an_unknown_data_set_is_refused() -> None:
    with pytest.raises(InputError, match="unknown data set 'cifar11'; did you mean 'cifar10'"):
        TopologySpace("cifar11")


@pytest.mark.parametrize(
    ("dataset", "shape", "classes"),
    [("cifar10", (3, 32, 32), 10), ("cifar100", (3, 32, 32), 100), ("ImageNet16-120", (3, 16, 16), 120)],
)
def test_the_data_set_fixes_inputs_and_classes(dataset: str, shape: tuple[int, ...], classes: int) -> None:
    space = TopologySpace(dataset)
    assert (space.input_shape, space.classes, space.name) == (shape, classes, f"nats-tss/{dataset}")
    assert isinstance(space, SearchSpace)


@given(CELLS, RNGS)
def test_a_mutation_changes_exactly_one_edge(cell: str, rng: Random) -> None:
    changed = [a != b for a, b in zip(parse_cell(cell), parse_cell(SPACE.mutate(cell, rng)), strict=True)]
    assert sum(changed) == 1


@pytest.mark.parametrize("cell", [ARCHITECTURE_0, ARCHITECTURE_1])
def test_mutations_are_uniform_over_the_24_neighbours(cell: str) -> None:
    rng = Random(1)
    draws = 24_000
    counts = Counter(SPACE.mutate(cell, rng) for _ in range(draws))
    assert len(counts) == 24
    # Chi-squared with 23 degrees of freedom exceeds 49.7 once in a thousand seeds; this one is fixed.
    assert sum((n - draws / 24) ** 2 / (draws / 24) for n in counts.values()) < 49.7


@given(CELLS, CELLS, RNGS)
def test_every_edge_of_a_child_comes_from_a_parent(first: str, second: str, rng: Random) -> None:
    child = parse_cell(SPACE.crossover(first, second, rng))
    assert all(op in pair for op, *pair in zip(child, parse_cell(first), parse_cell(second), strict=True))


@given(CELLS, RNGS)
def test_equal_parents_have_an_equal_child(cell: str, rng: Random) -> None:
    assert SPACE.crossover(cell, cell, rng) == cell


def test_crossover_tosses_a_fair_coin_an_edge() -> None:
    first, second = (format_cell([op] * 6) for op in ("none", "skip_connect"))
    rng = Random(2)
    counts = Counter(SPACE.crossover(first, second, rng) for _ in range(6_400))
    assert len(counts) == 64
    # Chi-squared with 63 degrees of freedom exceeds 103.4 once in a thousand seeds.
    assert sum((n - 100) ** 2 / 100 for n in counts.values()) < 103.4


def test_samples_are_uniform_over_the_operations() -> None:
    rng = Random(3)
    counts = Counter(edge for _ in range(5_000) for edge in enumerate(parse_cell(SPACE.sample(rng))))
    assert len(counts) == 30
    # Six times a chi-squared with 4 degrees of freedom: 24 in all, above 51.2 once in a thousand seeds.
    assert sum((n - 1_000) ** 2 / 1_000 for n in counts.values()) < 51.2


@given(CELLS, st.integers(0, 2**32))
def test_an_operator_depends_on_nothing_but_its_generator(cell: str, seed: int) -> None:
    assert SPACE.mutate(cell, Random(seed)) == SPACE.mutate(cell, Random(seed))
    assert SPACE.sample(Random(seed)) == SPACE.sample(Random(seed))


@pytest.mark.parametrize(
    ("cell", "skip"),
    [
        (ARCHITECTURE_0, 1 / 3),  # edges 1-2, 1-3 and 2-3: (0 + 1 + 0) / 3
        (ARCHITECTURE_1, 1.0),  # edges 0-3 and 2-3: (2 + 0) / 2
        (format_cell(["none"] * 6), 0.0),
        (format_cell(["skip_connect"] * 6), 4 / 6),
    ],
)
def test_skip_is_the_mean_length_of_the_skip_connections(cell: str, skip: float) -> None:
    assert SPACE.skip(cell) == pytest.approx(skip)


def test_there_are_15625_different_cells() -> None:
    cells = all_cells()
    assert len(set(cells)) == len(cells) == 5**6
    assert SPACE.genotypes() is cells


def test_the_order_starts_as_published() -> None:
    assert all_cells()[:2] == (ARCHITECTURE_0, ARCHITECTURE_1)


@pytest.mark.data
def test_the_order_is_the_published_one(data_dir: Path) -> None:
    with open(data_dir / "nats_tss/architectures.csv") as file:
        published = {int(row["index"]): row["arch_str"] for row in csv.DictReader(file)}
    assert dict(enumerate(all_cells())) == published


def depends(cell: str, edge: int) -> bool:
    """Whether a path of operations other than none goes from the input over an edge to the output, by trying all."""
    operations = parse_cell(cell)
    for path in ([0, 3], [0, 1, 3], [0, 2, 3], [0, 1, 2, 3]):
        edges = [EDGES.index(step) for step in pairwise(path)]
        if edge in edges and all(operations[e] != "none" for e in edges):
            return True
    return False


@given(CELLS)
def test_a_simplified_cell_has_just_the_operations_that_the_output_depends_on(cell: str) -> None:
    plain = SPACE.simplified(cell)
    kept = [op if depends(cell, edge) else "none" for edge, op in enumerate(parse_cell(cell))]
    assert parse_cell(plain) == tuple(kept)
    assert SPACE.simplified(plain) == plain


def test_9445_cells_have_no_operation_to_spare() -> None:
    """As many as NAS-Bench-Suite-Zero counts without unreachable operations."""
    assert sum(SPACE.simplified(cell) == cell for cell in all_cells()) == 9445
