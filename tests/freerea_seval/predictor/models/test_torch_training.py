"""The training of torch modules: losses, schedules, early stopping, checkpoints and events."""

from __future__ import annotations

import json
import math
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from freerea_patch import InputError
from freerea_seval.predictor.models.torch_checkpoints import Epoch, load_weights, packed, unpacked, weights
from freerea_seval.predictor.models.torch_training import (
    Plan,
    Values,
    _best,
    _rate,
    fit_module,
    in_batches,
    masked_loss,
    run,
    torch_threads,
)

NAN = float("nan")
X = torch.from_numpy(np.random.default_rng(0).standard_normal((60, 5)).astype(np.float32))
Y = np.stack([X[:, 0] - 2 * X[:, 1], X[:, 2].sin()], axis=1).astype(np.float64)
HELD_OUT = np.arange(48, 60)
PLAN = Plan(epochs=6, batch_size=8, learning_rate=1e-2)


def inputs(indices: Any) -> tuple[Tensor, ...]:
    return (X[torch.from_numpy(indices)],)


def module(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))


def said(network: nn.Module) -> Values:
    return run(network, inputs, in_batches(np.arange(60), 60))


def naive_loss(predicted: Tensor, targets: Tensor, ranking: bool) -> float:
    n, m = targets.shape
    there = [(i, c) for i in range(n) for c in range(m) if not math.isnan(targets[i, c])]
    total = sum(float(predicted[i, c] - targets[i, c]) ** 2 for i, c in there) / max(1, len(there))
    short = [
        max(0.0, min(0.1, float(targets[i, c] - targets[j, c])) - float(predicted[i, c] - predicted[j, c])) / 0.1
        for i, c in there
        for j, d in there
        if c == d and targets[i, c] > targets[j, c]
    ]
    return total + ranking * sum(short) / max(1, len(short))


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_the_masked_loss_equals_its_naive_twin(n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    predicted, targets = torch.randn(2, n, 3, generator=generator)
    targets[torch.rand(n, 3, generator=generator) < 0.3] = NAN
    assert masked_loss(predicted, targets, "mse").item() == pytest.approx(naive_loss(predicted, targets, False))
    found = masked_loss(predicted, targets, "mse+ranking").item()
    assert found == pytest.approx(naive_loss(predicted, targets, True), rel=1e-4)


def test_a_target_that_is_missing_has_no_gradient_and_a_perfect_prediction_no_loss() -> None:
    targets = torch.tensor([[1.0, NAN], [0.5, 2.0], [0.45, -1.0]])
    predicted = torch.zeros(3, 2, requires_grad=True)
    masked_loss(predicted, targets, "mse+ranking").backward()  # type: ignore[no-untyped-call]
    assert predicted.grad is not None
    assert predicted.grad[0, 1] == 0
    assert torch.isfinite(predicted.grad).all()
    assert masked_loss(targets[:, :1], targets[:, :1], "mse+ranking").item() == pytest.approx(0, abs=1e-6)


def test_training_learns_and_tells_of_every_epoch() -> None:
    told: list[tuple[float, str]] = []
    network = module()
    history = fit_module(network, inputs, Y, HELD_OUT, PLAN, show=lambda done, note: told.append((done, note)))
    assert len(history) == 6
    assert history[-1].error is not None
    assert history[0].error is not None
    assert history[-1].error < history[0].error
    assert [done for done, _ in told] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    assert told[-1][1] == f"loss {history[-1].loss:.3f}, tau {history[-1].tau:.3f}"
    assert not network.training


def test_the_seed_is_all_the_randomness_and_torchs_generator_is_left_alone() -> None:
    first, again, other = module(), module(), module()
    state = torch.random.get_rng_state()
    assert fit_module(first, inputs, Y, HELD_OUT, PLAN) == fit_module(again, inputs, Y, HELD_OUT, PLAN)
    assert torch.equal(torch.random.get_rng_state(), state)
    fit_module(other, inputs, Y, HELD_OUT, Plan(epochs=6, batch_size=8, learning_rate=1e-2, seed=1))
    assert np.array_equal(said(first), said(again))
    assert not np.array_equal(said(first), said(other))


def test_the_weights_of_the_best_epoch_stay() -> None:
    seen: list[Values] = []
    network = module()
    plan = Plan(epochs=8, batch_size=8, learning_rate=0.3, watch="loss", schedule="constant")
    history = fit_module(network, inputs, Y, HELD_OUT, plan, show=lambda done, note: seen.append(said(network)))
    errors = [epoch.error for epoch in history]
    best = errors.index(min(errors))  # type: ignore[type-var]
    assert best < 7, "the last epoch must not be the best for this to be a test"
    assert np.array_equal(said(network), seen[best])


def test_patience_ends_a_training_that_gets_no_better() -> None:
    plan = Plan(epochs=50, batch_size=8, learning_rate=0.3, patience=2, schedule="constant")
    history = fit_module(module(), inputs, Y, HELD_OUT, plan)
    assert len(history) == _best(history, plan) + 3 < 50


def test_without_a_validation_part_the_last_epoch_stands() -> None:
    plan = Plan(epochs=3, batch_size=8, learning_rate=1e-2, patience=1)
    history = fit_module(module(), inputs, Y, np.arange(0), plan)
    assert [(epoch.error, epoch.tau) for epoch in history] == [(None, None)] * 3


def test_the_best_epoch_is_the_first_of_equals_by_tau_and_then_by_error() -> None:
    plan = Plan(1, 1, 0.1)
    history = [Epoch(1, 0.5, 0.7), Epoch(1, 0.4, 0.8), Epoch(1, 0.3, 0.8), Epoch(1, 0.3, 0.8), Epoch(1, 0.2, 0.1)]
    assert _best(history, plan) == 2
    assert _best(history, Plan(1, 1, 0.1, watch="loss")) == 4
    assert _best([Epoch(1, 0.5), Epoch(1, 0.4), Epoch(1, 0.6)], plan) == 1


def test_the_cosine_rises_and_falls_and_a_plateau_halves() -> None:
    cosine = Plan(epochs=10, batch_size=1, learning_rate=1.0, schedule="cosine")
    past = [Epoch(1, 0.5, 0.5)]
    rates = [_rate(cosine, past * (step // 10), step % 10 / 10) for step in range(100)]
    assert 0 < rates[0] < 0.02
    assert rates == [*sorted(rates[:6]), *sorted(rates[6:], reverse=True)]
    assert rates[50] == pytest.approx(0.5)
    assert rates[-1] < 0.001
    plateau = Plan(epochs=10, batch_size=1, learning_rate=1.0, schedule="plateau")
    assert [_rate(plateau, past * count, 0) for count in (0, 1, 3, 4, 6, 7)] == [1, 1, 1, 0.5, 0.5, 0.25]
    assert _rate(plateau, [*past * 3, Epoch(1, 0.5, 0.6), *past * 2], 0) == 1


class StopError(Exception):
    """Stands for whatever ends a training early."""


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_a_training_that_broke_off_goes_on_to_the_same_result(schedule: Any, tmp_path: Path) -> None:
    def stop(done: float, note: str) -> None:
        if done > 0.4:
            raise StopError

    plan = Plan(epochs=6, batch_size=8, learning_rate=1e-2, schedule=schedule)
    whole, broken, resumed = module(), module(), module()
    expected = fit_module(whole, inputs, Y, HELD_OUT, plan)
    with pytest.raises(StopError):
        fit_module(broken, inputs, Y, HELD_OUT, plan, checkpoints=tmp_path / "new" / "here", show=stop)
    folder = tmp_path / "new" / "here"
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint.json", "epoch-3.safetensors"]
    told: list[float] = []
    found = fit_module(
        resumed, inputs, Y, HELD_OUT, plan, checkpoints=folder, show=lambda done, note: told.append(done)
    )
    assert len(told) == 3
    assert found == expected
    assert np.array_equal(said(resumed), said(whole))
    again = module()
    assert fit_module(again, inputs, Y, HELD_OUT, plan, checkpoints=folder) == expected, "it was finished"
    assert np.array_equal(said(again), said(whole))


def test_a_checkpoint_of_another_training_is_an_error_of_one_line(tmp_path: Path) -> None:
    fit_module(module(), inputs, Y, HELD_OUT, PLAN, checkpoints=tmp_path)
    other = Plan(epochs=6, batch_size=8, learning_rate=2e-2)
    for network, targets, plan, identity in (
        (module(), Y, other, ""),
        (module(1), Y, PLAN, ""),
        (module(), Y + 1, PLAN, ""),
        (module(), Y, PLAN, "other strings"),
    ):
        with pytest.raises(InputError, match=r"of a training with other data, settings or versions;.*another") as error:
            fit_module(network, inputs, targets, HELD_OUT, plan, checkpoints=tmp_path, identity=identity)
        assert "\n" not in str(error.value)


def tampered(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: tampered(folder / "epoch-6.safetensors"), r"epoch-6.safetensors has changed since"),
        (lambda folder: (folder / "epoch-6.safetensors").unlink(), r"No such file.*epoch-6.safetensors"),
        (lambda folder: (folder / "checkpoint.json").write_text("{"), r"damaged \("),
        (lambda folder: (folder / "checkpoint.json").write_text("[]"), r"damaged \("),
        (lambda folder: (folder / "checkpoint.json").write_text("{}"), r"damaged \('format'\)"),
    ],
)
def test_a_damaged_checkpoint_is_an_error_of_one_line(spoil: Any, message: str, tmp_path: Path) -> None:
    fit_module(module(), inputs, Y, HELD_OUT, PLAN, checkpoints=tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=message) as error:
        fit_module(module(), inputs, Y, HELD_OUT, PLAN, checkpoints=tmp_path)
    assert "\n" not in str(error.value)
    assert "delete the folder to train from the start" in str(error.value)


def test_checkpoints_that_cannot_be_written_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be"):
        fit_module(module(), inputs, Y, HELD_OUT, PLAN, checkpoints=tmp_path / "file" / "folder")


def test_a_checkpoint_file_is_json_and_holds_the_history(tmp_path: Path) -> None:
    history = fit_module(module(), inputs, Y, HELD_OUT, PLAN, checkpoints=tmp_path)
    record = json.loads((tmp_path / "checkpoint.json").read_text())
    assert [Epoch(**epoch) for epoch in record["history"]] == history


def test_events_need_tensorboard_and_say_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"^event files need the package tensorboard: pip install tensorboard$"):
        fit_module(module(), inputs, Y, HELD_OUT, PLAN, events=tmp_path)


def test_every_epoch_is_written_as_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, float, int]] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int) -> None:
            assert (folder, purge_step) == (str(tmp_path), 1)

        def add_scalar(self, name: str, value: float, number: int) -> None:
            written.append((name, value, number))

        def close(self) -> None:
            written.append(("closed", 0, 0))

    fake = types.ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    history = fit_module(module(), inputs, Y, HELD_OUT, PLAN, events=tmp_path)
    assert [value for name, value, _ in written if name == "tau"] == [epoch.tau for epoch in history]
    assert [number for name, _, number in written if name == "learning_rate"] == [1, 2, 3, 4, 5, 6]
    assert written[-1] == ("closed", 0, 0)


