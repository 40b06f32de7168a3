"""The page of one run: ``report.html`` in its folder, made from the rows of the run alone."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from freerea_patch import Candidate, InputError
from freerea_patch.spaces import EDGES, OPERATIONS, input_dtype
from freerea_seval.config import make_space
from freerea_seval.config.schema import Config
from freerea_seval.files import read_json
from freerea_seval.runs.figures import (
    CalibrationPoints,
    Course,
    FrontPoints,
    calibration_points,
    course,
    front_axes,
    front_points,
    histories_of,
    history_names,
)
from freerea_seval.runs.folder import CLOCK, MOST_JSON_BYTES, RunFolder
from freerea_seval.runs.network_graph import Layer, NetworkGraph, cell_edges, cell_nodes, network_graph
from freerea_seval.runs.page import (
    COLOURS,
    DASHES,
    GREY,
    SYMBOLS,
    Page,
    axes,
    bars,
    hover,
    marks,
    number,
    require_plotly,
    text,
    write,
)
from freerea_seval.runs.pick import Pick
from freerea_seval.runs.report import is_pareto, label, pick_of, predicted_and_measured, sections_of

if TYPE_CHECKING:
    from plotly.graph_objects import Figure  # type: ignore[import-untyped, unused-ignore]

#: Points of a kind that a figure shows, and rows of its table: more make the page heavy, and hovering slow.
MOST_POINTS = 2_000
MOST_ROWS = 500
#: Networks whose cells are drawn; different sequences of layers, which are long; and lines of parallel coordinates.
MOST_DRAWN = 12
MOST_CHAINS = 3
MOST_LINES = 60
#: Seeds that figures tell apart.
MOST_SEEDS = len(COLOURS)
#: Numbers of networks at which a table gives the course of a search.
_CHECKPOINTS = 10


def write_page(folder: RunFolder, path: Path | None = None) -> Path:
    """Write the page of a finished run.

    Args:
        folder: the run.
        path: the HTML file; None for ``report.html`` in the folder.

    Returns:
        The path.

    Raises:
        InputError: the run is not finished, a library is not installed, or the file cannot be written.
    """
    require_plotly()
    path = folder.path / "report.html" if path is None else path
    write(run_page(folder), path)
    return path


def run_page(folder: RunFolder) -> Page:
    """Return the page of a finished run.

    Raises:
        InputError: the run is not finished, or a file of it is damaged.
    """
    run = _Run(folder)
    name = shlex.quote(folder.path.absolute().name)
    page = Page(f"Search {folder.path.absolute().name}", f"freerea-seval report {name}")
    _summary(page, run)
    _front(page, run)
    _parallel(page, run)
    _predictions(page, run)
    _networks(page, run)
    _history(page, run)
    _times(page, run)
    _commands(page, run, name)
    page.heading("Configuration")
    page.listing("config.yaml", (folder.path / "config.yaml").read_text(encoding="utf-8"))
    page.listing("versions", "\n".join(f"{name} {v}" for name, v in folder.record()["versions"].items()))
    return page


@dataclass(frozen=True)
class _Row:
    """A network of the result.

    Attributes:
        index: of the row in the result, over all seeds.
        seed: of the search.
        values: genotype, score and metrics, as ``result.json`` has them.
        is_pick: whether it is recommended.
    """

    index: int
    seed: int
    values: Mapping[str, Any]
    is_pick: bool

    @property
    def name(self) -> str:
        return f"{self.index} ★" if self.is_pick else str(self.index)


class _Run:
    """What the parts of the page read."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.config: Config = folder.config
        self.results = folder.results()
        self.histories = histories_of(folder)
        self.pick: Pick | None = pick_of(folder)

    @cached_property
    def rows(self) -> list[_Row]:
        pairs = [(result["seed"], row) for result in self.results for row in result["front"]]
        return [_Row(i, seed, row, self.pick is not None and i == self.pick.row) for i, (seed, row) in enumerate(pairs)]

    @cached_property
    def seconds(self) -> dict[int, list[float]]:
        return {seed: _seconds(self, seed) for seed in self.histories}

    @cached_property
    def courses(self) -> dict[tuple[int, str], Course]:
        """The course of each seed by each name that a history can show."""
        return {
            (seed, name): course(self.config, history, name)
            for seed, history in self.histories.items()
            for name in history_names(self.config)
        }

    @property
    def pick_first(self) -> list[_Row]:
        return sorted(self.rows, key=lambda row: not row.is_pick)

    @property
    def many(self) -> bool:
        """Whether there are more seeds than figures tell apart."""
        return len(self.results) > MOST_SEEDS

    def of_seed(self, name: str, index: int, seed: int) -> dict[str, Any]:
        """Return how a trace of a seed looks: its name, colour and place in the legend."""
        if self.many:
            return {"name": f"{name}, a seed each", "colour": COLOURS[0], "showlegend": index == 0, "legendgroup": name}
        return {"name": f"{name}, seed {seed}" if len(self.results) > 1 else name, "colour": COLOURS[index]}

    def columns(self) -> list[tuple[str, str]]:
        """Return the columns of the result with their headings; ``refine`` has predictions and their intervals, too."""
        names = [("score", "score")] if any("score" in row.values for row in self.rows) else []
        for section in sections_of(self.config):
            names.append((section.column, label(self.config, section)))
            if any(f"{section.column}_low" in row.values for row in self.rows):
                names += [
                    (f"{section.column}_{what}", f"{section.column}, {what}") for what in ("predicted", "low", "high")
                ]
        return names


