"""Benchmarks: bounds, fronts and what a found front is worth, each against values worked out apart."""

from __future__ import annotations

import csv
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from experiments.search.benchmarks import (
    REFERENCE,
    Benchmark,
    Guides,
    Values,
    read_benchmark,
    table_path,
    write_made_up_tables,
    write_published_tables,
)
from freerea_patch import Direction, InputError, TopologySpace

POINTS = st.integers(1, 12).flatmap(lambda n: arrays(float, (n, 2), elements=st.integers(0, 9).map(float)))


def benchmark(points: Values, direction: Direction = "min") -> Benchmark:
    names = tuple(f"cell {i}" for i in range(len(points)))
    return Benchmark("cifar10", "latency", "ms", direction, names, points[:, 0], points[:, 1])


def test_bounds_are_kept_by_their_fraction_of_the_cells_on_the_good_side() -> None:
    points = np.column_stack([np.zeros(100), np.arange(100.0)])
    fast, strong = benchmark(points), benchmark(points, "max")
    assert fast.within(fast.bound(0.1)).sum() == strong.within(strong.bound(0.1)).sum() == 10
    assert fast.within(fast.bound(0.1))[:10].all()
    assert strong.within(strong.bound(0.1))[-10:].all()


def test_a_cell_that_the_device_does_not_run_keeps_no_bound_and_is_on_no_front() -> None:
    points = np.array([[90.0, 5.0], [99.0, math.nan], [80.0, 3.0]])
    found = benchmark(points)
    assert found.best(10.0) == 90.0
    assert sorted(found.front.tolist()) == [0, 2]
    assert found.quality(["cell 1"]) == (0.0, math.inf)
    assert found.quality(["cell 0", "cell 1", "cell 2"]) == pytest.approx((1.0, 0.0))


def naive_hypervolume(points: Values, ideal: Values, nadir: Values) -> float:
    """Area that points dominate, step by step along the first axis."""
    spread = np.where(nadir > ideal, nadir - ideal, 1.0)
    scaled = sorted(((points - ideal) / spread).tolist())
    area, height = 0.0, REFERENCE
    for x, y in scaled:
        if x < REFERENCE and y < height:
            area += (REFERENCE - x) * (height - y)
            height = y
    return area


@given(POINTS, st.sampled_from(["min", "max"]), st.data())
def test_quality_equals_the_naive_twin(points: Values, direction: Direction, data: st.DataObject) -> None:
    found = benchmark(points, direction)
    chosen = data.draw(st.sets(st.integers(0, len(points) - 1), min_size=1))
    costs = np.column_stack([-points[:, 0], points[:, 1] if direction == "min" else -points[:, 1]])
    front = [i for i, a in enumerate(costs) if not any((b <= a).all() and (b < a).any() for b in costs)]
    truth = np.unique(costs[front], axis=0)  # equal points are one
    assert {tuple(costs[i]) for i in found.front} == {tuple(row) for row in truth.tolist()}
    ideal, nadir = truth.min(axis=0), truth.max(axis=0)
    share, distance = found.quality([f"cell {i}" for i in sorted(chosen)])
    whole = naive_hypervolume(truth, ideal, nadir)
    assert share == pytest.approx(naive_hypervolume(costs[sorted(chosen)], ideal, nadir) / whole)
    spread = np.where(nadir > ideal, nadir - ideal, 1.0)
    reach = [min(np.linalg.norm(np.maximum(costs[i] - t, 0) / spread) for i in chosen) for t in truth]
    assert distance == pytest.approx(np.mean(reach))


def test_made_up_tables_have_every_cell_and_metric(tmp_path: Path) -> None:
    write_made_up_tables(tmp_path, ["cifar100"])
    found = read_benchmark(tmp_path, "cifar100", "raspi4_latency")
    assert found.genotypes == tuple(TopologySpace("cifar100").genotypes())
    assert (found.unit, found.direction) == ("ms", "min")
    assert read_benchmark(tmp_path, "cifar100", "pgd").direction == "max"
    assert np.isfinite(found.values).all()


def test_a_table_that_lacks_a_metric_is_one_clear_line(tmp_path: Path) -> None:
    path = table_path(tmp_path, "cifar10")
    path.parent.mkdir()
    path.write_text("genotype,accuracy\nx,1\n")
    with pytest.raises(InputError, match=r"cifar10.csv cannot be used \(.*pgd.*\); delete it"):
        read_benchmark(tmp_path, "cifar10", "pgd")


@pytest.mark.data
@pytest.mark.slow
def test_published_tables_are_the_published_values(tmp_path: Path, data_dir: Path) -> None:
    with open(data_dir / "hw_nas_bench" / "nasbench201_cifar10.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    metrics = {name: [float(row[name]) for row in rows] for name in rows[0] if name != "index"}
    (tmp_path / "hw.pickle").write_bytes(pickle.dumps({"nasbench201": {"cifar10": metrics}}))
    robustness = data_dir / "robustness" / "nasbench201_cifar10.csv"
    write_published_tables(
        tmp_path, ["cifar10"], data_dir / "freerea_cached_metrics", tmp_path / "hw.pickle", robustness
    )
    found = read_benchmark(tmp_path, "cifar10", "raspi4_latency")
    np.testing.assert_array_equal(found.values, metrics["raspi4_latency"])
    assert found.accuracies.max() == pytest.approx(94.373, abs=1e-3)
    assert read_benchmark(tmp_path, "cifar10", "pgd").unit == "%"
    with open(tmp_path / "tables" / "cifar10.csv", newline="") as file:
        first = next(csv.DictReader(file))
    assert float(first["naswot_seconds"]) == pytest.approx(0.758, abs=1e-3)


def test_guides_are_read_by_index_and_charged_as_a_multiple_of_freereas_metrics(tmp_path: Path) -> None:
    folder = tmp_path / "cifar10"
    folder.mkdir()
    (folder / "rows.csv").write_text("index,independence,depth,params,skip\n2,-0.5,30,0.7,1\n0,-inf,20,0.3,0\n")
    for dataset in ("cifar10", "cifar100"):
        columns = Guides(tmp_path, 0.25).columns(dataset, [1.0, 2.0, 4.0])
        assert list(columns) == ["independence", "params", "depth"]
        assert [measured.value for measured in columns["params"]] == pytest.approx([0.3, math.nan, 0.7], nan_ok=True)
        assert [measured.value for measured in columns["independence"]] == pytest.approx(
            [math.nan, math.nan, -0.5], nan_ok=True
        )
        assert [measured.seconds for measured in columns["independence"]] == [0.25, 0.5, 1.0]
        assert [measured.seconds for measured in columns["depth"]] == [0, 0, 0]
    with pytest.raises(InputError, match=r"ImageNet16-120.rows\.csv cannot be used .*guides compute"):
        Guides(tmp_path, 0.25).columns("ImageNet16-120", [1.0])
