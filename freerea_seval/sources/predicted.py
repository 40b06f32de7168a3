"""The source ``seval``: a metric predicted from the string of a network."""

from __future__ import annotations

import gc
import json
import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, TypeAdapter

from freerea_patch import SPACES, UNSUPPORTED, InputError, Measured, unknown_name
from freerea_patch.imports import TORCH_LOCK
from freerea_seval.files import read_json, write_atomically
from freerea_seval.predictor.model_card import ADVICE, PredictorInfo
from freerea_seval.sources.live import prepare_torch
from freerea_seval.sources.registry import Context, MetricInfo, Source, builtin_metric, load_registry
from freerea_seval.strings.views import View, check_view, default_view
from freerea_seval.units import direction_of, unit_of

if TYPE_CHECKING:
    from freerea_seval.predictor.seval import SEvalPredictor

Values = npt.NDArray[np.float64]
#: What measuring and training took, in ``predictor-METRIC.json`` of a run.
_RECEIPT = TypeAdapter(dict[Literal["seconds"], dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]])
#: Networks are measured for a predictor at most.
_MOST_NETWORKS = 100_000


class PredictedSource:
    """A trained predictor, or one that is trained on measurements of this machine before the search.

    Args:
        context: the search that it serves; what it measures and trains is kept in ``context.folder``.
    from freerea_seval.sources.device import measure
    from freerea_seval.strings.encode import shared_strings

    Raises:
        InputError: the folder holds no predictor, the argument is none of these, or the source of proxies cannot be
            opened or lacks one of them.
    """

    #: Gives the proxies that the predictor learned from beside strings.
    _proxies: Source | None = None

    def __init__(self, context: Context, argument: Any) -> None:
        prepare_torch(context.live)
        from freerea_seval.predictor.folder import load_predictor
        from freerea_seval.strings.encode import shared_strings

        #: Seconds that preparing the predictor took, for the search's ledger.
        self.preparation: dict[str, float] = {}
        self._advice = ADVICE
        proxies: Any = None
        if isinstance(argument, dict) and "predictor" in argument:
            argument, proxies = _with_proxies(argument)
        if isinstance(argument, dict):
            self._advice = "raise 'networks', the number to measure"
            folder, self.preparation = _calibrate(context, argument)
        else:
            folder = context.path(argument, "source 'seval'")
        predictor, info = load_predictor(folder)
        self._proxies = _open_proxies(context, folder, info, proxies)
        self.strings = shared_strings(context.space, info.view)
        self._space = context.space.name
        self._where = str(argument) if isinstance(argument, str) else "trained on this machine"
        self._adopt(predictor, info)
        # The first prediction imports packages, whose time is not to be charged to the networks of the search.
        unknown = np.zeros((1, len(info.proxies))) if info.proxies else None
        predictor.predict(self.strings.strings([context.space.sample(Random(context.seed))]), unknown)
        _settle()

    def _adopt(self, predictor: SEvalPredictor, info: PredictorInfo) -> None:
        self.predictor, self.info = predictor, info
        self._last: dict[str, Values] = {}
        #: Proxies of the networks that were predicted, and the seconds that they took.
        self._computed: dict[str, tuple[list[float], float]] = {}

    def describe(self, metric: str) -> MetricInfo:
        """Return the predicted metric's unit, and its direction unless the metric's name says the opposite."""
        for info in self.info.metrics:
            if info.name == metric:
                direction = info.direction if direction_of(metric) in (None, info.direction) else None
                seen = f"predicted, {info.samples} networks seen"
                note = f"predicted, {info.quality(self._advice)}"
                if _is_of_another(self.info.space, self._space):
                    note += f"; it learned from the space {self.info.space}, whose networks may be unlike these"
                return MetricInfo(metric, direction, info.unit, seen, note)
        names = ", ".join(repr(info.name) for info in self.info.metrics)
        raise InputError(f"the predictor {self._where} predicts {names}, not {metric!r}")

    def bounds(self, metric: str, side: Literal["lower", "upper"], confidence: float) -> PredictedBound:
        """Return the source of the values that a metric stays above (``lower``) or below with a probability.

        Raises:
            InputError: the predictor has seen too few networks to promise it.
        """
        column = [info.name for info in self.info.metrics].index(metric)
        check_samples(metric, self.predictor.conformals_[column].samples, confidence, self._where)
        return PredictedBound(self, column, side, confidence)

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterable[Mapping[str, Measured]]:
        """Return the predictions of all networks, made as one batch; with proxies one by one, as these take time."""
        if self._proxies is not None and len(genotypes) > 1:
            return (row for genotype in genotypes for row in self.evaluate([genotype], metrics))
        if not genotypes:
            return []
        with TORCH_LOCK:
            began = time.perf_counter()
            predictions = self.predictions(genotypes)
            seconds = (time.perf_counter() - began) / len(genotypes)
        if self._proxies is not None:  # a cached proxy has the seconds that it took once
            seconds = self._computed[genotypes[0]][1]
        columns = {info.name: column for column, info in enumerate(self.info.metrics)}
        return [
            {metric: Measured(_supported(row[columns[metric]]), seconds / len(metrics)) for metric in metrics}
            for row in predictions
        ]

    def predictions(self, genotypes: Sequence[str]) -> Values:
        """Return the predictions of one network or more, ``(n, m)``, +inf for unsupported.

        Those of the last batch are cached, because the bounds of a metric are computed right after its values.
        """
        with TORCH_LOCK:
            if not self._last.keys() >= set(genotypes):
                strings, table = self.strings.strings(genotypes), self._proxies_of(genotypes)
                predictions = self.predictor.predict(strings, table).reshape(len(genotypes), -1)
                self._last = dict(zip(genotypes, predictions, strict=True))
            return np.stack([self._last[genotype] for genotype in genotypes])

    def _proxies_of(self, genotypes: Sequence[str]) -> Values | None:
        """Return the proxies ``(n, k)`` that the predictor learned from beside strings, None if there are none."""
        if self._proxies is None:
            return None
        names = self.info.proxies
        new = [genotype for genotype in genotypes if genotype not in self._computed]
        for genotype, row in zip(new, self._proxies.evaluate(new, names), strict=True):
            values, seconds = [float(row[name].value) for name in names], sum(row[name].seconds for name in names)
            self._computed[genotype] = values, seconds
        return np.array([self._computed[genotype][0] for genotype in genotypes])


