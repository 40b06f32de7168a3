"""The experiment on metrics that no table has, on a few networks."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest

from experiments.devices.own_metrics import SPACES, latencies, main, report, targets
from freerea_patch import TopologySpace
from freerea_seval.costs import SpaceCosts


@pytest.mark.slow
def test_a_run_measures_twice_and_judges_both_metrics_of_both_spaces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--networks",
        "20",
        "--cells",
        "20",
        "--rounds",
        "1",
        "--seeds",
        "1",
        "--model",
        "gp",
        "-o",
        str(tmp_path),
    ]
    main(arguments)
    first = capsys.readouterr().out
    with (tmp_path / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["space"], row["metric"]) for row in rows] == [
        (space, metric) for space in SPACES for metric in ("training_memory", "latency")
    ]
    assert all(-1 <= float(row["kendall_tau"]) <= 1 and row["networks"] == "12" for row in rows)
    assert [bool(row["ceiling"]) for row in rows] == [False, True] * 2
    with (tmp_path / "visits" / "rows.csv").open() as file:
        visits = list(csv.DictReader(file))
    assert len({(v["space"], v["repeat"], v["index"], v["turn"]) for v in visits}) == len(visits) == 2 * 2 * 20

    # A run that was stopped goes on with what is missing, and measures nothing again.
    kept = (tmp_path / "visits" / "rows.csv").read_text()
    main(arguments)
    assert capsys.readouterr().out == first
    assert (tmp_path / "visits" / "rows.csv").read_text() == kept


def test_a_latency_is_that_of_each_measurement_by_itself() -> None:
    common = {"space": "nats-tss", "seconds": "1"}
    rows = [
        {**common, "index": "7", "repeat": repeat, "turn": turn, "latency_ms": ms}
        for repeat, turn, ms in (("0", "0", "2"), ("0", "1", "9"), ("1", "0", "5"))
    ]
    rows.append({**rows[0], "space": "nats-sss"})
    assert latencies(rows, "nats-tss") == {7: [2.0, 5.0]}


def test_memory_is_the_cost_models_and_latency_the_first_measurement() -> None:
    space = TopologySpace()
    memory, exact = targets(space, "training_memory", [3, 1], {})
    assert memory.tolist() == [SpaceCosts(space).training_memory(space.genotypes()[i]) for i in (3, 1)]
    assert exact == ""
    measured, ceiling = targets(space, "latency", [3, 1, 2], {1: [1.0, 5.0], 2: [2.0, 7.0], 3: [3.0, 6.0]})
    assert measured.tolist() == [3.0, 1.0, 2.0]
    assert ceiling == pytest.approx(1 / 3)


def test_the_report_has_means_over_seeds() -> None:
    common = {"space": "nats-sss", "metric": "latency", "networks": 9, "spearman": 1, "train_s": 2, "ceiling": 0.5}
    table = report(pd.DataFrame([{**common, "kendall_tau": tau} for tau in (0.25, 0.75)])).splitlines()
    assert table[2:] == ["| nats-sss | latency | 9 | 2 | 0.5000 | 1.0000 | 0.5000 | 0.76 | 2 |"]
