"""The model ``mlp``: a small network on the features of strings that learns all metrics together and their order."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from freerea_patch import InputError
from freerea_seval.predictor.features.vectorizer import StringFeatures, check_strings
from freerea_seval.predictor.models.validation import StringRegressor, Values, averaged, checked, scales

if TYPE_CHECKING:
    from torch import nn

_WEIGHTS = "mlp.safetensors"
#: Standardised features are clipped here, so that a network of unseen size does not leave the range of training.
_MAX_FEATURE = 5.0
_WEIGHT_DECAY = 1e-3
_MAX_GRADIENT_NORM = 1.0
#: Share of the training over which the learning rate rises to its maximum.
_WARMUP = 0.05


class MLPPredictor(StringRegressor):
    """A scikit-learn regressor from network strings to metrics: a multilayer perceptron on the features of strings.

    Args:
        width: units of a hidden layer.
        layers: number of hidden layers.
        dropout: dropout rate of the hidden units in training.
        epochs: passes over the distinct training strings.
        batch_size: strings per step.
        learning_rate: the maximum of AdamW's (Loshchilov 2019) cosine schedule.
        seed: fixes initial weights, batches and dropout.

    Attributes:
        features_: the fitted :class:`~freerea_seval.predictor.features.vectorizer.StringFeatures`.
        weights_: matrix and bias of every layer, in float64; the last layer returns metrics in their units.
        single_: whether values are ``(n,)`` rather than ``(n, m)``.
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

    def fit(
        self, strings: Sequence[str], y: npt.ArrayLike, *, show: Callable[[float, str], None] | None = None
    ) -> MLPPredictor:
        """Train on network strings.

        Args:
            strings: ``(n,)`` network strings.
            y: ``(n,)`` values of a metric or ``(n, m)`` of several, NaN where one of several was not measured.
            show: is called with the completed fraction and a note.

        Raises:
            InputError: too few values, something that is not a network string, or a training that diverges.
        """
        import torch
        from torch import nn

        values = checked(strings, y)
        self.single_ = np.ndim(y) == 1
        distinct, targets = averaged(strings, values)
        self.features_ = StringFeatures()
        matrix = self._log_features(self.features_.fit_transform(distinct))
        self.centre_, spread = matrix.mean(axis=0), matrix.std(axis=0)
        self.spread_ = np.where(spread > 1e-6, spread, 1.0)
        mean, scale = scales(targets, "standard")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.random.fork_rng([]):
                torch.manual_seed(self.seed)
                widths = [matrix.shape[1], *[self.width] * self.layers]
                hidden = [
                    layer
                    for inputs, outputs in pairwise(widths)
                    for layer in (nn.Linear(inputs, outputs), nn.SiLU(), nn.Dropout(self.dropout))
                ]
                network = nn.Sequential(*hidden, nn.Linear(widths[-1], values.shape[1]))
                self._train(network, self._standardised(matrix), (targets - mean) / scale, show)
        finally:
            torch.set_num_threads(threads)
        self.weights_ = [
            (layer.weight.detach().numpy().astype(np.float64), layer.bias.detach().numpy().astype(np.float64))
            for layer in network
            if isinstance(layer, nn.Linear)
        ]
        last, bias = self.weights_[-1]
        self.weights_[-1] = (last * scale[:, None], bias * scale + mean)
        return self

    def _train(
        self, network: nn.Module, features: Values, targets: Values, show: Callable[[float, str], None] | None
    ) -> None:
        """Minimise squared and ranking error with AdamW; each epoch draws batches and dropout from seed and number."""
        import torch
        from torch import nn

        from freerea_seval.predictor.models.losses import regression_loss

        x, y = (torch.from_numpy(array.astype(np.float32)) for array in (features, targets))
        # Small training sets use smaller batches, so that there are enough steps.
        size = min(self.batch_size, max(16, len(x) // 16))
        steps = math.ceil(len(x) / size)
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=_WEIGHT_DECAY)
        for epoch in range(self.epochs):
            generator = np.random.default_rng((self.seed, epoch))
            torch.manual_seed(int(generator.integers(2**62)))
            order = torch.from_numpy(generator.permutation(len(x)))
            total = 0.0
            for step, batch in enumerate(order.split(size)):  # type: ignore[no-untyped-call]
                done = (epoch + step / steps) / self.epochs
                # A cosine after a linear rise that starts above 0, so that the first step counts.
                rise = min(1.0, max(done, 0.01 * _WARMUP) / _WARMUP)
                optimizer.param_groups[0]["lr"] = self.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * done))
                loss = regression_loss(network(x[batch]), y[batch], "mse+ranking")
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(network.parameters(), _MAX_GRADIENT_NORM)
                optimizer.step()
                total += loss.item()
            if not math.isfinite(total):
                raise InputError(
                    f"the loss became {total} in epoch {epoch + 1}; use a learning_rate below {self.learning_rate:g}"
                )
            if show is not None:
                show((epoch + 1) / self.epochs, f"loss {total / steps:.3f}")

    def predict(self, strings: Sequence[str]) -> Values:
        """Predict ``(n,)`` or ``(n, m)`` values, as in training.

        Raises:
            InputError: something that is not a network string.
            sklearn.exceptions.NotFittedError: before :meth:`fit`.
        """
        check_is_fitted(self, "weights_")
        if not len(check_strings(strings)):
            return np.empty(0 if self.single_ else (0, len(self.weights_[-1][1])))
        x = self._standardised(self._log_features(self.features_.matrix(strings)))
        for layer, (matrix, bias) in enumerate(self.weights_):
            x = x @ matrix.T + bias
            if layer < len(self.weights_) - 1:
                x = x / (1 + np.exp(-np.clip(x, -700, None)))  # SiLU (Hendrycks 2016)
        return np.asarray(x[:, 0] if self.single_ else x, dtype=np.float64)

    def _log_features(self, matrix: npt.NDArray[np.float32]) -> Values:
        """Return log(1 + x) of all features except the many of the order of execution, and those of places."""
        features = self.features_
        return np.log1p(features.without(matrix, features.order_, features.place_).astype(np.float64))

    def _standardised(self, matrix: Values) -> Values:
        standardised: Values = np.clip((matrix - self.centre_) / self.spread_, -_MAX_FEATURE, _MAX_FEATURE)
        return standardised

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return what :meth:`restore` needs: a JSON object, and files by name."""
        from safetensors.numpy import save

        check_is_fitted(self, "weights_")
        arrays = {"centre": self.centre_, "spread": self.spread_}
        for layer, (matrix, bias) in enumerate(self.weights_):
            arrays |= {f"{layer}.weight": np.ascontiguousarray(matrix), f"{layer}.bias": bias}
        state = {"vocabulary": self.features_.vocabulary_, "single": bool(self.single_), "layers": len(self.weights_)}
        return state, {_WEIGHTS: save(arrays)}

    def restore(self, state: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Become the predictor whose :meth:`state` this is.

        Raises:
            ValueError, KeyError: the parts do not fit together.
        """
        from safetensors.numpy import load

        arrays = load(files[_WEIGHTS])
        self.features_ = StringFeatures.of(state["vocabulary"])
        self.single_ = bool(state["single"])
        self.centre_, self.spread_ = arrays["centre"], arrays["spread"]
        self.weights_ = [(arrays[f"{layer}.weight"], arrays[f"{layer}.bias"]) for layer in range(state["layers"])]
        if len(arrays) != 2 + 2 * len(self.weights_):
            raise ValueError(f"expected the arrays of {len(self.weights_)} layers, got {len(arrays)} arrays")
        self.predict(["input[1x1] output"])
