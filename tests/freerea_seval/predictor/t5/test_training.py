"""Training by transformers' Trainer: the best epoch, early stopping, checkpoints, events, random generators."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from freerea_patch import InputError
from freerea_seval.predictor.t5.estimator import T5Predictor
from freerea_seval.predictor.t5.training import isolated_seed, torch_threads, validation_metrics

NAN = float("nan")
TINY: dict[str, Any] = {"d_model": 8, "num_layers": 1, "num_heads": 2, "d_ff": 8, "epochs": 4}


class StopError(Exception):
    """Stands for whatever interrupts a training."""


def stop_at(fraction: float) -> Any:
    def show(done: float, note: str) -> None:
        if done >= fraction:
            raise StopError

    return show


def test_training_learns_and_reports_every_epoch(strings: list[str], values: list[float]) -> None:
    reports: list[tuple[float, str]] = []
    predictor = T5Predictor(**TINY).fit(strings, values, show=lambda done, note: reports.append((done, note)))
    assert [record["epoch"] for record in predictor.history_] == [1, 2, 3, 4]
    assert predictor.history_[-1]["mse"] < predictor.history_[0]["mse"]
    assert [done for done, _ in reports] == [0.25, 0.5, 0.75, 1]
    assert reports[-1][1] == f"loss {predictor.history_[-1]['loss']:.3f}"
    assert not predictor.model_.training


@pytest.mark.parametrize(("metric", "sign"), [("mse", -1), ("tau", 1)])
def test_the_weights_of_the_best_epoch_are_kept(
    metric: str, sign: int, strings: list[str], values: list[float]
) -> None:
    settings = TINY | {"epochs": 8, "learning_rate": 0.03, "lr_scheduler_type": "constant", "validation": 0.3}
    predictor = T5Predictor(**settings, metric_for_best_model=metric).fit(strings, values)
    held_out = predictor._validation_part(len(strings))
    predicted = (predictor.predict([strings[i] for i in held_out]) - predictor.centre_) / predictor.scale_
    standardised = (np.array(values)[held_out] - predictor.centre_) / predictor.scale_
    reached = validation_metrics(predicted[:, None], standardised[:, None])[metric]
    scores = [record[metric] for record in predictor.history_]
    assert scores.index(sign * max(sign * score for score in scores)) < 7, "the test needs an earlier best epoch"
    assert reached == pytest.approx(sign * max(sign * score for score in scores), rel=1e-4)


def test_patience_stops_a_training_that_does_not_improve(strings: list[str], values: list[float]) -> None:
    settings = TINY | {"epochs": 40, "learning_rate": 0.1, "lr_scheduler_type": "constant", "patience": 2}
    predictor = T5Predictor(**settings, validation=0.3).fit(strings, values)
    taus = [record["tau"] for record in predictor.history_]
    assert len(taus) == taus.index(max(taus)) + 3 < 40


def test_without_a_validation_part_the_last_epoch_is_kept(strings: list[str], values: list[float]) -> None:
    predictor = T5Predictor(**TINY, validation=0, patience=1).fit(strings, values)
    assert [sorted(record) for record in predictor.history_] == [["epoch", "loss"]] * 4


def test_validation_metrics_ignore_what_was_not_measured_and_metrics_that_do_not_vary() -> None:
    values = np.array([[1, 5, NAN], [2, 5, NAN], [3, 5, NAN], [NAN, 5, NAN]])
    predicted = np.array([[1, 5, 0], [3, 5, 0], [2, 5, 0], [9, 5, 0.0]])
    metrics = validation_metrics(predicted, values)
    assert metrics == {"mse": pytest.approx(2 / 7), "tau": pytest.approx(1 / 3)}
    assert validation_metrics(np.zeros((3, 1)), values[:3, :1])["tau"] == 0
    assert validation_metrics(predicted[:, 2:], values[:, 2:]) == {"mse": 0, "tau": 0}


def test_an_interrupted_training_resumes_to_the_same_result(
    strings: list[str], values: list[float], tmp_path: Path
) -> None:
    settings = TINY | {"dropout_rate": 0.1}
    expected = T5Predictor(**settings).fit(strings, values)
    folder = tmp_path / "new" / "here"
    with pytest.raises(StopError):
        T5Predictor(**settings).fit(strings, values, checkpoints=folder, show=stop_at(0.75))
    assert sorted(path.name for path in folder.glob("checkpoint-*"))
    reports: list[float] = []
    resumed = T5Predictor(**settings)
    resumed.fit(strings, values, checkpoints=folder, show=lambda done, note: reports.append(done))
    assert reports[-1] == 1
    assert len(reports) < 4
    assert resumed.history_ == expected.history_
    assert np.array_equal(resumed.predict(strings), expected.predict(strings))
    again = T5Predictor(**settings).fit(strings, values, checkpoints=folder)
    assert np.array_equal(again.predict(strings), expected.predict(strings)), "it was complete"


def test_checkpoints_of_another_training_and_damaged_ones_are_errors_of_one_line(
    strings: list[str], values: list[float], tmp_path: Path
) -> None:
    T5Predictor(**TINY).fit(strings, values, checkpoints=tmp_path)
    for other, labels in ((T5Predictor(**TINY | {"epochs": 5}), values), (T5Predictor(**TINY), values[::-1])):
        with pytest.raises(InputError, match=r"from a training with other data or parameters; name another") as error:
            other.fit(strings, labels, checkpoints=tmp_path)
        assert "\n" not in str(error.value)
    for folder in tmp_path.glob("checkpoint-*"):
        (folder / "trainer_state.json").write_text("{")
    with pytest.raises(InputError, match=r"checkpoint-\d+ cannot be resumed \(.*delete it") as error:
        T5Predictor(**TINY).fit(strings, values, checkpoints=tmp_path)
    assert "\n" not in str(error.value)
    (tmp_path / "training.json").write_text("[")
    with pytest.raises(InputError, match=r"cannot be used \("):
        T5Predictor(**TINY).fit(strings, values, checkpoints=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be used \("):
        T5Predictor(**TINY).fit(strings, values, checkpoints=tmp_path / "file" / "folder")


def test_tensorboard_shows_every_epoch(strings: list[str], values: list[float], tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    predictor = T5Predictor(**TINY).fit(strings, values, checkpoints=tmp_path)
    folder = next(path.parent for path in tmp_path.glob("runs/**/events.*"))
    events = reader.EventAccumulator(str(folder)).Reload()
    taus = [event.value for event in events.Scalars("eval/tau")]
    assert taus == pytest.approx([record["tau"] for record in predictor.history_], rel=1e-5)
    assert {"train/loss", "train/learning_rate", "eval/mse"} <= set(events.Tags()["scalars"])


def test_a_loss_that_diverges_is_an_error(strings: list[str], values: list[float]) -> None:
    with pytest.raises(InputError, match=r"the loss became (nan|inf) in epoch \d; use a learning_rate below 1e\+30"):
        T5Predictor(**TINY | {"learning_rate": 1e30, "lr_scheduler_type": "constant"}).fit(strings, values)


def test_training_prints_nothing_and_leaves_the_random_generators_alone(
    strings: list[str], values: list[float], capfd: pytest.CaptureFixture[str]
) -> None:
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state()  # type: ignore[index]
    T5Predictor(**TINY | {"epochs": 1}).fit(strings, values)
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]  # type: ignore[index]
    assert torch.equal(torch.random.get_rng_state(), states[2])
    assert capfd.readouterr() == ("", "")


def test_seeds_and_threads_end_with_their_block() -> None:
    before, state = torch.get_num_threads(), torch.random.get_rng_state()
    with torch_threads(2), isolated_seed(3, torch.device("cpu")):
        assert torch.get_num_threads() == 2
        drawn = torch.rand(1)
    with torch_threads(None), isolated_seed(3, torch.device("cpu")):
        assert torch.get_num_threads() == before
        assert torch.rand(1) == drawn
    assert torch.get_num_threads() == before
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_record_of_a_folder_is_json(strings: list[str], values: list[float], tmp_path: Path) -> None:
    T5Predictor(**TINY | {"epochs": 1}).fit(strings, values, checkpoints=tmp_path)
    assert list(json.loads((tmp_path / "training.json").read_text())) == ["training"]
