"""Which model and which scales: what predicts best the training networks that it was not shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import KFold, train_test_split

from freerea_seval.predictor.ensemble_weights import Evidence, shares_of
from freerea_seval.predictor.models.registry import MOST_FOR_GP, UNPRUNED, Show, ask, members, prune, train
from freerea_seval.predictor.models.target_transform import Scale, ScaleName, fit_scale
from freerea_seval.predictor.models.validation import FEWEST

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Fold = tuple[Indices, Indices]

#: Of fewer networks, the best model is so by chance: models share. Of more, that is no better than the best one.
_FEW = 50
#: Up to so many networks every one is predicted out of fold; beyond, a fifth of them by a model of the rest.
MANY = 2000
_FOLDS = 5
#: Kendall's tau that another model must add where there are many networks; less is noise, and takes time to predict.
_WORTH = 0.001


@dataclass(frozen=True)
class Choice:
    """What was chosen, and what it was chosen by.

    Attributes:
        members: the models whose mean predicts.
        shares: ``(k, m)`` of the models in each metric's mean.
        parameters: of each model.
        scales: of each metric, fitted to all training values.
        unseen: ``(n, m)`` predictions in the metrics' units of networks that the model had not seen, NaN where there
            are none.
        compared: Kendall's tau-b of every candidate, the mean over the metrics, by name.
        reason: the choice in one sentence.
    """

    members: tuple[str, ...]
    shares: Values
    parameters: tuple[Mapping[str, Any], ...]
    scales: tuple[Scale, ...]
    unseen: Values
    compared: dict[str, float]
    reason: str


def choose(
    model: str,
    scale: str,
    strings: Sequence[str],
    values: Values,
    proxies: Values | None,
    seed: int,
    parameters: Mapping[str, Any],
    distinct: bool,
    show: Show,
    base: bool = False,
) -> Choice:
    """Choose by cross-validation on the training networks alone.

    Args:
        model: one of :data:`~freerea_seval.predictor.models.registry.MODELS`, or ``auto``.
        scale: one of :data:`~freerea_seval.predictor.models.target_transform.SCALES`, or ``auto``, by metric.
        strings, values, proxies: ``(n,)``, ``(n, m)`` in the metrics' units and ``(n, k)``; NaN for not known.
        seed: fixes the folds and the models.
        parameters: of the model, if one is named.
        distinct: hold equal strings out together, and judge by the mean of what they reach: one string is one network.
        show: is told the fraction done and a note.
        base: whether there are predictions of base predictors among the proxies.
    """
    unit = np.unique(np.array(strings), return_inverse=True)[1] if distinct else None
    folds = _folds(len(strings), seed, unit)
    names = _candidates(model, len(strings), proxies is not None, base)
    parts = {name: members(name, len(strings), proxies is not None) for name in names}
    simple = sorted({member for those in parts.values() for member in those})
    # With few networks the blend is as good as the better of the two, and comparing would tell little.
    usual: tuple[ScaleName, ...] = ("blend",) if len(strings) <= MANY else ("linear", "log", "rank", "blend")
    tried = usual if scale == "auto" else (cast("ScaleName", scale),)
    # Scales are compared by what trains fastest.
    first = "boosted" if "boosted" in simple or (model == "auto" and len(tried) > 1) else simple[0]
    work = len(folds) * (len({first, *simple}) - 1 + len(tried))
    done = 0
    pruned: dict[str, Mapping[str, Any]] = {}

    def unseen(name: str, scales: Sequence[ScaleName]) -> Values:
        """Return out-of-fold scores of a model, on each metric's scale."""
        nonlocal done
        found = np.full(values.shape, np.nan)
        for kept, left in folds:
            # Of a metric that was rarely measured a fold may leave too little to learn from; other folds then do.
            told = np.flatnonzero((~np.isnan(values[kept])).sum(axis=0) >= FEWEST)
            if not len(told):
                continue
            fitted = [fit_scale(scales[j], values[kept, j]) for j in told.tolist()]
            targets = np.stack([s.score(c) for s, c in zip(fitted, values[kept][:, told].T, strict=True)], axis=1)
            show(done / work, f"comparing: {name}")
            known = (~np.isnan(values[left])).sum(axis=0)
            prunes = model == "auto" and len(folds) == 1 and len(told) == values.shape[1] and known.min() >= FEWEST
            its = {**UNPRUNED.get(name, {}), **parameters} if prunes else parameters
            learned = train(name, [strings[i] for i in kept], targets, _rows(proxies, kept), seed, its, distinct)
            held_out = [strings[i] for i in left]
            if prunes:  # a choice among a few sizes; on thousands of networks it flatters scores by nothing that shows
                sought = np.stack([s.score(c) for s, c in zip(fitted, values[left].T, strict=True)], axis=1)
                pruned[name] = prune(name, learned, held_out, sought, _rows(proxies, left))
            scores = ask(name, learned, held_out, _rows(proxies, left))
            found[np.ix_(left, told)] = np.stack([s.value(c) for s, c in zip(fitted, scores.T, strict=True)], axis=1)
            done += 1
        return found

    by_scale = {name: unseen(first, [name] * values.shape[1]) for name in tried}
    best: list[ScaleName] = []
    for j, column in enumerate(values.T):
        ordered = Evidence(column, {name: found[:, j] for name, found in by_scale.items()}, unit).taus()
        best.append(max(tried, key=lambda name: ordered[name]))
    scales = tuple(fit_scale(name, column) for name, column in zip(best, values.T, strict=True))
    predictions = {first: np.stack([by_scale[name][:, j] for j, name in enumerate(best)], axis=1)}
    for name in simple:
        if name != first:
            predictions[name] = unseen(name, best)
    scored = [{part: s.score(found[:, j]) for part, found in predictions.items()} for j, s in enumerate(scales)]
    mixes = [_mix(c, s, its, parts, unit, seed) for c, s, its in zip(values.T, scales, scored, strict=True)]
    used = [part for part in simple if any(part in mixed.shares for mixed in mixes)]
    shares = np.array([[mixed.shares.get(part, 0.0) for mixed in mixes] for part in used])
    compared = {name: float(np.mean([mixed.taus[name] for mixed in mixes])) for name in names}
    return Choice(
        tuple(used),
        shares,
        tuple({**parameters, **pruned.get(part, {})} for part in used),
        scales,
        np.stack([mixed.unseen for mixed in mixes], axis=1),
        compared,
        _reason([mixed.name for mixed in mixes], compared, best, len(strings)),
    )


