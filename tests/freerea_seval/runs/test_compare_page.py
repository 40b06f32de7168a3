"""The page of runs side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

import freerea_seval as fs
from freerea_seval.runs.statistics import paired_p, summarise
from tests.freerea_seval.cli.test_mistakes import call
from tests.freerea_seval.runs.test_compare import PARAMS, SKIP, make
from tests.page_reader import PageReader


def test_a_page_has_the_statistics_over_seeds_and_the_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pareto = {**SKIP, "role": "pareto"}
    runs = [make(tmp_path / name, pareto, PARAMS, seeds="0-6", algorithm=name) for name in ("freerea", "random")]
    table = fs.compare(runs, html=tmp_path / "page.html")
    page = PageReader((tmp_path / "page.html").read_text())
    assert page.open == []
    assert page.headings[1:] == ["Quality", "Results", "Where the time went", "What was run"]
    lines = page.tables[0][1:]
    assert [line[:4] for line in lines] == [[n, n, "7", "12.0"] for n in ("freerea", "random")]
    assert [float(cell) for cell in lines[1][5:]] == pytest.approx(
        [table[name][1] for name in ("quality", "deviation", "iqm", "low", "high", "p")], rel=1e-4
    )
    quality, results, _ = page.figures
    values = [dict(enumerate(trace["y"])) for trace in quality["data"] if len(trace["y"]) == 7]
    assert summarise([list(values[1].values())]).iqm == pytest.approx(table["iqm"][1])  # type: ignore[union-attr]
    assert paired_p(*values) == pytest.approx(table["p"][1])
    assert sum(len(trace["x"]) for trace in results["data"]) == sum(len(run.front) for run in runs)
    assert call("compare", *(run.path for run in runs), "--html", tmp_path / "again.html") == 0
    assert f"page: {tmp_path / 'again.html'}" in capsys.readouterr().out
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "page.html").read_bytes()


def test_runs_of_one_seed_with_equal_names_are_told_apart(tmp_path: Path) -> None:
    runs = [make(tmp_path / parent / "run", SKIP) for parent in "ab"]
    fs.compare(runs, html=tmp_path / "page.html")
    page = PageReader((tmp_path / "page.html").read_text())
    assert [line[0] for line in page.tables[0][1:]] == ["a/run", "b/run"]
    assert page.tables[0][1][6:] == [""] * 5
