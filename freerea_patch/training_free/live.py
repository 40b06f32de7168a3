"""FreeREA's training-free metrics as a metric source: build each network, initialise it, compute, cache the values.

This module also holds what every source on live networks needs: the batch of images, the cache of metric values on
disk, and the device. torch is imported for the first network.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import os
import sqlite3
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from freerea_patch.errors import USERS_EXCEPTIONS, InputError, UndefinedMetric, unknown_name
from freerea_patch.imports import TORCH_LOCK, import_object, share_cores, torch_threads
from freerea_patch.objective import BoundObjective, Measured, Objective, ObjectiveSet
from freerea_patch.spaces import SearchSpace, input_dtype

if TYPE_CHECKING:
    import torch
    from torch import nn

METRICS = ("naswot", "logsynflow", "skip")
#: Increased when a change of the code changes metric values, so that cached values are not used any more.
_VERSION = 3
#: The key of the seconds for building and initialising a network, which its metrics share.
NETWORK = "network"
#: Seconds to wait while another process writes.
_BUSY_S = 60.0
#: Beginnings of Linux's names of file systems that several machines can share.
_NETWORK_FILE_SYSTEMS = ("9p", "beegfs", "ceph", "cifs", "fuse", "gluster", "gpfs", "lustre", "nfs", "smb")

Images = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int64]
Inputs = Images | Tokens
#: Tokens of a sequence, where neither the user nor the space's context says.
LENGTH = 128


class CachedMetrics(Protocol):
    """Metrics of live networks that are computed once, here or in another process, and kept in a cache."""

    def known(self, genotype: str, metrics: Sequence[str]) -> dict[str, Measured] | None:
        """Return the row of a network that needs no computation, None otherwise."""
        ...

    def compute(self, genotype: str, metrics: Sequence[str]) -> dict[str, Measured]:
        """Return the row of a network, computed."""
        ...

    def keep(self, genotype: str, row: Mapping[str, Measured]) -> None:
        """Store a computed row in the cache."""
        ...


def rows_of(source: CachedMetrics, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterator[dict[str, Measured]]:
    """Yield the rows of networks, from the cache where it has them."""
    for genotype in genotypes:
        with TORCH_LOCK:
            row = source.known(genotype, metrics)
            if row is None:
                row = source.compute(genotype, metrics)
                source.keep(genotype, row)
        yield row


class TrainingFree:
    """naswot, logsynflow and skip of a space's networks (Cavagnero 2023, section 3).

    Args:
        space: the search space.
        batch: see :func:`load_inputs`; or the ``(n, c, h, w)`` images or ``(n, t)`` tokens.
        batch_size: number of images or sequences for naswot.
        length: tokens of a sequence; see :func:`load_tokens`.
        initialisations: number of random initialisations over which every metric is averaged (3 in FreeREA).
        seed: of the initialisations and the noise; the same for every network.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
        cache: stores the values, if given.
        threads: CPU threads of torch. The value of a network depends on their number, because it decides the order of
            sums and the algorithms of convolutions; with one, it is the same in every process.

    Raises:
        InputError: the batch cannot be used, or torch has no such device.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        batch: str | Inputs = "random",
        batch_size: int = 64,
        length: int | None = None,
        initialisations: int = 3,
        seed: int = 0,
        device: str = "cpu",
        cache: MetricCache | None = None,
        threads: int = 1,
    ) -> None:
        if initialisations < 1:
            raise InputError(f"initialisations must be at least 1, got {initialisations}")
        if isinstance(batch, str):
            batch = load_inputs(space, batch, size=batch_size, length=length, seed=seed)
        self.space = space
        self.images = batch
        self.initialisations = initialisations
        self.seed = seed
        self.device = device
        self.cache = cache
        self.threads = threads
        self._digest = batch_digest(batch)
        self._code = code_digest(space)
        self._computer: _Computer | None = None

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterator[Mapping[str, Measured]]:
        """Yield the metrics of one network after another, and the seconds to build and initialise it as ``"network"``.

        Raises:
            InputError: an unknown metric, or a network for which a metric cannot be computed.
        """
        for metric in metrics:
            if metric not in METRICS:
                raise unknown_name("training-free metric", metric, METRICS)
        yield from rows_of(self, genotypes, metrics)

    def known(self, genotype: str, metrics: Sequence[str]) -> dict[str, Measured] | None:
        """Return the row of a network that needs no computation, because all of it is in the cache; None otherwise."""
        live = [metric for metric in metrics if metric != "skip"]
        row: dict[str, Measured] = {"skip": Measured(self._skip(genotype))} if "skip" in metrics else {}
        if not live:
            return row
        cached = {} if self.cache is None else self.cache.get_all(self._keys(genotype, [NETWORK, *live]))
        return row | cached if cached else None

    def compute(self, genotype: str, metrics: Sequence[str]) -> dict[str, Measured]:
        """Return the row of a network, computed."""
        live = [metric for metric in metrics if metric != "skip"]
        if self._computer is None:
            self._computer = _Computer(self.images, self.device)
        row: dict[str, Measured] = {"skip": Measured(self._skip(genotype))} if "skip" in metrics else {}
        with torch_threads(self.threads):
            return row | self._computer.compute(
                lambda: self.space.build(genotype), live, self.initialisations, self.seed, f"network {genotype!r}"
            )

    def keep(self, genotype: str, row: Mapping[str, Measured]) -> None:
        """Store a computed row in the cache."""
        if self.cache is not None:
            live = [name for name in row if name != "skip"]
            self.cache.put({key: row[name] for name, key in self._keys(genotype, live).items()})

    def check(self, metric: str) -> None:
        """Make sure that the space has what a metric needs.

        Raises:
            InputError: it lacks the method ``skip``.
        """
        if metric == "skip" and not hasattr(self.space, "skip"):
            raise UndefinedMetric(
                f"space {self.space.name!r} does not define the metric skip; use other metrics: naswot and logsynflow"
                " of source 'training-free', those of source 'zero-cost'; or in a space of your own, add a method"
                " skip(genotype) -> float"
            )

    def _skip(self, genotype: str) -> float:
        self.check("skip")
        return float(self.space.skip(genotype))  # type: ignore[attr-defined]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_computer": None}

    def _keys(self, genotype: str, names: Sequence[str]) -> dict[str, str]:
        return {name: self._key(genotype, name) for name in names}

    def _key(self, genotype: str, metric: str) -> str:
        settings = {
            "version": _VERSION,
            "code": self._code,
            "batch": self._digest,
            "initialisations": self.initialisations,
            "seed": self.seed,
            "threads": self.threads,
        }
        return live_metric_key(self.space, genotype, metric, self.device, settings)


