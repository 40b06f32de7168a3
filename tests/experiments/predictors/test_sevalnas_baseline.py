"""The published predictor's setting, at a tiny size."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from experiments.predictors import sevalnas_baseline as published
from experiments.predictors.sevalnas_baseline import fresh, main
from experiments.published import Target
from freerea_seval.predictor.t5 import estimator as t5

pytest.importorskip("transformers")
TINY = {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 16}
COUNT = 15625


def words(space: object, view: str, cells: list[str]) -> Iterator[str]:
    assert view == "published"
    yield from (f"|1_Convolution:(num_filters={len(cell)}, kernel_size=3)|2_Relu" * 9 for cell in cells)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make up networks and values, and take a tiny T5."""
    values = np.random.default_rng(0).random(COUNT)
    targets = {"cifar10": Target("cifar10", values, "max"), "edgetpu_latency": Target("l", values / 2, "min")}
    targets["edgetpu_latency"].values[::5] = np.inf
    monkeypatch.setattr(published, "strings_of", words)
    monkeypatch.setattr(published, "read_targets", lambda *paths: targets)
    monkeypatch.setattr(t5, "PUBLISHED", t5.PUBLISHED | TINY)
    monkeypatch.setattr(published, "_WORDS", 500)


@pytest.mark.usefixtures("small")
def test_two_metrics_are_learned_together_in_the_published_setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--cache", "c", "--hw-nas-bench", "h", "--latency", "edgetpu_latency", "-o", str(tmp_path)]
    main([*arguments, "--cells", "20", "--judged-on", "10", "--epochs", "1"])
    with (tmp_path / "rows.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [(row["metric"], row["start"], row["networks"], row["judged_on"], row["epochs"]) for row in found] == [
        (metric, "fresh", "20", "10", "1") for metric in ("cifar10", "l")
    ]
    assert float(found[0]["rmse"]) > 0
    assert (tmp_path / "checkpoints" / "training.json").is_file()
    assert "| cifar10 | fresh | 20 | 10 | 1 | 0 |" in capsys.readouterr().out


@pytest.mark.usefixtures("small")
def test_new_weights_have_the_published_shape_and_a_tokenizer_that_reads_the_strings(tmp_path: Path) -> None:
    from freerea_seval.predictor.t5.encoder import load_pretrained

    string = next(words(None, "published", ["cell"]))
    folder = fresh(tmp_path / "t5", [string], 0)
    model, tokenizer = load_pretrained(folder, 2, "mse", 0.1)
    assert (model.config.d_model, model.config.num_layers, model.config.vocab_size) == (16, 1, 500)
    assert len(tokenizer(string)["input_ids"]) > 9
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "t5").iterdir()}
    assert fresh(tmp_path / "t5", ["other"], 1) == folder
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "t5").iterdir()} == before
