"""The experiment on transfer, on made-up networks."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from experiments.predictors import transfer
from experiments.predictors.transfer import BASES, ROW, judge, main, summary
from experiments.published import Target
from freerea_patch import InputError
from freerea_seval.predictor.seval import SEvalPredictor
from freerea_seval.predictor.splits import Split, published_split
from freerea_seval.predictor.training import train_predictor
from tests.freerea_seval.predictor.conftest import chain, cost

STRINGS = [chain(seed) for seed in range(120)]
COSTS = np.array([cost(string) for string in STRINGS])
VALUES = {
    "cifar10": 90 - COSTS,
    "cifar100": 70 - COSTS + np.sin(COSTS),
    "ImageNet16-120": 40 - 2 * COSTS,
}


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Put made-up networks in the place of NAS-Bench-201's, and train quickly; return the sizes of what was trained."""
    sizes: list[int] = []
    quickly = partial(train_predictor, model="boosted", scale="linear", parameters={"n_estimators": 30})

    def train(strings: list[str], *arguments: object, **options: object) -> object:
        sizes.append(len(strings))
        return quickly(strings, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(transfer, "strings_of", lambda view: STRINGS)
    targets = {name: Target(name, values, "max") for name, values in VALUES.items()}
    monkeypatch.setattr(transfer, "read_targets", lambda *paths: targets)
    monkeypatch.setattr(transfer, "train_predictor", train)
    return sizes


def raw(folder: Path) -> list[dict[str, str]]:
    with (folder / "rows.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_experiment_goes_on_where_it_stopped_with_the_bases_that_it_has(
    trainings: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--cache", "c", "-o", str(tmp_path), "--metrics", "cifar10", "--networks", "12"]
    main([*arguments, "--draws", "1"])
    first = (tmp_path / "rows.csv").read_text()
    main([*arguments, "--draws", "2"])
    assert (tmp_path / "rows.csv").read_text().startswith(first)
    assert trainings == [len(published_split(120).train)] * 2
    found = raw(tmp_path)
    assert [(row["metric"], row["base"], row["networks"], row["draw"]) for row in found] == [
        ("cifar10", "cifar100+ImageNet16-120", "12", draw) for draw in "01"
    ]
    assert found[0]["base_tau"] == found[1]["base_tau"]
    assert all(float(row["kendall_tau"]) > 0.6 for row in found)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("| cifar10 | cifar100+ImageNet16-120 | 12 | 2 | 0.")


def test_a_row_judges_the_test_part_alone_by_what_few_cells_and_bases_taught() -> None:
    base = SEvalPredictor("boosted", "linear", {"n_estimators": 30}).fit(STRINGS[:60], VALUES["cifar100"][:60])
    split = Split(np.arange(60, 75), np.arange(0), np.arange(75, 120))
    predictor = SEvalPredictor("gp", seed=3)
    row = judge(STRINGS, Target("cifar10", VALUES["cifar10"], "max"), split, [base], predictor)
    assert predictor.base_ == [base]
    tau = kendalltau(predictor.predict(STRINGS[75:]), VALUES["cifar10"][75:]).statistic
    assert float(str(row["kendall_tau"])) == pytest.approx(tau, abs=1e-5)
    assert (row["networks"], row["choice"]) == (15, predictor.choice_)
    assert {*row, "draw", "base_tau"} == set(ROW)


def test_a_summary_has_means_and_deviations_over_draws() -> None:
    def row(networks: int, tau: float) -> dict[str, object]:
        values = {"metric": "cifar10", "base": "a+b", "networks": networks, "kendall_tau": tau, "base_tau": 0.5}
        return {name: values.get(name, 0.9) for name in ROW}

    lines = summary(pd.DataFrame([row(50, 0.7), row(50, 0.9), row(100, 0.8)])).splitlines()[2:]
    assert lines == [
        "| cifar10 | a+b | 50 | 2 | 0.800 ± 0.100 | 0.500 ± 0.000 | 0.900 ± 0.000 |",
        "| cifar10 | a+b | 100 | 1 | 0.800 ± 0.000 | 0.500 ± 0.000 | 0.900 ± 0.000 |",
    ]


def test_a_metric_without_values_is_refused_before_anything_is_trained(trainings: list[int], tmp_path: Path) -> None:
    message = "^metric raspi4_latency has no values; give --hw-nas-bench FILE, or name other --metrics$"
    with pytest.raises(InputError, match=message):
        main(["--cache", "c", "-o", str(tmp_path)])
    assert not trainings


def test_no_metric_is_its_own_base() -> None:
    assert all(metric not in bases and len(set(bases)) == 2 for metric, bases in BASES.items())
