# mypy: disable-error-code="import-untyped, import-not-found"
"""Optuna (Akiba 2019): an evaluator as an objective of its studies, and its samplers as searches of ours.

The parameters of a trial are the genes of a genotype, as categorical choices; the search space has ``choices`` and
``compose`` (see :class:`freerea_patch.SearchSpace`).

References:
    Akiba 2019: Akiba, Sano, Yanase, Ohta, Koyama, Optuna: A Next-generation Hyperparameter Optimization Framework.
    Watanabe 2023: Watanabe, Tree-Structured Parzen Estimator: Understanding Its Algorithm Components.
    Deb 2002: Deb, Pratap, Agarwal, Meyarivan, A fast and elitist multiobjective genetic algorithm: NSGA-II.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from freerea_patch import Candidate, InputError, Objective, Proposal, Search, SearchSpace
from freerea_patch.algorithms import BATCH_SIZE, MOST_CANDIDATES, Batches, Simplify, check_count
from freerea_seval.integrations.points import choices_of, compose, genes_of, point, without_unreached

try:
    import optuna
except ImportError:
    raise InputError("this needs the package optuna: pip install 'freerea-seval[engines]'") from None

if TYPE_CHECKING:
    from freerea_seval.api.evaluator import Evaluator

#: Violation of a constraint by a network that is not supported; Optuna adds up violations.
_FAR = 1e6
#: The most mutations, one after another, of a network that was evaluated before.
_MUTATIONS = 100


class OptunaObjective:
    """The objectives of a config as the objective of a study.

    A trial has one value for every objective that selects (roles ``fitness`` and ``pareto``), in its own unit and
    direction, one constraint for each that bounds, and the user attribute ``genotype``. An infeasible network is not
    evaluated further; its values are infinitely bad.

    Args:
        evaluator: evaluates genotypes.

    Attributes:
        directions: ``"maximize"`` or ``"minimize"`` for each value of a trial.

    Raises:
        InputError: the search space does not have ``choices`` and ``compose``.

    Example:
        >>> import freerea_seval as fs, optuna
        >>> from freerea_seval.integrations.optuna import OptunaObjective
        >>> objective = OptunaObjective(fs.Evaluator.from_config({"budget": {"evaluations": 1}, "objectives": [
        ...     {"metric": "params", "source": "cost", "role": "pareto"},
        ...     {"metric": "skip", "source": "training-free", "role": "pareto"}]}))
        >>> study = optuna.create_study(directions=objective.directions)
        >>> study.optimize(objective, n_trials=5)
        >>> study.best_trials[0].user_attrs["genotype"].startswith("|")
        True
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._choices = choices_of(evaluator.space)
        self._selecting = [t for t in evaluator.objectives if t.role != "constraint"]
        self._constraints = [t for t in evaluator.objectives if t.role == "constraint"]
        self.directions = ["maximize" if t.direction == "max" else "minimize" for t in self._selecting]

    def __call__(self, trial: optuna.Trial) -> tuple[float, ...]:
        """Evaluate the network of a trial."""
        genotype = _suggest(trial, self._evaluator.space, self._choices)
        trial.set_user_attr("genotype", genotype)
        row = self._evaluator([genotype]).iloc[0]
        values = without_unreached({t.name: float(row[t.name]) for t in self._evaluator.objectives}, self._constraints)
        axes, violations = _trial_point(values, self._selecting, self._constraints, bool(row["feasible"]))
        for name, violation in violations.items():
            trial.set_constraint(name, violation)
        signs = (-1.0 if t.direction == "max" else 1.0 for t in self._selecting)
        return tuple(sign * axis for sign, axis in zip(signs, axes, strict=True))