def _summary(page: Page, run: _Run) -> None:
    config, search = run.config, run.config.search
    options = [f"{name} {value}" for name, value in search.options().items() if value and name != "start"]
    explored = sum(result["explored"] for result in run.results)
    what = "the front has" if is_pareto(config) else "the result has"
    of_seeds = f" with {len(run.results)} seeds" if len(run.results) > 1 else ""
    page.paragraph(
        f"{explored:,} networks were explored{of_seeds}, and {what} {len(run.rows):,}."
        + (f" Recommended is network {run.pick.row}, {run.pick.reason}." if run.pick else "")
    )
    page.facts(
        {
            "space": space_name(config),
            "algorithm": ", ".join([search.algorithm, *options]),
            "budget": ", ".join(f"{limit:g} {name}" for name, limit in config.budget.limits.items()),
            "objectives": "; ".join(_objective(config, section) for section in config.objectives),
            "reported": ", ".join(label(config, section) for section in config.report),
            "seeds": ", ".join(str(result["seed"]) for result in run.results),
            "notes": "; ".join(run.folder.notes),
        }
    )


def space_name(config: Config) -> str:
    """Return the space of a config with its options, as text."""
    if isinstance(config.space, str):
        return config.space
    return ", ".join(str(value) if name == "name" else f"{name} {value}" for name, value in config.space.items())


def _objective(config: Config, section: Any) -> str:
    """Return a line about an objective: its name and unit, source, role, direction and bounds."""
    bounds = [f"at least {section.min:g}"] if section.min is not None else []
    bounds += [f"at most {section.max:g}"] if section.max is not None else []
    what = ", ".join([section.role, *([section.direction] if section.direction else []), *bounds])
    return f"{label(config, section)} from {section.source_name} ({what})"


# --- The result ------------------------------------------------------------------------------------------------------


