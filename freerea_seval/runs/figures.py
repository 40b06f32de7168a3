"""The figures of a run, drawn with matplotlib, and the points that they show, which the HTML page draws too.

Every function ``plot_...`` draws into the axes that it is given, or into those of a new figure, and returns them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec
from warnings import catch_warnings, simplefilter

import numpy as np

from freerea_patch import Candidate, History, InputError, unknown_name
from freerea_patch.history import Floats, normalised
from freerea_seval.config import Config, MetricSection, ObjectiveSection
from freerea_seval.files import write_atomically
from freerea_seval.progress import printable
from freerea_seval.runs.folder import RunFolder, read_history
from freerea_seval.runs.network_graph import cell_edges, cell_nodes, network_graph
from freerea_seval.runs.report import (
    front_table,
    is_pareto,
    is_predicted,
    label,
    number_in,
    pick_of,
    predicted_and_measured,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import nn

Arguments = ParamSpec("Arguments")

_EXPLORED = "#b8c4cf"
_FRONT = "#c2410c"
_SECOND = "#1d4ed8"
_PICK: dict[str, Any] = {"marker": "*", "ms": 15, "mfc": "#facc15", "mec": "black", "ls": "none", "zorder": 3}


# --- Points ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Points:
    """Networks of a seed as points of a figure.

    Attributes:
        candidates: the networks.
        scores: of each, normalised over the history.
        x, y: of each.
    """

    candidates: list[Candidate]
    scores: list[float]
    x: list[float]
    y: list[float]

    def every(self, step: int) -> Points:
        """Return every ``step``-th of the points."""
        return Points(self.candidates[::step], self.scores[::step], self.x[::step], self.y[::step])


@dataclass(frozen=True)
class FrontPoints:
    """What a figure of the front shows.

    Attributes:
        labels: of the two axes.
        line: whether the front is a line: these are all axes that the search selects by.
        seeds: the other networks and the front of every seed.
        pick: seed and genotype of the recommended network, if there is one.
    """

    labels: tuple[str, str]
    line: bool
    seeds: Mapping[int, tuple[Points, Points]]
    pick: tuple[int, str] | None

    def picked(self) -> Iterator[tuple[float, float]]:
        """Return the point of the recommended network, if it is shown."""
        for seed, (_, front) in self.seeds.items():
            for candidate, x, y in zip(front.candidates, front.x, front.y, strict=True):
                if (seed, candidate.genotype) == self.pick:
                    yield x, y


def histories_of(folder: RunFolder) -> dict[int, History]:
    """Return the histories of all seeds of a finished run."""
    return {result["seed"]: read_history(folder, result["seed"]) for result in folder.results()}


def scores_of(history: History) -> list[float]:
    """Return the scores of all feasible networks in the order of evaluation."""
    scores: list[float] = history.scores(list(history)).tolist()
    return scores


def front_axes(config: Config) -> tuple[list[ObjectiveSection], ObjectiveSection | None]:
    """Return the horizontal axes of the figures of the front, one a figure, and the vertical one; None for the score.

    The axes are the Pareto objectives, or else the bounded metrics, or else two metrics of the search.
    """
    by_role = ([s for s in config.objectives if s.role == role] for role in ("pareto", "constraint"))
    shown = next(filter(None, by_role), config.selecting[:2])
    # A single objective is drawn over a constant score of zero.
    scored = len(shown) < 2 or any(s.role == "fitness" for s in config.objectives)
    return (shown, None) if scored else ([shown[0], *shown[2:]], shown[1])


def front_points(folder: RunFolder, histories: Mapping[int, History], x: ObjectiveSection | None = None) -> FrontPoints:
    """Return all networks and the results over a horizontal axis of :func:`front_axes`; by default the first.

    Args:
        folder: the run.
        histories: of its seeds.
        x: the axis.
    """
    config = folder.config
    horizontal, y = front_axes(config)
    x = horizontal[0] if x is None else x
    seeds = {}
    for result in folder.results():
        history, best = histories[result["seed"]], {row["genotype"] for row in result["front"]}
        scores = scores_of(history)

        def points(pairs: list[tuple[Candidate, float]]) -> Points:
            candidates = [candidate for candidate, _ in pairs]
            scores = [score for _, score in pairs]
            heights = scores if y is None else [c.values[y.column] for c in candidates]
            return Points(candidates, scores, [c.values[x.column] for c in candidates], heights)

        pairs = sorted(zip(history, scores, strict=True), key=lambda pair: pair[0].values[x.column])
        front = [pair for pair in pairs if pair[0].genotype in best]
        others = [pair for pair in pairs if pair[0].genotype not in best]
        seeds[result["seed"]] = points(others), points(front)
    table, pick = front_table(folder), pick_of(folder)
    chosen = None if pick is None else (int(table["seed"][pick.row]), str(table["genotype"][pick.row]))
    y_label = "score of the fitness metrics" if y is None else label(config, y)
    line = is_pareto(config) and len(horizontal) == 1
    return FrontPoints((label(config, x), y_label), line, seeds, chosen)


@dataclass(frozen=True)
class Course:
    """A value of every network of a seed in the order of evaluation, and the best value so far."""

    values: list[float]
    best: list[float]


def history_names(config: Config) -> dict[str, str]:
    """Return what a history can show, the first of it by default: by name, the label of its axis."""
    names = {"hypervolume": "hypervolume of the front so far, normalised"} if is_pareto(config) else {}
    if any(s.role == "fitness" for s in config.objectives) or not names:
        names["score"] = "score (normalised over the history)"
    return names | {s.column: label(config, s) for s in config.selecting if s.role != "constraint"}


def course(config: Config, history: History, name: str) -> Course:
    """Return the course of a search by a name of :func:`history_names`."""
    if name == "hypervolume":
        volumes = hypervolumes(history)
        return Course(volumes, volumes)
    if name == "score":
        sign, values = 1.0, scores_of(history)
    else:
        section = next(s for s in config.selecting if s.column == name)
        sign, values = -1.0 if section.direction == "min" else 1.0, [c.values[name] for c in history]
    best, running = [], -math.inf
    for value in values:
        running = max(running, sign * value)  # a NaN, which compares as false, changes nothing
        best.append(sign * running)
    return Course(values, best)


def hypervolumes(history: History) -> list[float]:
    """Return the hypervolume of the front after every evaluation (Zitzler 1998), ``(n,)``.

    Axes are normalised to the range of all networks, so that it is 1 if one network is best on all of them; the
    reference point is the worst corner. Scores are those over the whole history.
    """
    from moocore import hypervolume

    points = history.points(list(history))
    if not np.isfinite(points).all(axis=1).any():
        return [0.0] * len(points)
    axes = normalised(points)
    front: Floats = np.empty((0, axes.shape[1]))
    volumes, volume = [], 0.0
    for point in np.where(np.isfinite(points), axes, np.nan):
        if not np.isnan(point).any() and not (front >= point).all(axis=1).any():
            front = np.vstack([front[~(front <= point).all(axis=1)], point])
            volume = float(hypervolume(front, ref=np.zeros(axes.shape[1]), maximise=True))
        volumes.append(volume)
    return volumes


def last_hypervolume(history: History) -> float:
    """Return the last of :func:`hypervolumes`, which is faster than all of them."""
    from moocore import hypervolume

    points = history.points(list(history))
    finite = np.isfinite(points).all(axis=1)
    if not finite.any():
        return 0.0
    return float(hypervolume(normalised(points)[finite], ref=np.zeros(points.shape[1]), maximise=True))


@dataclass(frozen=True)
class CalibrationPoints:
    """Predicted and measured values of a metric for the networks of the result that have both.

    Attributes:
        labels: of the two axes.
        unit: of the metric in brackets, after a space.
        genotypes: of the networks.
        measured, predicted: their values.
        low, high: bounds of the predictions of ``refine``, which hold the value in nine cases of ten; else NaN.
    """

    labels: tuple[str, str]
    unit: str
    genotypes: list[str]
    measured: list[float]
    predicted: list[float]
    low: list[float]
    high: list[float]


def calibration_points(folder: RunFolder, predicted: str, measured: str) -> CalibrationPoints:
    """Return the values of a pair of :func:`~freerea_seval.runs.report.predicted_and_measured`."""
    section = next(s for s in folder.config.objectives if s.column in (predicted, measured))
    unit = f" [{section.unit}]" if section.unit else ""
    labels = (f"{section.metric}, measured{unit}", f"{section.metric}, predicted{unit}")
    names = (measured, predicted, f"{measured}_low", f"{measured}_high")
    rows = [row for result in folder.results() for row in result["front"]]
    rows = [row for row in rows if all(number_in(row, name) is not None for name in names[:2])]
    columns = [[number_in(row, name) for row in rows] for name in names]
    values = [[math.nan if value is None else value for value in column] for column in columns]
    return CalibrationPoints(labels, unit, [row["genotype"] for row in rows], *values)


# --- Figures ---------------------------------------------------------------------------------------------------------


def require_matplotlib() -> None:
    """Check that matplotlib is installed.

    Raises:
        InputError: it is not.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise InputError(
            "figures need matplotlib, which is not installed: pip install 'freerea-seval[figures]'"
        ) from None