class _Computer:
    """The computation of metrics, which imports torch; created for the first network."""

    def __init__(self, images: Inputs, device: str) -> None:
        share_cores()
        import torch

        from freerea_patch.training_free.metrics import keep_memory

        self.torch = torch
        self.device = check_device(device)
        keep_memory()
        # Channels-last halves the time of convolutions on a CPU; the metrics do not depend on the memory format.
        self.layout = torch.channels_last if images.ndim == 4 else torch.contiguous_format
        self.images = torch.from_numpy(images).to(self.device, memory_format=self.layout)

    def compute(
        self, build: Callable[[], nn.Module], metrics: Sequence[str], initialisations: int, seed: int, what: str
    ) -> dict[str, Measured]:
        """Return the mean of every metric over the initialisations, and all seconds."""
        from freerea_patch.networks import check_network, initialise, skip_initialisation
        from freerea_patch.training_free.embedding import as_embedded
        from freerea_patch.training_free.metrics import has_parametrised_weights

        clock = Clock(self.device)
        try:
            with skip_initialisation():
                network = build()
            check_network(network)
            if has_parametrised_weights(network):  # they were computed from uninitialised memory
                with self.torch.random.fork_rng(devices=[]):
                    self.torch.manual_seed(seed)
                    network = build()
            network = network.to(self.device, memory_format=self.layout)  # type: ignore[call-overload]
            clock.lap(NETWORK)
            values: dict[str, list[float]] = {metric: [] for metric in metrics}
            for repeat in range(initialisations):
                initialise(network, self.torch.Generator(self.device).manual_seed(seed + repeat))
                model, inputs = network, self.images
                if not inputs.is_floating_point():
                    model, inputs = as_embedded(network, inputs)
                clock.lap(NETWORK)
                for metric in metrics:
                    values[metric].append(self._metric(metric, model, inputs))
                    clock.lap(metric)
        except Exception as error:  # a user's network may raise anything
            message = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{what}: {' and '.join(metrics)} cannot be computed ({message})") from error
        means = {metric: _rounded(fmean(v)) for metric, v in values.items()}
        return {name: Measured(means.get(name, 0.0), seconds) for name, seconds in clock.seconds.items()}

    @staticmethod
    def _metric(metric: str, network: nn.Module, images: torch.Tensor) -> float:
        from freerea_patch.training_free.metrics import logsynflow, naswot

        if metric == "naswot":
            return naswot(network, images)
        return logsynflow(network, tuple(images.shape[1:]))