def _front(page: Page, run: _Run) -> None:
    pareto, columns = is_pareto(run.config), run.columns()
    panels, left_out = _front_figures(run)
    what = "the front" if pareto else "the best by score"
    caption = f"All feasible networks, and {what} of each seed; the star is the recommended network."
    if "score" in dict(columns):
        caption += " The score sums the fitness metrics, each normalised over the history."
    page.heading("Front" if pareto else "Best networks")
    page.figure(caption + _said_left_out(left_out), panels, shared_legend=len(panels) > 1)
    page.table(
        f"{what.capitalize()} of each seed."
        + (
            " Between low and high is the true value in nine cases of ten."
            if any(name.endswith("_low") for name, _ in columns)
            else ""
        )
        + (f" The first {MOST_ROWS} of {len(run.rows):,}; front.csv has all." if len(run.rows) > MOST_ROWS else ""),
        ["number", "seed", *(heading for _, heading in columns), "genotype"],
        [
            [row.name, str(row.seed), *(number(row.values.get(name)) for name, _ in columns), row.values["genotype"]]
            for row in run.rows
            if row.index < MOST_ROWS or row.is_pick
        ],
        words=["genotype"],
    )


def _said_left_out(count: int) -> str:
    return f" Of these, {count:,} are left out at even intervals, to keep the page light." if count else ""


def _hover(config: Config, candidate: Candidate, score: float, row: _Row | None = None) -> str:
    """Return the label of a network: genotype, score and values with units; of the result, also its intervals."""
    lines = [] if row is None else [f"network {row.name}, seed {row.seed}"]
    lines += [candidate.genotype, f"score: {score:.5g}"]
    for section in config.selecting:
        line = f"{label(config, section)}: {number(candidate.values[section.column])}"
        if row is not None and f"{section.column}_low" in row.values:
            predicted, low, high = (number(row.values[f"{section.column}_{w}"]) for w in ("predicted", "low", "high"))
            line += f" (predicted {predicted}, {low} to {high})"
        lines.append(line)
    if row is not None:
        lines += [f"{label(config, s)}: {number(row.values.get(s.column))}" for s in config.report]
    return hover(*lines)


def _front_figures(run: _Run) -> tuple[dict[str, Figure], int]:
    """Draw all networks, the results, and the pick, a figure an axis; and count the networks that are left out."""
    sections, _ = front_axes(run.config)
    shown = [front_points(run.folder, run.histories, section) for section in sections]
    titles = ["" if len(sections) == 1 else label(run.config, section) for section in sections]
    explored, front = (sum(len(part.x) for part in parts) for parts in zip(*shown[0].seeds.values(), strict=True))
    steps = [max(1, math.ceil(count * len(sections) / MOST_POINTS)) for count in (explored, front)]
    drawn = sum(len(p.x[::step]) for parts in shown[0].seeds.values() for p, step in zip(parts, steps, strict=True))
    return {
        t: _front_figure(run, points, *steps) for t, points in zip(titles, shown, strict=True)
    }, explored + front - drawn


def _front_figure(run: _Run, shown: FrontPoints, every: int, every_of_front: int) -> Figure:
    """Draw every so many of the other networks and of the results, and the pick."""
    config, figure = run.config, axes(*shown.labels, height=400)
    rows = {(row.seed, row.values["genotype"]): row for row in run.rows}
    explored = [points.every(every) for points, _ in shown.seeds.values()]
    labels = [
        _hover(config, *pair) for points in explored for pair in zip(points.candidates, points.scores, strict=True)
    ]
    x, y = ([v for points in explored for v in getattr(points, axis)] for axis in ("x", "y"))
    figure.add_trace(marks("explored", x, y, labels, size=6, opacity=0.55))
    for index, (seed, (_, results)) in enumerate(shown.seeds.items()):
        front = results.every(every_of_front)
        labels = [
            _hover(config, candidate, score, rows[seed, candidate.genotype])
            for candidate, score in zip(front.candidates, front.scores, strict=True)
        ]
        look = run.of_seed("front" if is_pareto(config) else "best", index, seed)
        look |= {"mode": "lines+markers" if shown.line and not run.many else "markers", "size": 6 if run.many else 9}
        look["symbol"] = "circle" if run.many else SYMBOLS[index % len(SYMBOLS)]
        figure.add_trace(marks(x=front.x, y=front.y, hovers=labels, **look))
    for point in shown.picked():
        star: dict[str, Any] = {"colour": "#facc15", "symbol": "star", "size": 16, "hoverinfo": "skip"}
        figure.add_trace(marks("recommended", point[:1], point[1:], [""], **star))
    return figure


