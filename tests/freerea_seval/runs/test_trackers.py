# mypy: disable-error-code="import-untyped, import-not-found, unused-ignore"
"""Experiment trackers: what TensorBoard and MLflow have of a run, read back with their own libraries."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import freerea_seval as fs
from freerea_seval.runs import figures
from freerea_seval.runs.figures import draw_run
from freerea_seval.runs.folder import RunFolder
from freerea_seval.runs.trackers import track
from tests.freerea_seval.cli.test_mistakes import call

CONFIG: dict[str, Any] = {
    "search": {"population": 6, "tournament": 3, "seeds": [0, 2]},
    "budget": {"evaluations": 20},
    "objectives": [
        {"metric": "skip", "source": "training-free", "name": "<b>skip</b>", "role": "pareto"},
        {"metric": "params", "source": "cost", "role": "pareto"},
    ],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> fs.Run:
    return fs.search(CONFIG, tmp_path_factory.mktemp("tracked") / "run", progress=False)


def expected(run: fs.Run, seed: int) -> dict[int, float]:
    """The least number of parameters so far, by generation."""
    history = run.history[run.history["seed"] == seed]
    last = history["generation"].max()
    generations = sorted(set(history["generation"]))
    assert last > 2
    return {g: history[history["generation"] <= g]["params"].min() for g in generations}


def test_tensorboard_has_the_course_the_front_and_the_config(run: fs.Run) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    track(RunFolder.open(run.path), "tensorboard", run.draw())
    for seed in (0, 2):
        events = EventAccumulator(str(run.path / "tensorboard" / f"run-seed-{seed}"))
        events.Reload()
        least = {event.step: event.value for event in events.Scalars("params")}
        assert least == pytest.approx(expected(run, seed))
        assert events.Scalars("networks")[-1].value == 20
        assert events.Tags()["images"] == ["front"]
        texts = {tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in events.Tags()["tensors"]}
        assert "<td>search.population</td><td>6</td>" in texts["config/text_summary"]
        assert "&lt;b&gt;skip" in texts["front/text_summary"]
        assert not any("<b>" in text for text in texts.values())


def test_the_figure_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Path] = []

    def draw(folder: RunFolder) -> Path:
        drawn.append(folder.path)
        return draw_run(folder)

    monkeypatch.setattr(figures, "draw_run", draw)
    (tmp_path / "s.yaml").write_text(json.dumps(CONFIG))
    assert call("search", tmp_path / "s.yaml", "-o", tmp_path / "run", "--log", "tensorboard") == 0
    assert drawn == [tmp_path / "run"]


@pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is not installed")
def test_mlflow_has_the_course_the_front_and_the_config(
    run: fs.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(tmp_path.as_uri())
    track(RunFolder.open(run.path), "mlflow", run.draw())
    logged = {r.info.run_name: r for r in mlflow.search_runs(experiment_names=["freerea-seval"], output_format="list")}
    assert set(logged) == {"run-seed-0", "run-seed-2"}
    for seed in (0, 2):
        one = logged[f"run-seed-{seed}"]
        client = mlflow.MlflowClient()
        least = {m.step: m.value for m in client.get_metric_history(one.info.run_id, "params")}
        assert least == pytest.approx(expected(run, seed))
        assert one.data.params["objectives.0.name"] == "<b>skip</b>"
        artifacts = {artifact.path for artifact in client.list_artifacts(one.info.run_id)}
        assert artifacts == {"front.csv", "report.txt", "front.png"}


def test_a_tracker_that_is_unknown_or_not_installed_is_refused_before_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(fs.InputError, match="unknown tracker 'tensorbord'; did you mean 'tensorboard'"):
        fs.search(CONFIG, tmp_path / "run", log="tensorbord", progress=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(fs.InputError, match="--log wandb needs the package wandb: pip install wandb"):
        fs.search(CONFIG, tmp_path / "run", log="wandb", progress=False)
    assert not (tmp_path / "run").exists()
