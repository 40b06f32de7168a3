"""Training of the T5 encoder by ``transformers.Trainer``: arguments, validation metrics, checkpoints, progress."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau
from torch.utils.data import Dataset

from freerea_patch import InputError
from freerea_seval.files import temporary_folder, write_atomically
from freerea_seval.predictor.models.registry import Show
from freerea_seval.predictor.t5.encoder import T5ForNetworkRegression
from freerea_seval.predictor.t5.tokenization import Example, collate

try:
    if find_spec("accelerate") is None:
        raise ImportError
    from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments
    from transformers.trainer_callback import PrinterCallback
    from transformers.trainer_utils import get_last_checkpoint
    from transformers.utils import logging
except ImportError:
    raise InputError(
        "training predictor 't5' needs the packages transformers and accelerate: pip install 'freerea-seval[t5]'"
    ) from None

Values = np.ndarray[Any, np.dtype[np.float64]]

_RECORD = "training.json"


def train(
    model: T5ForNetworkRegression,
    training: Dataset[Example],
    validation: Dataset[Example] | None,
    arguments: Mapping[str, Any],
    *,
    patience: int | None = None,
    checkpoints: Path | None = None,
    identity: str = "",
    show: Show | None = None,
) -> list[dict[str, float]]:
    """Train a model in place; it ends with the weights of the best epoch on the validation part, or of the last.

    Args:
        model: the model to train.
        training, validation: labelled examples; without ``validation`` there is neither choice of an epoch nor early
            stopping.
        arguments: for ``TrainingArguments``: hyper-parameters, seed and device.
        patience: stop after this number of epochs without improvement.
        checkpoints: folder of Trainer's checkpoints and, where tensorboard is installed, of its event files (``runs``).
            Training resumes from the last checkpoint in it. A checkpoint holds safetensors, JSON, and files that torch
            pickled: the state of the optimiser, of the schedule and of the random generators. Trainer reads these with
            ``weights_only=True``, so that they cannot run code.
        identity: a hash of data and parameters, by which checkpoints of another training are refused.
        show: is called with the completed fraction and a note.

    Returns:
        One record per epoch: ``epoch``, ``loss`` and, with a validation part, ``mse`` and ``tau``.

    Raises:
        InputError: the checkpoints cannot be used, or the loss became NaN or infinite.
    """
    if checkpoints is not None:
        _claim(checkpoints, identity)
    with temporary_folder() if checkpoints is None else nullcontext(checkpoints) as folder:
        trainer = Trainer(
            model,
            TrainingArguments(
                str(folder),
                **arguments,
                per_device_eval_batch_size=256,
                weight_decay=0.01,
                optim="adamw_torch",
                eval_strategy="no" if validation is None else "epoch",
                save_strategy="no" if validation is None and checkpoints is None else "epoch",
                save_only_model=checkpoints is None,
                save_total_limit=1,
                load_best_model_at_end=validation is not None,
                restore_callback_states_from_checkpoint=True,
                logging_strategy="epoch",
                logging_nan_inf_filter=False,
                report_to="tensorboard" if checkpoints is not None and find_spec("tensorboard") is not None else "none",
                disable_tqdm=True,
                dataloader_pin_memory=False,
                remove_unused_columns=False,
                label_names=["labels"],
            ),
            data_collator=collate,
            train_dataset=training,
            eval_dataset=validation,
            compute_metrics=lambda evaluated: validation_metrics(*map(np.asarray, evaluated)),
            callbacks=[_Progress(show)],
        )
        if patience is not None and validation is not None:
            trainer.add_callback(EarlyStoppingCallback(patience))
        trainer.remove_callback(PrinterCallback)
        last = get_last_checkpoint(str(folder))
        try:
            trainer.train(resume_from_checkpoint=last)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            if last is None or isinstance(error, InputError):
                raise
            raise InputError(
                f"checkpoints {checkpoints}: {Path(last).name} cannot be resumed ({str(error).partition(chr(10))[0]});"
                " delete it to resume from an earlier one, or the folder to train from the start"
            ) from error
        model.eval()
        return _history(trainer.state.log_history)


def validation_metrics(predicted: Values, values: Values) -> dict[str, float]:
    """Return ``mse``, and ``tau``, Kendall's tau-b averaged over the metrics that vary; arguments are ``(n, m)``."""
    measured = ~np.isnan(values)
    taus = []
    for column, rows in enumerate(measured.T):
        if rows.any() and np.ptp(values[rows, column]) > 0:
            tau = kendalltau(predicted[rows, column], values[rows, column]).statistic
            taus.append(0.0 if np.isnan(tau) else float(tau))  # NaN: all predictions are equal
    errors = (predicted[measured] - values[measured]) ** 2
    return {"mse": float(errors.mean()) if measured.any() else 0.0, "tau": float(np.mean(taus)) if taus else 0.0}


class _Progress(TrainerCallback):  # type: ignore[misc]
    """Reports every epoch to ``show`` and stops a training that diverged."""

    def __init__(self, show: Show | None) -> None:
        self._show = show

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if (loss := kwargs["logs"].get("loss")) is None:
            return
        if not math.isfinite(loss):
            raise InputError(
                f"the loss became {loss} in epoch {round(state.epoch)}; use a learning_rate below"
                f" {args.learning_rate:g}"
            )
        if self._show is not None:
            self._show(state.epoch / args.num_train_epochs, f"loss {loss:.3f}")


def _history(log: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """Return Trainer's log as one record per epoch, without run times, which differ between equal trainings."""
    records: dict[int, dict[str, float]] = {}
    for entry in log:
        record = records.setdefault(round(entry["epoch"]), {"epoch": round(entry["epoch"])})
        for name, key in (("loss", "loss"), ("eval_mse", "mse"), ("eval_tau", "tau")):
            if name in entry:
                record[key] = float(entry[name])
    return [records[epoch] for epoch in sorted(records)]


def fingerprint(*parts: Any) -> str:
    """Return a hash of what JSON can hold."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _claim(folder: Path, identity: str) -> None:
    """Write which training a folder of checkpoints belongs to.

    Raises:
        InputError: the folder belongs to another training, or cannot be used.
    """
    record = folder / _RECORD
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not record.exists():
            write_atomically(record, json.dumps({"training": identity}) + "\n")
        elif json.loads(record.read_bytes()) != {"training": identity}:
            raise InputError(
                f"checkpoints {folder}: from a training with other data or parameters; name another folder, or delete"
                " this one"
            )
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"checkpoints {folder}: cannot be used ({error}); name another folder") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' log and its progress bars, which appear for every file that is read or written."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def isolated_seed(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch, and afterwards restore all global random generators: Trainer seeds those of Python and NumPy, too."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Use this number of CPU threads in torch for a while; None changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if threads is None else threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
