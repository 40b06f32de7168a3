"""Zero-cost proxies, or other numbers of a network, as standardised columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from freerea_patch import InputError

Values = npt.NDArray[np.float64]

#: Relative standard deviation up to which a column is constant, and the absolute value up to which a number is 0.
_CONSTANT, _TINY = 1e-12, 1e-100


class ProxyColumns:
    """Standardised signed logarithms of proxies.

    Proxies span many orders of magnitude (synflow) and both signs (grasp). A missing or infinite value means that the
    proxy failed (naswot of a network without activations); it is replaced by the smallest value in training, which is
    the worst, as proxies increase with quality.

    Attributes:
        worst_: ``(k,)`` replacements of values that are not finite, in signed logarithms.
        mean_, scale_: ``(k,)`` of standardisation; the scale of a constant column is 1.
    """

    worst_: Values
    mean_: Values
    scale_: Values

    def fit(self, proxies: npt.ArrayLike) -> ProxyColumns:
        """Learn from ``(n, k)`` proxies of training networks; a column without any finite value becomes 0.

        Raises:
            InputError: no table of numbers, or an empty one.
        """
        table = signed_logarithms(as_table(proxies))
        if not table.size:
            raise InputError(f"proxies need at least one network and one column, got shape {table.shape}")
        lowest = np.where(np.isfinite(table), table, np.inf).min(axis=0)
        self.worst_ = np.where(np.isfinite(lowest), lowest, 0.0)
        filled = self._filled(table)
        self.mean_ = filled.mean(axis=0)
        deviation = filled.std(axis=0)
        # The rounding error of a constant column is no information.
        self.scale_ = np.where(deviation > _CONSTANT * (np.abs(filled).max(axis=0) + _TINY), deviation, 1.0)
        return self

    def transform(self, proxies: npt.ArrayLike) -> Values:
        """Return ``(n, k)`` finite columns.

        Raises:
            InputError: no table of numbers, or another number of columns than in training.
        """
        table = as_table(proxies)
        if table.shape[1] != len(self.mean_):
            raise InputError(f"expected {len(self.mean_)} proxies a network, as in training, got {table.shape[1]}")
        return np.asarray((self._filled(signed_logarithms(table)) - self.mean_) / self.scale_, dtype=np.float64)

    def _filled(self, table: Values) -> Values:
        return np.where(np.isfinite(table), table, self.worst_)

    def state(self) -> dict[str, Any]:
        """Return the fitted state as JSON values."""
        return {name: getattr(self, f"{name}_").tolist() for name in ("worst", "mean", "scale")}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> ProxyColumns:
        """Return fitted columns from their :meth:`state`.

        Raises:
            ValueError, KeyError, TypeError: not a state.
        """
        columns = cls()
        parts = [np.array(state[name], dtype=np.float64) for name in ("worst", "mean", "scale")]
        if parts[0].ndim != 1 or not parts[0].size or len({part.shape for part in parts}) > 1:
            raise ValueError(f"proxies: expected three lists of one length, got shapes {[p.shape for p in parts]}")
        if not np.isfinite(parts).all() or not (parts[2] > 0).all():
            raise ValueError("proxies: expected finite numbers and positive scales")
        columns.worst_, columns.mean_, columns.scale_ = parts
        return columns


def as_table(proxies: npt.ArrayLike) -> Values:
    """Return proxies as ``(n, k)``; raise :class:`InputError` if they are no table of numbers."""
    try:
        table = np.asarray(proxies, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"expected a table of numbers as proxies, got {type(proxies).__name__} ({error})") from None
    if table.ndim != 2:
        raise InputError(f"expected proxies of shape (networks, proxies), got shape {table.shape}")
    return table


def signed_logarithms(table: Values) -> Values:
    """Return ``sign(x) log(1 + abs(x))``."""
    return np.asarray(np.sign(table) * np.log1p(np.abs(table)), dtype=np.float64)