class _Mixed(NamedTuple):
    """What predicts a metric: its name, shares of models, the tau-b of every candidate, and what they had not seen."""

    name: str
    shares: dict[str, float]
    taus: dict[str, float]
    unseen: Values


def _mix(
    values: Values,
    scale: Scale,
    scores: Mapping[str, Values],
    parts: Mapping[str, Sequence[str]],
    unit: Indices | None,
    seed: int,
) -> _Mixed:
    """Choose among candidates for a metric, each the mean of its parts, by what these say of networks unseen."""
    found = {name: scale.value(np.mean([scores[part] for part in those], axis=0)) for name, those in parts.items()}
    evidence = Evidence(values, found, unit)
    taus = evidence.taus()
    worth = _WORTH if len(values) > MANY else 0.0
    best = max(taus, key=lambda name: taus[name] - worth * (len(parts[name]) - 1))
    if len(parts) > 1 and len(evidence) < _FEW:
        shares = shares_of(evidence.wins(seed), parts)
        best = " + ".join(f"{share:.2f} {part}" for part, share in shares.items()) if len(shares) > 1 else min(shares)
    else:
        shares = shares_of({best: 1}, parts)
    unseen = scale.value(np.sum([share * scores[part] for part, share in shares.items()], axis=0))
    return _Mixed(best, shares, taus, unseen)


def _candidates(model: str, networks: int, proxies: bool, base: bool) -> list[str]:
    if model != "auto":
        return [model]
    if networks <= MOST_FOR_GP:
        return ["boosted", "gp", "boosted+gp", *(["gp+ridge"] if base else [])]
    # Beyond, pruning makes of "ordered" what "boosted" would be, where the order of execution tells nothing.
    alone = ["boosted", "ordered"] if networks <= MANY else ["ordered"]
    if members("ensemble", networks, proxies) == ("boosted",):  # nothing to mix with
        return alone
    return [*alone, "mlp", *(f"{name}+mlp" for name in alone)]


def _folds(networks: int, seed: int, unit: Indices | None) -> list[Fold]:
    """Return what is trained on and what is held out, in turn; networks of a unit are held out together."""
    unit = np.arange(networks) if unit is None else unit
    units = np.arange(unit.max() + 1)
    if networks > MANY:
        cuts = [train_test_split(units, test_size=1 / _FOLDS, random_state=seed)]
    else:
        cuts = list(KFold(min(_FOLDS, len(units)), shuffle=True, random_state=seed).split(units))
    return [(np.flatnonzero(np.isin(unit, kept)), np.flatnonzero(np.isin(unit, left))) for kept, left in cuts]


def _rows(proxies: Values | None, rows: npt.NDArray[np.int64]) -> Values | None:
    return None if proxies is None else proxies[rows]


def _reason(chosen: Sequence[str], compared: Mapping[str, float], scales: Sequence[str], networks: int) -> str:
    how = "five-fold cross-validation" if networks <= MANY else "a fifth of the networks held out"
    models = " and ".join(
        name if count == len(chosen) else f"{name} ({count} of {len(chosen)} metrics)"
        for name, count in Counter(chosen).items()
    )
    taus = ", ".join(f"{name} {tau:.3f}" for name, tau in compared.items())
    return f"{models} on {'/'.join(dict.fromkeys(scales))} scale, by Kendall's tau in {how}: {taus}"
