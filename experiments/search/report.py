"""One page of the results of searches with and without the plugin, from raw rows, as HTML and as Markdown.

``python -m experiments.search.report FOLDER [-o report.html]``, on the folder of
``python -m experiments.search.integration``
"""

from __future__ import annotations

import csv
import json
import math
import shlex
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from experiments.search.methods import ABLATION, GUIDED, METHODS, OTHER_ENGINES
from experiments.tables import as_command, experiment_parser, groups, markdown
from freerea_patch import InputError
from freerea_seval.files import write_atomically
from freerea_seval.runs.page import COLOURS, DASHES, SYMBOLS, Page, axes, bars, hover, marks, text
from freerea_seval.runs.statistics import Summary, closed, interquartile_mean, paired_p, summarise

if TYPE_CHECKING:
    from plotly.graph_objects import Figure  # type: ignore[import-untyped, unused-ignore]

TEXTS = ("dataset", "metric", "unit", "direction", "method", "cells", "seed", "status", "error", "folder")
NUMBERS = (
    *("quantile", "regret", "violated", "remeasured_regret", "remeasured", "tau", "hypervolume", "igd_plus"),
    "front",
    *("metric_s", "predictor_s", "predictor_cpu_s", "loop_s", "prepare_s"),
)
#: What methods are compared with: the best that any predictor could do for FreeREA's loop.
REFERENCE = "freerea+true"
PARTS = ("metric", "predictor", "loop")
STATISTICS = ("mean", "IQM", "95\N{NO-BREAK SPACE}%")


