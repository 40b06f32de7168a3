"""The model ``t5``: a T5 encoder (Raffel 2020) from network strings to metrics, from scratch or pretrained."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from freerea_patch import InputError, share_cores, unknown_name
from freerea_patch.training_free import check_device
from freerea_seval.predictor.features.dataflow import word_tokenizer
from freerea_seval.predictor.features.vectorizer import check_strings
from freerea_seval.predictor.models.losses import LOSSES
from freerea_seval.predictor.models.validation import SCALINGS, StringRegressor, averaged, checked, scales

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast

    from freerea_seval.predictor.models.registry import Show
    from freerea_seval.strings.text.tokenizer import Tokenizer

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

#: The setting of SEval-NAS (arXiv 2603.00099): t5-small's shape; accuracy and latency together, an ``(n, 2)`` target.
#: Its strings are those of :mod:`freerea_seval.strings.trace.sevalnas_format`;
#: ``python -m experiments.predictors.sevalnas_baseline`` trains it.
PUBLISHED: dict[str, Any] = {
    "d_model": 512,
    "num_layers": 6,
    "num_heads": 8,
    "d_ff": 2048,
    "dropout_rate": 0.1,
    "epochs": 20,
    "batch_size": 16,
    "learning_rate": 5e-5,
    "loss": "mse",
    "lr_scheduler_type": "constant",
    "validation": 0.0,
    "max_tokens": 512,
    "scaling": "minmax",
}
SCHEDULES = ("cosine", "linear", "constant")
#: A validation part of fewer strings says less about an epoch than chance, and is trained on instead.
_MIN_VALIDATION = 8
_BATCH = 256
#: More threads than this crash torch.
_MOST = {"threads": 1024}
_CONFIG, _WEIGHTS, _TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"


class T5Predictor(StringRegressor):
    """A scikit-learn regressor from network strings to one metric or to several together.

    Equal strings are one sample with the mean of their values. Equal parameters and data give the same predictor.
    Training is that of ``transformers.Trainer``; see :func:`freerea_seval.predictor.t5.training.train`.

    Args:
        d_model, num_layers, num_heads, d_ff: shape of the encoder, as in ``T5Config``; ignored with ``pretrained``.
        dropout_rate: dropout in training, also with ``pretrained``.
        epochs, batch_size, learning_rate, lr_scheduler_type: of AdamW; the schedule is ``"cosine"`` or ``"linear"``,
            both with a short warm-up, or ``"constant"``.
        loss: ``"mse"`` or ``"mse+ranking"``, which adds a pairwise ranking loss within each batch.
        validation: share of the distinct strings by which the best epoch is chosen; with 0, or a share of fewer than
            eight strings, all are trained on and the last epoch is kept.
        patience: stop after this number of epochs without improvement on the validation part; None to never stop early.
        metric_for_best_model: ``"tau"``, Kendall's tau-b averaged over the metrics, or ``"mse"``.
        pretrained: folder with a T5 and its tokenizer, as ``save_pretrained`` writes them, or name of a model of the
            Hugging Face hub. Training starts from its weights, and its tokenizer reads the strings as plain text. None
            to train from scratch.
        max_tokens: longer strings are truncated.
        scaling: of each metric: ``"standard"`` (mean 0, standard deviation 1) or ``"minmax"`` (0 to 1).
        seed: fixes the initial weights, the validation part, the batches and the dropout.
        device: torch's device for training and prediction.
        threads: CPU threads of torch; None for torch's own choice, which may change the last digits.

    Attributes:
        model_: the :class:`~freerea_seval.predictor.t5.encoder.T5ForNetworkRegression`.
        tokenizer_: the tokenizer.
        centre_, scale_: of each metric, ``(m,)``.
        flat_: whether values are ``(n,)`` rather than ``(n, m)``.
        history_: ``epoch``, ``loss`` and, with a validation part, ``mse`` and ``tau`` of every epoch.
    """

    def __init__(
        self,
        d_model: int = 64,
        num_layers: int = 2,
        num_heads: int = 4,
        d_ff: int = 128,
        dropout_rate: float = 0.0,
        epochs: int = 30,
        batch_size: int = 32,
        learning_rate: float = 2e-3,
        loss: str = "mse+ranking",
        lr_scheduler_type: str = "cosine",
        validation: float = 0.1,
        patience: int | None = None,
        metric_for_best_model: str = "tau",
        pretrained: str | None = None,
        max_tokens: int = 512,
        scaling: str = "standard",
        seed: int = 0,
        device: str = "cpu",
        threads: int | None = 1,
    ) -> None:
        self.d_model = d_model
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.d_ff = d_ff
        self.dropout_rate = dropout_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.loss = loss
        self.lr_scheduler_type = lr_scheduler_type
        self.validation = validation
        self.patience = patience
        self.metric_for_best_model = metric_for_best_model
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
    ) -> T5Predictor:
        """Train on network strings.

        Args:
            strings: ``(n,)`` network strings.
            y: ``(n,)`` values of a metric in its own unit, or ``(n, m)`` of several, NaN where one was not measured.
            show: is called with the completed fraction and a note, as in :mod:`freerea_seval.progress`.
            checkpoints: folder for checkpoints and TensorBoard's event files; an interrupted training resumes from
                there, to the same result.

        Raises:
            InputError: samples, parameters, folder or device cannot be used, or a package is missing.
        """
        values = checked(strings, y)
        self._check()
        share_cores()
        from freerea_seval.predictor.t5.encoder import load_pretrained, make_model
        from freerea_seval.predictor.t5.tokenization import NetworkDataset
        from freerea_seval.predictor.t5.training import fingerprint, isolated_seed, quiet, torch_threads, train

        device = check_device(self.device)
        self.flat_ = np.ndim(y) == 1
        self.centre_, self.scale_ = scales(values, self.scaling)
        distinct, targets = averaged(strings, (values - self.centre_) / self.scale_)
        metrics = targets.shape[1]
        with torch_threads(self.threads), isolated_seed(self.seed, device), quiet():
            if self.pretrained is None:
                self.tokenizer_: Tokenizer | PreTrainedTokenizerFast = word_tokenizer()
                self.model_ = make_model(len(self.tokenizer_), metrics, self.loss, **self._shape())
            else:
                self.model_, self.tokenizer_ = load_pretrained(self.pretrained, metrics, self.loss, self.dropout_rate)
            validation = self._validation_part(len(distinct))
            varies = any(len(np.unique(column[~np.isnan(column)])) > 1 for column in targets[validation].T)
            metric = self.metric_for_best_model if varies else "mse"  # tau is undefined where nothing varies

            def dataset(rows: Indices) -> NetworkDataset:
                chosen = [distinct[row] for row in rows]
                return NetworkDataset(self.tokenizer_, chosen, self.max_tokens, targets[rows])

            parameters = {k: v for k, v in self.get_params().items() if k not in ("device", "threads")}
            self.history_ = train(
                self.model_,
                dataset(np.setdiff1d(np.arange(len(distinct)), validation)),
                dataset(validation) if len(validation) else None,
                {
                    "num_train_epochs": self.epochs,
                    "per_device_train_batch_size": self.batch_size,
                    "learning_rate": self.learning_rate,
                    "lr_scheduler_type": self.lr_scheduler_type,
                    "warmup_steps": 0.0 if self.lr_scheduler_type == "constant" else 0.05,  # share of all steps
                    "metric_for_best_model": metric,
                    "greater_is_better": metric == "tau",
                    "seed": self.seed,
                    "use_cpu": device.type == "cpu",
                },
                patience=self.patience,
                checkpoints=None if checkpoints is None else Path(checkpoints),
                identity=fingerprint(parameters, distinct, targets.tolist()),
                show=show,
            )
        return self

    def predict(self, strings: Sequence[str]) -> Values:
        """Predict the metrics of ``(n,)`` network strings, in their units: ``(n,)`` or ``(n, m)``, as in :meth:`fit`.

        Raises:
            InputError: these are not strings.
            sklearn.exceptions.NotFittedError: before :meth:`fit`.
        """
        check_is_fitted(self, "model_")
        standardised = self._evaluate(strings, lambda **inputs: self.model_(**inputs).logits, len(self.centre_))
        predicted = standardised * self.scale_ + self.centre_
        return predicted[:, 0] if self.flat_ else predicted

    def embed(self, strings: Sequence[str]) -> Values:
        """Return the pooled vectors of ``(n,)`` network strings, ``(n, d_model)``, which the regression head reads.

        Raises:
            InputError: these are not strings.
            sklearn.exceptions.NotFittedError: before :meth:`fit`.
        """
        check_is_fitted(self, "model_")
        return self._evaluate(strings, self.model_.pooled, self.model_.config.d_model)

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return what :meth:`restore` needs: a JSON object, and the files ``config.json`` (of transformers),
        ``model.safetensors`` and ``tokenizer.json``.

        Raises:
            sklearn.exceptions.NotFittedError: before :meth:`fit`.
        """
        check_is_fitted(self, "model_")
        import safetensors.torch

        from freerea_seval.predictor.t5.tokenization import to_bytes

        state = {
            "flat": self.flat_,
            "centre": self.centre_.tolist(),
            "scale": self.scale_.tolist(),
            "history": self.history_,
        }
        weights = {name: parameter.detach().cpu().contiguous() for name, parameter in self.model_.named_parameters()}
        return state, {
            _CONFIG: self.model_.config.to_json_string().encode(),
            _WEIGHTS: safetensors.torch.save(weights),
            _TOKENIZER: to_bytes(self.tokenizer_),
        }

    def restore(self, state: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Become the predictor whose :meth:`state` this is; it must have been made with the same parameters.

        Raises:
            InputError: a part is missing, or does not fit the others or the parameters; or a parameter cannot be used.
        """
        share_cores()
        import safetensors.torch

        from freerea_seval.predictor.t5.encoder import load_weights
        from freerea_seval.predictor.t5.tokenization import from_bytes

        self._check()
        text = self.pretrained is not None
        try:
            model = load_weights(json.loads(files[_CONFIG]), safetensors.torch.load(files[_WEIGHTS]))
            tokenizer = from_bytes(files[_TOKENIZER], text=text)
            centre, scale = (np.array(state[name], dtype=np.float64) for name in ("centre", "scale"))
            history, flat = list(state["history"]), bool(state["flat"])
            if not centre.shape == scale.shape == (model.config.num_labels,) or not np.isfinite([centre, scale]).all():
                raise ValueError(f"centre and scale must be {model.config.num_labels} finite numbers each")
            if flat and len(centre) != 1:
                raise ValueError(f"values are flat, but there are {len(centre)} metrics")
            if text == model.config.operations:
                raise ValueError("the parameter pretrained is not that of the training")
            if len(tokenizer) > (size := model.config.vocab_size) or (not text and len(tokenizer) != size):
                raise ValueError(f"the tokenizer has {len(tokenizer)} tokens, but the model {size}")
        except Exception as error:  # JSON, safetensors, tokenizers and transformers have error types of their own
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise InputError(f"the files of a t5 predictor do not fit together ({reason}); train it anew") from error
        self.tokenizer_, self.centre_, self.scale_, self.flat_, self.history_ = tokenizer, centre, scale, flat, history
        model.to(check_device(self.device))
        self.model_ = model.eval()

    def _check(self) -> None:
        """Raise :class:`InputError` for a parameter that cannot be used."""
        for name in ("d_model", "num_layers", "num_heads", "d_ff", "max_tokens", "epochs", "batch_size"):
            _check_count(name, getattr(self, name))
        for name in ("patience", "threads"):
            if getattr(self, name) is not None:
                _check_count(name, getattr(self, name))
        for name in ("dropout_rate", "validation"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value < 1:
                raise InputError(f"{name}: expected a number of at least 0 and less than 1, got {value!r}")
        if not isinstance(self.learning_rate, (int, float)) or not 0 < self.learning_rate < np.inf:
            raise InputError(f"learning_rate: expected a number of more than 0, got {self.learning_rate!r}")
        if self.d_model % (2 * self.num_heads):
            raise InputError(f"d_model: expected a multiple of 2 * num_heads, {2 * self.num_heads}, got {self.d_model}")
        for name, valid in (
            ("scaling", SCALINGS),
            ("loss", LOSSES),
            ("lr_scheduler_type", SCHEDULES),
            ("metric_for_best_model", ("tau", "mse")),
        ):
            if getattr(self, name) not in valid:
                raise unknown_name(name, getattr(self, name), valid)

    def _shape(self) -> dict[str, Any]:
        """Return the fields of ``T5Config`` that give a new encoder its shape."""
        return {
            "d_model": self.d_model,
            "d_kv": self.d_model // self.num_heads,
            "d_ff": self.d_ff,
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "dropout_rate": self.dropout_rate,
        }

    def _validation_part(self, count: int) -> Indices:
        """Return the indices of the strings that are held out for validation."""
        share = min(round(self.validation * count), count - 1)
        order = np.random.default_rng(self.seed).permutation(count)
        return np.sort(order[: share if share >= _MIN_VALIDATION else 0])

    def _evaluate(self, strings: Sequence[str], part: Callable[..., Tensor], width: int) -> Values:
        """Return a part of the model's outputs, ``(n, width)``; equal strings are evaluated once, sorted by length."""
        import torch
        from torch.utils.data import DataLoader, Subset

        from freerea_seval.predictor.t5.tokenization import NetworkDataset, collate
        from freerea_seval.predictor.t5.training import torch_threads

        rows = {string: row for row, string in enumerate(dict.fromkeys(check_strings(strings)))}
        outputs = np.empty((len(rows), width))
        if rows:
            dataset = NetworkDataset(self.tokenizer_, list(rows), self.max_tokens)
            order = np.argsort(dataset.lengths, kind="stable")
            batches = DataLoader(Subset(dataset, order.tolist()), _BATCH, collate_fn=collate)
            device = self.model_.device
            with torch_threads(self.threads), torch.inference_mode():
                computed = [part(**{k: v.to(device) for k, v in batch.items()}).double().cpu() for batch in batches]
            outputs[order] = torch.cat(computed).numpy()
        return outputs[[rows[string] for string in strings]]


def _check_count(name: str, value: object) -> None:
    if not isinstance(value, int) or not 1 <= value <= _MOST.get(name, value):
        most = f" and at most {_MOST[name]}" if name in _MOST else ""
        raise InputError(f"{name}: expected a whole number of at least 1{most}, got {value!r:.40}")
