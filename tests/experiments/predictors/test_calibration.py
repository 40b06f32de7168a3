"""HELP's protocol on made-up devices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.predictors import calibration
from experiments.predictors.calibration import SPLITS, WAYS, Devices, main, train_base
from freerea_patch import InputError

STRINGS = [
    f"input[1x3x8x8] {'conv(4,k3) ' * (1 + i % 9)}{'conv(4,k1) ' * (i // 9 % 7)}{'relu ' * (i // 63 + 1)}output"
    for i in range(250)
]


def made_up_table() -> pd.DataFrame:
    """Return milliseconds on devices with other prices of the three operations."""
    counts = np.array([[string.count(name) for name in ("k3", "k1", "relu")] for string in STRINGS])
    names = [*calibration._HELP, "fpga"]
    prices = np.random.default_rng(0).uniform(0.1, 1.0, (3, len(names)))
    return pd.DataFrame(1.0 + counts @ prices, columns=names)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "strings_of", lambda view: STRINGS)
    monkeypatch.setattr(calibration, "read_devices", lambda path: made_up_table())
    for name, value in (("_BASE_NETWORKS", 60), ("_POOL", 60), ("_TESTED", 100)):
        monkeypatch.setattr(calibration, name, value)
    monkeypatch.setitem(SPLITS, "help", (calibration._HELP[:3], ("fpga",)))


def test_every_way_has_its_rows_and_the_experiment_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--table", "t.csv", "--networks", "10", "--draws", "1", "-o", str(tmp_path)]
    main([*command, "--ways", "calibrated", "nearest"])
    main(command)
    printed = capsys.readouterr().out
    rows = pd.read_csv(tmp_path / "rows.csv").set_index("way")
    assert list(rows.index) == ["calibrated", "nearest", *(way for way in WAYS if way not in ("calibrated", "nearest"))]
    assert rows["spearman"]["components"] > rows["spearman"]["nearest"]
    learned = rows.drop(index=["nearest", "components", "multiply-adds"])
    assert (learned["spearman"] > 0.9).all()
    assert (learned["coverage"] > 0.5).all()
    assert "| help | planned | 10 |" in printed
    main(command)
    assert capsys.readouterr().out in printed


def test_a_held_out_device_is_not_learned_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SPLITS, "validation", (calibration._HELP[:3], calibration._HELP[:1]))
    trained: list[list[str]] = []

    def recorded(devices: Devices, names: list[str]) -> object:
        trained.append(list(names))
        return train_base(devices, names)

    monkeypatch.setattr(calibration, "train_base", recorded)
    command = ["--split", "validation", "--ways", "calibrated", "--networks", "10", "--draws", "1", "-o", str(tmp_path)]
    main(["--table", "t.csv", *command])
    assert trained == [list(calibration._HELP[1:3])]


def test_a_table_that_lacks_a_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"t.csv lacks the devices eyeriss, gold_6226, .* of split 'nasflat-5'"):
        main(["--table", "t.csv", "--split", "nasflat-5", "-o", str(tmp_path)])


def test_a_split_without_training_devices_has_no_ways_that_learn_from_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SPLITS, "energy", ((), ("fpga",)))
    with pytest.raises(InputError, match=r"split 'energy' has no training devices for calibrated, nearest; leave"):
        main(["--table", "t.csv", "--split", "energy", "--ways", "alone", "nearest", "calibrated", "-o", str(tmp_path)])
