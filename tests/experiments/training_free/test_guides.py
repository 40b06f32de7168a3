"""The experiment on what training-free metrics rank, at a tiny size."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.training_free.guides import Guide, by_latency, halves, main, ndcg, ranking, summary
from freerea_patch.spaces import all_cells, parse_cell
from freerea_seval.proxies import PROXIES


def test_a_guide_sums_logarithms_of_ranks() -> None:
    values = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": [40.0, math.nan, 20.0, 30.0]})
    expected = [2 * math.log(a / 4) / 3 + math.log(b / 4) / 3 for a, b in [(1, 4), (2, 1.5), (3, 1.5), (4, 3)]]
    np.testing.assert_allclose(Guide({"a": 2, "b": 1}).scores(values), expected)
    np.testing.assert_allclose(Guide({"a": 1}, "sum").scores(values), np.array([1, 2, 3, 4]) / 4)


def test_ndcg_is_one_for_the_true_ranking_and_what_the_definition_says_for_another() -> None:
    accuracies = [90.0, 92.0, 91.0]
    assert ndcg(accuracies, accuracies) == pytest.approx(1)
    gain = [2**a - 1 for a in accuracies]
    ideal = gain[1] + gain[2] / math.log2(3) + gain[0] / 2
    assert ndcg([3, 2, 1], accuracies) == pytest.approx((gain[0] + gain[1] / math.log2(3) + gain[2] / 2) / ideal)
    assert ndcg([3, 2, 1], accuracies, positions=1) == pytest.approx(0.25)


def test_half_of_the_cells_are_for_judgement() -> None:
    development, judgement = halves(range(101))
    assert sorted(development + judgement) == list(range(101))
    assert len(development) == 50
    assert halves(list(reversed(range(101)))) == (development, judgement)


def test_a_summary_has_the_guides_whose_metrics_are_there() -> None:
    rng = np.random.default_rng(0)
    accuracies = rng.uniform(50, 94, 40)
    table = pd.DataFrame({"jacov": accuracies, "params": accuracies**2, "flops": -accuracies}, index=range(40))
    lines = summary(ranking(table, {"cifar10": accuracies, "PGD": -accuracies})).splitlines()
    assert lines[0] == "| guide | tau, cifar10 | tau, PGD | nDCG, cifar10 | nDCG, PGD |"
    assert lines[2].startswith("| jacov and params | 1.000 | -1.000 | 1.000 |")
    assert [line.split()[1] for line in lines[3:]] == ["jacov", "params", "flops"]


def test_guides_are_compared_among_fast_and_among_slow_cells() -> None:
    values = pd.DataFrame({"jacov": range(40), "params": [*range(20), *range(40, 20, -1)]}, index=range(40))
    lines = by_latency(values, {"x": np.arange(40.0)}, np.arange(40.0)).splitlines()
    assert lines[0] == "| guide | fastest quarter (10), x | next quarter (10), x | slow half (20), x |"
    assert lines[-1] == "| params | 1.000 | 1.000 | -1.000 |"


def test_the_script_computes_and_ranks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = [index for index in range(400) if "none" not in parse_cell(all_cells()[index])][:6]
    proxies = tmp_path / "proxies.csv"
    table = pd.DataFrame([{"index": index, **dict.fromkeys(PROXIES, float(index))} for index in cells])
    table.to_csv(proxies, index=False)
    rng = np.random.default_rng(0)
    folder = tmp_path / "cache" / "nats"
    for dataset in ("cifar10", "cifar100", "ImageNet16-120"):
        (folder / dataset).mkdir(parents=True)
        for metric, name in (("accuracies", "accuracy"), ("naswot", "naswot"), ("logsynflow", "logsynflow")):
            values = rng.uniform(1, 90, 15_625)
            pd.DataFrame({"index": range(15_625), name: values}).to_csv(folder / dataset / f"{metric}.csv", index=False)
    images = tmp_path / "images.npz"
    np.savez(images, images=rng.standard_normal((4, 3, 32, 32)).astype(np.float32))
    metrics = ["independence", "params", "flops"]
    sizes = ["--batch", str(images), "--batch-size", "4", "--cells", "4"]
    main(["compute", "--proxies", str(proxies), *sizes, "--metrics", *metrics, "-o", str(tmp_path / "values")])
    rows = pd.read_csv(tmp_path / "values" / "rows.csv")
    assert list(rows["index"]) == [*halves(cells)[1], halves(cells)[0][0]]
    capsys.readouterr()
    tables = ["--proxies", str(proxies), "--cache", str(tmp_path / "cache"), "--values", str(tmp_path / "values")]
    main(["rank", *tables, "--figure", str(tmp_path / "guides.png")])
    text = capsys.readouterr().out
    assert "3 cells for judgement" in text
    assert "| independence |" in text
    assert (tmp_path / "guides.png").read_bytes().startswith(b"\x89PNG")
