"""What was measured outlives a mistake, mistakes that cost nothing to find come first, and searches keep apart."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import freerea_seval as fs
from freerea_patch import InputError
from freerea_seval.config import load_config
from freerea_seval.runs.folder import RunFolder
from freerea_seval.runs.report import read_history
from freerea_seval.sources import device
from tests.freerea_seval.cli.test_mistakes import call
from tests.freerea_seval.runs.searches import write_search

CALIBRATED = """
space: nats-tss
search: {population: 4, tournament: 2}
budget: {evaluations: 6}
live: {cache: off, batch_size: 4, initialisations: 1}
objectives:
  - {metric: worth, source: {python: metric_of_this_test:worth}, direction: max}
  - {metric: latency, source: {seval: {measure: latency, networks: 12}}, role: pareto}
report: [{metric: params, source: cost}]
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a search that measures latencies first, which here are made up at once."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metric_of_this_test.py").write_text("def worth(genotype): raise OSError('no board')\n")
    (tmp_path / "search.yaml").write_text(CALIBRATED)

    def made_up(space: object, genotypes: list[str], **options: object) -> list[float]:
        (tmp_path / "was-measured").touch()
        return [1.0 + genotype.count("conv") for genotype in genotypes]

    monkeypatch.setattr(device, "measure_latency_ms", made_up)
    yield tmp_path
    sys.modules.pop("metric_of_this_test", None)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.tournament=11", "tournament must be between 2 and the population (4), got 11"),
        ("search.start=[x]", "'x'"),
        ("objectives.1.max=5", "max"),
        ("report.0.metric=parms", "parms"),
        ("objectives.0.source={python: metric_of_this_test:none}", "has no 'none'"),
    ],
)
def test_a_cheap_mistake_is_found_before_anything_is_measured(
    place: Path, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    assert call("search", "search.yaml", "-o", "run", "--set", override) == 2
    assert message in capsys.readouterr().err
    assert not (place / "was-measured").exists()
    assert not (place / "run").exists()


def test_what_was_measured_stays_when_the_search_fails_and_a_resumed_one_uses_it(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("search", "search.yaml", "-o", "run") == 2
    error = capsys.readouterr().err
    assert "no board" in error
    assert f"--resume {place / 'run'}" in error
    measured = (place / "run" / "measured-latency.csv").read_bytes()
    (place / "metric_of_this_test.py").write_text("def worth(genotype): return len(set(genotype)) * 1.5\n")
    sys.modules.pop("metric_of_this_test")
    (place / "was-measured").unlink()
    assert call("search", "--resume", "run") == 0
    assert (place / "run" / "measured-latency.csv").read_bytes() == measured
    assert not (place / "was-measured").exists()


def test_a_folder_that_another_search_was_faster_to_take_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(write_search(tmp_path))
    replace = os.replace

    def late(source: Path, target: Path) -> None:
        if Path(target) == tmp_path / "run":
            (tmp_path / "run" / "seed-0").mkdir(parents=True)
        replace(source, target)

    monkeypatch.setattr(os, "replace", late)
    with pytest.raises(InputError, match="exists and is not empty; choose another with -o"):
        RunFolder.create(tmp_path / "run", config, tmp_path)


LEAVING = """
import sys
from freerea_patch import RandomSearch, TopologySpace
def metric(genotype): sys.exit(0)
def images(size): sys.exit(0)
def network(): sys.exit(0)
class Space(TopologySpace):
    def sample(self, rng): sys.exit(0)
class Made(TopologySpace):
    def __init__(self): sys.exit(0)
class Algorithm(RandomSearch):
    def batches(self): sys.exit(0); yield
"""


@pytest.mark.parametrize(
    "override",
    [
        "objectives.0.source={python: 'leaving:metric'}",
        "objectives.0.source={python: 'left_at_import:metric'}",
        "report.0.source={python: 'leaving:metric'}",
        "space='leaving:Space'",
        "space='leaving:Made'",
        "search.algorithm='leaving:Algorithm'",
        "live.batch='leaving:images'",
    ],
)
def test_a_user_s_code_that_ends_the_program_ends_it_with_2_and_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], override: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("leaving.py").write_text(LEAVING)
    Path("left_at_import.py").write_text("import sys\nsys.exit(0)\n")
    config = write_search(tmp_path)
    config.write_text(config.read_text() + "live: {batch_size: 2, cache: off}\n")
    more = ["--set", "objectives.1={metric: naswot, source: training-free}"] if "batch" in override else []
    options = "search={population: 4, tournament: 2}" if "algorithm" not in override else "search={}"
    assert call("search", config, "-o", "run", "--set", options, "--set", override, *more) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("freerea-seval: error: ")
    assert "SystemExit" in line
    sys.modules.pop("leaving", None)


def test_a_network_that_ends_the_program_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("leaving.py").write_text(LEAVING)
    assert call("encode", "leaving:network", "--input", "1,3") == 2
    assert "network 'leaving:network' failed (SystemExit: 0)" in capsys.readouterr().err
    sys.modules.pop("leaving", None)


def test_an_interrupt_in_a_user_s_code_is_no_mistake_and_keeps_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_search(tmp_path)
    module = next(tmp_path.glob("metrics_*.py"))
    good = module.read_text()
    module.write_text("def worth(genotype): raise KeyboardInterrupt\ncost = worth\n")
    with pytest.raises(KeyboardInterrupt):
        fs.search(config, tmp_path / "run", progress=False)
    module.write_text(good)
    sys.modules.pop(module.stem)
    assert len(fs.search(resume=tmp_path / "run", progress=False).front)


def test_the_history_of_a_run_is_scored_as_the_search_scored_it(tmp_path: Path) -> None:
    options = "population: 12, tournament: 4, aggregation: ranks, normalisation: history, "
    config = write_search(tmp_path, options=options)
    assert call("search", config, "-o", tmp_path / "run") == 0
    found = json.loads((tmp_path / "run" / "seed-3" / "result.json").read_text())["front"]
    history = read_history(RunFolder.open(tmp_path / "run"), 3)
    assert [c.genotype for c in history.front()] == [row["genotype"] for row in found]
    assert history.scores(history.front()).tolist() == [row["score"] for row in found]


def test_a_search_that_finds_nothing_new_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_search(tmp_path, budget="evaluations: 100")
    text = config.read_text().replace("direction: max}", "role: constraint, min: 1400}", 1)
    config.write_text(text)
    assert call("search", config, "-o", tmp_path / "run") == 0
    assert "; it ran out of new ones" in capsys.readouterr().out


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("Usage: ")
    assert "\n  search" in printed.out
    assert printed.err == ""
