"""The hook: objectives of ours inside the search of FreeREA's own, unmodified code.

Inside the ``with`` block, ``checkout.search.search(api, ...)`` and ``checkout.our_baselines.freeREAMinus(api, ...)``
rank, bound and time candidates by the given objectives::

    with open_checkout(path) as checkout:
        api = checkout.nas_spaces.NATSBench(...)
        with Hook(checkout, api, objectives) as hook:
            checkout.search.search(api, N=100, n=25, ...)
        print(hook.history.front())
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from freerea_patch.checkout import Checkout
from freerea_patch.errors import InputError
from freerea_patch.evaluation import Measured
from freerea_patch.history import Candidate, History, Proposal
from freerea_patch.objective import Objectives

#: Modules that hold a binding of their own of what ``from nas_utils import *`` gave them.
_MODULES = ("search", "pruning", "nas_utils", "our_baselines")
#: Functions that decide what is best and what is allowed; the last lives in ``pruning``, not in ``nas_utils``.
_FUNCTIONS = ("return_top_k", "is_feasible", "clean_history", "prune_flops_params")


class Hook:
    """Replaces FreeREA's ranking, feasibility and accounting of time, until :meth:`undo`.

    Safe because only these are replaced, by functions of the same arguments and results: in every module that
    has a binding of them, since rebinding ``nas_utils`` alone would change what is reported and not what is
    searched; and ``total_metrics_time`` of the one ``api``, so that our seconds count against its budget.

    Args:
        checkout: FreeREA's code, opened.
        api: its search space object.
        objectives: what to search for; they take the place of naswot, logsynflow and skip. To keep these,
            make them objectives as well, on :class:`CheckoutMetrics`.
        preparation_s: seconds that were spent before, on training a predictor for instance.

    Attributes:
        history: every genotype that was evaluated.

    Raises:
        InputError: the checkout lacks a function that has to be replaced.
    """

    def __init__(self, checkout: Checkout, api: Any, objectives: Objectives, *, preparation_s: float = 0.0) -> None:
        self.history = History(objectives.terms)
        self._objectives = objectives
        self._api = api
        self._spent_s = preparation_s
        self._candidates: dict[str, Candidate] = {}
        self._undo: list[Callable[[], object]] = []
        self._modules = [getattr(checkout, name) for name in _MODULES]
        for function in _FUNCTIONS:
            if not any(callable(vars(module).get(function)) for module in self._modules):
                raise InputError(f"{checkout.path} has no {function}; expected commit 9c2a726 of FreeREA's code")

    def __enter__(self) -> Hook:
        for module in self._modules:
            for function in _FUNCTIONS:
                original = vars(module).get(function)
                if original is not None:
                    self._rebind(module, function, getattr(self, f"_{function}")(original))
        self._rebind(self._api, "total_metrics_time", self._total_metrics_time)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()

    def undo(self) -> None:
        """Put everything back; a second call does nothing."""
        while self._undo:
            self._undo.pop()()

    def _rebind(self, owner: Any, name: str, value: object) -> None:
        namespace = vars(owner)
        if name in namespace:
            original = namespace[name]
            self._undo.append(lambda: setattr(owner, name, original))
        else:  # a method of the class, hidden by an attribute of the instance
            self._undo.append(lambda: delattr(owner, name))
        setattr(owner, name, value)

    def _look_up(self, exemplars: Iterable[Any]) -> list[Candidate]:
        """Return the candidates of exemplars; what is new is evaluated as one batch."""
        genotypes = [exemplar.genotype for exemplar in exemplars]
        new = [g for g in dict.fromkeys(genotypes) if g not in self._candidates]
        for genotype, evaluation in zip(new, self._objectives.evaluate(new), strict=True):
            candidate = self.history.add(Proposal(genotype), evaluation)
            self._candidates[genotype] = candidate
            if not candidate.feasible:
                self._spent_s += sum(evaluation.seconds.values())
        return [self._candidates[genotype] for genotype in genotypes]

    def _feasible(self, exemplars: Sequence[Any]) -> list[Any]:
        return [e for e, c in zip(exemplars, self._look_up(exemplars), strict=True) if c.feasible]

    def _return_top_k(self, original: Any) -> Any:
        def return_top_k(exemplars: Sequence[Any], K: int = 3, metric_names: Sequence[str] = ()) -> list[Any]:  # noqa: N803
            born = self._feasible([exemplar for exemplar in exemplars if exemplar.born])
            pool = self._look_up(born)
            for exemplar, score in zip(born, self.history.scores(pool).tolist(), strict=True):
                exemplar.rank = score
            return [born[i] for i in self.history.order(pool)[:K]]

        return return_top_k

    def _is_feasible(self, original: Any) -> Any:
        def is_feasible(exemplar: Any, *bounds: Any, **named: Any) -> bool:
            return bool(original(exemplar, *bounds, **named)) and bool(self._feasible([exemplar]))

        return is_feasible

    def _clean_history(self, original: Any) -> Any:
        def clean_history(history: Mapping[str, Any], *bounds: Any, **named: Any) -> dict[str, Any]:
            kept = self._feasible(list(original(history, *bounds, **named).values()))
            return {exemplar.genotype: exemplar for exemplar in kept}

        return clean_history

    def _prune_flops_params(self, original: Any) -> Any:
        def prune_flops_params(exemplars: Sequence[Any], history: Any, *bounds: Any, **named: Any) -> Any:
            # It drops from the history, through clean_history, what is infeasible; the population is its own affair.
            kept, history = original(exemplars, history, *bounds, **named)
            return self._feasible(kept), history

        return prune_flops_params

    def _total_metrics_time(self, exemplars: Iterable[Any], metrics: Sequence[str] = ()) -> float:
        """Return the seconds of exemplars, and all that was spent on none of them."""
        candidates = self._look_up(exemplars)
        return self._spent_s + sum(sum(c.evaluation.seconds.values()) for c in candidates if c.feasible)


class CheckoutMetrics:
    """The checkout's own metrics as a source: values and seconds as its ``api`` has them.

    Args:
        api: FreeREA's search space object, on cached metrics.
    """

    def __init__(self, api: Any) -> None:
        self._api = api
        # Bound now: a hook later puts its own accounting in this name's place.
        self._seconds = api.total_metrics_time

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterator[Mapping[str, Measured]]:
        """Yield the metrics of each genotype."""
        for genotype in genotypes:
            exemplar = self._api[self._api.get_index(genotype)]
            yield {metric: self._measured(exemplar, metric) for metric in metrics}

    def _measured(self, exemplar: Any, metric: str) -> Measured:
        if metric == "skip":  # computed from the genotype, and free of charge in FreeREA, too
            return Measured(float(exemplar.skip()))
        return Measured(float(exemplar.get_metric(metric)), float(self._seconds([exemplar], [metric])))
