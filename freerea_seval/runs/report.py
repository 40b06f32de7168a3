"""A run, read back from its folder: as a history, as tables, as a printed report, and as the figure ``front.png``."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

import numpy as np

from freerea_patch import History, InputError
from freerea_seval.config import Config, MetricSection
from freerea_seval.files import write_atomically
from freerea_seval.progress import printable
from freerea_seval.runs.folder import RunFolder, from_json, read_history

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame
    from rich.console import Console


def front_table(folder: RunFolder) -> DataFrame:
    """Return the results of all seeds: ``seed``, ``genotype``, ``score`` if there is one, and a column a metric.

    Raises:
        InputError: a seed is not finished.
    """
    rows = []
    for result in folder.results():
        for row in result["front"]:
            values = {name: from_json(value) for name, value in row.items() if name != "genotype"}
            rows.append({"seed": result["seed"], "genotype": row["genotype"], **values})
    return _table(folder.config, rows, ["seed", "genotype", *(s.column for s in sections_of(folder.config))])


def history_table(folder: RunFolder) -> DataFrame:
    """Return all evaluated candidates of all seeds, in the order of evaluation, those of unfinished seeds too.

    The columns are ``seed``, ``genotype``, ``origin``, ``generation``, ``parents`` (separated by spaces), ``seconds``
    (of all metrics), ``feasible``, ``score`` (normalised over the history; NaN if infeasible), and one a metric: NaN if
    it is unsupported, or was not evaluated because a constraint was violated before.
    """
    rows: list[dict[str, Any]] = []
    for seed in folder.config.search.seeds:
        history = read_history(folder, seed)
        scores = dict(zip((c.genotype for c in history), history.scores(list(history)).tolist(), strict=True))
        for candidate in history.all_candidates():
            proposal = candidate.proposal
            rows.append(
                {
                    "seed": seed,
                    "genotype": candidate.genotype,
                    "origin": proposal.origin,
                    "generation": proposal.generation,
                    "parents": " ".join(proposal.parents),
                    "seconds": sum(candidate.evaluation.seconds.values()),
                    "feasible": candidate.feasible,
                    "score": scores.get(candidate.genotype, float("nan")),
                    **candidate.values,
                }
            )
    facts = ["seed", "genotype", "origin", "generation", "parents", "seconds", "feasible", "score"]
    return _table(folder.config, rows, [*facts, *(section.column for section in folder.config.selecting)])


def _table(config: Config, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> DataFrame:
    """Return rows as a table with ``attrs["units"]`` and ``attrs["predicted"]``, its columns even without a row."""
    from pandas import DataFrame

    names = list(dict.fromkeys(name for row in rows for name in row)) if rows else list(dict.fromkeys(columns))
    table = DataFrame(rows, columns=names)
    units = {section.column: section.unit or "" for section in sections_of(config)}
    table.attrs["units"] = {name: units[name] for name in names if name in units}
    table.attrs["predicted"] = [s.column for s in sections_of(config) if is_predicted(config, s)]
    return table


def sections_of(config: Config) -> list[MetricSection]:
    """Return the objectives without guides, then the report's metrics."""
    return [*config.selecting, *config.report]


def label(config: Config, section: MetricSection) -> str:
    """Return a metric's name with its unit, and whether it is predicted."""
    name = section.column
    if is_predicted(config, section) and "predicted" not in name:
        name += ", predicted"
    return printable(f"{name} [{section.unit}]" if section.unit and f"({section.unit})" not in name else name)


def is_predicted(config: Config, section: MetricSection) -> bool:
    """Whether the values of a metric in the result come from a predictor; those of ``refine`` were measured."""
    return section.source_name == "seval" and not config.is_learned(section)


def predicted_and_measured(config: Config) -> list[tuple[str, str]]:
    """Return pairs of columns: predicted values, and measured values of the same metric.

    The pairs are those of predicted objectives and the report's metrics, and those of the metrics of ``refine``.
    """
    learned = [(f"{s.column}_predicted", s.column) for s in config.objectives if config.is_learned(s)]
    reported = {s.metric: s.column for s in config.report if not is_predicted(config, s)}
    predicted = [s for s in config.objectives if is_predicted(config, s)]
    return learned + [(s.column, reported[s.metric]) for s in predicted if s.metric in reported]


def print_report(folder: RunFolder, console: Console) -> None:
    """Print the front of every seed; for several seeds of a summed score, the best network of each.

    Raises:
        InputError: a seed is not finished, or a file of the run is damaged.
    """
    config, results = folder.config, folder.results()
    if len(results) > 1 and not is_pareto(config):
        best = [{"#": result["seed"], **result["front"][0]} for result in results if result["front"]]
        _print_rows(config, console, f"the best network of each of {len(results)} seeds", "seed", best)
        lines = list(_over_seeds(config, results))
    else:
        lines = []
        for result in results:
            kind = "front" if is_pareto(config) else "best"
            title = f"seed {result['seed']}: the {kind} of {result['explored']} networks"
            if result["measured"] is not None:
                title += f", of which {result['measured']} were measured"
            if result["stopped"] == "exhausted":
                title += "; it ran out of new ones"
            if result["stopped"] == "patience":
                title += f"; it ended after {config.budget.patience} infeasible candidates in a row"
            rows = [{"#": number, **row} for number, row in enumerate(result["front"], start=1)]
            _print_rows(config, console, title, "#", rows)
            lines += _summary(config, result)
    lines += [
        f"seed {result['seed']}: {read_history(folder, result['seed']).describe_infeasible()}; loosen the bound"
        for result in results
        if result["infeasible"] and not result["explored"]
    ]
    for line in [*lines, *folder.notes]:
        console.print(f"     {printable(line)}", highlight=False, markup=False, soft_wrap=True)


