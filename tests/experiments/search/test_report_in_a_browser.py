"""The report as a browser shows it: by day and by night, on a desk and on a phone."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.search.report import report
from tests.experiments.search.test_report import failed_row, made_up_rows, write

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
#: What a browser tells of a page that is not as it should be.
COMPLAINTS = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
#: Seconds that it may take to answer; it takes one on an idle machine.
PATIENCE_S = 60.0


class Browser:
    """A headless Chromium with one page, which needs no library: its DevTools protocol goes through a pipe as JSON."""

    def __init__(self, program: str, profile: Path) -> None:
        # The browser reads from 3 and writes to 4; ends above 9 are in nobody's way while a shell puts them there.
        ends = []
        for end in (*os.pipe(), *os.pipe()):
            ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10))
            os.close(end)
        its_input, self._output, self._input, its_output = ends
        # Chromium's sandbox refuses root, which containers run tests as; the page is our own.
        options = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe")
        run = f'exec "$0" "$@" 3<&{its_input} 4>&{its_output}'
        self._process = subprocess.Popen(
            ["bash", "-c", run, program, *options, f"--user-data-dir={profile}"],
            pass_fds=(its_input, its_output),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(its_input)
        os.close(its_output)
        self._asked = 0
        self._unread = b""
        self._session: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []

    def start(self) -> None:
        """Open an empty page, and listen to all that it says."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: object) -> Any:
        """Send a command and return its answer; events that come meanwhile are kept."""
        self._asked += 1
        message = {"id": self._asked, "method": method, "params": parameters, **self._session}
        os.write(self._output, json.dumps(message).encode() + b"\0")
        while "id" not in (answer := self._read()):
            self.events.append(answer)
        assert "result" in answer, answer
        return answer["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._input], [], [], PATIENCE_S)
            came = os.read(self._input, 1 << 20) if ready else b""
            assert came, "the browser ended or says nothing"
            self._unread += came
        message, _, self._unread = self._unread.partition(b"\0")
        return dict(json.loads(message))

    def open(self, page: Path, width: int, scheme: str = "light") -> None:
        """Load a page at a width, in CSS pixels, and wait until it is there."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.ask("Page.navigate", url=page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"]["value"]

    def close(self) -> None:
        """End the browser, however it is."""
        os.close(self._output)
        os.close(self._input)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


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
    path.write_text(report(folder)[0], encoding="utf-8")
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
        "[...document.body.querySelectorAll('*')].filter(e => !e.closest('.scroll > table') &&"
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
def test_text_of_figures_is_large_enough_on_a_phone(browser: Browser, page: Path) -> None:
    browser.open(page, 375)
    scale = "Math.hypot(e.getScreenCTM().a, e.getScreenCTM().b)"
    heights = browser.value(f"[...document.querySelectorAll('svg.panel text')].map(e => 11 * {scale})")
    assert len(heights) > 20
    assert min(heights) >= 10


@pytest.mark.slow
def test_a_page_is_dark_by_night(browser: Browser, page: Path) -> None:
    seen = {}
    for scheme in ("light", "dark"):
        browser.open(page, 1280, scheme)
        colours = browser.value(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,"
            " getComputedStyle(document.querySelector('svg.panel .c1')).color]"
        )
        seen[scheme] = [sum(int(part) for part in colour[4:-1].split(",")) for colour in colours]
    assert seen["light"][0] > 600 > 200 > seen["light"][1]
    assert seen["dark"][0] < 200 < 600 < seen["dark"][1]
    assert seen["light"][2] < seen["dark"][2]


@pytest.mark.slow
def test_a_box_of_a_legend_hides_its_method_in_its_figure(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    shown = "[...document.querySelectorAll('svg.panel g.s2')].filter(e => getComputedStyle(e).display != 'none').length"
    before = browser.value(shown)
    assert before == 2, "one in each panel of the figure of regret"
    browser.value("document.querySelector('.t2').click() ?? 0")
    assert browser.value(shown) == 0
    others = shown.replace(".s2", ".s1")
    assert browser.value(others) == 2
    browser.value("document.querySelector('.t2').click() ?? 0")
    assert browser.value(shown) == before
