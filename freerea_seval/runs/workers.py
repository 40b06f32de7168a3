"""Worker processes of a search: one seam over :class:`concurrent.futures.Executor`.

The driver, which is the process of the command, runs the loop. It alone writes journals, results and the cache of
metric values. What crosses the border of a process:

- into a worker: a function of a module, and arguments that are small and can be pickled: a :class:`Recipe` or a config
  with its folders, a genotype, names of metrics;
- out of a worker: the values of a network with their seconds, or the steps and the result of a whole seed; a user's
  mistake as an :class:`~freerea_patch.InputError` of one line;
- never: networks, opened sources, sources' files. A worker opens what it needs once, from the arguments, and keeps it.

The values of a network do not depend on the process: see ``threads`` in :class:`freerea_patch.TrainingFree`. Results
are taken in the order of the tasks, so that a search takes the same course with any number of workers. Where another
executor is to be used, such as one of a cluster, pass a function that makes it to :class:`Workers`.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import wraps
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar

from freerea_patch import InputError, Measured, user_message
from freerea_patch.errors import USERS_EXCEPTIONS
from freerea_patch.imports import import_object
from freerea_seval.config import Config, LiveSettings, make_space
from freerea_seval.sources.registry import Context, MetricInfo, Source, load_registry

_LOG = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")

#: By default, workers are started once this process has computed for so many seconds: a worker takes seconds to start.
START_S = 5.0
#: Executors that may break in a row without finishing a single task.
MOST_BROKEN = 3


@dataclass(frozen=True)
class Recipe:
    """From what a worker opens a metric source.

    Attributes:
        space: the space as the config names it.
        live: settings of live networks, without a cache.
        base: the folder that relative paths of the config start from.
        seed: of what the source prepares at random.
        name, argument: the source.
    """

    space: str | Mapping[str, Any]
    live: LiveSettings
    base: Path
    seed: int
    name: str
    argument: Any


class Workers:
    """Workers that carry out tasks. They start with the first one, and end with the context.

    Tasks of a worker that dies are done again by new workers.

    Args:
        count: of workers.
        asked: whether the user has asked for this number. Otherwise, workers start when this process has computed for
            :data:`START_S`, and it goes on computing until they are ready.
        make_executor: makes the executor of a number of workers.
    """

    def __init__(self, count: int, asked: bool = True, make_executor: Callable[[int], Executor] | None = None) -> None:
        self.count = count
        self.asked = asked
        self._make = make_executor or ProcessExecutor
        #: Whether workers see the files of this machine.
        self.local = make_executor is None
        self._lock = Lock()
        self._executor: Executor | None = None
        self._closed = False
        self._broken = 0
        self._worked_s = 0.0
        self._warm: list[Future[Any]] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers, processes at once: nobody waits for a result any more."""
        with self._lock:
            self._closed, executor = True, self._executor
        if executor is not None:
            if isinstance(executor, ProcessExecutor):
                executor.terminate()
            executor.shutdown(wait=True, cancel_futures=True)

    def map(self, function: Callable[..., R], tasks: Sequence[tuple[Any, ...]]) -> Generator[R, None, None]:
        """Yield the results of ``function(*task)``, in the order of the tasks, which are all submitted at once.

        If the iterator is closed early, tasks that have not begun are cancelled, and the others awaited: when it ends,
        no worker computes any more.

        Raises:
            InputError: a task fails by a user's mistake, or workers die again and again.
        """
        submitted = [self._submit(function, task) for task in tasks]
        try:
            for index in range(len(tasks)):
                while isinstance(submitted[index][1].exception(), BrokenExecutor):
                    self._renew(submitted[index][0])
                    for place in range(index, len(tasks)):
                        future = submitted[place][1]
                        if future.done() and isinstance(future.exception(), BrokenExecutor):
                            submitted[place] = self._submit(function, tasks[place])
                result = submitted[index][1].result()
                self._broken = 0
                yield result
        except GeneratorExit:
            wait([future for _, future in submitted if not future.cancel()])
            raise
        finally:
            for _, future in submitted:
                future.cancel()

    def ready(self, recipe: Recipe) -> bool:
        """Whether workers are to compute, rather than this process; see the argument ``asked``."""
        if self._closed:
            raise _closed()
        if self.asked:
            return True
        with self._lock:
            start = not self._warm and self._worked_s >= START_S
        if start:
            self._warm = [self._submit(open_source, (recipe,))[1] for _ in range(self.count)]
        return bool(self._warm) and all(future.done() for future in self._warm)

    def worked(self, seconds: float) -> None:
        """Count seconds that this process has computed for."""
        with self._lock:
            self._worked_s += seconds

    def _submit(self, function: Callable[..., R], task: tuple[Any, ...]) -> tuple[Executor, Future[R]]:
        while True:
            with self._lock:
                if self._closed:
                    raise _closed()
                if self._executor is None:
                    self._executor = self._make(self.count)
                    _LOG.info("starting %d workers", self.count)
                executor = self._executor
            try:
                return executor, executor.submit(function, *task)
            except BrokenExecutor:
                self._renew(executor)

    def _renew(self, broken: Executor) -> None:
        """Let the next task have a new executor.

        Raises:
            InputError: several broke in a row.
        """
        with self._lock:
            if self._closed:
                raise _closed()
            if self._executor is not broken:
                return
            self._executor = None
            self._broken += 1
            if self._broken >= MOST_BROKEN:
                raise InputError(
                    f"workers ended {MOST_BROKEN} times in a row without a result: they were killed, perhaps for lack"
                    " of memory, or a metric ended its process, or the calling script lacks"
                    " 'if __name__ == \"__main__\":'; try fewer --workers"
                )
        broken.shutdown(wait=True, cancel_futures=True)


