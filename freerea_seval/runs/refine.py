"""A search in rounds: search, measure some of what the search leads to, learn from all measurements, search on.

Every step is recorded before the next one begins, so that an interrupted run continues without measuring twice::

    RUN/seed-0/refine.jsonl           what was chosen, and the measured values, in order
    RUN/seed-0/round-1.jsonl          the candidates of each part of the search
    RUN/seed-0/measured-METRIC-1.csv  measurements on this machine, with their journals
    RUN/wanted.csv, wanted.py         networks whose values the user is asked for, and how to build them
    RUN/seed-0/journal.jsonl          in the end: the measured networks with their measured values
    RUN/measured-METRIC.csv           in the end: all measurements; predictor-METRIC: the predictor
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats import rankdata

from freerea_patch import (
    BoundObjective,
    Budget,
    Candidate,
    History,
    InputError,
    Ledger,
    Measured,
    MetricSource,
    NothingFeasible,
    Objective,
    ObjectiveSet,
    Proposal,
    SearchResult,
    Times,
    algorithm_options,
    run,
)
from freerea_seval.config import ObjectiveSection
from freerea_seval.config.schema import FEWEST_TO_LEARN
from freerea_seval.files import temporary_folder
from freerea_seval.predictor.acquisition import Axis, Known, choose, within
from freerea_seval.progress import Progress
from freerea_seval.runs.answers import headers_of, read_answers, write_wanted
from freerea_seval.runs.earlier import read_earlier
from freerea_seval.runs.folder import Journal, Recorder, RunFolder, refer_to_explored
from freerea_seval.runs.refine_log import RefineLog
from freerea_seval.runs.results import describe, leaders_of, report_front, standing, summarise
from freerea_seval.runs.setup import Bound, Setup
from freerea_seval.sources.learned import LearnedSource
from freerea_seval.sources.predicted import write_measurements

_LOG = logging.getLogger(__name__)
Values = npt.NDArray[np.float64]

#: A space with at most this number of networks is looked at as a whole when networks are chosen.
MOST_LISTED = 20_000
#: Random networks among which those to start with are chosen.
_START_POOL = 300
#: The search admits networks that keep a predicted bound with at least this probability, by the errors of predictions.
_CHANCE = 0.1
#: Distance between the seeds of the parts of a search: with equal seeds, all would propose the same networks.
_SEED_STEP = 1_000_000


@dataclass(frozen=True)
class Learned:
    """An objective that is measured in rounds.

    Attributes:
        section: of the config.
        source: measures and predicts.
        start, networks: how many networks are measured before the search, and after each of its parts.
        known: number of values from earlier runs.
    """

    section: ObjectiveSection
    source: LearnedSource
    start: int
    networks: int
    known: int

    @property
    def column(self) -> str:
        """The name under which its values are recorded."""
        return self.section.column

    @property
    def selects(self) -> bool:
        """Whether it is optimised, rather than bounded."""
        return self.section.role != "constraint"


class _Remembering:
    """A metric source that computes no value a second time; a remembered one is not charged.

    Args:
        source: computes the values.
        memory: values by metric and genotype, shared between the parts of a search.
    """

    def __init__(self, source: MetricSource, memory: dict[str, dict[str, float]]) -> None:
        self._source = source
        self._memory = memory

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterator[Mapping[str, Measured]]:
        """Yield one mapping a genotype, in order."""
        columns = [self._memory.setdefault(metric, {}) for metric in metrics]
        missing = [g for g in genotypes if any(g not in column for column in columns)]
        computed = iter(self._source.evaluate(missing, metrics) if missing else [])
        for genotype in genotypes:
            if all(genotype in column for column in columns):
                yield {metric: Measured(column[genotype]) for metric, column in zip(metrics, columns, strict=True)}
                continue
            row = next(computed)
            for metric, column in zip(metrics, columns, strict=True):
                column[genotype] = row[metric].value
            yield row


def learned_of(setup: Setup, known: Mapping[str, int]) -> list[Learned]:
    """Return the objectives that are measured in rounds, in the order in which they are measured.

    Args:
        setup: the opened sources.
        known: numbers of values from earlier runs, by column.

    Raises:
        InputError: the numbers of networks do not suit, or the name of an objective.
    """
    section = setup.config.refine
    assert section is not None
    order = {"measure": 0, "ask": 2}  # what costs least is known first
    objectives = sorted(
        (
            Learned(
                bound.section,
                bound.source,
                section.start if bound.source.means.start is None else bound.source.means.start,
                section.networks if bound.source.means.networks is None else bound.source.means.networks,
                known.get(bound.section.column, 0),
            )
            for bound in setup.bound
            if isinstance(bound.source, LearnedSource)
        ),
        key=lambda learned: (learned.selects, order.get(learned.source.means.kind, 1)),
    )
    guided = any(bound.section.role == "guide" for bound in setup.bound)
    others = any(
        b.section.role in ("fitness", "pareto") and not isinstance(b.source, LearnedSource) for b in setup.bound
    )
    sources = [learned.source for learned in objectives]
    for learned in objectives:
        if sources.count(learned.source) > 1:
            raise InputError(f"objective {learned.column!r}: another objective learns the same metric; keep one")
        if learned.column.strip(". ") == "" or set(learned.column) & set("/\\:\0"):
            raise InputError(f"objective {learned.column!r}: its name is also one of files; give it another 'name'")
        later = learned.start == 0 and (guided or others or not learned.selects)
        if max(learned.start, learned.known) < FEWEST_TO_LEARN and not later:
            raise InputError(
                f"objective {learned.column!r}: a predictor needs 'start' of at least {FEWEST_TO_LEARN} networks,"
                f" got {learned.start}; or take 'start: 0' and let an objective with 'role: guide' steer until then"
            )
    return objectives


class Refinement:
    """The rounds of one seed.

    Args:
        folder: the run.
        setup: its opened sources; see :class:`freerea_seval.runs.setup.Setup`.
        seed: of the search.
        progress: shows the progress.

    Raises:
        InputError: a file of the run is damaged, or the numbers of networks do not suit.
    """

    def __init__(self, folder: RunFolder, setup: Setup, seed: int, progress: Progress) -> None:
        section = setup.config.refine
        assert section is not None
        self._folder, self._setup, self._seed, self._progress = folder, setup, seed, progress
        self._path = folder.seed(seed)
        self._path.mkdir(exist_ok=True)
        self._rounds = section.rounds
        self._bound = setup.bound
        earlier = read_earlier(folder, setup)
        self.learned = learned_of(setup, {column: len(values) for column, values in earlier.values.items()})
        self.log = RefineLog(self._path / "refine.jsonl", earlier.values)
        self._memory: dict[int, dict[str, dict[str, float]]] = {}
        #: The candidates of every part of the search; those of part 0 are from earlier runs.
        self._journals: dict[int, list[Candidate]] = {0: earlier.explored}
        self._remember(earlier.explored)

    def execute(self) -> dict[str, Any]:
        """Carry out the rounds, and return the result of the seed.

        Raises:
            AnswersWanted: the user has to supply values first.
            NothingFeasible: no measured network satisfies the constraints.
        """
        try:
            for number in range(self._rounds + 1):
                chosen = [column for known, column in self.log.wanted if known == number]
                if number and len(chosen) < len(self.learned):
                    self._train(number)
                    if not chosen:
                        self._search(number)
                self._measure_round(number)
            self._train(self._rounds + 1)
            return self._result()
        finally:
            self.log.close()

    # Measuring

    def _measure_round(self, number: int) -> None:
        """Choose, record and measure the networks of a round, metric by metric."""
        for learned in self.learned:
            self._take_values()
            key = (number, learned.column)
            if key not in self.log.wanted:
                chosen = self._choose_start(learned) if number == 0 else self._choose(learned, number)
                self.log.want(number, learned.column, dict(zip(chosen, learned.source.predict(chosen), strict=True)))
            known = self.log.known(learned.column)
            missing = [genotype for genotype in self.log.wanted[key] if genotype not in known]
            if missing and learned.source.asks:
                self._ask()
            if missing:
                # What is measured together is resumed together, though a part of it may be recorded already.
                networks = list(self.log.wanted[key]) if learned.source.is_measured_together else missing
                output = self._path / f"measured-{learned.column}-{number}.csv"
                anchors = self._anchors(learned, number)
                with self._progress.task(f"measuring {learned.column}, round {number} of {self._rounds}") as show:
                    measured = learned.source.measure(networks, output, anchors)
                    for count, (genotype, value) in enumerate(measured, start=1):
                        if genotype in missing:
                            self.log.value(number, learned.column, genotype, value)
                        show(count / len(networks), "")
        self._take_values()

    def _anchors(self, learned: Learned, number: int) -> dict[str, float]:
        """Return networks of the first measurement, from its fast, middle and slow quarters, with their values.

        Those to start with are measured with networks of earlier runs, if there are any.
        """
        values = self.log.known(learned.column, before=min(number, 1))
        ordered = sorted((genotype for genotype, value in values.items() if value > 0), key=values.__getitem__)
        places = sorted({len(ordered) * quarter // 4 for quarter in (1, 2, 3)})
        return {ordered[place]: values[ordered[place]] for place in places if place < len(ordered)}

    def _take_values(self, before: float = math.inf) -> None:
        for learned in self.learned:
            learned.source.measured = self.log.known(learned.column, before)

    def _train(self, number: int) -> None:
        """Train every predictor on the values from the rounds before a number."""
        self._take_values(number)
        with self._progress.task("training predictors") as show:
            for count, learned in enumerate(self.learned):
                show(count / len(self.learned), learned.column)
                seconds = learned.source.train()
                if seconds:
                    self.log.train(learned.column, seconds)
                    values = len(learned.source.measured)
                    _LOG.info("trained a predictor of %s on %d values in %.1f s", learned.column, values, seconds)

    def _ask(self) -> None:
        """Write which values are wanted, and end the run for now."""
        wanted: dict[str, list[str]] = {}
        for (_, column), predictions in self.log.wanted.items():
            if any(learned.column == column and learned.source.asks for learned in self.learned):
                known = self.log.known(column)
                for genotype in predictions:
                    if genotype not in known:
                        wanted.setdefault(genotype, []).append(column)
        raise write_wanted(self._folder.path, wanted)

    # Choosing

    def _choose_start(self, learned: Learned) -> list[str]:
        """Return the networks to start with: the extremes of a sample, then the most informative of it."""
        from freerea_seval.measurement.networks import draw, most_informative_first
        from freerea_seval.predictor.features.vectorizer import StringFeatures

        count = max(other.start for other in self.learned)
        if learned.start <= learned.known:
            return []
        space = self._setup.space
        genotypes = draw(space, max(_START_POOL, 2 * count), self._seed, least=1)
        with self._progress.task("choosing networks to start with") as show:
            ordered = most_informative_first(space, genotypes, show, learned.source.cost_bases)
        strings = learned.source.strings.strings(ordered)
        costs = StringFeatures().fit(strings).matrix(strings)[:, 0]  # the multiply-adds
        extremes = [ordered[int(place(costs))] for place in (np.argmin, np.argmax)]
        unknown = [g for g in dict.fromkeys([*extremes, *ordered]) if g not in learned.source.measured]
        return unknown[: learned.start - learned.known]

    def _choose(self, learned: Learned, number: int) -> list[str]:
        """Return the networks whose value of a metric is worth most."""
        done = len(self.log.known(learned.column))
        count = max(learned.start, learned.known) + number * learned.networks - done
        earlier = self.learned[: self.learned.index(learned)]
        candidates = self._candidates(number)
        for other in (o for o in earlier if o.networks or o.start):
            # Only networks that keep the bounds measured so far are worth a more expensive measurement.
            values = other.source.measured
            candidates = [g for g in candidates if g in values and (other.selects or self._admits(other, values[g]))]
        candidates = [g for g in candidates if g not in learned.source.measured]
        if count < 1 or not candidates:
            return []
        axes, feasible = self._beliefs(candidates, informed=self._steered() or len(earlier) > 0)
        alike = learned.source.strings.strings(candidates)
        return [candidates[row] for row in choose(axes, feasible, count, alike, self._seed + number)]

    def _admits(self, learned: Learned, value: float) -> bool:
        return all(objective.admits(value) for objective in learned.section.objectives())

    def _candidates(self, number: int) -> list[str]:
        """Return the networks to choose from: all of a small space if everything that selects is learned."""
        candidates = self._explored(number)
        # If no prediction keeps the bounds, those that break them are all there is, though their other values are not
        # known yet.
        complete = [candidate for candidate in candidates if self._is_complete(candidate)] or candidates
        explored = {candidate.genotype: None for candidate in complete}
        known = {genotype: None for learned in self.learned for genotype in self.log.known(learned.column)}
        measured = dict.fromkeys(self._within_known_bounds(list(known)))
        space = self._setup.space
        listing = getattr(space, "genotypes", None)
        if self._needs_only_learned() and listing is not None and len(genotypes := listing()) <= MOST_LISTED:
            return list(genotypes)
        return list(explored | measured)

    def _is_complete(self, candidate: Candidate) -> bool:
        """Whether a candidate has the values that are not learned, and keeps the bounds of such values."""
        values = candidate.values
        bounds = [term for b in self._known_constraints() for term in b.section.objectives()]
        return all(term.name in values for term in self._known_terms()) and all(
            term.name in values and term.admits(values[term.name]) for term in bounds
        )

    def _known_constraints(self) -> list[Bound[ObjectiveSection]]:
        """Return the constraints that are not learned, with their sources."""
        return [b for b in self._bound if b.section.role == "constraint" and not isinstance(b.source, LearnedSource)]

    def _known_terms(self) -> list[Objective]:
        """Return the objectives of the choice that are not learned."""
        sections = [b.section for b in self._bound if not isinstance(b.source, LearnedSource)]
        return [
            term
            for s in sections
            if s.role != "guide" or self._steered()
            for term in s.objectives()
            if s.role != "constraint"
        ]

    def _guides(self) -> set[str]:
        """Return the names of the guides."""
        return {b.section.column for b in self._bound if b.section.role == "guide"}

    def _guided(self) -> bool:
        """Whether guides stand in for a metric of which nothing is believed yet."""
        return any(learned.selects and not learned.source.believes() for learned in self.learned)

    def _needs_only_learned(self) -> bool:
        return not (self._known_terms() or self._known_constraints())

    def _beliefs(self, candidates: Sequence[str], informed: bool) -> tuple[list[Axis], Values]:
        """Return the axes that select, and the probabilities of candidates to be feasible.

        Args:
            candidates: the networks.
            informed: whether the score of the guides informs the beliefs of the metrics that they stand in for.
        """
        networks, n = [*candidates, *self._feasible_measured()], len(candidates)
        axes: list[Axis] = []
        feasible = np.ones(n)
        for learned in self.learned:
            if not learned.source.believes():
                continue
            objective = learned.section.objectives()[0]
            bounds = [bound for bound in (objective.lower, objective.upper) if bound is not None]
            guide = None
            if informed and learned.selects and learned.start == 0:
                guide = self._guide_scores([*networks, *learned.source.measured])
            belief, supported, mapped = learned.source.belief(networks, bounds, guide)
            feasible *= supported[:n]
            if learned.selects:
                axes.append(_Oriented(belief, 1.0 if objective.direction == "max" else -1.0))
            else:
                lower = -math.inf if objective.lower is None else mapped[0]
                upper = math.inf if objective.upper is None else mapped[-1]
                feasible *= within(belief.mean, belief.std, lower, upper)[:n]
        return [*axes, *map(Known, self._known_axes(networks))], feasible

    def _known_axes(self, networks: Sequence[str]) -> Iterator[Values]:
        """Yield the axes that are not learned: the score of all fitness terms, and the Pareto axes."""
        guides = self._guides()
        terms = [term for term in self._known_terms() if term.name not in guides or self._guided()]
        if not terms:
            return
        bound = [b for b in self._objectives(guides=True) if b.objective.name in {t.name for t in terms}]
        history = self._history(ObjectiveSet(bound), networks)
        recorded = [history.find(genotype) for genotype in networks]
        candidates = [candidate for candidate in recorded if candidate is not None]
        if any(term.role == "fitness" for term in terms):
            scores = history.scores(candidates)
            yield np.where(np.isfinite(scores), scores, np.nanmin(scores, initial=0.0, where=np.isfinite(scores)))
        for term in terms:
            if term.role == "pareto":
                axis = np.array([term.oriented(candidate.values[term.name]) for candidate in candidates])
                finite = np.isfinite(axis)
                yield np.where(finite, axis, np.min(axis, initial=0.0, where=finite))

    def _guide_scores(self, networks: Sequence[str]) -> dict[str, float] | None:
        """Return normal scores of networks by their guides, None without guides."""
        guides = self._guides()
        bound = [b for b in self._objectives(guides=True) if b.objective.name in guides]
        if not bound:
            return None
        history = self._history(ObjectiveSet(bound), networks)
        candidates = list(history.all_candidates())
        ranks = rankdata(np.nan_to_num(history.scores(candidates), nan=-np.inf))
        scores = ndtri((ranks - 0.5) / len(ranks)).tolist()
        return {candidate.genotype: score for candidate, score in zip(candidates, scores, strict=True)}

    # Searching

    def _search(self, number: int) -> None:
        """Search with a part of the budget, from all networks so far.

        Raises:
            InputError: nothing that selects has a predictor or values yet.
        """
        budget = self._setup.config.budget
        evaluations = _share(budget.evaluations, number, self._rounds)
        if evaluations == 0:
            return
        selecting = [b.source for b in self._bound if b.section.role != "constraint"]
        if all(isinstance(source, LearnedSource) and not source.trained for source in selecting):
            lacking = next(learned for learned in self.learned if learned.selects)
            values = sum(map(math.isfinite, lacking.source.measured.values()))
            raise InputError(
                f"{lacking.column} has values of {values} networks, and a predictor needs {FEWEST_TO_LEARN}; raise"
                " 'start', or if it was asked for, give more with --answers"
            )
        objectives = ObjectiveSet(self._objectives(guides=self._steered(), relaxed=True))
        before = self._explored(number - 1)
        networks = list(dict.fromkeys([*(c.genotype for c in before), *self._measured()]))
        given = self._history(objectives, networks)
        options = dict(self._setup.config.search.options())
        algorithm = self._setup.algorithm
        if "start" in algorithm_options(algorithm):
            ranked = given.ranked(list(given))[: options.get("population", len(given))]
            options["start"] = [*(c.genotype for c in ranked), *options.get("start", ())]
        search = algorithm(self._setup.space, objectives.terms, seed=self._seed + (number - 1) * _SEED_STEP, **options)
        for candidate in given.all_candidates():
            search.history.add(candidate.proposal, candidate.evaluation)
        search.history.infeasible_in_a_row = 0  # patience is for what the search proposes
        limits: dict[str, Any] = {name: limit / self._rounds for name, limit in budget.limits.items()}
        if evaluations is not None:  # with room for the feasible networks that are known already
            limits["evaluations"] = len(search.history) + evaluations
        budget = Budget(**limits, patience=budget.patience)
        journal = Journal(self._path / f"round-{number}.jsonl")
        steps = journal.steps()
        recorder = Recorder(journal, steps, budget.uses_clock)
        with closing(journal), self._progress.task(f"searching, part {number} of {self._rounds}") as show:

            def on_candidate(candidate: Candidate, spent: float, times: Times) -> None:
                recorder.record(candidate, times)
                if _LOG.isEnabledFor(logging.DEBUG):
                    _LOG.debug("part %d: %s", number, describe(candidate))
                show(spent, lambda: standing(search.history))

            with suppress(NothingFeasible):  # measurements near the bound are what is needed then
                run(search, objectives, budget, ledger=Ledger(), on_candidate=on_candidate, replay=steps)

    def _steered(self) -> bool:
        """Whether guides stand in for a metric whose predictor is not trained yet."""
        return any(learned.selects and not learned.source.trained for learned in self.learned)

    def _objectives(self, *, guides: bool, relaxed: bool = False, all_learned: bool = False) -> list[BoundObjective]:
        """Return the objectives that have values: with or without guides, and with bounds that errors may relax."""
        bound: list[BoundObjective] = []
        for b in self._bound:
            section = b.section
            if section.role == "guide" and not guides:
                continue
            if not isinstance(b.source, LearnedSource):
                source: MetricSource = self._remembering(b.source)
                bound += [BoundObjective(term, source, section.metric) for term in section.objectives()]
            elif b.source.trained or all_learned:
                terms = section.objectives()
                if relaxed and section.role == "constraint":
                    terms = [_relaxed(term, b.source) for term in terms]
                bound += [BoundObjective(term, b.source, section.metric) for term in terms]
        return bound

    def _history(self, objectives: ObjectiveSet, networks: Sequence[str]) -> History:
        """Return the history of networks with the values that objectives have now."""
        history = History(objectives.terms, **self._setup.config.search.scoring())
        for genotype, evaluation in zip(networks, objectives.evaluate(networks), strict=True):
            history.add(Proposal(genotype, origin="given"), evaluation)
        return history

    def _explored(self, number: int) -> list[Candidate]:
        """Return the candidates of the parts up to a round, each once, with the values of their first evaluation."""
        explored: dict[str, Candidate] = {}
        for part in range(number + 1):
            if part not in self._journals:
                steps = Journal(self._path / f"round-{part}.jsonl").steps()
                self._journals[part] = [Candidate(s.proposal, s.evaluation, 0, True) for s in steps]
                self._remember(self._journals[part])
            for candidate in self._journals[part]:
                explored.setdefault(candidate.genotype, candidate)
        return list(explored.values())

    def _remember(self, candidates: Iterable[Candidate]) -> None:
        for b in self._bound:
            if not isinstance(b.source, LearnedSource):
                column = self._memory.setdefault(id(b.source), {}).setdefault(b.section.metric, {})
                for candidate in candidates:
                    if b.section.column in candidate.values:
                        column[candidate.genotype] = candidate.values[b.section.column]

    # Results

    def _measured(self) -> list[str]:
        """Return the networks of which every learned metric was measured."""
        columns = [learned.source.measured for learned in self.learned if learned.source.measured]
        return [g for g in columns[0] if all(g in column for column in columns)] if columns else []

    def _feasible_measured(self) -> list[str]:
        """Return the networks of which every metric with measurements was measured, and that keep all bounds."""
        networks = self._measured()
        for learned in self.learned:
            values = learned.source.measured
            if values:
                networks = [g for g in networks if learned.selects or self._admits(learned, values[g])]
                networks = [g for g in networks if math.isfinite(values[g])]
        return self._within_known_bounds(networks)

    def _within_known_bounds(self, networks: list[str]) -> list[str]:
        """Return the networks that keep the bounds of metrics that are not learned."""
        for b in self._known_constraints():
            rows = self._remembering(b.source).evaluate(networks, [b.section.metric])
            values = {g: row[b.section.metric].value for g, row in zip(networks, rows, strict=True)}
            networks = [g for g in networks if all(term.admits(values[g]) for term in b.section.objectives())]
        return networks

    def _remembering(self, source: MetricSource) -> _Remembering:
        return _Remembering(source, self._memory.setdefault(id(source), {}))

    def _result(self) -> dict[str, Any]:
        self._take_values()
        networks = [g for g in self._measured() if all(g in ln.source.measured for ln in self.learned)]
        history = self._history(ObjectiveSet(self._objectives(guides=False, all_learned=True)), networks)
        explored = self._explored(self._rounds)
        values = {candidate.genotype: candidate.values for candidate in explored}
        refer_to_explored(history, values, {learned.column for learned in self.learned})
        if not len(history):
            self._keep_what_was_learned()
            raise NothingFeasible(
                f"{history.describe_infeasible()}, of those that were measured; loosen the bound, or measure more:"
                " raise refine.networks"
            )
        leaders = leaders_of(history)
        reported = report_front(leaders, self._setup.report, self._progress)
        for learned in self.learned:
            # By models that were trained without the network, on all others that were measured.
            predictions = learned.source.predict([c.genotype for c in leaders])
            for row, prediction in zip(reported, predictions, strict=True):
                for name, value in zip(("predicted", "low", "high"), prediction, strict=True):
                    row[f"{learned.column}_{name}"] = value
        self._write_journal(history)
        self._keep_what_was_learned()
        ledger = Ledger()
        ledger.charge(self.log.seconds)
        for candidate in explored:
            ledger.charge(candidate.evaluation.seconds)
        result = SearchResult(leaders, history, ledger, Times(0.0, 0.0), "budget")
        summary = summarise(self._seed, result, leaders, reported)
        return {**summary, "explored": len(explored) - len(self._journals[0]), "measured": history.evaluated}

    def _keep_what_was_learned(self) -> None:
        """Write the measurements of every metric as a table that ``train`` reads, and the last predictor."""
        from freerea_seval.predictor.folder import save_predictor

        for learned in self.learned:
            metric, unit = learned.section.metric, learned.section.unit
            file = self._folder.path / f"measured-{learned.column}.csv"
            write_measurements(file, metric, unit or "", learned.source.measured)
            if learned.source.trained:
                folder = self._folder.path / f"predictor-{learned.column}"
                save_predictor(folder, learned.source.predictor, learned.source.info, overwrite=True)

    def _write_journal(self, history: History) -> None:
        with temporary_folder(self._path) as draft:
            journal = Journal(draft / "journal.jsonl")
            with closing(journal):
                for candidate in history.all_candidates():
                    journal.append(candidate)
            (draft / "journal.jsonl").replace(self._path / "journal.jsonl")

    def take_answers(self, path: Path) -> int:
        """Record the answers of a file, and return their number; a file with a mistake changes nothing.

        The file has the column ``genotype`` and one a metric that was asked for, with or without its unit. An empty
        cell is no answer. Networks that were not asked for are welcome; several answers for one are averaged.

        Raises:
            InputError: the file cannot be read, has no such column, or a cell that is neither a number nor ``failed``.
        """
        asked = {name: ln for ln in self.learned if ln.source.asks for name in headers_of(ln.section)}
        if not asked:
            raise InputError(f"run {self._folder.path} asks for no answers: none of its objectives has an 'ask'")
        answers = list(read_answers(path, asked, self._setup.space.check))
        number = max((number for number, _ in self.log.wanted), default=0)
        # The predictors of a part that has begun stay as they are.
        number += (self._path / f"round-{number + 1}.jsonl").exists()
        for genotype, name, value in answers:
            learned = asked[name]
            already = self.log.values.get(learned.column, {}).get(genotype, [])
            if not any(value == known or (math.isnan(value) and math.isnan(known)) for _, known in already):
                self.log.value(number, learned.column, genotype, Measured(value))
        self.log.close()
        return len(answers)


def _share(evaluations: int | None, part: int, parts: int) -> int | None:
    """Return the evaluations of one of several parts, counted from 1, which add up to those of the whole search."""
    return None if evaluations is None else -(-evaluations * part // parts) + (-evaluations * (part - 1) // parts)


class _Oriented:
    """A belief with the sign that makes larger better."""

    def __init__(self, belief: Axis, sign: float) -> None:
        self._belief = belief
        self.mean: Values = sign * belief.mean
        self.observe = belief.observe

    @property
    def std(self) -> Values:
        """Standard deviations ``(n,)``."""
        return self._belief.std


def _relaxed(term: Objective, source: LearnedSource) -> Objective:
    """Return a bound that a network keeps whose true value is within the original one with a small chance."""
    errors = source.predictor.conformals_[0]
    lower, upper = term.lower, term.upper
    if upper is not None:
        upper += max(0.0, upper - float(errors.upper(np.array([upper]), _CHANCE)[0]))
    if lower is not None:
        lower -= max(0.0, float(errors.lower(np.array([lower]), _CHANCE)[0]) - lower)
    return replace(term, lower=lower, upper=upper)
