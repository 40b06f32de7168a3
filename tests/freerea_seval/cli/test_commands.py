"""The commands on good input."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from freerea_patch import InputError
from freerea_seval.api.runs import parse_seeds
from tests.freerea_seval.cli.test_mistakes import call
from tests.freerea_seval.runs.searches import write_search


def test_help_answers_without_heavy_imports() -> None:
    code = (
        "import sys; from freerea_seval.cli.main import main; sys.argv = ['freerea-seval', '--help']\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'xgboost', 'sklearn', 'matplotlib'}\n"
        "try: main()\n"
        "finally: print('LOADED', sorted(heavy & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "LOADED []" in output
    assert "search" in output


def test_help_takes_under_four_tenths_of_a_second() -> None:
    """Processor time, because the wall clock also counts whatever else the machine is doing."""
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "freerea_seval.cli.main", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.4


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", [3]), ("0,2,5", [0, 2, 5]), ("0-3", [0, 1, 2, 3]), ("1, 4-5", [1, 4, 5])]
)
def test_seeds_are_listed_or_ranged(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


def test_a_range_of_seeds_has_a_bound() -> None:
    assert len(parse_seeds("1-10000")) == 10_000
    for text in ("0-99999999999", "0-9999,10000"):
        with pytest.raises(InputError, match=f"--seeds '{text}': expected at most 10000 seeds"):
            parse_seeds(text)


@pytest.mark.parametrize("text", ["1" * 5000, "0-" + "1" * 5000, "²", "٣", "", "-1", "3-1"])
def test_seeds_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^--seeds .{2,80}: expected numbers such as 0,1,2 or a range such as 0-29$"):
        parse_seeds(text)


def test_a_relative_output_stays_where_the_command_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_search(tmp_path)
    module = next(tmp_path.glob("metrics_*.py"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    module.write_text(module.read_text() + f"\nimport os\nos.chdir({str(elsewhere)!r})\n")
    monkeypatch.chdir(tmp_path)
    assert call("search", config, "-o", "run") == 0
    assert (tmp_path / "run" / "front.csv").is_file()
    assert list(elsewhere.iterdir()) == []


def test_names_neither_reach_the_terminal_as_codes_nor_spreadsheets_as_formulas(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_search(tmp_path)
    config.write_text(config.read_text().replace("metric: again", 'metric: "=again\\e[2J"'))
    module = next(tmp_path.glob("metrics_*.py"))
    assert call("search", config, "-o", tmp_path / "run") == 0
    assert module.is_file()
    assert "\x1b" not in "".join(capsys.readouterr())
    assert "=again" not in (tmp_path / "run" / "front.csv").read_text().replace("'=again", "")


def test_search_prints_a_table_draws_a_figure_and_writes_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_search(tmp_path)
    assert call("search", config, "-o", tmp_path / "run", "--seeds", "0-1") == 0
    printed = capsys.readouterr().out
    assert "seed 0: the front of 60 networks" in printed
    assert "cost [mJ]" in printed
    assert f"run folder: {tmp_path / 'run'}" in printed
    figure = (tmp_path / "run" / "front.png").read_bytes()
    assert figure.startswith(b"\x89PNG")
    page = (tmp_path / "run" / "report.html").read_bytes()
    for name in ("front.png", "report.html"):
        (tmp_path / "run" / name).unlink()
    assert call("report", tmp_path / "run") == 0
    assert capsys.readouterr().out == printed
    assert (tmp_path / "run" / "front.png").read_bytes() == figure
    assert (tmp_path / "run" / "report.html").read_bytes() == page


def test_a_batch_on_the_command_line_is_looked_for_where_the_user_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").mkdir()
    config = write_search(tmp_path / "configs", budget="evaluations: 4")
    config.write_text(config.read_text() + "live: {cache: off, batch_size: 4, initialisations: 1}\n")
    config.write_text(
        config.read_text().replace("role: pareto", "role: pareto}\n  - {metric: naswot, source: training-free")
    )
    np.savez(tmp_path / "b.npz", images=np.random.default_rng(0).standard_normal((4, 3, 32, 32)))
    monkeypatch.chdir(tmp_path)
    assert call("search", config, "-o", "run", "--batch", "b.npz") == 0


def test_a_batch_may_be_a_function_of_a_module_beside_the_config(tmp_path: Path) -> None:
    module = f"batch_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{module}.py").write_text(
        "import numpy\ndef images(n): return numpy.random.default_rng(0).normal(size=(n, 3, 32, 32))\n"
    )
    config = write_search(tmp_path, budget="evaluations: 4")
    text = config.read_text().replace("role: pareto", "role: pareto}\n  - {metric: naswot, source: training-free")
    live = f"live: {{cache: off, batch_size: 4, initialisations: 1, batch: '{module}:images'}}\n"
    config.write_text(text + live)
    assert call("search", config, "-o", tmp_path / "run") == 0


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    config = write_search(tmp_path, delay=0.05)
    process = subprocess.Popen(
        [sys.executable, "-m", "freerea_seval.cli.main", "search", config, "-o", tmp_path / "run"],
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not (tmp_path / "run" / "seed-3" / "journal.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130
    assert error == f"\nstopped; continue with: freerea-seval search --resume {tmp_path / 'run'}\n"


def test_objectives_shows_what_a_package_says_of_itself_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from freerea_seval.sources import registry as sources
    from freerea_seval.sources.registry import MetricInfo, Registry, SourceRecord

    registry = Registry()
    metric = MetricInfo("energy", "min", "[mJ]", "by a meter [arXiv 1234] [/x]")
    registry.add(SourceRecord("board", "a package [of mine]", "package.module:Board", metrics=(metric,)))
    monkeypatch.setattr(sources, "load_registry", lambda: registry)
    assert call("objectives") == 0
    printed = capsys.readouterr().out
    for said in ("[mJ]", "[arXiv 1234] [/x]", "[of mine]"):
        assert said in printed


def test_objectives_lists_every_source_and_metric(capsys: pytest.CaptureFixture[str]) -> None:
    from freerea_seval.sources.registry import load_registry

    assert call("objectives") == 0
    printed = capsys.readouterr().out
    for record in load_registry():
        assert record.name in printed
        for metric in record.metrics:
            assert metric.name in printed
