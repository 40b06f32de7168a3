"""The training of torch modules that predict metrics: seeded, masked, with early stopping, checkpoints and events.

Every epoch draws its batches and its dropout from the seed and its own number, and learning rates follow from what
the epochs before have reached; so weights, the optimiser's moments and that history are all that a checkpoint needs.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from freerea_patch import InputError, unknown_name
from freerea_seval.predictor.models.torch_checkpoints import Checkpoints, Epoch, load_weights, packed, weights

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
#: From the indices of samples to the arguments of the module.
Inputs = Callable[[Indices], tuple[Tensor, ...]]
Show = Callable[[float, str], None]
Loss = Literal["mse", "mse+ranking"]
Schedule = Literal["cosine", "plateau", "constant"]
Watch = Literal["tau", "loss"]

#: Pairs of standardised values that differ by more than this should be predicted as far apart, and no farther.
_MARGIN = 0.1
#: Longest gradient.
_CLIP = 1.0
#: Share of the steps over which the cosine schedule warms up.
_WARM = 0.05
#: The plateau schedule halves the learning rate after so many epochs without improvement.
_PLATEAU = 3


@dataclass(frozen=True)
class Plan:
    """How to train.

    Attributes:
        epochs: passes over the training samples.
        batch_size: samples a step.
        learning_rate, weight_decay: of AdamW (Loshchilov 2019).
        loss: ``"mse"``, or ``"mse+ranking"`` with a hinge on the differences within a batch beside it.
        schedule: of the learning rate: ``"cosine"`` after a short rise, ``"plateau"`` (halved after three epochs
            without improvement) or ``"constant"``.
        watch: what says on the validation part which epoch is best: Kendall's tau-b, the mean over metrics, or the
            squared error.
        patience: stop after so many epochs without improvement; None for never.
        seed: fixes the batches and the dropout.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.01
    loss: Loss = "mse+ranking"
    schedule: Schedule = "cosine"
    watch: Watch = "tau"
    patience: int | None = None
    seed: int = 0

    def check(self) -> None:
        """Raise :class:`InputError` if a value is none that training could use."""
        for name in ("epochs", "batch_size", "patience"):
            value = getattr(self, name)
            if not (isinstance(value, int) and value >= 1) and not (name == "patience" and value is None):
                raise InputError(f"{name}: expected a whole number of at least 1, got {value!r}")
        for name, least in (("learning_rate", "more than 0"), ("weight_decay", "at least 0")):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value < math.inf or (value == 0 and "more" in least):
                raise InputError(f"{name}: expected a number of {least}, got {value!r}")
        for name, valid in (("loss", get_args(Loss)), ("schedule", get_args(Schedule)), ("watch", get_args(Watch))):
            if getattr(self, name) not in valid:
                raise unknown_name(name, getattr(self, name), valid)


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Give torch so many threads for a while; None leaves them as they are."""
    before = torch.get_num_threads()
    if threads is not None:
        if not isinstance(threads, int) or threads < 1:
            raise InputError(f"threads: expected a whole number of at least 1 or None, got {threads!r}")
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run(module: nn.Module, inputs: Inputs, batches: list[Indices], part: Callable[..., Tensor] | None = None) -> Values:
    """Return what a module, or a part of it, says of samples, batch after batch: no dropout, no gradients.

    Returns:
        ``(n, m)``, in the order of the batches.
    """
    module.eval()
    place = next(module.parameters()).device
    with torch.inference_mode():
        found = [(part or module)(*(tensor.to(place) for tensor in inputs(batch))) for batch in batches]
        return np.asarray(torch.cat(found).double().cpu().numpy(), dtype=np.float64)


def in_batches(indices: Indices, size: int) -> list[Indices]:
    """Return indices cut into batches of at most ``size``."""
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def masked_loss(predicted: Tensor, targets: Tensor, loss: Loss) -> Tensor:
    """Return the loss of standardised predictions, both ``(n, m)``; a target that is NaN has no part in it.

    The ranking part is a hinge on pairs (Herbrich 2000): of two samples, the better one should be predicted above
    the other by their difference, or by a tenth of a standard deviation if that is less. A perfect prediction loses
    nothing, so that it does not work against the squared error.
    """
    known = ~torch.isnan(targets)
    y = torch.where(known, targets, torch.zeros_like(targets))
    squared = ((predicted - y).square() * known).sum() / known.sum().clamp(min=1)
    if loss == "mse":
        return squared
    apart = y.unsqueeze(1) - y.unsqueeze(0)
    pairs = (apart > 0) & known.unsqueeze(1) & known.unsqueeze(0)
    short = apart.clamp(max=_MARGIN) - (predicted.unsqueeze(1) - predicted.unsqueeze(0))
    return squared + (short.relu() * pairs).sum() / pairs.sum().clamp(min=1) / _MARGIN


def fit_module(
    module: nn.Module,
    inputs: Inputs,
    targets: Values,
    held_out: Indices,
    plan: Plan,
    *,
    show: Show | None = None,
    checkpoints: str | Path | None = None,
    events: str | Path | None = None,
    identity: str = "",
) -> list[Epoch]:
    """Train a module where it is; it is left in evaluation mode, with the weights of the best epoch.

    Args:
        module: maps ``inputs`` of ``(n,)`` samples to ``(n, m)``.
        inputs: gives the module's arguments for samples, on any device.
        targets: ``(n, m)`` standardised values, NaN where there is none.
        held_out: the samples of the validation part; without any, the last epoch is the best.
        plan: how to train.
        show: is told the fraction done and a note after every epoch.
        checkpoints: folder for checkpoints; training goes on from the one in there, to the same result.
        events: folder for TensorBoard's event files.
        identity: what, beside the arguments above, makes a checkpoint this training's: a hash of the inputs.

    Returns:
        What every epoch reached.

    Raises:
        InputError: a setting or the folder cannot be used, tensorboard is not installed, or the loss has become NaN.
    """
    plan.check()
    training = np.setdiff1d(np.arange(len(targets)), held_out)
    if not len(training):
        raise InputError("the validation part leaves nothing to train on; make it smaller")
    store = None
    if checkpoints is not None:
        store = Checkpoints(Path(checkpoints), _fingerprint(module, targets, held_out, plan, identity))
    place = next(module.parameters()).device
    expected = torch.from_numpy(targets.astype(np.float32)).to(place)
    optimizer = torch.optim.AdamW(module.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
    history: list[Epoch] = []
    best = weights(module)
    if store is not None and (found := store.load(module, optimizer)) is not None:
        history, best = found
    with _writer(events, len(history)) as write, _fork(place):
        while not _done(history, plan):
            generator = np.random.default_rng((plan.seed, len(history)))
            torch.manual_seed(int(generator.integers(2**62)))
            batches = in_batches(generator.permutation(training), plan.batch_size)
            module.train()
            total = torch.zeros((), device=place)
            for step, batch in enumerate(batches):
                for group in optimizer.param_groups:
                    group["lr"] = _rate(plan, history, step / len(batches))
                predicted = module(*(tensor.to(place) for tensor in inputs(batch)))
                loss = masked_loss(predicted, expected[torch.from_numpy(batch)], plan.loss)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(module.parameters(), _CLIP)
                optimizer.step()
                total += loss.detach()
            if not math.isfinite(total.item()):
                raise InputError(
                    f"the loss became {total.item()} in epoch {len(history) + 1};"
                    f" take a learning_rate below {plan.learning_rate:g}"
                )
            error, tau = None, None
            if len(held_out):
                error, tau = _validate(run(module, inputs, in_batches(held_out, 256)), targets[held_out])
            history.append(Epoch(total.item() / len(batches), error, tau))
            if _best(history, plan) == len(history) - 1:
                best = weights(module)
            write(history[-1], _rate(plan, history[:-1], 1.0), len(history))
            if store is not None:
                store.save(module, optimizer, history, best)
            if show is not None:
                show(len(history) / plan.epochs, _note(history[-1]))
    load_weights(module, best)
    module.eval()
    return history


def _rate(plan: Plan, history: list[Epoch], within: float) -> float:
    """Return the learning rate after the epochs of ``history`` and a part of the next."""
    if plan.schedule == "plateau":
        halvings = waited = 0
        for count in range(1, len(history) + 1):
            waited = 0 if _best(history[:count], plan) == count - 1 else waited + 1
            if waited == _PLATEAU:
                halvings, waited = halvings + 1, 0
        return float(plan.learning_rate * 0.5**halvings)
    if plan.schedule == "cosine":
        done = (len(history) + within) / plan.epochs
        # Never nothing, so that a training of few steps moves from the first.
        rise = min(1.0, max(done, 0.01 * _WARM) / _WARM)
        return plan.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * done))
    return plan.learning_rate


def _best(history: list[Epoch], plan: Plan) -> int:
    """Return the place of the best epoch: the first of equals, and the last of all without a validation part."""

    def rank(place: int) -> tuple[float, ...]:
        epoch = history[place]
        if epoch.error is None:
            return (place,)
        if plan.watch == "loss" or epoch.tau is None:
            return (-epoch.error, -place)
        return (epoch.tau, -epoch.error, -place)

    return max(range(len(history)), key=rank)


def _done(history: list[Epoch], plan: Plan) -> bool:
    if not history or len(history) >= plan.epochs:
        return bool(history)
    return plan.patience is not None and len(history) - 1 - _best(history, plan) >= plan.patience


def _validate(predicted: Values, values: Values) -> tuple[float, float | None]:
    """Return the squared error and tau; the latter is None where no metric differs."""
    from scipy.stats import kendalltau

    known = ~np.isnan(values)
    error = float(np.mean((predicted[known] - values[known]) ** 2)) if known.any() else 0.0
    taus = []
    for column, there in enumerate(known.T):
        if there.any() and np.ptp(values[there, column]) > 0:
            tau = kendalltau(predicted[there, column], values[there, column]).statistic
            taus.append(0.0 if np.isnan(tau) else float(tau))  # NaN: all predictions are equal
    return error, float(np.mean(taus)) if taus else None


def _note(epoch: Epoch) -> str:
    return f"loss {epoch.loss:.3f}" + (f", tau {epoch.tau:.3f}" if epoch.tau is not None else "")


@contextmanager
def _fork(place: torch.device) -> Iterator[None]:
    """Leave torch's generators as they were."""
    with torch.random.fork_rng([place] if place.type == "cuda" else []):
        yield


@contextmanager
def _writer(folder: str | Path | None, epochs: int) -> Iterator[Callable[[Epoch, float, int], None]]:
    """Yield what writes an epoch, its last learning rate and its number as events; after ``epochs`` older ones."""
    if folder is None:
        yield lambda epoch, rate, number: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("event files need the package tensorboard: pip install tensorboard") from None

    def write(epoch: Epoch, rate: float, number: int) -> None:
        for name, value in (*asdict(epoch).items(), ("learning_rate", rate)):
            if value is not None:
                writer.add_scalar(name, value, number)

    # What a training that broke off wrote after its last checkpoint is written anew.
    writer = SummaryWriter(str(folder), purge_step=epochs + 1)
    try:
        yield write
    finally:
        writer.close()


def _fingerprint(module: nn.Module, targets: Values, held_out: Indices, plan: Plan, identity: str) -> str:
    digest = hashlib.sha256(json.dumps([asdict(plan), targets.shape, identity]).encode())
    digest.update(targets.tobytes())
    digest.update(held_out.astype(np.int64).tobytes())
    digest.update(packed(weights(module)))
    return digest.hexdigest()
