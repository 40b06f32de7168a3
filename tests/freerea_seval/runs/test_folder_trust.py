"""A run folder from elsewhere runs no code without consent and leads to no file outside; one's own needs no consent."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

import freerea_seval as fs
from freerea_patch import InputError
from freerea_seval.config import load_config
from freerea_seval.runs.folder import RunFolder
from tests.freerea_seval.cli.test_mistakes import call
from tests.freerea_seval.runs.searches import write_search

BUILT_IN = """
space: nats-tss
search: {population: 4, tournament: 2}
budget: {evaluations: 5}
live: {cache: off, batch_size: 4, initialisations: 1}
objectives:
  - {metric: latency_ms, source: {table: table.csv}, direction: min}
"""


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that needs to continue, of a user who is another one from now on."""
    run = tmp_path / "run"
    config = write_search(tmp_path)
    assert call("search", config, "-o", run) == 0
    (run / "seed-3" / "result.json").unlink()
    sys.modules.pop(config.read_text().partition("python: ")[2].partition(":")[0])
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    return run


def test_a_run_from_elsewhere_imports_nothing_before_the_user_says_so_and_is_remembered(
    foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert call("search", "--resume", foreign) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "its config names 'metrics_" in line
    assert line.endswith("a folder alone must not cause code to run; if you trust it, add --trust")
    assert not any(name.startswith(f"metrics_{foreign.parent.name}") for name in sys.modules)
    assert call("search", "--resume", foreign, "--trust") == 0
    (foreign / "seed-3" / "result.json").unlink()
    assert call("search", "--resume", foreign) == 0


def test_other_code_or_another_base_than_was_run_needs_consent_again(foreign: Path) -> None:
    assert call("search", "--resume", foreign, "--trust") == 0
    (foreign / "seed-3" / "result.json").unlink()
    for name, old, new in (("config.yaml", ":worth", ":cost"), ("run.json", str(foreign.parent), str(foreign))):
        text = (foreign / name).read_text()
        (foreign / name).write_text(text.replace(old, new, 1))
        with pytest.raises(InputError, match="add --trust"):
            fs.search(resume=foreign)
        (foreign / name).write_text(text)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other folders")
def test_a_user_without_a_folder_of_their_own_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert call("search", write_search(tmp_path), "-o", tmp_path / "run") == 0
    (tmp_path / "run" / "seed-3" / "result.json").unlink()
    assert call("search", "--resume", tmp_path / "run") == 2
    assert call("search", "--resume", tmp_path / "run", "--trust") == 0


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("space={name: 'subprocess:run', args: [touch, ran]}", "'subprocess:run'"),
        ("search.algorithm='evil:Search'", "'evil:Search'"),
        ("live.batch='evil:images'", "'evil:images'"),
        ("live.cache=../elsewhere.sqlite", "'../elsewhere.sqlite'"),
        ("objectives.0.source={python: 'evil:metric'}", "'evil:metric'"),
        ("report=[{metric: m, source: {python: 'evil:metric'}}]", "'evil:metric'"),
    ],
)
def test_every_place_that_can_name_code_needs_consent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evil.py").write_text("open('ran', 'w')\n")
    Path("search.yaml").write_text(BUILT_IN)
    RunFolder.create(Path("run"), load_config(Path("search.yaml"), [override]), tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    with pytest.raises(
        InputError, match=f"its config names {named}, which you have not run from {re.escape(str(tmp_path))}: "
    ):
        fs.search(resume="run")
    assert not Path("ran").exists()
    assert not list(tmp_path.glob("*.sqlite"))


def test_a_run_that_names_no_code_needs_no_consent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "search.yaml"
    config.write_text(BUILT_IN.replace("nats-tss", "nats-sss") + "report: [{metric: params, source: cost}]\n")
    (tmp_path / "table.csv").write_text("genotype,latency_ms\n8:8:8:8:8,1\n")
    RunFolder.create(tmp_path / "run", load_config(config, ["search.start=['8:8:8:8:8']"]), tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    RunFolder.open(tmp_path / "run").check_trust()


def test_a_report_needs_no_consent_and_a_space_of_the_folder_does(
    foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("search", "--resume", foreign, "--trust") == 0
    module = next(name for name in sys.modules if name.startswith("metrics_test_a_report_needs"))
    del sys.modules[module]
    monkeypatch.setenv("XDG_STATE_HOME", str(foreign.parent / "another"))
    assert call("report", foreign) == 0
    assert module not in sys.modules
    assert fs.load_run(foreign).space.name == "nats-tss/cifar10"
    config = foreign / "config.yaml"
    config.write_text(config.read_text().replace("space: nats-tss", "space: freerea_patch:TopologySpace"))
    with pytest.raises(InputError, match="add --trust"):
        _ = fs.load_run(foreign).space
    assert fs.load_run(foreign, trust=True).space.name == "nats-tss/cifar10"


def test_trust_without_a_folder_to_resume_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("search", "--trust") == 2
    assert "--trust belongs to --resume; leave it out" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such links")
@pytest.mark.parametrize("name", [".lock", "seed-3", "seed-3/journal.jsonl", "config.yaml", "front.png"])
@pytest.mark.parametrize("command", ["resume", "report"])
def test_nothing_outside_of_a_run_folder_is_read_or_written_through_a_link(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, command: str
) -> None:
    run, outside = tmp_path / "run", tmp_path / "outside"
    assert call("search", write_search(tmp_path), "-o", run) == 0
    (run / "seed-3" / "result.json").unlink()
    shutil.move(run / name, outside)
    (run / name).symlink_to(outside)
    contents = {p: p.read_bytes() for p in (outside, *outside.rglob("*")) if p.is_file()}
    capsys.readouterr()
    assert call(*(["search", "--resume"] if command == "resume" else ["report"]), run) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{name}: expected a file or a folder, got a link" in line
    assert {p: p.read_bytes() for p in (outside, *outside.rglob("*")) if p.is_file()} == contents


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such lock")
def test_a_run_is_locked_from_the_moment_that_it_exists(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", load_config(write_search(tmp_path)), tmp_path)
    for _ in range(2):
        with (
            pytest.raises(InputError, match="is being written by another process"),
            RunFolder.open(folder.path).locked(),
        ):
            pass
        with folder.locked():
            with folder.locked():
                pass
            with pytest.raises(InputError, match="is being written"), RunFolder.open(folder.path).locked():
                pass
        with RunFolder.open(folder.path).locked():
            break


@pytest.mark.parametrize("before", [False, True], ids=["new", "empty before"])
@pytest.mark.parametrize("noted", [False, True], ids=["", "with a file of the user's"])
def test_a_search_that_evaluated_nothing_removes_what_it_made_and_nothing_else(
    tmp_path: Path, before: bool, noted: bool
) -> None:
    run = tmp_path / "run"
    if before:
        run.mkdir()
    config = write_search(tmp_path)
    module = next(tmp_path.glob("metrics_*.py"))
    note = f"open({str(run / 'note')!r}, 'w').close()" if noted else "pass"
    module.write_text(f"def worth(genotype):\n    {note}\n    raise ValueError('no board')\ncost = worth\n")
    assert call("search", config, "-o", run) == 2
    assert run.exists() == (before or noted)
    if noted:
        assert {"note", "config.yaml", "run.json"} <= {path.name for path in run.iterdir()}
    elif before:
        assert not list(run.iterdir())
    assert {p.name for p in tmp_path.iterdir()} - {"run", "__pycache__"} == {config.name, module.name}
