"""Units are the last words of names."""

from __future__ import annotations

import pytest

from freerea_seval.units import unit_of, without_unit


@pytest.mark.parametrize(
    ("name", "bare", "unit"),
    [
        ("latency_ms", "latency", "ms"),
        ("edge_gpu_energy_mJ", "edge_gpu_energy", "mJ"),
        ("size_mb", "size", "MB"),
        ("time_s", "time", "s"),
        ("acc_pct", "acc", "%"),
        ("accuracy", "accuracy", ""),
        ("top_1", "top_1", ""),
        ("ms", "ms", ""),
        ("_ms", "_ms", ""),
        ("items", "items", ""),
    ],
)
def test_units_are_told_by_the_end_of_a_name(name: str, bare: str, unit: str) -> None:
    assert unit_of(name) == unit
    assert without_unit(name) == bare