class OptunaSearch(Search):
    """A sampler of Optuna on the genes of genotypes; its subclasses are the samplers.

    The values of a trial are the axes of our Pareto selection: the summed score, if there are fitness terms, and the
    Pareto objectives. The values of a trial are final: the score is the weighted sum of the fitness terms, each divided
    by its largest magnitude in the first ``population`` networks that are feasible. Constraints are Optuna's.

    A network that was evaluated before is replaced by a mutation of it. Networks that are evaluated before the search
    begins, such as those of an earlier part of a refined search, are trials of the study.

    Args:
        space, terms, seed: see :class:`~freerea_patch.Search`. The space has ``choices``, ``compose`` and ``genes``.
        population: number of random networks to begin with; for NSGA-II, the size of its population as well.
        simplify: see :class:`~freerea_patch.Search`.

    Raises:
        InputError: a population under 2, a space without the three members, or what :class:`~freerea_patch.Search`
            refuses.
    """

    def __init__(
        self,
        space: SearchSpace,
        terms: Sequence[Objective],
        *,
        population: int = 10,
        seed: int = 0,
        simplify: Simplify = False,
    ) -> None:
        OptunaSearch.check_options(space, population=population, simplify=simplify)
        super().__init__(space, terms, seed=seed, simplify=simplify)
        self.population = population
        self._choices = choices_of(space)
        self._fitness = [t for t in terms if t.role == "fitness"]
        self._pareto = [t for t in terms if t.role == "pareto"]
        self._constraints = [t for t in terms if t.role == "constraint"]
        self._largest: dict[str, float] = {}
        axes = bool(self._fitness) + len(self._pareto)
        #: Mutants that the next trials are to be, with their parents.
        self._queued: dict[str, str] = {}
        #: The worst value of every axis so far; None until a candidate has them.
        self._worst: list[float] | None = None
        with _quiet():
            self._study = optuna.create_study(sampler=self.sampler(population, seed), directions=["minimize"] * axes)

    @classmethod
    def check_options(cls, space: SearchSpace, **options: Any) -> None:
        """Check the values of options: see :meth:`freerea_patch.Search.check_options`."""
        super().check_options(space, **options)
        check_count("population", options["population"], 2, MOST_CANDIDATES)
        choices_of(space)

    @staticmethod
    def sampler(population: int, seed: int) -> optuna.samplers.BaseSampler:
        """Return the sampler."""
        raise NotImplementedError

    def batches(self) -> Batches:
        """Yield the first population, and then one network at a time."""
        self._learn_given()
        count = 1 if self.history.evaluated else self.population
        while True:
            trials: list[tuple[optuna.Trial, str, bool]] = []
            while len(trials) < count:  # random networks, in batches, as the budget may end among them
                with _quiet():
                    asked = [self._study.ask() for _ in range(min(BATCH_SIZE, count - len(trials)))]
                    proposals = [self._propose(trial) for trial in asked]
                new = {p.genotype for p in proposals if p.genotype not in self.history}
                for trial, proposal in zip(asked, proposals, strict=True):
                    trials.append((trial, proposal.genotype, proposal.genotype in new))
                    new.discard(proposal.genotype)
                yield proposals
                while waiting := [p for p in proposals if p.genotype not in self.history]:  # some at a time
                    yield waiting
            self._scale()
            for trial, genotype, is_new in trials:
                if is_new:
                    self._tell(trial, genotype)
                else:  # what is known already teaches nothing
                    self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
                    self._enqueue_unseen(genotype)
            count = max(1, len(self._queued))

    def _enqueue_unseen(self, genotype: str) -> None:
        """Let the next trial be a network near one that was evaluated before, as samplers repeat what they prefer."""
        mutant = genotype
        for _ in range(_MUTATIONS):
            mutant = self.simplified(self.space.mutate(mutant, self.rng))
            if mutant not in self.history and mutant not in self._queued:
                self._queued[mutant] = genotype
                self._study.enqueue_trial(dict(genes_of(self.space, self._choices, mutant)))
                return

    def _propose(self, trial: optuna.Trial) -> Proposal:
        genotype = self.simplified(_suggest(trial, self.space, self._choices))
        if (parent := self._queued.pop(genotype, None)) is not None:
            return Proposal(genotype, trial.number, (parent,), "mutation")
        return Proposal(genotype, trial.number)

    def _learn_given(self) -> None:
        """Make trials of the candidates that are in the history already."""
        self._scale()
        distributions: dict[str, optuna.distributions.BaseDistribution] = {
            name: optuna.distributions.CategoricalDistribution(values) for name, values in self._choices.items()
        }
        for candidate in self.history.all_candidates():
            axes, violations = self._point(candidate)
            genes = genes_of(self.space, self._choices, candidate.genotype)
            trial = optuna.trial.create_trial(
                values=axes, params=dict[str, Any](genes), distributions=distributions, constraints=violations
            )
            self._study.add_trial(trial)

    def _scale(self) -> None:
        """Take the largest magnitudes of the fitness terms from the candidates so far, unless they are taken."""
        if not self._largest and len(self.history):
            for term in self._fitness:
                magnitudes = (abs(c.values[term.name]) for c in self.history)
                self._largest[term.name] = max(filter(math.isfinite, magnitudes), default=1.0) + 1e-9

    def _tell(self, trial: optuna.Trial, genotype: str) -> None:
        candidate = self.history.find(genotype)
        assert candidate is not None  # evaluated by now
        axes, violations = self._point(candidate)
        for name, violation in violations.items():
            trial.set_constraint(name, violation)
        self._study.tell(trial, axes)

    def _point(self, candidate: Candidate) -> tuple[list[float], dict[str, float]]:
        values = dict(candidate.values)
        if candidate.feasible and self._fitness:
            values["score"] = sum(t.weight * t.oriented(values[t.name]) / self._largest[t.name] for t in self._fitness)
        summed = [Objective("score")] if self._fitness else []
        axes, violations = _trial_point(values, [*summed, *self._pareto], self._constraints, candidate.feasible)
        if any(violations.values()):  # a Gaussian process fits these values as well, so that they are finite
            return self._worst or [0.0] * len(axes), violations
        self._worst = [max(pair) for pair in zip(axes, self._worst or axes, strict=True)]
        return axes, violations


