"""Training of a predictor from strings and values, with the description that its folder and model card hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from freerea_patch import Direction
from freerea_seval.predictor.features import sizes
from freerea_seval.predictor.model_card import PredictedMetric, PredictorInfo
from freerea_seval.predictor.models.registry import Show
from freerea_seval.predictor.scores import scores
from freerea_seval.predictor.seval import SEvalPredictor
from freerea_seval.strings.views import View
from freerea_seval.versions import versions

Values = npt.NDArray[np.float64]


class Proxies(NamedTuple):
    """Inputs beside strings: names, and ``(n, k)`` values, NaN where one is missing."""

    names: Sequence[str]
    values: Values


class Target(NamedTuple):
    """A metric to predict: its name, unit, and which values are better."""

    name: str
    unit: str
    direction: Direction


def train_predictor(
    strings: Sequence[str],
    values: npt.ArrayLike,
    targets: Sequence[Target],
    *,
    space_name: str,
    view: View,
    model: str = "auto",
    scale: str = "auto",
    parameters: Mapping[str, Any] | None = None,
    seed: int = 0,
    proxies: Proxies | None = None,
    base: Mapping[str, SEvalPredictor] | None = None,
    show: Show = lambda fraction, note: None,
) -> tuple[SEvalPredictor, PredictorInfo]:
    """Train a predictor and compute its out-of-fold scores.

    Args:
        strings: ``(n,)`` network strings.
        values: ``(n,)`` values of the metric, or ``(n, m)`` of several; +inf for networks that are not supported, and
            among several NaN for a missing value. At least ten finite ones for each metric.
        targets: the ``m`` metrics.
        space_name: name of the space of the networks.
        view: the view of the networks that the strings show.
        model, scale, parameters, seed: see :class:`~freerea_seval.predictor.seval.SEvalPredictor`.
        proxies: inputs beside strings.
        base: fitted predictors whose predictions are inputs, by description; none that learned these values.
        show: called with the completed fraction and a note.

    Returns:
        The predictor, fitted to all networks, and its description with cross-validated scores.

    Raises:
        InputError: see :meth:`SEvalPredictor.fit <freerea_seval.predictor.seval.SEvalPredictor.fit>`.
    """
    strings = list(strings)
    table, bases = None if proxies is None else proxies.values, base or {}
    predictor = SEvalPredictor(model, scale, parameters, seed=seed)
    directions = [target.direction for target in targets]
    predictor.fit(strings, values, table, base=list(bases.values()), directions=directions, show=show)
    columns = np.asarray(values, dtype=np.float64).reshape(len(strings), -1)
    info = PredictorInfo(
        metrics=tuple(
            PredictedMetric(
                *target,
                samples=int((~np.isnan(column)).sum()),
                unsupported=int(np.isposinf(column).sum()),
                scores=_unseen_scores(column, unseen, target.direction),
            )
            for target, column, unseen in zip(targets, columns.T, predictor.unseen_.T, strict=True)
        ),
        space=space_name,
        view=view,
        samples=len(strings),
        trained_on=data_hash(strings, columns, table),
        choice=predictor.choice_,
        proxies=() if proxies is None else tuple(proxies.names),
        base=tuple(bases),
        versions=versions(),
        sizes={name: (float(column.min()), float(column.max())) for name, column in sizes(strings).items()},
    )
    return predictor, info


def data_hash(strings: Sequence[str], values: Values, proxies: Values | None = None) -> str:
    """Return the SHA-256 of training data: strings, ``(n, m)`` values and proxies."""
    content = [list(strings), values.tolist(), *([] if proxies is None else [proxies.tolist()])]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _unseen_scores(values: Values, unseen: Values, direction: Direction) -> dict[str, float]:
    both = np.isfinite(values) & np.isfinite(unseen)
    return scores(values[both], unseen[both], direction=direction) if both.any() else {}