def is_pareto(config: Config) -> bool:
    """Whether a search selects by non-domination."""
    return any(s.role == "pareto" for s in config.objectives)


def _print_rows(config: Config, console: Console, title: str, number: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a table of metrics, and the genotypes, which are too long for it, below."""
    from rich.table import Table
    from rich.text import Text

    console.print(title, style="bold", highlight=False)  # a title of the table would wrap to the table's width
    table = Table()
    table.add_column(number, justify="right")
    scored = [("score", "score")] if any("score" in row for row in rows) else []
    columns = [*scored, *((s.column, label(config, s)) for s in sections_of(config))]
    columns += [(f"{s.column}_predicted", f"{s.column}, predicted") for s in config.objectives if config.is_learned(s)]
    for _, heading in columns:
        # A heading may break at its underscores, so that the table fits a terminal of 80 columns.
        table.add_column(heading.replace("_", " ").replace("[", "\\["), justify="right")
    for row in rows:
        table.add_row(str(row["#"]), *(Text(_cell(row.get(name))) for name, _ in columns))
    console.print(table)
    for row in rows:
        console.print(f"{row['#']:>3}  {printable(row['genotype'])}", highlight=False, markup=False, soft_wrap=True)


def number_in(row: Mapping[str, Any], column: str) -> float | None:
    """Return a finite value of a result's row; None where it is unsupported or infinite (which JSON has as text)."""
    value = row.get(column)
    return float(value) if isinstance(value, (int, float)) else None


def _cell(value: Any) -> str:
    if value is None:
        return "unsupported"
    return printable(value) if isinstance(value, str) else f"{value:.5g}"


def _summary(config: Config, result: Mapping[str, Any]) -> Iterator[str]:
    parts = sorted(result["seconds"].items(), key=lambda item: -item[1])
    spent = ", ".join(f"{name} {seconds:.1f}" for name, seconds in parts if seconds >= 0.05)
    infeasible = f", {result['infeasible']} outside the constraints" if result["infeasible"] else ""
    yield f"{result['explored']} networks explored{infeasible}; {result['metric_s']:.1f} s of metrics" + (
        f" ({spent})" if spent else ""
    )
    for predicted, measured in predicted_and_measured(config):
        pairs = [(number_in(row, predicted), number_in(row, measured)) for row in result["front"]]
        errors = [abs(p / m - 1) for p, m in pairs if p is not None and m]
        if errors:
            yield (
                f"{predicted} differs from {measured} by {median(errors):.0%} (median of the front), at most"
                f" {max(errors):.0%}"
            )


def _over_seeds(config: Config, results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Return mean and standard deviation over the seeds of what was explored and of the best network's metrics."""
    explored = [r["explored"] for r in results]
    yield f"networks explored: {fmean(explored):.1f} ± {stdev(explored):.2g}"
    for section in sections_of(config):
        values = [number_in(r["front"][0], section.column) for r in results if r["front"]]
        finite = [value for value in values if value is not None]
        if len(finite) > 1:
            with np.errstate(over="ignore", invalid="ignore"):  # of values near the largest double
                yield f"{label(config, section)}: {np.mean(finite):.6g} ± {np.std(finite, ddof=1):.2g}"


_EXPLORED = "#b8c4cf"
_FRONT = "#c2410c"
_SECOND = "#1d4ed8"


def draw_run(folder: RunFolder) -> Path:
    """Draw a finished run as ``front.png`` in its folder.

    Raises:
        InputError: the run is not finished, matplotlib is not installed, or it cannot draw the values.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError(
            "figures need matplotlib, which is not installed: pip install 'freerea-seval[figures]'"
        ) from None
    config, results = folder.config, folder.results()
    histories = [read_history(folder, result["seed"]) for result in results]
    right = _right_panel(config)
    image = io.BytesIO()
    try:
        # Names are text: without this, matplotlib reads what is between two dollar signs as mathematics.
        with rc_context({"text.parse_math": False, "text.usetex": False}), catch_warnings():
            simplefilter("ignore")
            figure = Figure(figsize=(11 if right else 6, 4.5), layout="constrained")
            axes = figure.subplots(1, 2 if right else 1, squeeze=False)[0]
            if is_pareto(config):
                _draw_front(axes[0], config, histories)
            else:
                _draw_scores(axes[0], histories)
            if right:
                _draw_report(axes[1], config, results, *right)
            figure.savefig(image, format="png", dpi=150, metadata={"Software": None})
    except Exception as error:  # of values near the largest double, matplotlib raises various exceptions
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"run {folder.path}: its figure cannot be drawn ({reason}); its tables are complete") from None
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
        others = "explored" if config.refine is None else "measured"
        axes.scatter(x, y, s=14, color=_EXPLORED, label=others if first else None)
        front = sorted(map(point, history.front()))
        if front:
            x, y = zip(*front, strict=True)
            axes.plot(x, y, style, ms=5, lw=1.2, color=_FRONT, label="front" if first else None)
    axes.set_xlabel(label(config, pareto[0]))
    axes.set_ylabel("score of the fitness metrics" if scored else label(config, pareto[1]))
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
    pairs = predicted_and_measured(config)
    predicted, measured = next((pair for pair in pairs if x.column in pair), (x.column, None))
    columns = [predicted, y.column, *([measured] if measured else [])]
    rows = [row for result in results for row in result["front"]]
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


def _add_legend(axes: Axes) -> None:
    """Add a legend if there are labelled artists."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