class OptunaTPE(OptunaSearch):
    """Optuna's tree-structured Parzen estimator (Watanabe 2023), of all genes together."""

    @staticmethod
    def sampler(population: int, seed: int) -> optuna.samplers.BaseSampler:
        """Return the sampler."""
        return optuna.samplers.TPESampler(n_startup_trials=population, multivariate=True, seed=seed)


class OptunaNSGA2(OptunaSearch):
    """Optuna's NSGA-II (Deb 2002)."""

    @staticmethod
    def sampler(population: int, seed: int) -> optuna.samplers.BaseSampler:
        """Return the sampler."""
        return optuna.samplers.NSGAIISampler(population_size=population, seed=seed)


class OptunaGP(OptunaSearch):
    """Optuna's Gaussian process with expected improvement; it needs torch."""

    @staticmethod
    def sampler(population: int, seed: int) -> optuna.samplers.BaseSampler:
        """Return the sampler."""
        return optuna.samplers.GPSampler(n_startup_trials=population, deterministic_objective=True, seed=seed)


def _suggest(trial: optuna.Trial, space: SearchSpace, choices: Mapping[str, Sequence[str]]) -> str:
    """Return the genotype whose genes a trial suggests."""
    return compose(space, {name: str(trial.suggest_categorical(name, values)) for name, values in choices.items()})


def _trial_point(
    values: Mapping[str, float], selecting: Sequence[Objective], constraints: Sequence[Objective], feasible: bool
) -> tuple[list[float], dict[str, float]]:
    """Return the axes of a trial, infinite unless all are finite and within the constraints, and its constraints."""
    axes, excesses = point(values, selecting, constraints, feasible)
    names = [*(t.name for t in constraints), "a finite value"]
    violations = {name: min(excess, _FAR) for name, excess in zip(names, excesses, strict=True)}
    return [math.inf] * len(axes) if any(violations.values()) else axes, violations


@contextmanager
def _quiet() -> Iterator[None]:
    """Let Optuna say nothing of its trials, nor of options that may change."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
