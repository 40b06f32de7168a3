"""What predictors are compared with, on made-up values of cells."""

from __future__ import annotations

import csv
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from experiments.predictors import baselines
from experiments.predictors.baselines import (
    FOREST,
    ONE_HOT,
    fit_forest,
    fit_trees,
    judge,
    main,
    means,
    one_hot,
    our_rows,
    summary,
)
from experiments.published import Target
from freerea_patch import InputError, TopologySpace
from freerea_patch.spaces import OPERATIONS, parse_cell
from freerea_seval.predictor.scores import kendall_tau
from freerea_seval.predictor.splits import Split

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

CELLS = Random(0).sample(TopologySpace().genotypes(), 300)
SPLIT = Split(np.arange(150), np.arange(150, 200), np.arange(200, 300))
COSTS = np.array([sum(1 + 2 * (op == "nor_conv_3x3") for op in parse_cell(cell) if "conv" in op) for cell in CELLS])


def test_cells_are_told_by_the_operation_of_each_edge() -> None:
    found = one_hot(CELLS)
    assert found.shape == (300, 30)
    for row, cell in zip(found.reshape(300, 6, 5), CELLS, strict=True):
        assert [OPERATIONS[int(place)] for place in row.argmax(axis=1)] == list(parse_cell(cell))
        assert (row.sum(axis=1) == 1).all()


@pytest.mark.parametrize("fit", [fit_trees, fit_forest])
def test_test_networks_are_not_learned_from(fit: object) -> None:
    assert callable(fit)
    spoilt = COSTS.astype(float)
    spoilt[SPLIT.test] = 1e6
    first, choice = fit(one_hot(CELLS), COSTS.astype(float), SPLIT.train, SPLIT.validation, 0)
    again, same = fit(one_hot(CELLS), spoilt, SPLIT.train, SPLIT.validation, 0)
    assert np.array_equal(first, again)
    assert choice == same


def test_what_predicts_the_validation_part_best_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    features, values = one_hot(CELLS), COSTS.astype(float)
    taus = {}
    for depth in baselines._DEPTHS:
        with monkeypatch.context() as patch:
            patch.setattr(baselines, "_DEPTHS", (depth,))
            predicted, choice = fit_trees(features, values, SPLIT.train, SPLIT.validation, 0)
        taus[choice] = kendall_tau(values[SPLIT.validation], predicted[SPLIT.validation])
    _, kept = fit_trees(features, values, SPLIT.train, SPLIT.validation, 0)
    assert taus[kept] == max(taus.values())


def test_networks_without_a_value_are_left_out_of_every_part() -> None:
    values = COSTS.astype(float)
    values[::3] = np.inf
    seen: list[Indices] = []

    def fit(features: Values, of: Values, train: Indices, validation: Indices, seed: int) -> tuple[Values, str]:
        seen.extend((train, validation))
        return -of, f"seed {seed}"

    row = judge(one_hot(CELLS), Target("latency", values, "min"), SPLIT, fit, 7)
    assert [len(part) for part in seen] == [100, 33]
    assert all((part % 3 > 0).all() for part in seen)
    assert (row["networks"], row["kendall_tau"], row["choice"]) == (100, "-1", "seed 7")


def test_proxies_that_do_not_exist_are_missing() -> None:
    proxies = np.stack([COSTS, COSTS], axis=1).astype(float)
    proxies[::4, 0], proxies[1::4, 0] = np.nan, -1e8
    other = np.where(proxies == -1e8, np.inf, proxies)
    first, _ = fit_forest(proxies, COSTS.astype(float), SPLIT.train, SPLIT.validation, 0)
    again, _ = fit_forest(other, COSTS.astype(float), SPLIT.train, SPLIT.validation, 0)
    assert np.array_equal(first, again)


def row(model: str, tau: float, split: str = "published", metric: str = "cifar10") -> dict[str, object]:
    return {"split": split, "metric": metric, "model": model, "kendall_tau": tau}


def test_a_summary_has_means_over_seeds_and_the_papers_figures_of_its_split() -> None:
    rows = pd.DataFrame([row("ours", 0.9), row("ours", 0.7), row(ONE_HOT, 0.5), row(FOREST, 0.25, "grouped", "pgd")])
    assert means(rows, "published")["ours"].to_dict() == {"cifar10": pytest.approx(0.8)}
    assert means(rows, "grouped").dropna(axis=1).to_dict() == {FOREST: {"pgd": 0.25}}
    lines = summary(rows).splitlines()
    assert lines[2] == "| published | cifar10 | 0.8000 | 0.5100 | 0.5000 |  |"
    assert lines[-1] == "| grouped | pgd |  |  |  | 0.2500 |"


def test_rows_of_ours_that_cannot_be_used_are_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be used .*run first: python -m experiments\.predictors\.ben"):
        our_rows(tmp_path)
    (tmp_path / "rows.csv").write_text("split,metric,model\npublished,pgd,auto\n")
    with pytest.raises(InputError, match="'kendall_tau'"):
        our_rows(tmp_path)


def test_the_experiment_goes_on_where_it_stopped_and_draws_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    genotypes = TopologySpace().genotypes()
    values = np.array([genotype.count("conv") for genotype in genotypes], dtype=float)
    judged: list[tuple[str, int]] = []

    def fake(features: Values, target: Target, split: Split, fit: object, seed: int) -> dict[str, int | str]:
        judged.append((target.name, seed))
        assert features.shape == (15_625, 30 if fit is fit_trees else 13)
        return {"networks": 9375, "kendall_tau": "0.5", "train_s": "1.0", "choice": "a"}

    monkeypatch.setattr(baselines, "read_targets", lambda *paths: {"cifar10": Target("cifar10", values, "max")})
    monkeypatch.setattr(baselines, "proxies_of_all", lambda path: np.zeros((15_625, 13)))
    monkeypatch.setattr(baselines, "judge", fake)
    ours = tmp_path / "ours"
    ours.mkdir()
    (ours / "rows.csv").write_text(
        "split,metric,model,kendall_tau\npublished,cifar10,auto,0.9\npublished,cifar10,gp,0.1\npublished,pgd,auto\n"
    )
    arguments = ["--cache", "c", "--proxies", "p", "--ours", str(ours), "-o", str(tmp_path / "out")]
    main([*arguments, "--seeds", "1"])
    main([*arguments, "--seeds", "2"])
    assert judged == [("cifar10", 0), ("cifar10", 0), ("cifar10", 1), ("cifar10", 1)]
    assert "| published | cifar10 | 0.9000 | 0.5100 | 0.5000 | 0.5000 |" in capsys.readouterr().out
    with (tmp_path / "out" / "rows.csv").open(newline="") as file:
        assert [r["model"] for r in csv.DictReader(file)] == [ONE_HOT, FOREST, ONE_HOT, FOREST]
    assert (tmp_path / "out" / "baselines.png").read_bytes().startswith(b"\x89PNG")
