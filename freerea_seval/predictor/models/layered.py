"""The model ``layered``: a Gaussian process on costs and on the size of each layer, for chains of different layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from freerea_seval.predictor.features.layer_features import LayerFeatures
from freerea_seval.predictor.features.segment_features import TOTALS
from freerea_seval.predictor.features.vectorizer import Matrix
from freerea_seval.predictor.models.gp import GaussianProcessPredictor, Indices
from freerea_seval.predictor.models.validation import Values


class LayeredPredictor(GaussianProcessPredictor):
    """A scikit-learn regressor from strings of long chains, such as language models, to metrics.

    The covariance has three blocks: the totals of a network; its costs and counts, which are not logarithms, because
    the quality of a language model is nearly a sum over its layers; and the sizes of its layers, one by one.

    Attributes:
        layers_: the fitted :class:`~freerea_seval.predictor.features.layer_features.LayerFeatures`.
    """

    def learn_points(self, strings: Sequence[str], proxies: npt.ArrayLike | None = None) -> Values:
        """Learn the columns and their scales; see :meth:`GaussianProcessPredictor.learn_points`."""
        self.layers_ = LayerFeatures.fit(strings)
        return super().learn_points(strings, proxies)

    def _columns(self, strings: Sequence[str], features: Matrix) -> Values:
        totals = np.expm1(features[:, : len(TOTALS)].astype(np.float64))
        counts = [features[:, part].astype(np.float64) for part in (self.features_.costs_, self.features_.counts_)]
        return np.concatenate([totals, *counts, self.layers_.matrix(strings)], axis=1)

    def _points(self, columns: Values) -> Values:
        points, totals = super()._points(columns), self.blocks_[0]
        # Not clipped: the linear part of the covariance extrapolates to networks of other sizes.
        points[:, totals] = ((columns - self.centre_) / self.spread_ * self.share_)[:, totals]
        return points

    def _blocks(self) -> list[Indices]:
        costs, counts = self.features_.costs_, self.features_.counts_
        sizes = [len(TOTALS), costs.stop - costs.start + counts.stop - counts.start, len(self.layers_.names)]
        if self.proxies_ is not None:
            sizes.append(len(self.proxies_.mean_))
        return np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])

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
