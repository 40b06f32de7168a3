"""Networks as points for engines that compare fixed numbers: axes to minimise, and violations of constraints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from freerea_patch import InputError, Objective, SearchSpace


def choices_of(space: SearchSpace) -> Mapping[str, Sequence[str]]:
    """Return the genes of a space by name, each with its possible values.

    Raises:
        InputError: the space lacks one of the members that make genotypes from genes.
    """
    missing = [m for m in ("choices", "compose", "genes") if not callable(getattr(space, m, None))]
    if missing:
        raise InputError(
            f"space {space.name} has no method {' and no '.join(missing)}, which engines that choose values of genes"
            " need: a space with 'only' has none, and for a space of your own see freerea_patch.SearchSpace"
        )
    choices: Any = space.choices()  # type: ignore[attr-defined]
    if not (isinstance(choices, Mapping) and choices and all(map(_are_values, choices.values()))):
        raise InputError(
            f"space {space.name}: choices() returned {choices!r:.100}; expected a mapping of names of genes to lists of"
            " different texts"
        )
    return {str(name): tuple(values) for name, values in choices.items()}


def _are_values(values: object) -> bool:
    texts = isinstance(values, Sequence) and values and all(isinstance(value, str) for value in values)
    return bool(texts) and len(set(values)) == len(values)  # type: ignore[arg-type, call-overload]


def compose(space: SearchSpace, genes: Mapping[str, str]) -> str:
    """Return the genotype of genes.

    Raises:
        InputError: the space makes a genotype of them that is not its own.
    """
    genotype: str = space.compose(genes)  # type: ignore[attr-defined]
    space.check(genotype)
    return genotype


def genes_of(space: SearchSpace, choices: Mapping[str, Sequence[str]], genotype: str) -> dict[str, str]:
    """Return the genes of a genotype.

    Raises:
        InputError: they are not among the choices.
    """
    genes: Any = space.genes(genotype)  # type: ignore[attr-defined]
    if not (isinstance(genes, Mapping) and genes.keys() == choices.keys()) or any(
        genes[name] not in values for name, values in choices.items()
    ):
        raise InputError(
            f"space {space.name}: genes({genotype!r:.100}) returned {genes!r:.100}; expected for each gene of choices()"
            " one of its values"
        )
    return dict(genes)


def point(
    values: Mapping[str, float], selecting: Sequence[Objective], constraints: Sequence[Objective], feasible: bool
) -> tuple[list[float], list[float]]:
    """Return the axes of a network, smaller is better, and its relative distances to the constraints, 0 within them.

    Constraints are evaluated before what selects, and one that excludes a network ends its evaluation: a constraint
    without a value counts 0, and so do the axes of an infeasible network. One more violation, the last, is infinite for
    a network that is feasible and lacks a finite value of an axis.

    Args:
        values: by name of the objective.
        selecting, constraints: the objectives.
        feasible: whether all constraints admit the network.
    """
    axes = [-t.oriented(values[t.name]) if feasible else 0.0 for t in selecting]
    defined = all(map(math.isfinite, axes))
    violations = [t.excess(values[t.name]) if t.name in values else 0.0 for t in constraints]
    return axes if defined else [0.0] * len(axes), [*violations, 0.0 if defined else math.inf]


def without_unreached(row: Mapping[str, float], constraints: Sequence[Objective]) -> dict[str, float]:
    """Return a row of an evaluator without the constraints that were not evaluated.

    Of these, as of unsupported ones, the value is NaN; they were not evaluated if another one excludes the network.
    """
    excluded = any(0 < t.excess(row[t.name]) < math.inf for t in constraints)
    unreached = {t.name for t in constraints if excluded and math.isnan(row[t.name])}
    return {name: value for name, value in row.items() if name not in unreached}
