"""The report and the figure of a finished run: names are text, and no value ends them."""

from __future__ import annotations

from pathlib import Path

import pytest

import freerea_seval as fs
from tests.freerea_seval.cli.test_mistakes import call

#: Matplotlib would read each as mathematics that is wrong.
MARKUP = (r"$\\frac{$", r"$x_{$", r"a$^$b", r"$\\alpha$")


def run_of(folder: Path, name: str, scale: str, roles: tuple[str, str], *arguments: str) -> tuple[int, Path]:
    """Search with metrics of this scale; return the exit code and the run folder."""
    module = f"scaled_{folder.name}".replace("-", "_")
    (folder / f"{module}.py").write_text(
        f"import zlib\ndef worth(genotype):\n    return {scale} * (zlib.crc32(genotype.encode()) / 2**31 - 1)\n"
    )
    metric = f"metric: worth, source: {{python: '{module}:worth'}}"
    config = folder / "search.yaml"
    config.write_text(
        "space: nats-tss\nsearch: {population: 6, tournament: 2}\nbudget: {evaluations: 20}\nobjectives:\n"
        f"  - {{{metric}, name: 'a{name}', unit: '{name}', direction: max, role: {roles[0]}}}\n"
        f"  - {{{metric}, name: 'b{name}', unit: '{name}', direction: min, role: {roles[1]}}}\n"
        f"report:\n  - {{{metric}, name: 'c{name}', unit: '{name}'}}\n"
    )
    return call("search", config, "-o", folder / "run", *arguments), folder / "run"


@pytest.mark.parametrize("name", MARKUP)
def test_a_name_in_a_figure_is_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from matplotlib.mathtext import MathTextParser

    monkeypatch.delattr(MathTextParser, "parse")  # a figure that reads mathematics would fail
    code, run = run_of(tmp_path, name, "1.0", ("fitness", "pareto"))
    assert (code, capsys.readouterr().err) == (0, "")
    assert (run / "front.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("roles", [("fitness", "fitness"), ("fitness", "pareto"), ("pareto", "pareto")], ids="-".join)
@pytest.mark.parametrize("arguments", [(), ("--seeds", "0,1")], ids=["one seed", "two seeds"])
def test_values_near_the_largest_double_end_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], roles: tuple[str, str], arguments: tuple[str, ...]
) -> None:
    code, run = run_of(tmp_path, "", "1.7e308", roles, *arguments)
    assert code == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) <= 1
    assert all(line.startswith(f"no figure: run {run}: its figure cannot be drawn (") for line in lines)
    assert len(lines) + (run / "front.png").exists() == 1
    assert call("report", run, "--html", tmp_path / "run.html") == 0
    assert len(fs.load_run(run).front) >= 1


def test_a_figure_that_cannot_be_written_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, run = run_of(tmp_path, "", "1.0", ("fitness", "pareto"))
    (run / "front.png").unlink()
    (run / "front.png").mkdir()
    assert call("report", run) == 0
    assert capsys.readouterr().err.startswith("no figure: ")