def _plot(draw: Callable[Arguments, Axes]) -> Callable[Arguments, Axes]:
    """Let a function draw into new axes if its argument ``ax`` is None, and take names as they are."""

    @wraps(draw)
    def plot(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Axes:
        require_matplotlib()
        from matplotlib import rc_context

        if kwargs.get("ax") is None:
            from matplotlib import pyplot

            size = (10.0, 6.0) if draw.__name__ == "plot_network" else None
            kwargs["ax"] = pyplot.subplots(figsize=size, layout="constrained")[1]
        # Names are text: without this, matplotlib reads what is between two dollar signs as mathematics.
        with rc_context({"text.parse_math": False, "text.usetex": False}):
            axes = draw(*args, **kwargs)
        for text in (axes.title, axes.xaxis.label, axes.yaxis.label):  # which are as old as the axes
            text.set_parse_math(False)
        return axes

    return plot


def _given(ax: Axes | None) -> Axes:
    assert ax is not None  # of _plot
    return ax


@_plot
def plot_front(folder: RunFolder, *, ax: Axes | None = None) -> Axes:
    """Draw all networks, the results, and the pick; see :func:`front_points`."""
    axes, shown = _given(ax), front_points(folder, histories_of(folder))
    others = "explored" if folder.config.refine is None else "measured"
    results = "front" if is_pareto(folder.config) else "best"
    for number, (explored, front) in enumerate(shown.seeds.values()):
        first = number == 0
        axes.scatter(explored.x, explored.y, s=14, color=_EXPLORED, label=others if first else None)
        style = "o-" if shown.line else "o"
        axes.plot(front.x, front.y, style, ms=5, lw=1.2, color=_FRONT, label=results if first else None)
    for x, y in shown.picked():
        axes.plot([x], [y], label="pick", **_PICK)
    axes.set_xlabel(shown.labels[0])
    axes.set_ylabel(shown.labels[1])
    axes.set_title("Evaluated networks")
    _add_legend(axes)
    return axes


@_plot
def plot_history(folder: RunFolder, metric: str | None = None, *, ax: Axes | None = None) -> Axes:
    """Draw a value of every network in the order of evaluation, and the best so far, by :func:`history_names`."""
    axes, names = _given(ax), history_names(folder.config)
    if metric is not None and metric not in names:
        raise unknown_name("metric of the history", metric, names)
    name = next(iter(names)) if metric is None else metric
    for number, history in enumerate(histories_of(folder).values()):
        first, line = number == 0, course(folder.config, history, name)
        order = range(1, len(line.values) + 1)
        if line.values is not line.best:
            axes.scatter(order, line.values, s=12, color=_EXPLORED, label="evaluated" if first else None)
        axes.step(order, line.best, where="post", color=_FRONT, label="best so far" if first else None)
    axes.set_xlabel("networks evaluated")
    axes.set_ylabel(names[name])
    axes.set_title("The course of the search")
    _add_legend(axes)
    return axes


@_plot
def plot_calibration(folder: RunFolder, metric: str | None = None, *, ax: Axes | None = None) -> Axes:
    """Draw predicted over measured values of the result, with the line on which both are equal.

    Raises:
        InputError: the run has no metric of this name with both, or no metric at all.
    """
    axes = _given(ax)
    pairs = {measured: predicted for predicted, measured in predicted_and_measured(folder.config)}
    if not pairs:
        raise InputError(
            f"run {folder.path}: no metric is both predicted and measured; add the measured one to 'report', or search"
            " with 'refine'"
        )
    if metric is not None and metric not in pairs:
        raise unknown_name("metric that is both predicted and measured", metric, pairs)
    measured = next(iter(pairs)) if metric is None else metric
    shown = calibration_points(folder, pairs[measured], measured)
    if shown.measured:
        axes.axline((shown.measured[0], shown.measured[0]), slope=1, color=_EXPLORED, lw=1, label="equal", zorder=0)
    axes.plot(shown.measured, shown.predicted, "o", ms=6, color=_SECOND, label="networks of the result")
    axes.set_xlabel(shown.labels[0])
    axes.set_ylabel(shown.labels[1])
    axes.set_title("Predicted and measured")
    _add_legend(axes)
    return axes


@_plot
def plot_reported(folder: RunFolder, x: MetricSection, y: MetricSection, *, ax: Axes | None = None) -> Axes:
    """Draw a reported metric of the results over a device metric, predicted and measured."""
    axes, config = _given(ax), folder.config
    pairs = predicted_and_measured(config)
    predicted, measured = next((pair for pair in pairs if x.column in pair), (x.column, None))
    columns = [predicted, y.column, *([measured] if measured else [])]
    rows = [row for result in folder.results() for row in result["front"]]
    rows = [row for row in rows if all(number_in(row, column) is not None for column in columns)]
    if measured:
        for row in rows:
            axes.plot([row[predicted], row[measured]], [row[y.column]] * 2, lw=0.8, color=_EXPLORED, zorder=0)
        axes.plot([r[measured] for r in rows], [r[y.column] for r in rows], "o", ms=6, color=_SECOND, label="measured")
    fill = "none" if measured else _FRONT
    name = "predicted" if measured or is_predicted(config, x) else x.source_name
    axes.plot([r[predicted] for r in rows], [r[y.column] for r in rows], "o", ms=6, mfc=fill, mec=_FRONT, label=name)
    for bound in (getattr(x, "min", None), getattr(x, "max", None)):
        if bound is not None:
            axes.axvline(bound, ls="--", lw=1, color=_EXPLORED)
    axes.set_xlabel(f"{x.metric} [{x.unit}]" if x.unit else x.metric)
    axes.set_ylabel(label(config, y))
    axes.set_title("Reported metrics of the result")
    _add_legend(axes)
    return axes


def _add_legend(axes: Axes) -> None:
    """Add a legend if there are labelled artists."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend()


def draw_run(folder: RunFolder) -> Path:
    """Draw a finished run as ``front.png`` in its folder: its front or its history, and what it reports.

    Raises:
        InputError: the run is not finished, matplotlib is not installed, or it cannot draw the values.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    folder.results()  # raises if the run is not finished
    right = _right_panel(folder.config)
    image = io.BytesIO()
    try:
        with catch_warnings():
            simplefilter("ignore")
            figure = Figure(figsize=(11 if right else 6, 4.5), layout="constrained")
            panels = figure.subplots(1, 2 if right else 1, squeeze=False)[0]
            if is_pareto(folder.config):
                plot_front(folder, ax=panels[0])
            else:
                plot_history(folder, ax=panels[0])
            if right:
                plot_reported(folder, *right, ax=panels[1])
            figure.savefig(image, format="png", dpi=150, metadata={"Software": None})
    except Exception as error:  # of values near the largest double, matplotlib raises various exceptions
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"run {folder.path}: its figure cannot be drawn ({reason}); its tables are complete") from None
    path = folder.path / "front.png"
    write_atomically(path, image.getvalue())
    return path


