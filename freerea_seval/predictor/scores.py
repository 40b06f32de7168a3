"""How well predictions agree with measurements: in numbers, and in one figure."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from freerea_patch import Direction, InputError
from freerea_seval.files import write_atomically
from freerea_seval.predictor.conformal import Values, check_numbers

_POINTS = "#b8c4cf"
_LINE = "#c2410c"
_BARS = "#dbe3ea"
#: More points than this are drawn as one image within an SVG, which would be megabytes otherwise.
_MANY = 1_000


def scores(
    measured: npt.ArrayLike,
    predicted: npt.ArrayLike,
    *,
    direction: Direction,
    low: npt.ArrayLike | None = None,
    high: npt.ArrayLike | None = None,
    supported: npt.ArrayLike | None = None,
    top: Sequence[int | float] = (10, 0.1),
) -> dict[str, float]:
    """Return how well predictions agree with measurements.

    Args:
        measured: ``(n,)`` values; a network with NaN is left out, +inf means that the device does not support it.
        predicted: ``(n,)`` predictions; +inf where the network is taken for unsupported.
        direction: which values are better. An unsupported network is worse than any other in both directions.
        low, high: ``(n,)`` bounds of intervals, both or neither.
        supported: ``(n,)`` predicted probabilities that the device supports a network.
        top: for which k top-k recall is given: whole numbers, or shares of ``n`` between 0 and 1.

    Returns:
        By name, each left out where it is not defined (a correlation of constants, k of fewer than k + 1 networks)
        or larger than a double can be:

        - ``kendall_tau`` (tau-b, Kendall 1945) and ``spearman`` over the networks measured as supported;
        - ``rmse`` (in the metric's unit) and ``r2`` over those of them that have a finite prediction;
        - ``top_K_recall``, ``top_P_percent_recall``: the share of the best k predicted that are among the best k
          measured. Whoever equals the k-th best is among them; equal predictions share the places that are left;
        - with bounds, over the networks measured as supported: ``coverage``, the share of values within them, and
          ``width``, the mean width of the finite intervals in the metric's unit;
        - with unsupported networks: ``kendall_tau_all``, with these ranked last, and ``auc``, if ``supported`` is
          given: how often a supported network has a higher probability than an unsupported one (Hanley 1982).

    Raises:
        InputError: shapes differ, nothing was measured, or a value is one that the above does not allow.
    """
    if direction not in ("max", "min"):
        raise InputError(f"direction must be 'max' or 'min', not {direction!r}")
    if (low is None) != (high is None):
        raise InputError("intervals need both bounds, got one; give 'low' and 'high'")
    values = check_numbers(measured, "measured values")
    known = ~np.isnan(values)
    if not known.any():
        raise InputError(f"expected at least one measured value, got {len(values)} values, all NaN")

    def column(numbers: npt.ArrayLike, what: str) -> Values:
        found = check_numbers(numbers, what, known.shape)[known]
        if np.isnan(found).any():
            raise InputError(
                f"{what}: {np.isnan(found).sum()} of {len(found)} measured networks have NaN; give numbers"
            )
        return found

    guessed = column(predicted, "predictions")
    values = values[known]
    if (values == -np.inf).any() or (guessed == -np.inf).any():
        raise InputError("measured values and predictions may be +inf, for unsupported, but not -inf")
    runs = np.isfinite(values)
    true_rank, guessed_rank = _merit(values, direction), _merit(guessed, direction)
    found = _errors(values[runs], guessed[runs]) | _correlations(true_rank[runs], guessed_rank[runs])
    for k in top:
        count, name = _top(k, len(values))
        if count < len(values):
            found[name] = _recall(true_rank, guessed_rank, count)
    if low is not None and high is not None and runs.any():
        bottom, ceiling = column(low, "lower bounds")[runs], column(high, "upper bounds")[runs]
        found["coverage"] = float(np.mean((bottom <= values[runs]) & (values[runs] <= ceiling)))
        finite = np.isfinite(bottom) & np.isfinite(ceiling)
        if finite.any():
            with np.errstate(over="ignore"):
                found["width"] = float(np.mean(ceiling[finite] - bottom[finite]))
    if not runs.all():
        if "kendall_tau" in (over_all := _correlations(true_rank, guessed_rank)):
            found["kendall_tau_all"] = over_all["kendall_tau"]
        if supported is not None and runs.any():
            from sklearn.metrics import roc_auc_score

            found["auc"] = float(roc_auc_score(runs, column(supported, "probabilities of support")))
    return {name: score for name, score in found.items() if np.isfinite(score)}  # JSON has no other numbers


def _errors(values: Values, guessed: Values) -> dict[str, float]:
    both = np.isfinite(guessed)
    if not both.any():
        return {}
    with np.errstate(all="ignore"):  # values that are almost equal have a variance of zero, and squares may overflow
        values, errors = values[both], guessed[both] - values[both]
        found = {"rmse": float(np.sqrt(np.mean(errors**2)))}
        if np.ptp(values) > 0:
            share = np.sum(errors**2) / np.sum((values - values.mean()) ** 2)
            found["r2"] = float(1 - share)
    return found


def kendall_tau(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Return Kendall's tau-b of ``(n,)`` values (Kendall 1945); NaN if one side is constant."""
    from scipy.stats import kendalltau

    return float(kendalltau(first, second, variant="b").statistic)


def spearman(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Return Spearman's rank correlation of ``(n,)`` values; NaN if one side is constant."""
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic)


def _correlations(true_rank: Values, guessed_rank: Values) -> dict[str, float]:
    if not len(true_rank) or np.ptp(true_rank) == 0 or np.ptp(guessed_rank) == 0:
        return {}
    return {"kendall_tau": kendall_tau(true_rank, guessed_rank), "spearman": spearman(true_rank, guessed_rank)}


def _merit(values: Values, direction: Direction) -> Values:
    """Return the ranks of values, ``(n,)``, the best the highest and the unsupported the lowest; equals share one."""
    from scipy.stats import rankdata

    oriented = np.where(np.isinf(values), -np.inf, values if direction == "max" else -values)
    return np.asarray(rankdata(oriented), dtype=np.float64)


def _top(k: int | float, n: int) -> tuple[int, str]:
    """Return how many networks are the top, and the name of its recall."""
    if isinstance(k, int) and not isinstance(k, bool) and k >= 1:
        return k, f"top_{k}_recall"
    if isinstance(k, float) and 0 < k < 1:
        return max(1, round(k * n)), f"top_{100 * k:g}_percent_recall"
    raise InputError(f"'top' takes whole numbers from 1, and shares between 0 and 1, not {k!r}")


def _recall(true_rank: Values, guessed_rank: Values, k: int) -> float:
    best = true_rank >= np.sort(true_rank)[-k]
    last = np.sort(guessed_rank)[-k]
    above, level = guessed_rank > last, guessed_rank == last
    return float((best[above].sum() + (k - above.sum()) * best[level].mean()) / k)


def scatter(
    path: Path,
    measured: npt.ArrayLike,
    predicted: npt.ArrayLike,
    *,
    metric: str,
    unit: str,
    low: npt.ArrayLike | None = None,
    high: npt.ArrayLike | None = None,
) -> None:
    """Draw predictions over measurements, with the line where they are equal, and the intervals if there are any.

    The same data give the same bytes. Networks without a finite value or prediction are left out, and so are infinite
    intervals.

    Args:
        path: the file, ``.svg`` or ``.png``.
        measured, predicted, low, high: ``(n,)`` as in :func:`scores`.
        metric, unit: what the values are; the unit may be empty.

    Raises:
        InputError: another suffix, shapes that differ, matplotlib is not installed, or the file cannot be written.
    """
    kind = path.suffix.removeprefix(".")
    if kind not in ("svg", "png"):
        raise InputError(f"figure {path}: expected a name that ends in .svg or .png")
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError(
            "figures need matplotlib, which is not installed: pip install 'freerea-seval[figures]'"
        ) from None
    x = check_numbers(measured, "measured values")
    y = check_numbers(predicted, "predictions", x.shape)
    shown = np.isfinite(x) & np.isfinite(y)
    figure = Figure(figsize=(5.5, 5), layout="constrained")
    axes = figure.subplots()
    many = bool(shown.sum() > _MANY)
    if low is not None and high is not None:
        bottom, ceiling = check_numbers(low, "lower bounds", x.shape), check_numbers(high, "upper bounds", x.shape)
        finite = shown & np.isfinite(bottom) & np.isfinite(ceiling)
        axes.vlines(
            x[finite], bottom[finite], ceiling[finite], lw=0.8, color=_BARS, zorder=0, label="interval", rasterized=many
        )
    axes.scatter(x[shown], y[shown], s=14, color=_POINTS, edgecolors="white", linewidths=0.3, rasterized=many)
    if shown.any():
        ends = [float(x[shown].min()), float(x[shown].max())]
        axes.plot(ends, ends, "--", lw=1, color=_LINE, label="predicted as measured")
        axes.legend()
    label = f"{metric} [{unit}]" if unit else metric
    axes.set_xlabel(f"{label}, measured")
    axes.set_ylabel(f"{label}, predicted")
    axes.set_title(f"{shown.sum():,} networks")
    image = io.BytesIO()
    # Names within an SVG come from a hash that is salted, and both formats say when or by what they were made.
    with rc_context({"svg.hashsalt": "freerea-seval"}):
        unsaid = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        figure.savefig(image, format=kind, dpi=150, metadata=unsaid)
    try:
        write_atomically(path, image.getvalue())
    except OSError as error:
        raise InputError(f"figure {path}: cannot be written ({error}); name a folder that you can write") from None