class Clock:
    """Accumulates the seconds between laps, by name; on a GPU, a lap waits for all work to finish."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds: dict[str, float] = {}
        self._begin = time.perf_counter()

    def lap(self, name: str) -> None:
        """Add the time since the last lap to ``name``."""
        if self._device.type == "cuda":
            import torch

            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._begin
        self._begin = now


def check_device(device: str) -> torch.device:
    """Return the torch device of a name.

    Raises:
        InputError: torch does not support the device, or this machine does not have it.
    """
    import torch

    try:
        checked = torch.device(device)
        torch.empty(0, device=checked)
    except (RuntimeError, AssertionError) as error:
        message = str(error).splitlines()[0]
        raise InputError(
            f"device {device!r} cannot be used here ({message}); use 'device: cpu' or --device cpu"
        ) from None
    return checked


def device_model(device: str) -> str:
    """Return the model of a GPU, or the type of another torch device, such as ``cpu``."""
    import torch

    kind = torch.device(device).type
    return torch.cuda.get_device_name(device) if kind == "cuda" and torch.cuda.is_available() else kind


def _rounded(value: float) -> float:
    """Round to ten digits: the further digits depend on the order of summation."""
    return float(f"{value:.10g}") if math.isfinite(value) else value


def code_digest(space: SearchSpace) -> str:
    """Return a hash of the file that defines a space, so that cached values of an edited space are not used."""
    try:
        with open(inspect.getfile(type(space)), "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except (OSError, TypeError):
        return ""


def freerea_objectives(source: TrainingFree) -> ObjectiveSet:
    """Return plain FreeREA's objectives: naswot, logsynflow and skip, equally weighted."""
    return ObjectiveSet([BoundObjective(Objective(metric), source, metric) for metric in METRICS])


def load_inputs(space: SearchSpace, spec: str, *, size: int, length: int | None = None, seed: int = 0) -> Inputs:
    """Return a batch for the networks of a space: images, or tokens where the space has ``input_dtype`` ``"int64"``.

    Args:
        space: the search space.
        spec: see :func:`load_batch` and :func:`load_tokens`.
        size: number of images or sequences.
        length: tokens of a sequence.
        seed: of what is drawn.

    Raises:
        InputError: the batch cannot be used, or the space has tokens and no member ``vocabulary``.
    """
    if input_dtype(space) == "float32":
        if spec == "tokens" or length is not None:
            key = "batch: tokens" if spec == "tokens" else "length"
            raise InputError(
                f"live: {key} is of spaces whose networks read tokens, such as gpt-s; space {space.name} has images:"
                " take batch: random, FILE.npz or pkg.module:callable, without length"
            )
        return load_batch(spec, size=size, input_shape=space.input_shape, seed=seed)
    vocabulary = getattr(space, "vocabulary", None)
    if not isinstance(vocabulary, int) or vocabulary < 1:
        raise InputError(
            f"space {space.name}: its networks read tokens, and metrics of live networks need their number; add a"
            " member vocabulary, such as vocabulary = 50_254"
        )
    context = space.input_shape[0]
    return load_tokens(spec, size=size, vocabulary=vocabulary, context=context, length=length, seed=seed)


