"""Taking a machine's drift out of visits to many networks: what else it does slows all down, for a second or an hour.

References:
    Holland 1977: Holland, Welsch, Robust regression using iteratively reweighted least-squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from freerea_seval.measure.timing import Network, Summary, Timing, by_network, summary

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

#: So many visits before and after one tell how fast the machine was at that time.
_AROUND = 2
#: Cauchy's weight of a visit is a half at so many standard deviations (Holland 1977, table 1).
_HALF = 2.385
_ITERATIONS = 30
#: Of fewer networks, the same ones are near each other again and again, and the machine is not told from them.
FEWEST = 4 * (2 * _AROUND + 1)


def summaries(visits: Sequence[tuple[Network, Timing]]) -> dict[Network, Summary | None]:
    """Return what visits come to by network, None if it cannot run.

    Of :data:`FEWEST` networks or more, latencies are those :func:`without_drift`; as a whole they are as fast as the
    fastest visits of each network tell, and of fewer networks, or a single round, they are these.

    Args:
        visits: in the order in which they were made.
    """
    found = {network: summary(some) for network, some in by_network(visits).items()}
    known = {network: its for network, its in found.items() if its is not None}
    if len(known) < FEWEST or all(its.rounds == 1 for its in known.values()):
        return found
    place = {network: number for number, network in enumerate(known)}
    counted = [(place[network], t.latency_ms) for network, t in visits if network in place and t.latency_ms is not None]
    networks, latencies = zip(*counted, strict=True)
    steady = without_drift(np.array(networks), np.array(latencies))
    fastest = np.log([its.latency_ms for its in known.values()])
    steady = np.exp(steady + np.median(fastest - steady))
    for (network, its), latency in zip(known.items(), steady.tolist(), strict=True):
        found[network] = replace(its, latency_ms=latency)
    return found


def without_drift(networks: Indices, latencies: Values) -> Values:
    """Return the logarithms of the networks' latencies, up to a constant.

    The logarithm of a visit's latency is the network's, plus the machine's at that time, plus noise. The machine's is
    the mean over the visits around, nearer ones counting more, and the network's is the mean over its visits; both in
    turns, and with weights by which a visit that was disturbed by itself counts little (Holland 1977).

    Args:
        networks: ``(n,)`` numbers from 0 of the networks, in the order of their visits.
        latencies: ``(n,)`` of the visits, positive.

    Returns:
        ``(k,)``, a value a network. With one visit each, these are the visits' own.
    """
    seen = np.log(latencies)
    near = (_AROUND + 1.0) - np.abs(np.arange(-_AROUND, _AROUND + 1))
    weights = np.ones(len(seen))
    its = np.bincount(networks, seen) / np.bincount(networks)
    for _ in range(_ITERATIONS):
        machine = _around(weights * (seen - its[networks]), near) / _around(weights, near)
        its = np.bincount(networks, weights * (seen - machine)) / np.bincount(networks, weights)
        noise = seen - machine - its[networks]
        spread = np.median(np.abs(noise)) / 0.6745 + 1e-9  # of a normal distribution's middle half
        weights = 1.0 / (1.0 + (noise / (_HALF * spread)) ** 2)
    return np.asarray(its, dtype=np.float64)


def _around(values: Values, near: Values) -> Values:
    return np.convolve(values, near)[_AROUND : len(values) + _AROUND]
