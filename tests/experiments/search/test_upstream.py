"""The comparison of the public code with our loop, on a program with the same seams and made-up tables."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.search.upstream import AUTHORS, BOTH, BOUND, COLUMNS, LATENCY, LOOP, MINUS, NOTHING, main, summary
from freerea_patch import InputError
from freerea_patch.spaces import all_cells
from tests.freerea_seval.upstream_checkout import write_checkout


def test_the_public_code_and_our_loop_keep_the_bound_and_histories_are_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FREEREA_CHECKOUT", str(write_checkout(tmp_path / "FreeREA")))
    latencies = [1.0 + genotype.count("3x3~") + genotype.count("conv") for genotype in all_cells()]
    (tmp_path / "hw.pickle").write_bytes(pickle.dumps({"nasbench201": {"cifar10": {LATENCY: latencies}}}))
    arguments = ["--hw-nas-bench", str(tmp_path / "hw.pickle"), "--datasets", "cifar10", "--seeds", "2"]
    arguments += ["--objectives", NOTHING, BOTH, MINUS, "--samples", "12", "--minutes", "0.1"]
    main([*arguments, "-o", str(tmp_path / "out")])
    rows = pd.read_csv(tmp_path / "out" / "rows.csv")
    assert rows.groupby(["objectives", "search"]).size().tolist() == [2] * 5
    bounded = rows[rows["objectives"].isin((BOTH, MINUS))]
    assert bounded["over"].eq(0).all()
    assert (bounded["predicted"] <= bounded["limit"]).all()
    assert rows[rows["objectives"] == NOTHING]["equal"].tolist() == [1, 1]
    accuracies = pd.read_csv(tmp_path / "FreeREA" / "cached_metrics" / "nats" / "cifar10" / "accuracies.csv")
    assert np.isclose(rows["accuracy"].to_numpy()[:, None], accuracies["accuracy"].to_numpy()).any(axis=1).all()
    printed = capsys.readouterr().out
    assert printed == summary(rows) + "\n"


def test_a_summary_counts_equal_histories_and_networks_beyond_the_bound() -> None:
    values = [
        ("cifar10", NOTHING, AUTHORS, 0, 94.0, 200, "", 70.0, 20.0, "", 1),
        ("cifar10", NOTHING, AUTHORS, 1, 94.5, 220, "", 72.0, 20.0, "", 0),
        ("cifar10", BOUND, LOOP, 0, 90.0, 300, 19.0, 21.0, 20.0, 3, ""),
    ]
    frame = pd.DataFrame(values, columns=COLUMNS).replace("", np.nan).infer_objects()
    assert summary(frame).splitlines()[2:] == [
        f"| cifar10 | {NOTHING} | {AUTHORS} | 2 | 1 of 2 | 94.250 ± 0.250 | 210 |  | 71.00 |  |  |",
        f"| cifar10 | {BOUND} | {LOOP} | 1 |  | 90.000 ± 0.000 | 300 | 19.00 | 21.00 | 20.00 | 3 of 300 |",
    ]


def test_without_a_checkout_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FREEREA_CHECKOUT", raising=False)
    with pytest.raises(InputError, match="--checkout FOLDER, or the variable FREEREA_CHECKOUT"):
        main(["--hw-nas-bench", "x", "-o", str(tmp_path)])
