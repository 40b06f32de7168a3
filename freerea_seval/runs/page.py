"""HTML pages of results: text, tables and Plotly figures in one self-contained file, and the page of one run.

A :class:`Page` collects blocks, and a Jinja2 template renders them. Every value is escaped: text by the template, and
text within figures by :func:`text`, as Plotly reads some HTML in it. plotly.js is part of the file, which needs no
network.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from freerea_patch import Candidate, History, InputError
from freerea_seval.config.schema import Config
from freerea_seval.files import write_atomically
from freerea_seval.runs.figures import (
    calibration_points,
    course,
    front_points,
    histories_of,
    history_names,
    scores_of,
)
from freerea_seval.runs.folder import RunFolder
from freerea_seval.runs.pick import Pick
from freerea_seval.runs.report import is_pareto, label, pick_of, predicted_and_measured, sections_of

if TYPE_CHECKING:
    from plotly.graph_objects import Figure  # type: ignore[import-untyped, unused-ignore]

#: Eight colours, distinguishable with each kind of colour blindness (after Okabe 2008), with a contrast of at least 3
#: to 1 to both a white and a dark background.
COLOURS = ("#1f83c4", "#d9591c", "#129470", "#bb5f9f", "#a3801a", "#7d8fd6", "#8a837b", "#8a6ad0")
SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "pentagon")
DASHES = ("solid", "dash", "dot", "dashdot")
_GREY = "#9aa5b1"
#: Characters of a line of a hover label, which fits a phone.
_HOVER_WIDTH = 40


@dataclass(frozen=True)
class Block:
    """A part of a page; ``kind`` names the part of the template that renders it.

    Attributes:
        kind: ``heading``, ``paragraph``, ``facts``, ``listing``, ``table`` or ``figure``.
        content: what the template reads, by name.
    """

    kind: str
    content: Mapping[str, Any]


@dataclass
class Page:
    """A page that grows block by block; tables and figures are numbered and name the command that makes them.

    Attributes:
        title: of the page.
        command: what makes the page.
        blocks: the parts so far.
    """

    title: str
    command: str
    blocks: list[Block] = field(default_factory=list)

    def heading(self, text: str) -> None:
        """Begin a section."""
        self.blocks.append(Block("heading", {"text": text}))

    def paragraph(self, text: str) -> None:
        """Add a paragraph."""
        self.blocks.append(Block("paragraph", {"text": text}))

    def facts(self, facts: Mapping[str, str]) -> None:
        """Add names with a description of each; those with an empty description are left out."""
        self.blocks.append(Block("facts", {"facts": {name: value for name, value in facts.items() if value}}))

    def listing(self, name: str, text: str) -> None:
        """Add a text as it is, folded."""
        self.blocks.append(Block("listing", {"name": name, "text": text}))

    def table(
        self,
        caption: str,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        text_columns: int = 1,
        fold: str = "",
    ) -> None:
        """Add a table.

        Args:
            caption: what it shows.
            header: names of the columns.
            rows: a cell a column; the first names the row.
            text_columns: how many columns, from the left, are words; the others are numbers, set to the right.
            fold: the line that unfolds the table; without one it is visible.
        """
        content = {"caption": caption, "header": header, "rows": rows, "text_columns": text_columns, "fold": fold}
        self.blocks.append(Block("table", {**content, "label": self._label("table")}))

    def figure(self, caption: str, panels: Mapping[str, Figure], *, shared_legend: bool = False) -> None:
        """Add a figure of small multiples, by the title of each.

        Args:
            caption: what it shows.
            panels: figures of Plotly.
            shared_legend: one legend, in the first panel, shows and hides the traces of a name in all panels.
        """
        content = {"caption": caption, "label": self._label("figure"), "shared_legend": shared_legend}
        figures = list(panels.values())
        if shared_legend:
            entries = {
                trace.name: trace for figure in figures for trace in figure.data if trace.showlegend is not False
            }
            drawn = {trace.name for trace in figures[0].data}
            for trace in (trace for name, trace in entries.items() if name not in drawn):
                figures[0].add_trace(trace).data[-1].update(x=[None], y=[None], hovertext=None)
            for figure in figures[1:]:
                figure.update_layout(showlegend=False)
        self.blocks.append(
            Block("figure", {**content, "panels": dict(zip(panels, (f.to_json() for f in figures), strict=True))})
        )

    def _label(self, kind: str) -> str:
        return f"{kind.capitalize()} {1 + sum(block.kind == kind for block in self.blocks)}."

    def html(self) -> str:
        """Return the page as one HTML file.

        Raises:
            InputError: Jinja2 or Plotly is not installed.
        """
        require_plotly()
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from plotly.offline import get_plotlyjs  # type: ignore[import-untyped, unused-ignore]

        environment = Environment(
            loader=PackageLoader("freerea_seval.runs"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["script_json"] = _script_json
        figures = any(block.kind == "figure" for block in self.blocks)
        template = environment.get_template("page.html.j2")
        return template.render(page=self, plotlyjs=get_plotlyjs() if figures else "")


def _script_json(value: str) -> str:
    """Return JSON that no parser of HTML takes for the end of a script; to be marked as safe."""
    return value.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def require_plotly() -> None:
    """Check that the libraries of pages are installed.

    Raises:
        InputError: one is not.
    """
    try:
        import jinja2  # noqa: F401
        import plotly.graph_objects  # type: ignore[import-untyped, unused-ignore]  # noqa: F401
    except ImportError:
        raise InputError(
            "HTML pages need plotly and jinja2, which are not installed: pip install 'freerea-seval[figures]'"
        ) from None


def text(value: str) -> str:
    """Return text as Plotly shows it literally: Plotly reads tags and entities in titles, names and labels."""
    return escape(value, quote=False)


def hover(*lines: str) -> str:
    """Return the label of a point, wrapped."""
    return "<br>".join(text(part) for line in lines for part in wrap(line, _HOVER_WIDTH) or [""])


def number(value: float | str | None) -> str:
    """Return a value of a result as text: an unsupported one is None, an infinite one is text already."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "unsupported"
    return value if isinstance(value, str) else f"{value:.5g}"


