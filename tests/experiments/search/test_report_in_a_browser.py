"""The report in a browser: by day and by night, on a desk and on a phone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.search.report import report
from tests.browser import COMPLAINTS, PROGRAMS, Browser
from tests.experiments.search.test_report import failed_row, made_up_rows, write


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"needs a browser: install one of {', '.join(PROGRAMS)}")
    started = Browser(program, tmp_path_factory.mktemp("profile"))
    try:
        started.start()
        yield started
    finally:
        started.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write(tmp_path_factory.mktemp("experiment") / "out", [*made_up_rows(), failed_row()])
    path = folder / "report.html"
    path.write_text(report(folder).html(), encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 375])
def test_a_page_fits_the_window_and_asks_for_nothing_else(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width)
    browser.value("document.querySelectorAll('details').forEach(fold => fold.open = true)?.length ?? 0")
    assert browser.value("document.documentElement.scrollWidth") <= width
    heard = [event["method"] for event in browser.events]
    assert not set(heard) & set(COMPLAINTS)
    assert heard.count("Network.requestWillBeSent") == 1, "the page itself"
    # What is wide scrolls in a box of its own: nothing else begins or ends outside the window.
    outside = (
        "[...document.body.querySelectorAll('*')].filter(e => !e.closest('.scroll > table, #js-plotly-tester') &&"
        f" (e.getBoundingClientRect().left < 0 || e.getBoundingClientRect().right > {width})).map(e => e.outerHTML)"
    )
    assert browser.value(outside) == []


@pytest.mark.slow
def test_wide_tables_scroll_on_a_phone_and_keep_their_first_column(browser: Browser, page: Path) -> None:
    browser.open(page, 375)
    box = "[...document.querySelectorAll('.scroll')].find(e => e.textContent.includes('before, IQM'))"
    assert browser.value(f"{box}.scrollWidth > {box}.clientWidth")
    left = f"{box}.querySelector('tbody th').getBoundingClientRect().left"
    before = browser.value(left)
    assert browser.value(f"{box}.scrollLeft = 200") == 200
    assert browser.value(left) == before


@pytest.mark.slow
def test_figures_are_drawn_and_their_text_is_large_enough_on_a_phone(browser: Browser, page: Path) -> None:
    browser.open(page, 375)
    drawn, expected = "document.querySelectorAll('.plot .main-svg').length", "document.querySelectorAll('.plot').length"
    assert browser.value(drawn) >= browser.value(expected) > 0
    sizes = browser.value(
        "[...document.querySelectorAll('.plot text')].map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert len(sizes) > 20
    assert min(sizes) >= 11


@pytest.mark.slow
def test_a_page_is_dark_by_night(browser: Browser, page: Path) -> None:
    seen = {}
    for scheme in ("light", "dark"):
        browser.open(page, 1280, scheme)
        colours = browser.value(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,"
            " getComputedStyle(document.querySelector('.plot .xtick text')).fill]"
        )
        seen[scheme] = [sum(int(part) for part in colour[4:-1].split(",")) for colour in colours]
    assert seen["light"][0] > 600 > 200 > seen["light"][1]
    assert seen["dark"][0] < 200 < 600 < seen["dark"][1]
    assert seen["light"][2] < 200 < 600 < seen["dark"][2]


@pytest.mark.slow
def test_the_shared_legend_hides_a_method_in_all_panels(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    plots = "[...document.querySelectorAll('[data-shared-legend]')[0].querySelectorAll('.plot')].map(e => e.plot)"
    name = "freerea+seval, 100 cells"
    shown = f"{plots}.map(p => p.data.filter(t => t.name == '{name}' && (t.visible ?? true) === true).length)"
    before = browser.value(shown)
    assert before == [2, 2], "a line and a band in each panel"
    first = f"{plots}[0]"
    hidden = f"{first}.data.map((t, i) => t.name == '{name}' ? i : -1).filter(i => i >= 0)"
    browser.value(f"Plotly.restyle({first}, {{visible: 'legendonly'}}, {hidden}) && 0")
    assert browser.value(shown) == [0, 0]
