"""The page of a run: what it shows, what it escapes, and that it needs nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from freerea_patch import InputError
from freerea_seval.config.schema import Config
from freerea_seval.runs.execute import execute
from freerea_seval.runs.folder import RunFolder
from freerea_seval.runs.page import Page, axes, hover, marks
from freerea_seval.runs.report import pick_of
from freerea_seval.runs.run_page import write_page
from tests.browser import COMPLAINTS, Browser
from tests.experiments.search.test_report_in_a_browser import browser  # noqa: F401
from tests.page_reader import PageReader

NASTY = "</script><b>%{x}</b>"


def finished(folder: Path, role: str, name: str | None = None) -> RunFolder:
    """Return a finished run of two seeds on a table of all cells."""
    from freerea_patch import TopologySpace

    cells, rng = TopologySpace().genotypes(), np.random.default_rng(0)
    lines = ["genotype,score_a,latency,accuracy"]
    lines += [
        f"{cell},{a:.6f},{b:.6f},{50 + a:.4f}" for cell, (a, b) in zip(cells, rng.random((len(cells), 2)), strict=True)
    ]
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    table = {"table": "table.csv"}
    latency: dict[str, object] = {"metric": "latency", "source": table, "role": role, "direction": "min", "unit": "ms"}
    latency |= {"max": 0.5} if role == "constraint" else {}
    config = {
        "space": "nats-tss",
        "search": {"population": 6, "tournament": 3, "seeds": [0, 3]},
        "budget": {"evaluations": 15},
        "objectives": [
            {"metric": "score_a", "source": table, "direction": "max"} | ({"name": name} if name else {}),
            latency,
        ],
        "report": [{"metric": "accuracy", "source": table, "unit": "%", "direction": "max"}],
    }
    run = RunFolder.create(folder / "run", Config.model_validate(config), folder)
    execute(run)
    return RunFolder.open(folder / "run")


@pytest.mark.parametrize("role", ["pareto", "constraint"])
def test_a_page_has_the_front_with_units_the_history_and_the_configuration(tmp_path: Path, role: str) -> None:
    run = finished(tmp_path, role)
    write_page(run, tmp_path / "page.html")
    read = PageReader((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert read.open == []
    assert read.references == [("href", "data:,")]
    assert read.headings[1] == ("Front" if role == "pareto" else "Best networks")
    table, seeds = read.tables
    assert table[0] == ["genotype", "number", "seed", "score", "score_a", "latency [ms]", "accuracy [%]"]
    rows = [(row["genotype"], result["seed"]) for result in run.results() for row in result["front"]]
    assert [(line[0], int(line[2])) for line in table[1:]] == rows
    pick = pick_of(run)
    assert pick is not None
    assert [line[1] for line in table[1:]] == [f"{i} ★" if i == pick.row else str(i) for i in range(len(rows))]
    assert pick.reason in read.visible
    assert [line[:2] for line in seeds[1:]] == [["0", "15"], ["3", "15"]]
    assert (tmp_path / "run" / "config.yaml").read_text() in read.visible
    front, *history = read.figures
    labels = [
        label.replace("<br>", "") for trace in front["data"] if trace["name"] != "pick" for label in trace["hovertext"]
    ]
    genotypes = {label.partition("score:")[0] for label in labels}
    assert {genotype for genotype, _ in rows} <= genotypes
    assert all("latency [ms]: " in label for label in labels)
    assert len(history) == (4 if role == "pareto" else 2)
    assert [len(trace["x"]) for trace in front["data"] if trace["name"] == "pick"] == [1]
    best = [trace["y"] for trace in history[0]["data"] if trace["name"].startswith("best so far")]
    assert all(values == sorted(values) for values in best)


def test_everything_that_a_run_holds_is_escaped(tmp_path: Path) -> None:
    write_page(finished(tmp_path, "pareto", NASTY), tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert NASTY not in html
    read = PageReader(html)
    assert read.open == []
    assert NASTY in read.tables[0][0]
    # Plotly reads tags: what it is given has none but its own line breaks, and no template.
    (history,) = (figure for figure in read.figures if "%{x}" in figure["layout"]["yaxis"]["title"]["text"])
    assert "<b" not in history["layout"]["yaxis"]["title"]["text"]
    labels = [label for trace in history["data"] for label in trace["hovertext"]]
    assert all("<" not in label.replace("<br>", "") for label in labels)
    assert not any("hovertemplate" in trace for figure in read.figures for trace in figure["data"])


def test_a_page_without_figures_has_no_script() -> None:
    page = Page("T", "make")
    page.table("c", ["name", "x"], [["a", "1"]], fold="more")
    page.facts({"a": "b", "empty": ""})
    read = PageReader(page.html())
    assert (read.scripts, read.captions, read.tables) == (0, ["Table 1. c Made by make"], [[["name", "x"], ["a", "1"]]])
    assert "empty" not in read.visible


def test_a_shared_legend_has_the_traces_of_all_panels() -> None:
    first, second = axes("x", "y"), axes("x", "y")
    first.add_trace(marks("a", [1], [2], [hover("a")]))
    second.add_trace(marks("b", [1], [2], [hover("b")]))
    page = Page("T", "make")
    page.figure("c", {"one": first, "two": second}, shared_legend=True)
    one, two = PageReader(page.html()).figures
    assert [trace["name"] for trace in one["data"]] == ["a", "b"]
    assert one["data"][1]["x"] == [None]
    assert two["layout"]["showlegend"] is False


@pytest.mark.parametrize("module", ["jinja2", "plotly.graph_objects"])
def test_a_missing_library_is_one_line_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    run = finished(tmp_path, "pareto")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r"^HTML pages need .*: pip install 'freerea-seval\[figures\]'$"):
        write_page(run, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be written .*; name a folder that you can write to$"):
        write_page(finished(tmp_path, "pareto"), tmp_path / "nowhere" / "page.html")


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 375])
def test_a_page_fits_the_window_and_asks_for_nothing_else(browser: Browser, tmp_path: Path, width: int) -> None:  # noqa: F811
    write_page(finished(tmp_path, "pareto", NASTY), tmp_path / "page.html")
    browser.open(tmp_path / "page.html", width)
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("document.querySelectorAll('.plot .main-svg').length") >= 4
    heard = [event["method"] for event in browser.events]
    assert not set(heard) & set(COMPLAINTS)
    assert (
        browser.value("performance.getEntriesByType('resource').filter(r => !r.name.startsWith('data:')).length") == 0
    )
