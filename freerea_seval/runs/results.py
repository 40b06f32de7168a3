"""The result of a seed: the networks that a search reports, and what ``result.json`` says of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from freerea_patch import Candidate, History, SearchResult
from freerea_seval.config import MetricSection
from freerea_seval.progress import Progress
from freerea_seval.runs.folder import to_json
from freerea_seval.runs.setup import Bound

#: Number of best candidates that a search on a summed score reports; a Pareto search reports its front.
LEADERS = 5


def leaders_of(history: History) -> list[Candidate]:
    """Return what a search reports: its front, or without Pareto objectives its best networks."""
    return history.front() if history.is_pareto else history.leaders(LEADERS)


def standing(history: History) -> str:
    """Return in a few words what a search has come to: how many networks, and the best score or the hypervolume."""
    count = f"{len(history)} networks"
    if not len(history):
        return count
    if history.is_pareto:
        from freerea_seval.runs.figures import last_hypervolume

        return f"{count}, hypervolume {last_hypervolume(history):.3f}"
    scores = history.scores(list(history))
    scores = scores[np.isfinite(scores)]
    return f"{count}, best score {scores.max():.4g}" if len(scores) else count


def describe(candidate: Candidate) -> str:
    """Return a candidate with its values on one line."""
    values = ", ".join(f"{name} {value:g}" for name, value in candidate.values.items())
    return f"{candidate.genotype}{'' if candidate.feasible else ' (infeasible)'}: {values}"


def report_front(
    front: Sequence[Candidate], report: Sequence[Bound[MetricSection]], progress: Progress
) -> list[dict[str, float]]:
    """Evaluate the report's metrics for the candidates of the front."""
    rows: list[dict[str, float]] = [{} for _ in front]
    if report and front:
        with progress.task("evaluating the front") as show:
            for done, metric in enumerate(report):
                section = metric.section
                genotypes = [candidate.proposal.genotype for candidate in front]
                results = metric.source.evaluate(genotypes, [section.metric])
                for row, measured in zip(rows, results, strict=True):
                    row[section.column] = float(measured[section.metric].value)
                show((done + 1) / len(report), section.column)
    return rows


def summarise(
    seed: int, result: SearchResult, leaders: Sequence[Candidate], reported: Sequence[dict[str, float]]
) -> dict[str, Any]:
    """Return the result of a seed for ``result.json``.

    Args:
        seed: of the search.
        result: of the search.
        leaders: the networks that it reports.
        reported: further columns of each of them.
    """
    history = result.history
    explored = list(history)
    scores = history.scores(explored)
    front = []
    for candidate, extra in zip(leaders, reported, strict=True):
        row: dict[str, Any] = {"genotype": candidate.proposal.genotype}
        if any(term.role == "fitness" for term in history.terms):
            row["score"] = to_json(float(scores[candidate.row]))
        row |= {name: to_json(value) for name, value in {**candidate.evaluation.values, **extra}.items()}
        front.append(row)
    return {
        "seed": seed,
        "stopped": result.stopped,
        "explored": len(explored),
        "infeasible": history.evaluated - len(explored),
        "metric_s": result.ledger.total_s,
        "seconds": result.ledger.seconds,
        "front": front,
    }
