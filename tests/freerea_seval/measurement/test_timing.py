"""The timing core: turns, disturbances, budgets, and what was done before."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freerea_seval.measurement import timing as timing_module
from freerea_seval.measurement.timing import (
    BURST,
    LONGEST_BURST,
    REWARM,
    WARM_UPS,
    CannotRunError,
    Rounds,
    Runnable,
    Timing,
    spread,
    summary,
)


class Clock:
    """A clock that only :meth:`sleep` moves, so that no result depends on the load of the machine."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True, scope="module")
def clock() -> Iterator[Clock]:
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing_module, "time", SimpleNamespace(perf_counter=clock.perf_counter))
        patch.setattr(timing_module, "_waiting_s", lambda: 0.0)
        yield clock


class Sleepers:
    """Networks that take a given number of milliseconds, and note who was made and who ran when."""

    def __init__(self, clock: Clock, size: int = 1) -> None:
        self.clock = clock
        self.size = size
        self.made: list[int] = []
        self.ran: list[int] = []

    def make(self, name: int) -> Runnable:
        self.made.append(name)
        if name < 0:
            raise CannotRunError("too small")

        def run() -> None:
            assert not gc.isenabled()
            self.ran.append(name)
            self.clock.sleep(name / 1e3)

        return Runnable(run, self.size)


def turns(latencies: list[float | None]) -> list[Timing]:
    return [Timing(turn, latency, 0.1) for turn, latency in enumerate(latencies)]


def test_every_network_is_visited_once_a_round_in_an_order_of_the_rounds_own(clock: Clock) -> None:
    sleepers = Sleepers(clock)
    visits = list(Rounds(range(8), sleepers.make).visits(3))
    orders = [[name for name, timing in visits if timing.turn == turn] for turn in range(3)]
    assert [timing.turn for _, timing in visits] == [0] * 8 + [1] * 8 + [2] * 8
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    again = [name for name, _ in Rounds(range(8), Sleepers(clock).make).visits(3)]
    assert again == [name for name, _ in visits]
    assert again != [name for name, _ in Rounds(range(8), Sleepers(clock).make, seed=1).visits(3)]
    assert gc.isenabled()


def test_a_visit_warms_up_and_times_a_burst(clock: Clock) -> None:
    sleepers = Sleepers(clock)
    list(Rounds([0], sleepers.make).visits(3))
    assert sleepers.made == [0]
    assert len(sleepers.ran) == WARM_UPS + 3 * (REWARM + BURST)


def test_a_network_that_is_built_for_a_visit_alone_has_a_burst_as_long_as_building(clock: Clock) -> None:
    for building_s, expected in ((0.0, BURST), (0.015, 11), (1.0, LONGEST_BURST)):
        sleepers = Sleepers(clock)

        def make(name: int, building_s: float = building_s, sleepers: Sleepers = sleepers) -> Runnable:
            clock.sleep(building_s)
            return sleepers.make(name)

        list(Rounds([2], make, resident_bytes=0).visits(2))
        assert len(sleepers.ran) / 2 - WARM_UPS - REWARM == expected


