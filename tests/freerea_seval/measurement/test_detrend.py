"""A machine's drift: it is told from the networks, and nothing is made of what cannot be told."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from freerea_seval.measurement.detrend import _CAUCHY, _ITERATIONS, _NEIGHBOURS, FEWEST, log_levels
from freerea_seval.measurement.timing import Timing, summaries, summary

Values = npt.NDArray[np.float64]
Visits = list[tuple[int, Timing]]


def measured(networks: int, rounds: int, *, drift: float, noise: float, seed: int = 0) -> tuple[Values, Visits]:
    """Latencies of networks, and visits in rounds on a machine that drifts, with a large disturbance now and then."""
    rng = np.random.default_rng(seed)
    true = np.exp(rng.normal(2.0, 0.3, networks))
    order = np.concatenate([rng.permutation(networks) for _ in range(rounds)])
    # The machine changes its pace for some 30 visits at a time.
    pace = np.repeat(rng.exponential(drift, len(order) // 30 + 1), 30)[: len(order)]
    disturbed = rng.random(len(order)) < 0.1
    seen = true[order] * np.exp(
        pace + rng.normal(0.0, noise, len(order)) + disturbed * rng.exponential(1.0, len(order))
    )
    turns = np.arange(len(order)) // networks
    return true, [
        (n, Timing(t, ms, 0.1)) for n, t, ms in zip(order.tolist(), turns.tolist(), seen.tolist(), strict=True)
    ]


def latencies(visits: Visits) -> Values:
    found = summaries(visits)
    return np.array([its.latency_ms for _, its in sorted(found.items()) if its is not None])


@pytest.mark.parametrize("seed", range(3))
def test_networks_are_told_apart_on_a_machine_that_drifts(seed: int) -> None:
    true, visits = measured(300, 3, drift=0.3, noise=0.02, seed=seed)
    own = [summary([t for n, t in visits if n == network]) for network in range(300)]
    by_themselves = kendalltau(true, [its.latency_ms for its in own if its is not None]).statistic
    assert kendalltau(true, latencies(visits)).statistic > by_themselves + 0.05


def test_a_steady_machine_has_nothing_to_take_out() -> None:
    true, visits = measured(60, 5, drift=0.0, noise=0.0)
    assert latencies(visits) == pytest.approx(true, rel=0.01)


@given(st.integers(FEWEST, 40), st.integers(2, 4), st.floats(0.01, 100.0), st.integers(0, 99))
@example(20, 2, 99.99999999999999, 2)  # iterations made a millionth out of the last bits here
def test_latencies_are_in_the_unit_and_of_the_level_of_the_visits(
    networks: int, rounds: int, factor: float, seed: int
) -> None:
    _, visits = measured(networks, rounds, drift=0.3, noise=0.1, seed=seed)
    scaled = [(n, Timing(t.turn, (t.latency_ms or 0.0) * factor, t.seconds)) for n, t in visits]
    assert latencies(scaled) == pytest.approx(latencies(visits) * factor, rel=1e-6)
    fastest = np.array([min(t.latency_ms or 0.0 for n, t in visits if n == network) for network in range(networks)])
    assert np.median(np.log(latencies(visits) / fastest)) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(("networks", "rounds"), [(FEWEST - 1, 5), (50, 1)])
def test_few_networks_or_a_single_round_are_what_their_fastest_visits_say(networks: int, rounds: int) -> None:
    _, visits = measured(networks, rounds, drift=0.3, noise=0.1)
    assert summaries(visits) == {n: summary([t for m, t in visits if m == n]) for n, _ in visits}


def test_a_network_that_cannot_run_has_no_part_in_it() -> None:
    _, visits = measured(40, 3, drift=0.3, noise=0.1)
    unable = (40, Timing(0, None, 0.1, reason="too large"))
    found = summaries([*visits[:7], unable, *visits[7:]])
    assert found.pop(40) is None
    assert found == summaries(visits)


def test_the_mean_over_neighbours_is_that_of_a_plain_loop() -> None:
    _, visits = measured(25, 3, drift=0.3, noise=0.1)
    networks = [n for n, _ in visits]
    logarithms = [float(np.log(t.latency_ms or 0.0)) for _, t in visits]
    seen = [round(logarithm - float(np.median(logarithms)), 9) for logarithm in logarithms]
    its = [float(np.mean([s for s, m in zip(seen, networks, strict=True) if m == n])) for n in range(25)]
    weights = [1.0] * len(seen)
    for _ in range(_ITERATIONS):
        machine = []
        for place in range(len(seen)):
            around = range(max(0, place - _NEIGHBOURS), min(len(seen), place + _NEIGHBOURS + 1))
            near = {i: weights[i] * (_NEIGHBOURS + 1 - abs(i - place)) for i in around}
            machine.append(sum(near[i] * (seen[i] - its[networks[i]]) for i in around) / sum(near.values()))
        for network in range(25):
            own = [i for i, n in enumerate(networks) if n == network]
            its[network] = sum(weights[i] * (seen[i] - machine[i]) for i in own) / sum(weights[i] for i in own)
        noise = [s - m - its[n] for s, m, n in zip(seen, machine, networks, strict=True)]
        spread = float(np.median(np.abs(noise))) / 0.6745 + 1e-9
        weights = [1 / (1 + (e / (_CAUCHY * spread)) ** 2) for e in noise]
    expected = np.array(its) + np.median(logarithms)
    assert log_levels(np.array(networks), np.exp(logarithms)) == pytest.approx(expected, rel=1e-8)
