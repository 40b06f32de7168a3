"""Pages of runs in a browser: what is measured, and the images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from experiments.search import pages
from freerea_patch import InputError
from tests.browser import browser  # noqa: F401

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.mark.slow
def test_a_page_is_measured_and_looked_at(
    browser: Browser,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from freerea_seval.runs.run_page import write_page

    monkeypatch.setattr(pages, "WIDTHS", (1280,))
    monkeypatch.setattr(pages, "OPENINGS", 1)
    monkeypatch.setattr(pages, "SCHEMES", ("dark",))
    monkeypatch.setattr("freerea_seval.runs.run_page.MOST_DRAWN", 1)
    run = pages.made_up(tmp_path / "candidates-100", 100)
    assert [len(history) for _, history in run.history.groupby("seed")] == [50, 50]
    page = write_page(run.folder)
    name, megabytes, paint, figures, median, slowest = pages.measure(browser, page)
    assert (name, 1 < float(megabytes) < 6) == ("candidates-100", True)
    assert 0 < float(paint) <= float(figures)
    assert 0 < float(median) <= float(slowest) < 2000
    pages.take_images(browser, page, tmp_path)
    assert {path.name for path in tmp_path.glob("candidates-100*[fg]")} == {
        "candidates-100-1280-dark.png",
        "candidates-100.pdf",
    }


def test_a_missing_browser_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages.shutil, "which", lambda _: None)
    pytest.importorskip("playwright")
    with pytest.raises(InputError, match=r"expected one of the programs chromium, .* found none; install Chromium"):
        pages.open_browser().__enter__()
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    with pytest.raises(InputError, match=r"a browser needs Playwright, .*: pip install playwright"):
        pages.open_browser().__enter__()


def test_a_number_of_candidates_out_of_range_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        pages.main(["--candidates", "99"])
    assert "expected a number of candidates from 100 to 15,000, got '99'" in capsys.readouterr().err