def _right_panel(config: Config) -> tuple[MetricSection, MetricSection] | None:
    """Return the metrics of the second panel: an objective of the device as x, a metric of the report as y."""
    pairs = dict(predicted_and_measured(config))
    devices = [s for s in config.objectives if s.role in ("pareto", "constraint")]
    extra = [s for s in config.report if s.column not in pairs.values()]
    return (devices[0], extra[0]) if devices and extra else None


# --- A network -------------------------------------------------------------------------------------------------------

#: Layers in a row of a drawing.
_IN_A_ROW = 8


@_plot
def plot_network(
    network: nn.Module, input_shape: Sequence[int], title: str, dtype: str = "float32", *, ax: Axes | None = None
) -> Axes:
    """Draw the layers of a network with the shapes of their outputs, and its cell as a graph of four nodes.

    Args:
        network: the module; the layers are its children if it is an ``nn.Sequential``. Equal ones in a row are drawn as
            one, with their number.
        input_shape: of one input, without the batch.
        title: of the figure.
        dtype: of the input.
        ax: axes to draw into.
    """
    axes, graph = _given(ax), network_graph(network, input_shape, dtype)
    boxes = ["\n".join((*layer.names, layer.shape)) for layer in graph.layers]
    boxes = [f"{la.count} x {text}" if la.count > 1 else text for la, text in zip(graph.layers, boxes, strict=True)]
    rows = math.ceil(len(boxes) / _IN_A_ROW)
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7 if rows == 1 else 6}
    box = {"boxstyle": "round,pad=0.4", "fc": "white", "ec": _SECOND}
    for number, text in enumerate(boxes):
        row, column = divmod(number, _IN_A_ROW)
        if number:
            before, above = divmod(number - 1, _IN_A_ROW)[::-1]
            axes.plot(
                [before, column], [-above, -row], lw=0.8, color=_EXPLORED if before > column else _SECOND, zorder=0
            )
        axes.text(column, -row, text, bbox=box, **style)
    for number, operations in enumerate(graph.cells):
        _draw_cell(axes, operations, 0.5, -rows - 1.3 - 2.6 * number)
    axes.set_xlim(-0.6, min(len(boxes), _IN_A_ROW) - 0.4)
    axes.set_ylim(-rows - 2.6 * len(graph.cells) + 0.4, 0.6)
    axes.set_axis_off()
    axes.set_title(printable(title), fontsize=8)
    return axes


