from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from freerea_seval.sources import registry as sources
from freerea_seval.sources.registry import (
    BUILTIN,
    Context,
    MetricInfo,
    Registry,
    SourceRecord,
    builtin_metric,
    load_registry,
)

ErrorOf = Callable[[Callable[[], object]], str]
RECORDS = list(BUILTIN.values())
NAMES = [
    "training-free",
    "zero-cost",
    "cost",
    "device",
    "table",
    "nats-bench",
    "hw-nas-bench",
    "hw-gpt-bench",
    "freerea-cache",
    "analog-nasbench",
    "python",
    "seval",
]


def test_the_registry_holds_the_built_in_sources_in_their_order() -> None:
    assert [record.name for record in load_registry()][: len(NAMES)] == NAMES


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
class TestEveryRecord:
    def test_says_in_one_line_where_its_values_come_from(self, record: SourceRecord) -> None:
        assert record.origin
        assert "\n" not in record.origin + record.argument

    def test_has_a_factory_that_can_be_imported(self, record: SourceRecord) -> None:
        module, _, name = record.factory.partition(":")
        assert callable(getattr(importlib.import_module(module), name))

    def test_describes_its_metrics(self, record: SourceRecord) -> None:
        names = [info.name for info in record.metrics]
        assert len(set(names)) == len(names)
        for info in record.metrics:
            assert info.direction in ("max", "min")
            assert info.description
            assert "\n" not in info.description
            assert record.metric(info.name) is info
            assert builtin_metric(record.name, info.name) is info

    def test_refuses_a_metric_that_it_does_not_have(self, record: SourceRecord, error_of: ErrorOf) -> None:
        error = error_of(lambda: record.metric("fame"))
        assert f"unknown metric of source {record.name!r}: 'fame'" in error

    def test_refuses_an_argument_of_the_wrong_kind(
        self, record: SourceRecord, topology: Context, error_of: ErrorOf
    ) -> None:
        registry = load_registry()
        if record.argument:
            assert f"needs an argument: 'source: {{{record.name}: ...}}'" in error_of(
                lambda: registry.open(record.name, None, topology)
            )
        else:
            assert "takes no argument" in error_of(lambda: registry.open(record.name, "x", topology))


@pytest.mark.parametrize("argument", [3, 2.5, True, [], ["x"], "", {}, {"path": 3}, {3: "x"}, "no/such file"])
@pytest.mark.parametrize("name", ["table", "nats-bench", "hw-nas-bench", "freerea-cache", "python"])
def test_a_source_meets_anything_from_a_config_with_one_line(
    topology: Context, error_of: ErrorOf, name: str, argument: Any
) -> None:
    error_of(lambda: load_registry().open(name, argument, topology))


def test_a_metric_is_described_alike_wherever_it_comes_from() -> None:
    known: dict[str, MetricInfo] = {}
    for record in RECORDS:
        for info in record.metrics:
            if (record.name, info.name) == ("zero-cost", "params"):
                continue  # as a hint at accuracy, more is better
            if info.name not in ("latency", "flops"):  # of two machines, and of two ways to count
                assert known.setdefault(info.name, info).direction == info.direction
                assert known[info.name].unit == info.unit


def test_two_sources_of_one_name_are_refused() -> None:
    registry = Registry(RECORDS)
    with pytest.raises(ValueError, match="a metric source named 'table' is registered already"):
        registry.add(SourceRecord("table", "elsewhere", "x:y"))


def test_an_unknown_source_is_an_error_with_the_nearest_name(error_of: ErrorOf, topology: Context) -> None:
    error = error_of(lambda: load_registry().open("hw-nasbench", "x", topology))
    assert "unknown metric source 'hw-nasbench'; did you mean 'hw-nas-bench'?" in error


class Point:
    """An entry point that fails, without the package around it."""

    name, value, group = "broken", "broken_package:register", sources.ENTRY_POINTS

    def load(self) -> Callable[[Registry], None]:
        return lambda registry: registry.add(SourceRecord("table", "mine", "x:y"))


def test_an_installed_package_that_fails_is_named(monkeypatch: pytest.MonkeyPatch, error_of: ErrorOf) -> None:
    monkeypatch.setattr(sources, "entry_points", lambda group: [Point()])
    error = error_of(load_registry)
    assert "metric sources of entry point 'broken' (broken_package:register) cannot be loaded" in error
    assert "a metric source named 'table' is registered already" in error


def test_listing_the_sources_imports_none_of_them() -> None:
    program = (
        "import sys\n"
        "from freerea_seval.sources.registry import load_registry\n"
        "list(load_registry())\n"
        "print(*sys.modules)\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = set(found.stdout.split())
    ours = {m for m in modules if m.startswith("freerea_seval.sources.")}
    assert ours == {f"freerea_seval.sources.{name}" for name in ("registry",)}
    assert modules.isdisjoint({"torch", "xgboost", "sklearn", "nats_bench", "pandas", "matplotlib"})


def test_an_installed_package_adds_a_source(tmp_path: Path) -> None:
    project, target = tmp_path / "project", tmp_path / "target"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        "[build-system]\nrequires = ['setuptools']\nbuild-backend = 'setuptools.build_meta'\n"
        "[project]\nname = 'letter-metrics'\nversion = '1'\n"
        "[project.entry-points.'freerea_seval.metrics']\nletters = 'letter_metrics:register'\n"
        "[tool.setuptools]\npy-modules = ['letter_metrics']\n"
    )
    (project / "letter_metrics.py").write_text(
        "from freerea_patch import Measured\n"
        "from freerea_seval.sources.registry import MetricInfo, SourceRecord\n"
        "VOWELS = MetricInfo('vowels', 'max', '', 'vowels in the genotype')\n"
        "def register(registry):\n"
        "    registry.add(SourceRecord('letters', 'counted', 'letter_metrics:Letters', metrics=(VOWELS,)))\n"
        "class Letters:\n"
        "    def __init__(self, context, argument): pass\n"
        "    def describe(self, metric): return VOWELS\n"
        "    def evaluate(self, genotypes, metrics):\n"
        "        return [{'vowels': Measured(sum(g.count(v) for v in 'aeiou'))} for g in genotypes]\n"
    )
    install = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--no-build-isolation"]
    quiet = ["--quiet", "--disable-pip-version-check", "--target", str(target), str(project)]
    installed = subprocess.run([*install, *quiet], capture_output=True, text=True)
    assert installed.returncode == 0, installed.stderr
    program = (
        "from freerea_patch import TopologySpace\n"
        "from freerea_seval.sources.registry import load_registry\n"
        "from freerea_seval.sources.registry import Context\n"
        "registry = load_registry()\n"
        "print(list(registry)[-1].name, registry['letters'].metric('vowels').description)\n"
        "source = registry.open('letters', None, Context(TopologySpace()))\n"
        "print(*source.evaluate(['aabbe'], ['vowels']))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(target)}
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines() == [
        "letters vowels in the genotype",
        "{'vowels': Measured(value=3, seconds=0.0)}",
    ]
