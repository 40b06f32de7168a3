"""``init`` writes a config that passes ``check``; it asks on a terminal, and overwrites nothing."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator

import freerea_seval as fs
from freerea_seval.config import load_config
from tests.freerea_seval.cli.test_mistakes import call

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|avg_pool_3x3~1|nor_conv_1x1~2|"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_initial.py").write_text("def cost(genotype):\n    return float(len(genotype))\n")
    (tmp_path / "cells.csv").write_text(f"genotype,power_mw,accuracy\n{CELL},3,90\n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "objective"),
    [
        ((), {"metric": "latency", "source": {"seval": {"measure": "latency"}}, "role": "pareto"}),
        (
            ("--metric", "latency", "--max", 2.5, "--preset", "published"),
            {"metric": "latency", "source": {"seval": {"measure": "latency"}}, "role": "constraint", "max": 2.5},
        ),
        (("--metric", "macs", "--space", "nats-sss/cifar100"), {"metric": "macs", "source": "cost", "role": "pareto"}),
        (
            ("--space", "fbnet", "--metric", "params", "--max", 3),
            {"metric": "params", "source": "cost", "role": "constraint", "max": 3.0},
        ),
        (
            ("--metric", "cells.csv:power_mw"),
            {"metric": "power_mw", "source": {"table": "../cells.csv"}, "role": "pareto", "direction": "min"},
        ),
        (
            ("--metric", "cells.csv:accuracy"),
            {"metric": "accuracy", "source": {"table": "../cells.csv"}, "role": "pareto", "direction": "max"},
        ),
        (
            ("--metric", "own_initial:cost"),
            {"metric": "cost", "source": {"python": "own_initial:cost"}, "role": "pareto", "direction": "min"},
        ),
    ],
)
def test_what_it_writes_passes_check_and_fits_the_schema_beside_it(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[object, ...], objective: dict[str, object]
) -> None:
    (folder / "configs").mkdir()
    (folder / "own_initial.py").rename(folder / "configs" / "own_initial.py")
    assert call("init", "configs/one.yaml", *arguments) == 0
    assert "freerea-seval check configs/one.yaml" in capsys.readouterr().out
    text = (folder / "configs" / "one.yaml").read_text()
    assert yaml.safe_load(text)["objectives"] == [objective]
    assert call("check", "configs/one.yaml", "--seconds", 0) == 0
    schema = text.partition("\n")[0].partition("=")[2]
    validator = Draft7Validator(json.loads((folder / "configs" / schema).read_text()))
    assert not list(validator.iter_errors(yaml.safe_load(text)))
    assert all(line.lstrip().startswith("#") or ":" in line for line in text.splitlines() if line)


def test_a_config_of_it_runs(folder: Path) -> None:
    path = fs.init("small.yaml", metric="params", max=0.6)
    small = [
        "search.population=4",
        "search.tournament=2",
        "live.batch_size=4",
        "live.cache=off",
        "budget.evaluations=4",
    ]
    run = fs.search(path, "run", override=small, progress=False)
    assert run.front["params"].max() <= 0.6


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--space", "nats-tts"), "unknown space 'nats-tts'; did you mean 'nats-tss'?"),
        (("--metric", "latencies"), "unknown metric 'latencies'; did you mean 'latency'?"),
        (("--preset", "best"), "unknown preset 'best'"),
        (("--metric", "nowhere.csv:m"), "nowhere.csv"),
        (("--metric", "no_such_module:f"), "cannot import 'no_such_module'"),
        (("--metric", "params", "--max", "-3"), "no network has a params of -3 or less; expected a positive bound"),
        (("--device", "cuda:7"), "device 'cuda:7' cannot be used here"),
        (("--space", "fbnet", "--preset", "published"), "does not define the metric skip"),
    ],
)
def test_what_would_not_run_is_not_written(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], expected: str
) -> None:
    assert call("init", "one.yaml", *arguments) == 2
    assert expected in capsys.readouterr().err
    assert not (folder / "one.yaml").exists()


def test_nothing_is_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "search.yaml").write_text("mine")
    (folder / "freerea-seval.schema.json").write_text("mine, too")
    assert call("init") == 2
    assert "search.yaml exists already" in capsys.readouterr().err
    with pytest.raises(fs.InputError, match=r"search\.yaml exists already"):
        fs.init()
    fs.init("other.yaml", metric="params")
    assert [(folder / name).read_text() for name in ("search.yaml", "freerea-seval.schema.json")] == [
        "mine",
        "mine, too",
    ]


def test_a_terminal_is_asked_for_what_is_missing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = io.StringIO("fbnet\nmany\n1.5\n\npublished\n")
    answers.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", answers)
    assert call("init", "asked.yaml", "--metric", "params") == 2  # FreeREA's own metrics need skip, which fbnet lacks
    printed = capsys.readouterr()
    assert "expected a number" in printed.err + printed.out
    assert "does not define the metric skip" in printed.err
    answers.seek(0)
    answers.write("nats-tss\nlatency\n\n\n\n")
    answers.truncate()
    answers.seek(0)
    assert call("init", "asked.yaml", "--preset", "published") == 0
    config = load_config(folder / "asked.yaml")
    assert [section.role for section in config.objectives] == ["pareto", "fitness", "fitness", "fitness"]


def test_a_language_model_is_guided_by_its_size_and_has_metrics_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    assert call("init", path, "--space", "gpt-s", "--metric", "time_per_token") == 0
    config = load_config(path)
    assert [(s.column, s.direction) for s in config.objectives] == [("size", "max"), ("time_per_token", None)]
    assert "preset" not in path.read_text()


def test_a_metric_of_language_models_is_refused_for_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("init", tmp_path / "config.yaml", "--space", "nats-tss", "--metric", "time_per_token") == 2
    assert "is of language models: choose a space of gpt, gpt-s, gpt-m, gpt-l" in capsys.readouterr().err
    assert not (tmp_path / "config.yaml").exists()