def _draw_cell(axes: Axes, operations: Sequence[str], x: float, y: float) -> None:
    """Draw the nodes of a cell and its edges with their operations; ``none`` is a dotted edge."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Curve

    for edge in cell_edges(operations):
        colour, line = (_EXPLORED, ":") if edge.operation == "none" else (_SECOND, "-")
        controls = [(x + dx, y + dy) for dx, dy in (edge.start, edge.bend, edge.end)]
        arrow: dict[str, Any] = {
            "arrowstyle": "-|>,head_length=6,head_width=3",
            "color": colour,
            "ls": line,
            "fc": "none",
        }
        axes.add_patch(FancyArrowPatch(path=Curve(controls, [Curve.MOVETO, Curve.CURVE3, Curve.CURVE3]), **arrow))
        label_box = {"fc": "white", "ec": "none", "pad": 1}
        text = edge.operation.replace("_", " ")
        dx, dy = edge.middle
        axes.text(x + dx, y + dy, text, ha="center", va="center", fontsize=7, color=colour, bbox=label_box)
    for name, (dx, dy) in cell_nodes():
        circle = {"boxstyle": "circle,pad=0.4", "fc": "white", "ec": "black"}
        axes.text(x + dx, y + dy, name, ha="center", va="center", fontsize=7, bbox=circle)
