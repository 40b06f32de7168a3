"""The ask/tell face that all algorithms share: bookkeeping here, the course of a search in them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from itertools import islice
from random import Random

from freerea_patch.errors import InputError, NothingFeasible
from freerea_patch.history import Aggregation, Candidate, History, Normalisation, Proposal
from freerea_patch.objective import Evaluation, Objective
from freerea_patch.spaces.protocol import SearchSpace

#: A search is exhausted after so many rounds of proposals without a new feasible candidate.
PATIENCE = 1_000
#: Random candidates drawn at a time, so that a source can work on a batch and a budget can end the start.
DRAWS_A_ROUND = 16

Rounds = Generator[Sequence[Proposal], None, None]


class Search(ABC):
    """A search over a space, driven by :meth:`ask` and :meth:`tell`.

    A subclass writes its algorithm as the generator :meth:`course`. What it proposes is handed out only
    if it is new; what it proposed before, it finds in :attr:`history`.

    Args:
        space: the search space.
        terms: the objectives, whose roles, directions and bounds decide the selection.
        seed: fixes the course of the search, given the same metric values.
        aggregation, normalisation: how candidates are scored, see :class:`~freerea_patch.history.History`.
        simplify: propose every genotype without operations that its output does not depend on. They change metrics
            and cost time, but not what the network computes.

    Raises:
        InputError: an unknown aggregation or normalisation, or ``simplify`` in a space that cannot.
    """

    def __init__(
        self,
        space: SearchSpace,
        terms: Sequence[Objective],
        *,
        seed: int = 0,
        aggregation: Aggregation = "sum",
        normalisation: Normalisation = "pool",
        simplify: bool = False,
    ) -> None:
        if simplify and not hasattr(space, "simplified"):
            raise InputError(f"space {space.name} has no method 'simplified'; leave 'simplify' out")
        self.space = space
        self.simplify = simplify
        self.history = History(terms, aggregation=aggregation, normalisation=normalisation)
        self.rng = Random(seed)
        self._rounds = self.course()
        self._pending: dict[str, Proposal] = {}
        self._idle_rounds = 0

    @abstractmethod
    def course(self) -> Rounds:
        """Yield rounds of proposals for ever; on resumption their evaluations are in :attr:`history`.

        A proposal may come back unevaluated: whoever drives the search may have stopped short of it.
        """

    @property
    def exhausted(self) -> bool:
        """Whether :data:`PATIENCE` rounds in a row brought no new feasible candidate."""
        return self._idle_rounds >= PATIENCE

    def ask(self, limit: int | None = None) -> list[Proposal]:
        """Return the next candidates to evaluate, none of them seen before, at most ``limit``.

        Returns:
            At least one proposal, or none if the search is exhausted.

        Raises:
            RuntimeError: candidates of the last call have not been told.
            NothingFeasible: the search is exhausted without having found a single feasible candidate.
        """
        if self._pending:
            raise RuntimeError(
                f"ask() before tell(): {len(self._pending)} candidates still wait for their evaluation,"
                f" the first is {next(iter(self._pending))!r}"
            )
        while not self.exhausted:
            self._idle_rounds += 1
            fresh: dict[str, Proposal] = {}
            for proposal in next(self._rounds):
                if proposal.genotype not in self.history:
                    fresh.setdefault(proposal.genotype, proposal)
            if fresh:
                self._pending = dict(islice(fresh.items(), limit))
                return list(self._pending.values())
        if not len(self.history):
            bounds = "; ".join(_describe_bounds(t) for t in self.history.terms if t.role == "constraint")
            raise NothingFeasible(
                f"none of {self.history.evaluated} candidates is within the constraints ({bounds}); loosen a bound"
            )
        return []

    def tell(self, proposal: Proposal, evaluation: Evaluation) -> Candidate:
        """Record the evaluation of one proposal of the last :meth:`ask`.

        Raises:
            RuntimeError: the proposal is not waiting: never asked, or told already.
        """
        if proposal.genotype not in self._pending:
            raise RuntimeError(f"tell() without ask(): {proposal.genotype!r} is not waiting for an evaluation")
        candidate = self.history.add(proposal, evaluation)
        del self._pending[proposal.genotype]  # after an evaluation that lacks a metric, it still waits
        if candidate.feasible:
            self._idle_rounds = 0
        return candidate

    def front(self) -> list[Candidate]:
        """Return the result so far: see :meth:`freerea_patch.history.History.front`."""
        return self.history.front()

    def draw(
        self, count: int, admitted: Callable[[Sequence[Proposal]], list[Candidate]]
    ) -> Generator[Sequence[Proposal], None, list[Candidate]]:
        """Yield random proposals until ``count`` of them were admitted, such as by :meth:`told`, and return these.

        A genotype drawn twice counts twice, so that a space smaller than ``count`` serves as well.
        """
        found: list[Candidate] = []
        while len(found) < count:
            drawn = [self.random() for _ in range(min(DRAWS_A_ROUND, count - len(found)))]
            yield drawn
            found += admitted(drawn)
        return found

    def given(
        self, genotypes: Sequence[str], admitted: Callable[[Sequence[Proposal]], list[Candidate]]
    ) -> Generator[Sequence[Proposal], None, list[Candidate]]:
        """Yield proposals of certain genotypes, and return those that were admitted, each once."""
        found: dict[str, Candidate] = {}
        for first in range(0, len(genotypes), DRAWS_A_ROUND):
            proposals = [Proposal(self._plain(g), origin="given") for g in genotypes[first : first + DRAWS_A_ROUND]]
            yield proposals
            found |= {c.genotype: c for c in admitted(proposals)}
        return list(found.values())

    def told(self, proposals: Sequence[Proposal]) -> list[Candidate]:
        """Return the feasible candidates among ``proposals``, in order, repeats included."""
        candidates = (self.history.feasible(p.genotype) for p in proposals)
        return [c for c in candidates if c is not None]

    def random(self, generation: int = 0) -> Proposal:
        """Propose a random genotype of the space."""
        return Proposal(self._plain(self.space.sample(self.rng)), generation)

    def mutant(self, parent: Candidate, generation: int) -> Proposal:
        """Propose a mutant of ``parent``."""
        genotype = self.space.mutate(parent.genotype, self.rng)
        return Proposal(self._plain(genotype), generation, (parent.genotype,), "mutation")

    def child(self, first: Candidate, second: Candidate, generation: int) -> Proposal:
        """Propose a crossover child of two candidates."""
        genotype = self.space.crossover(first.genotype, second.genotype, self.rng)
        return Proposal(self._plain(genotype), generation, (first.genotype, second.genotype), "crossover")

    def _plain(self, genotype: str) -> str:
        if not self.simplify:
            return genotype
        plain: str = self.space.simplified(genotype)  # type: ignore[attr-defined]
        return plain


def _describe_bounds(term: Objective) -> str:
    lower = [] if term.lower is None else [f">= {term.lower:g}"]
    upper = [] if term.upper is None else [f"<= {term.upper:g}"]
    return f"{term.name} {' and '.join(lower + upper)} {term.unit}".rstrip()
