"""The predictor: a scikit-learn regressor from network strings to metrics in their units, with conformal intervals.

``fit`` and ``predict`` go through the same steps: a classifier of supported networks, model selection and training on
the scale of each metric, rounding of metrics that take few values, the value of networks with a constant output, and
intervals.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from freerea_patch import Direction, InputError
from freerea_seval.predictor.conformal import Conformal
from freerea_seval.predictor.corrections import constant_outputs, find_levels, round_to_levels, values_of_constants
from freerea_seval.predictor.features.proxies import as_table
from freerea_seval.predictor.features.vectorizer import check_strings, share_features
from freerea_seval.predictor.model_selection import select
from freerea_seval.predictor.models.feasibility_classifier import FeasibilityClassifier
from freerea_seval.predictor.models.registry import LEARN_VALUES, Show, State, ask, make, train
from freerea_seval.predictor.models.target_transform import Scale, to_scores, to_values
from freerea_seval.predictor.models.validation import (
    StringRegressor,
    as_values,
    check_enough,
    check_range,
    read_count,
)

Values = npt.NDArray[np.float64]

#: Cross-validation needs two samples a fold.
FEWEST = 10
#: Up to this number of networks, a model that starts from reference costs is a candidate; from more, the others rank as
#: well without it.
_FEW_COSTS = 24
#: The largest seed of NumPy and scikit-learn.
_LARGEST_SEED = 2**32 - 1


class SEvalPredictor(StringRegressor):
    """A scikit-learn regressor from network strings to one metric or several.

    Several metrics are learned jointly where the model can. A value of +inf means that the device does not support the
    network; whether it does is predicted by a classifier. NaN means that a metric was not measured.

    Args:
        model: one of :data:`~freerea_seval.predictor.models.registry.MODELS`, or ``auto``, which selects by
            cross-validation on the training data alone.
        scale: ``linear``, ``log``, ``rank``, ``blend`` or ``auto``: the scale on which metrics are learned.
        parameters: of the model, by name; only with a named model.
        distinct: optimise for networks unlike those of training: equal strings are held out together and weigh as one.
            Intervals are then those of networks whose string is new.
        seed: fixes everything.

    Attributes:
        choice_: the selected models and scales with their scores, in one sentence.
        compared_: Kendall's tau-b of the candidates, by name.
        members_: names of the models whose weighted mean predicts.
        weights_: ``(k, m)`` weights of the models in the mean of each metric.
        unseen_: ``(n, m)`` out-of-fold predictions of the training networks, NaN where there are none.
    """

    def __init__(
        self,
        model: str = "auto",
        scale: str = "auto",
        parameters: Mapping[str, Any] | None = None,
        distinct: bool = False,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.scale = scale
        self.parameters = parameters
        self.distinct = distinct
        self.seed = seed

    def fit(
        self,
        strings: Sequence[str],
        y: npt.ArrayLike,
        proxies: npt.ArrayLike | None = None,
        *,
        base: Sequence[SEvalPredictor] = (),
        directions: Sequence[Direction] | None = None,
        show: Show = lambda fraction, note: None,
    ) -> SEvalPredictor:
        """Learn metrics.

        Args:
            strings: ``(n,)`` network strings.
            y: ``(n,)`` values in the metric's unit, or ``(n, m)`` of several metrics.
            proxies: ``(n, k)`` zero-cost proxies, or other numbers of each network; NaN is a missing value.
            base: fitted predictors of other metrics or data sets; their predictions become features. They must not have
                learned values of these metrics: that would leak the target into the validation folds.
            directions: which values are better, one a metric; None: larger ones. Used for networks with a constant
                output (:mod:`.degenerate_networks`).
            show: called with the completed fraction and a note.

        Raises:
            InputError: fewer than ten supported networks of a metric, values and strings that differ in number, a value
                of -inf or beyond 1e150, an invalid string, an unknown model or scale, or a parameter that the model
                lacks.
            InputError: ``base`` holds something other than fitted predictors, or one that learned from proxies.
        """
        self._check_settings()
        values = _checked(strings, y)
        strings = list(strings)
        self.single_ = np.ndim(y) == 1
        self.proxies_: int = 0 if proxies is None else as_table(proxies).shape[1]
        self.base_ = _checked_base(base)
        self.classifiers_ = [self._fit_classifier(strings, column) for column in values.T]
        values = np.where(np.isposinf(values), np.nan, values)
        rows = np.flatnonzero(~np.isnan(values).all(axis=1))
        measured = [strings[i] for i in rows]
        table = self._inputs_beside_strings(strings, proxies)
        table = None if table is None else table[rows]
        if table is not None and self.model in ("mlp", "t5"):
            raise InputError(
                f"model {self.model!r} reads strings alone; with proxies or base, expected boosted, ordered, gp or auto"
            )
        if self.proxies_ and self.model == "calibrated":
            raise InputError("model 'calibrated' starts from costs, which proxies are not; leave them out, or take gp")
        parameters = dict(self.parameters or {})
        selection = select(
            self.model,
            self.scale,
            measured,
            values[rows],
            table,
            self.seed,
            parameters,
            self.distinct,
            lambda fraction, note: show(0.6 * fraction, note),
            self._more_models(values[rows]),
        )
        self.members_, self.weights_, self.scales_ = selection.members, selection.weights, selection.scales
        self.choice_, self.compared_ = selection.reason, selection.compared
        targets = self._to_scales(values[rows])
        self.models_: list[Any] = []
        for number, name in enumerate(self.members_):
            show(0.6 + 0.4 * number / len(self.members_), f"training: {name}")
            learned = values[rows] if name in LEARN_VALUES else targets
            self.models_.append(train(name, measured, learned, table, self.seed, parameters, self.distinct))
        share_features([*self.models_, *self.classifiers_])
        self.unseen_ = np.full(values.shape, np.nan)
        self.unseen_[rows] = selection.unseen
        self.levels_ = [find_levels(column, unseen) for column, unseen in zip(values.T, self.unseen_.T, strict=True)]
        self.unseen_ = round_to_levels(self.unseen_, self.levels_)
        constant = constant_outputs(strings)
        self.constants_ = values_of_constants(values, constant, directions or ["max"] * values.shape[1])
        self.unseen_ = self._with_constants(self.unseen_, constant)
        deviations = np.full(values.shape, np.nan)
        if selection.deviations is not None:
            deviations[rows] = selection.deviations
        self.conformals_ = [
            Conformal.fit(column[used], unseen[used], None if selection.deviations is None else deviation[used])
            for column, unseen, deviation in zip(values.T, self.unseen_.T, deviations.T, strict=True)
            # Errors of networks with a constant output say nothing about other networks.
            for used in [np.isfinite(column) & np.isfinite(unseen) & ~constant]
        ]
        show(1.0, "trained")
        return self

    def _more_models(self, values: Values) -> list[str]:
        """Return the models that suit base predictors, and those that suit positive values, which may be costs."""
        costs = not self.proxies_ and bool(np.nanmin(values) > 0) and (self.base_ or len(values) <= _FEW_COSTS)
        return [*(["gp+ridge"] if self.base_ else []), *(["calibrated"] if costs else [])]

    def _check_settings(self) -> None:
        """Raise :class:`InputError` unless the types of the constructor's arguments are right."""
        for what, name in (("model", self.model), ("scale", self.scale)):
            if not isinstance(name, str):
                raise InputError(f"{what} must be a name, such as 'auto', not {name!r}")
        if self.parameters is not None and not isinstance(self.parameters, Mapping):
            raise InputError(f"parameters must be a mapping, such as {{'n_estimators': 200}}, not {self.parameters!r}")
        if self.parameters and self.model == "auto":
            raise InputError("parameters belong to a model; name one beside them, such as model: boosted")
        seed = self.seed
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed <= _LARGEST_SEED:
            raise InputError(f"seed must be a whole number from 0 to {_LARGEST_SEED}, not {seed!r}")

    def _fit_classifier(self, strings: Sequence[str], values: Values) -> FeasibilityClassifier | None:
        """Return a classifier of supported networks; None if all are supported."""
        if not np.isposinf(values).any():
            return None
        measured = np.flatnonzero(~np.isnan(values))
        classifier = FeasibilityClassifier(self.seed)
        return classifier.fit([strings[row] for row in measured.tolist()], np.isfinite(values[measured]))

    @overload
    def predict(
        self, strings: Sequence[str], proxies: npt.ArrayLike | None = None, *, interval: None = None
    ) -> Values: ...

    @overload
    def predict(
        self, strings: Sequence[str], proxies: npt.ArrayLike | None = None, *, interval: float
    ) -> tuple[Values, Values, Values]: ...

    def predict(
        self, strings: Sequence[str], proxies: npt.ArrayLike | None = None, *, interval: float | None = None
    ) -> Values | tuple[Values, Values, Values]:
        """Predict metrics.

        Args:
            strings: ``(n,)`` network strings.
            proxies: ``(n, k)``, if there were any in training.
            interval: the probability that an interval contains the value, such as 0.9; see
                :class:`~freerea_seval.predictor.conformal.Conformal`.

        Returns:
            ``(n,)`` values in the metric's unit, or ``(n, m)``, as in training; +inf for a network that is probably
            not supported. With ``interval``, also the lower and the upper bounds.

        Raises:
            InputError: an invalid string, or proxies that differ in number from those of training.
            sklearn.exceptions.NotFittedError: before :meth:`fit`.
        """
        values = self._values(strings, proxies)
        if interval is None:
            return self._shaped(values)
        columns = zip(self.conformals_, values.T, self.deviations(strings).T, strict=True)
        both = [conformal.bounds(column, interval, deviation) for conformal, column, deviation in columns]
        low, high = (np.stack(side, axis=1) for side in zip(*both, strict=True))
        return self._shaped(values), self._shaped(low), self._shaped(high)

    def bound(
        self,
        strings: Sequence[str],
        side: Literal["lower", "upper"],
        confidence: float,
        proxies: npt.ArrayLike | None = None,
    ) -> Values:
        """Return bounds that the metrics stay above (``lower``) or below (``upper``) with a probability.

        They are shaped as predictions. Raises :class:`InputError` for another side.
        """
        if side not in ("lower", "upper"):
            raise InputError(f"side must be 'lower' or 'upper', not {side!r}")
        values = self._values(strings, proxies)
        columns = zip(self.conformals_, values.T, self.deviations(strings).T, strict=True)
        bounds = [getattr(conformal, side)(column, confidence, deviation) for conformal, column, deviation in columns]
        return self._shaped(np.stack(bounds, axis=1))

    def deviations(self, strings: Sequence[str]) -> Values:
        """Return what errors are relative to, ``(n, m)``; 1 where all networks have equal errors."""
        if not any(conformal.scaled for conformal in self.conformals_):
            return np.ones((len(strings), len(self.conformals_)))
        (model,) = self.models_
        return np.asarray(model.deviations(strings, self._inputs_beside_strings(strings, None)))

    def standardised(self, strings: Sequence[str]) -> Values:
        """Return ``(n, m)`` predictions on the scales that metrics were learned on; NaN for unsupported networks."""
        return self._to_scales(self._values(strings, None))

    def supported(self, strings: Sequence[str]) -> Values:
        """Return the probabilities that networks are supported, shaped as predictions; 1 if none was unsupported."""
        check_is_fitted(self, "models_")
        check_strings(strings)
        ones = np.ones(len(strings))
        columns = [ones if c is None else c.probability(strings) for c in self.classifiers_]
        return self._shaped(np.stack(columns, axis=1))

    def embed(self, strings: Sequence[str]) -> Values:
        """Return the embeddings ``(n, d)`` of strings by the model ``t5``.

        Raises:
            InputError: the predictor has another model.
        """
        check_is_fitted(self, "models_")
        for name, model in zip(self.members_, self.models_, strict=True):
            if name == "t5":
                return np.asarray(model.embed(strings), dtype=np.float64)
        raise InputError(f"expected a predictor of model 't5' for embeddings, this one is {'+'.join(self.members_)}")

    def _values(self, strings: Sequence[str], proxies: npt.ArrayLike | None) -> Values:
        """Return ``(n, m)`` values, +inf for unsupported."""
        check_is_fitted(self, "models_")
        if not len(check_strings(strings)):
            return np.empty((0, len(self.scales_)))
        # Many networks share a functional string: each different string is predicted once.
        rows: list[int] | None = None
        if proxies is None and len(index := {s: i for i, s in enumerate(dict.fromkeys(strings))}) < len(strings):
            rows, strings = [index[string] for string in strings], list(index)
        table = self._inputs_beside_strings(strings, proxies)
        scores = sum(
            weights * self._scores_of(name, model, strings, table)
            for weights, name, model in zip(self.weights_, self.members_, self.models_, strict=True)
        )
        values = to_values(self.scales_, np.asarray(scores))
        values = self._with_constants(round_to_levels(values, self.levels_), constant_outputs(strings))
        for column, classifier in enumerate(self.classifiers_):
            if classifier is not None:
                values[classifier.probability(strings) < 0.5, column] = np.inf
        return values if rows is None else values[rows]

    def _scores_of(self, name: str, model: Any, strings: Sequence[str], table: Values | None) -> Values:
        """Return the ``(n, m)`` scores of one model."""
        predicted = ask(name, model, strings, table)
        return self._to_scales(predicted) if name in LEARN_VALUES else predicted

    def _with_constants(self, values: Values, constant: npt.NDArray[np.bool_]) -> Values:
        """Replace ``(n, m)`` predictions of networks with a constant output, where their value is defined."""
        replaced = constant[:, None] & ~np.isnan(values) & ~np.isnan(self.constants_)
        return np.where(replaced, self.constants_, values)

    def _inputs_beside_strings(self, strings: Sequence[str], proxies: npt.ArrayLike | None) -> Values | None:
        """Return proxies and predictions of the base predictors, ``(n, k)``, or None."""
        if (proxies is None) != (self.proxies_ == 0):
            raise InputError(f"expected {self.proxies_ or 'no'} proxies a network, as in training")
        columns: list[Values] = []
        if proxies is not None:
            table = as_table(proxies)
            if table.shape != (len(strings), self.proxies_):
                raise InputError(f"expected proxies of shape {(len(strings), self.proxies_)}, got {table.shape}")
            columns.append(table)
        if (predictions := base_predictions(self.base_, strings)) is not None:
            columns.append(predictions)
        return np.concatenate(columns, axis=1) if columns else None

    def _to_scales(self, values: Values) -> Values:
        """Map ``(n, m)`` values to the scales on which they are learned; unsupported ones to NaN."""
        return to_scores(self.scales_, np.where(np.isinf(values), np.nan, values))

    def _shaped(self, values: Values) -> Values:
        return values[:, 0] if self.single_ else values

    def state(self) -> State:
        """Return what was learned: values for JSON, and files by name."""
        check_is_fitted(self, "models_")
        parts: list[tuple[str, Any]] = list(zip(self.members_, self.models_, strict=True))
        parts += [(f"classifier-{i}", part) for i, part in enumerate(self.classifiers_) if part is not None]
        parts += [(f"base-{i}", base) for i, base in enumerate(self.base_)]
        states: dict[str, Any] = {}
        files: dict[str, bytes] = {}
        for name, part in parts:
            states[name], part_files = part.state()
            files |= {f"{name}-{file}": content for file, content in part_files.items()}
        content = {
            "parameters": {**self.get_params(deep=False), "seed": int(self.seed)},  # JSON knows no integers of NumPy
            "base": len(self.base_),
            "members": list(self.members_),
            "weights": self.weights_.tolist(),
            "scales": [scale.state() for scale in self.scales_],
            "classifiers": [classifier is not None for classifier in self.classifiers_],
            "conformals": [conformal.state() for conformal in self.conformals_],
            "levels": [None if levels is None else levels.tolist() for levels in self.levels_],
            "constants": [None if np.isnan(value) else float(value) for value in self.constants_],
            "single": bool(self.single_),
            "proxies": self.proxies_,
            "choice": self.choice_,
            "compared": self.compared_,
            "parts": states,
        }
        return content, files

    def restore(self, state: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Take up what :meth:`state` returned; any exception means that the parts do not fit together."""

        def part(name: str, empty: Any) -> Any:
            prefix = f"{name}-"
            part_files = {file.removeprefix(prefix): files[file] for file in files if file.startswith(prefix)}
            empty.restore(state["parts"][name], part_files)
            return empty

        self.set_params(**state["parameters"])
        self.base_ = [part(f"base-{i}", SEvalPredictor()) for i in range(state["base"])]
        self.members_, self.weights_ = tuple(state["members"]), np.array(state["weights"], dtype=np.float64)
        self.models_ = [part(name, make(name, self.seed, self.parameters or {})) for name in self.members_]
        self.scales_ = tuple(Scale.restore(scale) for scale in state["scales"])
        if self.weights_.shape != (len(self.members_), len(self.scales_)):
            raise ValueError(f"weights of shape {self.weights_.shape}, expected one for each model and metric")
        self.classifiers_ = [
            part(f"classifier-{i}", FeasibilityClassifier(self.seed)) if present else None
            for i, present in enumerate(state["classifiers"])
        ]
        share_features([*self.models_, *self.classifiers_])
        self.conformals_ = [Conformal.restore(conformal) for conformal in state["conformals"]]
        self.levels_ = [None if levels is None else np.array(levels, dtype=np.float64) for levels in state["levels"]]
        self.constants_ = np.array([np.nan if value is None else float(value) for value in state["constants"]])
        if self.constants_.shape != (len(self.scales_),) or np.isinf(self.constants_).any():
            raise ValueError(f"values of constant networks: {state['constants']}")
        self.single_, self.proxies_ = bool(state["single"]), read_count(state["proxies"])
        self.choice_, self.compared_ = str(state["choice"]), dict(state["compared"])
        self.predict(["input[1x1] output"], np.zeros((1, self.proxies_)) if self.proxies_ else None, interval=0.5)


def base_predictions(base: Iterable[SEvalPredictor], strings: Sequence[str]) -> Values | None:
    """Return the standardised predictions of all metrics of base predictors, ``(n, d)``; None if there are none."""
    columns = [predictor.standardised(strings) for predictor in base]
    return np.concatenate(columns, axis=1) if columns else None


def _checked(strings: Sequence[str], y: npt.ArrayLike) -> Values:
    """Return values as ``(n, m)``."""
    values = as_values(strings, y)
    if np.isneginf(values).any() or (values.ndim == 1 and np.isnan(values).any()):
        bad = np.flatnonzero(np.isneginf(values) | np.isnan(values))
        raise InputError(
            f"{len(bad)} of {values.size} values are NaN or -inf, the first at index {bad[0]}; leave out networks"
            " without a value, and write inf for those that the device does not support"
        )
    values = values[:, None] if values.ndim == 1 else values
    check_enough(np.isfinite(values), FEWEST)
    check_range(values)
    return values


def _checked_base(base: Any) -> list[SEvalPredictor]:
    """Return base predictors as a list.

    Raises:
        InputError: something other than predictors, or one that learned from proxies.
        sklearn.exceptions.NotFittedError: one that is not fitted.
    """
    predictors: Sequence[Any] = base if isinstance(base, Sequence) else [None]
    if not all(isinstance(predictor, SEvalPredictor) for predictor in predictors):
        raise InputError(f"base must be a list of trained predictors (SEvalPredictor), not {str(base)[:60]!r}")
    for predictor in predictors:
        check_is_fitted(predictor, "models_")
        if predictor.proxies_:
            raise InputError(
                f"a base predictor learned from {predictor.proxies_} proxies, which are not available here;"
                " expected base predictors of strings alone"
            )
    return list(predictors)