def axes(x_label: str, y_label: str, **layout: Any) -> Figure:
    """Return an empty figure with labelled axes; the page sets fonts and colours."""
    from plotly.graph_objects import Figure

    return Figure(
        layout={
            "xaxis": {"title": {"text": text(x_label)}},
            "yaxis": {"title": {"text": text(y_label)}},
            "template": "none",
            **layout,
        }
    )


def marks(
    name: str,
    x: Iterable[float],
    y: Iterable[float],
    hovers: Iterable[str],
    *,
    mode: str = "markers",
    colour: str = _GREY,
    symbol: str = "circle",
    size: int = 7,
    **more: Any,
) -> dict[str, Any]:
    """Return a trace of points with a label each, made by :func:`hover`."""
    return {
        "type": "scatter",
        "name": text(name),
        "x": list(x),
        "y": list(y),
        "hovertext": list(hovers),
        "hoverinfo": "text",
        "mode": mode,
        "marker": {"color": colour, "symbol": symbol, "size": size},
        "line": {"color": colour, "width": 1.6},
        **more,
    }


# --- The page of one run ---------------------------------------------------------------------------------------------


def write_page(folder: RunFolder, path: Path) -> None:
    """Write the page of a finished run: its front, history, predictions, configuration and versions.

    Args:
        folder: the run.
        path: the HTML file.

    Raises:
        InputError: the run is not finished, a library is not installed, or the file cannot be written.
    """
    require_plotly()
    try:
        write_atomically(path, run_page(folder).html())
    except OSError as error:
        raise InputError(f"page {path}: cannot be written ({error}); name a folder that you can write to") from None


def run_page(folder: RunFolder) -> Page:
    """Return the page of a finished run.

    Raises:
        InputError: the run is not finished, or a file of it is damaged.
    """
    config, results = folder.config, folder.results()
    histories, pick = histories_of(folder), pick_of(folder)
    page = Page(f"Search {folder.path.name}", f"freerea-seval report {folder.path} --html {folder.path.name}.html")
    search = config.search
    page.facts(
        {
            "pick": f"{_name(pick.row, pick)}, {pick.reason}" if pick is not None else "",
            "space": config.space if isinstance(config.space, str) else json.dumps(config.space),
            "algorithm": f"{search.algorithm}, "
            + ", ".join(f"{name} {value}" for name, value in search.options().items() if value and name != "start"),
            "budget": ", ".join(f"{n}: {v:g}" for n, v in config.budget.limits.items()),
            "objectives": "; ".join(_objective(config, section) for section in config.objectives),
            "reported": ", ".join(label(config, section) for section in config.report),
            "seeds": ", ".join(str(result["seed"]) for result in results),
            "notes": "; ".join(folder.notes),
            "versions": ", ".join(f"{name} {version}" for name, version in folder.record()["versions"].items()),
        }
    )
    page.heading("Front" if is_pareto(config) else "Best networks")
    page.figure(
        "All feasible networks, and the front of each seed. The score sums the fitness metrics, each normalised over"
        " the history."
        if is_pareto(config)
        else "All feasible networks, and the best of each seed by score: the sum of the fitness metrics, each"
        " normalised over the history.",
        {"": _front_figure(folder, histories)},
    )
    columns = [("score", "score")] if any("score" in row for result in results for row in result["front"]) else []
    columns += [(section.column, label(config, section)) for section in sections_of(config)]
    page.table(
        "The front of each seed." if is_pareto(config) else "The best networks of each seed, by score.",
        ["genotype", "number", "seed", *(heading for _, heading in columns)],
        [
            [row["genotype"], _name(index, pick), str(seed), *(number(row.get(column)) for column, _ in columns)]
            for index, (seed, row) in enumerate((r["seed"], row) for r in results for row in r["front"])
        ],
    )
    pairs = predicted_and_measured(config)
    if pairs:
        page.heading("Predicted and measured")
        page.figure(
            "Predicted against measured values of the networks of the front; on the line, both are equal.",
            {measured: _prediction_figure(folder, predicted, measured) for predicted, measured in pairs},
        )
    page.heading("History")
    page.figure(
        "Values of feasible networks in the order of evaluation, and the best so far of each seed.",
        _history_figures(config, histories),
    )
    page.table(
        "What each seed explored, in networks, and spent on metrics, in seconds.",
        ["seed", "explored", "outside the constraints", "stopped by", "metrics, s"],
        [
            [str(r["seed"]), str(r["explored"]), str(r["infeasible"]), str(r["stopped"]), f"{r['metric_s']:.1f}"]
            for r in results
        ],
    )
    page.heading("Configuration")
    page.listing("config.yaml", (folder.path / "config.yaml").read_text(encoding="utf-8"))
    return page


