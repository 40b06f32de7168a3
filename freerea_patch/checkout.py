"""The public code of FreeREA, unmodified, and our objectives inside its search (Cavagnero 2023; commit 9c2a726).

:class:`Checkout` imports the code from a folder for the duration of a ``with`` block: its modules are top-level ones
with names such as ``search``, ``utils`` and ``datasets``, and are removed again afterwards. Inside another ``with``
block, :class:`Hook` lets ``search.search(api, ...)`` and ``our_baselines.freeREAMinus(api, ...)`` rank, bound and time
candidates by given objectives::

    with Checkout(path) as checkout:
        api = checkout.nas_spaces.NATSBench(...)
        with Hook(checkout, api, objectives) as hook:
            checkout.search.search(api, N=100, n=25, ...)
        print(hook.history.front())
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any

from freerea_patch.errors import InputError, NothingFeasible
from freerea_patch.history import Candidate, History, Proposal
from freerea_patch.loop import PATIENCE
from freerea_patch.objective import Measured, Objectives

#: Files by which a checkout of FreeREA is recognised.
_FILES = (
    "analyzer.py",
    "datasets.py",
    "genotypes.py",
    "metrics/__init__.py",
    "nas_spaces/__init__.py",
    "nas_utils.py",
    "our_baselines.py",
    "pruning.py",
    "search.py",
    "utils.py",
)
#: Packages that it imports, but does not use in a search on cached metrics, and the names that it imports from them.
_UNUSED = {
    "nats_bench": {"nats_bench": ["create"]},
    "scipy": {"scipy": [], "scipy.stats": ["mode"]},
    "thop": {"thop": ["profile"]},
    "xautodl": {"xautodl": [], "xautodl.models": ["get_cell_based_tiny_net"]},
}
#: NASBench-101's code is never imported: it needs a protobuf version of 2019, and registers flags twice.
_NASBENCH101 = {"nas_spaces._nasbench101.original_api": ["api"]}
_MODULES = ("search", "nas_utils", "pruning", "our_baselines", "nas_spaces", "analyzer")
#: Modules that bind the names of ``from nas_utils import *``, such as ``return_top_k``.
_BINDING = ("search", "pruning", "nas_utils", "our_baselines")
_EXPECTED = "expected commit 9c2a726 of FreeREA's code"
#: What functions of its modules call where objectives come in, and the names of parameters that are used.
_CALLS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "search": {
        "search": frozenset(
            ("population_init", "prune", "return_top_k", "prune_flops_params", "total_metrics_time", "info")
        )
    },
    "our_baselines": {
        "freeREAMinus": frozenset(("population_init", "return_top_k", "is_feasible", "total_metrics_time", "info"))
    },
    "pruning": {
        "prune": frozenset(("prune_flops_params", "prune_tfm")),
        "prune_flops_params": frozenset(("clean_history",)),
        "prune_tfm": frozenset(("return_top_k",)),
    },
    "nas_utils": {
        "population_init": frozenset(("is_feasible",)),
        "info": frozenset(("clean_history", "get_top_k_accuracies")),
        "get_top_k_accuracies": frozenset(("return_top_k",)),
        "return_top_k": frozenset(),
    },
}
_PARAMETERS = {"return_top_k": ("exemplars", "K", "metric_names"), "info": ("history", "metrics")}


def _names(code: CodeType) -> set[str]:
    """Return the names that a function looks up, also in functions and comprehensions within it."""
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*inner)


class Checkout:
    """The modules of a checkout of FreeREA, from :meth:`__enter__` until :meth:`undo`.

    This is safe because it changes only ``sys.path``, ``sys.modules`` and ``sys.dont_write_bytecode``, and restores all
    three: the checkout's modules are removed, and modules of the same names that were imported from elsewhere before
    return. Modules that are still referenced keep working. Nothing is written into the folder.

    Args:
        path: the folder.

    Attributes:
        search, nas_utils, pruning, our_baselines, nas_spaces, analyzer: the modules.
        replaced: packages that it imports and that are not installed; to use them raises an error.

    Raises:
        InputError: the folder is not a checkout of FreeREA.
    """

    search: Any
    nas_utils: Any
    pruning: Any
    our_baselines: Any
    nas_spaces: Any
    analyzer: Any

    def __init__(self, path: Path) -> None:
        missing = [name for name in _FILES if not (path / name).is_file()]
        if missing:
            raise InputError(
                f"{path} is not a checkout of FreeREA: it has no {', '.join(missing)};"
                " expected a clone of github.com/NiccoloCavagnero/FreeREA"
            )
        self.path = path.resolve()
        self.replaced: list[str] = []
        self._undo = ExitStack()

    def __enter__(self) -> Checkout:
        """Import the modules.

        Raises:
            InputError: a required package is not installed, or the modules are not those of the public code.
        """
        try:
            self._import()
        except BaseException as error:
            self.undo()
            if isinstance(error, InputError) or not isinstance(error, Exception):
                raise
            raise InputError(
                f"FreeREA's code in {self.path} cannot be imported ({type(error).__name__}: {error});"
                " it needs torch and pandas: pip install torch pandas"
            ) from error
        return self

    def _import(self) -> None:
        own = {name.partition("/")[0].removesuffix(".py") for name in _FILES}
        replaced = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in own}
        for name in replaced:
            del sys.modules[name]
        self._undo.callback(sys.modules.update, replaced)
        self._undo.callback(self._forget)
        self._undo.callback(setattr, sys, "dont_write_bytecode", sys.dont_write_bytecode)
        sys.dont_write_bytecode = True
        replacements = dict(_NASBENCH101)
        self.replaced = [name for name in _UNUSED if name not in sys.modules and find_spec(name) is None]
        for package in self.replaced:
            replacements |= _UNUSED[package]
        sys.modules.update({name: _replacement(name, attributes) for name, attributes in replacements.items()})
        self._undo.callback(lambda: [sys.modules.pop(name, None) for name in replacements])
        entry = str(self.path)
        sys.path.insert(0, entry)
        self._undo.callback(lambda: sys.path.remove(entry) if entry in sys.path else None)
        for name in _MODULES:
            setattr(self, name, import_module(name))
        for name in _BINDING:
            if not callable(getattr(getattr(self, name), "return_top_k", None)):
                raise InputError(f"{self.path}: {name} has no return_top_k; {_EXPECTED}")

    def check_seams(self) -> None:
        """Make sure that the searches rank, filter and charge time through the functions that :class:`Hook` replaces.

        Only the names that functions call and the names of some parameters count: comments, local names, and functions
        of the user's own make no difference.

        Raises:
            InputError: the first function that differs, with the name that it lacks.
        """
        for name, functions in _CALLS.items():
            for function, called in functions.items():
                code = getattr(vars(getattr(self, name)).get(function), "__code__", None)
                where = f"{self.path / name}.py: {function}"
                if code is None:
                    raise InputError(f"{where} is missing; {_EXPECTED}")
                for missing in sorted(called - _names(code)):
                    raise InputError(f"{where} does not call {missing}, where objectives come in; {_EXPECTED}")
        if not hasattr(getattr(self.analyzer, "Analyzer", None), "save"):
            raise InputError(f"{self.path / 'analyzer.py'}: Analyzer.save is missing; {_EXPECTED}")
        for function, parameters in _PARAMETERS.items():
            has = list(signature(vars(self.nas_utils)[function]).parameters)
            for parameter in parameters:
                if parameter not in has:
                    raise InputError(
                        f"{self.path / 'nas_utils.py'}: {function} has no parameter {parameter}, but {', '.join(has)};"
                        f" {_EXPECTED}"
                    )

    def _forget(self) -> None:
        """Remove the checkout's modules from ``sys.modules``, including modules that were imported later."""
        inside = str(self.path / "_")[:-1]
        for name, module in list(sys.modules.items()):
            if (getattr(module, "__file__", None) or "").startswith(inside):
                del sys.modules[name]

    def undo(self) -> None:
        """Undo all changes; a second call does nothing."""
        self._undo.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()


