"""Pages in a browser: on a desk and on a phone, on paper, with a keyboard, and by the rules of axe-core."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import freerea_seval as fs
from freerea_seval.runs.run_page import write_page
from tests.browser import browser, open_page  # noqa: F401
from tests.freerea_seval.runs.test_run_page import NASTY, finished, predicted

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write pages: one with all figures, one without a front, and both runs side by side; names are HTML."""
    every = finished(tmp_path_factory.mktemp("every"), "pareto", NASTY, ["energy"])
    bound = finished(tmp_path_factory.mktemp("bound"), "constraint", NASTY, seeds="0")
    compare = bound.path / "compare.html"
    fs.compare([every.path, bound.path], [NASTY, "latency"], html=compare)
    return {"every figure": predicted(every), "bound": write_page(bound), "compare": compare}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["every figure", "bound", "compare"])
def test_a_page_fits_a_phone_and_keeps_the_rules_of_axe(browser: Browser, pages: dict[str, Path], name: str) -> None:  # noqa: F811
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    with open_page(browser, pages[name], 390, "dark") as opened:
        opened.draw()
        assert opened.value("document.documentElement.scrollWidth") <= 390
        assert opened.value("plots.every(element => element.querySelector('.main-svg'))")
        violations = axe.Axe().run(opened.page).response["violations"]
        assert [(v["id"], v["nodes"][0]["html"][:200]) for v in violations] == []
        assert (opened.complaints, len(opened.requests)) == ([], 1), "the page itself"


@pytest.mark.slow
def test_figures_are_drawn_when_they_come_into_view_and_before_printing(
    browser: Browser,  # noqa: F811
    pages: dict[str, Path],
) -> None:
    drawn = "plots.filter(element => element.plot).length"
    with open_page(browser, pages["bound"], scheme="dark") as opened:
        assert 0 < opened.value(drawn) < opened.value("plots.length")
        opened.page.locator(".plot").last.scroll_into_view_if_needed()
        opened.page.wait_for_function("plots.at(-1).plot")
        opened.value("dispatchEvent(new Event('beforeprint'))")
        assert opened.value(drawn) == opened.value("plots.length")
        ink = "getComputedStyle(document.querySelector('.plot .xtick text')).fill"
        assert opened.value(ink) == "rgb(0, 0, 0)"
        opened.value("dispatchEvent(new Event('afterprint'))")
        assert opened.value(ink) != "rgb(0, 0, 0)"


@pytest.mark.slow
def test_a_keyboard_reaches_and_unfolds_the_table_of_a_figure(browser: Browser, pages: dict[str, Path]) -> None:  # noqa: F811
    with open_page(browser, pages["bound"]) as opened:
        for _ in range(20):
            opened.page.keyboard.press("Tab")
            if opened.value("document.activeElement.matches('summary')"):
                break
        assert opened.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        opened.page.keyboard.press("Enter")
        assert opened.value("document.activeElement.parentElement.open")
        opened.page.keyboard.press("Tab")
        assert opened.value("document.activeElement.matches('.scroll')")


@pytest.mark.slow
def test_hovering_shows_a_network(browser: Browser, pages: dict[str, Path]) -> None:  # noqa: F811
    from experiments.search.pages import HOVER_MS

    with open_page(browser, pages["every figure"]) as opened:
        median, slowest = opened.value(HOVER_MS)
        assert 0 < median <= slowest < 2000, "a label of each network"
        assert opened.complaints == []
