"""What a predictor is given beside strings and values, checked: settings, base predictors, and the side of a bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from freerea_patch import InputError

Predictor = TypeVar("Predictor")
#: What NumPy and scikit-learn take as a seed.
MOST_SEED = 2**32 - 1


def check_settings(model: Any, scale: Any, parameters: Any, seed: Any) -> None:
    """Raise :class:`InputError` unless a predictor can have these settings; names are looked up where they are used."""
    for what, name in (("model", model), ("scale", scale)):
        if not isinstance(name, str):
            raise InputError(f"{what} must be a name, such as 'auto', not {name!r}")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise InputError(f"parameters must be a mapping, such as {{'n_estimators': 200}}, not {parameters!r}")
    if parameters and model == "auto":
        raise InputError("parameters belong to a model; name one beside them, such as model: boosted")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed <= MOST_SEED:
        raise InputError(f"seed must be a whole number from 0 to {MOST_SEED}, not {seed!r}")


def check_base(base: Any, kind: type[Predictor]) -> list[Predictor]:
    """Return base predictors, all of one kind, as a list.

    Raises:
        InputError: something else, or one that learned from proxies.
        sklearn.exceptions.NotFittedError: one that has learned nothing.
    """
    others: Sequence[Any] = base if isinstance(base, Sequence) else [None]
    if not all(isinstance(other, kind) for other in others):
        raise InputError(f"base must be a list of trained predictors ({kind.__name__}), not {str(base)[:60]!r}")
    for other in base:
        check_is_fitted(other, "models_")
        if other.proxies_:
            raise InputError(
                f"a base predictor learned from {other.proxies_} proxies, which nobody gives it here;"
                " take base predictors of strings alone"
            )
    return list(base)


def check_side(side: Any) -> None:
    """Raise :class:`InputError` unless this is a side of a bound."""
    if side not in ("lower", "upper"):
        raise InputError(f"side must be 'lower' or 'upper', not {side!r}")
