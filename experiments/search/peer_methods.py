# mypy: disable-error-code="import-untyped, import-not-found"
"""Methods that are compared with the measured search: how each spends measured latencies and trained networks.

References:
    Real 2019: Real, Aggarwal, Huang, Le, Regularized Evolution for Image Classifier Architecture Search.
    White 2021: White, Nolen, Savani, Exploring the Loss Landscape in Neural Architecture Search.
    White 2021b: White, Neiswanger, Savani, BANANAS: Bayesian Optimization with Neural Architectures for NAS.
    Gardner 2014: Gardner, Kusner, Xu, Weinberger, Cunningham, Bayesian Optimization with Inequality Constraints.
    Daulton 2021: Daulton, Balandat, Bakshy, Parallel Bayesian Optimization of Multiple Noisy Objectives.
    Salinas 2020: Salinas, Shen, Perrone, A Quantile-based Approach for Hyperparameter Transfer Learning.
    Akiba 2019: Akiba, Sano, Yanase, Ohta, Koyama, Optuna: A Next-generation Hyperparameter Optimization Framework.
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata

from experiments.search.benchmarks import Benchmark
from freerea_patch import InputError, TopologySpace
from freerea_patch.spaces import EDGES, OPERATIONS, live_operations, parse_cell

Values = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

#: The paths of a cell from its input to its output, by their edges.
_PATHS = ((3,), (0, 4), (1, 5), (0, 2, 5))
#: Known networks that Optuna proposes in a row, after which it is given a random one.
_PATIENCE = 20
#: Random networks among the candidates of methods that do not look at all.
_CANDIDATES = 1000
#: Networks of an ensemble of BANANAS (White 2021b).
_MEMBERS = 5


class Cells:
    """The cells of a benchmark as arrays.

    Args:
        genotypes: the ``n`` cells, which are all of the space.
        naswot: ``(n,)`` a training-free score.
        guide: ``(n,)`` the score of the preset ``guided``.

    Attributes:
        operations: ``(n, 6)`` numbers of operations.
        one_hot: ``(n, 30)`` the operations, each as five numbers.
        paths: ``(n, 180)`` which paths of operations lead from the input to the output (White 2021b).
        naswot, guide, flops: ``(n,)`` scores that cost nothing; the FLOPs are those of convolutions that the output
            depends on, in units of a 1x1 convolution.
    """

    def __init__(self, genotypes: Sequence[str], naswot: Values, guide: Values) -> None:
        self.naswot, self.guide = naswot, guide
        names = [parse_cell(genotype) for genotype in genotypes]
        count, kinds = len(genotypes), len(OPERATIONS)
        self.operations: Rows = np.array([[OPERATIONS.index(name) for name in cell] for cell in names])
        self._code = kinds ** np.arange(len(EDGES))
        self._rows = np.empty(kinds ** len(EDGES), dtype=np.intp)
        self._rows[self.operations @ self._code] = np.arange(count)
        self.one_hot: Values = np.eye(kinds)[self.operations].reshape(count, -1)
        encoded = []
        for edges in _PATHS:
            path = self.operations[:, list(edges)]
            numbers = path @ kinds ** np.arange(len(edges))
            encoded.append(np.eye(kinds ** len(edges))[numbers] * (path > 0).all(axis=1, keepdims=True))
        self.paths: Values = np.concatenate(encoded, axis=1)
        cost = {"nor_conv_3x3": 9.0, "nor_conv_1x1": 1.0}
        self.flops: Values = np.array([sum(cost.get(op, 0.0) for op in live_operations(cell)) for cell in names])

    def row(self, operations: npt.ArrayLike) -> int:
        """Return the row of a cell, given the numbers of its operations."""
        return int(self._rows[np.asarray(operations) @ self._code])

    def neighbours(self, row: int) -> list[int]:
        """Return the 24 cells that differ in one operation."""
        base = self.operations[row]
        return [
            self.row([*base[:edge], kind, *base[edge + 1 :]])
            for edge in range(len(EDGES))
            for kind in range(len(OPERATIONS))
            if kind != base[edge]
        ]


@dataclass(frozen=True)
class Task:
    """What a method may ask for, and what it has asked for.

    Attributes:
        benchmark: the true values.
        cells: its cells.
        measurements, trainings: how many networks may be measured, and how many trained.
        bound: on the latency; None for a front.
        latencies, accuracies: of measured and of trained cells, by row.
    """

    benchmark: Benchmark
    cells: Cells
    measurements: int
    trainings: int
    bound: float | None
    latencies: dict[int, float] = field(default_factory=dict)
    accuracies: dict[int, float] = field(default_factory=dict)

    @property
    def first(self) -> int:
        """The number of random networks with which methods begin that learn."""
        return min(max(5, self.measurements // 10), self.trainings)

    @property
    def spent(self) -> bool:
        """Whether no new network can be measured and trained."""
        return len(self.latencies) >= self.measurements or len(self.accuracies) >= self.trainings

    def measure(self, row: int) -> float:
        """Return the latency of a cell, NaN where the device does not run it; one that is known is free."""
        if row not in self.latencies:
            assert len(self.latencies) < self.measurements, "a method measures more networks than it may"
            self.latencies[row] = float(self.benchmark.values[row])
        return self.latencies[row]

    def train(self, row: int) -> float:
        """Return the accuracy of a measured cell, in percent; one that is known is free."""
        assert row in self.latencies, "a method trains a network that it has not measured"
        if row not in self.accuracies:
            assert len(self.accuracies) < self.trainings, "a method trains more networks than it may"
            self.accuracies[row] = float(self.benchmark.accuracies[row])
        return self.accuracies[row]

    def keeps(self, row: int) -> bool:
        """Whether a measured cell keeps the bound; without one, whether the device runs it."""
        return self.latencies[row] <= (math.inf if self.bound is None else self.bound)

    def evaluate(self, row: int) -> float:
        """Measure a cell, and train it if it keeps the bound; -inf otherwise, which is worse than all trained."""
        self.measure(row)
        return self.train(row) if self.keeps(row) else -math.inf

    def unknown(self, rng: np.random.Generator) -> int:
        """Return a random cell that is not measured."""
        while (row := int(rng.integers(len(self.cells.operations)))) in self.latencies:
            pass
        return row

    def log_latencies(self) -> dict[int, float]:
        """Return the logarithms of the measured latencies, which models learn better, where there are any."""
        return {row: math.log(value) for row, value in self.latencies.items() if math.isfinite(value)}

    def normal_accuracies(self) -> dict[int, float]:
        """Return the normal scores of the trained accuracies, of which a few are near chance (Salinas 2020)."""
        values = list(self.accuracies.values())
        scores = norm.ppf((rankdata(values) - 0.5) / max(len(values), 1))
        return dict(zip(self.accuracies, scores.tolist(), strict=True))

    def leaders(self) -> list[int]:
        """Return the trained cells, most accurate first."""
        return sorted(self.accuracies, key=lambda row: -self.accuracies[row])


class Method(Protocol):
    """Spends the budget of a task; everything random comes from a generator."""

    def __call__(self, task: Task, rng: np.random.Generator) -> None:
        """Measure and train cells until the budget is spent."""


class Peer(NamedTuple):
    """A method, what it can search for, and the package that it needs, with its least major version."""

    search: Method
    bounds: bool = True
    fronts: bool = False
    package: tuple[str, int] | None = None

    def check(self) -> None:
        """Raise :class:`InputError` if the package is not installed, or too old."""
        if self.package is None:
            return
        name, least = self.package
        try:
            installed = version(name)
        except PackageNotFoundError:
            installed = ""
        if not installed or int(installed.partition(".")[0]) < least:
            raise InputError(
                f"expected the package {name}, {least} or later, got {installed or 'none'}; pip install -c"
                f" constraints.txt {name}, or choose other --methods"
            )


def random_search(task: Task, rng: np.random.Generator) -> None:
    """Evaluate random cells."""
    while not task.spent:
        task.evaluate(task.unknown(rng))


def evolution(task: Task, rng: np.random.Generator) -> None:
    """Mutate the best of a random part of the population, of which the oldest dies (Real 2019)."""
    population = deque[tuple[float, int]](maxlen=2 * task.first)
    while not task.spent:
        if len(population) < 2 * task.first:
            row = task.unknown(rng)
        else:
            drawn = rng.choice(len(population), size=max(2, task.first // 2), replace=False)
            _, row = max(population[index] for index in drawn)
            while row in task.latencies:
                row = int(rng.choice(task.cells.neighbours(row)))
        population.append((task.evaluate(row), row))


def local_search(task: Task, rng: np.random.Generator) -> None:
    """Go to the first better neighbour; begin again at a random cell where there is none (White 2021)."""
    while not task.spent:
        row = task.unknown(rng)
        value, improved = task.evaluate(row), True
        while improved:
            improved = False
            for neighbour in rng.permutation(task.cells.neighbours(row)).tolist():
                if task.spent:
                    return
                if (other := task.evaluate(neighbour)) > value:
                    row, value, improved = neighbour, other, True
                    break


def optuna_search(task: Task, rng: np.random.Generator, *, sampler: str) -> None:
    """Let a sampler of Optuna propose the six operations (Akiba 2019)."""
    optuna: Any = import_module("optuna")  # typed only where it is installed
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seed = int(rng.integers(2**31))
    samplers = {
        "tpe": lambda: optuna.samplers.TPESampler(n_startup_trials=task.first, multivariate=True, seed=seed),
        "nsga2": lambda: optuna.samplers.NSGAIISampler(population_size=2 * task.first, seed=seed),
        "gp": lambda: optuna.samplers.GPSampler(n_startup_trials=task.first, deterministic_objective=True, seed=seed),
    }
    directions = ["maximize"] if task.bound is not None else ["maximize", "minimize"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # some options may change later
        study = optuna.create_study(sampler=samplers[sampler](), directions=directions)
    edges = [f"edge {number}" for number in range(len(EDGES))]
    known = 0
    while not task.spent:
        if known >= _PATIENCE:
            operations = task.cells.operations[task.unknown(rng)]
            study.enqueue_trial(dict(zip(edges, (OPERATIONS[kind] for kind in operations), strict=True)))
        trial = study.ask()
        row = task.cells.row([OPERATIONS.index(trial.suggest_categorical(edge, OPERATIONS)) for edge in edges])
        known = known + 1 if row in task.latencies else 0
        accuracy, latency = task.evaluate(row), math.log(task.latencies[row])
        if not math.isfinite(accuracy):
            accuracy = min(task.accuracies.values(), default=0.0)
        if task.bound is None:
            study.tell(trial, [accuracy, latency])
        else:
            trial.set_constraint("latency", latency - math.log(task.bound))
            study.tell(trial, accuracy)


def bananas(task: Task, rng: np.random.Generator) -> None:
    """Draw from ensembles for mutations of the best cells and random ones, and evaluate the best (White 2021b).

    Each candidate has an independent draw of its accuracy and of its latency (independent Thompson sampling); the most
    accurate of those that keep the bound by their draws are evaluated.
    """
    assert task.bound is not None
    for _ in range(task.first):
        task.evaluate(task.unknown(rng))
    while not task.spent:
        mutations = [other for row in task.leaders()[: task.first] for other in task.cells.neighbours(row)]
        drawn = rng.integers(len(task.cells.operations), size=_CANDIDATES).tolist()
        candidates = np.array([row for row in dict.fromkeys([*mutations, *drawn]) if row not in task.latencies])
        latency = _ensemble_draw(task.cells.one_hot[candidates], task.cells.one_hot, task.log_latencies(), rng)
        accuracy = _ensemble_draw(task.cells.paths[candidates], task.cells.paths, task.normal_accuracies(), rng)
        excess = np.maximum(0.0, latency - math.log(task.bound))
        for row in candidates[np.lexsort((-accuracy, excess))][: task.first // 2].tolist():
            if not task.spent:
                task.evaluate(row)


def _ensemble_draw(points: Values, inputs: Values, known: dict[int, float], rng: np.random.Generator) -> Values:
    """Return a draw for each point, from the normal distribution of the predictions of an ensemble."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor

    rows, values = list(known), np.array(list(known.values()))
    if len(rows) < 2:
        return np.zeros(len(points))
    mean, scale = values.mean(), values.std() or 1.0
    model = MLPRegressor(hidden_layer_sizes=(20, 20, 20), solver="lbfgs", alpha=0.1, max_iter=100)
    predictions = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # ends early on purpose
        for seed in rng.integers(2**31, size=_MEMBERS).tolist():
            model.set_params(random_state=seed).fit(inputs[rows], (values - mean) / scale)
            predictions.append(model.predict(points))
    drawn = rng.normal(np.mean(predictions, axis=0), np.std(predictions, axis=0))
    return np.asarray(mean + scale * drawn, dtype=np.float64)


