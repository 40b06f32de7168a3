# mypy: disable-error-code="import-untyped, import-not-found"
"""Ray Tune (Liaw 2018): an evaluator as a trainable, and the genes of a space as its search space.

References:
    Liaw 2018: Liaw, Liang, Nishihara, Moritz, Gonzalez, Stoica, Tune: A Research Platform for Distributed Model
        Selection and Training, arXiv 1807.05118.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from freerea_patch import InputError, SearchSpace
from freerea_seval.integrations.points import choices_of

try:
    from ray import tune
except ImportError:
    raise InputError("this needs the package ray: pip install 'freerea-seval[ray]'") from None

if TYPE_CHECKING:
    from freerea_seval.api.evaluator import Evaluator


def param_space(space: SearchSpace) -> dict[str, Any]:
    """Return the genes of a space as choices, for the argument ``param_space`` of a tuner.

    Raises:
        InputError: the search space does not have ``choices``, ``compose`` and ``genes``.
    """
    return {name: tune.choice(list(values)) for name, values in choices_of(space).items()}


def trainable(evaluator: Evaluator) -> Callable[[Mapping[str, str]], dict[str, Any]]:
    """Return a trainable that reports the genotype, whether it is feasible, and the value of every objective.

    Values have their own units and directions; NaN is a value that is unsupported, or was not evaluated because a
    constraint was violated before. Every process of a tuner opens the sources of the evaluator again.

    Example:
        >>> import freerea_seval as fs  # doctest: +SKIP
        >>> from ray import tune
        >>> from freerea_seval.integrations.ray import param_space, trainable
        >>> evaluator = fs.Evaluator.from_config("search.yaml")
        >>> tuner = tune.Tuner(trainable(evaluator), param_space=param_space(evaluator.space),
        ...     tune_config=tune.TuneConfig(num_samples=20))
        >>> table = tuner.fit().get_dataframe()
    """

    def evaluate(genes: Mapping[str, str]) -> dict[str, Any]:
        genotype = evaluator.space.compose(dict(genes))  # type: ignore[attr-defined]
        row = evaluator([genotype]).iloc[0]
        values = {term.name: float(row[term.name]) for term in evaluator.objectives}
        return {"genotype": genotype, "feasible": bool(row["feasible"]), **values}

    return evaluate