class Style(NamedTuple):
    """How a method looks in all figures."""

    colour: str
    symbol: str
    dash: str


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page and its tables."""
    parser = experiment_parser("search.report", __doc__)
    parser.add_argument("folder", type=Path, help="folder with the rows of experiments.search.integration")
    parser.add_argument("-o", "--output", type=Path, help="HTML file (default: FOLDER/report.html); .md goes beside it")
    options = parser.parse_args(arguments)
    if options.output and (options.output.suffix != ".html" or not options.output.parent.is_dir()):
        raise InputError(f"expected -o FILE.html in an existing folder, got {options.output}")
    output = options.output or options.folder / "report.html"
    page = report(options.folder)
    for path, content in ((output, page.html()), (output.with_suffix(".md"), page_markdown(page))):
        write_atomically(path, content)
        print(path)


def read_runs(folder: Path) -> pd.DataFrame:
    """Return the rows by benchmark; one that a running experiment has half written is left for the next report.

    Numbers that do not apply are NaN. ``name`` is the method with the cells that its predictor learned from,
    ``benchmark`` data set and metric, ``pair`` what a run has in common with the runs that it is compared with;
    ``before`` and ``after`` are the regrets of the answer before and after re-measuring, NaN outside of the bound.

    Raises:
        InputError: there are no rows, or they are not those of ``experiments.search.integration``.
    """
    path, script = folder / "rows.csv", "python -m experiments.search.integration"
    command = f"{script} GRID.yaml -o {folder}"
    if not path.is_file():
        raise InputError(f"expected rows.csv in {folder}, found none; make it with: {command}")
    content = path.read_text(encoding="utf-8")
    reader = csv.DictReader(content[: content.rfind("\n") + 1].splitlines(keepends=True))
    missing = [name for name in (*TEXTS, *NUMBERS) if name not in (reader.fieldnames or ())]
    if missing:
        raise InputError(f"{path} lacks the columns {', '.join(missing)}; expected rows of: {script}")
    rows = list(reader)
    if not rows:
        raise InputError(f"{path} has no rows yet; continue with: {command}")
    for line, row in enumerate(rows, start=2):
        where = f"{path}, row {line}"
        if None in row or None in row.values():
            raise InputError(f"{where}: expected one value for each column of the header, got more or fewer")
        for name, valid in (("status", ("ok", "failed")), ("direction", ("min", "max"))):
            # A run may fail before its metric's direction is determined.
            if row[name] not in valid and (name, row["status"]) != ("direction", "failed"):
                raise InputError(f"{where}: expected {name} to be one of {', '.join(valid)}, got {row[name]!r}")
        row.update({name: _number(row[name], f"{where}: {name}") for name in NUMBERS})
    runs = pd.DataFrame(rows).astype(dict.fromkeys(NUMBERS, float))
    runs["name"] = runs["method"] + runs["cells"].map(lambda cells: f", {cells} cells" if cells else "")
    runs["benchmark"] = runs["metric"] + " on " + runs["dataset"]
    runs["pair"] = runs["benchmark"] + " " + runs["seed"]
    runs["before"] = runs["regret"].mask(runs["violated"] > 0)
    runs["after"] = runs["remeasured_regret"].fillna(runs["before"])
    # Processes finish in any order.
    return runs.sort_values(["dataset", "metric"], key=lambda column: column.str.casefold(), ignore_index=True)


def _number(value: str, where: str) -> float:
    try:
        parsed = float(value or "nan")
    except ValueError:
        parsed = math.inf
    if math.isinf(parsed):
        raise InputError(f"{where}: expected a finite number or nothing, got {value!r}")
    return parsed


def read_config(folder: Path) -> dict[str, Any]:
    """Return the experiment's configuration and versions.

    Raises:
        InputError: the file is missing or of another form.
    """
    try:
        record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        record = None
    if not isinstance(record, dict) or not {"config", "versions"} <= record.keys():
        raise InputError(f"expected config.json in {folder} with config and versions, as the experiment writes it")
    return record


def read_points(path: Path) -> list[tuple[float, float]]:
    """Return a front's points as value and accuracy; none from a file that does not exist.

    Raises:
        InputError: the file has other columns, or no numbers in them.
    """
    if not path.is_file():
        return []
    points = pd.read_csv(path)
    if not {"value", "accuracy"} <= set(points):
        raise InputError(f"{path}: expected the columns value, accuracy, got {', '.join(map(str, points))}")
    try:
        return [(float(x), float(y)) for x, y in points[["value", "accuracy"]].to_numpy()]
    except ValueError as error:
        raise InputError(f"{path}: expected numbers in the columns value, accuracy ({error})") from None


def report(folder: Path) -> Page:
    """Return the page of a folder of rows.

    Raises:
        InputError: there are no rows, or they are not those of ``experiments.search.integration``.
    """
    runs, record = read_runs(folder), read_config(folder)
    page = Page(
        "Searches with and without the plugin", f"python -m experiments.search.report {shlex.quote(str(folder))}"
    )
    methods = list(dict.fromkeys(runs["method"]))
    cells = sorted(set(runs["cells"]), key=lambda count: (count != "", -int(count or 0)))  # many cells: solid lines
    styles = {
        name: Style(
            COLOURS[methods.index(method) % len(COLOURS)],
            SYMBOLS[methods.index(method) % len(SYMBOLS)],
            DASHES[cells.index(count) % len(DASHES)],
        )
        for name, method, count in zip(runs["name"], runs["method"], runs["cells"], strict=True)
    }
    finished = runs[runs["status"] == "ok"]
    _conclusion(page, finished)
    _what_was_run(page, folder, runs, record)
    _times(page, finished[finished["metric_s"].notna()])
    _regrets(page, finished[finished["quantile"].notna()], styles)
    _taus(page, finished[finished["tau"].notna()])
    _fronts(page, folder, finished[finished["hypervolume"].notna()], styles)
    return page


def _conclusion(page: Page, runs: pd.DataFrame) -> None:
    """Begin with what the tables show: the best methods, and what prediction costs."""
    sentences = []
    bounded, fronts = runs[runs["quantile"].notna()], runs[runs["hypervolume"].notna()]
    for rows, column, text_of, best_of in (
        (bounded, bounded["after"], "Under a bound, {0} has the least regret, {1} points", min),
        (fronts, fronts["hypervolume"], "Of the fronts, {0} has the largest hypervolume, {1} of the true one", max),
    ):
        means = {
            name: interquartile_mean(values.dropna().to_numpy())
            for name, values in column.groupby(rows["name"])
            if values.any()
        }
        if means:
            best = best_of(means, key=lambda name: means[name])
            beside = f" ({REFERENCE}: {_rounded(means[REFERENCE])})" if REFERENCE in means and best != REFERENCE else ""
            sentences.append(text_of.format(best, _rounded(means[best])) + beside)
    predicted = runs[runs["predictor_s"] > 0]
    if len(predicted):
        seconds = predicted[[f"{part}_s" for part in PARTS]].sum()
        share, by_cpu = seconds["predictor_s"] / seconds.sum(), _share_of_cpu(predicted)
        beside = "" if by_cpu is None else f", {100 * by_cpu:.1f} % by CPU time"
        sentences.append(f"Predictions take {100 * share:.1f} % of a search's seconds by the clock{beside}")
    if sentences:
        page.paragraph(". ".join(sentences) + " (interquartile means over all runs).")


def _share_of_cpu(rows: pd.DataFrame) -> float | None:
    """Return the predictor's share of the seconds of searches, by its CPU time; None if that was not recorded."""
    cpu_s = rows["predictor_cpu_s"]
    if cpu_s.isna().any():
        return None
    total_s = float((rows["metric_s"] + cpu_s + rows["loop_s"]).sum())
    return float(cpu_s.sum()) / total_s if total_s else None


