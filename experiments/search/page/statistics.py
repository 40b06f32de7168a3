"""What several seeds say together: interquartile means, intervals around them, and paired tests."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Key = TypeVar("Key", bound=Hashable)
Values = Sequence[float] | npt.NDArray[np.float64]

#: Resamples of an interval: its ends move by less than a tenth of its width from one seed to another.
RESAMPLES = 2000
#: Decimals of paired differences: what differs by rounding alone is a tie.
_DECIMALS = 9


@dataclass(frozen=True)
class Summary:
    """What is said of the values of several runs; all but the number of runs in the unit of the values."""

    runs: int
    mean: float
    iqm: float
    low: float
    high: float


def interquartile_mean(values: Values) -> float:
    """Return the mean of the middle half of values, which one bad seed does not move (IQM, Agarwal 2021).

    Where their number is no multiple of four, less than a quarter is cut at each end, as Agarwal's own code does.
    """
    from scipy.stats import trim_mean

    return float(trim_mean(values, 0.25))


def summarise(groups: Sequence[Values], seed: int = 0) -> Summary | None:
    """Return mean, IQM and the IQM's 95 % percentile-bootstrap interval over the values of all groups.

    Args:
        groups: a list of values, one a seed, for every benchmark. Values are drawn with replacement within their own
            group (stratified bootstrap, Agarwal 2021), so benchmarks of different difficulty do not widen the interval.
        seed: of the resampling; the same values give the same interval.

    Returns:
        None without any value; a single value is its own interval.
    """
    from scipy.stats import trim_mean

    # scipy.stats.bootstrap refuses a group of one value, which a headline row with one seed is.
    arrays = [np.asarray(group, float) for group in groups if len(group)]
    if not arrays:
        return None
    rng = np.random.default_rng(seed)
    drawn = [array[rng.integers(len(array), size=(RESAMPLES, len(array)))] for array in arrays]
    means = trim_mean(np.concatenate(drawn, axis=1), 0.25, axis=1)
    low, high = np.percentile(means, [2.5, 97.5])  # Efron 1993, the percentile interval
    values = np.concatenate(arrays)
    return Summary(len(values), float(values.mean()), interquartile_mean(values), float(low), float(high))


def paired_p(first: Mapping[Key, float], second: Mapping[Key, float]) -> float | None:
    """Return the exact two-sided p-value of Wilcoxon's signed-rank test over the keys that both have (Wilcoxon 1945).

    Args:
        first: values by what pairs them, such as a seed.
        second: those of the other method.

    Returns:
        None without a common key. Pairs without a difference are dropped, as Wilcoxon does; 1 if no other is left.
    """
    from scipy.stats import rankdata

    differences = np.round([first[key] - second[key] for key in first if key in second], _DECIMALS)
    if not len(differences):
        return None
    differences = differences[differences != 0]
    # Twice the ranks, which are whole numbers with ties, too. scipy.stats.wilcoxon is exact with ties as well, but goes
    # through all signs one by one: 9 s for 13 pairs. Here the sums' distribution grows by a rank at a time.
    ranks = (2 * rankdata(np.abs(differences))).astype(int)
    chances = np.ones(1)
    for rank in ranks:
        chances = (np.pad(chances, (0, rank)) + np.pad(chances, (rank, 0))) / 2
    came = ranks[differences > 0].sum()
    return float(min(1.0, 2 * min(chances[: came + 1].sum(), chances[came:].sum())))


def closed(regrets: Mapping[Key, float], reference: Mapping[Key, float]) -> float | None:
    """Return how much smaller the mean regret is than that of a reference, over the keys that both have.

    Returns:
        1 if nothing is left of it, negative if there is more; None without a common key or without a regret to close.
    """
    common = [key for key in regrets if key in reference]
    whole = sum(reference[key] for key in common)
    return None if whole <= 0 else 1 - sum(regrets[key] for key in common) / whole
