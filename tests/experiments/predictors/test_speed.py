"""The experiment on the speed of predictors, with a stand-in for the published one, and its table on made-up times."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
import pytest

import experiments.predictors.speed as predictor_speed
from experiments.predictors.speed import main, one_by_one, published, summary
from freerea_seval.predictor.seval import SEvalPredictor


def test_a_line_has_the_median_rate_and_how_many_times_that_of_the_first() -> None:
    rows = [
        {"way": way, "round": turn, "networks": networks, "seconds": float(seconds)}
        for way, networks, times in (("theirs", 6, "3.0 2.0 6.0"), ("ours", 256, "0.5 0.25 1.0"))
        for turn, seconds in enumerate(times.split())
    ]
    table = summary(pd.DataFrame(rows), "boosted").splitlines()
    assert table[2:] == ["| theirs | 2.0 | 1.0 |", "| ours | 512.0 | 256.0 |", "", "Ours: boosted."]


@pytest.mark.slow
def test_both_ways_are_timed_in_turn_on_networks_that_were_never_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []
    learned: list[str] = []
    fit, predict = SEvalPredictor.fit, SEvalPredictor.predict

    def noted_fit(self: SEvalPredictor, strings: list[str], y: list[float]) -> SEvalPredictor:
        learned.extend(strings)
        fitted = fit(self.set_params(model="boosted"), strings, y)
        monkeypatch.setattr(SEvalPredictor, "predict", noted_predict)
        return fitted

    def noted_predict(self: SEvalPredictor, strings: list[str]) -> object:
        asked.extend(strings)
        return predict(self, strings)

    monkeypatch.setattr(SEvalPredictor, "fit", noted_fit)
    monkeypatch.setattr(predictor_speed, "published", lambda seed: lambda: time.sleep(0.001))
    main(["--train", "20", "--rounds", "2", "--theirs", "3", "-o", str(tmp_path)])
    assert len(learned) == 20
    assert len(asked) == len(set(asked)) == 2 * (64 + 256)
    assert not set(asked) & set(learned)
    table = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in table[2:5]] == [
        "published, one at a time",
        "ours, one at a time",
        "ours, 256 at a time",
    ]
    assert table[-1].startswith("Ours: ")


def test_one_by_one_asks_for_every_string_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(SEvalPredictor, "predict", lambda self, strings: asked.append(strings))
    one_by_one(SEvalPredictor(), ["a", "b"])
    assert asked == [["a"], ["b"]]


@pytest.mark.slow
def test_the_published_predictor_gives_one_number() -> None:
    pytest.importorskip("transformers")
    predict = published(0)
    assert isinstance(predict(), float)
