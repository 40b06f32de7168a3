"""A run, read back from its folder: as a history, as tables, and as a printed report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from freerea_seval.config import Config, MetricSection
from freerea_seval.progress import printable
from freerea_seval.runs.folder import RunFolder, from_json, read_history
from freerea_seval.runs.pick import Pick, recommend

if TYPE_CHECKING:
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


def pick_of(folder: RunFolder) -> Pick | None:
    """Return the recommended network of a finished run; None if there is no network."""
    front = front_table(folder)
    return recommend(folder.config, front) if len(front) else None


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

    names = list(dict.fromkeys([*(name for row in rows for name in row), *columns]))
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
    reported = {_quantity(s): s.column for s in config.report if not is_predicted(config, s)}
    predicted = [s for s in config.objectives if is_predicted(config, s)]
    return learned + [(s.column, reported[_quantity(s)]) for s in predicted if _quantity(s) in reported]


def _quantity(section: MetricSection) -> str:
    """Return what a metric measures: its name without the unit that names of columns end with, as in ``latency_ms``."""
    return section.metric.removesuffix(f"_{section.unit}") if section.unit else section.metric


def print_report(folder: RunFolder, console: Console) -> None:
    """Print the front of every seed; for several seeds of a summed score, the best network of each.

    Raises:
        InputError: a seed is not finished, or a file of the run is damaged.
    """
    config, results = folder.config, folder.results()
    pick = pick_of(folder)
    numbers = count()
    rows = [[{"#": next(numbers), "seed": r["seed"], **row} for row in r["front"]] for r in results]
    if len(results) > 1 and not is_pareto(config):
        best = [of_seed[0] for of_seed in rows if of_seed]
        _print_rows(config, console, f"the best network of each of {len(results)} seeds", ["#", "seed"], best, pick)
        lines = list(_over_seeds(config, results))
    else:
        lines = []
        for result, of_seed in zip(results, rows, strict=True):
            kind = "front" if is_pareto(config) else "best"
            title = f"seed {result['seed']}: the {kind} of {result['explored']} networks"
            if result["measured"] is not None:
                title += f", of which {result['measured']} were measured"
            if result["stopped"] == "exhausted":
                title += "; it ran out of new ones"
            if result["stopped"] == "patience":
                title += f"; it ended after {config.budget.patience} infeasible candidates in a row"
            _print_rows(config, console, title, ["#"], of_seed, pick)
            lines += _summary(config, result)
    if pick is not None:
        lines.insert(0, f"* the pick, number {pick.row}: {pick.reason}")
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


def _print_rows(
    config: Config,
    console: Console,
    title: str,
    numbers: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    pick: Pick | None,
) -> None:
    """Print a table of metrics, and the genotypes, which are too long for it, below.

    A table that is wider than the console is printed in parts, each with the ``numbers`` of the rows, so that no value
    is cut.
    """
    console.print(title, style="bold", highlight=False)  # a title of the table would wrap to the table's width
    scored = [("score", "score")] if any("score" in row for row in rows) else []
    metrics = [*scored, *((s.column, label(config, s)) for s in sections_of(config))]
    metrics += [(f"{s.column}_predicted", f"{s.column}, predicted") for s in config.objectives if config.is_learned(s)]
    rows = [{**row, "#": f"{row['#']}{'*' if pick is not None and row['#'] == pick.row else ''}"} for row in rows]
    leading = [_Column(name, [str(row[name]) for row in rows]) for name in numbers]
    # A heading may break at its underscores, so that more columns fit.
    columns = [
        _Column(printable(heading.replace("_", " ")), [_cell(row.get(name)) for row in rows])
        for name, heading in metrics
    ]
    _print_parts(leading, columns, console)
    for row in rows:
        console.print(f"{row['#']:>3}  {printable(row['genotype'])}", highlight=False, markup=False, soft_wrap=True)


def print_table(table: DataFrame, console: Console) -> None:
    """Print a table whose first column names the rows, in parts if it is wide; a value that is missing is empty."""

    def cell(value: object) -> str:
        if isinstance(value, float):
            return "" if np.isnan(value) else _cell(value)
        return printable(str(value))

    leading, *columns = (
        _Column(printable(str(name).replace("_", " ")), [cell(value) for value in table[name].tolist()])
        for name in table
    )
    _print_parts([leading], columns, console)


def _print_parts(leading: Sequence[_Column], columns: Sequence[_Column], console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    for part in _parts(leading, columns, console.width):
        table = Table()
        for column, width in part:
            table.add_column(Text(column.heading, overflow="fold"), justify="right", width=width)
        for cells in zip(*(column.cells for column, _ in part), strict=True):
            table.add_row(*(Text(cell, no_wrap=True) for cell in cells))
        console.print(table)


class _Column(NamedTuple):
    """A column of a printed table."""

    heading: str
    cells: list[str]

    @property
    def width(self) -> int:
        """Characters that it needs: no cell is cut, and no word of the heading that is not very long."""
        word = max(map(len, self.heading.split()), default=0)
        return max(min(word, _LONGEST_WORD), *map(len, self.cells), 1)


#: Longer words of a heading are broken.
_LONGEST_WORD = 20


def _parts(leading: Sequence[_Column], columns: Sequence[_Column], most: int) -> Iterator[list[tuple[_Column, int]]]:
    """Yield the columns of each part of a table with their widths; a column takes three characters more.

    Args:
        leading: the columns with which every part begins.
        columns: the others.
        most: characters of a line.
    """
    rest = list(columns)
    while True:
        part, room = list(leading), most - 1 - sum(column.width + 3 for column in leading)
        while rest and (len(part) == len(leading) or rest[0].width + 3 <= room):
            room -= rest[0].width + 3
            part.append(rest.pop(0))
        widths = []
        for column in part:  # what is left goes to headings that would break
            more = max(0, min(room, len(column.heading) - column.width))
            widths.append((column, column.width + more))
            room -= more
        yield widths
        if not rest:
            return


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