def _what_was_run(page: Page, folder: Path, runs: pd.DataFrame, record: dict[str, Any]) -> None:
    def listed(values: Iterable[str]) -> str:
        return ", ".join(dict.fromkeys(value for value in values if value))

    failed = runs[runs["status"] == "failed"]
    page.heading("What was run")
    page.facts(
        {
            "benchmarks": listed(runs["benchmark"]),
            "methods": listed(runs["method"]),
            "bounds": listed(f"{_percent(quantile)} quantile" for quantile in sorted(set(runs["quantile"].dropna()))),
            "predictors": listed(f"from {cells} measured cells" for cells in runs["cells"] if cells),
            "seeds": f"{runs['seed'].nunique()}: {listed(runs['seed'])}",
            "runs": f"{len(runs) - len(failed)} done, {len(failed)} failed",
            "versions": listed(f"{name} {version}" for name, version in record["versions"].items()),
            "rows": f"python -m experiments.search.integration GRID.yaml -o {shlex.quote(str(folder))}",
        }
    )
    descriptions = {method.name: method.description for method in (*METHODS, *OTHER_ENGINES, *GUIDED, *ABLATION)}
    page.table(
        "What the names of methods stand for.",
        ["method", "what it is"],
        [[name, descriptions.get(name, "")] for name in dict.fromkeys(runs["method"])],
        words=["what it is"],
    )
    page.listing("config.json", json.dumps(record["config"], indent=2, ensure_ascii=False))
    if len(failed):
        bounds = failed["quantile"].map(_percent)
        page.table(
            "Runs that failed. They are in no other table or figure.",
            ["method", "benchmark", "bound", "seed", "reason"],
            failed.assign(bound=bounds)[["name", "benchmark", "bound", "seed", "error"]].to_numpy().tolist(),
            words=["benchmark", "bound", "seed", "reason"],
        )


def _times(page: Page, runs: pd.DataFrame) -> None:
    if runs.empty:
        return
    means = [(name, rows, [_mean(rows[f"{part}_s"]) for part in PARTS]) for (name,), rows in groups(runs, name=None)]
    longest = max(sum(parts) for _, _, parts in means) or 1.0
    panels = {}
    for title, plugin in (("without the plugin", False), ("with the plugin", True)):
        own = [(name, parts) for name, rows, parts in means if (rows["predictor_s"].fillna(0) > 0).any() == plugin]
        if own:
            panels[title] = bars("seconds", PARTS, own, "s", longest)
    page.heading("Search time")
    page.figure(
        "Seconds of a search: metrics, the predictor with its strings, and everything else. Means over all runs.",
        panels,
    )
    page.table(
        "Search time in seconds, means over all runs. Seconds of metrics are those of the authors' GPU, from their "
        "table. Those of the predictor and of the loop are of this machine's clock, so that other work makes them "
        "larger. They are added all the same. The predictor's share is that of the sum, by the clock and by the CPU "
        "time of its calls, which says more on a machine that others use. Preparation is what training its predictors "
        "takes; measuring a device and training networks are not in it, as tables give them.",
        [
            "method",
            "runs",
            *(f"{part}, s" for part in PARTS),
            "sum, s",
            "predictor's share",
            "by CPU time",
            "preparation, s",
        ],
        [
            [
                *(name, str(len(rows)), *(f"{value:.3f}" for value in (*parts, sum(parts)))),
                f"{100 * parts[1] / sum(parts):.3f} %" if sum(parts) else "",
                "" if (by_cpu := _share_of_cpu(rows)) is None else f"{100 * by_cpu:.3f} %",
                f"{_mean(rows['prepare_s']):.2f}",
            ]
            for name, rows, parts in means
        ],
    )


