"""The source ``seval`` with measurements that arrive during the search, in rounds.

A :class:`LearnedSource` gives the value of a network that was measured, and the prediction of any other. How a network
is measured is part of the source: on this machine, by another metric source, or by asking the user.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from freerea_patch import UNSUPPORTED, Direction, InputError, Measured
from freerea_seval.config.schema import MOST_AT_ONCE
from freerea_seval.sources.predicted import PredictedBound, PredictedSource, check_calibration, check_samples
from freerea_seval.sources.registry import Context, MetricInfo, Source, builtin_metric, load_registry
from freerea_seval.strings.views import View, check_view, default_view
from freerea_seval.units import direction_of

if TYPE_CHECKING:
    from freerea_seval.measurement.ssh import SshMachine
    from freerea_seval.predictor.models.gp import GaussianProcessPredictor, JointPosterior
    from freerea_seval.predictor.models.target_transform import Scale
    from freerea_seval.predictor.seval import SEvalPredictor
    from freerea_seval.predictor.transfer import Bases

Values = npt.NDArray[np.float64]

#: Networks with a value that a Gaussian process needs at least.
FEWEST_TO_BELIEVE = 5
#: Probability with which the recorded intervals of predictions contain the value.
INTERVAL = 0.9
_OPTIONS = ("start", "networks", "view", "base")
#: Options of ``measure``: another machine, and its Python.
_REMOTE_OPTIONS = ("ssh", "python")


def open_seval(context: Context, argument: Any) -> PredictedSource:
    """Open a trained predictor, or a source that learns from measurements.

    Raises:
        InputError: see :class:`PredictedSource` and :class:`LearnedSource`.
    """
    if isinstance(argument, dict) and "predictor" not in argument:
        if context.refines:
            return LearnedSource(context, argument)
        if context.dry:  # it would be measured and trained before the search
            _, count, _ = check_calibration(argument, context.live.device)
            return LearnedSource(context, {k: v for k, v in argument.items() if k != "networks"}, planned=count)
    return PredictedSource(context, argument)


class Prediction(NamedTuple):
    """A predicted value, and the bounds of its interval."""

    value: float
    low: float
    high: float


class Belief:
    """The posterior of a metric of networks, of which some share a string, and some were measured.

    Args:
        posterior: of the different strings.
        rows: ``(n,)`` the string of every network.
        known: ``(n,)`` measured values, NaN for the other networks.
    """

    def __init__(self, posterior: JointPosterior, rows: npt.NDArray[np.int64], known: Values) -> None:
        self._posterior, self._rows, self._measured = posterior, rows, ~np.isnan(known)
        self.mean: Values = np.where(self._measured, known, posterior.mean[rows])

    @property
    def std(self) -> Values:
        """Standard deviations ``(n,)`` of a measurement; 0 where the value is known."""
        return np.where(self._measured, 0.0, self._posterior.std[self._rows])

    def observe(self, row: int) -> None:
        """Condition on a measurement of a network that has the expected value."""
        if not self._measured[row]:
            self._posterior.observe(int(self._rows[row]))


class Beliefs(NamedTuple):
    """The belief of a metric, the probabilities ``(n,)`` to be supported, and bounds on the scale of the belief."""

    belief: Belief
    supported: Values
    bounds: Values


@dataclass(frozen=True)
class Means:
    """How values are obtained, from the argument of a source.

    Attributes:
        kind: ``measure`` (this machine), ``ask`` (the user), or the name of a metric source.
        argument: the metric, or the argument of the metric source.
        start, networks: numbers of networks that differ from those of the section ``refine``.
        view: of the networks in strings; None for the one that suits the metric.
        base: folders of predictors of the metric for other devices.
        remote: arguments of :class:`~freerea_seval.measurement.ssh.SshMachine`; None for this machine.
    """

    kind: str
    argument: Any
    start: int | None = None
    networks: int | None = None
    view: View | None = None
    base: tuple[str, ...] = ()
    remote: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, argument: Mapping[str, Any]) -> Means:
        """Return the means that a config describes.

        Raises:
            InputError: no means or several, or an option that is not valid.
        """
        is_remote = "ssh" in argument
        kinds = [name for name in argument if name not in (*_OPTIONS, *(_REMOTE_OPTIONS if is_remote else ()))]
        if len(kinds) != 1 or (is_remote and kinds != ["measure"]):
            raise InputError(
                "source 'seval': expected one of 'measure: latency', 'ask: METRIC' or 'SOURCE: ARGUMENT', with"
                f" {', '.join(_OPTIONS)}, and for 'measure' {' and '.join(_REMOTE_OPTIONS)}, as options, got"
                f" {', '.join(map(repr, argument)) or 'nothing'}"
            )
        counts: dict[str, int | None] = {}
        for name, least in (("start", 0), ("networks", 0)):
            count = argument.get(name)
            whole = isinstance(count, int) and not isinstance(count, bool)
            if count is not None and not (whole and least <= count <= MOST_AT_ONCE):
                raise InputError(
                    f"source 'seval': {name!r} must be a whole number from {least} to {MOST_AT_ONCE}, not {count!r}"
                )
            counts[name] = count
        view = argument.get("view")
        view = None if view is None else check_view(view)
        base = argument.get("base", [])
        base = [base] if isinstance(base, str) else base
        if not (isinstance(base, list) and all(isinstance(folder, str) for folder in base)):
            raise InputError(f"source 'seval': 'base' is {base!r:.80}, expected the folder of a predictor, or several")
        remote = {"host": argument["ssh"], "python": argument.get("python", "python3")} if is_remote else None
        return cls(kinds[0], argument[kinds[0]], view=view, base=tuple(base), remote=remote, **counts)


class LearnedSource(PredictedSource):
    """A metric that is measured for some networks and predicted for the others.

    Args:
        context: the search that it serves.
        argument: ``{measure: METRIC}``, ``{ask: METRIC}`` or ``{SOURCE: ARGUMENT}``, with the options of
            :class:`Means`.
        planned: networks that are measured before the search, where there are no rounds.

    Raises:
        InputError: the argument is none of these, or the source in it cannot be opened.
    """

    def __init__(self, context: Context, argument: Mapping[str, Any], planned: int = 0) -> None:
        from freerea_seval.sources.live import prepare_torch

        prepare_torch(context.live)
        self.means = Means.read(argument)
        self.preparation = {}
        self.planned = planned
        self._context = context
        self._where = "learned during the search"
        self._source: Source | None = None
        self._remote: SshMachine | None = None
        if self.means.kind == "measure":
            from freerea_seval.sources.device import check_measurable

            if self.means.remote is None:
                check_measurable(self.means.argument, context.live.device)
            elif self.means.argument != "latency":
                raise InputError(f"source 'seval': over ssh, 'measure' can be latency, not {self.means.argument!r}")
            else:
                from freerea_seval.measurement.ssh import SshMachine

                self._remote = SshMachine(**self.means.remote, threads=context.live.threads or 1)
        elif self.means.kind == "ask":
            if not isinstance(self.means.argument, str):
                raise InputError(f"source 'seval': 'ask' names a metric, not {self.means.argument!r}")
        else:
            self._source = load_registry().open(self.means.kind, self.means.argument, context)
        self.metric = self.means.argument if self._source is None else ""
        self._bases = self._load_bases()
        #: Values of measured networks; NaN where the network is not supported.
        self.measured: dict[str, float] = {}
        self.trained = False

    def _load_bases(self) -> Bases | None:
        if not self.means.base:
            return None
        from freerea_seval.predictor.transfer import load_bases

        folders = [self._context.path(folder, "source 'seval', 'base'") for folder in self.means.base]
        return load_bases(folders, [self.metric], (), self.means.view)

    @property
    def asks(self) -> bool:
        """Whether the user is asked for values."""
        return self.means.kind == "ask"

    def describe(self, metric: str) -> MetricInfo:
        """Return the unit and direction of the metric."""
        if self._source is not None and not self.metric:
            self.metric = metric
        if metric != self.metric:
            raise InputError(f"source 'seval': this one learns {self.metric!r}, not {metric!r}; name another source")
        if self.means.kind == "measure":
            info = builtin_metric("device", metric)
        elif self._source is None:
            info = MetricInfo(metric, direction_of(metric))
        else:
            info = self._source.describe(metric)
        self._unit, self._direction = info.unit, info.direction or direction_of(metric)
        return MetricInfo(metric, self._direction, info.unit, f"measured during the search ({self.means.kind})")

    def specify(self, unit: str, direction: Direction | None) -> None:
        """Take the unit and direction of the config, and make ready to read networks."""
        from freerea_seval.strings.encode import shared_strings

        self._unit, self._direction = unit, direction or self._direction or "min"
        view = self._bases.view if self._bases else self.means.view or default_view(self.metric)
        self.strings = shared_strings(self._context.space, view)

    def bounds(self, metric: str, side: Literal["lower", "upper"], confidence: float) -> PredictedBound:
        """Return a bound, which has no values yet, after a check that the planned networks allow it."""
        check_samples(metric, self.planned, confidence, self._where)
        return PredictedBound(self, 0, side, confidence)

    @property
    def cost_bases(self) -> Sequence[SEvalPredictor] | None:
        """Predictors of the metric for other devices, or None for a metric that need not be a cost of a device.

        Of a few costs, the model that learns most is the one of
        :mod:`~freerea_seval.predictor.models.calibrated`.
        """
        if not self.is_measured_together:
            return None
        return list(self._bases.predictors.values()) if self._bases else []

    @property
    def is_measured_together(self) -> bool:
        """Whether this machine, or another over SSH, measures all networks of a round together."""
        return self.means.kind == "measure"

    @property
    def drifts(self) -> bool:
        """Whether values depend on when they are measured, as they do on a machine that is also used for other work."""
        return self.is_measured_together and self.metric != "memory"

    def conditions(self) -> dict[str, Any]:
        """Return what measurements of a machine depend on beside the network, as results record it."""
        if not self.is_measured_together:
            return {}
        if self._remote is not None:
            return self._remote.conditions()
        from freerea_seval.measurement.run import conditions

        return conditions("eager", self._context.live.device, self._context.live.threads or 1)

    def measure(
        self, genotypes: Sequence[str], output: Path | None, anchors: Mapping[str, float] | None = None
    ) -> Iterator[tuple[str, Measured]]:
        """Yield the values of networks, each as soon as it is available; unsupported networks have NaN.

        Args:
            genotypes: the networks.
            output: file from which an interrupted measurement on this machine resumes, or None.
            anchors: networks with earlier values, which are measured again if values drift: all values are divided by
                the median of their changes.
        """
        assert not self.asks
        if self._source is None:
            from freerea_seval.sources.device import measure, measure_elsewhere

            began = time.perf_counter()
            anchors = anchors if anchors and self.drifts else {}
            names = list(dict.fromkeys([*anchors, *genotypes]))
            if self._remote is None:
                measured = measure(self._context, self.metric, names, output)
            else:
                assert output is not None
                measured = measure_elsewhere(self._remote, self._context, names, output)
            seconds = (time.perf_counter() - began) / max(len(genotypes), 1)
            values = dict(zip(names, measured, strict=True))
            changes = np.array([values[name] / earlier for name, earlier in anchors.items()])
            changes = changes[np.isfinite(changes)]
            drift = float(np.median(changes)) if len(changes) else 1.0
            for genotype in genotypes:
                yield genotype, Measured(values[genotype] / drift, seconds)
            return
        for genotype, row in zip(genotypes, self._source.evaluate(genotypes, [self.metric]), strict=True):
            yield genotype, Measured(float(row[self.metric].value), sum(m.seconds for m in row.values()))

    def train(self) -> float:
        """Train the predictor on the measured networks, if they are enough, and return the seconds that it took."""
        from freerea_seval.predictor.seval import FEWEST
        from freerea_seval.predictor.training import Target, train_predictor

        genotypes, values = self._training_data()
        self.trained = bool(np.isfinite(values).sum() >= FEWEST)
        if not self.trained:
            return 0.0
        began = time.perf_counter()
        self._trained_on = genotypes
        self._adopt(
            *train_predictor(
                self.strings.strings(genotypes),
                values,
                [Target(self.metric, self._unit, self._direction or "min")],
                space_name=self._context.space.name,
                view=self.strings.view,
                seed=self._context.seed,
                base=self._bases.predictors if self._bases else None,
            )
        )
        return time.perf_counter() - began

    def _training_data(self) -> tuple[list[str], Values]:
        """Return the measured networks and their values, infinity for unsupported ones."""
        values = np.array(list(self.measured.values()), dtype=np.float64)
        return list(self.measured), np.where(np.isnan(values), np.inf, values)

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> list[Mapping[str, Measured]]:
        """Return the measured values, and the predictions of the other networks."""
        unknown = [genotype for genotype in genotypes if genotype not in self.measured]
        if unknown and not self.trained:
            raise InputError(
                f"{self.metric} is learned during a search, and there is no predictor of it yet; after a search, take"
                f" 'source: {{seval: RUN/predictor-{self.metric}}}'"
            )
        predicted = dict(zip(unknown, super().evaluate(unknown, metrics) if unknown else [], strict=True))
        return [
            {metric: Measured(self.measured[genotype]) for metric in metrics}
            if genotype in self.measured
            else predicted[genotype]
            for genotype in genotypes
        ]

    def predict(self, genotypes: Sequence[str]) -> list[Prediction]:
        """Return the predictions of networks; those of measured ones are from models that had not seen them."""
        if not (genotypes and self.trained):
            return [Prediction(UNSUPPORTED, UNSUPPORTED, UNSUPPORTED)] * len(genotypes)
        unseen = dict(zip(self._trained_on, self.predictor.unseen_[:, 0].tolist(), strict=True))
        fresh = [genotype for genotype in genotypes if genotype not in unseen]
        predicted = unseen | (dict(zip(fresh, self.predictions(fresh)[:, 0].tolist(), strict=True)) if fresh else {})
        values = np.array([predicted[genotype] for genotype in genotypes])
        low, high = self.predictor.conformals_[0].bounds(values, INTERVAL)
        return [Prediction(*map(float, triple)) for triple in zip(values, low, high, strict=True)]

    def believes(self) -> bool:
        """Whether enough networks are measured for a :meth:`belief`."""
        return int(np.isfinite(self._training_data()[1]).sum()) >= FEWEST_TO_BELIEVE

    def belief(
        self, genotypes: Sequence[str], bounds: Sequence[float] = (), guide: Mapping[str, float] | None = None
    ) -> Beliefs:
        """Return what a Gaussian process believes of the metric, on the scale that it learns on.

        Args:
            genotypes: ``n`` networks; the values of measured ones are known.
            bounds: values to map to the scale.
            guide: what else is known of each of these and of the measured networks, as a score; None for nothing.
        """
        from freerea_seval.predictor.models.feasibility_classifier import FeasibilityClassifier
        from freerea_seval.predictor.models.gp import MOST
        from freerea_seval.predictor.models.target_transform import fit_scale

        names, values = self._training_data()
        finite = np.flatnonzero(np.isfinite(values))
        blend = self.strings.view == "functional" and self._values_model() != "layered"
        scale = fit_scale("blend" if blend else "log", values)
        drawn = finite if len(finite) <= MOST else np.sort(np.random.default_rng(0).permutation(finite)[:MOST])
        training = self.strings.strings([names[i] for i in drawn])
        strings = self.strings.strings(genotypes)
        scores = [0.0] * len(strings) if guide is None else [guide[genotype] for genotype in genotypes]
        keys = list(zip(strings, scores, strict=True))
        row = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        different = [string for string, _ in row]
        if guide is None:
            posterior = self._posterior(training, values[drawn], scale, different)
        else:
            process = self._process().fit(training, scale.score(values[drawn]), [[guide[names[i]]] for i in drawn])
            posterior = process.joint(different, [[score] for _, score in row])
        supported = np.ones(len(row))
        if len(finite) < len(values):
            classifier = FeasibilityClassifier(self._context.seed)
            supported = classifier.fit(self.strings.strings(names), np.isfinite(values)).probability(different)
        rows = np.array([row[key] for key in keys])
        known = np.array([self.measured.get(genotype, np.inf) for genotype in genotypes])
        supported = np.where(np.isinf(known), supported[rows], np.isfinite(known))
        belief = Belief(posterior, rows, np.where(np.isfinite(known), scale.score(known), np.nan))
        return Beliefs(belief, supported, scale.score(np.array(bounds, dtype=np.float64)))

    def _posterior(
        self, training: Sequence[str], values: Values, scale: Scale, strings: Sequence[str]
    ) -> JointPosterior:
        """Return the posterior of strings; a model of values that predicts best is the prior mean."""
        from freerea_seval.predictor.models.registry import ask, train
        from freerea_seval.predictor.seval import base_predictions

        process, scores, name = self._process(), scale.score(values), self._values_model()
        if name is None or name == "layered" or scale.name != "log":
            return process.fit(training, scores).joint(strings)
        bases = self._bases.predictors.values() if self._bases else ()
        tables = [base_predictions(bases, some) for some in (training, strings)]
        learned = train(name, training, values, tables[0], self._context.seed, {}, False)
        prior, mean = (
            scale.score(np.maximum(ask(name, learned, some, table), values.min() / 10))
            for some, table in zip((training, strings), tables, strict=True)
        )
        posterior = process.fit(training, scores - prior).joint(strings)
        posterior.mean = posterior.mean + mean
        return posterior

    def _values_model(self) -> str | None:
        """Return the model of values, not of scores, that has at least half of the weight in the last predictor."""
        from freerea_seval.predictor.models.registry import LEARN_VALUES

        if not self.trained:
            return None
        weights = dict(zip(self.predictor.members_, self.predictor.weights_[:, 0].tolist(), strict=True))
        return next((name for name in LEARN_VALUES if weights.get(name, 0.0) >= 0.5), None)

    def _process(self) -> GaussianProcessPredictor:
        """Return an untrained Gaussian process, of the kind that predicts best."""
        from freerea_seval.predictor.models.gp import GaussianProcessPredictor
        from freerea_seval.predictor.models.layered import LayeredProcess

        return (LayeredProcess if self._values_model() == "layered" else GaussianProcessPredictor)(self._context.seed)
