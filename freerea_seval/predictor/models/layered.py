"""The model ``layered``: a Gaussian process on the size of each layer, for chains of different layers.

The loss of a language model is about a power of its size (Kaplan 2020), so that the process learns logarithms: of the
metric, if all its values are positive, and of the elements of each kind of operation in the network and in each layer.

Reference:
    Kaplan 2020: Scaling Laws for Neural Language Models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from freerea_seval.predictor.features.layer_features import LayerFeatures
from freerea_seval.predictor.features.vectorizer import Matrix
from freerea_seval.predictor.models.gp import FARTHEST, GaussianProcessPredictor, Indices
from freerea_seval.predictor.models.target_transform import Scale, fit_scale, to_scores, to_values
from freerea_seval.predictor.models.validation import StringRegressor, Values, checked

#: Standardised sizes of whole networks are clipped here, so that all predictions are finite.
_FARTHEST = 50.0


class LayeredProcess(GaussianProcessPredictor):
    """A Gaussian process whose covariance has three blocks.

    They are the sizes of whole networks, by kind of operation; their costs and counts, which are not logarithms; and
    the sizes of layers.

    Attributes:
        layers_: the fitted :class:`~freerea_seval.predictor.features.layer_features.LayerFeatures`.
    """

    def learn_points(self, strings: Sequence[str], proxies: npt.ArrayLike | None = None) -> Values:
        """Learn the columns and their scales; see :meth:`GaussianProcessPredictor.learn_points`."""
        self.layers_ = LayerFeatures.fit(strings)
        return super().learn_points(strings, proxies)

    def _columns(self, strings: Sequence[str], features: Matrix) -> Values:
        totals, layers = np.split(self.layers_.matrix(strings), [self.layers_.totals], axis=1)
        counts = [features[:, part].astype(np.float64) for part in (self.features_.costs_, self.features_.counts_)]
        return np.concatenate([totals, *counts, layers], axis=1)

    def _blocks(self) -> list[Indices]:
        counts = sum(part.stop - part.start for part in (self.features_.costs_, self.features_.counts_))
        sizes = [self.layers_.totals, counts, len(self.layers_.names) - self.layers_.totals]
        if self.proxies_ is not None:
            sizes.append(len(self.proxies_.mean_))
        return np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])

    def _farthest(self) -> Values:
        farthest = np.full(len(self.share_), FARTHEST)
        farthest[self.blocks_[0]] = _FARTHEST  # the linear part of the covariance extrapolates to other sizes
        return farthest

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return what was learned: values for JSON, and files by name."""
        content, files = super().state()
        return {**content, "layers": self.layers_.names, "absent": self.layers_.absent.tolist()}, files

    def restore(self, state: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Take up what :meth:`state` returned; any exception means that the parts do not fit together."""
        names, absent = [str(name) for name in state["layers"]], np.array(state["absent"], dtype=np.float64)
        if absent.shape != (len(names),) or not np.isfinite(absent).all():
            raise ValueError("expected a finite number for each column of layers")
        self.layers_ = LayerFeatures(names, absent)
        super().restore(state, files)


class LayeredPredictor(StringRegressor):
    """A scikit-learn regressor from strings of long chains, such as language models, to metrics.

    Args:
        seed: draws the 400 networks that the kernel's parameters are learned from, if there are more.

    Attributes:
        process_: the :class:`LayeredProcess` of scores.
        scales_: of each metric.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, strings: Sequence[str], y: npt.ArrayLike) -> LayeredPredictor:
        """Learn metrics.

        Args:
            strings: ``(n,)`` network strings, at most 2,000.
            y: ``(n,)`` values of a metric, or ``(n, m)`` of several; NaN among several is a missing value.

        Raises:
            InputError: fewer than five values of a metric, more than 2,000 strings, values that differ from the strings
                in number, a value that is infinite or not a number, or a string that is not a network string.
        """
        values = checked(strings, y)
        self.single_ = np.ndim(y) == 1
        self.scales_ = [fit_scale("log", column) for column in values.T]
        self.process_ = LayeredProcess(self.seed).fit(strings, to_scores(self.scales_, values))
        return self

    def predict(self, strings: Sequence[str]) -> Values:
        """Predict ``(n,)`` or ``(n, m)`` values, shaped as in training.

        Raises:
            InputError: a string is not a network string.
            sklearn.exceptions.NotFittedError: before :meth:`fit`.
        """
        check_is_fitted(self, "process_")
        values = to_values(self.scales_, self.process_.predict(strings))
        return values[:, 0] if self.single_ else values

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return what was learned: values for JSON, and files by name."""
        check_is_fitted(self, "process_")
        content, files = self.process_.state()
        return {"single": self.single_, "scales": [s.state() for s in self.scales_], "process": content}, files

    def restore(self, state: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Take up what :meth:`state` returned; any exception means that the parts do not fit together."""
        self.single_ = bool(state["single"])
        self.scales_ = [Scale.restore(scale) for scale in state["scales"]]
        self.process_ = LayeredProcess(self.seed)
        self.process_.restore(state["process"], files)
        if len(self.scales_) != len(self.process_.posteriors_) or (self.single_ and len(self.scales_) != 1):
            raise ValueError(f"{len(self.scales_)} scales of {len(self.process_.posteriors_)} metrics")
