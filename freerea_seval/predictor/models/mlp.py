"""A small network on the features of strings that learns all metrics together and cares for their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from freerea_seval.predictor.features.vectorizer import StringFeatures, check_strings
from freerea_seval.predictor.models.validation import Values, averaged, checked, scales

_WEIGHTS = "mlp.safetensors"
#: Standardised features end here, so that a network of another size is no stranger than the strangest that was seen.
_FARTHEST = 5.0


class MLPPredictor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn regressor from network strings to metrics: three layers on the features of strings.

    Args:
        width: units of a hidden layer.
        layers: number of hidden layers.
        dropout: share of the units that training leaves out.
        epochs: passes over the different training strings.
        batch_size: strings a step.
        learning_rate: of AdamW, at its highest.
        seed: fixes initial weights, batches and dropout.

    Attributes:
        features_: the fitted :class:`~freerea_seval.predictor.features.vectorizer.StringFeatures`.
        weights_: matrix and bias of every layer, standardisation folded in, float64.
    """

    def __init__(
        self,
        width: int = 256,
        layers: int = 3,
        dropout: float = 0.05,
        epochs: int = 200,
        batch_size: int = 256,
        learning_rate: float = 2e-3,
        seed: int = 0,
    ) -> None:
        self.width = width
        self.layers = layers
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.seed = seed

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = True, False
        tags.target_tags.multi_output = True
        return tags

    def fit(
        self, strings: Sequence[str], y: npt.ArrayLike, *, show: Callable[[float, str], None] | None = None
    ) -> MLPPredictor:
        """Learn metrics.

        Args:
            strings: ``(n,)`` network strings.
            y: ``(n,)`` values of a metric or ``(n, m)`` of several; NaN among several is not known.
            show: is told the fraction done and a note.

        Raises:
            InputError: too few values, or something that is no network string.
        """
        import torch
        from torch import nn

        from freerea_seval.predictor.models.torch_training import Plan, fit_module, torch_threads

        values = checked(strings, y)
        self.single_ = np.ndim(y) == 1
        different, targets = averaged(strings, values)
        self.features_ = StringFeatures()
        matrix = self._seen(self.features_.fit_transform(different))
        self.centre_, spread = matrix.mean(axis=0), matrix.std(axis=0)
        self.spread_ = np.where(spread > 1e-6, spread, 1.0)
        mean, scale = scales(targets, "standard")
        x = torch.from_numpy(self._standardised(matrix).astype(np.float32))
        with torch_threads(1), torch.random.fork_rng([]):
            torch.manual_seed(self.seed)
            widths = [x.shape[1], *[self.width] * self.layers]
            hidden = [
                layer
                for before, after in pairwise(widths)
                for layer in (nn.Linear(before, after), nn.SiLU(), nn.Dropout(self.dropout))
            ]
            network = nn.Sequential(*hidden, nn.Linear(widths[-1], values.shape[1]))
            # Small sets take smaller steps, so that there are enough of them.
            size = min(self.batch_size, max(16, len(different) // 16))
            plan = Plan(self.epochs, size, self.learning_rate, weight_decay=1e-3, seed=self.seed)
            none = np.empty(0, dtype=np.int64)
            fit_module(network, lambda i: (x[torch.from_numpy(i)],), (targets - mean) / scale, none, plan, show=show)
        linear = [layer for layer in network if isinstance(layer, nn.Linear)]
        self.weights_ = [
            (layer.weight.detach().numpy().astype(np.float64), layer.bias.detach().numpy().astype(np.float64))
            for layer in linear
        ]
        last, bias = self.weights_[-1]
        self.weights_[-1] = (last * scale[:, None], bias * scale + mean)
        return self

    def predict(self, strings: Sequence[str]) -> Values:
        """Predict ``(n,)`` or ``(n, m)`` values, as there were in training.

        Raises:
            InputError: something that is no network string.
            sklearn.exceptions.NotFittedError: before :meth:`fit`.
        """
        check_is_fitted(self, "weights_")
        if not len(check_strings(strings)):
            return np.empty(0 if self.single_ else (0, len(self.weights_[-1][1])))
        x = self._standardised(self._seen(self.features_.matrix(strings)))
        for place, (matrix, bias) in enumerate(self.weights_):
            x = x @ matrix.T + bias
            if place < len(self.weights_) - 1:
                x = x / (1 + np.exp(-np.clip(x, -700, None)))  # SiLU (Hendrycks 2016)
        return np.asarray(x[:, 0] if self.single_ else x, dtype=np.float64)

    def _seen(self, matrix: npt.NDArray[np.float32]) -> Values:
        """Return logarithms of the features but those of the order of execution: too many for so few networks."""
        return np.asarray(
            np.log1p(np.delete(matrix, self.features_.order_, axis=1).astype(np.float64)), dtype=np.float64
        )

    def _standardised(self, matrix: Values) -> Values:
        return np.asarray(np.clip((matrix - self.centre_) / self.spread_, -_FARTHEST, _FARTHEST), dtype=np.float64)

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return what was learned: what JSON can hold, and files."""
        from safetensors.numpy import save

        check_is_fitted(self, "weights_")
        arrays = {"centre": self.centre_, "spread": self.spread_}
        for place, (matrix, bias) in enumerate(self.weights_):
            arrays |= {f"{place}.weight": np.ascontiguousarray(matrix), f"{place}.bias": bias}
        said = {"vocabulary": self.features_.vocabulary_, "single": bool(self.single_), "layers": len(self.weights_)}
        return said, {_WEIGHTS: save(arrays)}

    def restore(self, state: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Take up what :meth:`state` returned.

        Raises:
            ValueError, KeyError: it does not fit together.
        """
        from safetensors.numpy import load

        arrays = load(files[_WEIGHTS])
        self.features_ = StringFeatures.of(state["vocabulary"])
        self.single_ = bool(state["single"])
        self.centre_, self.spread_ = arrays["centre"], arrays["spread"]
        self.weights_ = [(arrays[f"{place}.weight"], arrays[f"{place}.bias"]) for place in range(state["layers"])]
        if len(arrays) != 2 + 2 * len(self.weights_):
            raise ValueError(f"{len(arrays)} arrays of {len(self.weights_)} layers")
        self.predict(["input[1x1] output"])
