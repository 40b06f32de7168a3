"""FBNet's space all the way: a search within a bound, a network of it, a predictor, and sources that lack it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

import freerea_seval as fs
from tests.freerea_seval.cli.test_mistakes import call

CONFIG = """
space: fbnet
search: {population: 4, tournament: 2, seeds: [0]}
budget: {evaluations: 8}
live: {cache: off, batch_size: 4, initialisations: 1}
objectives:
  - {metric: naswot, source: training-free}
  - {metric: logsynflow, source: training-free}
  - {metric: params, source: cost, role: constraint, max: 2.5}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "fbnet.yaml").write_text(CONFIG)
    return tmp_path / "fbnet.yaml"


def test_a_search_keeps_a_bound_and_its_best_network_is_built_and_exported(config: Path) -> None:
    run = fs.search(config, config.parent / "run", progress=False)
    rejected = run.history["params"] > 2.5
    assert 0 < rejected.sum() < len(run.history)
    assert math.isfinite(run.best["naswot"].iloc[0])
    assert run.best["params"].iloc[0] <= 2.5
    parameters = sum(parameter.numel() for parameter in run.build(0).parameters())
    assert parameters / 1e6 == pytest.approx(run.best["params"].iloc[0])
    run.export(config.parent / "best.onnx", 0)
    assert (config.parent / "best.onnx").stat().st_size > 4 * 0.9 * parameters


def test_a_preset_guides_the_search_by_what_the_space_has(config: Path) -> None:
    """The space does not define skip, which the preset weighs where it can."""
    guided = fs.search(config, config.parent / "guided", override=["search.preset=guided"], progress=False)
    assert {"independence", "size", "depth", "naswot", "params"} <= set(guided.history)
    assert "skip" not in guided.history
    kept = guided.history[guided.history["feasible"]] if "feasible" in guided.history else guided.best
    assert all(map(math.isfinite, kept["independence"].dropna()))
    assert "optional: true" not in (config.parent / "guided" / "config.yaml").read_text()


def test_blocks_with_groups_are_exported_as_they_compute(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from freerea_seval.measurement.backends import onnx_bytes

    image = torch.rand(1, 3, 32, 32)
    network = fs.FBNetSpace().build(":".join("15" * 11)).eval()
    session = onnxruntime.InferenceSession(onnx_bytes(network, [image]), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(result), network(image), rtol=1e-3, atol=1e-5)


def test_a_predictor_learns_from_measurements_of_the_space(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, folder = tmp_path / "latency.csv", tmp_path / "predictor"
    assert call("measure", "--space", "fbnet", "--networks", "10", "--rounds", "1", "-o", table) == 0
    assert call("train", table, "--metric", "latency_ms", "--space", "fbnet", "--model", "gp", "-o", folder) == 0
    capsys.readouterr()
    assert call("predict", folder, ":".join("0" * 22), ":".join("7" * 22)) == 0
    _, small, large = capsys.readouterr().out.splitlines()
    assert small.startswith("0:0:0:")
    assert large.startswith("7:7:7:")
    assert json.loads((tmp_path / "latency.json").read_text())["space"] == "fbnet/cifar100"


@pytest.mark.parametrize(
    ("metric", "source", "message"),
    [
        ("skip", "training-free", "space 'fbnet/cifar100' does not define the metric skip; use other metrics: "),
        ("accuracy", "{nats-bench: .}", "source 'nats-bench' has nats-tss and nats-sss only, not fbnet/cifar100"),
        ("baseline_accuracy", "analog-nasbench", "has nats-tss on cifar10 only, not fbnet/cifar100"),
        ("raspi4_latency", "{hw-nas-bench: a.pickle}", "has the cells of nats-tss only, not of fbnet/cifar100"),
        ("naswot", "{freerea-cache: .}", "has the cells of nats-tss only, not of fbnet/cifar100"),
    ],
)
def test_a_source_without_the_space_says_so(
    config: Path, capsys: pytest.CaptureFixture[str], metric: str, source: str, message: str
) -> None:
    config.write_text(CONFIG + f"  - {{metric: {metric}, source: {source}, name: other}}\n")
    assert call("search", config, "-o", config.parent / "run") == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert message in error
