"""HTML pages of results: text, tables and Plotly figures in one self-contained file.

A :class:`Page` collects blocks, and a Jinja2 template renders them. Every value is escaped: text by the template, and
text within figures by :func:`text`, as Plotly reads some HTML in it. plotly.js is part of the file, compressed, so that
the page needs no network. Figures are drawn when they come into view, and all of them before printing.
"""

from __future__ import annotations

import base64
import gzip
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from freerea_patch import InputError
from freerea_seval.files import write_atomically

if TYPE_CHECKING:
    from plotly.graph_objects import Figure  # type: ignore[import-untyped, unused-ignore]

#: Eight colours, distinguishable with each kind of colour blindness (after Okabe 2008), with a contrast of at least 3
#: to 1 to both a white and a dark background.
COLOURS = ("#1f83c4", "#d9591c", "#129470", "#bb5f9f", "#a3801a", "#7d8fd6", "#8a837b", "#8a6ad0")
SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "pentagon")
DASHES = ("solid", "dash", "dot", "dashdot")
#: For what is in the background.
GREY = "#8b95a1"
#: Characters of a line of a label, which fits a phone.
_HOVER_WIDTH = 36
#: Of a figure, in CSS pixels.
_HEIGHT = 340


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

    def listing(self, name: str, text: str, *, is_open: bool = False) -> None:
        """Add a text as it is, folded unless it is open."""
        self.blocks.append(Block("listing", {"name": name, "text": text, "is_open": is_open}))

    def table(
        self,
        caption: str,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        words: Sequence[str] = (),
        fold: str = "",
    ) -> None:
        """Add a table.

        Args:
            caption: what it shows.
            header: names of the columns.
            rows: a cell a column; the first names the row.
            words: the columns, beside the first, that are words; the others are numbers, set to the right.
            fold: the line that unfolds the table; without one it is visible.
        """
        content = {"caption": caption, "header": header, "rows": rows, "words": words, "fold": fold}
        self.blocks.append(Block("table", {**content, "label": self._label("table")}))

    def figure(
        self,
        caption: str,
        panels: Mapping[str, Figure],
        *,
        shared_legend: bool = False,
        table: tuple[Sequence[str], Sequence[Sequence[str]], Sequence[str]] | None = None,
    ) -> None:
        """Add a figure of small multiples, by the title of each.

        Args:
            caption: what it shows.
            panels: figures of Plotly.
            shared_legend: one legend, in the first panel, shows and hides the traces of a name in all panels.
            table: ``header``, ``rows`` and ``words`` of :meth:`table`: the same values, for who cannot see the figure;
                None if a table follows.
        """
        content = {"caption": caption, "label": self._label("figure"), "shared_legend": shared_legend}
        content["table"] = None if table is None else dict(zip(("header", "rows", "words"), table, strict=True))
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
        content["panels"] = [(title, f.layout.height or _HEIGHT, f.to_json()) for title, f in panels.items()]
        self.blocks.append(Block("figure", content))

    def _label(self, kind: str) -> str:
        return f"{kind.capitalize()} {1 + sum(block.kind == kind for block in self.blocks)}."

    def html(self) -> str:
        """Return the page as one HTML file.

        Raises:
            InputError: Jinja2 or Plotly is not installed.
        """
        require_plotly()
        from jinja2 import Environment, PackageLoader, StrictUndefined

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
        return template.render(page=self, plotlyjs=_packed_plotly() if figures else "")


@cache
def _packed_plotly() -> str:
    """Return plotly.js as base64 of gzip, which is less than half as long, and which no parser of HTML reads into."""
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped, unused-ignore]

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


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


def write(page: Page, path: Path) -> None:
    """Write a page atomically.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        write_atomically(path, page.html())
    except OSError as error:
        raise InputError(f"page {path}: cannot be written ({error}); name a folder that you can write to") from None


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
    """Return an empty figure with labelled axes; the page sets fonts and colours. A long label is wrapped."""
    from plotly.graph_objects import Figure

    return Figure(
        layout={
            "xaxis": {"title": {"text": hover(x_label)}},
            "yaxis": {"title": {"text": hover(y_label)}},
            "template": "none",
            **layout,
        }
    )


def marks(
    name: str,
    x: Iterable[float | None],
    y: Iterable[float | None],
    hovers: Iterable[str],
    *,
    mode: str = "markers",
    colour: str = GREY,
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


def bars(
    x_label: str, parts: Sequence[str], rows: Sequence[tuple[str, Sequence[float]]], unit: str, longest: float = 0.0
) -> Figure:
    """Draw horizontal bars of stacked parts, with a name and a sum above each.

    Args:
        x_label: of the axis.
        parts: the names of the parts.
        rows: the name of each bar, and its parts.
        unit: of the sums.
        longest: where the axis ends; 0 for the longest bar.
    """
    end = longest or max((sum(own) for _, own in rows), default=0.0) or 1.0
    figure = axes(x_label, "", height=76 + 44 * len(rows), barmode="stack", margin={"l": 8})
    figure.update_layout(xaxis_range=[0, 1.02 * end], yaxis={"visible": False, "range": [len(rows) - 0.4, -0.7]})
    places = list(range(len(rows)))
    for index, part in enumerate(parts):
        values = [own[index] for _, own in rows]
        labels = [hover(name, f"{part}: {value:.3g} {unit}") for (name, _), value in zip(rows, values, strict=True)]
        bar = {"type": "bar", "orientation": "h", "x": values, "y": places, "width": 0.35, "hoverinfo": "text"}
        figure.add_trace(
            {**bar, "name": text(part), "hovertext": labels, "marker": {"color": COLOURS[index % len(COLOURS)]}}
        )
    sums = [sum(own) for _, own in rows]
    names = [
        text(f"{name}: {total:.{1 if total >= 1 else 3}f} {unit}") for (name, _), total in zip(rows, sums, strict=True)
    ]
    above = {"mode": "text", "text": names, "textposition": "middle right", "showlegend": False, "hoverinfo": "skip"}
    figure.add_trace({"type": "scatter", "x": [0] * len(rows), "y": [row - 0.38 for row in places], **above})
    return figure
