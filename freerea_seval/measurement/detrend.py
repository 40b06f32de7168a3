"""Taking a machine's drift out of visits to many networks: what else it does slows all down, for a second or an hour.

It needs numpy and nothing else, so that it goes along to the devices that networks are exported to.

References:
    Holland 1977: Holland, Welsch, Robust regression using iteratively reweighted least-squares.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

#: So many visits before and after one tell how fast the machine was at that time.
_AROUND = 2
#: Cauchy's weight of a visit is a half at so many standard deviations (Holland 1977, table 1).
_HALF = 2.385
_ITERATIONS = 30
#: Of fewer networks, the same ones are near each other again and again, and the machine is not told from them.
FEWEST = 4 * (2 * _AROUND + 1)


def steadied(networks: Indices, latencies: Values, fastest: Values) -> Values:
    """Return the networks' latencies without the machine's drift, as a whole as fast as their fastest visits.

    Args:
        networks: ``(n,)`` numbers from 0 of the networks, in the order of their visits.
        latencies: ``(n,)`` of the visits, positive.
        fastest: ``(k,)`` what the fastest visits of each network say.

    Returns:
        ``(k,)``; ``fastest`` itself for fewer networks than :data:`FEWEST`, or after a single round.
    """
    if len(fastest) < FEWEST or len(latencies) == len(fastest):
        return fastest
    steady = without_drift(networks, latencies)
    return np.asarray(np.exp(steady + np.median(np.log(fastest) - steady)), dtype=np.float64)


def without_drift(networks: Indices, latencies: Values) -> Values:
    """Return the logarithms of the networks' latencies, up to a constant.

    The logarithm of a visit's latency is the network's, plus the machine's at that time, plus noise. The machine's is
    the mean over the visits around, nearer ones counting more, and the network's is the mean over its visits; both in
    turns, and with weights by which a visit that was disturbed by itself counts little (Holland 1977).

    Args:
        networks, latencies: see :func:`steadied`.

    Returns:
        ``(k,)``, a value a network. With one visit each, these are the visits' own.
    """
    logarithms = np.log(latencies)
    level = np.median(logarithms)
    # No clock tells a billionth. Without rounding, the iterations can make differences out of a value's last bits.
    seen = np.round(logarithms - level, 9)
    near = (_AROUND + 1.0) - np.abs(np.arange(-_AROUND, _AROUND + 1))
    weights = np.ones(len(seen))
    its = np.bincount(networks, seen) / np.bincount(networks)
    for _ in range(_ITERATIONS):
        machine = _around(weights * (seen - its[networks]), near) / _around(weights, near)
        its = np.bincount(networks, weights * (seen - machine)) / np.bincount(networks, weights)
        noise = seen - machine - its[networks]
        spread = np.median(np.abs(noise)) / 0.6745 + 1e-9  # of a normal distribution's middle half
        weights = 1.0 / (1.0 + (noise / (_HALF * spread)) ** 2)
    return np.asarray(its + level, dtype=np.float64)


def _around(values: Values, near: Values) -> Values:
    return np.convolve(values, near)[_AROUND : len(values) + _AROUND]
