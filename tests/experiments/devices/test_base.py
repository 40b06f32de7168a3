"""Measuring and training of the base predictor, with few cells."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import freerea_seval as fs
from experiments.devices.base import MEASUREMENTS, SETTINGS, main


def test_all_settings_are_measured_and_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--cells", "10", "--rounds", "1", "--package", str(tmp_path / "base"), "-o", str(tmp_path / "run")]
    main(command)
    assert capsys.readouterr().out.startswith("# Predictor of eager_2_threads_ms, ")
    predictor = fs.load_predictor(tmp_path / "base")
    assert predictor.metrics == [f"{name}_ms" for name in SETTINGS]
    measured = pd.read_csv(tmp_path / "base" / MEASUREMENTS)
    assert list(measured) == ["genotype", *predictor.metrics]
    assert len(measured) == 10
    main(command)  # nothing is measured again
    assert pd.read_csv(tmp_path / "base" / MEASUREMENTS).equals(measured)
