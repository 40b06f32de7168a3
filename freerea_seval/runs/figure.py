"""The figure ``front.png`` of a run: all evaluated candidates and the front, or the score over time."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freerea_patch import History, InputError
from freerea_seval.config import Config, MetricSection
from freerea_seval.files import write_atomically
from freerea_seval.runs.folder import RunFolder
from freerea_seval.runs.report import is_pareto, label, number_in, predicted_and_measured, read_history

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_EXPLORED = "#b8c4cf"
_FRONT = "#c2410c"
_SECOND = "#1d4ed8"


def draw_run(folder: RunFolder) -> Path:
    """Draw a finished run as ``front.png`` in its folder.

    Raises:
        InputError: the run is not finished, or matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError(
            "figures need matplotlib, which is not installed: pip install 'freerea-seval[figures]'"
        ) from None
    config, results = folder.config, folder.results()
    histories = [read_history(folder, result["seed"]) for result in results]
    right = _right_panel(config)
    figure = Figure(figsize=(11 if right else 6, 4.5), layout="constrained")
    axes = figure.subplots(1, 2 if right else 1, squeeze=False)[0]
    if is_pareto(config):
        _draw_front(axes[0], config, histories)
    else:
        _draw_scores(axes[0], histories)
    if right:
        _draw_report(axes[1], config, results, *right)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150, metadata={"Software": None})
    path = folder.path / "front.png"
    write_atomically(path, image.getvalue())
    return path


def _draw_front(axes: Axes, config: Config, histories: Sequence[History]) -> None:
    """Draw all candidates over the first Pareto objective, and the front: as a line, if these are all its axes."""
    pareto = [s for s in config.objectives if s.role == "pareto"]
    scored = any(s.role == "fitness" for s in config.objectives)
    if not scored and len(pareto) == 1:
        scored = True  # a single objective is drawn over a constant score of zero
    style = "o-" if len(pareto) + scored == 2 else "o"
    for number, history in enumerate(histories):
        candidates = list(history)
        if not candidates:
            continue
        scores = dict(zip((c.genotype for c in candidates), history.scores(candidates).tolist(), strict=True))

        def point(c: Any, scores: dict[str, float] = scores) -> tuple[float, float]:
            return c.values[pareto[0].column], scores[c.genotype] if scored else c.values[pareto[1].column]

        first = number == 0
        x, y = zip(*map(point, candidates), strict=True)
        axes.scatter(x, y, s=14, color=_EXPLORED, label="explored" if first else None)
        front = sorted(map(point, history.front()))
        if front:
            x, y = zip(*front, strict=True)
            axes.plot(x, y, style, ms=5, lw=1.2, color=_FRONT, label="front" if first else None)
    axes.set_xlabel(label(pareto[0]))
    axes.set_ylabel("score of the fitness metrics" if scored else label(pareto[1]))
    axes.set_title("Evaluated networks")
    _add_legend(axes)


def _draw_scores(axes: Axes, histories: Sequence[History]) -> None:
    """Draw the score of every candidate in the order of evaluation, and the best so far."""
    for number, history in enumerate(histories):
        scores = history.scores(list(history)).tolist()
        best = list(accumulate(scores, max))
        first = number == 0
        axes.scatter(range(1, len(scores) + 1), scores, s=12, color=_EXPLORED, label="evaluated" if first else None)
        axes.step(range(1, len(best) + 1), best, where="post", color=_FRONT, label="best so far" if first else None)
    axes.set_xlabel("networks evaluated")
    axes.set_ylabel("score (normalised over the history)")
    axes.set_title("The course of the search")
    _add_legend(axes)


def _right_panel(config: Config) -> tuple[MetricSection, MetricSection] | None:
    """Return the metrics of the second panel: an objective of the device as x, a metric of the report as y."""
    pairs = dict(predicted_and_measured(config))
    devices = [s for s in config.objectives if s.role in ("pareto", "constraint")]
    extra = [s for s in config.report if s.column not in pairs.values()]
    return (devices[0], extra[0]) if devices and extra else None


def _draw_report(
    axes: Axes, config: Config, results: Sequence[Mapping[str, Any]], x: MetricSection, y: MetricSection
) -> None:
    """Draw a reported metric of the front over a device metric, predicted and measured."""
    measured = dict(predicted_and_measured(config)).get(x.column)
    columns = [x.column, y.column, *([measured] if measured else [])]
    rows = [row for result in results for row in result["front"]]
    rows = [row for row in rows if all(number_in(row, column) is not None for column in columns)]
    if measured:
        for row in rows:
            axes.plot([row[x.column], row[measured]], [row[y.column]] * 2, lw=0.8, color=_EXPLORED, zorder=0)
        axes.plot([r[measured] for r in rows], [r[y.column] for r in rows], "o", ms=6, color=_SECOND, label="measured")
    fill = "none" if measured else _FRONT
    name = "predicted" if x.source_name == "seval" else x.source_name
    axes.plot([r[x.column] for r in rows], [r[y.column] for r in rows], "o", ms=6, mfc=fill, mec=_FRONT, label=name)
    for bound in (getattr(x, "min", None), getattr(x, "max", None)):
        if bound is not None:
            axes.axvline(bound, ls="--", lw=1, color=_EXPLORED)
    axes.set_xlabel(f"{x.metric} [{x.unit}]" if x.unit else x.metric)
    axes.set_ylabel(label(y))
    axes.set_title("Reported metrics of the result")
    _add_legend(axes)


def _add_legend(axes: Axes) -> None:
    """Add a legend if there are labelled artists."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
