"""What the page of a run weighs, how fast it is in Chromium, and how it looks, by the number of candidates.

``python -m experiments.search.pages [--candidates 1000 10000] [--runs RUN ...]`` searches on a made-up table, with two
seeds and three objectives, and opens the pages of these runs and of others: bytes; milliseconds to the first
contentful paint, to the drawing of the figures in view, and from a move of the mouse to the label of a network. With
``--images``, it writes images at three widths, light and dark, and the page on paper.
"""

from __future__ import annotations

import shutil
from argparse import ArgumentTypeError
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from experiments.tables import as_command, experiment_parser, markdown
from freerea_patch import InputError, TopologySpace
from freerea_seval.api.runs import load_run, search
from freerea_seval.files import write_atomically
from freerea_seval.runs.run_page import write_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

#: Names of the browser's program.
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chromium-headless-shell")
WIDTHS = (390, 1280, 2560)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
OPENINGS = 3
COLUMNS = ("page", "MB", "first paint, ms", "figures, ms", "hover, median ms", "slowest, ms")
#: Milliseconds from opening the page until its first figures are drawn.
DRAWN_MS = """async () => {
  while (!document.querySelector(".plot .main-svg")) await new Promise(requestAnimationFrame);
  return performance.now();
}"""
#: Milliseconds from moves of the mouse, to 20 points of the first figure with some, to their labels: median and most.
HOVER_MS = """async () => {
  const hovered = trace => trace.type === "scatter" && trace.hoverinfo === "text" && trace.x.length > 1;
  plots.forEach(draw_group);
  const plot = plots.map(element => element.plot).find(plot => plot.data.some(hovered));
  const { xaxis, yaxis } = plot._fullLayout, { x, y } = plot.data.find(hovered), waited = [];
  plot.scrollIntoView();
  const box = plot.querySelector(".nsewdrag"), frame = () => new Promise(requestAnimationFrame);
  for (let i = 0; i < 20; i++) {
    const place = Math.floor(i * x.length / 20), { left, top } = box.getBoundingClientRect();
    Plotly.Fx.unhover(plot);
    await new Promise(done => setTimeout(done, 120));
    const clientX = left + xaxis.d2p(x[place]), clientY = top + yaxis.d2p(y[place]), began = performance.now();
    box.dispatchEvent(new MouseEvent("mousemove", { clientX, clientY, bubbles: true }));
    while (!plot.querySelector(".hovertext") && performance.now() < began + 2000) await frame();
    waited.push(performance.now() - began);
  }
  waited.sort((a, b) => a - b);
  return [waited[10], waited[19]];
}"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Make runs, open their pages, and print a row a page."""
    parser = experiment_parser("search.pages", __doc__)
    parser.output("runs/pages", "runs, pages and images")
    parser.add_argument("--candidates", type=_count, nargs="*", default=[1000, 10_000], help="of each made-up run")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="finished runs to open, too")
    parser.add_argument("--pages", type=Path, nargs="*", default=[], help="pages to open, too")
    parser.add_argument("--images", action="store_true", help="write images of every page, too")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    with open_browser() as browser:
        pages = []
        for count in options.candidates:
            folder = options.output / f"candidates-{count}"
            pages.append(write_page(load_run(folder).folder if folder.exists() else made_up(folder, count).folder))
        pages += [write_page(load_run(run).folder, options.output / f"{run.name}.html") for run in options.runs]
        pages += options.pages
        rows = [measure(browser, page) for page in pages]
        for page in pages if options.images else ():
            take_images(browser, page, options.output)
    write_atomically(options.output / "summary.md", markdown(COLUMNS, rows))
    print(markdown(COLUMNS, rows))


def _count(value: str) -> int:
    if not value.isdecimal() or not 100 <= int(value) <= 15_000:
        raise ArgumentTypeError(f"expected a number of candidates from 100 to 15,000, got {value!r}")
    return int(value)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Open a headless Chromium.

    Raises:
        InputError: Playwright or a program is not installed.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise InputError("a browser needs Playwright, which is not installed: pip install playwright") from None
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise InputError(f"expected one of the programs {', '.join(PROGRAMS)}, found none; install Chromium")
    with sync_playwright() as playwright:
        # Containers run as root, which Chromium's sandbox refuses; the pages are our own.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def made_up(folder: Path, count: int) -> Any:
    """Return a run of two seeds with this number of candidates in all, on random values with two conflicting trends."""
    cells, rng = TopologySpace().genotypes(), np.random.default_rng(0)
    convolutions = np.array([cell.count("nor_conv_3x3") + 0.4 * cell.count("nor_conv_1x1") for cell in cells])
    latency = 1.5 + convolutions * rng.uniform(0.8, 1.2, len(cells))
    score = np.sqrt(convolutions) + rng.normal(0, 0.3, len(cells))
    energy = 5 + 3 * latency * rng.uniform(0.7, 1.3, len(cells))
    lines = [
        f"{cell},{','.join(f'{v:.4f}' for v in row)}" for cell, *row in zip(cells, score, latency, energy, strict=True)
    ]
    table = folder.with_suffix(".csv")
    write_atomically(table, "\n".join(["genotype,merit,latency,energy", *lines]) + "\n")
    source = {"table": str(table.resolve())}
    config = {
        "space": "nats-tss",
        "search": {"algorithm": "random", "seeds": [0, 1]},
        "budget": {"evaluations": count // 2},
        "objectives": [
            {"metric": "merit", "source": source, "direction": "max"},
            {"metric": "latency", "source": source, "direction": "min", "unit": "ms", "role": "pareto"},
            {"metric": "energy", "source": source, "direction": "min", "unit": "mJ", "role": "pareto"},
        ],
    }
    return search(config, folder, progress=False)


def measure(browser: Browser, path: Path) -> list[str]:
    """Return the name of a page, its megabytes, and the largest times of several openings in milliseconds."""
    times = []
    for _ in range(OPENINGS):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(path.resolve().as_uri())
        page.wait_for_selector("html[data-ready]")
        page.locator(".plot").first.scroll_into_view_if_needed()
        figures = page.evaluate(DRAWN_MS)
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
        times.append((paint, figures, *page.evaluate(HOVER_MS)))
        page.close()
    return [_name(path), f"{path.stat().st_size / 1e6:.2f}", *(f"{max(c):.0f}" for c in zip(*times, strict=True))]


def take_images(browser: Browser, path: Path, folder: Path) -> None:
    """Write images of a page at three widths, light and dark, and the page on paper."""
    for scheme, width in product(SCHEMES, WIDTHS):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.goto(path.resolve().as_uri())
        page.wait_for_selector("html[data-ready]")
        page.evaluate("plots.forEach(draw_group)")
        page.screenshot(path=folder / f"{_name(path)}-{width}-{scheme}.png", full_page=True)
        page.close()
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="dark")
    page.goto(path.resolve().as_uri())
    page.wait_for_selector("html[data-ready]")
    margin = "15mm"
    page.pdf(
        path=folder / f"{_name(path)}.pdf",
        format="A4",
        margin={"top": margin, "bottom": margin, "left": margin, "right": margin},
    )
    page.close()


def _name(path: Path) -> str:
    return path.stem if path.stem != "report" else path.parent.name


if __name__ == "__main__":
    as_command(main)
