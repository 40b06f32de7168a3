"""FreeREA's training-free metrics as a source: build each network, initialise it, compute, remember."""

from __future__ import annotations

import hashlib
import inspect
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from freerea_patch.errors import InputError, unknown_name
from freerea_patch.evaluation import BoundObjective, Measured, ObjectiveSet
from freerea_patch.objective import Objective
from freerea_patch.spaces.protocol import SearchSpace
from freerea_patch.threads import share_cores
from freerea_patch.training_free.batch import Images, batch_digest, load_batch
from freerea_patch.training_free.cache import MetricCache, live_metric_key

if TYPE_CHECKING:
    import torch
    from torch import nn

METRICS = ("naswot", "logsynflow", "skip")
#: Raised when a change to the metrics' code changes their values, so that no cache serves the old ones.
_VERSION = 2
#: Build and initialisation seconds, which all live metrics of a network share.
NETWORK = "network"


class TrainingFree:
    """naswot, logsynflow and skip of a space's networks (Cavagnero 2023, section 3).

    Args:
        space: the search space.
        batch: see :func:`~freerea_patch.training_free.batch.load_batch`; or the ``(n, c, h, w)`` images.
        batch_size: number of images for naswot.
        initialisations: how many random initialisations every metric is averaged over (3 in FreeREA).
        seed: fixes the initialisations and the noise; the same for every network.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
        cache: where values are remembered, if at all.

    Raises:
        InputError: the batch cannot be used, or torch has no such device.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        batch: str | Images = "random",
        batch_size: int = 64,
        initialisations: int = 3,
        seed: int = 0,
        device: str = "cpu",
        cache: MetricCache | None = None,
    ) -> None:
        if initialisations < 1:
            raise InputError(f"initialisations must be at least 1, not {initialisations}")
        if isinstance(batch, str):
            batch = load_batch(batch, size=batch_size, input_shape=space.input_shape, seed=seed)
        self.space = space
        self.images = batch
        self.initialisations = initialisations
        self.seed = seed
        self.device = device
        self.cache = cache
        self._digest = batch_digest(batch)
        self._code = code_digest(space)
        self._computer: _Computer | None = None

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterator[Mapping[str, Measured]]:
        """Yield the metrics of one network after the other.

        Besides the metrics, a row charges the seconds of building and initialising as ``"network"``.

        Raises:
            InputError: an unknown metric, or a network that the metrics cannot be computed on.
        """
        for metric in metrics:
            if metric not in METRICS:
                raise unknown_name("training-free metric", metric, METRICS)
        for genotype in genotypes:
            row = {}
            if "skip" in metrics:
                row["skip"] = Measured(self._skip(genotype))
            live = [metric for metric in metrics if metric != "skip"]
            yield row | self._live(genotype, live) if live else row

    def _skip(self, genotype: str) -> float:
        skip: Callable[[str], float] | None = getattr(self.space, "skip", None)
        if skip is None:
            raise InputError(
                f"space {self.space.name!r} does not define the metric skip;"
                " give it a method skip(genotype) -> float, or leave the metric out"
            )
        return float(skip(genotype))

    def _live(self, genotype: str, metrics: Sequence[str]) -> dict[str, Measured]:
        """Return the metrics of one network, from the cache where it has them all."""
        if self._computer is None:
            self._computer = _Computer(self.images, self.space.input_shape, self.device)
        wanted = (NETWORK, *metrics)
        keys = {name: self._key(genotype, name) for name in wanted} if self.cache else {}
        if self.cache:
            remembered = {name: self.cache.get(key) for name, key in keys.items()}
            if None not in remembered.values():
                return {name: m for name, m in remembered.items() if m is not None}
        row = self._computer.compute(
            lambda: self.space.build(genotype), metrics, self.initialisations, self.seed, f"network {genotype!r}"
        )
        if self.cache:
            self.cache.put({keys[name]: measured for name, measured in row.items()})
        return row

    def _key(self, genotype: str, metric: str) -> str:
        settings = {
            "version": _VERSION,
            "code": self._code,
            "batch": self._digest,
            "initialisations": self.initialisations,
            "seed": self.seed,
        }
        return live_metric_key(self.space, genotype, metric, self.device, settings)


class _Computer:
    """The part that needs torch: made on the first live metric."""

    def __init__(self, images: Images, input_shape: tuple[int, int, int], device: str) -> None:
        share_cores()
        import torch

        from freerea_patch.training_free.quick import keep_memory

        self.torch = torch
        self.device = check_device(device)
        keep_memory()
        # Channels-last halves the time of the convolutions on a CPU; the metrics do not see the order.
        self.layout = torch.channels_last if images.ndim == 4 else torch.contiguous_format
        self.images = torch.from_numpy(images).to(self.device, memory_format=self.layout)
        self.input_shape = input_shape

    def compute(
        self, build: Callable[[], nn.Module], metrics: Sequence[str], initialisations: int, seed: int, what: str
    ) -> dict[str, Measured]:
        """Return the means over the initialisations, and all seconds."""
        from freerea_patch.networks.weights import initialise, undrawn

        clock = _Clock(self.device)
        try:
            with undrawn():
                network = build()
            network = network.to(self.device, memory_format=self.layout)  # type: ignore[call-overload]
            clock.lap(NETWORK)
            values: dict[str, list[float]] = {metric: [] for metric in metrics}
            for repeat in range(initialisations):
                initialise(network, self.torch.Generator(self.device).manual_seed(seed + repeat))
                clock.lap(NETWORK)
                for metric in metrics:
                    values[metric].append(self._metric(metric, network))
                    clock.lap(metric)
        except (RuntimeError, ValueError, TypeError) as error:
            message = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{what}: {' and '.join(metrics)} cannot be computed ({message})") from error
        means = {metric: _rounded(fmean(v)) for metric, v in values.items()}
        return {name: Measured(means.get(name, 0.0), seconds) for name, seconds in clock.seconds.items()}

    def _metric(self, metric: str, network: nn.Module) -> float:
        from freerea_patch.training_free.logsynflow import logsynflow
        from freerea_patch.training_free.naswot import naswot

        if metric == "naswot":
            return naswot(network, self.images)
        return logsynflow(network, self.input_shape)


class _Clock:
    """Seconds between laps, by name; it waits for a GPU to finish."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds: dict[str, float] = {}
        self._begin = time.perf_counter()

    def lap(self, name: str) -> None:
        """Charge the time since the last lap to ``name``."""
        if self._device.type == "cuda":
            import torch

            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._begin
        self._begin = now


def check_device(device: str) -> torch.device:
    """Return the torch device of a name.

    Raises:
        InputError: torch does not know the device, or this machine does not have it.
    """
    import torch

    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        message = str(error).splitlines()[0]
        raise InputError(f"device {device!r} cannot be used here ({message}); try --device cpu") from None
    return found


def _rounded(value: float) -> float:
    """Keep ten digits: the order of summation, and with it the last ones, follows the thread count."""
    return float(f"{value:.10g}") if math.isfinite(value) else value


def code_digest(space: SearchSpace) -> str:
    """Return a hash of the file that defines a space, so that an edited space asks for new values."""
    try:
        with open(inspect.getfile(type(space)), "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except (OSError, TypeError):
        return ""


def freerea_objectives(source: TrainingFree) -> ObjectiveSet:
    """Return plain FreeREA's objectives: naswot, logsynflow and skip, equally weighted."""
    return ObjectiveSet([BoundObjective(Objective(metric), source, metric) for metric in METRICS])
