"""The page of runs side by side: their qualities with the statistics over seeds, their results, and their time."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freerea_seval.config import MetricSection
from freerea_seval.runs.compare import Comparison, comparison
from freerea_seval.runs.folder import RunFolder
from freerea_seval.runs.page import COLOURS, SYMBOLS, Page, axes, bars, hover, marks, number, require_plotly, write
from freerea_seval.runs.report import front_table, label
from freerea_seval.runs.run_page import space_name

if TYPE_CHECKING:
    from pandas import DataFrame
    from plotly.graph_objects import Figure  # type: ignore[import-untyped, unused-ignore]


def write_comparison(folders: Sequence[RunFolder], metrics: Sequence[str], path: Path) -> DataFrame:
    """Write the page of runs, and return the table of :func:`~freerea_seval.runs.compare.compare_runs`.

    Args:
        folders: at least two finished runs.
        metrics: columns of the results to compare; see :func:`~freerea_seval.runs.compare.compare_runs`.
        path: the HTML file.

    Raises:
        InputError: as :func:`~freerea_seval.runs.compare.compare_runs`; or a library is not installed, or the file
            cannot be written.
    """
    require_plotly()
    compared = comparison(folders, metrics)
    write(_page(folders, metrics, compared), path)
    return compared.table


def _page(folders: Sequence[RunFolder], metrics: Sequence[str], compared: Comparison) -> Page:
    table, names = compared.table, _names(folders)
    arguments = [*names, *(part for metric in metrics for part in ("--on", metric))]
    page = Page("Runs side by side", f"freerea-seval compare {shlex.join(arguments)} --html FILE")
    quality = str(table.attrs["quality"])
    page.paragraph(
        f"Compared is the {quality}"
        + (", on axes that are normalised to the range of all results." if len(compared.axes) > 1 else ".")
    )
    page.heading("Quality")
    if any(compared.qualities):
        page.figure(
            f"The {quality} of each seed, and the interquartile means over seeds with their 95 % bootstrap intervals.",
            {"": _quality_figure(names, compared)},
        )
    page.table(
        "Networks and seconds of metrics are means over seeds. Mean, standard deviation, interquartile mean (IQM) and"
        f" its 95 % bootstrap interval (Agarwal 2021) are of the {quality}, over seeds."
        " p is of Wilcoxon's signed-rank test against the first run, on seeds that both have, from six of them on.",
        ["run", "algorithm", "seeds", "networks", "metrics, s", "mean", "deviation", "IQM", "low", "high", "p"],
        [
            [name, row["algorithm"], str(row["seeds"]), f"{row['networks']:.1f}", f"{row['metric_s']:.1f}"]
            + [
                "" if math.isnan(row[c]) else number(row[c])
                for c in ("quality", "deviation", "iqm", "low", "high", "p")
            ]
            for name, row in zip(names, table.to_dict("records"), strict=True)
        ],
        words=["algorithm"],
    )
    if len(compared.axes) > 1:
        _add_results(page, folders, names, compared)
    _add_times(page, folders, names)
    page.heading("What was run")
    page.table(
        "The searches.",
        ["run", "space", "algorithm", "budget", "objectives"],
        [
            [
                name,
                space_name(folder.config),
                folder.config.search.algorithm,
                ", ".join(f"{limit:g} {what}" for what, limit in folder.config.budget.limits.items()),
                ", ".join(f"{label(folder.config, s)} ({s.role})" for s in folder.config.objectives),
            ]
            for name, folder in zip(names, folders, strict=True)
        ],
        words=["space", "algorithm", "budget", "objectives"],
    )
    return page


def _names(folders: Sequence[RunFolder]) -> list[str]:
    """Return the names of the folders, with the parent's where several have the same."""
    names = [folder.path.absolute().name for folder in folders]
    paths = [folder.path.absolute() for folder in folders]
    return [f"{p.parent.name}/{p.name}" if names.count(p.name) > 1 else p.name for p in paths]


def _look(index: int) -> dict[str, Any]:
    return {"colour": COLOURS[index % len(COLOURS)], "symbol": SYMBOLS[index % len(SYMBOLS)]}