def _parallel(page: Page, run: _Run) -> None:
    """Add parallel coordinates of the front (Inselberg 1985) if there are three objectives or more."""
    config = run.config
    if len(config.selecting) < 3 or not run.rows:
        return
    sections = [s for s in sections_of(config) if any(_finite(row, s.column) is not None for row in run.rows)]
    names = [label(config, section) for section in sections]
    rows = run.pick_first[:MOST_LINES]
    scaled, ends = [], []
    for section in sections:
        values = [_finite(row, section.column) for row in rows]
        numbers = [value for value in values if value is not None]
        low, high = min(numbers, default=0.0), max(numbers, default=0.0)
        low, high = (high, low) if section.direction == "min" else (low, high)
        span = high - low
        scaled.append([None if v is None else (v - low) / span if span else 0.5 for v in values])
        ends.append((f"{low:.3g}", f"{high:.3g}"))
    figure = axes(
        "",
        "",
        height=380,
        hovermode="closest",
        xaxis={
            "tickvals": list(range(len(names))),
            "ticktext": ["<br>".join(map(text, name.replace(" [", "_[").split("_"))) for name in names],
            "range": [-0.35, len(names) - 0.65],
            "showgrid": True,
        },
        yaxis={"visible": False, "range": [-0.14, 1.14]},
        margin={"l": 12},
    )
    for place, row in reversed(list(enumerate(rows))):
        look: dict[str, Any] = {"colour": GREY, "opacity": 0.65}
        if row.is_pick:
            look = {"colour": COLOURS[1], "symbol": "star", "size": 12}
        line = {"color": look["colour"], "width": 3 if row.is_pick else 1.3}
        values = [column[place] for column in scaled]
        hovers = [
            hover(f"network {row.name}", row.values["genotype"], f"{name}: {number(row.values.get(s.column))}")
            for name, s in zip(names, sections, strict=True)
        ]
        first = place == min(1, len(rows) - 1) and not row.is_pick
        figure.add_trace(
            marks(
                "recommended" if row.is_pick else "networks of the front",
                range(len(names)),
                values,
                hovers,
                mode="lines+markers",
                line=line,
                showlegend=row.is_pick or first,
                legendgroup=str(row.is_pick),
                **look,
            )
        )
    for end, y in ((0, -0.1), (1, 1.1)):
        shown = [pair[end] for pair in ends]
        figure.add_trace(
            {
                "type": "scatter",
                "mode": "text",
                "x": list(range(len(names))),
                "y": [y] * len(names),
                "text": shown,
                "showlegend": False,
                "hoverinfo": "skip",
            }
        )
    page.figure(
        "Parallel coordinates of the networks of the front: a line a network, an axis a metric with its best value on"
        " top and its worst below; a metric without a direction grows upwards."
        + (f" The first {MOST_LINES} networks." if len(run.rows) > MOST_LINES else ""),
        {"": figure},
        table=(
            ["number", *names],
            [[row.name, *(number(row.values.get(s.column)) for s in sections)] for row in rows],
            (),
        ),
    )


def _finite(row: _Row, column: str) -> float | None:
    value = row.values.get(column)
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _predictions(page: Page, run: _Run) -> None:
    pairs = predicted_and_measured(run.config)
    if not pairs:
        return
    shown = {measured: calibration_points(run.folder, predicted, measured) for predicted, measured in pairs}
    page.heading("Predicted and measured")
    page.figure(
        "Predicted against measured values of the networks of the result. On the line, both are equal; nine tenths of"
        " the networks lie within the band around it. Bars are the predictors' own intervals for nine cases of ten,"
        " where the run has them.",
        {measured: _prediction_figure(points) for measured, points in shown.items()},
        table=(
            ["metric", "measured", "predicted", "low", "high", "genotype"],
            [
                [measured + points.unit, *("" if math.isnan(v) else number(v) for v in values), genotype]
                for measured, points in shown.items()
                for genotype, *values in zip(
                    points.genotypes, points.measured, points.predicted, points.low, points.high, strict=True
                )
            ],
            ["genotype"],
        ),
    )


