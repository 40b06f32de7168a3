"""Removes common-mode slowdowns of the machine (background load, throttling) from visits to many networks.

The log latency of visit ``t`` to network ``n(t)`` is modelled as ``network[n(t)] + machine[t] + noise[t]``, fitted by
backfitting with robust weights (iteratively reweighted least squares). This module needs numpy only, so that a copy
of it runs on the devices that networks are exported to.

Notation:
    networks: ``(n,)`` index of the network of each visit, in the order of the visits.
    log_latencies: ``(n,)`` logarithms of the visits' latencies, relative to their median.
    network_level: ``(k,)`` log latency of each network.
    machine_level: ``(n,)`` log slowdown of the machine at each visit: a weighted mean over the neighbouring visits.
    weights: ``(n,)`` Cauchy weights of the visits.

References:
    Holland 1977: Holland, Welsch, Robust regression using iteratively reweighted least-squares.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

#: Visits before and after one that estimate the machine's speed at that time.
_NEIGHBOURS = 2
#: Tuning constant of Cauchy's weight function, in standard deviations (Holland 1977, table 1).
_CAUCHY = 2.385
_ITERATIONS = 30
#: With fewer networks, the same ones are neighbours in many rounds, and the machine cannot be told from the networks.
FEWEST = 4 * (2 * _NEIGHBOURS + 1)


def detrended(networks: Indices, latencies: Values, fastest: Values) -> Values:
    """Return the networks' latencies without the machine's drift, scaled to the level of their fastest visits.

    Args:
        networks: ``(n,)`` indices from 0 of the networks, in the order of their visits.
        latencies: ``(n,)`` latencies of the visits, positive.
        fastest: ``(k,)`` latency of each network by its fastest visits.

    Returns:
        ``(k,)`` latencies; ``fastest`` itself for fewer networks than :data:`FEWEST`, or after a single round.
    """
    if len(fastest) < FEWEST or len(latencies) == len(fastest):
        return fastest
    levels = log_levels(networks, latencies)
    return np.asarray(np.exp(levels + np.median(np.log(fastest) - levels)), dtype=np.float64)


def log_levels(networks: Indices, latencies: Values) -> Values:
    """Return the ``(k,)`` log latencies of the networks, up to a constant; see the module for the model."""
    log_latencies = np.log(latencies)
    median = np.median(log_latencies)
    # No clock resolves a billionth; without rounding, iterations amplify differences in the last bits of equal values.
    log_latencies = np.round(log_latencies - median, 9)
    triangle = (_NEIGHBOURS + 1.0) - np.abs(np.arange(-_NEIGHBOURS, _NEIGHBOURS + 1))
    weights = np.ones(len(log_latencies))
    network_level = np.bincount(networks, log_latencies) / np.bincount(networks)
    for _ in range(_ITERATIONS):
        residuals = log_latencies - network_level[networks]
        machine_level = _smooth(weights * residuals, triangle) / _smooth(weights, triangle)
        network_level = np.bincount(networks, weights * (log_latencies - machine_level)) / np.bincount(
            networks, weights
        )
        noise = log_latencies - machine_level - network_level[networks]
        scale = np.median(np.abs(noise)) / 0.6745 + 1e-9  # the standard deviation of a normal distribution
        weights = 1.0 / (1.0 + (noise / (_CAUCHY * scale)) ** 2)
    return np.asarray(network_level + median, dtype=np.float64)


def _smooth(values: Values, kernel: Values) -> Values:
    return np.convolve(values, kernel)[_NEIGHBOURS : len(values) + _NEIGHBOURS]
