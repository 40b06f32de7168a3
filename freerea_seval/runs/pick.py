"""The network of a result that is recommended, and why: the knee of a front, or the best score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from freerea_patch import InputError
from freerea_patch.history import Floats, aggregate, normalised
from freerea_seval.config import Config, ObjectiveSection

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Pick:
    """The recommended network.

    Attributes:
        row: its row in the result.
        reason: why it is recommended, in one sentence.
    """

    row: int
    reason: str


def recommend(config: Config, front: DataFrame, seed: int | None = None) -> Pick:
    """Return the network of a result that is recommended.

    With Pareto objectives, it is the knee of the front, see :func:`knee`, on the axes that the search selects by: the
    score, if there is one, and the Pareto objectives. Otherwise, it is the network with the best score; what is
    reported is within the bounds. Scores of several seeds are normalised anew, over the results of all of them.

    Args:
        config: of the run.
        front: the results of all seeds, as :func:`~freerea_seval.runs.report.front_table` returns them.
        seed: recommend a result of this seed only.

    Raises:
        InputError: there is no such result.
    """
    rows = front if seed is None else front[front["seed"] == seed]
    if not len(rows):
        of_seed = "" if seed is None else f" of seed {seed}; expected one of {', '.join(map(str, config.search.seeds))}"
        raise InputError(f"there is no network to recommend{of_seed}")
    pareto = [s for s in config.objectives if s.role == "pareto"]
    seeds = rows["seed"].nunique()
    scores = rows["score"].to_numpy(float) if seeds == 1 and "score" in rows else _scores(config, rows)
    axes = [] if scores is None else [scores]
    axes += [_oriented(section, rows) for section in pareto]
    if not axes:
        return Pick(int(rows.index[0]), "the first network within the bounds, as no objective ranks them")
    if pareto:
        position, reason = knee(np.column_stack(axes))
    else:
        # Of several seeds, the best network of each is reported, which comes first.
        hidden = np.isnan(axes[0]) | (rows["seed"].duplicated().to_numpy(bool) & (seeds > 1))
        position = int(np.argmax(np.where(hidden, -np.inf, axes[0])))
        bounded = any(s.role == "constraint" for s in config.objectives)
        reason = f"the best score{' within the bounds' if bounded else ''}"
    if seeds > 1:
        reason += f", of {seeds} seeds"
    chosen = rows.iloc[position]
    values = [f"score {chosen['score']:.5g}"] if "score" in rows else []
    values += [f"{s.column} {chosen[s.column]:.5g} {s.unit or ''}".rstrip() for s in pareto]
    return Pick(int(rows.index[position]), f"{reason}: {', '.join(values)}")


def knee(points: Floats) -> tuple[int, str]:
    """Return the position of the knee of a front, and what it is.

    The axes are normalised to the range of the front. On two axes, the knee is the point that lies farthest beyond the
    line through the ends of the front (Das 1999, "On characterizing the knee of the Pareto curve"). Where no point lies
    beyond it, the front has no knee, and the point whose worst axis is best is the compromise (Wierzbicki 1980).

    It is the pick on more than two axes, too. There, axes often agree, such as latency and parameters. A distance from
    a hyperplane counts what they have in common twice, so that it is largest at an end of the front; the worst axis is
    the same however many agree. The sum of all axes decides between points that are equal by their worst.

    Args:
        points: ``(n, m)`` oriented points, n at least 1; one with a NaN or infinite coordinate is not the knee.
    """
    rows = np.flatnonzero(np.isfinite(points).all(axis=1))
    if len(rows) < 2:
        return int(rows[0]) if len(rows) else 0, "the only network of the front"
    axes = normalised(points[rows])
    axes = axes[:, (axes < 1).any(axis=0)]  # without those on which all are equal
    if axes.shape[1] == 0:
        return int(rows[0]), "the first of equal networks"
    if axes.shape[1] == 1:
        return int(rows[axes.argmax()]), "the best on the only axis on which networks differ"
    sums, worst = axes.sum(axis=1), axes.min(axis=1)
    if axes.shape[1] == 2 and sums.max() > 1.0 + 1e-9:  # in units of the distance between parallel lines
        return int(rows[sums.argmax()]), "the knee of the front, farthest from the line through its ends (Das 1999)"
    kind = "a front without a knee" if axes.shape[1] == 2 else f"{axes.shape[1]} axes"
    best = np.lexsort((-sums, -worst))[0]
    return int(rows[best]), f"the compromise of {kind}: its worst axis is the best (Wierzbicki 1980)"


def _oriented(section: ObjectiveSection, rows: DataFrame) -> Floats:
    values: Floats = rows[section.column].to_numpy(float)
    return -values if section.direction == "min" else values


def _scores(config: Config, rows: DataFrame) -> Floats | None:
    """Return the scores of networks of several seeds, normalised over all of them; None without a fitness term."""
    fitness: Sequence[ObjectiveSection] = [s for s in config.objectives if s.role == "fitness"]
    if not fitness:
        return None
    values = np.column_stack([_oriented(section, rows) for section in fitness])
    weights = np.array([section.weight for section in fitness])
    return aggregate(values, weights, config.search.scoring().get("aggregation", "sum"))
