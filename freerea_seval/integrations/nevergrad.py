# mypy: disable-error-code="import-untyped, import-not-found, no-any-unimported, unused-ignore"
"""Nevergrad (Rapin 2018): an evaluator as a function that its optimizers minimise, with genes as choices.

References:
    Rapin 2018: Rapin, Teytaud, Nevergrad: A gradient-free optimization platform.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from freerea_patch import InputError
from freerea_seval.integrations.points import choices_of, compose, point, without_unreached

try:
    import nevergrad as ng
except ImportError:
    raise InputError("this needs the package nevergrad: pip install 'freerea-seval[engines]'") from None

if TYPE_CHECKING:
    from freerea_seval.api.evaluator import Evaluator

#: The loss of a network that is infeasible or not supported. Nevergrad clips losses from 5e20 on, with a warning.
_WORST = 1e20


class NevergradLoss:
    """The objectives of a config as the loss of an optimizer.

    A network has one loss for every objective that selects (roles ``fitness`` and ``pareto``), negative where more is
    better. An infeasible network is not evaluated further; its losses are 1e20.

    Args:
        evaluator: evaluates genotypes.

    Attributes:
        parametrization: the genes as categorical choices, which an optimizer takes.

    Raises:
        InputError: the search space does not have ``choices``, ``compose`` and ``genes``.

    Example:
        >>> import freerea_seval as fs, nevergrad as ng
        >>> from freerea_seval.integrations.nevergrad import NevergradLoss
        >>> loss = NevergradLoss(fs.Evaluator.from_config({"budget": {"evaluations": 1}, "objectives": [
        ...     {"metric": "params", "source": "cost", "role": "pareto", "direction": "min"}]}))
        >>> best = ng.optimizers.DiscreteOnePlusOne(loss.parametrization, budget=5).minimize(loss)
        >>> loss.genotype(best.value).startswith("|")
        True
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._selecting = [t for t in evaluator.objectives if t.role != "constraint"]
        self._constraints = [t for t in evaluator.objectives if t.role == "constraint"]
        genes = {name: ng.p.Choice(list(values)) for name, values in choices_of(evaluator.space).items()}
        self.parametrization = ng.p.Dict(**genes)
        self._last: tuple[str, tuple[list[float], list[float]]] | None = None

    def __call__(self, genes: Mapping[str, str]) -> float | list[float]:
        """Return the loss of the network of these genes, a list of losses if several objectives select."""
        axes, violations = self._point(genes)
        losses = [_WORST] * len(axes) if any(violations) else axes
        return losses if len(losses) > 1 else losses[0]

    def violation(self, genes: Mapping[str, str]) -> float:
        """Return the summed relative distance to the bounds, 0 within them, as ``constraint_violation``."""
        return min(sum(self._point(genes)[1]), _WORST)

    def genotype(self, genes: Mapping[str, str]) -> str:
        """Return the genotype of genes, such as the ``value`` of a recommendation."""
        return compose(self._evaluator.space, dict(genes))

    def _point(self, genes: Mapping[str, str]) -> tuple[list[float], list[float]]:
        genotype = self.genotype(genes)
        if self._last is None or self._last[0] != genotype:  # an optimizer asks for loss and violation one by one
            row = self._evaluator([genotype]).iloc[0]
            values = without_unreached(
                {t.name: float(row[t.name]) for t in self._evaluator.objectives}, self._constraints
            )
            self._last = genotype, point(values, self._selecting, self._constraints, bool(row["feasible"]))
        return self._last[1]