def test_tensorboard_reads_every_epoch_once_of_a_training_that_broke_off_and_went_on(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    told, kept = tmp_path / "events", tmp_path / "checkpoints"

    def broken(fraction: float, note: str) -> None:
        if fraction == 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_module(module(), inputs, Y, HELD_OUT, PLAN, show=broken, events=told, checkpoints=kept)
    history = fit_module(module(), inputs, Y, HELD_OUT, PLAN, events=told, checkpoints=kept)
    assert len(list(told.iterdir())) == 2
    events = reader.EventAccumulator(str(told)).Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "error", "tau", "learning_rate"}
    for name in ("loss", "error", "tau"):
        assert [event.step for event in events.Scalars(name)] == [1, 2, 3, 4, 5, 6]
        found = [event.value for event in events.Scalars(name)]
        assert found == pytest.approx([getattr(epoch, name) for epoch in history], rel=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, r"^epochs: expected a whole number of at least 1, got 0$"),
        ({"batch_size": 2.5}, r"^batch_size: expected a whole number of at least 1, got 2.5$"),
        ({"patience": 0}, r"^patience: expected a whole number of at least 1, got 0$"),
        ({"learning_rate": 0}, r"^learning_rate: expected a number of more than 0, got 0$"),
        ({"learning_rate": NAN}, r"^learning_rate: expected a number of more than 0, got nan$"),
        ({"weight_decay": -1}, r"^weight_decay: expected a number of at least 0, got -1$"),
        ({"loss": "msa"}, r"^unknown loss 'msa'; did you mean 'mse'\? Valid: mse, mse\+ranking$"),
        ({"schedule": "linear"}, r"^unknown schedule 'linear'. Valid: constant, cosine, plateau$"),
        ({"watch": "time"}, r"^unknown watch 'time'. Valid: loss, tau$"),
    ],
)
def test_a_plan_that_cannot_be_followed_is_named(change: dict[str, Any], message: str) -> None:
    plan = Plan(**{"epochs": 1, "batch_size": 1, "learning_rate": 0.1, **change})
    with pytest.raises(InputError, match=message):
        fit_module(module(), inputs, Y, HELD_OUT, plan)


