"""Every kind of mistake gives one line that helps, exit code 2, and loses nothing."""

from __future__ import annotations

import bz2
import json
import os
import pickle
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from freerea_patch import TopologySpace
from freerea_seval.cli.main import main
from freerea_seval.predictor.folder import FORMAT

CELLS = TopologySpace().genotypes()[:40]

BASE = """
space: nats-tss
search: {population: 4, tournament: 2}
budget: {evaluations: 5}
live: {cache: off, batch_size: 4, initialisations: 1}
objectives:
  - {metric: worth, source: {python: mistakes_metric:worth}, direction: max}
"""
METRIC = """
def worth(genotype):
    return float(len(genotype))
def broken(genotype):
    raise KeyError("no such cell")
def wordy(genotype):
    return "large"
"""


class Bomb:
    """A pickle that would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a good search, good tables, and bad ones."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mistakes_metric.py").write_text(METRIC)
    (tmp_path / "good.yaml").write_text(BASE)
    rows = [f"{cell},{number}" for number, cell in enumerate(CELLS)]
    (tmp_path / "good.csv").write_text("\n".join(["genotype,latency_ms", *rows]) + "\n")
    return tmp_path


def call(*arguments: object) -> int:
    """Run the command line in this process; return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["freerea-seval", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
    return int(end.value.code or 0)


def refused(capsys: pytest.CaptureFixture[str], expected: str, *arguments: object) -> None:
    capsys.readouterr()
    status = call(*arguments)
    error = capsys.readouterr().err
    assert status == 2, error
    assert error.startswith("freerea-seval: error: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    assert expected in error


def search(change: Callable[[str], str] = str, name: str = "bad.yaml") -> tuple[object, ...]:
    """Write a changed config; return the arguments that search with it."""
    Path(name).write_text(change(BASE))
    return "search", name, "-o", "run"


def with_objective(line: str) -> Callable[[str], str]:
    return lambda text: f"{text}  - {line}\n"


def with_source(source: str, metric: str = "m", extra: str = "role: constraint, max: 1") -> Callable[[str], str]:
    return with_objective(f"{{metric: {metric}, source: {source}, {extra}}}")


CONFIGS = {
    "no YAML": (lambda t: t + "\n :[", "not valid YAML at line"),
    "an unknown key": (lambda t: t.replace("search:", "serach:"), "unknown key 'serach'; did you mean 'search'?"),
    "no budget": (lambda t: t.replace("budget: {evaluations: 5}", ""), "budget: is missing"),
    "a budget of zero": (lambda t: t.replace("evaluations: 5", "evaluations: 0"), "evaluations must be a positive number, got 0"),
    "an unknown space": (lambda t: t.replace("nats-tss", "nats-tts"), "unknown space 'nats-tts'; did you mean 'nats-tss'?"),
    "an unknown data set": (lambda t: t.replace("nats-tss", "nats-tss/mnist"), "unknown data set 'mnist'"),
    "an unknown source": (with_source("tabel"), "unknown metric source 'tabel'; did you mean 'table'?"),
    "an unknown metric": (with_source("cost", "macss"), "'macss'; did you mean 'macs'?"),
    "a source without its argument": (with_source("table"), "source 'table' needs an argument"),
    "a source with an argument too many": (with_source("{cost: 3}", "macs"), "source 'cost' takes no argument, got 3"),
    "a constraint without a bound": (with_objective("{metric: macs, source: cost, role: constraint}"), "a constraint needs a bound"),
    "a bound on a fitness term": (with_source("cost", "macs", "max: 3"), "belong to role 'constraint', not 'fitness'"),
    "bounds that cross": (with_source("cost", "macs", "role: constraint, min: 3, max: 2"), "min 3 is larger than max 2"),
    "only constraints": (lambda t: t.replace("direction: max", "role: constraint, min: 0"), "at least one objective with role"),
    "no direction": (lambda t: t.replace(", direction: max", ""), "add 'direction: max' or 'direction: min'"),
    "a tournament larger than the population": (lambda t: t.replace("tournament: 2", "tournament: 9"), "tournament must be between 2 and the population (4), got 9"),
    "a missing table": (with_source("{table: nowhere.csv}"), "nowhere.csv"),
    "a wrong column": (with_source("{table: good.csv}", "latency"), "latency_ms"),
    "a table that lacks a network": (with_source("{table: good.csv}", "latency_ms"), "has no row for"),
    "a missing module": (with_source("{python: no_such:f}"), "cannot import 'no_such'"),
    "a missing function": (with_source("{python: mistakes_metric:f}"), "has no 'f'"),
    "a metric that fails": (with_source("{python: mistakes_metric:broken}"), "KeyError"),
    "a metric that is no number": (with_source("{python: mistakes_metric:wordy}"), "returned a str for"),
    "a missing pickle": (with_source("{hw-nas-bench: nowhere.pickle}", "raspi4_latency"), "nowhere.pickle"),
    "no NATS-Bench folder": (with_source("{nats-bench: nowhere}", "test_accuracy"), "nowhere"),
    "no FreeREA folder": (with_source("{freerea-cache: nowhere}", "naswot"), "nowhere"),
    "no predictor folder": (with_source("{seval: nowhere}"), "nowhere"),
    "a predictor from nothing": (with_source("{seval: {measure: ttft}}"), "'measure' can be latency, memory or energy, not 'ttft'"),
    "a device that is not here": (lambda t: with_source("device", "latency")(t).replace("cache: off", "cache: off, device: cuda:7"), "device 'cuda:7' cannot be used here"),
    "a missing batch": (lambda t: with_source("training-free", "naswot", "role: fitness")(t).replace("cache: off", "cache: off, batch: b.npz"), "b.npz: no such file"),
    "a cache that is no cache": (lambda t: with_source("training-free", "naswot", "role: fitness")(t).replace("cache: off", "cache: good.csv"), "good.csv cannot be used (file is not a database)"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_wrong_config_is_refused_and_leaves_no_run_behind(
    place: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    change, expected = CONFIGS[kind]
    before = (place / "good.csv").read_bytes()
    refused(capsys, expected, *search(change))
    assert not (place / "run").exists()
    assert (place / "good.csv").read_bytes() == before


BATCHES: dict[str, tuple[Callable[[Path], object], str]] = {
    "too few images": (lambda p: np.savez(p, images=np.zeros((2, 3, 32, 32), np.float32)), "has 2 images, fewer than"),
    "images of another size": (lambda p: np.savez(p, images=np.zeros((9, 3, 16, 16))), "expected images of shape (n, 3, 32, 32)"),
    "NaN": (lambda p: np.savez(p, images=np.full((9, 3, 32, 32), np.nan)), "contains NaN"),
    "no images": (lambda p: np.savez(p, pictures=np.zeros(3)), "has no array 'images', only: pictures"),
    "objects": (lambda p: np.savez(p, images=np.array([Bomb(p.parent / "boom")], dtype=object)), "cannot be read as .npz"),
    "a truncated archive": (lambda p: p.write_bytes(b"PK\x03\x04" + bytes(5000)), "cannot be read as .npz"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BATCHES)
def test_a_wrong_batch_is_refused(place: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    make, expected = BATCHES[kind]
    make(place / "batch.npz")
    change = with_source("training-free", "naswot", "role: fitness")
    refused(capsys, expected, *search(change), "--batch", "batch.npz")
    assert not (place / "boom").exists()


TABLES: dict[str, tuple[Callable[[str], str], str]] = {
    "nothing in it": (lambda t: "", "good.csv"),
    "no key": (lambda t: t.replace("genotype", "cell"), "genotype"),
    "NaN": (lambda t: t.replace(",7\n", ",nan\n"), "line 9"),
    "nothing but empty cells": (lambda t: re.sub(r",\d+\n", ",\n", t), "every cell of latency_ms is empty"),
    "a word": (lambda t: t.replace(",7\n", ",fast\n"), "'fast'"),
    "a genotype outside the space": (lambda t: t.replace("avg_pool_3x3", "max_pool_3x3", 1), "max_pool_3x3"),
    "-1 where the device cannot run": (
        lambda t: t.replace(",0\n", ",9\n").replace(",7\n", ",-1\n"),
        "--unsupported -1",
    ),
    "a genotype twice with two values": (lambda t: t + f"{CELLS[0]},99\n", "line 42"),
    "a row too short": (lambda t: t + f"{CELLS[0]}\n", "line 42"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_wrong_table_is_refused_and_no_predictor_is_written(
    place: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    change, expected = TABLES[kind]
    table = place / "good.csv"
    table.write_text(change(table.read_text()))
    refused(capsys, expected, "train", "good.csv", "--metric", "latency_ms", "-o", "predictor")
    assert not (place / "predictor").exists()


def test_bounds_that_nothing_meets_are_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change = with_source("{python: mistakes_metric:worth}", extra="role: constraint, max: 1")
    refused(capsys, "candidates is within the constraints (m <= 1); the nearest has m ", *search(change))


def test_a_pickle_with_code_in_it_is_refused_and_the_code_does_not_run(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "hw.pickle").write_bytes(pickle.dumps({"nasbench201": Bomb(place / "boom")}))
    change = with_source("{hw-nas-bench: hw.pickle}", "raspi4_latency")
    refused(capsys, "system", *search(change))
    assert not (place / "boom").exists()


@pytest.mark.parametrize("content", [b"", b"hello", pickle.dumps({"nasbench201": [0.5] * 99})[:-30], pickle.dumps([1])])
def test_a_pickle_that_is_none_or_another_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (place / "hw.pickle").write_bytes(content)
    change = with_source("{hw-nas-bench: hw.pickle}", "raspi4_latency")
    refused(capsys, "hw.pickle", *search(change))


def test_a_nats_bench_folder_with_code_in_it_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = place / "NATS-tss-v1_0-3ffb9-simple"
    folder.mkdir()
    (folder / "meta.pickle.pbz2").write_bytes(bz2.compress(pickle.dumps(Bomb(place / "boom"))))
    change = with_source(f"{{nats-bench: {folder}}}", "test_accuracy")
    refused(capsys, "system", *search(change))
    assert not (place / "boom").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("search", "nowhere.yaml"), "config nowhere.yaml: no such file"),
        (("search", "good.yaml", "--seeds", "3-1"), "expected numbers such as 0,1,2 or a range"),
        (("search", "good.yaml", "--set", "budget"), "expected KEY=VALUE"),
        (("search", "good.yaml", "--resume", "run"), "leave out the config"),
        (("search", "--resume", "."), "is not a run folder: it has no config.yaml"),
        (("report", "nowhere"), "is not a run folder"),
        (("search", "--fast"), "; see freerea-seval search --help"),
        (("serach",), "No such command 'serach'. Did you mean 'search'?; see freerea-seval --help"),
        (("predict", "nowhere", "x"), "nowhere"),
        (
            ("train", "good.csv", "--metric", "latency_ms", "-o", "p", "--direction", "up"),
            "must be min or max, not 'up'",
        ),
        (
            ("train", "good.csv", "--metric", "latency_ms", "-o", "p", "--direction", "min", "--direction", "max"),
            "expected one for all metrics, or one for each of 1, got 2",
        ),
        (
            ("train", "good.csv", "--metric", "latency_ms", "-o", "p", "--view", "function"),
            "unknown view of a network 'function'; did you mean 'functional'?",
        ),
        (("train", "good.csv", "--metric", "latency_ms", "-o", "."), "exists already; choose another folder"),
        (("train", "good.csv", "--metric", "energy", "-o", "p"), "energy"),
        (
            ("train", "good.csv", "--metric", "latency_ms", "--metric", "latency_ms", "-o", "p"),
            "a metric is named twice in latency_ms, latency_ms; name each once",
        ),
        (
            ("train", "good.csv", "--metric", "latency_ms", "-o", "p", "--model", "boostd"),
            "unknown model 'boostd'; did you mean 'boosted'?",
        ),
        (
            ("train", "good.csv", "--metric", "latency_ms", "-o", "p", "--scale", "ranks"),
            "unknown scale 'ranks'; did you mean 'rank'?",
        ),
        (("evaluate", "nowhere", "good.csv"), "nowhere: no such folder"),
    ],
)
def test_a_wrong_command_line_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], expected: str
) -> None:
    refused(capsys, expected, *arguments)


def test_a_damaged_run_is_refused_and_left_as_it_is(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("search", "good.yaml", "-o", "run") == 0
    (place / "run/seed-0/result.json").unlink()
    refused(capsys, "seed 0 is not finished; continue it with", "report", "run")
    journal = place / "run/seed-0/journal.jsonl"
    damaged = journal.read_text().replace('"origin"', "origin", 1)
    journal.write_text(damaged)
    refused(
        capsys, "journal.jsonl, line 1: expected an evaluated candidate (not valid JSON (", "search", "--resume", "run"
    )
    assert journal.read_text() == damaged
    (place / "run/config.yaml").write_text("space: [")
    refused(capsys, "not valid YAML", "search", "--resume", "run")


def train_quickly(*arguments: object) -> int:
    return call(
        "train", "good.csv", "--metric", "latency_ms", "-o", "p", "--model", "boosted", "--scale", "linear", *arguments
    )


def test_a_damaged_predictor_and_a_wrong_genotype_are_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_quickly() == 0
    refused(capsys, "'skip~0' is not a cell of the topology space", "predict", "p", "skip~0")
    refused(capsys, "nothing to predict", "predict", "p")
    for interval in ("0", "1", "90"):
        refused(capsys, "coverage must be a number between 0 and 1", "predict", "p", CELLS[0], "--interval", interval)
    for name in sorted(f.name for f in (place / "p").iterdir() if f.suffix == ".json"):
        shutil.copytree(place / "p", place / "q")
        content = (place / "q" / name).read_bytes()
        (place / "q" / name).write_bytes(content[: len(content) // 2])
        for command in (("predict", "q", CELLS[0]), ("evaluate", "q", "good.csv")):
            refused(capsys, name, *command)
        (place / "q" / name).unlink()
        refused(capsys, name, "predict", "q", CELLS[0])
        shutil.rmtree(place / "q")


@pytest.mark.parametrize(
    ("version", "expected"), [(2, "of an older freerea-seval; train the predictor anew"), (FORMAT + 1, "of a newer")]
)
def test_a_predictor_of_another_version_is_named(
    place: Path, capsys: pytest.CaptureFixture[str], version: int, expected: str
) -> None:
    assert train_quickly() == 0
    manifest = json.loads((place / "p/predictor.json").read_text())
    del manifest["info"]["view"]
    (place / "p/predictor.json").write_text(json.dumps(manifest | {"format": version}))
    refused(capsys, f"expected format {FORMAT}, got format {version} {expected}", "predict", "p", CELLS[0])


def test_a_wrong_table_or_folder_to_evaluate_with_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_quickly() == 0
    refused(capsys, "nowhere.csv", "evaluate", "p", "nowhere.csv")
    refused(capsys, "nowhere: no such folder; correct the path", "evaluate", "nowhere", "good.csv")
    refused(capsys, "exists already; choose another folder with -o", "evaluate", "p", "good.csv", "-o", "p")
    refused(
        capsys, "coverage must be a number between 0 and 1", "evaluate", "p", "good.csv", "--interval", "2", "-o", "e"
    )
    (place / "other.csv").write_text((place / "good.csv").read_text().replace("latency_ms", "energy_mj"))
    refused(capsys, "latency_ms", "evaluate", "p", "other.csv", "-o", "e")
    assert not (place / "e").exists()


def test_a_full_disk_ends_a_search_that_then_resumes_to_the_same_result(place: Path) -> None:
    """The limit on the size of a file stands in for a full disk: writing fails at the same place."""
    command = [sys.executable, "-m", "freerea_seval.cli.main", "search"]
    overrides = ["--set", "budget.evaluations=40"]
    subprocess.run([*command, "good.yaml", "-o", "whole", *overrides], check=True, capture_output=True)

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))

    result = subprocess.run(
        [*command, "good.yaml", "-o", "run", *overrides], preexec_fn=small_files, capture_output=True, check=False
    )
    error = result.stderr.decode()
    assert result.returncode == 2, error
    assert error.count("\n") == 1
    assert "make room, then continue with --resume RUN" in error
    assert 0 < (place / "run/seed-0/journal.jsonl").stat().st_size <= 6000
    subprocess.run([*command, "--resume", "run"], check=True, capture_output=True)
    assert (place / "run/front.csv").read_bytes() == (place / "whole/front.csv").read_bytes()


def test_a_full_disk_and_a_missing_folder_are_named_as_the_user_knows_them(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other commands than search cannot be resumed, and nobody knows the temporary file beside the output."""
    command = ("calibrate", "plan", "--n", 1, "--genotypes", "cells.txt", "-o")
    (place / "cells.txt").write_text("\n".join(TopologySpace().genotypes()[:2]))
    refused(capsys, "cannot read or write missing/plan.csv: No such file or directory", *command, "missing/plan.csv")
    (place / "folder.csv").mkdir()
    refused(capsys, "cannot read or write folder.csv: Is a directory", *command, "folder.csv")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
        status = call(*command, "plan.csv")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = capsys.readouterr().err
    assert status == 2
    assert "cannot read or write plan.csv: File too large; make room, then repeat the command" in error
    assert "RUN" not in error


def test_an_unknown_engine_is_answered_with_those_that_there_are(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = "freerea, freerea-minus, freerea-ranked, optuna:gp, optuna:nsga2, optuna:tpe, pkg.module:Class, pymoo:nsga2"
    refused(capsys, f"unknown algorithm 'foo'. Valid: {names}", "search", "good.yaml", "--engine", "foo")