def check_samples(metric: str, samples: int, confidence: float, where: str) -> None:
    """Check that a predictor has seen enough networks for a bound.

    Raises:
        InputError: it has not.
    """
    from freerea_seval.predictor.conformal import samples_needed

    needed = samples_needed(confidence)
    if samples < needed:
        raise InputError(
            f"the predictor {where} learned {metric!r} from {samples} networks, and a bound that holds with"
            f" probability {confidence:.4g} takes {needed}; measure more, or ask for less 'confidence'"
        )


def _with_proxies(argument: Mapping[str, Any]) -> tuple[str, Any]:
    """Return the folder and the source of proxies of ``{predictor: FOLDER, proxies: SOURCE}``."""
    if set(argument) - {"predictor", "proxies"} or not isinstance(argument["predictor"], str):
        raise InputError(
            f"source 'seval': expected {{predictor: FOLDER, proxies: SOURCE}}, got {dict(argument)!r:.200}"
        )
    return argument["predictor"], argument.get("proxies")


def _open_proxies(context: Context, folder: Path, info: PredictorInfo, source: Any) -> Source | None:
    """Return the opened source of a predictor's proxies, None if it reads strings alone."""
    if not info.proxies:
        if source is not None:
            raise InputError(f"predictor {folder}: learned from strings alone; leave 'proxies' out")
        return None
    spec = source or "zero-cost"
    if not isinstance(spec, str) and not (isinstance(spec, Mapping) and len(spec) == 1):
        raise InputError(
            f"source 'seval': 'proxies' must be a source, such as zero-cost or {{table: FILE}}, not {spec!r}"
        )
    name, argument = (spec, None) if isinstance(spec, str) else next(iter(spec.items()))
    opened = load_registry().open(name, argument, context)
    for proxy in info.proxies:
        try:
            opened.describe(proxy)
        except InputError as error:
            raise InputError(
                f"predictor {folder}: it learned from the proxies {', '.join(info.proxies)}, and source {name!r} does"
                f" not give {proxy!r} ({error}); name another source as {{predictor: {folder}, proxies: SOURCE}}"
            ) from error
    return opened


@cache
def _settle() -> None:
    """Collect garbage once, so that no collection of all imported objects takes place during the search."""
    gc.collect()


@dataclass(frozen=True)
class PredictedBound:
    """A bound of a predicted metric as a metric of its own.

    It holds with the given probability for each network on its own. A search selects extremes, so that it may hold for
    fewer of the networks in its result.
    """

    source: PredictedSource
    column: int
    side: Literal["lower", "upper"]
    confidence: float

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> list[dict[str, Measured]]:
        """Return the bounds of all networks, infinite where none holds with that probability."""
        if not genotypes:
            return []
        with TORCH_LOCK:
            return self._evaluate(genotypes, metrics)

    def _evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> list[dict[str, Measured]]:
        began = time.perf_counter()
        predictor, strings = self.source.predictor, self.source.strings
        values = self.source.predictions(genotypes)[:, self.column]
        support = predictor.classifiers_[self.column]
        supported = np.ones(len(values)) if support is None else support.probability(strings.strings(genotypes))
        deviations = predictor.deviations(strings.strings(genotypes))[:, self.column]
        bounds = np.full(len(genotypes), math.inf if self.side == "upper" else -math.inf)
        # P(supported and within) = P(supported) P(within | supported), and the intervals are those of the latter.
        levels = self.confidence / np.maximum(supported, self.confidence)
        for level in np.unique(levels[levels < 1]):
            rows = levels == level
            bound = getattr(predictor.conformals_[self.column], self.side)
            bounds[rows] = bound(values[rows], float(level), deviations[rows])
        seconds = (time.perf_counter() - began) / len(genotypes)
        return [{metric: Measured(float(bound), seconds) for metric in metrics} for bound in bounds]


