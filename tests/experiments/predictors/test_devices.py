"""Predictors on a table of devices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.predictors import devices
from experiments.predictors.devices import draw_rows, judge, main, read_devices
from freerea_patch import InputError


def test_errors_are_relative_and_the_fastest_tenth_is_judged_by_itself() -> None:
    values = np.arange(1.0, 101.0)
    predicted = values * np.where(values <= 10, 1.5, 0.9)
    predicted[0] = 3.0
    row = judge(values, predicted)
    assert (row["median_error"], row["median_error_of_fast"], row["worst_error_of_fast"]) == ("0.1", "0.5", "2")


def test_a_draw_has_the_extremes_of_its_pool_and_judges_by_other_networks(strings: list[str]) -> None:
    measured, tested = draw_rows(strings, 12, 3)
    costs = [string.count("conv") for string in strings]
    assert len(set(measured)) == 12
    assert not set(measured) & set(tested)
    assert costs[measured[0]] <= min(costs[row] for row in measured[2:])
    assert draw_rows(strings, 12, 3) == (measured, tested) != draw_rows(strings, 12, 4)


@pytest.fixture
def strings() -> list[str]:
    return [f"input[1x3x8x8] {'conv(4,k3) ' * (1 + i % 40)}{'relu ' * (i // 40 + 1)}output" for i in range(200)]


def test_the_experiment_prints_a_table_and_resumes(
    strings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(devices, "strings_of", lambda view: strings)
    table = pd.DataFrame({"phone": [1.0 + 0.1 * string.count("conv") for string in strings]})
    monkeypatch.setattr(devices, "read_devices", lambda path: table)
    command = [
        "--table",
        "t.csv",
        "--models",
        "additive",
        "--networks",
        "12",
        "--draws",
        "2",
        "-o",
        str(tmp_path / "o"),
    ]
    main(command)
    assert "| phone | 12 | additive | 2 | 1.000" in (first := capsys.readouterr().out)
    main(command)
    assert capsys.readouterr().out == first
    with pytest.raises(InputError, match=r"t.csv has no column 'desk'; it has phone"):
        main([*command, "--devices", "desk"])


def test_a_table_that_lacks_cells_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("index,phone\n0,1.0\n")
    with pytest.raises(InputError, match="expected one row for each index from 0 to 15624, got 1 rows"):
        read_devices(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("cell,phone\n0,1.0\n")
    with pytest.raises(InputError, match="cannot be used"):
        read_devices(tmp_path / "t.csv")
