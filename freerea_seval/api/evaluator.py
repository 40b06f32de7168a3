"""The objectives of a config for other search engines: :class:`Evaluator`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freerea_seval.api.arguments import as_config, progress_bars
from freerea_seval.config import Config

if TYPE_CHECKING:
    from pandas import DataFrame

    from freerea_patch import Objective, SearchSpace
    from freerea_seval.runs.setup import Setup


class Evaluator:
    """Evaluates genotypes on the objectives of a config, exactly as a search does.

    Values come through the same sources and the same cache as in a search. An evaluator can be pickled: in another
    process it opens its sources again when it is first used.

    Args:
        config: the config.
        base: folder that the config's relative paths start from.
        folder: where sources keep what they measure and train before they answer; None if none of them does.
        progress: show the progress of such preparations on a terminal.

    Example:
        >>> import freerea_seval as fs
        >>> evaluator = fs.Evaluator.from_config(
        ...     {"budget": {"evaluations": 1}, "objectives": [{"metric": "params", "source": "cost"}]})
        >>> evaluator([evaluator.space.genotypes()[0]]).columns.tolist()
        ['genotype', 'feasible', 'params']
    """

    def __init__(self, config: Config, base: Path = Path(), folder: Path | None = None, progress: bool = False) -> None:
        self.config = config
        self._base = base.resolve()
        self._folder = None if folder is None else folder.resolve()
        self._progress = progress

    @classmethod
    def from_config(
        cls,
        config: str | Path | Mapping[str, Any] | Config | None = None,
        *,
        folder: str | Path | None = None,
        progress: bool = False,
    ) -> Evaluator:
        """Return the evaluator of a config, with its sources opened.

        Args:
            config: a YAML file, a mapping or a Config, as for :func:`freerea_seval.search`.
            folder: folder to make for what sources measure and train before they answer, such as
                ``source: {seval: {measure: latency}}``; an evaluator of the same folder does not measure again.
            progress: show the progress of such preparations on a terminal.

        Raises:
            InputError: whatever is wrong with the config, the space, or a source.
        """
        checked, base, _ = as_config(config)
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
        evaluator = cls(checked, base, None if folder is None else Path(folder), progress)
        _ = evaluator._setup  # opens the sources, so that mistakes show here
        return evaluator

    def __reduce__(self) -> tuple[Any, ...]:
        return Evaluator, (self.config, self._base, self._folder, self._progress)

    @cached_property
    def _setup(self) -> Setup:
        from freerea_seval.runs.setup import prepare

        return prepare(self.config, self._base, folder=self._folder, progress=progress_bars(self._progress))

    @property
    def space(self) -> SearchSpace:
        """The search space whose genotypes are evaluated."""
        return self._setup.space

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives, in the order of the config: names, directions, roles, bounds and units."""
        return tuple(self._setup.objectives.terms)

    def evaluate(self, genotypes: Sequence[str]) -> DataFrame:
        """Return the values of genotypes, evaluated as one batch.

        Args:
            genotypes: ``(n,)`` genotypes of :attr:`space`.

        Returns:
            ``n`` rows in the order of the genotypes: ``genotype``, ``feasible`` (whether all constraints admit it), and
            a column an objective in its own unit and sign, with units in ``attrs["units"]``. NaN is a value that is
            unsupported, or was not evaluated because a constraint was violated before.

        Raises:
            InputError: a genotype is not of the space, or a source cannot evaluate it.
        """
        from pandas import DataFrame

        for genotype in genotypes:
            self.space.check(genotype)
        different = list(dict.fromkeys(genotypes))
        evaluations = dict(zip(different, self._setup.objectives.evaluate(different), strict=True))
        nan = float("nan")
        columns: dict[str, list[Any]] = {
            term.name: [evaluations[genotype].values.get(term.name, nan) for genotype in genotypes]
            for term in self.objectives
        }
        feasible = [
            all(term.admits(columns[term.name][row]) for term in self.objectives if term.role == "constraint")
            for row in range(len(genotypes))
        ]
        table = DataFrame({"genotype": list(genotypes), "feasible": feasible, **columns})
        table.attrs["units"] = {term.name: term.unit for term in self.objectives}
        return table

    __call__ = evaluate
