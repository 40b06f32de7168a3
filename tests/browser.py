"""A headless Chromium for tests of pages: the fixture ``browser``, and what a page says and asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from experiments.search.pages import open_browser
from freerea_patch import InputError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start a browser; the test is skipped where Playwright or a program is not installed."""
    opened = open_browser()
    try:
        started = opened.__enter__()
    except InputError as error:
        pytest.skip(str(error))
    yield started
    opened.__exit__(None, None, None)


@dataclass
class Opened:
    """A page in a browser.

    Attributes:
        page: of Playwright.
        complaints: errors and warnings of its console, its exceptions and dialogs.
        requests: the addresses that it asked for, itself among them.
    """

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        return self.page.evaluate(expression)

    def draw(self) -> None:
        """Draw the figures that are out of view, too, and unfold everything."""
        self.value(
            "() => { document.querySelectorAll('details').forEach(d => d.open = true); plots.forEach(draw_group) }"
        )


@contextmanager
def open_page(browser: Browser, path: Path, width: int = 1280, scheme: Any = "light") -> Iterator[Opened]:
    """Load a page at a width, in CSS pixels, and wait until its script has run."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    opened = Opened(page)

    def complain(dialog: Dialog) -> None:
        opened.complaints.append(dialog.message)
        dialog.dismiss()

    page.on("console", lambda message: opened.complaints.append(message.text))
    page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    page.on("dialog", complain)
    page.on("request", lambda request: opened.requests.append(request.url))
    page.goto(path.resolve().as_uri())
    page.wait_for_selector("html[data-ready]")
    yield opened
    page.close()
