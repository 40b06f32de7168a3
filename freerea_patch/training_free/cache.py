"""Metric values remembered on disk, keyed by everything they depend on, shared by processes."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from freerea_patch.errors import InputError
from freerea_patch.evaluation import Measured
from freerea_patch.spaces.protocol import SearchSpace

#: Seconds to wait while another process writes.
_BUSY_S = 60.0


class MetricCache:
    """A SQLite file of metric values and the seconds that they cost.

    Any number of processes may use one file at once: SQLite locks it around every write, and the first
    value stored under a key stays.

    Args:
        path: the file, made with its folders on the first use.

    Raises:
        InputError: the file is no cache of ours, is damaged, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS metric (key TEXT PRIMARY KEY, value REAL, seconds REAL NOT NULL)"
            )
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from None

    def get(self, key: str) -> Measured | None:
        """Return what is stored under ``key``."""
        try:
            row = self._connection.execute("SELECT value, seconds FROM metric WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        if row is None:
            return None
        # SQLite stores NaN as NULL.
        return Measured(float("nan") if row[0] is None else row[0], row[1])

    def put(self, values: Mapping[str, Measured]) -> None:
        """Store values by key, except under keys that have one; all of them are there, or none."""
        try:
            # One transaction, because each waits for the disk.
            self._connection.execute("BEGIN IMMEDIATE")
            rows = ((key, *measured) for key, measured in values.items())
            self._connection.executemany("INSERT OR IGNORE INTO metric VALUES (?, ?, ?)", rows)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _unusable(self, error: Exception) -> InputError:
        return InputError(
            f"the cache of metric values {self.path} cannot be used ({error});"
            " remove the file, name another with 'cache: FILE', or set 'cache: off'"
        )


def cache_key(parts: Mapping[str, object]) -> str:
    """Return the key of a value: a hash of the named parts that it depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def live_metric_key(space: SearchSpace, genotype: str, metric: str, device: str, settings: Mapping[str, object]) -> str:
    """Return the key of a metric that is computed with torch on a network of a space.

    Args:
        space: the search space.
        genotype: the network.
        metric: the metric.
        device: name of the torch device. The key holds the model of a GPU, because the values of two models differ in
            their last digits.
        settings: whatever else the value depends on, such as the digest of the batch and the seed.
    """
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


def device_model(device: str) -> str:
    """Return the model of a GPU, or the type of another torch device, such as ``cpu``."""
    import torch

    kind = torch.device(device).type
    if kind == "cuda" and torch.cuda.is_available():
        return torch.cuda.get_device_name(device)
    return kind
