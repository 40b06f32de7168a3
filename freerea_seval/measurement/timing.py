"""The timing core: rounds through all networks, so that a drift of the machine hits all alike."""

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

from freerea_seval.measurement.detrend import steadied
from freerea_seval.measurement.energy import EnergyMeter

_SCHEDULE = Path("/proc/thread-self/schedstat")
#: One forward pass, over when it returns.
Pass = Callable[[], object]
Network = TypeVar("Network", bound=Hashable)

#: Passes of a network before the first that counts, and before those of a later round: caches hold another network.
WARM_UPS = 2
REWARM = 1
#: Timed passes of a network a round.
BURST = 3
ROUNDS = 11
#: Networks that stay in memory between rounds, in bytes; those that do not fit are built anew in every round.
RESIDENT_BYTES = 1 << 30


class CannotRunError(Exception):
    """A network that the device or the backend cannot run, with the reason in one line."""


@dataclass(frozen=True)
class Runnable:
    """A network that is ready.

    Attributes:
        run: one forward pass, over when it returns.
        size: bytes of its weights.
    """

    run: Pass
    size: int


@dataclass(frozen=True)
class Timing:
    """What one visit to a network gave.

    Attributes:
        turn: number of the round, from 0.
        latency_ms: of a pass; None if the network cannot run.
        seconds: the whole visit, with building and warming up.
        ready_s: how much of that went before the first pass that counts.
        energy_mj: of a pass; None where the machine does not tell.
        reason: why the network cannot run.
    """

    turn: int
    latency_ms: float | None
    seconds: float
    ready_s: float = 0.0
    energy_mj: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Summary:
    """What the visits to a network come to.

    Attributes:
        latency_ms: the mean of the fastest quarter of the visits, as what else runs on the machine only ever adds; or
            the mean of all after :func:`~freerea_seval.measurement.detrend.steadied`.
        latency_iqr_ms: distance of the quartiles of all visits.
        rounds: number of visits.
        energy_mj: median of all; None where the machine does not tell.
    """

    latency_ms: float
    latency_iqr_ms: float
    rounds: int
    energy_mj: float | None = None


def by_network(visits: Iterable[tuple[Network, Timing]]) -> dict[Network, list[Timing]]:
    """Return the visits of each network, in their order."""
    found: dict[Network, list[Timing]] = {}
    for network, timing in visits:
        found.setdefault(network, []).append(timing)
    return found


def summary(timings: Sequence[Timing]) -> Summary | None:
    """Return what a network's visits come to by themselves; None if it cannot run.

    Raises:
        ValueError: there is no visit.
    """
    if not timings:
        raise ValueError("no visits to sum up")
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
    """Return what visits come to by network, None if it cannot run.

    Args:
        visits: in the order in which they were made, by which the machine's drift is told from the networks.
    """
    found = {network: summary(some) for network, some in by_network(visits).items()}
    known = {network: its for network, its in found.items() if its is not None}
    place = {network: number for number, network in enumerate(known)}
    counted = [(place[network], t.latency_ms) for network, t in visits if network in place and t.latency_ms is not None]
    networks, latencies = zip(*counted, strict=True) if counted else ((), ())
    fastest = np.array([its.latency_ms for its in known.values()])
    steady = steadied(np.array(networks), np.array(latencies), fastest)
    for (network, its), latency in zip(known.items(), steady.tolist(), strict=True):
        found[network] = replace(its, latency_ms=latency)
    return found


def spread(values: Sequence[float]) -> float:
    """Return the distance between the quartiles, 0 for a single value."""
    if len(values) < 2:
        return 0.0
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return upper - lower


