"""The experiment on memory: five small networks, one of each kind, and its table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from experiments.devices.memory import COLUMNS, StorageTracker, cases, compared, main, summary


def test_the_model_predicts_what_the_storages_take_and_the_profiler_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = cases(5, 0)
    assert [case.batch for case in chosen] == [1, 2, 4, 8, 16]
    for number in (2, 3):
        row = {name: str(value) for name, value in compared(chosen[number], "adam").items()}
        # The loss, and Adam's count of steps for every parameter, are all that the model does not have.
        assert int(row["training storages"]) == pytest.approx(int(row["training predicted"]), rel=5e-4)
        assert int(row["training profiler"]) == pytest.approx(int(row["training predicted"]), rel=0.1)
        assert int(row["inference last reader"]) == pytest.approx(int(row["inference predicted"]), rel=0.05)
    arguments = ["--networks", "1", "-o", str(tmp_path)]
    main(arguments)
    printed = capsys.readouterr().out
    assert "| NAS-Bench-201 /" in printed
    main(arguments)
    assert capsys.readouterr().out == printed, "a finished experiment is summed up again from its rows"


def test_a_summary_has_errors_and_their_medians() -> None:
    values = ("a|b", 4, 1_000_000, 1_250_000, 1_000_000, 500_000, 500_000, 400_000, 500_000)
    row = dict(zip(COLUMNS, values, strict=True))
    lines = summary(pd.DataFrame([row])).splitlines()
    expected = "| a/b | 4 | 1.000 | 1.250 (-20.0%) | 1.000 (+0.0%) | 0.500 | 0.500 (+0.0%) | 0.400 (+25.0%) | "
    assert lines[2].startswith(expected)
    assert lines[4] == "training, profiler: median error 20.00%, largest 20.00%"


def test_the_tracker_counts_storages_once_while_they_live() -> None:
    with StorageTracker() as tracker:
        x = torch.ones(4)
        seen = x.view(2, 2)
        assert tracker.current == 16
        y = x + 1
        del x
        assert tracker.current == 32
        del seen, y
    assert (tracker.current, tracker.peak) == (0, 32)