def _closed() -> RuntimeError:
    return RuntimeError("the workers have ended with the search that started them")


class ProcessExecutor(ProcessPoolExecutor):
    """Processes of this machine that end with this one.

    Args:
        count: of processes.
    """

    def __init__(self, count: int) -> None:
        super().__init__(count, get_context("spawn"), _start_process)

    def terminate(self) -> None:
        """End all processes, whatever they do."""
        for process in list((self._processes or {}).values()):
            process.terminate()


def _start_process() -> None:
    """Let a process end without a traceback at an interrupt, and with the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)  # as if killed: nobody waits for its results

    Thread(target=end_with_parent, daemon=True).start()


class SpreadSource:
    """A metric source whose values workers compute, in batches.

    A source that has a cache also has ``known(genotype, metrics)``, a row that needs no computation or None, and
    ``keep(genotype, row)``, which stores a row that a worker has computed. Both are called in this process.

    Args:
        source: opened in this process.
        recipe: from which workers open it.
        workers: compute.
    """

    def __init__(self, source: Source, recipe: Recipe, workers: Workers) -> None:
        self.source = source
        self._recipe = recipe
        self._workers = workers
        self._known = getattr(source, "known", lambda genotype, metrics: None)
        self._keep = getattr(source, "keep", lambda genotype, row: None)

    def describe(self, metric: str) -> MetricInfo:
        """Return the description of a metric."""
        return self.source.describe(metric)

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterator[Mapping[str, Measured]]:
        """Yield one row a genotype, in order."""
        rows = [self._known(genotype, metrics) for genotype in genotypes]
        missing = [genotype for genotype, row in zip(genotypes, rows, strict=True) if row is None]
        with closing(self._computed(missing, metrics)) as computed:
            for row in rows:
                yield next(computed) if row is None else row

    def _computed(
        self, genotypes: Sequence[str], metrics: Sequence[str]
    ) -> Generator[Mapping[str, Measured], None, None]:
        rest = list(genotypes)
        while rest and not self._workers.ready(self._recipe):
            began = time.perf_counter()
            (row,) = self.source.evaluate([rest.pop(0)], metrics)
            self._workers.worked(time.perf_counter() - began)
            yield row
        tasks = [(self._recipe, genotype, tuple(metrics)) for genotype in rest]
        with closing(self._workers.map(compute_row, tasks)) as rows:
            for genotype, row in zip(rest, rows, strict=True):
                self._keep(genotype, row)
                yield row


@contextmanager
def open_workers(
    config: Config, count: int | Literal["auto"] | None, executor: str | None = None
) -> Iterator[Workers | None]:
    """Yield the workers of a search while a context is open; None for this process alone.

    Args:
        config: of the search.
        count: as the user gives it; ``auto`` for :func:`default_workers`.
        executor: ``ray``, or ``ray://HOST:PORT`` of a cluster, whose cores are the workers; None for processes.

    Raises:
        InputError: the executor is none of these, or cannot be reached.
    """
    if executor is not None:
        if executor != "ray" and not executor.startswith("ray://"):
            raise InputError(f"--executor {executor!r:.80}: expected 'ray' or ray://HOST:PORT")
        connected, make = (
            import_object(f"freerea_seval.integrations.ray:{name}", "--executor")
            for name in ("connected", "RayExecutor")
        )
        with (
            connected(None if executor == "ray" else executor) as cores,
            Workers(cores, make_executor=lambda count: make()) as workers,
        ):
            yield workers
        return
    number = default_workers(config) if count == "auto" else count or 1
    if number == 1:
        yield None
        return
    with Workers(number, asked=count != "auto") as workers:
        yield workers


# In workers

#: What this process has opened, by what it was opened from.
_OPENED: dict[str, Source] = {}


def in_one_line(function: Callable[P, R]) -> Callable[P, R]:
    """Turn the errors that users can cause into one line; their tracebacks are lost on the way to another process."""

    @wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> R:
        try:
            return function(*arguments, **options)
        except USERS_EXCEPTIONS as error:
            message = user_message(error)
            if message is None:
                raise
            raise (type(error) if isinstance(error, InputError) else InputError)(message) from None

    return call


@in_one_line
def open_source(recipe: Recipe) -> None:
    """Open a source of this worker."""
    _source(recipe)


@in_one_line
def compute_row(recipe: Recipe, genotype: str, metrics: tuple[str, ...]) -> dict[str, Measured]:
    """Return the row of one network."""
    (row,) = _source(recipe).evaluate([genotype], metrics)
    return dict(row)


def _source(recipe: Recipe) -> Source:
    key = repr(recipe)
    if key not in _OPENED:
        space = make_space(recipe.space, recipe.base)
        context = Context(space, recipe.live, recipe.base, seed=recipe.seed, space_name=recipe.space)
        _OPENED[key] = load_registry().open(recipe.name, recipe.argument, context)
    return _OPENED[key]


# How many


def default_workers(config: Config) -> int:
    """Return the number of workers where the user gives none.

    It is the number of physical cores where metrics take long, and 1 where a metric is measured by a clock, or is a
    function of the user's, which may be; where metrics are looked up or predicted, as a worker would cost more than it
    saves; and on a GPU, which processes would have to share.
    """
    names = {section.source_name for section in (*config.objectives, *config.report)}
    kinds = {record.workers for record in load_registry() if record.name in names}
    if "always" not in kinds or kinds & {"asked", "clock"} or config.live.device != "cpu":
        return 1
    return max(1, physical_cores() // (config.live.threads or 1))


def physical_cores() -> int:
    """Return the number of physical cores that this process may use, as far as the system says."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cpus = os.sched_getaffinity(0)
    siblings = {_read(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu) for cpu in cpus}
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    most = int(quota) // int(period) if quota.isdigit() and period.isdigit() else len(siblings)
    return max(1, min(len(siblings), most))


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