def _prediction_figure(shown: CalibrationPoints) -> Figure:
    """Draw the predictions of a metric over its measurements."""
    figure = axes(*shown.labels)
    if not shown.measured:
        return figure
    x, y = np.array(shown.measured), np.array(shown.predicted)
    ends = np.array([min(x.min(), y.min()), max(x.max(), y.max())])
    ends += np.array([-0.04, 0.04]) * (ends[1] - ends[0])
    # The smallest half-width that holds nine tenths of the shown networks.
    half = float(np.quantile(np.abs(y - x), 0.9, method="higher"))
    around = [*(ends - half), *(ends + half)[::-1]]
    hidden = {"mode": "none", "fill": "toself", "fillcolor": COLOURS[0], "opacity": 0.22, "hoverinfo": "skip"}
    band = {"type": "scatter", "name": f"within {half:.3g}{text(shown.unit)} of the measured value"}
    figure.add_trace({**band, **hidden, "x": [*ends, *ends[::-1]], "y": around})
    figure.add_trace(marks("equal", ends, ends, ["", ""], mode="lines", hoverinfo="skip"))
    labels = [
        hover(
            genotype,
            f"predicted: {b:.5g}{shown.unit}" + ("" if math.isnan(low) else f", {low:.5g} to {high:.5g}"),
            f"measured: {a:.5g}{shown.unit}",
        )
        for genotype, a, b, low, high in zip(shown.genotypes, x, y, shown.low, shown.high, strict=True)
    ]
    intervals: dict[str, Any] = {}
    if np.isfinite([*shown.low, *shown.high]).any():
        intervals["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": (np.array(shown.high) - y).tolist(),
            "arrayminus": (y - np.array(shown.low)).tolist(),
            "thickness": 1,
            "width": 3,
        }
    figure.add_trace(marks("networks of the result", x, y, labels, colour=COLOURS[1], size=8, **intervals))
    return figure


# --- Networks --------------------------------------------------------------------------------------------------------


def _networks(page: Page, run: _Run) -> None:
    """Draw the cells and the layers of the networks of the result, the recommended one first."""
    if not run.rows:
        return
    page.heading("Networks")
    rows = run.pick_first[:MOST_DRAWN]
    try:
        graphs = list(_graphs(run, rows))
    except Exception as error:  # the space may be the user's own
        reason = " ".join(str(error).split()) or type(error).__name__
        page.paragraph(f"The networks are not drawn: {reason}")
        return
    cells = _by_part(rows, [graph.cells for graph in graphs])
    chains = _by_part(rows, [(graph.layers,) for graph in graphs])
    limit = f" The first {MOST_DRAWN} of {len(run.rows)}." if len(run.rows) > MOST_DRAWN else ""
    if cells:
        nodes = [name for name, _ in cell_nodes()]
        edges = [f"{nodes[source]} → {nodes[target]}" for source, target in EDGES]
        page.figure(
            "The cells of the networks: nodes are sums of feature maps, edges operations; a dotted edge is none."
            + limit,
            {f"network {names}": _cell_figure(cell) for cell, names in cells.items()},
            table=(["network", *edges], [[names, *cell] for cell, names in cells.items()], edges),
        )
    drawn = dict(list(chains.items())[:MOST_CHAINS])
    page.figure(
        "The layers of the networks from input to output, with the shapes of their outputs."
        + (f" The first {len(drawn)} of {len(chains)} different sequences." if len(drawn) < len(chains) else ""),
        {f"network {names}": _chain_figure(layers) for layers, names in drawn.items()},
        table=(
            ["network", "layer", "output", "times"],
            [
                [names, ", ".join(layer.names), layer.shape, str(layer.count)]
                for layers, names in chains.items()
                for layer in layers
            ],
            ["layer", "output"],
        ),
    )