def constrained_improvement(task: Task, rng: np.random.Generator) -> None:
    """Evaluate the cell with the largest expected improvement times the probability to keep the bound (Gardner 2014).

    Both are those of Gaussian processes on one-hot operations, and all cells are looked at.
    """
    assert task.bound is not None
    for _ in range(task.first):
        task.evaluate(task.unknown(rng))
    latency, accuracy = (_Process(task.cells.one_hot, task.first // 2) for _ in range(2))
    while not task.spent:
        mean, std = latency.posterior(task.log_latencies())
        merit = norm.logcdf((math.log(task.bound) - mean) / std)
        if len(task.accuracies) > 1:
            known = task.normal_accuracies()
            mean, std = accuracy.posterior(known)
            z = (mean - max(known.values())) / std
            merit += np.log(np.maximum(std * (z * norm.cdf(z) + norm.pdf(z)), np.finfo(float).tiny))
        merit[list(task.latencies)] = -np.inf
        task.evaluate(int(np.argmax(merit)))


class _Process:
    """A Gaussian process whose kernel is fitted again after some new values.

    Args:
        inputs: ``(n, d)`` of all cells.
        patience: the number of new values after which the kernel is fitted again.
    """

    def __init__(self, inputs: Values, patience: int) -> None:
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        self._inputs, self._patience, self._fitted = inputs, patience, 0
        scale, noise = ConstantKernel(1.0, (1e-2, 1e2)), WhiteKernel(1e-3, (1e-5, 1.0))
        self._kernel: Any = scale * Matern(2.0, (0.3, 30.0), nu=2.5) + noise

    def posterior(self, known: dict[int, float]) -> tuple[Values, Values]:
        """Return means and standard deviations ``(n,)``, given the values of some cells."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor

        fits = len(known) >= self._fitted + self._patience
        optimizer = "fmin_l_bfgs_b" if fits else None
        model = GaussianProcessRegressor(self._kernel, normalize_y=True, optimizer=optimizer)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a parameter at its bound
            model.fit(self._inputs[list(known)], list(known.values()))
        if fits:
            self._kernel, self._fitted = model.kernel_, len(known)
        mean, std = model.predict(self._inputs, return_std=True)
        return mean, std


def best_by(task: Task, rng: np.random.Generator, *, score: str) -> None:
    """Measure random cells, learn the latency, and measure the best by a score of those predicted to keep the bound.

    Half of the measurements are random. The best of all measured cells that keep the bound are trained.
    """
    assert task.bound is not None
    order = rng.permutation(len(task.cells.operations))
    half = task.measurements // 2
    for row in order[:half].tolist():
        task.measure(row)
    scores: Values = getattr(task.cells, score)
    order = order[np.argsort(-scores[order], kind="stable")]
    predicted = _predicted_latencies(task.benchmark.dataset, task.benchmark.genotypes, tuple(task.latencies.items()))
    fast = [row for row in order.tolist() if predicted[row] <= task.bound and row not in task.latencies]
    for row in fast[: task.measurements - half]:
        task.measure(row)
    kept = [row for row in order.tolist() if row in task.latencies and task.keeps(row)]
    for row in kept[: task.trainings]:
        task.train(row)


@lru_cache(maxsize=4)  # for the bounds and scores of a benchmark
def _predicted_latencies(dataset: str, genotypes: tuple[str, ...], latencies: tuple[tuple[int, float], ...]) -> Values:
    """Return ``(n,)`` latencies of all cells, by the product's predictor."""
    from freerea_seval.predictor.seval import SEvalPredictor

    strings = _strings(dataset, genotypes)
    rows, values = zip(*latencies, strict=True)
    measured = np.where(np.isnan(values), np.inf, values)
    return SEvalPredictor("auto", seed=0).fit([strings[row] for row in rows], measured).predict(strings).ravel()


@lru_cache(maxsize=3)
def _strings(dataset: str, genotypes: tuple[str, ...]) -> list[str]:
    from freerea_seval.strings.encode import SpaceStrings

    return list(SpaceStrings(TopologySpace(dataset), "executed").strings(genotypes))


def noisy_hypervolume_improvement(task: Task, rng: np.random.Generator) -> None:
    """Evaluate the cell with the largest expected improvement of the front's hypervolume (qNEHVI, Daulton 2021).

    Latencies that are measured beyond the number of trainings come first, for the model of the latency. Candidates are
    random cells and the neighbours of the front.
    """
    import torch
    from botorch.acquisition.multi_objective.monte_carlo import qNoisyExpectedHypervolumeImprovement
    from botorch.exceptions.warnings import BotorchWarning
    from botorch.models import ModelListGP
    from botorch.sampling import SobolQMCNormalSampler
    from botorch.utils.multi_objective import infer_reference_point

    seed, inputs = int(rng.integers(2**31)), torch.tensor(task.cells.one_hot)
    torch.manual_seed(seed)
    for _ in range(task.measurements - task.trainings + task.first):
        task.measure(task.unknown(rng))
    for row in [row for row in task.latencies if task.keeps(row)][: task.first]:
        task.train(row)
    while not task.spent:
        front = task.benchmark.best_of([task.benchmark.genotypes[row] for row in task.accuracies])
        near = [row for genotype in front for row in task.cells.neighbours(task.benchmark.rows[genotype])]
        drawn = rng.integers(len(inputs), size=_CANDIDATES).tolist()
        candidates = [row for row in dict.fromkeys([*near, *drawn]) if row not in task.accuracies]
        trained, measured = list(task.accuracies), [row for row in task.latencies if task.keeps(row)]
        accuracies = np.array(list(task.accuracies.values()))
        low, high = np.quantile(accuracies, [0.25, 0.75])
        accuracies = np.maximum(accuracies, low - 1.5 * (high - low))  # a few are near chance
        speeds = -np.array([task.latencies[row] for row in measured])
        scaled = [(values - values.mean()) / (values.std() or 1.0) for values in (accuracies, speeds)]
        points = torch.tensor(np.column_stack([scaled[0], [scaled[1][measured.index(row)] for row in trained]]))
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore", BotorchWarning)
            merit = qNoisyExpectedHypervolumeImprovement(
                ModelListGP(_botorch_model(inputs[trained], scaled[0]), _botorch_model(inputs[measured], scaled[1])),
                ref_point=infer_reference_point(points),
                X_baseline=inputs[trained],
                sampler=SobolQMCNormalSampler(torch.Size([64]), seed=seed),
                prune_baseline=True,
            )(inputs[candidates][:, None])
        task.evaluate(candidates[int(merit.argmax())])


def _botorch_model(inputs: Any, values: Values) -> Any:
    """Return BoTorch's standard Gaussian process, fitted."""
    import torch
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from gpytorch.mlls import ExactMarginalLogLikelihood

    model = SingleTaskGP(inputs, torch.tensor(values)[:, None])
    with torch.enable_grad():
        likelihood = ExactMarginalLogLikelihood(model.likelihood, model)
        fit_gpytorch_mll(likelihood, optimizer_kwargs={"options": {"maxiter": 50}})
    return model


#: The peers by name, the slow ones last.
PEERS: dict[str, Peer] = {
    "random": Peer(random_search, fronts=True),
    "evolution": Peer(evolution),
    "local-search": Peer(local_search),
    "optuna-nsga2": Peer(partial(optuna_search, sampler="nsga2"), fronts=True, package=("optuna", 5)),
    "optuna-tpe": Peer(partial(optuna_search, sampler="tpe"), fronts=True, package=("optuna", 5)),
    "best-flops": Peer(partial(best_by, score="flops")),
    "best-naswot": Peer(partial(best_by, score="naswot")),
    "best-guide": Peer(partial(best_by, score="guide")),
    "constrained-ei": Peer(constrained_improvement),
    "bananas": Peer(bananas),
    "optuna-gp": Peer(partial(optuna_search, sampler="gp"), package=("optuna", 5)),
    "botorch-qnehvi": Peer(noisy_hypervolume_improvement, bounds=False, fronts=True, package=("botorch", 0)),
}
