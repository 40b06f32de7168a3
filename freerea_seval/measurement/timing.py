"""Latency in rounds through all networks, so that drift of the machine affects all of them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Generic, TypeVar

import numpy as np

from freerea_seval.measurement.detrend import detrended
from freerea_seval.measurement.machine import EnergyMeter

_SCHEDULE = Path("/proc/thread-self/schedstat")
#: One forward pass, which has finished when the call returns.
Pass = Callable[[], object]
Network = TypeVar("Network", bound=Hashable)

#: Untimed passes after a network is built, and before every burst, as caches hold data of the previous network.
WARM_UPS = 2
REWARM = 1
#: Timed passes of a visit. A network that is built for the visit alone has further ones, up to the second number, for
#: as long as building took.
BURST, LONGEST_BURST = 3, 20
ROUNDS = 11
#: Bytes of networks that stay in memory between rounds; further networks are built again in every round.
RESIDENT_BYTES = 1 << 30


class CannotRunError(Exception):
    """The device or the backend cannot run a network; the message is one line."""


class NotReadyError(CannotRunError):
    """A network cannot be built or exported, which says nothing about the device."""


@dataclass(frozen=True)
class Runnable:
    """A network that is ready to run.

    Attributes:
        run: one forward pass, which has finished when the call returns.
        size: bytes of the weights.
    """

    run: Pass
    size: int


@dataclass(frozen=True)
class Timing:
    """The result of one visit to a network.

    Attributes:
        turn: number of the round, from 0.
        latency_ms: of a pass; None if the network cannot run.
        seconds: duration of the visit, including building and warming up.
        ready_s: the part of it before the first timed pass.
        energy_mj: of a pass; None where the machine does not report energy.
        reason: why the network cannot run.
        failed: why the network could not be built or exported, and so was not measured.
    """

    turn: int
    latency_ms: float | None
    seconds: float
    ready_s: float = 0.0
    energy_mj: float | None = None
    reason: str | None = None
    failed: str | None = None


@dataclass(frozen=True)
class Summary:
    """A network's results over all visits.

    Attributes:
        latency_ms: the mean of the fastest quarter of the visits, because disturbances only ever add time; or the
            estimate of :func:`~freerea_seval.measurement.detrend.detrended`.
        latency_iqr_ms: interquartile range of all visits.
        rounds: number of visits.
        energy_mj: median of all visits; None where the machine does not report energy.
    """

    latency_ms: float
    latency_iqr_ms: float
    rounds: int
    energy_mj: float | None = None


def by_network(visits: Iterable[tuple[Network, Timing]]) -> dict[Network, list[Timing]]:
    """Return the visits of each network, in their order."""
    groups: dict[Network, list[Timing]] = {}
    for network, timing in visits:
        groups.setdefault(network, []).append(timing)
    return groups


def summary(timings: Sequence[Timing]) -> Summary | None:
    """Return the summary of one network's visits, without removal of drift; None if it cannot run.

    Raises:
        ValueError: there is no visit.
    """
    if not timings:
        raise ValueError("no visits to summarise")
    values = [t.latency_ms for t in timings if t.latency_ms is not None]
    if len(values) < len(timings):
        return None
    energies = [t.energy_mj for t in timings if t.energy_mj is not None]
    return Summary(
        latency_ms=statistics.fmean(sorted(values)[: (len(values) + 3) // 4]),
        latency_iqr_ms=spread(values),
        rounds=len(values),
        energy_mj=statistics.median(energies) if energies else None,
    )


def summaries(visits: Sequence[tuple[Network, Timing]]) -> dict[Network, Summary | None]:
    """Return the summaries by network, without the machine's drift; None for a network that cannot run.

    Args:
        visits: in the order in which they were made, from which the drift is estimated.
    """
    results = {network: summary(timings) for network, timings in by_network(visits).items()}
    measured = {network: result for network, result in results.items() if result is not None}
    index = {network: position for position, network in enumerate(measured)}
    counted = [(index[network], t.latency_ms) for network, t in visits if network in index and t.latency_ms is not None]
    networks, latencies = zip(*counted, strict=True) if counted else ((), ())
    fastest = np.array([result.latency_ms for result in measured.values()])
    steady = detrended(np.array(networks), np.array(latencies), fastest)
    for (network, result), latency_ms in zip(measured.items(), steady.tolist(), strict=True):
        results[network] = replace(result, latency_ms=latency_ms)
    return results


def spread(values: Sequence[float]) -> float:
    """Return the distance between the quartiles, 0 for a single value."""
    if len(values) < 2:
        return 0.0
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return upper - lower


class Rounds(Generic[Network]):
    """Visits to networks, round by round, in a random order that is different in each round.

    A visit is :data:`REWARM` untimed passes and :data:`BURST` timed ones; its latency is the fastest of them, because
    disturbances only ever add time. Of passes during which other processes had the core, as far as the system reports
    it, those that waited least count, without the time of waiting. A disturbance of some seconds affects neighbouring
    visits of one round, from which :func:`summaries` can estimate and remove it.

    Args:
        networks: what to visit.
        make: returns a network that is ready; raises :class:`CannotRunError`.
        seed: of the orders.
        resident_bytes: bytes of weights that stay in memory between rounds.
        meter: measures energy.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        make: Callable[[Network], Runnable],
        *,
        seed: int = 0,
        resident_bytes: int = RESIDENT_BYTES,
        meter: EnergyMeter | None = None,
    ) -> None:
        self._networks = networks
        self._make = make
        self._seed = seed
        self._free_bytes = resident_bytes
        self._meter = meter
        self._resident: dict[Network, Runnable] = {}
        self._unable: set[Network] = set()

    def visits(
        self,
        rounds: int,
        done: Mapping[Network, Sequence[Timing]] | None = None,
        budget_s: float | None = None,
    ) -> Iterator[tuple[Network, Timing]]:
        """Yield each visit when it has finished.

        Args:
            rounds: how many.
            done: visits of an earlier call, which are not repeated; a network that cannot run is not tried again.
            budget_s: stop after this time. The first round then visits networks in their order, as long as the budget
                suffices for all rounds of the networks visited so far; the later rounds visit these networks.
        """
        timings = {network: list(earlier) for network, earlier in (done or {}).items()}
        self._unable = {n for n, earlier in timings.items() if any(t.latency_ms is None for t in earlier)}
        spent_s = sum(t.seconds for earlier in timings.values() for t in earlier)
        networks: Sequence[Network] = self._networks
        with _garbage_collection_off():
            if budget_s is not None:
                networks = []
                for network in self._networks:
                    if network not in timings:
                        needed_s = sum(_seconds_of_all_rounds(earlier[0], rounds) for earlier in timings.values())
                        if timings and max(spent_s, needed_s) >= budget_s:
                            break
                        timing = self._visit(network, 0)
                        timings[network] = [timing]
                        spent_s += timing.seconds
                        yield network, timing
                    networks.append(network)
            for turn in range(rounds):
                order = list(networks)
                Random(f"{self._seed} {turn}").shuffle(order)
                for network in order:
                    if network in self._unable or any(t.turn == turn for t in timings.get(network, ())):
                        continue
                    if budget_s is not None and spent_s >= budget_s:
                        return
                    timing = self._visit(network, turn)
                    spent_s += timing.seconds
                    yield network, timing

    def _visit(self, network: Network, turn: int) -> Timing:
        began = time.perf_counter()
        try:
            runnable = self._runnable(network)
            for _ in range(REWARM):
                runnable.run()
            ready = time.perf_counter()
            energy_before = self._meter.read_mj() if self._meter else 0.0
            most = BURST if network in self._resident else LONGEST_BURST
            passes: list[tuple[float, float]] = []
            while len(passes) < BURST or (len(passes) < most and time.perf_counter() - ready < ready - began):
                passes.append(_timed_pass(runnable.run))
            energy_mj = (self._meter.read_mj() - energy_before) / len(passes) if self._meter else None
        except CannotRunError as error:
            self._unable.add(network)
            why = {"failed" if isinstance(error, NotReadyError) else "reason": str(error)}
            return Timing(turn, None, time.perf_counter() - began, **why)  # type: ignore[arg-type]
        _, latency_s = min(passes)
        return Timing(turn, latency_s * 1e3, time.perf_counter() - began, ready - began, energy_mj)

    def _runnable(self, network: Network) -> Runnable:
        if network in self._resident:
            return self._resident[network]
        runnable = self._make(network)
        for _ in range(WARM_UPS):
            runnable.run()
        if runnable.size <= self._free_bytes:
            self._free_bytes -= runnable.size
            self._resident[network] = runnable
        return runnable


def _seconds_of_all_rounds(first: Timing, rounds: int) -> float:
    """Estimate the seconds of all visits to a network from its first visit."""
    if first.latency_ms is None:
        return first.seconds
    return first.seconds + (rounds - 1) * (BURST + REWARM) * first.latency_ms / 1e3


def _timed_pass(run: Pass) -> tuple[float, float]:
    """Return for how many seconds of a pass another process had the core, and the other seconds."""
    waited_before = _waiting_s()
    began = time.perf_counter()
    run()
    seconds = time.perf_counter() - began
    waited = _waiting_s() - waited_before
    # The two clocks are not read at the same instant, so that the difference may be negative.
    return waited, max(seconds - waited, 0.0) or seconds


def _waiting_s() -> float:
    """Return how long this thread has waited for a core so far; 0 where the system does not report it (not Linux)."""
    try:
        # Running time, waiting time and time slices, in nanoseconds (Linux, Documentation/scheduler/sched-stats).
        return int(_SCHEDULE.read_bytes().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


@contextmanager
def _garbage_collection_off() -> Iterator[None]:
    """Keep Python's garbage collector from running during a pass."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