def _graphs(run: _Run, rows: Sequence[_Row]) -> Iterator[NetworkGraph]:
    """Yield the graphs of networks, which are built for it.

    Raises:
        InputError: torch is not installed, or the space is code that the user has not run.
    """
    try:
        import torch  # noqa: F401
    except ImportError:
        raise InputError("torch is not installed: pip install 'freerea-seval[live]'") from None
    run.folder.check_trust(space_alone=True)
    space = make_space(run.config.whole_space, run.folder.base)
    for row in rows:
        yield network_graph(space.build(row.values["genotype"]), space.input_shape, input_dtype(space))


def _by_part(rows: Sequence[_Row], parts: Sequence[Sequence[Any]]) -> dict[Any, str]:
    """Return the numbers of the networks that have a part, by part."""
    names: dict[Any, list[str]] = {}
    for row, own in zip(rows, parts, strict=True):
        for part in own:
            names.setdefault(part, []).append(row.name)
    return {part: ", ".join(numbers) for part, numbers in names.items()}


def _drawing(height: int, x: Sequence[float], y: Sequence[float]) -> Figure:
    """Return a figure without axes."""
    hidden = {"visible": False, "fixedrange": True}
    figure = axes("", "", height=height, showlegend=False, margin={"l": 4, "r": 4, "t": 4, "b": 4})
    return figure.update_layout(xaxis={**hidden, "range": list(x)}, yaxis={**hidden, "range": list(y)})


def _cell_figure(operations: Sequence[str]) -> Figure:
    """Draw a cell, an edge in the colour of its operation."""
    figure = _drawing(220, (-0.5, 6.5), (-0.7, 1.2))
    colours = dict(zip((name for name in OPERATIONS if name != "none"), COLOURS, strict=False))
    for edge in cell_edges(operations):
        absent, colour = edge.operation == "none", colours.get(edge.operation, GREY)
        x, y = zip(*(edge.at(t / 20) for t in range(21)), strict=True)
        line = {"color": colour, "width": 1 if absent else 2.4, "dash": "dot" if absent else "solid"}
        figure.add_trace(marks(edge.operation, x, y, [""] * 21, mode="lines", line=line, hoverinfo="skip"))
        if not absent:
            (tail_x, tail_y), (tip_x, tip_y), (middle_x, middle_y) = (
                edge.at(0.88 if edge.bend[1] else 0.4),
                edge.end,
                edge.middle,
            )
            arrow = {"x": tip_x, "y": tip_y, "ax": tail_x, "ay": tail_y, "axref": "x", "ayref": "y", "standoff": 9}
            figure.add_annotation(**arrow, text="", arrowcolor=colour, arrowhead=2, arrowwidth=2.4, arrowsize=0.9)
            name = text(
                edge.operation.replace("nor_", "").replace("avg_", "").replace("_connect", "").replace("_", " ")
            )
            above = 0 if middle_y else 9  # short edges are no longer than their label
            figure.add_annotation(
                x=middle_x, y=middle_y, yshift=above, text=name, showarrow=False, font={"size": 11}, borderpad=0
            )
    names, places = zip(*cell_nodes(), strict=True)
    x, y = zip(*places, strict=True)
    node = marks("nodes", x, y, [""] * 4, mode="markers+text", colour="#5b6470", size=28, hoverinfo="skip")
    figure.add_trace({**node, "text": names, "textfont": {"color": "white", "size": 11}})
    return figure


