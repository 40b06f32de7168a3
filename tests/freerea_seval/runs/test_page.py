"""The parts that pages are made of."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from freerea_patch import InputError
from freerea_seval.runs.page import Page, axes, bars, hover, marks, require_plotly, write
from tests.page_reader import PageReader


def test_a_page_without_figures_has_no_script() -> None:
    page = Page("T", "make")
    page.table("c", ["name", "x"], [["a", "1"]], fold="more")
    page.facts({"a": "b", "empty": ""})
    read = PageReader(page.html())
    assert (read.scripts, read.captions, read.tables) == (0, ["Table 1. c Made by make"], [[["name", "x"], ["a", "1"]]])
    assert "empty" not in read.visible


def test_a_figure_has_its_values_as_a_table() -> None:
    page = Page("T", "make")
    page.figure("c", {"": bars("seconds", ["a"], [("row", [1.5])], "s")}, table=(["row", "a"], [["row", "1.5"]], ()))
    read = PageReader(page.html())
    assert read.tables == [[["row", "a"], ["row", "1.5"]]]
    assert read.open == []


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


def test_bars_of_nothing_have_an_axis() -> None:
    assert bars("seconds", ["a"], [("row", [0.0])], "s").layout.xaxis.range == (0, 1.02)


@pytest.mark.parametrize("module", ["jinja2", "plotly.graph_objects"])
def test_a_missing_library_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r"^HTML pages need .*: pip install 'freerea-seval\[figures\]'$"):
        require_plotly()


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be written .*; name a folder that you can write to$"):
        write(Page("T", "make"), tmp_path / "nowhere" / "page.html")
