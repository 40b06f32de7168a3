"""The config of other engines through Ray Tune."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import freerea_seval as fs
from experiments.search import ray_tune
from experiments.search.benchmarks import read_benchmark, write_made_up_tables
from experiments.search.methods import METHODS, search_config
from tests.test_documentation import ROOT

ray = pytest.importorskip("ray")


@pytest.mark.slow
def test_trials_are_judged_as_the_searches_of_a_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    write_made_up_tables(tmp_path, ["cifar100"])
    benchmark = read_benchmark(tmp_path, "cifar100", "edgegpu_latency")
    (method,) = (method for method in METHODS if method.name == "freerea+true")
    sizes = {"population": 10, "tournament": 5}
    table = tmp_path / "tables" / "cifar100.csv"
    bound = benchmark.bound(0.25)
    config = search_config(method, benchmark, seed=0, budget={"evaluations": 30}, sizes=sizes, bound=bound, table=table)
    fs.search(config, tmp_path / "run", progress=False)
    row = {"dataset": "cifar100", "metric": "edgegpu_latency", "quantile": 0.25, "method": ray_tune.METHOD}
    pd.DataFrame([{**row, "seed": 0, "status": "ok", "folder": "run"}]).to_csv(tmp_path / "rows.csv", index=False)
    try:
        ray_tune.main([str(tmp_path), "--trials", "3", "12", "-o", str(tmp_path / "tuned")])
    finally:
        ray.shutdown()
    rows = pd.read_csv(tmp_path / "tuned" / "rows.csv")
    assert rows["trials"].tolist() == [3, 12]
    assert (rows["networks"] <= rows["trials"]).all()
    assert 1 <= rows["feasible"].iloc[1] < rows["networks"].iloc[1]
    assert 0 <= rows["regret"].iloc[1] < benchmark.best(bound)
    assert "| cifar100 | edgegpu_latency | 0.25 | 12 |" in capsys.readouterr().out
