"""The experiment on zero-cost proxies, at a tiny size."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.published import read_column, read_metric, read_proxies
from experiments.training_free.zero_cost import columns, freerea_summary, main, predict, summary
from freerea_patch import InputError
from freerea_seval.proxies import PROXIES


def rows(values: list[float]) -> pd.DataFrame:
    return pd.DataFrame([dict.fromkeys(columns(PROXIES), value) | {"index": i} for i, value in enumerate(values)])


def test_a_summary_ranks_what_does_not_exist_lowest() -> None:
    published = {i: [value] * 13 for i, value in enumerate([-1e8, 2.0, 3.0, 4.0])}
    other = {i: [value] * 13 for i, value in enumerate([19.0, 12.0, 7.0])}
    lines = summary(rows([math.nan, 5.0, 6.0, 7.0]), published).splitlines()
    assert lines[2].startswith("| epe_nas | 4 | 1.0000 | ")
    # On the three cells that the other seed has as well; the mean with it falls where this one rises.
    lines = summary(rows([1.0, 2.0, 3.0, 4.0]), published, [other]).splitlines()
    assert lines[14].startswith("| zen | 3 | 1.0000 | -1.0000 | -1.0000 | 2.500 |")
    assert lines[0].count("|") == lines[14].count("|")
    assert lines[-1] == "All thirteen: 35.000 seconds a cell."


def test_xgboost_predicts_what_the_proxies_tell_and_not_what_they_do_not() -> None:
    rng = np.random.default_rng(0)
    table = {i: [math.nan if i == 3 else float(v) for v in rng.standard_normal(13)] for i in range(150)}
    targets = [0.0 if i == 3 else table[i][0] for i in range(150)]
    assert min(predict(table, targets, 100, range(2))) > 0.7
    assert abs(np.mean(predict(table, list(rng.standard_normal(150)), 100, range(2)))) < 0.25
    with pytest.raises(InputError, match="150 cells are too few to train on 149"):
        predict(table, targets, 149, range(1))


def test_files_of_another_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.csv cannot be used .*; expected a CSV with the columns index, epe_nas"):
        read_proxies(tmp_path / "no.csv")
    with pytest.raises(InputError, match=r"no\.csv cannot be used .*; expected a CSV with the columns a"):
        read_column(tmp_path / "no.csv", "a")
    with pytest.raises(InputError, match=r"naswot\.csv cannot be used .*; expected a CSV with the columns naswot"):
        read_metric(tmp_path, "naswot")
    (tmp_path / "empty.csv").write_text("index,a\n0,\n")
    with pytest.raises(InputError, match=r"empty\.csv cannot be used"):
        read_column(tmp_path / "empty.csv", "a")


@pytest.mark.data
@pytest.mark.slow
def test_the_experiment_goes_on_where_it_stopped_and_agrees_with_the_published(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = str(data_dir / "zero_cost_proxies" / "nasbench201_cifar10.csv")
    arguments = ["correlate", "--proxies", table, "--batch", str(data_dir / "cifar10_batch" / "batch64_0.npz")]
    arguments += ["-o", str(tmp_path), "--batch-size", "8"]
    main([*arguments, "--cells", "2"])
    two = (tmp_path / "rows.csv").read_text()
    main([*arguments, "--cells", "3"])
    assert (tmp_path / "rows.csv").read_text().startswith(two)
    assert "| zen | 3 | " in capsys.readouterr().out
    published = read_proxies(Path(table))
    with (tmp_path / "rows.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            for name in ("params", "flops", "l2_norm"):
                value = published[int(row["index"])][PROXIES.index(name)]
                assert float(row[name]) == pytest.approx(value, rel=0.01)


@pytest.mark.data
def test_predictions_are_printed_for_every_target(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = str(data_dir / "zero_cost_proxies" / "nasbench201_cifar10.csv")
    target = str(data_dir / "robustness" / "nasbench201_cifar10.csv:val_accs")
    main(["predict", "--proxies", table, "--targets", target, "--seeds", "1"])
    (line,) = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("| val_accs | published | 9445")
    ]
    assert float(line.split("|")[4]) > 0.7


def test_a_summary_of_freereas_metrics_counts_the_infinite_on_either_side() -> None:
    published = {"naswot": np.array([1.0, -math.inf, -math.inf, 4.0]), "logsynflow": np.array([1.0, 2.0, 3.0, 4.0])}
    seconds = {"network_s": 1.0, "naswot_s": 2.0, "logsynflow_s": 3.0}
    ours = [5.0, -math.inf, 6.0, 7.0]
    table = pd.DataFrame([{"index": i, "naswot": v, "logsynflow": i, **seconds} for i, v in enumerate(ours)])
    lines = freerea_summary(table, published).splitlines()
    # Ranks 2, 1, 3, 4 and 3, 1.5, 1.5, 4: the correlation is 3 / sqrt(5 * 4.5).
    assert lines[2] == "| naswot | 4 | 0.6325 | 1 / 2 / 1 | 2.000 |"
    assert lines[3] == "| logsynflow | 4 | 1.0000 | 0 / 0 / 0 | 3.000 |"
    assert lines[-1] == "Building and initialising: 1.000 seconds a cell besides."


@pytest.mark.data
def test_an_experiment_on_freereas_metrics_goes_on_where_it_stopped(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = str(data_dir / "cifar10_batch" / "batch64_0.npz")
    arguments = ["freerea", "--cache", str(data_dir / "freerea_cached_metrics"), "--batch", batch, "--batch-size", "8"]
    arguments += ["--initialisations", "1", "-o", str(tmp_path / "out")]
    path = tmp_path / "out" / "rows.csv"
    main([*arguments, "--cells", "2"])
    two = path.read_text()
    main([*arguments, "--cells", "4"])
    assert path.read_text().startswith(two)
    assert len(path.read_text().splitlines()) == 5
    assert "| naswot | 4 | " in capsys.readouterr().out
    with pytest.raises(InputError, match="another config"):
        main([*arguments, "--seed", "1", "--cells", "2"])