def _regrets(page: Page, runs: pd.DataFrame, styles: dict[str, Style]) -> None:
    if runs.empty:
        return
    page.heading("Regret under a bound")
    page.paragraph(
        "Regret is the accuracy of the best cell within the bound less that of the answer, in percentage points. An "
        "answer whose true value is outside the bound has none; re-measuring then goes through the search's other "
        "cells until one is truly within."
    )
    quantiles = sorted(set(runs["quantile"]))
    panels = {}
    for (benchmark,), rows in groups(runs, benchmark=None):
        figure = axes("bound, quantile of all cells", "regret, points")
        ticks = {"tickvals": list(range(len(quantiles))), "ticktext": [_percent(q) for q in quantiles]}
        figure.update_layout(xaxis=ticks, yaxis_rangemode="tozero")
        for name, style in styles.items():
            curve = rows[rows["name"] == name]
            summaries = [summarise([curve.loc[curve["quantile"] == q, "after"].dropna().to_numpy()]) for q in quantiles]
            _add_band(figure, name, style, [(x, s) for x, s in enumerate(summaries) if s is not None])
        panels[benchmark] = figure
    page.figure(
        "Regret against the bound, after re-measuring: interquartile means over seeds and their 95 % bootstrap "
        "intervals. The legend shows and hides methods.",
        panels,
        shared_legend=True,
    )
    if len(panels) > 1:
        _regret_table(page, "all benchmarks together", runs)
    for (benchmark,), rows in groups(runs, benchmark=None):
        _regret_table(page, benchmark, rows, fold=len(panels) > 1)


def _add_band(figure: Figure, name: str, style: Style, points: Sequence[tuple[int, Summary]]) -> None:
    """Add a line of interquartile means, and the band of their intervals, which the legend hides together."""
    if not points:
        return
    xs, summaries = [x for x, _ in points], [s for _, s in points]
    around = [s.high for s in summaries] + [s.low for s in summaries][::-1]
    band = {"type": "scatter", "x": xs + xs[::-1], "y": around, "fill": "toself", "fillcolor": style.colour}
    hidden = {"mode": "none", "opacity": 0.13, "showlegend": False, "hoverinfo": "skip"}
    figure.add_trace({**band, **hidden, "name": text(name), "legendgroup": name})
    labels = [hover(name, f"{s.iqm:.2f} ({s.low:.2f} to {s.high:.2f})") for s in summaries]
    look: dict[str, Any] = {
        "mode": "lines+markers",
        "colour": style.colour,
        "symbol": style.symbol,
        "legendgroup": name,
    }
    look["line"] = {"color": style.colour, "dash": style.dash, "width": 1.6}
    figure.add_trace(marks(name, xs, [s.iqm for s in summaries], labels, **look))