def _name(row: int, pick: Pick | None) -> str:
    """Return the number of a result's row, with a star if it is the pick."""
    return f"{row} ★" if pick is not None and row == pick.row else str(row)


def _objective(config: Config, section: Any) -> str:
    """Return a line about an objective: its name and unit, source, role, direction and bounds."""
    bounds = [f"at least {section.min:g}"] if section.min is not None else []
    bounds += [f"at most {section.max:g}"] if section.max is not None else []
    what = ", ".join([section.role, *([section.direction] if section.direction else []), *bounds])
    return f"{label(config, section)} from {section.source_name} ({what})"


def _hover(config: Config, candidate: Candidate, score: float) -> str:
    """Return the label of a network: genotype, score and values with units."""
    values = [f"{label(config, s)}: {number(candidate.values[s.column])}" for s in config.selecting]
    return hover(candidate.genotype, f"score: {score:.5g}", *values)


def _front_figure(folder: RunFolder, histories: Mapping[int, History]) -> Figure:
    """Draw all networks, the results, and the pick; see :func:`~freerea_seval.runs.figures.front_points`."""
    config, shown = folder.config, front_points(folder, histories)
    figure = axes(*shown.labels)
    for index, (seed, (explored, front)) in enumerate(shown.seeds.items()):
        where = f", seed {seed}" if len(shown.seeds) > 1 else ""
        look: dict[str, Any] = {
            "mode": "lines+markers" if shown.line else "markers",
            "colour": COLOURS[index % len(COLOURS)],
            "symbol": SYMBOLS[index % len(SYMBOLS)],
            "size": 9,
        }
        looks = {"explored": {"size": 6, "opacity": 0.6}, "front" if is_pareto(config) else "best": look}
        for points, (name, style) in zip((explored, front), looks.items(), strict=True):
            labels = [_hover(config, c, s) for c, s in zip(points.candidates, points.scores, strict=True)]
            figure.add_trace(marks(f"{name}{where}", points.x, points.y, labels, **style))
    for x, y in shown.picked():
        pick: dict[str, Any] = {"colour": "#facc15", "symbol": "star", "size": 15, "hoverinfo": "skip"}
        figure.add_trace(marks("pick", [x], [y], [""], **pick))
    return figure


def _history_figures(config: Config, histories: Mapping[int, History]) -> dict[str, Figure]:
    """Draw the hypervolume, the score, and each objective that is optimised, over the number of the evaluation."""
    figures = {}
    for name, title in history_names(config).items():
        figure = axes("networks evaluated", title)
        for index, (seed, history) in enumerate(histories.items()):
            line = course(config, history, name)
            order = range(1, len(line.values) + 1)
            if line.values is not line.best:
                labels = [_hover(config, c, s) for c, s in zip(history, scores_of(history), strict=True)]
                figure.add_trace(marks(f"evaluated, seed {seed}", order, line.values, labels, size=5, opacity=0.6))
            labels = [hover(f"best of {count}: {value:.5g}") for count, value in zip(order, line.best, strict=True)]
            step = {"color": COLOURS[index % len(COLOURS)], "width": 1.8, "shape": "hv"}
            figure.add_trace(marks(f"best so far, seed {seed}", order, line.best, labels, mode="lines", line=step))
        figures[title] = figure
    return figures


def _prediction_figure(folder: RunFolder, predicted: str, measured: str) -> Figure:
    """Draw the predictions of a metric over its measurements."""
    shown = calibration_points(folder, predicted, measured)
    figure = axes(*shown.labels)
    if shown.measured:
        values = [*shown.measured, *shown.predicted]
        ends = [min(values), max(values)]
        figure.add_trace(marks("equal", ends, ends, ["", ""], mode="lines", hoverinfo="skip"))
    labels = [
        hover(genotype, f"predicted: {y:.5g}{shown.unit}", f"measured: {x:.5g}{shown.unit}")
        for genotype, x, y in zip(shown.genotypes, shown.measured, shown.predicted, strict=True)
    ]
    figure.add_trace(marks("networks of the front", shown.measured, shown.predicted, labels, colour=COLOURS[1]))
    return figure