@pytest.mark.parametrize(
    ("passes", "expected_ms"),
    [
        ([(0.0, 0.005), (0.0, 0.003), (0.0, 0.004), (0.0, 0.009), (0.0, 0.006)], 3.0),
        ([(0.0, 0.005), (0.004, 0.001), (0.0, 0.004), (0.004, 0.001), (0.0, 0.006)], 4.0),
        ([(0.009, 0.005), (0.004, 0.007), (0.005, 0.004), (0.008, 0.001), (0.009, 0.006)], 7.0),
    ],
)
def test_the_fastest_of_the_passes_that_waited_least_counts(
    passes: list[tuple[float, float]], expected_ms: float, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    made = iter(passes)
    monkeypatch.setattr(timing_module, "_timed_pass", lambda run: next(made))
    ((_, timing),) = Rounds([0], Sleepers(clock).make).visits(1)
    assert timing.latency_ms == pytest.approx(expected_ms)


def test_networks_that_do_not_fit_in_memory_are_made_anew_in_every_round(clock: Clock) -> None:
    sleepers = Sleepers(clock, size=10)
    list(Rounds([1, 2, 3], sleepers.make, resident_bytes=20).visits(4))
    assert sorted(Counter(sleepers.made).values()) == [1, 1, 4]


def test_the_latency_is_that_of_a_pass_in_milliseconds(clock: Clock) -> None:
    visits = dict(Rounds([2, 10], Sleepers(clock).make).visits(1))
    assert visits[10].latency_ms == pytest.approx(10)
    assert visits[2].latency_ms == pytest.approx(2)
    assert visits[10].seconds == pytest.approx((WARM_UPS + REWARM + BURST) * 0.01)
    assert visits[10].ready_s == pytest.approx((WARM_UPS + REWARM) * 0.01)


def test_a_network_that_cannot_run_is_tried_once_and_has_no_number(clock: Clock) -> None:
    sleepers = Sleepers(clock)
    visits = list(Rounds([-1, 0], sleepers.make).visits(3))
    unable = [timing for name, timing in visits if name == -1]
    assert [(t.latency_ms, t.reason) for t in unable] == [(None, "too small")]
    assert sleepers.made.count(-1) == 1
    assert summary(unable) is None
    again = list(Rounds([-1, 0], sleepers.make).visits(4, {-1: unable}))
    assert [(name, timing.turn) for name, timing in again] == [(0, turn) for turn in range(4)]
    assert sleepers.made.count(-1) == 1


@given(st.integers(0, 12))
def test_what_was_visited_before_is_not_visited_again(clock: Clock, kept: int) -> None:
    whole = list(Rounds(range(3), Sleepers(clock).make).visits(4))
    done: dict[int, list[Timing]] = {}
    for name, timing in whole[:kept]:
        done.setdefault(name, []).append(timing)
    rest = Rounds(range(3), Sleepers(clock).make).visits(4, done)
    assert [(name, t.turn) for name, t in rest] == [(name, t.turn) for name, t in whole[kept:]]


def test_a_budget_takes_networks_in_order_and_gives_each_of_them_all_rounds(clock: Clock) -> None:
    began = clock.now
    visits = list(Rounds(range(5, 400), Sleepers(clock).make).visits(4, budget_s=1.5))
    counts = Counter(name for name, _ in visits)
    assert sorted(counts) == list(range(5, 5 + len(counts)))
    assert len(counts) == 10  # 18 passes each: nine networks need 1.46 s, and less than the budget allows one more
    assert set(counts.values()) <= {3, 4}
    assert clock.now - began == pytest.approx(1.5, abs=0.1)


def test_the_time_of_a_killed_run_counts_for_the_budget(clock: Clock) -> None:
    done = {1: [Timing(0, 1.0, 60.0)]}
    assert list(Rounds([1, 2], Sleepers(clock).make).visits(4, done, budget_s=60)) == []


def test_disturbances_of_most_visits_do_not_show() -> None:
    found = summary(turns([5.0, 50.0, 7.1, 4.8, 80.0, 5.2, 7.0, 8.1, 20.0, 31.0, 9.0]))
    assert found is not None
    assert found.latency_ms == pytest.approx(5.0)
    assert found.rounds == 11
    assert found.latency_iqr_ms == pytest.approx(
        np.subtract(*np.percentile([5, 50, 7.1, 4.8, 80, 5.2, 7, 8.1, 20, 31, 9], [75, 25]))
    )


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=12))
def test_a_summary_is_the_mean_of_the_fastest_quarter(values: list[float]) -> None:
    found = summary(turns([*values]))
    assert found is not None
    quarter = np.sort(values)[: int(np.ceil(len(values) / 4))]
    assert found.latency_ms == pytest.approx(np.mean(quarter))
    assert (
        found.latency_iqr_ms == spread(values) == pytest.approx(np.subtract(*np.percentile(values, [75, 25])), abs=1e-9)
    )
    assert found.energy_mj is None


def test_a_summary_needs_a_visit() -> None:
    with pytest.raises(ValueError, match="no visits"):
        summary([])


def test_energy_is_that_of_a_pass() -> None:
    class Meter:
        total = 0.0

        def read_mj(self) -> float:
            return self.total

    meter = Meter()

    def run() -> None:
        meter.total += 7.0

    visits = Rounds([0], lambda name: Runnable(run, 0), meter=meter).visits(3)  # type: ignore[arg-type]
    found = summary([timing for _, timing in visits])
    assert found is not None
    assert found.energy_mj == pytest.approx(7.0)
