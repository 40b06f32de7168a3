"""The zero-cost proxies of a space's networks: build each network, initialise it, compute, cache."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from freerea_patch import InputError, Measured, SearchSpace, unknown_name
from freerea_patch.errors import UndefinedMetric
from freerea_patch.imports import torch_threads
from freerea_patch.spaces import input_dtype
from freerea_patch.training_free import (
    NETWORK,
    Inputs,
    MetricCache,
    batch_digest,
    check_device,
    code_digest,
    live_metric_key,
    load_inputs,
    rows_of,
)
from freerea_seval.proxies import ALL_PROXIES, NOT_OF_TOKENS

if TYPE_CHECKING:
    from torch import nn

#: Increased when a change to the code changes values, so that values cached before are not used.
_VERSION = 3

Labels = npt.NDArray[np.int64]


class ZeroCost:
    """The zero-cost proxies of a space's networks, one random initialisation each, as published.

    Weights are drawn as PyTorch's own modules draw them, by their ``reset_parameters``; that is how the
    published values were made (Krishnakumar 2022, public code).

    Args:
        space: the search space.
        batch: see :func:`~freerea_patch.training_free.load_inputs`; an ``.npz`` of images may hold ``labels``
            ``(n,)`` besides, which are drawn evenly from the network's classes otherwise.
        batch_size: number of images or sequences.
        length: tokens of a sequence; see :func:`~freerea_patch.training_free.load_tokens`.
        seed: fixes initialisation, noise and drawn labels; the same for every network.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
        cache: the cache of values; None for none.
        threads: CPU threads of torch, on whose number values depend; see :class:`freerea_patch.TrainingFree`.

    Raises:
        InputError: the batch or its labels cannot be used.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        batch: str = "random",
        batch_size: int = 64,
        length: int | None = None,
        seed: int = 0,
        device: str = "cpu",
        cache: MetricCache | None = None,
        threads: int = 1,
    ) -> None:
        self.space = space
        self.images: Inputs = load_inputs(space, batch, size=batch_size, length=length, seed=seed)
        self.labels = _load_labels(batch, batch_size) if self._has_images else None
        self.seed = seed
        self.device = device
        self.cache = cache
        self.threads = threads
        self._digest = batch_digest(self.images)

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterator[Mapping[str, Measured]]:
        """Yield the proxies of one network after the other.

        Besides the proxies, a row charges the seconds of building and initialising as ``"network"``.

        Raises:
            InputError: an unknown proxy, or a network that the proxies cannot be computed on.
        """
        for metric in metrics:
            self.check(metric)
        yield from rows_of(self, genotypes, metrics)

    @property
    def _has_images(self) -> bool:
        return input_dtype(self.space) == "float32"

    def check(self, metric: str) -> None:
        """Make sure that a proxy is known, and defined on the networks of the space.

        Raises:
            InputError: it is not.
        """
        if metric not in ALL_PROXIES:
            raise unknown_name("zero-cost proxy", metric, ALL_PROXIES)
        if not self._has_images and metric in NOT_OF_TOKENS:
            raise UndefinedMetric(f"space {self.space.name!r} reads tokens: {metric} {NOT_OF_TOKENS[metric]}")

    def known(self, genotype: str, metrics: Sequence[str]) -> dict[str, Measured] | None:
        """Return the row of a network if all of it is in the cache, None otherwise."""
        if self.cache is None:
            return None
        return self.cache.get_all({name: self._key(genotype, name) for name in (NETWORK, *metrics)}) or None

    def keep(self, genotype: str, row: Mapping[str, Measured]) -> None:
        """Store a computed row in the cache."""
        if self.cache is not None:
            self.cache.put({self._key(genotype, name): measured for name, measured in row.items()})

    def compute(self, genotype: str, metrics: Sequence[str]) -> dict[str, Measured]:
        """Return the row of a network, computed."""
        with torch_threads(self.threads):
            return self._compute(genotype, metrics)

    def _compute(self, genotype: str, metrics: Sequence[str]) -> dict[str, Measured]:
        import time

        import torch

        from freerea_patch.networks import check_network
        from freerea_patch.training_free import keep_memory
        from freerea_seval.proxies.compute import zero_cost_proxies

        keep_memory()
        device = check_device(self.device)
        # Channels-last halves the time of convolutions on a CPU.
        layout = torch.channels_last if self.images.ndim == 4 else torch.contiguous_format
        images = torch.from_numpy(self.images).to(device, memory_format=layout)
        labels = None if self.labels is None else torch.from_numpy(self.labels)
        began = time.perf_counter()
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)  # for parameters of modules without reset_parameters
                network = self.space.build(genotype)
            check_network(network)
            draw_weights(network, self.seed)
            network = network.to(device).to(memory_format=layout)  # type: ignore[call-overload]
            built = time.perf_counter() - began
            row = zero_cost_proxies(network, images, labels, metrics, seed=self.seed)
        except Exception as error:  # a user's network may raise anything
            message = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"network {genotype!r}: {' and '.join(metrics)} cannot be computed ({message})") from error
        return {NETWORK: Measured(0.0, built)} | {
            name: Measured(_rounded(m.value), m.seconds) for name, m in row.items()
        }

    def _key(self, genotype: str, metric: str) -> str:
        settings = {
            "proxies": _VERSION,
            "code": code_digest(self.space),
            "batch": self._digest,
            "labels": None if self.labels is None else self.labels.tolist(),
            "seed": self.seed,
            "threads": self.threads,
        }
        return live_metric_key(self.space, genotype, metric, self.device, settings)


def draw_weights(network: nn.Module, seed: int) -> None:
    """Initialise all weights in place by each module's ``reset_parameters``; torch's global generator is unchanged."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in network.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()


def _load_labels(batch: str, size: int) -> Labels | None:
    """Return the labels in a file of images, None if it has none.

    Raises:
        InputError: the labels are not one whole number an image.
    """
    if not batch.endswith(".npz"):
        return None
    try:
        with np.load(Path(batch), allow_pickle=False) as archive:
            if "labels" not in archive.files:
                return None
            labels = archive["labels"]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            f"batch {batch}: its labels cannot be read ({error}); save it again with numpy.savez"
        ) from None
    if labels.ndim != 1 or len(labels) < size or labels.dtype.kind not in "iu":
        raise InputError(
            f"batch {batch}: expected labels of at least {size} whole numbers,"
            f" got {labels.dtype} of shape {labels.shape}"
        )
    return np.ascontiguousarray(labels[:size], dtype=np.int64)


def _rounded(value: float) -> float:
    """Round to six digits, because the further ones depend on the order of summation in single precision."""
    return float(f"{value:.6g}") if math.isfinite(value) else value
