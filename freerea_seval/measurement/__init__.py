"""Measuring networks on a machine: latency, and peak memory and energy where the machine reports them.

:mod:`~freerea_seval.measurement.networks` says what to measure, :mod:`~freerea_seval.measurement.backends` makes each
network ready to run, :mod:`~freerea_seval.measurement.timing` visits them in rounds,
:mod:`~freerea_seval.measurement.detrend` removes the machine's drift from the visits, and
:mod:`~freerea_seval.measurement.run` keeps the journal and returns the results. Networks for another device go out and
come back through :mod:`~freerea_seval.measurement.remote`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freerea_patch.imports import lazy_exports

if TYPE_CHECKING:
    from freerea_seval.measurement.networks import Networks, draw, read_genotypes, space_networks
    from freerea_seval.measurement.remote import export, import_results
    from freerea_seval.measurement.run import measure_networks, parse_seconds, write_results
    from freerea_seval.measurement.timing import Rounds, Runnable, Timing, summaries
else:
    __getattr__, __dir__ = lazy_exports(__name__, __file__)