def _quality_figure(names: Sequence[str], compared: Comparison) -> Figure:
    """Draw a point a seed, and beside them the interquartile mean with its interval."""
    ticks = {"tickvals": list(range(len(names))), "ticktext": [hover(name) for name in names]}
    figure = axes("", str(compared.table.attrs["quality"]), showlegend=False)
    figure.update_layout(xaxis={**ticks, "range": [-0.5, len(names) - 0.5], "showgrid": False})
    for index, (name, values, row) in enumerate(
        zip(names, compared.qualities, compared.table.to_dict("records"), strict=True)
    ):
        labels = [hover(name, f"seed {seed}: {value:.5g}") for seed, value in values.items()]
        places = [index - 0.1] * len(labels)
        figure.add_trace(marks(name, places, values.values(), labels, opacity=0.55, size=7, **_look(index)))
        if not math.isnan(row["iqm"]):
            iqm, low, high = row["iqm"], row["low"], row["high"]
            error = {"type": "data", "symmetric": False, "array": [high - iqm], "arrayminus": [iqm - low], "width": 6}
            labels = [hover(name, f"IQM {iqm:.5g}, {low:.5g} to {high:.5g}")]
            figure.add_trace(marks(name, [index + 0.1], [iqm], labels, error_y=error, size=11, **_look(index)))
    return figure


def _add_results(page: Page, folders: Sequence[RunFolder], names: Sequence[str], compared: Comparison) -> None:
    """Draw the results of all seeds, a figure a pair of the first metric and another."""
    first, *others = compared.axes
    panels = {}
    for place, other in enumerate(others, start=1):
        title = _title(other)
        panels[title if len(others) > 1 else ""] = figure = axes(_title(first), title)
        for index, (name, folder, points) in enumerate(zip(names, folders, compared.results, strict=True)):
            of_seeds, genotypes = _columns(front_table(folder))
            labels = [
                hover(name, f"seed {seed}", genotype, f"{_title(first)}: {x:.5g}", f"{title}: {y:.5g}")
                for seed, genotype, (x, y) in zip(of_seeds, genotypes, points[:, [0, place]], strict=True)
            ]
            x, y = points[:, [0, place]].T.tolist()
            figure.add_trace(marks(name, x, y, labels, **_look(index)))
    page.heading("Results")
    page.figure(
        "The networks of the results, of all seeds.",
        panels,
        shared_legend=len(panels) > 1,
        table=(
            ["run", "seed", *map(_title, compared.axes), "genotype"],
            [
                [name, str(seed), *map(number, map(float, values)), genotype]
                for name, folder, points in zip(names, folders, compared.results, strict=True)
                for seed, genotype, values in zip(*_columns(front_table(folder)), points, strict=True)
            ],
            ["genotype"],
        ),
    )


def _title(section: MetricSection) -> str:
    return f"{section.column} [{section.unit}]" if section.unit else section.column


def _columns(table: DataFrame) -> tuple[list[int], list[str]]:
    return table["seed"].tolist(), table["genotype"].tolist()


def _add_times(page: Page, folders: Sequence[RunFolder], names: Sequence[str]) -> None:
    spent: list[dict[str, float]] = []
    for folder in folders:
        results = list(folder.results())
        parts = dict.fromkeys((part for result in results for part in result["seconds"]), 0.0)
        spent.append({p: sum(r["seconds"].get(p, 0.0) for r in results) / len(results) for p in parts})
    parts_of_all = list(dict.fromkeys(part for own in spent for part in own))
    rows = [(name, [own.get(part, 0.0) for part in parts_of_all]) for name, own in zip(names, spent, strict=True)]
    page.heading("Where the time went")
    page.figure(
        "Seconds of a seed by the metrics that they were spent on, means over seeds.",
        {"": bars("seconds", parts_of_all, rows, "s")},
        table=(
            ["run", *(f"{part}, s" for part in parts_of_all)],
            [[name, *(f"{value:.2f}" for value in values)] for name, values in rows],
            (),
        ),
    )
