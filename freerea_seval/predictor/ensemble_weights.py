"""How much each model counts in the mean that predicts a metric.

References:
    Breiman 1996: Bagging predictors, Machine Learning 24. A choice that changes with the sample is better averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

#: Times that networks are drawn.
_DRAWS = 100
#: Models with smaller shares change predictions little, and take time.
_LEAST = 0.1


class Evidence:
    """What candidates said of networks that they had not seen, beside the values.

    Args:
        values: ``(n,)``, NaN where there is none.
        found: ``(n,)`` predictions of each candidate, NaN where there is none.
        unit: ``(n,)`` which networks are judged as one, by their mean; None if each is by itself. A string that
            hundreds of networks have would otherwise decide alone which candidate orders new strings best.
    """

    def __init__(self, values: Values, found: Mapping[str, Values], unit: Indices | None) -> None:
        known = np.isfinite(values) & np.all([np.isfinite(column) for column in found.values()], axis=0)
        self._values = _means(values[known], None if unit is None else unit[known])
        self._found = {name: _means(c[known], None if unit is None else unit[known]) for name, c in found.items()}

    def __len__(self) -> int:
        return len(self._values)

    def taus(self) -> dict[str, float]:
        """Return Kendall's tau-b of each candidate; 0 where nothing differs."""
        return {name: _tau(self._values, column) for name, column in self._found.items()}

    def wins(self, seed: int) -> dict[str, int]:
        """Return how often each candidate orders best as many networks as there are, drawn with replacement.

        Of few networks the best candidate is so by chance: drawn again, they would choose another. The mean of what
        they would choose (Breiman 1996) predicts better than the one choice.
        """
        won = dict.fromkeys(self._found, 0)
        rng = np.random.default_rng(seed)
        for _ in range(_DRAWS):
            rows = rng.integers(0, max(1, len(self)), len(self))
            taus = {name: _tau(self._values[rows], column[rows]) for name, column in self._found.items()}
            won[max(taus, key=lambda name: taus[name])] += 1
        return won


def shares_of(won: Mapping[str, int], parts: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Return the share of each model, of candidates that have won so often and are means of their parts.

    Models with less than a tenth go, and the others take their place.
    """
    shares: dict[str, float] = {}
    total = sum(won.values())
    for name, times in won.items():
        for part in parts[name]:
            shares[part] = shares.get(part, 0.0) + times / total / len(parts[name])
    kept = {part: share for part, share in shares.items() if share >= _LEAST}
    return {part: share / sum(kept.values()) for part, share in kept.items()}


def _means(column: Values, unit: Indices | None) -> Values:
    if unit is None:
        return column
    _, place, size = np.unique(unit, return_inverse=True, return_counts=True)
    return np.asarray(np.bincount(place, column) / size, dtype=np.float64)


def _tau(values: Values, predicted: Values) -> float:
    from scipy.stats import kendalltau

    if not len(values) or np.ptp(values) == 0 or np.ptp(predicted) == 0:
        return 0.0
    return float(kendalltau(values, predicted, variant="b").statistic)
