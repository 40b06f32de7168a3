"""Target transforms: the scale on which a metric is learned, and its inverse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from freerea_patch import unknown_name

Values = npt.NDArray[np.float64]
ScaleName = Literal["linear", "log", "rank", "blend"]
SCALES: tuple[ScaleName, ...] = get_args(ScaleName)

#: Scales that interpolate between knots.
_KNOTTED = ("rank", "blend")
#: Largest number of knots; between them the scale is linear.
_KNOTS = 1000
#: Beyond its ends, the scale is extrapolated with the slope of the outermost twentieth of the knots.
_OUTER = 20
#: The smallest number with full precision.
_SMALLEST = float(np.finfo(np.float64).tiny)


class Scale(NamedTuple):
    """A monotone map from a metric's unit to about a standard normal distribution.

    ``linear`` standardises values, ``log`` standardises their logarithms. ``rank`` maps values to the normal quantiles
    of their ranks (van der Waerden 1952), so that a few networks that failed to train do not dominate. ``blend`` is the
    mean of ``linear`` and ``rank``; with few networks it is as good as the better of the two.

    Attributes:
        name: one of :data:`SCALES`.
        values, scores: ``(k,)`` knots in the unit of the metric (logarithms of it for ``log``), and what they are
            mapped to; both ascending.
    """

    name: ScaleName
    values: Values
    scores: Values

    def score(self, values: Values) -> Values:
        """Map values in the metric's unit, ``(n,)``; NaN stays NaN."""
        x = np.log(np.maximum(values, _SMALLEST)) if self.name == "log" else values
        if self.name in _KNOTTED:
            return _interpolate(x, self.values, self.scores)
        return np.asarray((x - self.values[0]) / (self.values[1] - self.values[0]), dtype=np.float64)

    def value(self, scores: Values) -> Values:
        """Map ``(n,)`` back to the metric's unit."""
        if self.name in _KNOTTED:
            return _interpolate(scores, self.scores, self.values)
        x = self.values[0] + scores * (self.values[1] - self.values[0])
        return np.asarray(np.exp(x) if self.name == "log" else x, dtype=np.float64)

    def state(self) -> dict[str, Any]:
        """Return values for JSON."""
        return {"name": self.name, "values": self.values.tolist(), "scores": self.scores.tolist()}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Scale:
        """Return the scale of a :meth:`state`.

        Raises:
            ValueError: the state is invalid.
        """
        values, scores = (np.array(state[part], dtype=np.float64) for part in ("values", "scores"))
        ascending = values.ndim == 1 and values.shape == scores.shape and len(values)
        ascending = ascending and all((np.diff(part) > 0).all() for part in (values, scores))
        if state["name"] not in SCALES or not ascending or (state["name"] not in _KNOTTED and len(values) != 2):
            raise ValueError(f"invalid scale {state['name']!r} with {len(values)} values")
        return cls(state["name"], values, scores)


def fit_scale(name: ScaleName, values: Values) -> Scale:
    """Fit a scale to ``(n,)`` values, at least one of them finite; others are ignored.

    ``log`` falls back to ``linear`` if any value is not positive, or too small for full precision.

    Raises:
        InputError: there is no such scale.
    """
    if name not in SCALES:
        raise unknown_name("scale", name, SCALES)
    finite = values[np.isfinite(values)]
    if name in _KNOTTED:
        different, counts = np.unique(finite, return_counts=True)
        scores = ndtri((np.cumsum(counts) - counts / 2) / len(finite))
        kept = np.unique(np.linspace(0, len(different) - 1, min(len(different), _KNOTS)).round().astype(int))
        if name == "blend" and len(different) > 1 and finite.std() > 0:
            scores = (scores + (different - finite.mean()) / finite.std()) / 2
        return Scale(name, different[kept], scores[kept])
    if name == "log" and (finite < _SMALLEST).any():
        name = "linear"
    x = np.log(finite) if name == "log" else finite
    spread = float(x.std()) if np.ptp(x) > 0 else 1.0
    spread = max(spread, 1e-12 * abs(float(x.mean())), _SMALLEST)  # larger than the rounding error
    return Scale(name, np.array([x.mean(), x.mean() + spread]), np.array([0.0, 1.0]))


def to_scores(scales: Sequence[Scale], values: Values) -> Values:
    """Map ``(n, m)`` values to scores, each column by its scale; NaN stays NaN."""
    return np.stack([scale.score(column) for scale, column in zip(scales, values.T, strict=True)], axis=1)


def to_values(scales: Sequence[Scale], scores: Values) -> Values:
    """Map ``(n, m)`` scores back to the units of the metrics."""
    return np.stack([scale.value(column) for scale, column in zip(scales, scores.T, strict=True)], axis=1)


def _interpolate(x: Values, knots: Values, heights: Values) -> Values:
    """Interpolate between knots, and extrapolate linearly beyond them, so that the order is kept."""
    y = np.interp(x, knots, heights)
    if len(knots) > 1:
        inner = max(1, len(knots) // _OUTER)
        first = (heights[inner] - heights[0]) / (knots[inner] - knots[0])
        last = (heights[-1] - heights[-1 - inner]) / (knots[-1] - knots[-1 - inner])
        y = y + np.minimum(x - knots[0], 0) * first + np.maximum(x - knots[-1], 0) * last
    return np.asarray(y, dtype=np.float64)