def load_tokens(
    spec: str, *, size: int, vocabulary: int, context: int, length: int | None = None, seed: int = 0
) -> Tokens:
    """Return a batch of sequences of tokens.

    Args:
        spec: ``"tokens"`` or ``"random"`` for uniformly random ones; a path ending in ``.npz`` with an array ``tokens``
            ``(n, t)`` of whole numbers; or ``pkg.module:callable``, which is called with ``size`` and returns such an
            array (or a tensor).
        size: number of sequences; of a larger array, the first ones are used.
        vocabulary: number of tokens.
        context: the most tokens of a sequence.
        length: tokens of a sequence, of longer ones the first; None for :data:`LENGTH` random ones, within the context,
            or the whole sequences of an array.
        seed: of random tokens.

    Returns:
        ``(size, length)`` int64.

    Raises:
        InputError: the length is more than the context or less than 2, or the array has another shape, fewer or shorter
            sequences, or numbers that are no tokens.
    """
    if size < 2:
        raise InputError(f"batch size must be at least 2, because naswot compares sequences; got {size}")
    if length is not None and not 2 <= length <= context:
        raise InputError(f"live: length: expected from 2 to {context} tokens, the context of the space, got {length}")
    if spec in ("tokens", "random"):
        shape = (size, min(LENGTH, context) if length is None else length)
        return np.random.default_rng(seed).integers(vocabulary, size=shape)
    if spec.endswith(".npz"):
        array = _read_npz(Path(spec), "tokens", size, None)
    elif ":" in spec:
        array = np.asarray(_call(spec, size))
    else:
        raise InputError(f"batch: expected 'tokens', FILE.npz or pkg.module:callable, got {spec!r}")
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise InputError(
            f"batch {spec}: expected whole numbers of shape (n, tokens), got {array.dtype} of shape {array.shape}"
        )
    if len(array) < size:
        raise InputError(
            f"batch {spec}: has {len(array)} sequences, fewer than the batch size {size}; reduce the batch size"
        )
    shortest, array = length or 2, array[:size, :length]
    if not shortest <= array.shape[1] <= context:
        raise InputError(
            f"batch {spec}: expected from {shortest} to {context} tokens a sequence, got {array.shape[1]}; set"
            " live.length"
        )
    if not 0 <= array.min() <= array.max() < vocabulary:
        raise InputError(
            f"batch {spec}: expected tokens from 0 to {vocabulary - 1}, got {array.min()} to {array.max()}"
        )
    return np.ascontiguousarray(array, dtype=np.int64)


def load_batch(spec: str, *, size: int, input_shape: tuple[int, ...], seed: int = 0) -> Images:
    """Return a batch of images.

    Args:
        spec: ``"random"`` for standard normal noise; a path ending in ``.npz`` with an array ``images`` ``(n, c, h,
            w)``; or ``pkg.module:callable``, which is called with ``size`` and returns such an array (or a tensor, or
            a pair of images and labels).
        size: number of images; of a larger array, the first ``size`` images are used.
        input_shape: ``(c, h, w)`` of the search space.
        seed: of the noise.

    Returns:
        ``(size, c, h, w)`` float32.

    Raises:
        InputError: the file is missing or not an ``.npz``, or lacks ``images``.
        InputError: the array has another shape, fewer images than ``size``, or a NaN.
    """
    if size < 2:
        raise InputError(f"batch size must be at least 2, because naswot compares images; got {size}")
    if spec == "random":
        return np.random.default_rng(seed).standard_normal((size, *input_shape), dtype=np.float32)
    if spec.endswith(".npz"):
        images: Any = _read_npz(Path(spec), "images", size, input_shape)
    elif ":" in spec:
        images = _call(spec, size)
    else:
        raise InputError(f"batch: expected 'random', FILE.npz or pkg.module:callable, got {spec!r}")
    try:
        with np.errstate(over="ignore"):  # what is too large for a float32 is infinite, which is refused below
            array = np.asarray(images, dtype=np.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"batch {spec}: expected an array of images, got {type(images).__name__} ({error})") from None
    if array.ndim != 1 + len(input_shape) or array.shape[1:] != tuple(input_shape):
        shape = ", ".join(map(str, input_shape))
        raise InputError(f"batch {spec}: expected images of shape (n, {shape}), got {array.shape}")
    if len(array) < size:
        raise InputError(
            f"batch {spec}: has {len(array)} images, fewer than the batch size {size}; reduce the batch size"
        )
    if not np.isfinite(array[:size]).all():
        raise InputError(f"batch {spec}: contains NaN or infinite values; normalise the images again")
    return np.ascontiguousarray(array[:size])


def batch_digest(images: Inputs) -> str:
    """Return a hash of a batch's shape and values, for the cache of metric values."""
    return hashlib.sha256(repr(images.shape).encode() + images.tobytes()).hexdigest()


