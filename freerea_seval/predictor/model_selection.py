"""Model selection by cross-validation on the training networks: which models predict a metric, and on which scale.

Below 50 networks, selecting one model by cross-validation is noisy: another sample would select another model. There
the prediction averages the candidates, weighted by how often each is selected on bootstrap samples (bagging of the
selection, Breiman 1996).

Reference:
    Breiman 1996: Bagging predictors, Machine Learning 24.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import KFold, train_test_split

from freerea_seval.predictor.features.layer_features import LayerFeatures
from freerea_seval.predictor.models.registry import (
    GIVE_DEVIATIONS,
    LEARN_VALUES,
    MOST_FOR_GP,
    Show,
    ask,
    members,
    train,
)
from freerea_seval.predictor.models.target_transform import Scale, ScaleName, fit_scale, to_scores, to_values
from freerea_seval.predictor.models.validation import FEWEST
from freerea_seval.predictor.scores import kendall_tau

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Fold = tuple[Indices, Indices]

#: Below this number of networks, candidates are averaged. Above it, averaging is no better than the best candidate.
_FEW = 50
#: The model ``layered`` is compared if more layers than this vary independently of each other. The cells of a network
#: of NAS-Bench-201 are equal, so that only two do, and ``layered`` ranks worse there.
_INDEPENDENT_LAYERS = 3.0
#: Up to this number of networks, each is predicted out of fold; above it, a fifth of them by a model of the others.
MANY = 2000
_FOLDS = 5
#: Kendall's tau by which an additional model must improve the prediction above :data:`MANY` networks; less is noise,
#: and each model takes time to predict.
_MIN_GAIN = 0.001
_BOOTSTRAP_SAMPLES = 100
#: A metric is the mean of at most this many models.
_MOST_COMBINED = 3
#: Models with a smaller weight hardly change the prediction, but take time.
_MIN_WEIGHT = 0.1


@dataclass(frozen=True)
class Selection:
    """The selected models and scales, and the evidence.

    Attributes:
        members: the models whose weighted mean predicts.
        weights: ``(k, m)`` weight of each model in the mean of each metric.
        scales: of each metric, fitted to all training values.
        unseen: ``(n, m)`` out-of-fold predictions in the metrics' units, NaN where there is none.
        deviations: ``(n, m)`` standard deviations of their logarithms, None if the model has none.
        compared: Kendall's tau-b of every candidate, the mean over the metrics, by name.
        reason: the selection in one sentence.
    """

    members: tuple[str, ...]
    weights: Values
    scales: tuple[Scale, ...]
    unseen: Values
    deviations: Values | None
    compared: dict[str, float]
    reason: str


def select(
    model: str,
    scale: str,
    strings: Sequence[str],
    values: Values,
    proxies: Values | None,
    seed: int,
    parameters: Mapping[str, Any],
    distinct: bool,
    show: Show,
    more: Sequence[str] = (),
) -> Selection:
    """Select models and scales.

    Args:
        model: one of :data:`~freerea_seval.predictor.models.registry.MODELS`, or ``auto``.
        scale: one of :data:`~freerea_seval.predictor.models.target_transform.SCALES`, or ``auto``, by metric.
        strings, values, proxies: ``(n,)``, ``(n, m)`` in the metrics' units and ``(n, k)``; NaN is a missing value.
        seed: fixes the folds and the models.
        parameters: of the model, if one is named.
        distinct: hold equal strings out together, and compare candidates on strings instead of networks.
        show: called with the completed fraction and a note.
        more: candidates of ``auto`` beside the usual ones.
    """
    groups = np.unique(np.array(strings), return_inverse=True)[1] if distinct else None
    # Ten measurements are too few to leave out two.
    leave_one_out = model == "calibrated" and len(strings) <= _FEW
    folds = _folds(len(strings), seed, groups, len(strings) if leave_one_out else _FOLDS)
    names = [model] if model != "auto" else _candidates(strings, proxies is not None, more)
    candidates = {name: members(name, len(strings), proxies is not None) for name in names}
    models = sorted({member for parts in candidates.values() for member in parts})
    # With few networks, the blend is as good as the better of linear and rank, and a comparison would be noise.
    usual: tuple[ScaleName, ...] = ("blend",) if len(strings) <= MANY else ("linear", "log", "rank", "blend")
    scale_names = usual if scale == "auto" else (cast("ScaleName", scale),)
    # Scales are compared by the model that trains fastest.
    several = len(scale_names) > 1 and model in ("auto", "mlp", "t5")
    first = "boosted" if "boosted" in models or several else models[0]
    fits = len(folds) * (len({first, *models}) - 1 + len(scale_names))
    finished = 0
    deviations = np.full(values.shape, np.nan) if model in GIVE_DEVIATIONS else None

    def out_of_fold(name: str, metric_scales: Sequence[ScaleName]) -> Values:
        """Return ``(n, m)`` out-of-fold predictions of a model that learns each metric on its scale."""
        nonlocal finished
        predictions = np.full(values.shape, np.nan)
        for fitted_rows, held_out_rows in folds:
            # A metric that was rarely measured may have too few values in a fold; other folds then predict it.
            columns = np.flatnonzero((~np.isnan(values[fitted_rows])).sum(axis=0) >= FEWEST)
            if not len(columns):
                continue
            fitted = [fit_scale(metric_scales[j], values[fitted_rows, j]) for j in columns.tolist()]
            targets = values[np.ix_(fitted_rows, columns)]
            show(finished / fits, f"comparing: {name}")
            trained = train(
                name,
                [strings[i] for i in fitted_rows],
                targets if name in LEARN_VALUES else to_scores(fitted, targets),
                _rows(proxies, fitted_rows),
                seed,
                parameters,
                distinct,
            )
            held_out, table = [strings[i] for i in held_out_rows], _rows(proxies, held_out_rows)
            predicted = ask(name, trained, held_out, table)
            predicted = predicted if name in LEARN_VALUES else to_values(fitted, predicted)
            predictions[np.ix_(held_out_rows, columns)] = predicted
            if deviations is not None:
                deviations[np.ix_(held_out_rows, columns)] = trained.deviations(held_out, table)
            finished += 1
        return predictions

    by_scale = {name: out_of_fold(first, [name] * values.shape[1]) for name in scale_names}
    best_scales: list[ScaleName] = []
    for j, column in enumerate(values.T):
        tau_of = _Comparison(column, {name: predicted[:, j] for name, predicted in by_scale.items()}, groups).taus()
        best_scales.append(max(scale_names, key=lambda name: tau_of[name]))
    scales = tuple(fit_scale(name, column) for name, column in zip(best_scales, values.T, strict=True))
    predictions = {first: np.stack([by_scale[name][:, j] for j, name in enumerate(best_scales)], axis=1)}
    predictions |= {name: out_of_fold(name, best_scales) for name in models if name != first}
    scores = [{name: s.score(p[:, j]) for name, p in predictions.items()} for j, s in enumerate(scales)]
    mixes = [_mix(c, s, own, candidates, groups, seed) for c, s, own in zip(values.T, scales, scores, strict=True)]
    used = [name for name in models if any(name in mix.weights for mix in mixes)]
    compared = {name: float(np.mean([mix.taus[name] for mix in mixes])) for name in candidates}
    return Selection(
        tuple(used),
        np.array([[mix.weights.get(name, 0.0) for mix in mixes] for name in used]),
        scales,
        np.stack([mix.unseen for mix in mixes], axis=1),
        deviations,
        compared,
        _reason([mix.name for mix in mixes], compared, best_scales, len(folds)),
    )


class _Mix(NamedTuple):
    """The prediction of one metric: its name, weights of models, tau-b of all candidates, out-of-fold predictions."""

    name: str
    weights: dict[str, float]
    taus: dict[str, float]
    unseen: Values


def _mix(
    values: Values,
    scale: Scale,
    scores: Mapping[str, Values],
    candidates: Mapping[str, Sequence[str]],
    groups: Indices | None,
    seed: int,
) -> _Mix:
    """Select or average candidates, each the mean of its models' out-of-fold scores, for one metric."""
    means = {name: scale.value(np.mean([scores[part] for part in parts], axis=0)) for name, parts in candidates.items()}
    comparison = _Comparison(values, means, groups)
    taus = comparison.taus()
    gain = _MIN_GAIN if len(values) > MANY else 0.0
    best = max(taus, key=lambda name: taus[name] - gain * (len(candidates[name]) - 1))
    if len(candidates) > 1 and len(comparison.values) < _FEW:
        weights = ensemble_weights(comparison.bootstrap_selections(seed), candidates)
        named = " + ".join(f"{weight:.2f} {part}" for part, weight in weights.items())
        best = named if len(weights) > 1 else min(weights)
    else:
        weights = ensemble_weights({best: 1}, candidates)
    unseen = scale.value(np.sum([weight * scores[part] for part, weight in weights.items()], axis=0))
    return _Mix(best, weights, taus, unseen)


