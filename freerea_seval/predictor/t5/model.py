"""The model ``t5``: a T5 encoder (Raffel 2020) from network strings to metrics, from scratch or pretrained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from freerea_patch import InputError, share_cores, unknown_name
from freerea_patch.training_free import check_device
from freerea_seval.predictor.features.dataflow import number_operations, strip_operands, token_offsets, word_tokenizer
from freerea_seval.predictor.features.vectorizer import check_strings
from freerea_seval.predictor.models.validation import SCALINGS, averaged, checked, scales
from freerea_seval.predictor.t5.vocabularies import TOKENIZER, content, vocabulary
from freerea_seval.strings.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

    from freerea_seval.predictor.models.torch_training import Indices, Inputs, Show
    from freerea_seval.predictor.t5.encoder import TextTokenizer

Values = npt.NDArray[np.float64]

#: The setting of the published predictor: t5-small's shape, accuracy and latency together as an ``(n, 2)`` target. Its
#: strings are those of :mod:`freerea_seval.strings.trace.sevalnas_format`;
#: ``python -m experiments.predictors.sevalnas_baseline`` trains it.
PUBLISHED: dict[str, Any] = {
    "d_model": 512,
    "layers": 6,
    "heads": 8,
    "d_ff": 2048,
    "dropout": 0.1,
    "epochs": 20,
    "batch_size": 16,
    "learning_rate": 5e-5,
    "loss": "mse",
    "schedule": "constant",
    "validation": 0.0,
    "max_tokens": 512,
    "scaling": "minmax",
}
#: A smaller validation part says less of an epoch than chance does, and is left with the training part.
_FEWEST_HELD_OUT = 8
_BATCH = 256
_WEIGHTS = "model.safetensors"


class T5Predictor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn regressor from network strings to one metric or several together.

    Equal strings are one sample with the mean of their values. The same parameters and data give the same predictor.

    Args:
        d_model, layers, heads, d_ff: shape of the encoder; with ``pretrained`` that of the weights stands.
        dropout: share of activations left out in training; with ``pretrained`` as well.
        epochs, batch_size, learning_rate, loss, schedule, patience, watch: see
            :class:`freerea_seval.predictor.models.torch_training.Plan`.
        validation: share of the different strings that early stopping judges by; 0, or a share of fewer than eight,
            trains on all and takes the last epoch.
        pretrained: folder that ``save_pretrained`` made of a T5 and its tokenizer, or a name of the Hugging Face hub:
            its weights are the start, and its tokenizer reads the strings as plain text. None to train from scratch.
        max_tokens: what a string has more is cut off.
        scaling: of each metric: ``"standard"`` (mean 0, standard deviation 1) or ``"minmax"`` (0 to 1).
        seed: fixes the first weights, the validation part, the batches and the dropout.
        device: of torch, for training and prediction.
        threads: CPU threads of torch; None for its own choice, which may change the last digits.

    Attributes:
        model_: the :class:`~freerea_seval.predictor.t5.encoder.StringEncoder`.
        tokenizer_: what reads the strings.
        centre_, scale_: of each metric, ``(m,)``.
        flat_: whether values are ``(n,)`` rather than ``(n, m)``.
        history_: what every epoch reached, a list of :class:`~freerea_seval.predictor.models.torch_checkpoints.Epoch`.
    """

    def __init__(
        self,
        d_model: int = 64,
        layers: int = 2,
        heads: int = 4,
        d_ff: int = 128,
        dropout: float = 0.0,
        epochs: int = 30,
        batch_size: int = 32,
        learning_rate: float = 2e-3,
        loss: str = "mse+ranking",
        schedule: str = "cosine",
        validation: float = 0.1,
        patience: int | None = None,
        watch: str = "tau",
        pretrained: str | None = None,
        max_tokens: int = 512,
        scaling: str = "standard",
        seed: int = 0,
        device: str = "cpu",
        threads: int | None = 1,
    ) -> None:
        self.d_model = d_model
        self.layers = layers
        self.heads = heads
        self.d_ff = d_ff
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.loss = loss
        self.schedule = schedule
        self.validation = validation
        self.patience = patience
        self.watch = watch
        self.pretrained = pretrained
        self.max_tokens = max_tokens
        self.scaling = scaling
        self.seed = seed
        self.device = device
        self.threads = threads

    def fit(
        self,
        strings: Sequence[str],
        y: npt.ArrayLike,
        *,
        show: Show | None = None,
        checkpoints: str | Path | None = None,
        events: str | Path | None = None,
    ) -> T5Predictor:
        """Learn metrics.

        Args:
            strings: ``(n,)`` network strings.
            y: ``(n,)`` values of a metric in its own unit, or ``(n, m)`` of several, NaN where it was not measured.
            show: is told the fraction done and a note, as :mod:`freerea_seval.progress` has it.
            checkpoints: folder for checkpoints; a training that broke off goes on from there, to the same result.
            events: folder for TensorBoard's event files.

        Raises:
            InputError: samples, parameters, folders or the device cannot be used, or a package is missing.
        """
        values = checked(strings, y)
        self._check()
        share_cores()
        from freerea_seval.predictor.models.torch_training import Plan, fit_module, torch_threads
        from freerea_seval.predictor.t5.encoder import (
            StringEncoder,
            TextTokenizer,
            drawing,
            load_encoder,
            make_encoder,
        )

        plan = Plan(
            self.epochs,
            self.batch_size,
            self.learning_rate,
            loss=self.loss,  # type: ignore[arg-type]
            schedule=self.schedule,  # type: ignore[arg-type]
            watch=self.watch,  # type: ignore[arg-type]
            patience=self.patience,
            seed=self.seed,
        )
        plan.check()
        self.flat_ = np.ndim(y) == 1
        self.centre_, self.scale_ = scales(values, self.scaling)
        different, targets = averaged(strings, (values - self.centre_) / self.scale_)
        with torch_threads(self.threads):
            self.tokenizer_: Tokenizer | TextTokenizer
            with drawing(self.seed):
                if self.pretrained is None:
                    self.tokenizer_ = word_tokenizer()
                    encoder = make_encoder(self._shape(len(self.tokenizer_)))
                else:
                    encoder = load_encoder(self.pretrained, self.dropout)
                    self.tokenizer_ = TextTokenizer.load(self.pretrained)
                self.model_ = StringEncoder(encoder, targets.shape[1], text=self.pretrained is not None)
            self.model_.to(check_device(self.device))
            inputs, _ = self._inputs(different)
            self.history_ = fit_module(
                self.model_,
                inputs,
                targets,
                self._held_out(len(different)),
                plan,
                show=show,
                checkpoints=checkpoints,
                events=events,
                identity=hashlib.sha256(json.dumps([different, self.max_tokens]).encode()).hexdigest(),
            )
        return self

    def predict(self, strings: Sequence[str]) -> Values:
        """Predict the metrics of ``(n,)`` network strings: ``(n,)`` or ``(n, m)`` in their units, as ``fit`` had them.

        Raises:
            InputError: these are no strings.
            sklearn.exceptions.NotFittedError: before :meth:`fit`.
        """
        check_is_fitted(self, "model_")
        found = self._ask(strings, self.model_, len(self.centre_)) * self.scale_ + self.centre_
        return found[:, 0] if self.flat_ else found

    def embed(self, strings: Sequence[str]) -> Values:
        """Return the encoder's vectors of ``(n,)`` network strings, ``(n, d)``: what the head reads the metrics from.

        Raises:
            InputError: these are no strings.
            sklearn.exceptions.NotFittedError: before :meth:`fit`.
        """
        check_is_fitted(self, "model_")
        return self._ask(strings, self.model_.pooled, self.model_.head.in_features)

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return what :meth:`restore` needs: what JSON can hold, and files by name.

        Raises:
            sklearn.exceptions.NotFittedError: before :meth:`fit`.
        """
        check_is_fitted(self, "model_")
        from freerea_seval.predictor.models.torch_checkpoints import packed, weights

        state = {
            "shape": self.model_.shape,
            "flat": self.flat_,
            "centre": self.centre_.tolist(),
            "scale": self.scale_.tolist(),
            "history": [asdict(epoch) for epoch in self.history_],
        }
        return state, {_WEIGHTS: packed(weights(self.model_)), TOKENIZER: content(self.tokenizer_)}

    def restore(self, state: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Become the predictor whose :meth:`state` this is; made with the same parameters.

        Raises:
            InputError: a part is missing, or does not fit the others or the parameters.
        """
        share_cores()
        from freerea_seval.predictor.models.torch_checkpoints import Epoch, load_weights, unpacked
        from freerea_seval.predictor.t5.encoder import SHAPE, StringEncoder, TextTokenizer, drawing, make_encoder

        try:
            shape = {name: state["shape"][name] for name in SHAPE}
            tensors = unpacked(files[_WEIGHTS])
            centre, scale = (np.array(state[name], dtype=np.float64) for name in ("centre", "scale"))
            history = [Epoch(**epoch) for epoch in state["history"]]
            flat, text = bool(state["flat"]), files[TOKENIZER]
            tokenizer = vocabulary(text) if self.pretrained is None else TextTokenizer(text)
            if centre.shape != scale.shape or centre.ndim != 1 or not np.isfinite([centre, scale]).all():
                raise ValueError("centre and scale should be lists of the same length")
            if flat and len(centre) != 1:
                raise ValueError(f"values are flat, and there are {len(centre)} metrics")
            size = tensors["encoder.shared.weight"].shape
            # Before an encoder is made that may be larger than the memory.
            if size != (shape["vocab_size"], shape["d_model"]):
                raise ValueError(f"the embedding is {tuple(size)} for {shape['vocab_size']} x {shape['d_model']}")
            if len(tokenizer) > size[0] or (self.pretrained is None and len(tokenizer) != size[0]):
                raise ValueError(f"the tokenizer has {len(tokenizer)} tokens, and the model {size[0]}")
            if self.pretrained is None and shape | self._shape(len(tokenizer)) != shape:
                raise ValueError("the shape is not the one that the parameters say")
            with drawing(self.seed):
                model = StringEncoder(make_encoder(shape), len(centre), text=self.pretrained is not None)
            load_weights(model, tensors)
        except InputError:
            raise
        except Exception as error:  # of JSON, safetensors, tokenizers and transformers, each with types of its own
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise InputError(f"the files of a t5 predictor do not fit together ({reason}); train it anew") from error
        self.tokenizer_, self.centre_, self.scale_, self.flat_, self.history_ = tokenizer, centre, scale, flat, history
        self.model_ = model.to(check_device(self.device)).eval()

    def _check(self) -> None:
        """Raise :class:`InputError` if a parameter of the network or of the values is of no use."""
        for name in ("d_model", "layers", "heads", "d_ff", "max_tokens"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{name}: expected a whole number of at least 1, got {value!r}")
        for name in ("dropout", "validation"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value < 1:
                raise InputError(f"{name}: expected a number of at least 0 and less than 1, got {value!r}")
        if self.d_model % (2 * self.heads):
            raise InputError(
                f"d_model: expected a multiple of twice the heads, got {self.d_model} for {self.heads} heads"
            )
        if self.scaling not in SCALINGS:
            raise unknown_name("scaling", self.scaling, SCALINGS)

    def _shape(self, vocabulary: int) -> dict[str, Any]:
        """Return the shape of an encoder with new weights; T5's own settings stand for the rest."""
        return {
            "vocab_size": vocabulary,
            "d_model": self.d_model,
            "d_kv": self.d_model // self.heads,
            "d_ff": self.d_ff,
            "num_layers": self.layers,
            "num_heads": self.heads,
            "dropout_rate": self.dropout,
        }

    def _held_out(self, count: int) -> Indices:
        """Return which of the different strings are the validation part."""
        share = round(self.validation * count)
        order = np.random.default_rng(self.seed).permutation(count)
        return np.sort(order[: share if share >= _FEWEST_HELD_OUT else 0])

    def _inputs(self, strings: Sequence[str]) -> tuple[Inputs, Indices]:
        """Return what gives the model's arguments for some of the strings, and the length of each."""
        import torch

        if isinstance(self.tokenizer_, Tokenizer):
            batch = self.tokenizer_(map(strip_operands, strings), max_length=self.max_tokens, truncate=True)
            places, reads = number_operations(self.tokenizer_, batch.ids, strings)
            widths = batch.attention_mask.sum(axis=1)
            lengths = places.max(axis=1, initial=1)
        else:
            batch = self.tokenizer_(strings, self.max_tokens)
            widths = lengths = batch.attention_mask.sum(axis=1)
            places, reads = np.zeros_like(batch.ids), np.zeros((*batch.ids.shape, 0), dtype=np.int64)
        values = np.stack([batch.values, token_offsets(places) * (batch.values != 0)], axis=2).astype(np.float32)

        def inputs(chosen: Indices) -> tuple[Tensor, ...]:
            # At least one, of padding if need be, because there is no mean of nothing.
            width, length = max(1, int(widths[chosen].max())), max(1, int(lengths[chosen].max()))
            mask = (np.arange(length) < lengths[chosen, None]).astype(np.int64)
            tokens = (array[chosen, :width] for array in (batch.ids, values, places))
            return tuple(torch.from_numpy(array) for array in (*tokens, reads[chosen, :length], mask))

        return inputs, lengths

    def _ask(self, strings: Sequence[str], part: Callable[..., Tensor], width: int) -> Values:
        """Return what a part of the model says of strings, ``(n, width)``: of equal ones once, the short ones first."""
        from freerea_seval.predictor.models.torch_training import in_batches, run, torch_threads

        place = {string: i for i, string in enumerate(dict.fromkeys(check_strings(strings)))}
        found = np.empty((len(place), width))
        if place:
            with torch_threads(self.threads):
                inputs, lengths = self._inputs(list(place))
                batches = in_batches(np.argsort(lengths, kind="stable"), _BATCH)
                found[np.concatenate(batches)] = run(self.model_, inputs, batches, part)
        return found[[place[string] for string in strings]]