def _is_of_another(learned: str, searched: str) -> bool:
    """Whether a predictor learned from another space than it is asked about, as far as names of spaces can say it.

    A space of one's own may limit or extend any other, and has one name in a config and another in its class.
    """
    kinds = {re.sub(r'^\{"name": "|[/" ].*', "", name) for name in (learned, searched)}
    return len(kinds) == 2 and kinds <= set(SPACES)


def _supported(value: float) -> float:
    """Return a prediction with :data:`UNSUPPORTED` for infinity."""
    return UNSUPPORTED if math.isinf(value) else float(value)


def _calibrate(context: Context, argument: dict[str, Any]) -> tuple[Path, dict[str, float]]:
    """Measure random networks of the space, train a predictor on them, and keep both in the run's folder.

    Returns:
        The predictor's folder, and the seconds that measuring and training took. A resumed run uses the files of
        its first start.
    """
    from freerea_seval.predictor.folder import save_predictor
    from freerea_seval.predictor.training import Target, train_predictor
    from freerea_seval.sources.device import measure
    from freerea_seval.strings.encode import shared_strings

    metric, count, view = check_calibration(argument, context.live.device)
    if context.folder is None:
        raise InputError("source 'seval' can measure and train only within a run; give it a predictor's folder")
    folder = context.folder / f"predictor-{metric}"
    receipt = context.folder / f"predictor-{metric}.json"
    if receipt.is_file():
        return folder, read_json(receipt, _RECEIPT, 2**20)["seconds"]

    space, rng = context.space, Random(context.seed)
    genotypes: dict[str, None] = {}
    for _ in range(100 * count):  # a small space has fewer different networks than are asked for
        if len(genotypes) < count:
            genotypes[space.sample(rng)] = None
    began = time.perf_counter()
    # Training takes infinity for a network that cannot run, and NaN for one that was not measured.
    values = [math.inf if math.isnan(value) else value for value in measure(context, metric, list(genotypes))]
    measured = time.perf_counter()
    info = builtin_metric("device", metric)
    assert info.direction is not None
    predictor, facts = train_predictor(
        shared_strings(space, view).strings(list(genotypes)),
        values,
        [Target(metric, info.unit, info.direction)],
        space_name=space.name,
        view=view,
        seed=context.seed,
    )
    save_predictor(folder, predictor, facts, overwrite=True)
    write_measurements(
        context.folder / f"measured-{metric}.csv", metric, info.unit, dict(zip(genotypes, values, strict=True))
    )
    seconds = {f"measure {metric}": measured - began, f"train {metric}": time.perf_counter() - measured}
    # The receipt is written last: a run that was killed before measures again.
    write_atomically(receipt, json.dumps({"seconds": seconds}, indent=2))
    return folder, seconds


def write_measurements(path: Path, metric: str, unit: str, values: Mapping[str, float]) -> None:
    """Write measured values as a table that ``freerea-seval train`` reads; a value that is not finite is an empty cell.

    Args:
        path: the CSV.
        metric, unit: the column, which ends with the unit if names can say it.
        values: by genotype.
    """
    from pandas import DataFrame

    from freerea_seval.tables import to_csv

    column = f"{metric}_{unit}"
    cells = [value if math.isfinite(value) else "" for value in values.values()]
    write_atomically(path, to_csv(DataFrame({"genotype": list(values), column if unit_of(column) else metric: cells})))


def check_calibration(argument: dict[str, Any], device: str) -> tuple[str, int, View]:
    """Check ``{measure: latency, networks: N, view: executed}``."""
    from freerea_seval.sources.device import check_measurable

    if "ssh" in argument:
        raise InputError(
            "source 'seval': 'ssh' measures during a search; add 'refine: {start: 12, rounds: 3, networks: 12}'"
        )
    for key in argument:
        if key not in ("measure", "networks", "view"):
            raise unknown_name("key of source 'seval'", key, ("measure", "networks", "view"))
    from freerea_seval.predictor.seval import FEWEST

    metric, count = argument.get("measure"), argument.get("networks", 32)
    check_measurable(metric, device)
    if isinstance(count, bool) or not isinstance(count, int) or not FEWEST <= count <= _MOST_NETWORKS:
        raise InputError(
            f"source 'seval': 'networks' must be a whole number from {FEWEST} to {_MOST_NETWORKS}, not {count!r}"
        )
    return str(metric), count, check_view(argument.get("view", default_view(str(metric))))
