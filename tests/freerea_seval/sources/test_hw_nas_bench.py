from __future__ import annotations

import csv
import math
import os
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from freerea_patch import Measured, TopologySpace
from freerea_seval.sources.hw_nas_bench import HwNasBenchSource
from freerea_seval.sources.registry import BUILTIN, Context

ErrorOf = Callable[[Callable[[], object]], str]
CELLS = TopologySpace().genotypes()
METRICS = [info.name for info in BUILTIN["hw-nas-bench"].metrics]


def content(dataset: str = "cifar10") -> dict[str, Any]:
    """Return a made-up file of the published layout: metric k of cell i is i + k / 100."""
    table: dict[str, Any] = {m: [i + k / 100 for i in range(len(CELLS))] for k, m in enumerate(METRICS)}
    table["config"] = [{"name": "infer.tiny", "C": 16, "N": 5, "arch_str": cell} for cell in CELLS]
    return {"nasbench201": {dataset: table}, "fbnet": {"fpga_latency": {"Skip_H32": 0.5}}}


@cache
def shared() -> bytes:
    """The made-up file as it is on disk."""
    return pickle.dumps(content())


def write_shared(folder: Path) -> str:
    (folder / "HW-NAS-Bench-v1_0.pickle").write_bytes(shared())
    return "HW-NAS-Bench-v1_0.pickle"


def write(folder: Path, value: object) -> str:
    (folder / "HW-NAS-Bench-v1_0.pickle").write_bytes(pickle.dumps(value))
    return "HW-NAS-Bench-v1_0.pickle"


def test_every_metric_of_a_cell_is_its_own(topology: Context) -> None:
    source = HwNasBenchSource(topology, write_shared(topology.base))
    (row,) = source.evaluate([CELLS[7]], METRICS)
    assert row == {m: Measured(7 + k / 100) for k, m in enumerate(METRICS)}


def test_minus_one_means_that_the_device_cannot_run_the_cell(topology: Context) -> None:
    file = content()
    file["nasbench201"]["cifar10"]["edgetpu_latency"][3] = -1
    source = HwNasBenchSource(topology, write(topology.base, file))
    can, cannot = source.evaluate([CELLS[2], CELLS[3]], ["edgetpu_latency"])
    assert can["edgetpu_latency"].value == 2.02
    assert math.isnan(cannot["edgetpu_latency"].value)


def test_the_data_set_is_that_of_the_space(tmp_path: Path, error_of: ErrorOf) -> None:
    file = write(tmp_path, content("cifar100"))
    HwNasBenchSource(Context(TopologySpace("cifar100"), base=tmp_path), file)
    error = error_of(lambda: HwNasBenchSource(Context(TopologySpace(), base=tmp_path), file))
    assert "expected nasbench201 / cifar10 / METRIC" in error


def test_numbers_of_numpy_are_numbers(topology: Context) -> None:
    file = content()
    file["nasbench201"]["cifar10"]["fpga_energy"] = [np.float64(i) for i in range(len(CELLS))]
    source = HwNasBenchSource(topology, write(topology.base, file))
    assert source.evaluate([CELLS[5]], ["fpga_energy"]) == [{"fpga_energy": Measured(5.0)}]


def test_a_file_without_configs_is_taken_in_the_benchmarks_order(topology: Context) -> None:
    file = content()
    del file["nasbench201"]["cifar10"]["config"]
    HwNasBenchSource(topology, write(topology.base, file))


def test_a_metric_that_the_file_lacks_is_named_and_the_others_are_there(topology: Context, error_of: ErrorOf) -> None:
    file = content()
    del file["nasbench201"]["cifar10"]["fpga_energy"]
    source = HwNasBenchSource(topology, write(topology.base, file))
    assert source.describe("fpga_latency").unit == "ms"
    error = error_of(lambda: source.describe("fpga_energy"))
    assert "HW-NAS-Bench-v1_0.pickle: 'fpga_energy'" in error
    assert "Valid: edgegpu_energy, " in error


