"""A classifier of networks that a device supports: an unsupported network has no value, and is not a large number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from freerea_seval.predictor.features.vectorizer import Matrix, StringFeatures
from freerea_seval.predictor.models.xgboost_io import load_trees

Values = npt.NDArray[np.float64]
_TREES = "classifier.json"


class FeasibilityClassifier:
    """Gradient-boosted trees that predict the probability that a device supports a network.

    Args:
        seed: fixes the training.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, strings: Sequence[str], supported: npt.NDArray[np.bool_]) -> FeasibilityClassifier:
        """Learn from ``(n,)`` networks, of which some are supported and some are not."""
        import xgboost

        self.features_ = StringFeatures()
        matrix = self._visible(self.features_.fit_transform(strings))
        data = xgboost.DMatrix(matrix, supported.astype(float), nthread=1)
        parameters = {
            "objective": "binary:logistic",
            "tree_method": "hist",
            "nthread": 1,
            "seed": self.seed,
            "max_depth": 4 if len(strings) < 500 else 6,
            "learning_rate": 0.1,
            "subsample": 0.8,
            "colsample_bynode": 0.3,
        }
        self.booster_ = xgboost.train(parameters, data, 200)
        return self

    def probability(self, strings: Sequence[str]) -> Values:
        """Return ``(n,)`` probabilities that a network is supported."""
        if not len(strings):
            return np.empty(0)
        matrix = self._visible(self.features_.matrix(strings))
        return np.asarray(self.booster_.inplace_predict(matrix), dtype=np.float64)

    def _visible(self, matrix: Matrix) -> Matrix:
        return self.features_.without(matrix, self.features_.place_)

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return what was learned: values for JSON, and files by name."""
        return {"vocabulary": self.features_.vocabulary_}, {_TREES: bytes(self.booster_.save_raw("json"))}

    def restore(self, state: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Take up what :meth:`state` returned; any exception means that the parts do not fit together."""
        self.features_ = StringFeatures.of(state["vocabulary"])
        self.booster_ = load_trees(files[_TREES])
        self.probability(["input[1x1] output"])