class _Comparison:
    """Out-of-fold predictions of candidates beside the measured values.

    Args:
        values: ``(n,)``, NaN where there is none.
        predictions: ``(n,)`` of each candidate, NaN where there is none.
        groups: ``(n,)`` networks with the same number are compared as one, by their mean: otherwise a string that
            hundreds of networks share would dominate the comparison. None: every network counts.
    """

    def __init__(self, values: Values, predictions: Mapping[str, Values], groups: Indices | None) -> None:
        finite = np.isfinite(values) & np.all([np.isfinite(column) for column in predictions.values()], axis=0)
        columns = {name: column[finite] for name, column in predictions.items()}
        self.values, self.predictions = values[finite], columns
        if groups is not None:
            _, index, size = np.unique(groups[finite], return_inverse=True, return_counts=True)
            self.values = np.bincount(index, self.values) / size
            self.predictions = {name: np.bincount(index, column) / size for name, column in columns.items()}

    def taus(self, rows: Indices | slice = slice(None)) -> dict[str, float]:
        """Return Kendall's tau-b of each candidate; 0 where all values are equal."""
        return {name: _tau(self.values[rows], column[rows]) for name, column in self.predictions.items()}

    def bootstrap_selections(self, seed: int) -> dict[str, int]:
        """Return how often each candidate has the largest tau-b on a bootstrap sample of the networks."""
        n, rng = len(self.values), np.random.default_rng(seed)
        samples = [rng.integers(0, max(1, n), n) for _ in range(_BOOTSTRAP_SAMPLES)]
        # How often a sample has each network. The sums over pairs of networks below are whole numbers, hence exact.
        counts = np.array([np.bincount(sample, minlength=n) for sample in samples], dtype=np.float64)

        def pairs(first: Values, second: Values) -> Values:
            return np.asarray(((counts @ (first * second)) * counts).sum(axis=1) / 2)

        def signs(values: Values) -> Values:
            return np.asarray(np.sign(values[:, None] - values))

        order = signs(self.values)
        taus = []
        for predicted in map(signs, self.predictions.values()):
            with np.errstate(invalid="ignore"):  # of a sample whose values are all equal
                tau = pairs(order, predicted) / np.sqrt(pairs(order, order)) / np.sqrt(pairs(predicted, predicted))
            taus.append(np.nan_to_num(tau, nan=0.0))
        chosen = np.bincount(np.argmax(taus, axis=0), minlength=len(taus))
        return dict(zip(self.predictions, chosen.tolist(), strict=True))