def _chain_figure(layers: Sequence[Layer]) -> Figure:
    """Draw layers from top to bottom."""
    counts = [f"{layer.count} x " if layer.count > 1 else "" for layer in layers]
    boxes = [hover(f"{count}{', '.join(la.names)}", la.shape) for count, la in zip(counts, layers, strict=True)]
    # In lines of text: each box has its own and a margin.
    ends = list(accumulate(box.count("<br>") + 1 + 1.2 for box in boxes))
    figure = _drawing(round(15 * ends[-1]) + 8, (-1, 1), (-ends[-1], 0))
    middles = [-(end - (box.count("<br>") + 2.2) / 2) for end, box in zip(ends, boxes, strict=True)]
    line = {"color": GREY, "width": 2}
    figure.add_trace(
        marks("order", [0, 0], [middles[0], middles[-1]], ["", ""], mode="lines", line=line, hoverinfo="skip")
    )
    style = {"bordercolor": COLOURS[0], "borderwidth": 1, "borderpad": 3, "font": {"size": 11}, "showarrow": False}
    for middle, box in zip(middles, boxes, strict=True):
        figure.add_annotation(x=0, y=middle, text=box, **style)
    return figure


# --- The course of the search ----------------------------------------------------------------------------------------


def _seconds(run: _Run, seed: int) -> list[float]:
    """Return the seconds of metrics, or of measuring with ``refine``, until each feasible network, ``(n,)``."""
    candidates = list(run.histories[seed].all_candidates())
    measuring_s: Mapping[str, float] = {}
    if run.config.refine is not None:
        from freerea_seval.runs.refine_log import RefineLog

        measuring_s = RefineLog(run.folder.seed(seed) / "refine.jsonl").measuring_s
    spent = accumulate(sum(c.evaluation.seconds.values()) + measuring_s.get(c.genotype, 0.0) for c in candidates)
    return [seconds for seconds, candidate in zip(spent, candidates, strict=True) if candidate.feasible]


def _history(page: Page, run: _Run) -> None:
    names = history_names(run.config)
    panels, left_out = {}, 0
    for name, title in names.items():
        panels[title], left_out = _history_figure(run, name, title)
    first = next(iter(names))
    if any(seconds and seconds[-1] > 0 for seconds in run.seconds.values()):
        panels[f"{names[first]}, over seconds"] = _history_figure(run, first, names[first], by_seconds=True)[0]
    page.heading("History")
    page.figure(
        "Values of feasible networks in the order of evaluation, and the best so far of each seed."
        + _said_left_out(left_out),
        panels,
        table=(["seed", "networks", "seconds", *names.values()], list(_checkpoints(run)), ()),
    )


def _history_figure(run: _Run, name: str, title: str, *, by_seconds: bool = False) -> tuple[Figure, int]:
    """Draw a value over the number of evaluations, or the best so far over seconds; and count what is left out."""
    what = "metrics" if run.config.refine is None else "measuring"
    figure, left_out = axes(f"seconds of {what}" if by_seconds else "networks evaluated", title), 0
    step = max(1, math.ceil(sum(map(len, run.histories.values())) / MOST_POINTS))
    for index, seed in enumerate(run.histories):
        line = run.courses[seed, name]
        order = run.seconds[seed] if by_seconds else list(range(1, len(line.values) + 1))
        if line.values is not line.best and not by_seconds:
            kept = slice(None, None, step)
            points = list(zip(order, line.values, strict=True))[kept]
            left_out += len(order) - len(points)
            labels = [hover(f"network {place} of seed {seed}: {value:.5g}") for place, value in points]
            look: dict[str, Any] = {"size": 5, "opacity": 0.5, "showlegend": index == 0, "legendgroup": "evaluated"}
            figure.add_trace(marks("evaluated", order[kept], line.values[kept], labels, **look))
    for index, seed in enumerate(run.histories):
        line = run.courses[seed, name]
        order = run.seconds[seed] if by_seconds else list(range(1, len(line.values) + 1))
        turns = [i for i, v in enumerate(line.best) if not i or i == len(order) - 1 or v != line.best[i - 1]]
        unit = "s" if by_seconds else "networks"
        labels = [hover(f"seed {seed}, best of {order[i]:.5g} {unit}: {line.best[i]:.5g}") for i in turns]
        style = run.of_seed("best so far", index, seed)
        shape = {"color": style["colour"], "width": 1 if run.many else 2, "shape": "hv", "dash": DASHES[index % 4]}
        best = [line.best[i] for i in turns]
        figure.add_trace(marks(x=[order[i] for i in turns], y=best, hovers=labels, mode="lines", line=shape, **style))
    return figure, left_out


