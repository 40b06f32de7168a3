"""Scores of predictions against measurements, and a scatter plot of both."""

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
#: More points than this are rasterised, as an SVG would have megabytes otherwise.
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
    """Return scores of predictions against measurements.

    Args:
        measured: ``(n,)`` values; NaN is ignored, +inf means that the device does not support the network.
        predicted: ``(n,)`` predictions; +inf means predicted to be unsupported.
        direction: which values are better. An unsupported network is worse than any other in both directions.
        low, high: ``(n,)`` bounds of intervals, both or neither.
        supported: ``(n,)`` predicted probabilities that the device supports a network.
        top: for which k top-k recall is given: whole numbers, or shares of ``n`` between 0 and 1.

    Returns:
        By name. A score is omitted where it is not defined (a correlation with a constant, recall among equal values, k
        of fewer than k + 1 networks) or overflows:

        - ``kendall_tau`` (tau-b, Kendall 1945) and ``spearman`` over the supported networks;
        - ``rmse`` (in the metric's unit) and ``r2`` over the supported networks with a finite prediction;
        - ``top_K_recall``, ``top_P_percent_recall``: the share of the k best predicted networks that are among the k
          best measured. All networks that tie with the k-th best count as best; tied predictions share the remaining
          places;
        - with bounds, over the supported networks: ``coverage``, the share of values within the bounds, and ``width``,
          the mean width of the finite intervals in the metric's unit;
        - with unsupported networks: ``kendall_tau_all``, with these ranked last, and ``auc`` of ``supported`` (Hanley
          1982).

    Raises:
        InputError: shapes differ, nothing was measured, or a value is NaN or -inf where this is not allowed.
    """
    if direction not in ("max", "min"):
        raise InputError(f"direction must be 'max' or 'min', not {direction!r}")
    if (low is None) != (high is None):
        raise InputError("intervals need both bounds, got one; give 'low' and 'high'")
    values = check_numbers(measured, "measured values")
    measured_rows = ~np.isnan(values)
    if not measured_rows.any():
        raise InputError(f"expected at least one measured value, got {len(values)} values, all NaN")

    def column(numbers: npt.ArrayLike, what: str) -> Values:
        array = check_numbers(numbers, what, measured_rows.shape)[measured_rows]
        if np.isnan(array).any():
            raise InputError(
                f"{what}: {np.isnan(array).sum()} of {len(array)} measured networks have NaN; give numbers"
            )
        return array

    forecast = column(predicted, "predictions")
    values = values[measured_rows]
    if (values == -np.inf).any() or (forecast == -np.inf).any():
        raise InputError("measured values and predictions may be +inf, for unsupported, but not -inf")
    runs = np.isfinite(values)
    true_rank, predicted_rank = _merit(values, direction), _merit(forecast, direction)
    result = _errors(values[runs], forecast[runs]) | _correlations(true_rank[runs], predicted_rank[runs])
    for k in top:
        count, name = _top(k, len(values))
        if count < len(values) and np.ptp(true_rank) > 0:
            result[name] = _recall(true_rank, predicted_rank, count)
    if low is not None and high is not None and runs.any():
        bottom, ceiling = column(low, "lower bounds")[runs], column(high, "upper bounds")[runs]
        result["coverage"] = float(np.mean((bottom <= values[runs]) & (values[runs] <= ceiling)))
        finite = np.isfinite(bottom) & np.isfinite(ceiling)
        if finite.any():
            with np.errstate(over="ignore"):
                result["width"] = float(np.mean(ceiling[finite] - bottom[finite]))
    if not runs.all():
        if "kendall_tau" in (over_all := _correlations(true_rank, predicted_rank)):
            result["kendall_tau_all"] = over_all["kendall_tau"]
        if supported is not None and runs.any():
            from sklearn.metrics import roc_auc_score

            result["auc"] = float(roc_auc_score(runs, column(supported, "probabilities of support")))
    return {name: score for name, score in result.items() if np.isfinite(score)}  # JSON has no infinity


def _errors(values: Values, forecast: Values) -> dict[str, float]:
    both = np.isfinite(forecast)
    if not both.any():
        return {}
    with np.errstate(all="ignore"):  # values that are almost equal have a variance of zero, and squares may overflow
        values, errors = values[both], forecast[both] - values[both]
        result = {"rmse": float(np.sqrt(np.mean(errors**2)))}
        if np.ptp(values) > 0:
            share = np.sum(errors**2) / np.sum((values - values.mean()) ** 2)
            result["r2"] = float(1 - share)
    return result


def kendall_tau(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Return Kendall's tau-b of ``(n,)`` values (Kendall 1945); NaN if one side is constant."""
    from scipy.stats import kendalltau

    return float(kendalltau(first, second, variant="b").statistic)


def spearman(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Return Spearman's rank correlation of ``(n,)`` values; NaN if one side is constant."""
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic)


def _correlations(true_rank: Values, predicted_rank: Values) -> dict[str, float]:
    if not len(true_rank) or np.ptp(true_rank) == 0 or np.ptp(predicted_rank) == 0:
        return {}
    return {"kendall_tau": kendall_tau(true_rank, predicted_rank), "spearman": spearman(true_rank, predicted_rank)}


def _merit(values: Values, direction: Direction) -> Values:
    """Return ``(n,)`` mid-ranks: the best value has the highest, unsupported networks the lowest."""
    from scipy.stats import rankdata

    oriented = np.where(np.isinf(values), -np.inf, values if direction == "max" else -values)
    return np.asarray(rankdata(oriented), dtype=np.float64)


def _top(k: int | float, n: int) -> tuple[int, str]:
    """Return k and the name of the recall at k."""
    if isinstance(k, int) and not isinstance(k, bool) and k >= 1:
        return k, f"top_{k}_recall"
    if isinstance(k, float) and 0 < k < 1:
        return max(1, round(k * n)), f"top_{100 * k:g}_percent_recall"
    raise InputError(f"expected whole numbers from 1 or shares between 0 and 1 in 'top', got {k!r}")


def _recall(true_rank: Values, predicted_rank: Values, k: int) -> float:
    best = true_rank >= np.sort(true_rank)[-k]
    last = np.sort(predicted_rank)[-k]
    above, level = predicted_rank > last, predicted_rank == last
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
    """Draw predictions over measurements, the diagonal, and intervals if given.

    The same data give the same bytes. Networks without a finite value or prediction, and infinite intervals, are
    omitted.

    Args:
        path: the file, ``.svg`` or ``.png``.
        measured, predicted, low, high: ``(n,)`` as in :func:`scores`.
        metric, unit: for the labels; the unit may be empty.

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
    # For equal bytes: a fixed salt for identifiers in an SVG, and no dates or program names.
    with rc_context({"svg.hashsalt": "freerea-seval"}):
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        figure.savefig(image, format=kind, dpi=150, metadata=metadata)
    try:
        write_atomically(path, image.getvalue())
    except OSError as error:
        raise InputError(f"figure {path}: cannot be written ({error}); choose another folder") from None
