"""Searches with a constraint that is to hold with a probability."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from freerea_patch import InputError, TopologySpace
from freerea_seval.config import load_config
from freerea_seval.predictor.folder import save_predictor
from freerea_seval.predictor.training import Target, train_predictor
from freerea_seval.runs.execute import execute
from freerea_seval.runs.folder import RunFolder
from freerea_seval.runs.report import read_history
from freerea_seval.runs.setup import prepare
from freerea_seval.strings.encode import SpaceStrings

CONFIG = """
space: nats-tss
search: {population: 8, tournament: 4}
budget: {evaluations: 20}
objectives:
  - {metric: length, source: {python: confidence_metrics:length}, direction: max}
  - {metric: latency, source: {seval: p}, role: constraint, max: 8, confidence: 0.8}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search beside a predictor of a noisy metric and a python metric."""
    folder = tmp_path_factory.mktemp("confidence")
    noise = Random(0)
    cells = noise.sample(list(TopologySpace().genotypes()), 60)
    values = [2.0 * cell.count("nor_conv_3x3") + cell.count("nor_conv_1x1") + noise.uniform(1, 5) for cell in cells]
    predictor, info = train_predictor(
        SpaceStrings(TopologySpace(), "executed").strings(cells),
        values,
        [Target("latency", "ms", "min")],
        space_name="nats-tss/cifar10",
        view="executed",
        model="boosted",
        scale="linear",
        parameters={"n_estimators": 40},
    )
    save_predictor(folder / "p", predictor, info)
    (folder / "confidence_metrics.py").write_text("def length(genotype):\n    return float(len(genotype))\n")
    (folder / "search.yaml").write_text(CONFIG)
    return folder / "search.yaml"


def start(config: Path, run: Path, *overrides: str) -> RunFolder:
    folder = RunFolder.create(run, load_config(config, overrides), config.parent)
    execute(folder)
    return folder


def test_a_network_is_admitted_if_prediction_and_bound_are_within(config: Path, tmp_path: Path) -> None:
    folder = start(config, tmp_path / "run")
    history = read_history(folder, 0)
    assert len(history) == 20
    refused = [c.values for c in history.all_candidates() if not c.feasible]
    assert all(c.values["latency"] <= 8 and c.values["latency_upper"] <= 8 for c in history)
    assert all(v["latency"] > 8 or v["latency_upper"] > 8 for v in refused)
    # Some are refused for what is not certain enough, and what the prediction refuses needs no bound.
    assert any(v["latency"] <= 8 for v in refused)
    assert all(("latency_upper" in v) == (v["latency"] <= 8) for v in refused)
    (front,) = folder.results()
    assert front["infeasible"] == len(refused)
    assert "latency_upper" in (folder.path / "front.csv").read_text().splitlines()[0].split(",")
    for row in front["front"]:
        assert row["latency_upper"] <= 8


def test_more_confidence_admits_no_network_that_less_refuses(config: Path) -> None:
    cells = Random(1).sample(list(TopologySpace().genotypes()), 80)
    admitted = []
    for confidence in ("null", "0.5", "0.7", "0.9"):
        setup = prepare(load_config(config, [f"objectives.1.confidence={confidence}"]), config.parent)
        evaluations = zip(cells, setup.objectives.evaluate(cells), strict=True)
        admitted.append({cell for cell, evaluation in evaluations if "length" in evaluation.values})
    assert all(more <= less for less, more in pairwise(admitted))
    assert len(admitted[0]) > len(admitted[-1]) > 0


def test_a_run_that_is_cut_goes_on_to_the_same_networks(config: Path, tmp_path: Path) -> None:
    folder = start(config, tmp_path / "run")
    journal = folder.path / "seed-0" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    front = folder.results()[0]["front"]
    journal.write_text("".join(lines[:13]))
    (folder.path / "seed-0" / "result.json").unlink()
    again = RunFolder.open(folder.path)
    execute(again)
    for before, after in zip(lines, journal.read_text().splitlines(), strict=True):
        assert {**json.loads(before), "seconds": 0} == {**json.loads(after), "seconds": 0}
    assert again.results()[0]["front"] == front


def test_a_source_that_knows_no_probabilities_is_refused(config: Path) -> None:
    changes = ["source={python: confidence_metrics:length}", "metric=length", "name=long"]
    wrong = load_config(config, [f"objectives.1.{change}" for change in changes])
    message = r"objective 'long': source 'python' gives no probabilities, .*; remove 'confidence'$"
    with pytest.raises(InputError, match=message):
        prepare(wrong, config.parent)


def test_a_confidence_that_takes_more_networks_than_the_predictor_saw_is_refused_before_the_search(
    config: Path,
) -> None:
    with pytest.raises(InputError, match=r"from 60 networks, and a bound that holds with probability 0\.99 takes 99;"):
        prepare(load_config(config, ["objectives.1.confidence=0.99"]), config.parent)
    # Two bounds share what is left of the probability.
    with pytest.raises(InputError, match=r"probability 0\.985 takes 66;"):
        prepare(load_config(config, ["objectives.1.confidence=0.97", "objectives.1.min=1"]), config.parent)