def _call(spec: str, size: int) -> Any:
    """Return the images or tokens from a user's callable, without labels."""
    function = import_object(spec, "batch")
    try:
        images = function(size)
    except USERS_EXCEPTIONS as error:  # a user's function may raise anything
        message = next(iter(str(error).splitlines()), "")
        raise InputError(f"batch {spec}: called with {size}, it failed ({type(error).__name__}: {message})") from error
    images = images[0] if isinstance(images, (tuple, list)) else images
    return images.detach().cpu() if hasattr(images, "detach") else images


def _read_npz(path: Path, name: str, size: int, input_shape: tuple[int, ...] | None) -> npt.NDArray[Any]:
    """Return the first ``size`` inputs of a file, without reading the others, or zeros if the array's shape is wrong.

    Args:
        path: the file.
        name: of the array in it, ``images`` or ``tokens``.
        size: number of inputs.
        input_shape: of one input, None for a sequence of any length.
    """
    if not path.is_file():
        raise InputError(f"batch {path}: no such file; expected an .npz with an array '{name}'")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if f"{name}.npy" not in names:
                arrays = ", ".join(other.removesuffix(".npy")[:40] for other in names[:10])
                raise InputError(f"batch {path}: has no array '{name}', only: {arrays or 'nothing'}")
            if archive.getinfo(f"{name}.npy").compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError("a compression that numpy does not write")
            with archive.open(f"{name}.npy") as file:
                header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
                shape, by_column, dtype = header[npy.read_magic(file)](file)
                if dtype.kind not in "biuf" or by_column or not shape:
                    raise ValueError(f"an array of {dtype}, expected numbers, the {name} one after another")
                fits = len(shape) == 2 if input_shape is None else shape[1:] == tuple(input_shape)
                if shape[0] < size or not fits:
                    return np.broadcast_to(np.zeros((), np.float32 if input_shape else dtype), shape)
                content = file.read(size * math.prod(shape[1:]) * dtype.itemsize)
                return np.frombuffer(bytearray(content), dtype).reshape(size, *shape[1:])
    except InputError:
        raise
    except Exception as error:  # a damaged archive fails in zipfile, zlib or numpy, each with its own type
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"batch {path}: cannot be read as .npz ({reason}); save it again with numpy.savez") from None