def _regret_table(page: Page, title: str, runs: pd.DataFrame, fold: bool = False) -> None:
    lines = []
    for (quantile,), rows in groups(runs, quantile=sorted(set(runs["quantile"]))):
        reference = _by_pair(rows[rows["name"] == REFERENCE])
        for (name,), own in groups(rows, name=None):
            final = _by_pair(own)
            p = paired_p(final, reference) if name != REFERENCE else None
            share = closed(final, reference)
            lines.append(
                [
                    *(name, _percent(quantile), str(len(own))),
                    *(*_summary(own, "before"), f"{100 * own['before'].isna().mean():.1f} %"),
                    *(*_summary(own, "after"), f"{100 * (1 - len(final) / len(own)):.1f} %"),
                    f"{_mean(own['remeasured']):.1f}" if own["remeasured"].notna().any() else "",
                    "" if share is None else f"{_rounded(100 * share, 0)} %",
                    "" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}",
                ]
            )
    both = [f"{when}, {what}" for when in ("before", "after") for what in (*STATISTICS, "outside")]
    page.table(
        f"Regret before and after re-measuring, {title}. Outside: runs without an answer within the bound, which are "
        f"in no mean. Measured: networks until one was within. Against {REFERENCE}, over common seeds and after "
        "re-measuring: how much of its mean regret is closed, and p of Wilcoxon's signed-rank test, not corrected for "
        "the number of tests.",
        ["method", "bound", "runs", *both, "measured", "closed", "p"],
        lines,
        fold=title if fold else "",
    )


def _by_pair(runs: pd.DataFrame) -> dict[str, float]:
    """Return the final regrets by what pairs runs, of those that have one."""
    final = runs.dropna(subset=["after"])
    return dict(zip(final["pair"], final["after"], strict=True))


def _taus(page: Page, runs: pd.DataFrame) -> None:
    if runs.empty:
        return
    benchmarks = list(dict.fromkeys(runs["benchmark"]))
    lines = []
    for (name,), own in groups(runs, name=None):
        summaries = [summarise([own.loc[own["benchmark"] == benchmark, "tau"].to_numpy()]) for benchmark in benchmarks]
        lines.append(
            [name, str(len(own)), *("" if s is None else f"{_rounded(s.iqm)} ({_range(s)})" for s in summaries)]
        )
    page.heading("Ranking what the search generates")
    page.table(
        "Kendall's tau-b of predicted against true values among the architectures that a search generated: "
        "interquartile means over seeds and bounds, and their 95 % intervals.",
        ["method", "runs", *benchmarks],
        lines,
    )


