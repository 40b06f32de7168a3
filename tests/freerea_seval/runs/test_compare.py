"""Runs side by side: what is compared, and how."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import freerea_seval as fs
from freerea_patch import InputError
from tests.freerea_seval.cli.test_mistakes import call


def make(folder: Path, *objectives: dict[str, Any], seeds: str = "0", algorithm: str = "freerea") -> fs.Run:
    config = {
        "search": {"algorithm": algorithm} | ({"population": 4, "tournament": 2} if algorithm == "freerea" else {}),
        "budget": {"evaluations": 12},
        "objectives": list(objectives),
    }
    return fs.search(config, folder, seeds=seeds, progress=False)


SKIP = {"metric": "skip", "source": "training-free"}
PARAMS = {"metric": "params", "source": "cost", "role": "pareto"}


def test_on_one_metric_the_best_values_of_the_seeds_are_compared(tmp_path: Path) -> None:
    runs = [make(tmp_path / name, SKIP, seeds="0-6", algorithm=name) for name in ("freerea", "random")]
    table = fs.compare(runs)
    assert table.attrs["quality"] == "best skip"
    for run, row in zip(runs, table.to_dict("records"), strict=True):
        best = run.front.groupby("seed")["skip"].max().to_numpy()
        assert row["quality"] == pytest.approx(best.mean())
        assert row["deviation"] == pytest.approx(best.std(ddof=1))
        assert (row["seeds"], row["networks"]) == (7, 12)
    assert np.isnan(table["p"][0])
    assert 0 <= table["p"][1] <= 1
    assert fs.compare([runs[0], runs[0].path])["p"][1] == 1


def test_on_several_metrics_hypervolumes_are_compared(tmp_path: Path) -> None:
    run = make(tmp_path / "a", SKIP, PARAMS)
    few = make(tmp_path / "b", {**SKIP, "role": "pareto"}, PARAMS)
    table = fs.compare([run, few], ["params", "skip"])
    points = [r.front[["params", "skip"]].to_numpy() * [1, -1] for r in (run, few)]
    both = np.concatenate(points)
    best, span = both.min(axis=0), np.ptp(both, axis=0)
    for row, own in zip(table.to_dict("records"), points, strict=True):
        # The area that a front of two axes dominates, strip by strip.
        costs = np.array(sorted(((own - best) / span).tolist()))
        area, upper = 0.0, 1.1
        for x, y in costs:
            if y < upper:
                area += (1.1 - x) * (upper - y)
                upper = y
        assert row["quality"] == pytest.approx(area)
    assert fs.compare([run, few]).attrs["quality"] == "best params M"


def test_a_command_prints_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        make(tmp_path / name, SKIP)
    capsys.readouterr()
    assert call("compare", tmp_path / "a", tmp_path / "b", "--on", "skip") == 0
    text = capsys.readouterr().out
    assert "best skip" in text
    assert "deviation" not in text
    assert call("compare", tmp_path / "a", tmp_path / "b", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["runs"]
    assert [row["run"] for row in rows] == ["a", "b"]
    assert rows[0]["quality"] == rows[1]["quality"]


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    skip, params = make(tmp_path / "a", SKIP), make(tmp_path / "b", {**PARAMS, "role": "fitness"})
    with pytest.raises(InputError, match="expected two or more runs to compare, got 1"):
        fs.compare([skip])
    with pytest.raises(InputError, match="no metric in common"):
        fs.compare([skip, params])
    with pytest.raises(InputError, match=r"unknown metric .* 'accuracy'. Valid: skip"):
        fs.compare([skip, skip], ["accuracy"])