def ensemble_weights(selections: Mapping[str, int], candidates: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Return the weight of each model, from how often each candidate was selected.

    A candidate's count is shared by its models. Models below :data:`_MIN_WEIGHT` are dropped, and the others rescaled.
    """
    weights: dict[str, float] = {}
    total = sum(selections.values())
    for name, count in selections.items():
        for part in candidates[name]:
            weights[part] = weights.get(part, 0.0) + count / total / len(candidates[name])
    kept = {part: weight for part, weight in weights.items() if weight >= _MIN_WEIGHT}
    return {part: weight / sum(kept.values()) for part, weight in kept.items()}


def _tau(values: Values, predicted: Values) -> float:
    if not len(values) or np.ptp(values) == 0 or np.ptp(predicted) == 0:
        return 0.0
    return kendall_tau(values, predicted)


def _candidates(strings: Sequence[str], proxies: bool, more: Sequence[str]) -> list[str]:
    """Return the names of what ``auto`` compares."""
    networks = len(strings)
    layered = networks <= MANY and LayerFeatures.fit(strings).independent(strings) > _INDEPENDENT_LAYERS
    if networks <= MOST_FOR_GP:
        usual = ["boosted", "gp", "additive", "boosted+gp", "additive+gp"]
        return [*usual, *(["layered", "boosted+layered"] if layered else []), *more]
    names = ["ordered", "shallow", "robust"] if networks > MANY else ["boosted", "ordered"]
    if layered:
        names.append("layered")
    if members("ensemble", networks, proxies) != ("boosted",):  # another model is available
        names.append("mlp")
    # The means of models that err differently are better than each: every combination is a candidate.
    return ["+".join(some) for size in range(1, _MOST_COMBINED + 1) for some in combinations(names, size)]


def _folds(networks: int, seed: int, groups: Indices | None, folds: int) -> list[Fold]:
    """Return pairs of training and held-out rows; a group is held out as a whole."""
    groups = np.arange(networks) if groups is None else groups
    numbers = np.arange(groups.max() + 1)
    if networks > MANY:
        cuts = [train_test_split(numbers, test_size=1 / _FOLDS, random_state=seed)]
    else:
        cuts = list(KFold(min(folds, len(numbers)), shuffle=True, random_state=seed).split(numbers))
    return [(np.flatnonzero(np.isin(groups, train)), np.flatnonzero(np.isin(groups, test))) for train, test in cuts]


def _rows(proxies: Values | None, rows: Indices) -> Values | None:
    return None if proxies is None else proxies[rows]


def _reason(selected: Sequence[str], compared: Mapping[str, float], scales: Sequence[str], folds: int) -> str:
    names = {1: "a fifth of the networks held out", _FOLDS: "five-fold cross-validation"}
    how = names.get(folds, "leave-one-out cross-validation")
    models = " and ".join(
        name if count == len(selected) else f"{name} ({count} of {len(selected)} metrics)"
        for name, count in Counter(selected).items()
    )
    shown = {name: tau for name, tau in compared.items() if "+" not in name or name in selected}
    taus = ", ".join(f"{name} {tau:.3f}" for name, tau in shown.items())
    scale = "" if set(selected) <= set(LEARN_VALUES) else f" on {'/'.join(dict.fromkeys(scales))} scale"
    return f"{models}{scale}, by Kendall's tau in {how}: {taus}"