def _fronts(page: Page, folder: Path, runs: pd.DataFrame, styles: dict[str, Style]) -> None:
    if runs.empty:
        return
    page.heading("Fronts")
    panels, drawn = {}, []
    for (benchmark,), rows in groups(runs, benchmark=None):
        first = rows.iloc[0]
        fronts = {}
        for (name,), own in groups(rows, name=None):
            median = own.iloc[np.argsort(own["hypervolume"].to_numpy(), kind="stable")[len(own) // 2]]
            fronts[name] = read_points(folder / median["folder"] / "front.csv") if median["folder"] else []
        true = read_points(folder / "true-fronts" / f"{first['dataset']}-{first['metric']}.csv")
        if true or any(fronts.values()):
            panels[benchmark] = front_figure(fronts, true, first, styles)
            for name, points in {"true front": true, **fronts}.items():
                drawn += [[name, benchmark, f"{x:.4g}", f"{y:.2f}"] for x, y in points]
    if panels:
        page.figure(
            "True values of the fronts of the searches, beside the true front but for its lowest "
            "quarter: of each method the run with the median hypervolume. The legend shows and hides methods.",
            panels,
            shared_legend=True,
            table=(["method", "benchmark", "value", "accuracy, %"], drawn, ["benchmark"]),
        )
    benchmarks = list(groups(runs, benchmark=None))
    if len(benchmarks) > 1:
        _front_table(page, "all benchmarks together", runs)
    for (benchmark,), rows in benchmarks:
        _front_table(page, benchmark, rows, fold=len(benchmarks) > 1)


def front_figure(
    fronts: dict[str, list[tuple[float, float]]],
    true: list[tuple[float, float]],
    run: pd.Series[Any],
    styles: dict[str, Style],
) -> Figure:
    """Draw fronts as points beside the true front, a staircase: the possible points are below it.

    Its lowest quarter is left out: these networks compute next to nothing, at the accuracy of chance, and would take
    most of the figure.
    """
    figure = axes(", ".join(filter(None, (run["metric"], run["unit"]))), "accuracy, %")
    lowest = sorted(y for _, y in true)[len(true) // 4] if true else -math.inf
    shown = sorted(point for point in true if point[1] >= lowest)
    # The best accuracy under a bound is that of the last point which keeps it.
    line = {"color": "#8a837b", "width": 1.4, "shape": "hv" if run["direction"] == "min" else "vh"}
    labels = [hover("true front", f"{x:.4g}, {y:.2f}") for x, y in shown]
    figure.add_trace(marks("true front", *_columns(shown), labels, mode="lines", line=line))
    for name, points in fronts.items():
        kept = [point for point in points if point[1] >= lowest]
        labels = [hover(name, f"{x:.4g}, {y:.2f}") for x, y in kept]
        style = styles[name]
        symbol = style.symbol + ("-open" if style.dash != "solid" else "")
        figure.add_trace(marks(name, *_columns(kept), labels, colour=style.colour, symbol=symbol))
    return figure


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _front_table(page: Page, title: str, runs: pd.DataFrame, fold: bool = False) -> None:
    names = {"hypervolume": "hypervolume", "igd_plus": "IGD+"}
    page.table(
        f"Normalised hypervolume of a front's true values, as a fraction of the true front's (1 is best), and IGD+, "
        f"its distance from the true front (0 is best; Ishibuchi 2015), {title}.",
        ["method", "runs", *(f"{name}, {what}" for name in names.values() for what in STATISTICS), "size"],
        [
            [
                name,
                str(len(own)),
                *(cell for column in names for cell in _summary(own, column, 3)),
                f"{_mean(own['front']):.1f}",
            ]
            for (name,), own in groups(runs, name=None)
        ],
        fold=title if fold else "",
    )


def _summary(runs: pd.DataFrame, column: str, digits: int = 2) -> list[str]:
    """Return mean, IQM and interval of a column of runs, resampled within their benchmarks."""
    values = [rows[column].dropna().to_numpy() for _, rows in groups(runs, benchmark=None)]
    summary = summarise(values)
    if summary is None:
        return ["", "", ""]
    repeated = max(map(len, values)) > 1  # one seed has no interval
    return [_rounded(summary.mean, digits), _rounded(summary.iqm, digits), _range(summary, digits) if repeated else ""]


def _range(summary: Summary, digits: int = 2) -> str:
    return f"{_rounded(summary.low, digits)} to {_rounded(summary.high, digits)}"


def _rounded(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _mean(column: pd.Series[float]) -> float:
    """Return the mean of the numbers in a column; 0 if there are none."""
    return float(column.mean()) if column.notna().any() else 0.0


def _percent(quantile: float) -> str:
    return "" if math.isnan(quantile) else f"{100 * quantile:g} %"


def page_markdown(page: Page) -> str:
    """Return a page as Markdown, with the values of figures instead of these, where it has them."""
    parts = [f"# {_plain(page.title)}"]
    for block in page.blocks:
        content = block.content
        if block.kind == "heading":
            parts.append(f"## {_plain(content['text'])}")
        elif block.kind == "paragraph":
            parts.append(_plain(content["text"]))
        elif block.kind == "facts":
            parts.append("\n".join(f"- {_plain(name)}: {_plain(value)}" for name, value in content["facts"].items()))
        elif block.kind == "listing":
            parts.append("\n".join(f"    {line}" for line in content["text"].splitlines()))
        table = content.get("table") if block.kind == "figure" else content if block.kind == "table" else None
        if table is not None:
            shown = markdown(list(map(_plain, table["header"])), [list(map(_plain, row)) for row in table["rows"]])
            parts.append(f"{content['label']} {_plain(content['caption'])} Made by `{page.command}`.\n\n{shown}")
    return "\n\n".join(parts) + "\n"


def _plain(value: str) -> str:
    """Return text that Markdown shows literally, on one line, in a table, too."""
    return escape(" ".join(value.split()), quote=False).replace("|", "\\|")


if __name__ == "__main__":
    as_command(main)
