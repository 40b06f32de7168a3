"""The experiment on the time a token, with made-up times in the place of measured ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments.language_models import token_times
from experiments.language_models.token_times import main
from freerea_patch import GPTSmallSpace, InputError
from freerea_seval.costs import SpaceCosts

COSTS = SpaceCosts(GPTSmallSpace())


def made_up(networks: Any, output: Path, *, rounds: int, seed: int, progress: object) -> pd.DataFrame:
    """Return times that grow with the multiply-adds of a token, a hundredth longer the second time."""
    assert networks.about["metric"] == "time_per_token"
    milliseconds = [COSTS.serving(genotype).token_macs / 1e6 * (1 + 0.01 * seed) for genotype in networks.names]
    return pd.DataFrame({"genotype": networks.names, "latency_ms": milliseconds})


def test_both_times_are_compared_and_predictors_judged_by_the_second(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_times, "measure_networks", made_up)
    command = ["--networks", "40", "--known", "20", "--draws", "2", "-o", str(tmp_path / "run")]
    main(command)
    shown = capsys.readouterr().out
    assert shown.startswith("40 networks, ")
    assert "of both times 1.000, median change 1.0 %" in shown
    count, draws, tau, error, macs = (cell.strip() for cell in shown.splitlines()[-1].strip("| ").split("|"))
    assert (count, draws, macs) == ("20", "2", "1.000")
    assert float(tau.split()[0]) > 0.7
    assert 0 < float(error.removesuffix(" %")) < 10
    monkeypatch.setattr(token_times, "train_predictor", None)  # nothing is trained again
    main(command)
    assert capsys.readouterr().out == shown


def test_there_must_be_networks_to_judge(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected at least two of 20 networks to judge"):
        main(["--networks", "20", "--known", "19", "-o", str(tmp_path / "run")])
