"""What the page of a run weighs, how fast it is in Chromium, and how it looks, by the number of candidates.

``python -m experiments.search.pages [--candidates 1000 10000] [--runs RUN ...]`` searches on a made-up table, with two
seeds and three objectives, and opens the pages of these runs and of others: bytes; milliseconds to the first
contentful paint, to the drawing of the figures in view, and from a move of the mouse to the label of a network; and
images at three widths, light and dark, and of the page on paper.
"""

from __future__ import annotations

import shutil
from argparse import ArgumentTypeError
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
OPENINGS = 3
COLUMNS = ("page", "MB", "first paint, ms", "figures, ms", "hover, ms")
#: The most milliseconds from a move of the mouse, to a point of the first figure that has some, to its label.
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
  return Math.max(...waited);
}"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Make runs, open their pages, and print a row a page."""
    parser = experiment_parser("search.pages", __doc__)
    parser.output("runs/pages", "runs, pages and images")
    parser.add_argument("--candidates", type=_count, nargs="*", default=[1000, 10_000], help="of each made-up run")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="finished runs to open, too")
    parser.add_argument("--pages", type=Path, nargs="*", default=[], help="pages to open, too")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    with open_browser() as browser:
        pages = []
        for count in options.candidates:
            folder = options.output / f"candidates-{count}"
            pages.append(write_page(load_run(folder).folder if folder.exists() else made_up(folder, count).folder))
        pages += [write_page(load_run(run).folder, options.output / f"{run.name}.html") for run in options.runs]
        rows = [look(browser, page, options.output) for page in [*pages, *options.pages]]
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


def look(browser: Browser, path: Path, images: Path) -> list[str]:
    """Measure a page, and write images of it; the numbers are the largest of three openings."""
    times = []
    for _ in range(OPENINGS):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(path.resolve().as_uri())
        page.wait_for_selector("html[data-ready]")
        page.locator(".plot").first.scroll_into_view_if_needed()
        page.wait_for_selector(".plot .main-svg")
        figures = page.evaluate("performance.now()")
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
        times.append((paint, figures, page.evaluate(HOVER_MS)))
        page.close()
    stem = path.stem if path.stem != "report" else path.parent.name
    for scheme in ("light", "dark"):
        for width in WIDTHS:
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page.goto(path.resolve().as_uri())
            page.wait_for_selector("html[data-ready]")
            page.evaluate("plots.forEach(draw_group)")
            page.screenshot(path=images / f"{stem}-{width}-{scheme}.png", full_page=True)
            if (width, scheme) == (1280, "dark"):
                page.pdf(
                    path=images / f"{stem}.pdf",
                    format="A4",
                    margin={"top": "15mm", "bottom": "15mm", "left": "15mm", "right": "15mm"},
                )
            page.close()
    return [stem, f"{path.stat().st_size / 1e6:.2f}", *(f"{max(column):.0f}" for column in zip(*times, strict=True))]


if __name__ == "__main__":
    as_command(main)