def _checkpoints(run: _Run) -> Iterator[list[str]]:
    """Yield the course of each seed at even intervals: networks, seconds, and the best so far."""
    names = history_names(run.config)
    for seed in run.histories:
        lines, seconds = [run.courses[seed, name].best for name in names], run.seconds[seed]
        count = len(seconds)
        for place in sorted({math.ceil(count * part / _CHECKPOINTS) for part in range(1, _CHECKPOINTS + 1)} - {0}):
            yield [str(seed), str(place), f"{seconds[place - 1]:.1f}", *(number(line[place - 1]) for line in lines)]


def _times(page: Page, run: _Run) -> None:
    """Show where the time went: seconds by metric, and those of the search itself where the run has them."""
    parts: list[tuple[str, dict[str, float]]] = []
    for result in run.results:
        spent = {name: float(seconds) for name, seconds in result["seconds"].items()}
        clock = run.folder.seed(result["seed"]) / "clock.json"
        if clock.is_file():
            spent["search itself"] = float(read_json(clock, CLOCK, MOST_JSON_BYTES).loop_s)
        parts.append((f"seed {result['seed']}", spent))
    names = list(dict.fromkeys(name for _, spent in parts for name in spent))
    names.sort(key=lambda name: -sum(spent.get(name, 0.0) for _, spent in parts))
    shown = parts
    if run.many:
        shown = [("mean of all seeds", {name: fmean(spent.get(name, 0.0) for _, spent in parts) for name in names})]
    page.heading("Where the time went")
    page.figure(
        "Seconds by what they were spent on." + (" Means over the seeds." if run.many else ""),
        {"": bars("seconds", names, [(name, [spent.get(n, 0.0) for n in names]) for name, spent in shown], "s")},
        table=(
            ["seed", *(f"{name}, s" for name in names), "sum, s"],
            [
                [name.removeprefix("seed "), *(f"{spent.get(n, 0.0):.2f}" for n in names), f"{sum(spent.values()):.2f}"]
                for name, spent in parts
            ],
            (),
        ),
    )
    page.table(
        "What each seed explored, in networks.",
        ["seed", "explored", "outside the constraints", "stopped by"],
        [[str(r["seed"]), str(r["explored"]), str(r["infeasible"]), str(r["stopped"])] for r in run.results],
        words=["stopped by"],
    )


def _commands(page: Page, run: _Run, name: str) -> None:
    """Say how to build, export and repeat, from the folder that holds the run's."""
    pick = run.pick.row if run.pick else 0
    page.heading("Use it")
    page.paragraph("In the folder that holds the run, with the number of any network of the result:")
    folder = run.folder.path.absolute().name
    page.listing(
        "build a network in Python",
        f"import freerea_seval as fs\n\nrun = fs.load_run({folder!r})\nnetwork = run.build({pick})",
        is_open=True,
    )
    page.listing(
        "export it; the first file is its source, the others are programs with weights",
        "\n".join(f"freerea-seval export {name} --pick {pick} -o {file}" for file in run.config.network_files),
        is_open=True,
    )
    page.listing(
        "search again; copy the config to where the first one was if it has relative paths",
        f"freerea-seval search {name}/config.yaml -o again",
        is_open=True,
    )
