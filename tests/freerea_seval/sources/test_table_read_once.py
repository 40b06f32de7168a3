"""A process reads a table once, and again once the file has changed."""

from __future__ import annotations

import math

import pytest

from freerea_patch import TopologySpace
from freerea_seval.sources import table
from freerea_seval.sources.registry import Context
from freerea_seval.sources.table import Table, TableSource

A, B = TopologySpace().genotypes()[:2]


def found(context: Context, **options: object) -> list[float]:
    source = TableSource(context, {"path": "mine.csv", **options})
    return [row["latency_ms"].value for row in source.evaluate([A, B], ["latency_ms"])]


def test_a_file_that_has_changed_is_read_again(topology: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Table] = []

    class Counted(Table):
        def __init__(self, *given: object, **named: object) -> None:
            super().__init__(*given, **named)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr(table, "Table", Counted)
    path = topology.base / "mine.csv"
    path.write_text(f"genotype,latency_ms\n{A},1.5\n{B},2.5\n")
    assert found(topology) == found(topology) == [1.5, 2.5]
    assert len(made) == 1
    path.write_text(f"genotype,latency_ms\n{A},1.5\n{B},2.7\n")
    assert found(topology) == [1.5, 2.7]
    assert len(made) == 2
    # What stands for no value is an option of the search, not of the file.
    assert math.isnan(found(topology, unsupported=2.7)[1])
    assert found(topology) == [1.5, 2.7]