class MetricCache:
    """A SQLite file of metric values and the seconds that they took to compute.

    Any number of threads and processes may use a file at the same time, and the first value stored under a key is kept.
    Where the file system is local and supports it, the file has a write-ahead log (``FILE-wal`` and ``FILE-shm`` beside
    it while it is open), which makes writes short; elsewhere SQLite's rollback journal. A cache can be pickled and used
    after a fork: each process has a connection of its own.

    Args:
        path: the file; it is created with its folders if it is missing.
        read_only: values are looked up in a file that exists, and :meth:`put` stores none.

    Raises:
        InputError: the file is not a cache of metric values, is damaged, or cannot be written.
    """

    def __init__(self, path: Path, read_only: bool = False) -> None:
        self.path = Path(path)
        self.read_only = read_only
        # By process: a fork must not use its parent's, and threads of the parent may have held the lock.
        self._connections: dict[int, sqlite3.Connection] = {}
        self._locks: dict[int, threading.RLock] = {}
        with self._connected():
            pass

    def __del__(self) -> None:
        self.close()  # a connection refers to itself, and would keep the files of its log until garbage is collected

    def __reduce__(self) -> tuple[type[MetricCache], tuple[Path, bool]]:
        return type(self), (self.path.absolute(), self.read_only)

    def _open(self) -> sqlite3.Connection:
        if self.read_only:
            # A connection that may not write would leave the files of the log behind.
            writable = os.access(self.path, os.W_OK) and os.access(self.path.absolute().parent, os.W_OK)
            name = f"file:{quote(str(self.path.absolute()))}?{'mode=rw' if writable else 'mode=ro&immutable=1'}"
            connection = sqlite3.connect(name, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            connection.execute("SELECT key, value, seconds FROM metric LIMIT 1")  # fails if it is no cache
            return connection
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Threads take turns by the lock.
        connection = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            if _is_local(self.path):
                with suppress(sqlite3.OperationalError):  # a read-only file, or one that others are writing
                    if connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",):
                        # A power failure then loses the last values, never the file.
                        connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS metric (key TEXT PRIMARY KEY, value REAL, seconds REAL NOT NULL)"
            )
        except (sqlite3.Error, UnicodeDecodeError) as error:
            connection.close()
            read_only = self.path.is_file() and not os.access(self.path, os.W_OK)
            if read_only and isinstance(error, sqlite3.OperationalError):
                # SQLite cannot open a file with a log in a folder that it cannot write to, unless nobody can.
                name = f"file:{quote(str(self.path.absolute()))}?immutable=1"
                return sqlite3.connect(name, uri=True, isolation_level=None, check_same_thread=False)
            raise
        return connection

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """Give this thread the connection of this process.

        Raises:
            InputError: the file cannot be used.
        """
        process = os.getpid()
        try:
            with self._locks.setdefault(process, threading.RLock()):
                if process not in self._connections:
                    self._connections[process] = self._open()
                yield self._connections[process]
        except (OSError, sqlite3.Error, UnicodeDecodeError) as error:  # a damaged name is no UTF-8 in SQLite's message
            raise self._unusable(error) from None

    def get(self, key: str) -> Measured | None:
        """Return the value stored under ``key``, if any."""
        with self._connected() as connection:
            row = connection.execute("SELECT value, seconds FROM metric WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        value = float("nan") if row[0] is None else row[0]  # SQLite stores NaN as NULL
        if not isinstance(value, float) or not isinstance(row[1], float) or not 0 <= row[1] < math.inf:
            raise self._unusable(sqlite3.DatabaseError("a value or its seconds are no numbers"))
        return Measured(value, row[1])

    def get_all(self, keys: Mapping[str, str]) -> dict[str, Measured]:
        """Return the values of keys by name, or none of them if one is missing."""
        values = {name: measured for name, key in keys.items() if (measured := self.get(key)) is not None}
        return values if len(values) == len(keys) else {}

    def put(self, values: Mapping[str, Measured]) -> None:
        """Store values by key, except under keys that exist; a failure stores none of them."""
        if self.read_only:
            return
        with self._connected() as connection:
            # A single transaction, because each one waits for the disk.
            connection.execute("BEGIN IMMEDIATE")
            try:
                rows = ((key, *measured) for key, measured in values.items())
                connection.executemany("INSERT OR IGNORE INTO metric VALUES (?, ?, ?)", rows)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file; it opens again when it is used."""
        process = os.getpid()
        with self._locks.setdefault(process, threading.RLock()):
            connection = self._connections.pop(process, None)
            if connection is not None:
                connection.close()

    def _unusable(self, error: Exception) -> InputError:
        # An operational error, such as a locked file or a full disk, is not one of the file's content.
        kinds = (sqlite3.DatabaseError, UnicodeDecodeError)
        damaged = isinstance(error, kinds) and not isinstance(error, sqlite3.OperationalError)
        return InputError(
            f"the cache of metric values {self.path} cannot be used ({error});"
            f" {'delete the file, ' if damaged else ''}choose another with 'cache: FILE', or set 'cache: off'"
        )


def _is_local(path: Path) -> bool:
    """Whether no other machine shares the file system, as far as Linux says; a write-ahead log needs shared memory."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return True
    folders = {str(folder) for folder in path.absolute().resolve().parents}
    kinds = {len(mount[1]): mount[2] for mount in mounts if mount[1] in folders}
    return not kinds[max(kinds)].startswith(_NETWORK_FILE_SYSTEMS) if kinds else True


def cache_key(parts: Mapping[str, object]) -> str:
    """Return the key of a value: a hash of everything that the value depends on, by name."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def live_metric_key(space: SearchSpace, genotype: str, metric: str, device: str, settings: Mapping[str, object]) -> str:
    """Return the cache key of a metric that is computed with torch on a network of a space.

    Args:
        space: the search space.
        genotype: the network.
        metric: the metric.
        device: name of the torch device. The key holds the model of a GPU, because the values of two models differ in
            their last digits.
        settings: whatever else the value depends on, such as the digest of the batch and the seed.
    """
    share_cores()
    import torch

    return cache_key(
        {
            "metric": metric,
            "space": space.name,
            "genotype": genotype,
            "input": list(space.input_shape),
            "device": device_model(device),
            "torch": torch.__version__,
            **settings,
        }
    )
