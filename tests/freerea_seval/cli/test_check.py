"""``check`` says what a config would run, what is missing, and about how long it takes; it changes nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

import freerea_seval as fs
from freerea_seval.runs.check import Check
from tests.freerea_seval.cli.test_mistakes import CONFIGS, call
from tests.freerea_seval.cli.test_mistakes import METRIC as MISTAKES

CONFIG = """
space: nats-tss
search: {population: 4, tournament: 2, seeds: [0, 1]}
budget: {evaluations: 6}
live: {cache: cache.sqlite, batch_size: 4, initialisations: 1}
objectives:
  - {metric: naswot, source: training-free, role: fitness, weight: 2}
  - {metric: params, source: cost, role: constraint, max: 0.9}
  - {metric: length, source: {python: checked_metric:length}, role: pareto, direction: min}
report:
  - {metric: macs, source: cost}
"""
METRIC = """
import time
def length(genotype):
    return float(len(genotype))
def slow(genotype):
    time.sleep(60)
    return 1.0
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checked_metric.py").write_text(METRIC)
    (tmp_path / "search.yaml").write_text(CONFIG)
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and "__pycache__" not in p.parts}


def test_it_shows_what_would_run_and_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(folder)
    assert call("check", "search.yaml", "--set", "budget.evaluations=5", "--seconds", 2) == 0
    assert files(folder) == before
    printed = capsys.readouterr().out
    for text in (
        "nats-tss",
        "population 4",
        "5 evaluations",
        "0, 1",
        "training-free",
        "<= 0.9",
        "python: checked",
        "time",
    ):
        assert text in printed, text


def test_python_returns_the_same_facts_as_json_prints(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("check", "search.yaml", "--seconds", 0, "--json") == 0
    printed = capsys.readouterr().out
    checked = fs.check("search.yaml", seconds=0, progress=False)
    assert Check.model_validate_json(printed) == checked
    assert json.loads(printed)["objectives"][1]["max"] == 0.9
    assert [(m.name, m.role, m.direction, m.unit) for m in (*checked.objectives, *checked.report)] == [
        ("naswot", "fitness", "max", ""),
        ("params", "constraint", "min", "M"),
        ("length", "pareto", "min", ""),
        ("macs", "report", "min", "M"),
    ]
    assert checked.time is None


def test_values_from_the_cache_make_the_estimate_shorter_and_the_cache_stays_as_it_is(folder: Path) -> None:
    fs.search("search.yaml", "run", progress=False, seeds=0)
    before = files(folder)
    checked = fs.check("search.yaml", override=["search.seeds=[0]"], progress=False).time
    assert checked is not None
    assert checked.networks >= checked.cached == 6  # the same networks, and those outside the bound have no naswot
    assert checked.seconds < 30
    fresh = fs.check("search.yaml", override=["live.seed=1"], progress=False).time
    assert fresh is not None
    assert fresh.cached == 0
    assert files(folder) == before


def test_a_learned_metric_is_counted_but_not_trained(folder: Path) -> None:
    objectives = [
        {"metric": "latency", "source": {"seval": {"measure": "latency"}}, "role": "pareto"},
        {"metric": "length", "source": {"seval": {"python": "checked_metric:slow"}}, "direction": "min"},
    ]
    config = {
        "budget": {"evaluations": 9},
        "refine": {"start": 10, "rounds": 2, "networks": 5},
        "objectives": objectives,
    }
    checked = fs.check(config, progress=False)
    assert checked.problems == []
    assert checked.time is not None
    assert checked.time.measurements == 10 + 2 * 5
    assert checked.time.measurement_s is not None
    assert checked.time.seconds > 20 * checked.time.measurement_s
    assert checked.time.without == ["length of 20 networks, from source 'python'"]
    before = {"budget": {"evaluations": 9}, "objectives": [
        {"metric": "latency", "source": {"seval": {"measure": "latency", "networks": 3000}}}]}  # fmt: skip
    once = fs.check(before, seconds=0.5, progress=False)
    assert once.problems == []
    assert once.time is not None
    assert once.time.measurements == 3000


def test_a_network_that_takes_longer_than_the_sample_is_interrupted(folder: Path) -> None:
    config = {
        "budget": {"evaluations": 9},
        "objectives": [{"metric": "m", "source": {"python": "checked_metric:slow"}, "direction": "max"}],
    }
    began = time.perf_counter()
    checked = fs.check(config, seconds=0.4, progress=False)
    assert time.perf_counter() - began < 30
    assert checked.time is not None
    assert checked.time.at_least
    assert checked.time.networks == 0


def test_everything_that_is_missing_is_named_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open(folder / "search.yaml", "a") as file:
        file.write("  - {metric: m, source: {table: nowhere.csv}}\n  - {metric: n, source: {seval: no-folder}}\n")
    assert call("check", "search.yaml") == 2
    printed = capsys.readouterr()
    assert "training-free" in printed.out
    assert "time" not in printed.out
    assert printed.err.count("\n") == 1
    assert "nowhere.csv" in printed.err
    assert "no-folder" in printed.err


#: Mistakes that only an evaluated network shows are among them.
@pytest.mark.parametrize(
    "kind", ["an unknown key", "a metric that fails", "a device that is not here", "a missing module"]
)
def test_what_a_search_refuses_a_check_refuses(folder: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    change, expected = CONFIGS[kind]
    base = "budget: {evaluations: 5}\nspace: nats-tss\nsearch: {population: 4, tournament: 2}\n"
    base += "live: {cache: off, batch_size: 4}\nobjectives:\n  - {metric: params, source: cost, direction: max}\n"
    (folder / "mistakes_metric.py").write_text(MISTAKES)
    (folder / "bad.yaml").write_text(change(base))  # type: ignore[no-untyped-call]
    assert call("check", "bad.yaml", "--seconds", 1) == 2
    assert expected in capsys.readouterr().err
