"""The scale on which a metric is learned, and the way back to its unit."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from freerea_patch import unknown_name

Values = npt.NDArray[np.float64]
ScaleName = Literal["linear", "log", "rank", "blend"]
SCALES: tuple[ScaleName, ...] = get_args(ScaleName)

#: Scales that are remembered at knots.
_KNOTTED = ("rank", "blend")
#: A rank scale is remembered at so many values; between them it is straight.
_KNOTS = 1000
#: Beyond its ends, it goes on as in the outermost knots, this part of all.
_OUTER = 20


class Scale(NamedTuple):
    """A monotone map from a metric's unit to about a standard normal distribution.

    ``linear`` standardises, and ``log`` standardises logarithms. ``rank`` puts values at the normal quantiles of
    their ranks (van der Waerden 1952), so that a few networks that learned nothing do not outweigh the rest;
    outside the values that were seen it goes on as steep as in their outermost twentieth. ``blend`` is the mean of
    ``linear`` and ``rank``: with few networks it is as good as the better of them.

    Attributes:
        name: one of :data:`SCALES`.
        values, scores: ``(k,)`` knots in the unit of the metric (logarithms of it for ``log``), and what they are
            mapped to; rising both.
    """

    name: ScaleName
    values: Values
    scores: Values

    def score(self, values: Values) -> Values:
        """Map values in the metric's unit, ``(n,)``; NaN stays NaN."""
        x = np.log(np.maximum(values, np.finfo(np.float64).tiny)) if self.name == "log" else values
        if self.name in _KNOTTED:
            return _through(x, self.values, self.scores)
        return np.asarray((x - self.values[0]) / (self.values[1] - self.values[0]), dtype=np.float64)

    def value(self, scores: Values) -> Values:
        """Map ``(n,)`` back to the metric's unit."""
        if self.name in _KNOTTED:
            return _through(scores, self.scores, self.values)
        found = self.values[0] + scores * (self.values[1] - self.values[0])
        return np.asarray(np.exp(found) if self.name == "log" else found, dtype=np.float64)

    def state(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {"name": self.name, "values": self.values.tolist(), "scores": self.scores.tolist()}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Scale:
        """Make it again from :meth:`state`.

        Raises:
            ValueError: the state is none.
        """
        values, scores = (np.array(state[part], dtype=np.float64) for part in ("values", "scores"))
        rising = values.ndim == 1 and values.shape == scores.shape and len(values)
        rising = rising and all((np.diff(part) > 0).all() for part in (values, scores))
        if state["name"] not in SCALES or not rising or (state["name"] not in _KNOTTED and len(values) != 2):
            raise ValueError(f"no scale: {state['name']!r} with {len(values)} values")
        return cls(state["name"], values, scores)


def fit_scale(name: ScaleName, values: Values) -> Scale:
    """Fit a scale to the finite ones of ``(n,)`` values, of which there is at least one.

    ``log`` needs positive values, and is ``linear`` without them.

    Raises:
        InputError: there is no such scale.
    """
    if name not in SCALES:
        raise unknown_name("scale", name, SCALES)
    known = values[np.isfinite(values)]
    if name in _KNOTTED:
        different, counts = np.unique(known, return_counts=True)
        scores = ndtri((np.cumsum(counts) - counts / 2) / len(known))
        kept = np.unique(np.linspace(0, len(different) - 1, min(len(different), _KNOTS)).round().astype(int))
        if name == "blend" and len(different) > 1 and known.std() > 0:
            scores = (scores + (different - known.mean()) / known.std()) / 2
        return Scale(name, different[kept], scores[kept])
    if name == "log" and (known <= 0).any():
        name = "linear"
    x = np.log(known) if name == "log" else known
    spread = float(x.std()) if np.ptp(x) > 0 else 1.0
    spread = max(spread, 1e-12 * abs(float(x.mean())), float(np.finfo(np.float64).tiny))  # more than rounding
    return Scale(name, np.array([x.mean(), x.mean() + spread]), np.array([0.0, 1.0]))


def _through(x: Values, knots: Values, heights: Values) -> Values:
    """Interpolate between knots; beyond the ends straight on, so that order is kept."""
    found = np.interp(x, knots, heights)
    if len(knots) > 1:
        inner = max(1, len(knots) // _OUTER)
        first = (heights[inner] - heights[0]) / (knots[inner] - knots[0])
        last = (heights[-1] - heights[-1 - inner]) / (knots[-1] - knots[-1 - inner])
        found = found + np.minimum(x - knots[0], 0) * first + np.maximum(x - knots[-1], 0) * last
    return np.asarray(found, dtype=np.float64)