def _replacement(name: str, attributes: Sequence[str]) -> ModuleType:
    """Return a replacement for a missing module; to use what it has raises an error that says so."""
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    for attribute in attributes:
        reason = "not imported, as it needs a protobuf of 2019" if name in _NASBENCH101 else "not installed"
        message = (
            f"FreeREA's code called {name}.{attribute}, which is {reason}; only searches on cached metrics of"
            " NATS-Bench work"
        )
        setattr(module, attribute, _Absent(message))
    return module


class _Absent:
    """Stands for a function, class or module; to call it or to use an attribute raises an InputError."""

    def __init__(self, message: str) -> None:
        self._message = message

    def __call__(self, *args: object, **kwargs: object) -> None:
        raise InputError(self._message)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # asked for by Python itself, such as by its import system
            raise AttributeError(name)
        raise InputError(self._message)


#: Functions for ranking and feasibility, and the first that a search calls; ``prune_flops_params`` is defined in
#: ``pruning``, the others in ``nas_utils``.
_FUNCTIONS = ("return_top_k", "is_feasible", "clean_history", "prune_flops_params", "population_init")
#: The search of SEval-NAS's copy of FreeREA.
_MODIFIED = "search_modified"


class Hook:
    """Replaces FreeREA's ranking, feasibility and accounting of time, until :meth:`undo`.

    This is safe because it replaces only these functions, by functions with the same arguments and results. They are
    replaced in every module that binds them: rebinding ``nas_utils`` alone would change the report but not the search.
    On the ``api``, ``total_metrics_time`` is replaced, so that seconds of our metrics count against its budget; the
    modules' clock leaves out the time of evaluating them, so that they count once.

    One hook serves any number of searches, one after the other: each starts with an empty history and no seconds.

    Args:
        checkout: FreeREA's code, inside its ``with`` block.
        api: its search space object.
        objectives: replace naswot, logsynflow and skip. To keep these, add them as objectives on
            :class:`CheckoutMetrics`.
        preparation_s: seconds spent before the searches, such as on training a predictor; charged to the first one.
        patience: the number of proposals in a row, none of them within the constraints, that ends a search.
        ranks_by: the metrics that the searches are to rank by, which the objectives replace; None for any.

    Attributes:
        history: all genotypes that the present or last search has evaluated.

    Raises:
        InputError: the checkout lacks a function that has to be replaced.
    """

    def __init__(
        self,
        checkout: Checkout,
        api: Any,
        objectives: Objectives,
        *,
        preparation_s: float = 0.0,
        patience: int = PATIENCE,
        ranks_by: Iterable[str] | None = None,
    ) -> None:
        self.history = History(objectives.terms)
        self._objectives = objectives
        self._api = api
        self._patience = patience
        self._ranks_by = None if ranks_by is None else set(ranks_by)
        self._preparation_s = preparation_s
        self._spent_s = preparation_s
        self._evaluation_s = 0.0  # wall seconds spent in the evaluation of metrics
        self._in_vain = 0  # proposals in a row without a feasible one
        self._undo = ExitStack()
        self._path = checkout.path
        self._modules = [getattr(checkout, name) for name in _BINDING]
        self._timed = [*self._modules, checkout.analyzer]
        for function in _FUNCTIONS:
            if not any(callable(vars(module).get(function)) for module in self._modules):
                raise InputError(f"{checkout.path} has no {function}; {_EXPECTED}")

    def __enter__(self) -> Hook:
        """Replace the functions.

        Raises:
            InputError: SEval-NAS's own search has been imported, which the hook does not reach.
        """
        message = (
            f"{self._path / _MODIFIED}.py is SEval-NAS's own search, which this hook does not reach;"
            " call search.search or our_baselines.freeREAMinus instead"
        )
        if _MODIFIED in sys.modules:
            raise InputError(message)
        try:
            sys.modules[_MODIFIED] = _Absent(message)  # type: ignore[assignment]
            self._undo.callback(sys.modules.pop, _MODIFIED, None)
            for module in self._modules:
                for function in _FUNCTIONS:
                    original = vars(module).get(function)
                    if original is not None:
                        self._rebind(module, function, getattr(self, f"_{function}")(original))
            for module in self._timed:
                if "time" in vars(module):
                    self._rebind(module, "time", _Clock(lambda: self._evaluation_s))
            self._rebind(self._api, "total_metrics_time", self._total_metrics_time)
        except BaseException:
            self.undo()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()

    def undo(self) -> None:
        """Undo all changes; a second call does nothing."""
        self._undo.close()

    def _rebind(self, owner: Any, name: str, value: object) -> None:
        namespace = vars(owner)
        if name in namespace:
            self._undo.callback(setattr, owner, name, namespace[name])
        else:  # a method of the class, hidden by an attribute of the instance
            self._undo.callback(namespace.pop, name, None)
        setattr(owner, name, value)

    def _look_up(self, exemplars: Iterable[Any]) -> list[Candidate]:
        """Return the candidates of exemplars; new ones are evaluated as one batch."""
        genotypes = [exemplar.genotype for exemplar in exemplars]
        new = [g for g in dict.fromkeys(genotypes) if g not in self.history]
        began = time.perf_counter()
        evaluations = list(self._objectives.evaluate(new))
        self._evaluation_s += time.perf_counter() - began
        for genotype, evaluation in zip(new, evaluations, strict=True):
            if not self.history.add(Proposal(genotype), evaluation).feasible:
                self._spent_s += sum(evaluation.seconds.values())
        candidates = map(self.history.find, genotypes)
        return [candidate for candidate in candidates if candidate is not None]

    def _feasible(self, exemplars: Sequence[Any]) -> list[Any]:
        return [e for e, c in zip(exemplars, self._look_up(exemplars), strict=True) if c.feasible]

    def _check_patience(self, feasible: bool) -> None:
        """Count the proposals since the last step of the search, which goes on until one is feasible.

        Raises:
            NothingFeasible: the patience is over.
        """
        self._in_vain = 0 if feasible else self._in_vain + 1
        if self._in_vain < self._patience:
            return
        if not self.history.evaluated:
            raise NothingFeasible(
                f"none of {self._in_vain} proposals is within max_flops and max_params of FreeREA's search; loosen them"
            )
        if not len(self.history):
            raise NothingFeasible(f"{self.history.describe_infeasible()}; loosen the bound")
        raise NothingFeasible(
            f"the last {self._in_vain} proposals added no network within the constraints to the population, and"
            f" 'history' has only {len(self.history)}; loosen a bound, or reduce N"
        )

    def _population_init(self, original: Any) -> Any:
        def population_init(*args: Any, **named: Any) -> Any:  # the first call of each search
            self.history = History(self._objectives.terms)
            self._spent_s, self._preparation_s = self._preparation_s, 0.0
            self._in_vain = 0
            return original(*args, **named)

        return population_init

    def _return_top_k(self, original: Any) -> Any:
        def return_top_k(exemplars: Sequence[Any], K: int = 3, metric_names: Sequence[str] = ()) -> list[Any]:  # noqa: N803
            if metric_names and self._ranks_by not in (None, set(metric_names)):
                expected = ", ".join(sorted(self._ranks_by or ()))
                raise InputError(
                    f"{self._path}: its search ranks by {', '.join(metric_names)}, expected {expected};"
                    f" name the metrics to keep, such as --metrics {','.join(metric_names)}"
                )
            born = self._feasible([exemplar for exemplar in exemplars if exemplar.born])
            pool = self._look_up(born)
            for exemplar, score in zip(born, self.history.scores(pool).tolist(), strict=True):
                exemplar.rank = score
            return [born[i] for i in self.history.order(pool)[:K]]

        return return_top_k

    def _is_feasible(self, original: Any) -> Any:
        def is_feasible(exemplar: Any, *bounds: Any, **named: Any) -> bool:
            feasible = bool(original(exemplar, *bounds, **named)) and bool(self._feasible([exemplar]))
            self._check_patience(feasible)
            return feasible

        return is_feasible

    def _clean_history(self, original: Any) -> Any:
        def clean_history(history: Mapping[str, Any], *bounds: Any, **named: Any) -> dict[str, Any]:
            kept = self._feasible(list(original(history, *bounds, **named).values()))
            return {exemplar.genotype: exemplar for exemplar in kept}

        return clean_history

    def _prune_flops_params(self, original: Any) -> Any:
        def prune_flops_params(exemplars: Sequence[Any], history: Any, *bounds: Any, **named: Any) -> Any:
            # The original removes infeasible exemplars from the history, through clean_history, but not from the rest.
            kept, history = original(exemplars, history, *bounds, **named)
            # A step repeats this until its population has grown, and then asks for the seconds.
            self._check_patience(False)
            return self._feasible(kept), history

        return prune_flops_params

    def _total_metrics_time(self, exemplars: Iterable[Any], metrics: Sequence[str] = ()) -> float:
        """Return the seconds of exemplars, of preparation, and of infeasible candidates."""
        self._in_vain = 0
        candidates = self._look_up(exemplars)
        return self._spent_s + sum(sum(c.evaluation.seconds.values()) for c in candidates if c.feasible)


