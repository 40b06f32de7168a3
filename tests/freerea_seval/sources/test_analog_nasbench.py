from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from freerea_patch import Measured, TopologySpace
from freerea_patch.spaces import EDGES, parse_cell
from freerea_seval.sources import analog_nasbench
from freerea_seval.sources.analog_nasbench import AnalogNasbenchSource
from freerea_seval.sources.freerea_cache import FreereaCacheSource
from freerea_seval.sources.registry import BUILTIN, Context
from freerea_seval.unpickle import load_pickle

ErrorOf = Callable[[Callable[[], object]], str]
CELLS = TopologySpace().genotypes()
METRICS = [info.name for info in BUILTIN["analog-nasbench"].metrics]

installed = pytest.mark.skipif(find_spec("analognasbench") is None, reason="needs the package analog-nasbench")


def naive_key(genotype: str) -> tuple[int, ...]:
    """Return the package's key of a cell, edge by edge."""
    numbers = {"skip_connect": 0, "none": 1, "nor_conv_3x3": 2, "nor_conv_1x1": 3, "avg_pool_3x3": 4}
    operation = dict(zip(EDGES, parse_cell(genotype), strict=True))
    return tuple(numbers[operation[edge]] for edge in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)])


@pytest.fixture(scope="module")
def source() -> AnalogNasbenchSource:
    return AnalogNasbenchSource(Context(TopologySpace()), None)


@installed
def test_every_cell_has_the_values_of_its_key(source: AnalogNasbenchSource) -> None:
    content: dict[tuple[int, ...], Any] = load_pickle(
        analog_nasbench._data_file(), analog_nasbench._VALUE_CLASSES, "test"
    )
    for genotype, row in zip(CELLS, source.evaluate(CELLS, METRICS), strict=True):
        cell = content[naive_key(genotype)]
        assert row["ptq_accuracy"] == Measured(cell.ptq_accuracy)
        assert row["analog_drift_86400"] == Measured(cell.analog_drift_86400.value)


@installed
def test_all_values_are_percentages(source: AnalogNasbenchSource) -> None:
    for row in source.evaluate(CELLS, METRICS):
        assert list(row) == METRICS
        assert all(5 < measured.value < 95 and measured.seconds == 0 for measured in row.values())


@installed
def test_loading_takes_a_few_seconds(topology: Context) -> None:
    began = time.process_time()
    AnalogNasbenchSource(topology, None)
    assert time.process_time() - began < 5


@installed
def test_the_package_is_not_imported() -> None:
    program = (
        "import sys\n"
        "from freerea_patch import TopologySpace\n"
        "from freerea_seval.sources.registry import load_registry\n"
        "from freerea_seval.sources.registry import Context\n"
        "source = load_registry().open('analog-nasbench', None, Context(TopologySpace()))\n"
        "source.describe('baseline_accuracy')\n"
        "print(*sys.modules)\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"analognasbench", "pandas", "torch", "pkg_resources"}.isdisjoint(found.stdout.split())
    assert "freerea_seval.sources.analog_nasbench" in found.stdout.split()


def test_another_space_or_data_set_is_an_error(tmp_path: Path, size: Context, error_of: ErrorOf) -> None:
    cifar100 = Context(TopologySpace("cifar100"), base=tmp_path)
    assert "has nats-tss on cifar10 only, not nats-tss/cifar100" in error_of(
        lambda: AnalogNasbenchSource(cifar100, None)
    )
    assert "has nats-tss on cifar10 only, not nats-sss/cifar10" in error_of(lambda: AnalogNasbenchSource(size, None))


@installed
def test_a_foreign_cell_and_an_unknown_metric_are_errors(source: AnalogNasbenchSource, error_of: ErrorOf) -> None:
    assert "'64:32' is not a cell" in error_of(lambda: source.evaluate(["64:32"], ["qat_accuracy"]))
    assert "unknown metric of source 'analog-nasbench': 'accuracy'" in error_of(lambda: source.describe("accuracy"))


def test_a_missing_package_is_an_error_with_the_install_line(
    topology: Context, error_of: ErrorOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analog_nasbench, "find_spec", lambda name: None)
    error = error_of(lambda: AnalogNasbenchSource(topology, None))
    assert error == (
        "source 'analog-nasbench' needs the package analog-nasbench: pip install 'freerea-seval[benchmarks]'"
    )


class Attack:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "is not in the known layout (AttributeError"),
        ({(0, 0, 0, 0, 0, 0): 3}, "is not in the known layout (AttributeError"),
        ({(0, 0, 0): 3}, "is not in the known layout (IndexError"),
        ({(0, 0, 0, 0, 0, 9): 3}, "is not in the known layout (IndexError"),
        ({3: 3}, "is not in the known layout (TypeError"),
        ({}, "is not in the known layout (0 of 15625 cells)"),
    ],
)
def test_a_file_of_another_layout_is_an_error(
    topology: Context, error_of: ErrorOf, monkeypatch: pytest.MonkeyPatch, content: Any, message: str
) -> None:
    (topology.base / "data.anb").write_bytes(pickle.dumps(content))
    spec = SimpleNamespace(submodule_search_locations=[str(topology.base)])
    monkeypatch.setattr(analog_nasbench, "find_spec", lambda name: spec)
    error = error_of(lambda: AnalogNasbenchSource(topology, None))
    assert message in error
    assert "pip install 'analog-nasbench>=0.1.3,<0.2'" in error


def test_a_hostile_file_does_not_run(topology: Context, error_of: ErrorOf, monkeypatch: pytest.MonkeyPatch) -> None:
    (topology.base / "data.anb").write_bytes(pickle.dumps({0: Attack(f"touch {topology.base / 'it-ran'}")}))
    spec = SimpleNamespace(submodule_search_locations=[str(topology.base)])
    monkeypatch.setattr(analog_nasbench, "find_spec", lambda name: spec)
    assert "refused to run code" in error_of(lambda: AnalogNasbenchSource(topology, None))
    assert not (topology.base / "it-ran").exists()


@installed
@pytest.mark.data
def test_the_baseline_agrees_with_nats_benchs_accuracy(
    source: AnalogNasbenchSource, topology: Context, data_dir: Path
) -> None:
    from scipy.stats import kendalltau

    analog = source.evaluate(CELLS, ["baseline_accuracy"])
    published = FreereaCacheSource(topology, str(data_dir / "freerea_cached_metrics")).evaluate(CELLS, ["accuracy"])
    tau = kendalltau(
        [row["baseline_accuracy"].value for row in analog], [row["accuracy"].value for row in published]
    ).statistic
    assert tau == pytest.approx(0.926, abs=0.001)