class Rounds(Generic[Network]):
    """Visits to networks, round by round.

    In a round every network has its turn, in an order of the round's own. A turn is a pass that does not count, and
    :data:`BURST` that do; the visit's value is their median, without the time for which another process had the core,
    as far as the system tells. A disturbance of seconds spoils a few neighbours in a
    round or two, which tell each other's in :func:`summaries`.

    Args:
        networks: what to visit.
        make: returns a network that is ready; raises :class:`CannotRunError`.
        seed: fixes the orders.
        resident_bytes: weights of as many bytes stay in memory between rounds.
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
        self._free = resident_bytes
        self._meter = meter
        self._ready: dict[Network, Runnable] = {}
        self._unable: dict[Network, str] = {}

    def order(self, turn: int, networks: Sequence[Network]) -> list[Network]:
        """Return the order of a round."""
        order = list(networks)
        Random(f"{self._seed} {turn}").shuffle(order)
        return order

    def visits(
        self,
        rounds: int,
        done: Mapping[Network, Sequence[Timing]] | None = None,
        budget_s: float | None = None,
    ) -> Iterator[tuple[Network, Timing]]:
        """Yield each visit as it is over.

        Args:
            rounds: how many.
            done: visits of an earlier call, which are not made again; a network that cannot run is not tried again.
            budget_s: stop after so many seconds. The first round then goes by the order of the networks, as far as
                there is time for all rounds of those that it has come to; the others do with these.
        """
        seen = {network: list(timings) for network, timings in (done or {}).items()}
        self._unable = {n: t.reason for n, timings in seen.items() for t in timings if t.reason is not None}
        spent = sum(t.seconds for timings in seen.values() for t in timings)
        networks: Sequence[Network] = self._networks
        with _steady():
            if budget_s is not None:
                networks = []
                for network in self._networks:
                    if network not in seen:
                        needed = sum(_all_rounds(timings[0], rounds) for timings in seen.values())
                        if seen and max(spent, needed) >= budget_s:
                            break
                        timing = self._visit(network, 0)
                        seen[network] = [timing]
                        spent += timing.seconds
                        yield network, timing
                    networks.append(network)
            for turn in range(rounds):
                for network in self.order(turn, networks):
                    if network in self._unable or any(t.turn == turn for t in seen.get(network, ())):
                        continue
                    if budget_s is not None and spent >= budget_s:
                        return
                    timing = self._visit(network, turn)
                    spent += timing.seconds
                    yield network, timing

    def _visit(self, network: Network, turn: int) -> Timing:
        began = time.perf_counter()
        try:
            runnable = self._runnable(network)
            for _ in range(REWARM):
                runnable.run()
            ready = time.perf_counter()
            used = self._meter.read_mj() if self._meter is not None else None
            middle = statistics.median(_seconds(runnable.run) for _ in range(BURST))
            energy = (self._meter.read_mj() - used) / BURST if self._meter is not None and used is not None else None
        except CannotRunError as error:
            self._unable[network] = str(error)
            return Timing(turn, None, time.perf_counter() - began, reason=str(error))
        over = time.perf_counter()
        return Timing(turn, middle * 1e3, over - began, ready - began, energy)

    def _runnable(self, network: Network) -> Runnable:
        if network in self._ready:
            return self._ready[network]
        runnable = self._make(network)
        for _ in range(WARM_UPS):
            runnable.run()
        if runnable.size <= self._free:
            self._free -= runnable.size
            self._ready[network] = runnable
        return runnable


def _all_rounds(first: Timing, rounds: int) -> float:
    """Return the seconds that all rounds of a network will take, by its first visit."""
    if first.latency_ms is None:
        return first.seconds
    return first.seconds + (rounds - 1) * (BURST + REWARM) * first.latency_ms / 1e3


def _seconds(run: Pass) -> float:
    """Return the seconds of a pass, less those in which it was ready to run and another process had the core."""
    waited = waiting_s()
    began = time.perf_counter()
    run()
    seconds = time.perf_counter() - began
    # The clocks are not read in the same instant: never less than nothing.
    return max(seconds - (waiting_s() - waited), 0.0) or seconds


def waiting_s() -> float:
    """Return how long this thread has waited for a core so far; 0 where the system does not tell (all but Linux)."""
    try:
        # Time on the core, time waiting for it, and turns, in nanoseconds (Linux, Documentation/scheduler/sched-stats).
        return int(_SCHEDULE.read_bytes().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


@contextmanager
def _steady() -> Iterator[None]:
    """Keep Python's garbage collector from running in the middle of a pass."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