class _Clock:
    """The module ``time``, whose ``time`` leaves out the seconds that ``excluded`` returns."""

    def __init__(self, excluded: Callable[[], float]) -> None:
        self._excluded = excluded

    def time(self) -> float:
        return time.time() - self._excluded()

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


class CheckoutMetrics:
    """The checkout's own metrics as a metric source, with the values and seconds of its ``api``.

    Args:
        api: FreeREA's search space object, on cached metrics.
    """

    def __init__(self, api: Any) -> None:
        self._api = api
        # Bound here, because a hook replaces the attribute later.
        self._seconds = api.total_metrics_time
        self._values: dict[tuple[str, str], Measured] = {}

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterator[Mapping[str, Measured]]:
        """Yield the metrics of each genotype."""
        for genotype in genotypes:
            exemplar = self._api[self._api.get_index(genotype)]
            yield {metric: self._measured(exemplar, metric) for metric in metrics}

    def _measured(self, exemplar: Any, metric: str) -> Measured:
        key = (exemplar.genotype, metric)
        if key not in self._values:  # looking the seconds up takes milliseconds, and repeats visit the same networks
            self._values[key] = self._look_up(exemplar, metric)
        return self._values[key]

    def _look_up(self, exemplar: Any, metric: str) -> Measured:
        if metric == "skip":  # computed from the genotype; FreeREA charges no time for it either
            return Measured(float(exemplar.skip()))
        return Measured(float(exemplar.get_metric(metric)), float(self._seconds([exemplar], [metric])))
