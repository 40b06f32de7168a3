"""The report and the figure of a finished run: names are text, and no value ends them."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

import freerea_seval as fs
from freerea_seval.runs.report import print_report
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


def test_a_table_fits_eighty_columns_without_cutting_a_number(tmp_path: Path) -> None:
    (tmp_path / "wide_metrics.py").write_text(
        "import sys, zlib\nfor i in range(12):\n"
        "    exec(f'def metric_number_{i}_of_many(g): return -{i}.2345e120 * (zlib.crc32(g.encode()) / 2**32 + 1)')\n"
    )
    names = [f"metric_number_{i}_of_many" for i in range(12)]
    roles = ["fitness", "pareto", *["constraint, max: 0"] * 10]
    objectives = [
        f"  - {{metric: {name}, source: {{python: 'wide_metrics:{name}'}}, direction: max, role: {role}}}"
        for name, role in zip(names, roles, strict=True)
    ]
    config = tmp_path / "wide.yaml"
    config.write_text(
        "space: nats-tss\nsearch: {population: 6, tournament: 2}\nbudget: {evaluations: 12}\nobjectives:\n"
        + "\n".join(objectives)
    )
    run = fs.search(config, tmp_path / "run", progress=False)
    text = io.StringIO()
    print_report(run.folder, Console(file=text, width=80))
    lines = text.getvalue().splitlines()
    table = [line for line in lines if line.startswith(("│", "┃", "┏", "└"))]
    assert max(map(len, table)) <= 80
    assert "…" not in text.getvalue()
    printed = "".join(table)
    for name in names:
        for value in run.front[name]:
            assert f" {value:.5g} " in printed
    assert sum(line.startswith("┏") for line in lines) > 1
    assert sum(f"│ {run.pick}* │" in line for line in lines) == sum(line.startswith("┏") for line in lines)


def test_the_numbers_of_all_seeds_are_rows_of_the_front(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for role in ("pareto", "fitness"):
        folder = tmp_path / role
        folder.mkdir()
        _, path = run_of(folder, "", "1.0", ("fitness", role), "--seeds", "0,1")
        run, printed = fs.load_run(path), capsys.readouterr().out
        numbered = dict(re.findall(r"^ *(\d+)\*?  (\|.*\|)$", printed, re.MULTILINE))
        expected = dict(enumerate(run.genotypes()))
        if role == "fitness":  # the best network of each seed
            expected = {row: expected[row] for row in (0, int((run.front["seed"] == 0).sum()))}
        assert {int(number): genotype for number, genotype in numbered.items()} == expected
        assert f"* the pick, number {run.pick}: {run.pick_reason}" in printed
        page = path / "report.html"
        assert printed.endswith(f"run folder: {path}\npage: {page}\nnext: freerea-seval export {path} -o network.py\n")


def test_a_result_without_a_metric_has_a_pick(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, path = run_of(tmp_path, "", "1.0", ("fitness", "pareto"))
    result = path / "seed-0" / "result.json"
    (row, *_) = json.loads(result.read_text())["front"]
    del row["b"]
    result.write_text(json.dumps({**json.loads(result.read_text()), "front": [row]}))
    assert call("report", path) == 0
    assert "the only network of the front" in capsys.readouterr().out
    assert fs.load_run(path).front["b"].isna().all()
