"""The report in a browser: by day and by night, on a desk and on a phone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from experiments.search.report import report
from tests.browser import browser, open_page  # noqa: F401
from tests.experiments.search.test_report import failed_row, made_up_rows, write

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write(tmp_path_factory.mktemp("experiment") / "out", [*made_up_rows(), failed_row()])
    path = folder / "report.html"
    path.write_text(report(folder).html(), encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 2560])
def test_a_page_fits_the_window_and_asks_for_nothing_else(browser: Browser, page: Path, width: int) -> None:  # noqa: F811
    with open_page(browser, page, width) as opened:
        opened.draw()
        assert opened.value("document.documentElement.scrollWidth") <= width
        assert (opened.complaints, len(opened.requests)) == ([], 1), "the page itself"
        # What is wide scrolls in a box of its own: nothing else begins or ends outside the window.
        outside = (
            "[...document.body.querySelectorAll('*')].filter(e => !e.closest('.scroll > table, #js-plotly-tester, pre')"
            f" && (e.getBoundingClientRect().left < 0 || e.getBoundingClientRect().right > {width}))"
            ".map(e => e.outerHTML)"
        )
        assert opened.value(outside) == []


@pytest.mark.slow
def test_on_a_phone_wide_tables_scroll_and_the_text_of_figures_is_large_enough(browser: Browser, page: Path) -> None:  # noqa: F811
    with open_page(browser, page, 390) as opened:
        opened.draw()
        box = "[...document.querySelectorAll('.scroll')].find(e => e.textContent.includes('before, IQM'))"
        assert opened.value(f"{box}.scrollWidth > {box}.clientWidth")
        left = f"{box}.querySelector('tbody th').getBoundingClientRect().left"
        before = opened.value(left)
        assert opened.value(f"{box}.scrollLeft = 200") == 200
        assert opened.value(left) == before
        sizes = opened.value(
            "[...document.querySelectorAll('.plot text')].map(e => parseFloat(getComputedStyle(e).fontSize))"
        )
        assert len(sizes) > 20
        assert min(sizes) >= 11


@pytest.mark.slow
def test_a_page_is_dark_by_night(browser: Browser, page: Path) -> None:  # noqa: F811
    seen = {}
    for scheme in ("light", "dark"):
        with open_page(browser, page, 1280, scheme) as opened:
            opened.draw()
            colours = opened.value(
                "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,"
                " getComputedStyle(document.querySelector('.plot .xtick text')).fill]"
            )
            seen[scheme] = [sum(int(part) for part in colour[4:-1].split(",")) for colour in colours]
    assert seen["light"][0] > 600 > 200 > seen["light"][1]
    assert seen["dark"][0] < 200 < 600 < seen["dark"][1]
    assert seen["light"][2] < 200 < 600 < seen["dark"][2]


@pytest.mark.slow
def test_the_shared_legend_hides_a_method_in_all_panels(browser: Browser, page: Path) -> None:  # noqa: F811
    with open_page(browser, page) as opened:
        opened.draw()
        panels = "[...document.querySelectorAll('[data-shared-legend]')[0].querySelectorAll('.plot')].map(e => e.plot)"
        name = "freerea+seval, 100 cells"
        shown = f"{panels}.map(p => p.data.filter(t => t.name == '{name}' && (t.visible ?? true) === true).length)"
        assert opened.value(shown) == [2, 2], "a line and a band in each panel"
        first = f"{panels}[0]"
        hidden = f"{first}.data.map((t, i) => t.name == '{name}' ? i : -1).filter(i => i >= 0)"
        opened.value(f"Plotly.restyle({first}, {{visible: 'legendonly'}}, {hidden}) && 0")
        assert opened.value(shown) == [0, 0]
