"""Runs side by side: what their results are worth on metrics that all of them have, over their seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from freerea_patch import InputError, unknown_name
from freerea_patch.history import Floats, normalised
from freerea_seval.config import MetricSection
from freerea_seval.runs.folder import RunFolder
from freerea_seval.runs.report import front_table, sections_of
from freerea_seval.runs.statistics import paired_p, require_scipy, summarise

if TYPE_CHECKING:
    from pandas import DataFrame

#: The reference point of hypervolumes, with the best of all runs at 0 and the worst at 1 (Ishibuchi 2018).
REFERENCE = 1.1
#: Hypervolumes take exponential time in the number of axes.
MOST_AXES = 6
#: Wilcoxon's signed-rank test cannot tell fewer pairs apart at a level of 5 %.
FEWEST_PAIRS = 6


def compare_runs(folders: Sequence[RunFolder], metrics: Sequence[str] = ()) -> DataFrame:
    """Return a row a run: what it explored, what that took, and the quality of its result, means over seeds.

    Results are compared by values, not by scores, which are normalised within each run: on one metric by the best value
    of a result, on several by its hypervolume (Zitzler 1998) on axes that are normalised to the range of all results.

    Args:
        folders: at least two finished runs.
        metrics: columns of the results to compare, which have a direction; by default the Pareto objectives and the
            reported metrics that every run has, and without these the fitness terms.

    Returns:
        Columns ``run``, ``algorithm``, ``seeds``, ``networks`` and ``metric_s`` (means a seed), ``quality`` (the best
        value, or the hypervolume) and ``deviation`` over seeds; ``iqm``, ``low`` and ``high``: its interquartile mean
        over seeds and the 95 % bootstrap interval of that (Agarwal 2021), NaN of one seed; and ``p``: of Wilcoxon's
        signed-rank test against the first run on seeds that both have, NaN where these are fewer than six.
        ``attrs["quality"]`` says what is compared.

    Raises:
        InputError: fewer than two runs, an unfinished one, or no metric that all of them have; or runs of several seeds
            without SciPy.
    """
    return comparison(folders, metrics).table


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        axes: the sections of the compared metrics, as the first run has them.
        results: ``(n, m)`` values of the networks of each run's result.
        qualities: of each run, the quality by seed.
        table: see :func:`compare_runs`.
    """

    axes: list[MetricSection]
    results: list[Floats]
    qualities: list[dict[int, float]]
    table: DataFrame


def comparison(folders: Sequence[RunFolder], metrics: Sequence[str] = ()) -> Comparison:
    """Lay runs side by side; see :func:`compare_runs`."""
    from pandas import DataFrame

    if len(folders) < 2:
        raise InputError(f"expected two or more runs to compare, got {len(folders)}")
    tables = [front_table(folder) for folder in folders]
    axes = _axes(folders, tables, metrics)
    signs = np.array([1.0 if section.direction == "max" else -1.0 for section in axes])
    points = [table[[section.column for section in axes]].to_numpy(float) * signs for table in tables]
    seeds = [table["seed"].to_numpy(int) for table in tables]
    if len(axes) == 1:
        qualities = [_by_seed(s, p, lambda q: float(q.max())) for s, p in zip(seeds, points, strict=True)]
        sign, quality = float(signs[0]), f"best {axes[0].column} {axes[0].unit or ''}".rstrip()
    else:
        everyone = np.concatenate(points)
        if np.isfinite(everyone).all(axis=1).any():
            everyone = normalised(everyone)
        costs = np.split(1 - everyone, np.cumsum([len(p) for p in points])[:-1])
        qualities = [_by_seed(s, c, _hypervolume) for s, c in zip(seeds, costs, strict=True)]
        sign, quality = 1.0, f"hypervolume of {', '.join(section.column for section in axes)}"
    qualities = [{seed: sign * value for seed, value in values.items()} for values in qualities]
    if any(len(values) > 1 for values in qualities):
        require_scipy()
    rows = []
    for folder, values in zip(folders, qualities, strict=True):
        results = list(folder.results())
        known = np.array(list(values.values()))
        summary = summarise([known]) if len(known) > 1 else None
        common = len(values.keys() & qualities[0].keys())
        p = paired_p(values, qualities[0]) if common >= FEWEST_PAIRS and folder is not folders[0] else None
        rows.append(
            {
                "run": folder.path.name,
                "algorithm": folder.config.search.algorithm,
                "seeds": len(results),
                "networks": float(np.mean([result["explored"] for result in results])),
                "metric_s": float(np.mean([result["metric_s"] for result in results])),
                "quality": float(known.mean()) if len(known) else np.nan,
                "deviation": float(known.std(ddof=1)) if len(known) > 1 else np.nan,
                "iqm": np.nan if summary is None else summary.iqm,
                "low": np.nan if summary is None else summary.low,
                "high": np.nan if summary is None else summary.high,
                "p": np.nan if p is None else p,
            }
        )
    table = DataFrame(rows)
    table.attrs["quality"] = quality
    return Comparison(axes, [p * signs for p in points], qualities, table)


def _axes(folders: Sequence[RunFolder], tables: Sequence[DataFrame], metrics: Sequence[str]) -> list[MetricSection]:
    """Return the sections of the metrics to compare, as the first run has them."""
    shared: dict[str, MetricSection] = {}
    for section in sections_of(folders[0].config):
        others = [{s.column: s for s in sections_of(folder.config)} for folder in folders]
        if section.direction is None or not all(section.column in table for table in tables):
            continue
        same = [sections.get(section.column) for sections in others]
        if all(s is not None and s.direction == section.direction and s.unit == section.unit for s in same):
            shared[section.column] = section
    for name in metrics:
        if name not in shared:
            raise unknown_name("metric that all runs have, with one direction and unit:", name, shared)
    roles = {name: getattr(section, "role", "report") for name, section in shared.items()}
    names = list(metrics) or [name for name, role in roles.items() if role in ("pareto", "report")]
    names = names or [name for name, role in roles.items() if role == "fitness"]
    if not names:
        raise InputError(
            "the runs have no metric in common that has a direction; give each the same 'report:', such as accuracy"
        )
    if len(names) > MOST_AXES:
        raise InputError(
            f"the runs have {len(names)} metrics in common: {', '.join(names)}; choose at most {MOST_AXES}"
        )
    return [shared[name] for name in names]


def _hypervolume(costs: Floats) -> float:
    from moocore import hypervolume

    return float(hypervolume(costs, ref=np.full(costs.shape[1], REFERENCE)))


def _by_seed(seeds: npt.NDArray[np.int64], points: Floats, measure: Callable[[Floats], float]) -> dict[int, float]:
    """Return a measure of the points of each seed that has a finite one."""
    finite = np.isfinite(points).all(axis=1)
    return {int(s): measure(points[finite & (seeds == s)]) for s in np.unique(seeds) if (finite & (seeds == s)).any()}
