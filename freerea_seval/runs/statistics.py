"""Statistics over several seeds: interquartile means, bootstrap intervals around them, and paired tests."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from freerea_patch import InputError

Key = TypeVar("Key", bound=Hashable)
Values = Sequence[float] | npt.NDArray[np.float64]

#: Resamples of an interval: its ends move by less than a tenth of its width from one seed to another.
RESAMPLES = 2000
#: Decimals of paired differences: values that differ by rounding alone are ties.
_DECIMALS = 9


@dataclass(frozen=True)
class Summary:
    """Statistics of the values of several runs; all but the number of runs in the unit of the values."""

    runs: int
    mean: float
    iqm: float
    low: float
    high: float


def require_scipy() -> None:
    """Check that SciPy is installed.

    Raises:
        InputError: it is not.
    """
    try:
        import scipy.stats  # noqa: F401
    except ImportError:
        raise InputError(
            "statistics over seeds need scipy, which is not installed: pip install 'freerea-seval[predictor]'"
        ) from None


def interquartile_mean(values: Values) -> float:
    """Return the mean of the middle half of values, which is robust to one bad seed (IQM, Agarwal 2021).

    Where their number is no multiple of four, less than a quarter is cut at each end, as in Agarwal's own code.
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
    from scipy.stats import bootstrap, trim_mean

    arrays = [np.asarray(group, float) for group in groups if len(group)]
    if not arrays:
        return None
    values = np.concatenate(arrays)
    low = high = iqm = interquartile_mean(values)
    # scipy refuses to resample a group of one value, which always yields that value.
    constant = np.array([array[0] for array in arrays if len(array) == 1])

    def statistic(*samples: npt.NDArray[np.float64], axis: int) -> Any:
        fixed = np.broadcast_to(constant, (*samples[0].shape[:-1], len(constant)))
        return trim_mean(np.concatenate([*samples, fixed], axis=axis), 0.25, axis=axis)

    resampled = [array for array in arrays if len(array) > 1]
    if resampled:
        rng = np.random.default_rng(seed)
        interval = bootstrap(
            resampled, statistic, n_resamples=RESAMPLES, vectorized=True, method="percentile", rng=rng
        ).confidence_interval
        low, high = float(interval.low), float(interval.high)
    return Summary(len(values), float(values.mean()), iqm, low, high)


def paired_p(first: Mapping[Key, float], second: Mapping[Key, float]) -> float | None:
    """Return the exact two-sided p-value of Wilcoxon's signed-rank test over the keys in both (Wilcoxon 1945).

    Args:
        first: values by what pairs them, such as a seed.
        second: those of the other method.

    Returns:
        None with fewer than two common keys. Pairs without a difference are dropped, as in Wilcoxon 1945; 1 if no other
        is left.
    """
    from scipy.stats import rankdata

    differences = np.round([first[key] - second[key] for key in first if key in second], _DECIMALS)
    if len(differences) < 2:
        return None
    differences = differences[differences != 0]
    # With ties, scipy.stats.wilcoxon is exact only by enumeration of all signs (9 s for 13 pairs). Here the
    # distribution of the sum grows by one rank at a time; twice the ranks are whole numbers with ties, too.
    ranks = (2 * rankdata(np.abs(differences))).astype(int)
    probabilities = np.ones(1)
    for rank in ranks:
        probabilities = (np.pad(probabilities, (0, rank)) + np.pad(probabilities, (rank, 0))) / 2
    observed = ranks[differences > 0].sum()
    return float(min(1.0, 2 * min(probabilities[: observed + 1].sum(), probabilities[observed:].sum())))


def closed(regrets: Mapping[Key, float], reference: Mapping[Key, float]) -> float | None:
    """Return how much smaller the mean regret is than that of a reference, over the keys in both.

    Returns:
        1 if no regret is left, negative if there is more; None without a common key or without a regret to close.
    """
    common = [key for key in regrets if key in reference]
    total = sum(reference[key] for key in common)
    return None if total <= 0 else 1 - sum(regrets[key] for key in common) / total
