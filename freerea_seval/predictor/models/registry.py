"""The registry of models, and the contract that each of them fulfils."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from inspect import signature
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from freerea_patch import import_object, unknown_name

Values = npt.NDArray[np.float64]
State = tuple[dict[str, Any], dict[str, bytes]]
#: Called with the completed fraction, 0 to 1, and a note.
Show = Callable[[float, str], None]

_CLASSES = {
    "gp": "freerea_seval.predictor.models.gp:GaussianProcessPredictor",
    "layered": "freerea_seval.predictor.models.layered:LayeredPredictor",
    "additive": "freerea_seval.predictor.models.additive:AdditivePredictor",
    "calibrated": "freerea_seval.predictor.models.calibrated:CalibratedPredictor",
    "ridge": "freerea_seval.predictor.models.ridge:RidgePredictor",
    "mlp": "freerea_seval.predictor.models.mlp:MLPPredictor",
    "t5": "freerea_seval.predictor.t5.estimator:T5Predictor",
}
#: The parameters of models of :class:`~freerea_seval.predictor.models.gbdt_ensemble.BoostedPredictor`. ``ordered`` has
#: features of the order of execution. ``shallow`` has them too, and small trees, which suit noisy metrics, and
#: ``robust`` the absolute error, which suits metrics with outliers.
_TREES: Mapping[str, Mapping[str, Any]] = {
    "boosted": {},
    "ordered": {"order": True},
    "shallow": {"order": True, "max_depth": 5, "n_estimators": 300},
    "robust": {"order": True, "objective": "reg:absoluteerror"},
}
#: Names of models beside ``auto``. ``ridge`` uses base predictors and proxies alone; ``ensemble`` is a mean of two.
MODELS = (*_TREES, *_CLASSES, "ensemble")
#: Models that use proxies; the others read strings alone.
USE_PROXIES = (*_TREES, "gp", "calibrated", "ridge")
#: Models that learn values in the unit of a metric, whose sums mean something; the others learn scores.
LEARN_VALUES = ("additive", "calibrated", "layered")
#: Models of values whose ``deviations(strings, proxies)`` are ``(n, m)`` standard deviations of logarithms.
GIVE_DEVIATIONS = ("calibrated",)
#: Above this number of networks a Gaussian process takes too long: its time grows with the cube.
MOST_FOR_GP = 1000


class Model(Protocol):
    """The contract of a model; :class:`~freerea_seval.predictor.seval.SEvalPredictor` calls it.

    Targets are ``(n, m)`` scores, about standard normal, or the values themselves for :data:`LEARN_VALUES`; NaN where a
    metric was not measured.
    """

    def fit(self, strings: Sequence[str], y: npt.ArrayLike, *arguments: Any, **options: Any) -> Any:
        """Learn ``(n,)`` or ``(n, m)`` targets."""
        ...

    def predict(self, strings: Sequence[str]) -> Values:
        """Return ``(n, m)`` scores."""
        ...

    def state(self) -> State:
        """Return what was learned: values for JSON, and files by name."""
        ...

    def restore(self, state: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Take up what :meth:`state` returned; any exception means that the parts do not fit together."""
        ...


def make(name: str, seed: int, parameters: Mapping[str, Any]) -> Any:
    """Return an untrained model.

    Raises:
        InputError: there is no such model, a package is missing, or the model has no such parameter.
    """
    if name not in (*_TREES, *_CLASSES):
        raise unknown_name("model", name, ("auto", *MODELS))
    trees = "freerea_seval.predictor.models.gbdt_ensemble:BoostedPredictor"
    kind = import_object(_CLASSES.get(name, trees), f"model {name!r}")
    settings = {"seed": seed, **_TREES.get(name, {}), **parameters}
    valid = signature(kind).parameters
    for parameter in settings:
        if parameter not in valid:
            raise unknown_name(f"parameter of model {name!r}:", parameter, valid)
    return kind(**settings)


def members(name: str, networks: int, proxies: bool) -> tuple[str, ...]:
    """Return the models that a name denotes, given the number of training networks.

    Names joined by a plus denote their mean. The ensemble is boosted trees with a Gaussian process, or with a small
    neural network where there are too many networks for a Gaussian process; without torch, or with proxies, the trees
    alone.
    """
    if name != "ensemble":
        return tuple(name.split("+"))
    if networks <= MOST_FOR_GP:
        return ("boosted", "gp")
    if proxies or find_spec("torch") is None:
        return ("boosted",)
    return ("boosted", "mlp")


def train(
    name: str,
    strings: Sequence[str],
    targets: Values,
    proxies: Values | None,
    seed: int,
    parameters: Mapping[str, Any],
    distinct: bool,
) -> Any:
    """Return a model fitted to ``(n, m)`` targets; with ``distinct``, each different string weighs the same."""
    if distinct and name in _TREES:
        parameters = {"distinct": True, **parameters}
    model = make(name, seed, parameters)
    if proxies is not None and name in USE_PROXIES:
        return model.fit(strings, targets, proxies)
    return model.fit(strings, targets)


def ask(name: str, model: Any, strings: Sequence[str], proxies: Values | None) -> Values:
    """Return a model's ``(n, m)`` scores."""
    if proxies is not None and name in USE_PROXIES:
        return np.asarray(model.predict(strings, proxies), dtype=np.float64)
    return np.asarray(model.predict(strings), dtype=np.float64)