def test_nothing_to_train_on_and_a_loss_that_explodes_are_errors() -> None:
    with pytest.raises(InputError, match="leaves nothing to train on; make it smaller"):
        fit_module(module(), inputs, Y, np.arange(60), PLAN)
    with pytest.raises(InputError, match=r"the loss became (nan|inf) in epoch 1; take a learning_rate below 1e\+30"):
        fit_module(module(), inputs, Y, HELD_OUT, Plan(epochs=2, batch_size=8, learning_rate=1e30))


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with torch_threads(2):
        assert torch.get_num_threads() == 2
    with torch_threads(None):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before
    with (
        pytest.raises(InputError, match=r"threads: expected a whole number of at least 1 or None, got 0"),
        torch_threads(0),
    ):
        pass


def test_weights_go_through_bytes_and_only_into_their_own_shape() -> None:
    first, second = module(0), module(1)
    found = unpacked(packed(weights(first)))
    load_weights(second, found)
    assert np.array_equal(said(first), said(second))
    name = "0.weight"
    for change, message in (
        ({name: torch.zeros(16, 4)}, r"0.weight should be torch.float32 of shape \(16, 5\), got .* \(16, 4\); train"),
        ({name: torch.zeros(16, 5).double()}, r"0.weight should be torch.float32 .*, got torch.float64"),
        ({name: torch.full((16, 5), NAN)}, r"0.weight has values that are NaN or infinite"),
        ({"odd": torch.zeros(1)}, r"1 names are missing or unknown, the first 'odd'"),
    ):
        with pytest.raises(InputError, match=message):
            load_weights(second, found | change)
    assert np.array_equal(said(first), said(second)), "an error changes nothing"
