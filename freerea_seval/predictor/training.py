"""Training: cross-validate on the training data, so that a predictor says how far to trust it, then fit on all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import KFold, cross_val_predict

from freerea_patch.objective import Direction
from freerea_seval.predictor.boosted import BoostedPredictor, Values, check_values
from freerea_seval.predictor.folder import PredictorInfo
from freerea_seval.strings.views import View
from freerea_seval.versions import versions

_FOLDS = 5
#: Two samples a fold: fewer cannot be cross-validated.
FEWEST = 2 * _FOLDS


def train_predictor(
    strings: Sequence[str],
    values: npt.ArrayLike,
    *,
    metric: str,
    unit: str,
    direction: Direction,
    space_name: str,
    view: View,
    seed: int = 0,
) -> tuple[BoostedPredictor, PredictorInfo]:
    """Train a predictor and measure it.

    Args:
        strings: ``(n,)`` network strings, at least ten.
        values: ``(n,)`` values of the metric.
        metric, unit, direction: what the values are.
        space_name: name of the space of the networks.
        view: which view of the networks the strings are.
        seed: fixes the folds and the predictor.

    Returns:
        The predictor, fitted on everything, and what is known of it; its scores are those of a five-fold
        cross-validation, see :func:`agreement`.

    Raises:
        InputError: see :meth:`BoostedPredictor.fit <freerea_seval.predictor.boosted.BoostedPredictor.fit>`.
    """
    targets = check_values(strings, values, fewest=FEWEST)
    strings = list(strings)
    predictor = BoostedPredictor(seed=seed)
    folds = KFold(_FOLDS, shuffle=True, random_state=seed)
    predicted = cross_val_predict(predictor, strings, targets, cv=folds)
    info = PredictorInfo(
        metric=metric,
        unit=unit,
        direction=direction,
        space=space_name,
        view=view,
        samples=len(strings),
        trained_on=hashlib.sha256(json.dumps([strings, targets.tolist()]).encode()).hexdigest(),
        versions=versions(),
        scores=agreement(targets, predicted),
    )
    return predictor.fit(strings, targets), info


def agreement(values: Values, predicted: Values) -> dict[str, float]:
    """Return how well predictions, ``(n,)``, agree with values, ``(n,)``.

    Returns:
        ``kendall_tau`` (tau-b), ``spearman`` and ``rmse`` (in the unit of the values). A correlation is not
        defined where all values or all predictions are equal, and is left out then.
    """
    from scipy.stats import kendalltau, spearmanr

    found = {"rmse": float(np.sqrt(np.mean((predicted - values) ** 2)))}
    if np.ptp(values) > 0 and np.ptp(predicted) > 0:
        found["kendall_tau"] = float(kendalltau(values, predicted, variant="b").statistic)
        found["spearman"] = float(spearmanr(values, predicted).statistic)
    return found
