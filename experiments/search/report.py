"""One page of what searches with and without the plugin found: read from raw rows, as HTML and as Markdown.

``python -m experiments.search.report FOLDER [-o report.html]``, on the folder of
``python -m experiments.search.integration``
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar, cast

from experiments.search.page.document import Document
from experiments.search.page.figures import Band, Bar, Look, bands, bars, fronts, key, legend
from experiments.search.page.runs import Line, Run, name_of, read_config, read_points, read_runs, title_of
from experiments.search.page.statistics import Summary, closed, paired_p, summarise
from experiments.tables import as_command
from freerea_patch import InputError
from freerea_seval.files import write_atomically

K = TypeVar("K")

#: What methods are compared with: the best that any predictor could do for FreeREA's loop.
REFERENCE: Line = ("freerea+true", "")
_PARTS = ("metric", "predictor", "loop")
#: What tables tell of several runs.
_TOLD = ("mean", "IQM", "95\N{NO-BREAK SPACE}%")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page and its tables."""
    parser = argparse.ArgumentParser(prog="python -m experiments.search.report", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with the rows of experiments.search.integration")
    parser.add_argument("-o", "--output", type=Path, help="HTML file (default: FOLDER/report.html); .md goes beside it")
    options = parser.parse_args(arguments)
    if options.output and (options.output.suffix != ".html" or not options.output.parent.is_dir()):
        raise InputError(f"expected -o FILE.html in a folder that is there, got {options.output}")
    output = options.output or options.folder / "report.html"
    html, text = report(options.folder)
    for path, content in ((output, html), (output.with_suffix(".md"), text)):
        write_atomically(path, content)
        print(path)


def report(folder: Path) -> tuple[str, str]:
    """Return the page of a folder of rows, as HTML and as Markdown.

    Raises:
        InputError: there are no rows, or they are not those of ``experiments.search.integration``.
    """
    runs, record = read_runs(folder), read_config(folder)
    done = [run for run in runs if run.status == "ok"]
    document = Document(
        "Searches with and without the plugin", f"python -m experiments.search.report {shlex.quote(str(folder))}"
    )
    looks = looks_of(runs)
    _what_was_run(document, folder, runs, record)
    _times(document, done, looks)
    _regrets(document, done, looks)
    _taus(document, done, looks)
    _fronts(document, folder, done, looks)
    return document.page(len(looks)), document.text()


def looks_of(runs: Iterable[Run]) -> dict[Line, Look]:
    """Return how lines look, in order of appearance: a colour and a marker a method, dashes by measured cells."""
    lines = list(dict.fromkeys(run.line for run in runs))
    methods = list(dict.fromkeys(method for method, _ in lines))
    cells = sorted({cells for _, cells in lines}, key=lambda text: (len(text), text), reverse=True)
    solid_first = [""] + [text for text in cells if text]
    return {
        line: Look(name_of(line), methods.index(line[0]), solid_first.index(line[1]), place)
        for place, line in enumerate(lines)
    }


def _what_was_run(document: Document, folder: Path, runs: Sequence[Run], record: Mapping[str, object]) -> None:
    failed = [run for run in runs if run.status == "failed"]

    def listed(values: Iterable[str]) -> str:
        return ", ".join(dict.fromkeys(value for value in values if value))

    bounds = sorted({run.numbers["quantile"] for run in runs if "quantile" in run.numbers})
    versions = cast(Mapping[str, object], record["versions"])
    document.heading("What was run")
    document.facts(
        {
            "benchmarks": listed(title_of(run.benchmark) for run in runs),
            "methods": listed(run.method for run in runs),
            "bounds": listed(f"{100 * bound:g} % quantile" for bound in bounds),
            "predictors": listed(f"from {run.cells} measured cells" for run in runs if run.cells),
            "seeds": f"{len({run.seed for run in runs})}: {listed(run.seed for run in runs)}",
            "runs": f"{len(runs) - len(failed)} done, {len(failed)} failed",
            "versions": listed(f"{name} {version}" for name, version in versions.items()),
            "rows": f"python -m experiments.search.integration GRID.yaml -o {shlex.quote(str(folder))}",
        }
    )
    document.listing("config.json", json.dumps(record["config"], indent=2, ensure_ascii=False))
    if failed:
        lines = [[name_of(r.line), title_of(r.benchmark), _percent(r), r.seed, r.error] for r in failed]
        document.table(
            "Runs that failed. They are in no other table or figure.",
            ["method", "benchmark", "bound", "seed", "reason"],
            lines,
            texts=5,
        )


def _times(document: Document, runs: Sequence[Run], looks: Mapping[Line, Look]) -> None:
    timed = [run for run in runs if "metric_s" in run.numbers]
    groups: dict[bool, list[Bar]] = {False: [], True: []}
    lines = []
    for line, some in _by(timed, lambda run: run.line, looks).items():
        parts = [_mean(some, f"{part}_s") for part in _PARTS]
        plugin = any(run.numbers.get("predictor_s") for run in some)
        groups[plugin].append(Bar(name_of(line), parts))
        share = f"{100 * parts[1] / sum(parts):.3f} %" if sum(parts) else ""
        numbers = [f"{value:.3f}" for value in (*parts, sum(parts))]
        lines.append([name_of(line), str(len(some)), *numbers, share, f"{_mean(some, 'prepare_s'):.2f}"])
    if not timed:
        return
    document.heading("Search time")
    longest = max(sum(bar.parts) for some in groups.values() for bar in some) or 1.0
    titles = {False: "without the plugin", True: "with the plugin"}
    document.figure(
        "Seconds of a search: metrics, the predictor with its strings, and all else. Means over all runs.",
        [(titles[p], bars(f"search time {titles[p]}", b, _PARTS, longest)) for p, b in groups.items() if b],
        key(_PARTS),
    )
    document.table(
        "Search time in seconds, means over all runs. The predictor's share is that of the sum. Preparation is what "
        "training its predictors takes; measuring a device and training networks are not in it, as tables give them.",
        ["method", "runs", *(f"{part}, s" for part in _PARTS), "sum, s", "predictor's share", "preparation, s"],
        lines,
    )


def _regrets(document: Document, runs: Sequence[Run], looks: Mapping[Line, Look]) -> None:
    bound = [run for run in runs if "quantile" in run.numbers]
    if not bound:
        return
    document.heading("Regret under a bound")
    document.paragraph(
        "Regret is the accuracy of the best cell within the bound less that of the answer, in percentage points. An "
        "answer whose true value is outside the bound has none; re-measuring then goes through the search's other "
        "cells until one is truly within."
    )
    quantiles = sorted({run.numbers["quantile"] for run in bound})
    x_ticks = [(float(place), f"{100 * quantile:g} %") for place, quantile in enumerate(quantiles)]
    panels = []
    for benchmark, some in _by(bound, lambda run: run.benchmark).items():
        series = []
        for line, own in _by(some, lambda run: run.line, looks).items():
            summaries = [summarise([_within(own, quantile)]) for quantile in quantiles]
            points = [(float(place), s) for place, s in enumerate(summaries) if s]
            if points:
                series.append(
                    Band(
                        looks[line],
                        [place for place, _ in points],
                        [s.iqm for _, s in points],
                        [s.low for _, s in points],
                        [s.high for _, s in points],
                    )
                )
        if series:
            drawn = bands(
                f"regret, {title_of(benchmark)}", series, x_ticks, "bound, quantile of all cells", "regret, points"
            )
            panels.append((title_of(benchmark), drawn))
    if panels:
        shown = [looks[line] for line in _by(bound, lambda run: run.line, looks)]
        document.figure(
            "Regret against the bound, after re-measuring: interquartile means over seeds and their 95 % bootstrap "
            "intervals. The boxes show and hide methods.",
            panels,
            legend(shown, lines=True),
        )
    benchmarks = _by(bound, lambda run: run.benchmark)
    if len(benchmarks) > 1:
        _regret_table(document, "all benchmarks together", bound, looks)
    for benchmark, some in benchmarks.items():
        _regret_table(document, title_of(benchmark), some, looks, fold=len(benchmarks) > 1)


def _within(runs: Iterable[Run], quantile: float) -> list[float]:
    """Return the regrets within one bound, of runs that have one."""
    return [r for run in runs if run.numbers["quantile"] == quantile and (r := run.within) is not None]


def _regret_table(
    document: Document, title: str, runs: Sequence[Run], looks: Mapping[Line, Look], fold: bool = False
) -> None:
    lines = []
    for quantile, some in sorted(_by(runs, lambda run: run.numbers["quantile"]).items()):
        reference = {run.pair: r for run in some if run.line == REFERENCE and (r := run.within) is not None}
        for line, own in _by(some, lambda run: run.line, looks).items():
            final = {run.pair: r for run in own if (r := run.within) is not None}
            p = paired_p(final, reference) if line != REFERENCE else None
            outside = sum(run.at_once is None for run in own)
            lines.append(
                [
                    name_of(line),
                    f"{100 * quantile:g} %",
                    str(len(own)),
                    *_summary(_summed(own, lambda run: run.at_once)),
                    f"{100 * outside / len(own):.1f} %",
                    *_summary(_summed(own, lambda run: run.within)),
                    f"{100 * (1 - len(final) / len(own)):.1f} %",
                    f"{_mean(own, 'remeasured'):.1f}" if any("remeasured" in run.numbers for run in own) else "",
                    "" if (share := closed(final, reference)) is None else f"{_rounded(100 * share, 0)} %",
                    "" if p is None else _p(p),
                ]
            )
    both = [f"{when}, {what}" for when in ("before", "after") for what in (*_TOLD, "outside")]
    document.table(
        f"Regret before and after re-measuring, {title}. Outside: runs without an answer within the bound, which no "
        f"mean has. Measured: networks until one was within. Against {name_of(REFERENCE)}, over common seeds and after "
        "re-measuring: how much of its mean regret is closed, and p of Wilcoxon's signed-rank test, not corrected for "
        "the number of tests.",
        ["method", "bound", "runs", *both, "measured", "closed", "p"],
        lines,
        fold=title if fold else "",
    )


def _taus(document: Document, runs: Sequence[Run], looks: Mapping[Line, Look]) -> None:
    known = [run for run in runs if "tau" in run.numbers]
    if not known:
        return
    benchmarks = list(_by(known, lambda run: run.benchmark))
    lines = []
    for line, own in _by(known, lambda run: run.line, looks).items():
        cells = []
        for benchmark in benchmarks:
            summary = summarise([[run.numbers["tau"] for run in own if run.benchmark == benchmark]])
            cells.append("" if summary is None else f"{_rounded(summary.iqm)} ({_range(summary)})")
        lines.append([name_of(line), str(len(own)), *cells])
    document.heading("Ranking what the search generates")
    document.table(
        "Kendall's tau-b of predicted against true values among the architectures that a search generated: "
        "interquartile means over seeds and bounds, and their 95 % intervals.",
        ["method", "runs", *(title_of(benchmark) for benchmark in benchmarks)],
        lines,
    )


def _fronts(document: Document, folder: Path, runs: Sequence[Run], looks: Mapping[Line, Look]) -> None:
    known = [run for run in runs if "hypervolume" in run.numbers]
    if not known:
        return
    document.heading("Fronts")
    benchmarks = _by(known, lambda run: run.benchmark)
    panels, shown = [], set()
    for benchmark, some in benchmarks.items():
        series = []
        for line, own in _by(some, lambda run: run.line, looks).items():
            volumes = [run.numbers.get("remeasured_hypervolume", run.numbers["hypervolume"]) for run in own]
            median = own[sorted(range(len(own)), key=volumes.__getitem__)[len(own) // 2]]
            points = read_points(folder / median.folder / "front.csv") if median.folder else []
            if points:
                series.append((looks[line], points))
                shown.add(line)
        true = read_points(folder / "true-fronts" / f"{'-'.join(benchmark)}.csv")
        if series or true:
            title, label = title_of(benchmark), ", ".join(filter(None, (benchmark[1], some[0].unit)))
            drawn = fronts(f"fronts, {title}", series, true, some[0].direction, label, "accuracy, %")
            panels.append((title, drawn))
    if panels:
        document.figure(
            "True values of the fronts that searches found, leaders included, beside the true front but for its lowest "
            "quarter: of each method the run with the median hypervolume. The boxes show and hide methods.",
            panels,
            legend([look for line, look in looks.items() if line in shown], lines=False, true_front=True),
        )
    if len(benchmarks) > 1:
        _front_table(document, "all benchmarks together", known, looks)
    for benchmark, some in benchmarks.items():
        _front_table(document, title_of(benchmark), some, looks, fold=len(benchmarks) > 1)


def _front_table(
    document: Document, title: str, runs: Sequence[Run], looks: Mapping[Line, Look], fold: bool = False
) -> None:
    lines = []
    for line, own in _by(runs, lambda run: run.line, looks).items():
        volume = _summary(_summed(own, lambda run: run.numbers["hypervolume"]), 3)
        distance = _summary(_summed(own, lambda run: run.numbers.get("igd_plus")), 3)
        joined = _summary(_summed(own, lambda run: run.numbers.get("remeasured_hypervolume")), 3)
        lines.append([name_of(line), str(len(own)), *volume, *distance, *joined, f"{_mean(own, 'front'):.1f}"])
    names = ("hypervolume", "IGD+", "hypervolume with leaders")
    columns = [f"{name}, {what}" for name in names for what in _TOLD]
    document.table(
        f"Normalised hypervolume of a found front's true values, as a fraction of the true front's (1 is best), and "
        f"IGD+, its distance from the true front (0 is best; Ishibuchi 2015), {title}. With leaders: once the best of "
        "the networks that were measured on the way have joined it. Size: networks, with them.",
        ["method", "runs", *columns, "size"],
        lines,
        fold=title if fold else "",
    )


def _by(runs: Iterable[Run], key: Callable[[Run], K], order: Iterable[K] = ()) -> dict[K, list[Run]]:
    """Group runs, in a given order or in that of their appearance."""
    groups: dict[K, list[Run]] = {value: [] for value in order}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return {value: some for value, some in groups.items() if some}


def _summed(runs: Iterable[Run], value: Callable[[Run], float | None]) -> Summary | None:
    """Sum up what runs have of a value, benchmark by benchmark."""
    groups = _by(runs, lambda run: run.benchmark).values()
    return summarise([[v for run in some if (v := value(run)) is not None] for some in groups])


def _summary(summary: Summary | None, digits: int = 2) -> list[str]:
    if summary is None:
        return ["", "", ""]
    return [_rounded(summary.mean, digits), _rounded(summary.iqm, digits), _range(summary, digits)]


def _range(summary: Summary, digits: int = 2) -> str:
    return f"{_rounded(summary.low, digits)} to {_rounded(summary.high, digits)}"


def _rounded(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _mean(runs: Iterable[Run], name: str) -> float:
    """Return the mean of a number over the runs that have it; 0 if none has."""
    values = [run.numbers[name] for run in runs if name in run.numbers]
    return sum(values) / len(values) if values else 0.0


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _percent(run: Run) -> str:
    return f"{100 * run.numbers['quantile']:g} %" if "quantile" in run.numbers else ""


if __name__ == "__main__":
    as_command(main)
