"""The predictor that users train: from network strings to metrics in their units, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from freerea_patch import Direction, InputError
from freerea_seval.predictor.conformal import Conformal
from freerea_seval.predictor.degenerate_networks import values_of_constants, which_are_constant
from freerea_seval.predictor.features.proxies import as_table
from freerea_seval.predictor.features.vectorizer import check_strings, share_features
from freerea_seval.predictor.model_selection import choose
from freerea_seval.predictor.models.feasibility_classifier import Support
from freerea_seval.predictor.models.registry import Show, State, ask, make, train
from freerea_seval.predictor.models.target_transform import Scale
from freerea_seval.predictor.models.validation import check_enough, check_range, numbers
from freerea_seval.predictor.quantized_targets import levels_of, to_levels
from freerea_seval.predictor.validation import check_base, check_settings, check_side

Values = npt.NDArray[np.float64]

#: Fewer values of a metric cannot be cross-validated: two samples a fold.
FEWEST = 10


class SEvalPredictor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn regressor from network strings to one metric or several.

    Several metrics are learned jointly where the model can. A value of +inf means that the device does not support the
    network: whether it does is predicted first, as a class of its own. NaN means that a metric was not measured.

    Args:
        model: ``boosted``, ``gp``, ``mlp``, ``t5``, ``ensemble`` or ``auto``, which chooses by cross-validation on the
            training data alone; see :data:`~freerea_seval.predictor.models.registry.MODELS`.
        scale: ``linear``, ``log``, ``rank`` or ``auto``: on what scale metrics are learned.
        parameters: of the model, by name; only with a model that is named.
        distinct: predict networks unlike those of training: equal strings are held out together and weigh as one.
            Intervals are then those of networks whose string is new.
        seed: fixes everything.

    Attributes:
        choice_: what was chosen, and why, in one sentence.
        compared_: Kendall's tau-b of the models that were compared, by name.
        members_: names of the models whose mean predicts.
        shares_: ``(k, m)`` of the models in the mean of each metric.
        unseen_: ``(n, m)`` predictions of training networks by models that had not seen them, NaN where there are none.
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

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = True, False
        tags.target_tags.multi_output = True
        return tags

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
            proxies: ``(n, k)`` zero-cost proxies, or whatever else is known of a network; NaN where it is not.
            base: trained predictors of other metrics or data sets, whose predictions the model then sees beside the
                strings: what they learned helps where little was measured. They must not have learned values of
                these metrics themselves: they would know what cross-validation holds out, and scores and intervals
                would be far too good.
            directions: which values are better, one a metric; None: larger ones. See :mod:`.constants`.
            show: is told the fraction done and a note.

        Raises:
            InputError: fewer than ten supported networks of a metric, values and strings that do not fit together, a
                value of -inf or beyond 1e150, a string that is none, an unknown model or scale, or a parameter that
                the model lacks.
            InputError: something else than predictors as a base, or one that learned from proxies.
        """
        check_settings(self.model, self.scale, self.parameters, self.seed)
        values = _checked(strings, y)
        strings = list(strings)
        self.single_ = np.ndim(y) == 1
        self.proxies_: int = 0 if proxies is None else as_table(proxies).shape[1]
        self.base_ = check_base(base, SEvalPredictor)
        self.supports_ = [self._learn_support(strings, column) for column in values.T]
        values = np.where(np.isposinf(values), np.nan, values)
        rows = np.flatnonzero(~np.isnan(values).all(axis=1))
        known = [strings[i] for i in rows]
        more = self._more(strings, proxies)
        more = None if more is None else more[rows]
        if more is not None and self.model in ("mlp", "t5"):
            raise InputError(f"model {self.model!r} sees strings alone; with proxies or base, take boosted, gp or auto")
        parameters = dict(self.parameters or {})
        choice = choose(
            self.model,
            self.scale,
            known,
            values[rows],
            more,
            self.seed,
            parameters,
            self.distinct,
            lambda f, n: show(0.6 * f, n),
            base=bool(self.base_),
        )
        targets = np.stack([s.score(c) for s, c in zip(choice.scales, values[rows].T, strict=True)], axis=1)
        self.models_: list[Any] = []
        for place, (name, its) in enumerate(zip(choice.members, choice.parameters, strict=True)):
            show(0.6 + 0.4 * place / len(choice.members), f"training: {name}")
            self.models_.append(train(name, known, targets, more, self.seed, its, self.distinct))
        share_features([*self.models_, *self.supports_])
        self.members_, self.shares_, self.scales_ = choice.members, choice.shares, choice.scales
        self.choice_, self.compared_ = choice.reason, choice.compared
        self.unseen_ = np.full(values.shape, np.nan)
        self.unseen_[rows] = choice.unseen
        self.levels_ = [levels_of(column, found) for column, found in zip(values.T, self.unseen_.T, strict=True)]
        self.unseen_ = to_levels(self.unseen_, self.levels_)
        constant = which_are_constant(strings)
        self.constants_ = values_of_constants(values, constant, directions or ["max"] * values.shape[1])
        self.unseen_ = self._with_constants(self.unseen_, constant)
        self.conformals_ = [
            Conformal.fit(column[known], found[known])
            for column, found in zip(values.T, self.unseen_.T, strict=True)
            for known in [np.isfinite(column) & np.isfinite(found) & ~constant]  # their errors tell nothing of others
        ]
        show(1.0, "trained")
        return self

    def _learn_support(self, strings: Sequence[str], values: Values) -> Support | None:
        """Return what tells unsupported networks of a metric from others; None if there are none."""
        if not np.isposinf(values).any():
            return None
        told = np.flatnonzero(~np.isnan(values))
        return Support(self.seed).fit([strings[row] for row in told.tolist()], np.isfinite(values[told]))

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
            interval: the probability with which an interval is to hold the value, such as 0.9; see
                :class:`~freerea_seval.predictor.conformal.Conformal`.

        Returns:
            ``(n,)`` values in the metric's unit, or ``(n, m)``, as in training; +inf for a network that is probably
            not supported. With ``interval``, these and the lower and upper bounds.

        Raises:
            InputError: something that is no network string, or proxies that are not there as in training.
            sklearn.exceptions.NotFittedError: before :meth:`fit`.
        """
        values = self._values(strings, proxies)
        if interval is None:
            return self._shaped(values)
        both = [c.bounds(column, interval) for c, column in zip(self.conformals_, values.T, strict=True)]
        low, high = (np.stack(side, axis=1) for side in zip(*both, strict=True))
        return self._shaped(values), self._shaped(low), self._shaped(high)

    def bound(
        self,
        strings: Sequence[str],
        side: Literal["lower", "upper"],
        confidence: float,
        proxies: npt.ArrayLike | None = None,
    ) -> Values:
        """Return values that the metrics stay above (``lower``) or below with a probability, shaped as predictions."""
        check_side(side)
        values = self._values(strings, proxies)
        found = [getattr(c, side)(column, confidence) for c, column in zip(self.conformals_, values.T, strict=True)]
        return self._shaped(np.stack(found, axis=1))

    def supported(self, strings: Sequence[str]) -> Values:
        """Return the probabilities that networks are supported, shaped as predictions; 1 where all were in training."""
        check_is_fitted(self, "models_")
        check_strings(strings)
        ones = np.ones(len(strings))
        return self._shaped(np.stack([ones if s is None else s.probability(strings) for s in self.supports_], axis=1))

    def embed(self, strings: Sequence[str]) -> Values:
        """Return the vectors ``(n, d)`` of a text encoder, which only the model ``t5`` has.

        Raises:
            InputError: the model is another one.
        """
        check_is_fitted(self, "models_")
        for name, model in zip(self.members_, self.models_, strict=True):
            if name == "t5":
                return np.asarray(model.embed(strings), dtype=np.float64)
        raise InputError(f"vectors come from the model 't5', and this predictor is {'+'.join(self.members_)}")

    def _values(self, strings: Sequence[str], proxies: npt.ArrayLike | None) -> Values:
        """Return ``(n, m)`` values, +inf for unsupported."""
        check_is_fitted(self, "models_")
        if not len(check_strings(strings)):
            return np.empty((0, len(self.scales_)))
        # Many networks share a functional string.
        rows: list[int] | None = None
        if proxies is None and len(places := {s: i for i, s in enumerate(dict.fromkeys(strings))}) < len(strings):
            rows, strings = [places[string] for string in strings], list(places)
        more = self._more(strings, proxies)
        scores = sum(
            share * ask(name, model, strings, more)
            for share, name, model in zip(self.shares_, self.members_, self.models_, strict=True)
        )
        found = np.stack([s.value(c) for s, c in zip(self.scales_, scores.T, strict=True)], axis=1)
        values = self._with_constants(to_levels(found, self.levels_), which_are_constant(strings))
        for column, support in enumerate(self.supports_):
            if support is not None:
                values[support.probability(strings) < 0.5, column] = np.inf
        return values if rows is None else values[rows]

    def _with_constants(self, values: Values, constant: npt.NDArray[np.bool_]) -> Values:
        """Return ``(n, m)`` predictions with those of networks whose output is constant, where there are any."""
        told = constant[:, None] & ~np.isnan(values) & ~np.isnan(self.constants_)
        return np.where(told, self.constants_, values)

    def _more(self, strings: Sequence[str], proxies: npt.ArrayLike | None) -> Values | None:
        """Return what the model sees beside strings: proxies, and predictions of the base predictors."""
        if (proxies is None) != (self.proxies_ == 0):
            raise InputError(f"expected {self.proxies_ or 'no'} proxies a network, as in training")
        columns: list[Values] = []
        if proxies is not None:
            found = as_table(proxies)
            if found.shape != (len(strings), self.proxies_):
                raise InputError(f"expected proxies of shape {(len(strings), self.proxies_)}, got {found.shape}")
            columns.append(found)
        columns += [base.scores(strings) for base in self.base_]
        return np.concatenate(columns, axis=1) if columns else None

    def scores(self, strings: Sequence[str]) -> Values:
        """Return predictions on the scales that were learned on, ``(n, m)``."""
        values = self._values(strings, None)
        return np.stack(
            [s.score(np.where(np.isinf(c), np.nan, c)) for s, c in zip(self.scales_, values.T, strict=True)], axis=1
        )

    def _shaped(self, values: Values) -> Values:
        return values[:, 0] if self.single_ else values

    def state(self) -> State:
        """Return what was learned: what JSON can hold, and files by name."""
        check_is_fitted(self, "models_")
        parts: list[tuple[str, Any]] = list(zip(self.members_, self.models_, strict=True))
        parts += [(f"support-{i}", support) for i, support in enumerate(self.supports_) if support is not None]
        parts += [(f"base-{i}", base) for i, base in enumerate(self.base_)]
        states: dict[str, Any] = {}
        files: dict[str, bytes] = {}
        for name, part in parts:
            states[name], its = part.state()
            files |= {f"{name}-{file}": content for file, content in its.items()}
        said = {
            "parameters": {**self.get_params(deep=False), "seed": int(self.seed)},  # JSON knows no integers of NumPy
            "base": len(self.base_),
            "members": list(self.members_),
            "shares": self.shares_.tolist(),
            "scales": [scale.state() for scale in self.scales_],
            "supports": [support is not None for support in self.supports_],
            "conformals": [conformal.state() for conformal in self.conformals_],
            "levels": [None if levels is None else levels.tolist() for levels in self.levels_],
            "constants": [None if np.isnan(value) else float(value) for value in self.constants_],
            "single": bool(self.single_),
            "proxies": self.proxies_,
            "choice": self.choice_,
            "compared": self.compared_,
            "parts": states,
        }
        return said, files

    def restore(self, state: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Take up what :meth:`state` returned; any exception means that it does not fit together."""

        def part(name: str, empty: Any) -> Any:
            its = {file.removeprefix(f"{name}-"): files[file] for file in files if file.startswith(f"{name}-")}
            empty.restore(state["parts"][name], its)
            return empty

        self.set_params(**state["parameters"])
        self.base_ = [part(f"base-{i}", SEvalPredictor()) for i in range(state["base"])]
        self.members_, self.shares_ = tuple(state["members"]), np.array(state["shares"], dtype=np.float64)
        self.models_ = [part(name, make(name, self.seed, self.parameters or {})) for name in self.members_]
        self.scales_ = tuple(Scale.restore(scale) for scale in state["scales"])
        if self.shares_.shape != (len(self.members_), len(self.scales_)):
            raise ValueError(f"shares of shape {self.shares_.shape}, not one a model and metric")
        self.supports_ = [
            part(f"support-{i}", Support(self.seed)) if there else None for i, there in enumerate(state["supports"])
        ]
        share_features([*self.models_, *self.supports_])
        self.conformals_ = [Conformal.restore(conformal) for conformal in state["conformals"]]
        self.levels_ = [None if levels is None else np.array(levels, dtype=np.float64) for levels in state["levels"]]
        self.constants_ = np.array([np.nan if value is None else float(value) for value in state["constants"]])
        if self.constants_.shape != (len(self.scales_),) or np.isinf(self.constants_).any():
            raise ValueError(f"values of constant networks: {state['constants']}")
        self.single_, self.proxies_ = bool(state["single"]), int(state["proxies"])
        self.choice_, self.compared_ = str(state["choice"]), dict(state["compared"])
        self.predict(["input[1x1] output"], np.zeros((1, self.proxies_)) if self.proxies_ else None, interval=0.5)


def _checked(strings: Sequence[str], y: npt.ArrayLike) -> Values:
    """Return values as ``(n, m)``."""
    values = numbers(strings, y)
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
