"""A long search costs as much an evaluation as a short one."""

from __future__ import annotations

import pytest

from experiments.search.soak import POINTS, WAYS, costs_of, table


def test_the_table_has_a_row_a_way_of_scoring() -> None:
    lines = table(costs_of(1_500)).splitlines()
    assert lines[0] == "| scored by | ms at 1,000 | mean | memory (MB) | resume (CPU s) | report (CPU s) |"
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| {way}" for way in WAYS]


@pytest.mark.long
def test_an_evaluation_costs_the_same_after_100_000_others() -> None:
    for way, cost in costs_of(POINTS[-1]).items():
        assert max(cost["ms"].values()) < 1.5 * min(cost["ms"].values()), way
        assert cost["memory_mb"] < 500, way