Change = Callable[[dict[str, Any]], object]
BROKEN: dict[str, tuple[Change, str]] = {
    "short": (lambda t: t["raspi4_latency"].pop(), "expected 15625 values of raspi4_latency, got 15624"),
    "text": (lambda t: t.update(raspi4_latency="x" * 15625), "expected 15625 values of raspi4_latency, got a str"),
    "other order": (lambda t: t["config"].reverse(), "numbers its cells in another order than NATS-Bench"),
    "short config": (lambda t: t["config"].pop(), "numbers its cells in another order than NATS-Bench"),
    "bad config": (lambda t: t.update(config=3), "is not HW-NAS-Bench-v1_0.pickle"),
    "infinite": (
        lambda t: t["fpga_latency"].__setitem__(9, math.inf),
        "a value of fpga_latency is not a finite number",
    ),
    "word": (lambda t: t["fpga_latency"].__setitem__(9, "fast"), "a value of fpga_latency is not a finite number"),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_damaged_table_is_an_error(topology: Context, error_of: ErrorOf, name: str) -> None:
    change, message = BROKEN[name]
    file = pickle.loads(shared())  # noqa: S301 - our own
    change(file["nasbench201"]["cifar10"])
    write(topology.base, file)
    error = error_of(lambda: HwNasBenchSource(topology, "HW-NAS-Bench-v1_0.pickle"))
    assert message in error
    assert "HW-NAS-Bench-v1_0.pickle" in error


@pytest.mark.parametrize("value", [[1, 2], {"nasbench201": None}, {"nasbench201": {"cifar10": 3}}, None, 7])
def test_a_file_of_another_layout_is_an_error(topology: Context, error_of: ErrorOf, value: object) -> None:
    name = write(topology.base, value)
    assert "is not HW-NAS-Bench-v1_0.pickle: expected nasbench201 / cifar10 / METRIC" in error_of(
        lambda: HwNasBenchSource(topology, name)
    )


def test_a_hostile_file_does_not_run(topology: Context, error_of: ErrorOf) -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {topology.base / 'it-ran'}",)

    file = write(topology.base, {"nasbench201": Attack()})
    assert "refused to run code" in error_of(lambda: HwNasBenchSource(topology, file))
    assert not (topology.base / "it-ran").exists()


def test_another_space_and_a_foreign_cell_are_errors(topology: Context, size: Context, error_of: ErrorOf) -> None:
    name = write_shared(topology.base)
    assert "nats-tss only, not of nats-sss/cifar10" in error_of(lambda: HwNasBenchSource(size, name))
    source = HwNasBenchSource(topology, name)
    assert "'64:32' is not a cell" in error_of(lambda: source.evaluate(["64:32"], ["fpga_energy"]))


@pytest.mark.parametrize("argument", [None, 3, "", {"path": "x"}])
def test_an_argument_that_is_no_path_is_an_error(topology: Context, error_of: ErrorOf, argument: Any) -> None:
    assert "expected a path" in error_of(lambda: HwNasBenchSource(topology, argument))


@pytest.mark.parametrize("metric", METRICS)
def test_the_unit_follows_from_the_name(metric: str) -> None:
    info = BUILTIN["hw-nas-bench"].metric(metric)
    assert info.unit == {"latency": "ms", "energy": "mJ", "intensity": "op/byte"}[metric.rpartition("_")[2]]
    assert info.direction == ("max" if info.unit == "op/byte" else "min")


@pytest.mark.data
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "ImageNet16-120"])
def test_the_published_numbers_are_looked_up(tmp_path: Path, data_dir: Path, dataset: str) -> None:
    with (data_dir / "hw_nas_bench" / f"nasbench201_{dataset}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (data_dir / "nats_tss" / "architectures.csv").open(newline="") as file:
        cells = [row["arch_str"] for row in csv.DictReader(file)]
    table: dict[str, Any] = {m: [float(row[m]) for row in rows] for m in METRICS}
    table["config"] = [{"arch_str": cell} for cell in cells]
    path = write(tmp_path, {"nasbench201": {dataset: table}})
    source = HwNasBenchSource(Context(TopologySpace(dataset), base=tmp_path), path)
    unsupported = 0
    for row, found in zip(rows, source.evaluate(cells, METRICS), strict=True):
        for metric in METRICS:
            value = found[metric].value
            unsupported += math.isnan(value)
            assert float(row[metric]) == (-1 if math.isnan(value) else value)
    assert unsupported == 4699
