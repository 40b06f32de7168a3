"""Every example config runs, with a small budget, and does what its first comment says."""

from __future__ import annotations

import csv
import json
import math
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from freerea_seval.config import load_config, make_space
from tests.freerea_seval.cli.test_mistakes import call
from tests.freerea_seval.costs.module_counts import network_cost

CONFIGS = Path(__file__).parents[2] / "experiments" / "configs"
SMALL = (
    *("search.population=5", "search.tournament=3", "budget.evaluations=12"),
    *("live.batch_size=4", "live.initialisations=1", "live.cache=off"),
)


def column(data_dir: Path, metric: str) -> list[float]:
    with open(data_dir / "hw_nas_bench" / "nasbench201_cifar10.csv", newline="") as file:
        return [float(row[metric]) for row in csv.DictReader(file)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    shutil.copytree(CONFIGS, tmp_path / "configs")
    return tmp_path / "configs"


@pytest.fixture
def hw_pickle(place: Path, data_dir: Path) -> Path:
    """HW-NAS-Bench as its authors publish it, as far as the configs need it."""
    with open(data_dir / "hw_nas_bench" / "nasbench201_cifar10.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    metrics = {name: [float(row[name]) for row in rows] for name in rows[0] if name != "index"}
    path = place / "HW-NAS-Bench-v1_0.pickle"
    path.write_bytes(pickle.dumps({"nasbench201": {"cifar10": metrics}}))
    return path


def searched(config: Path, *overrides: str) -> list[dict[str, Any]]:
    """Search with a config; return the front of its first seed."""
    settings = [argument for override in overrides for argument in ("--set", override)]
    run = config.parent / "run"
    assert call("search", config, "-o", run, *settings) == 0
    assert (run / "front.png").exists()
    front: list[dict[str, Any]] = json.loads((run / "seed-0" / "result.json").read_text())["front"]
    assert front
    return front


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_fits_the_schema_and_is_in_the_table(path: Path) -> None:
    assert make_space(load_config(path).space, CONFIGS).name
    assert f"`{path.name}`" in (CONFIGS / "README.md").read_text()
    assert path.read_text().startswith("# ")
    assert isinstance(yaml.safe_load(path.read_text()), dict)


@pytest.mark.data
def test_nobody_in_the_result_violates_the_bound_on_raspi4(place: Path, hw_pickle: Path, data_dir: Path) -> None:
    front = searched(place / "raspi4_constraint.yaml", *SMALL)
    latency = dict(zip(make_space("nats-tss").genotypes(), column(data_dir, "raspi4_latency"), strict=True))  # type: ignore[attr-defined]
    journal = (place / "run/seed-0/journal.jsonl").read_text().splitlines()
    kept = [row for row in map(json.loads, journal) if "naswot" in row["values"]]
    assert len(kept) == 12
    assert len(journal) > 12  # the bound does exclude some, and their slow metrics were not computed
    for row in (*front, *kept):
        assert latency[row["genotype"]] <= 12


@pytest.mark.data
def test_two_hardware_metrics_give_a_front_without_unsupported_cells(place: Path, hw_pickle: Path) -> None:
    front = searched(place / "two_devices.yaml", *SMALL)
    for row in front:
        assert row["edgetpu_latency"] > 0
        better = [
            other
            for other in front
            if other["score"] > row["score"]
            and other["edgetpu_latency"] < row["edgetpu_latency"]
            and other["edgegpu_energy"] < row["edgegpu_energy"]
        ]
        assert not better


def test_a_function_beside_the_config_is_a_metric(place: Path) -> None:
    front = searched(place / "python_metric.yaml", *SMALL)
    # The stem's output, 16 channels of 32 by 32 floats, is there in every network.
    assert {row["peak_activation"] for row in front} == {16 * 32 * 32 * 4 / 1024}


def test_the_size_space_is_searched_under_a_bound_on_parameters(place: Path) -> None:
    front = searched(place / "size_space.yaml", *SMALL)
    space = make_space("nats-sss")
    for row in front:
        cost = network_cost(space.build(row["genotype"]), space.input_shape)
        assert row["params"] <= 0.1
        assert row["params"] * 1e6 == pytest.approx(cost.params)
        assert row["macs"] * 1e6 == pytest.approx(cost.macs)
        assert row["latency"] > 0


def test_a_space_of_ones_own_has_a_front_on_the_latency_of_this_machine(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [argument for override in SMALL for argument in ("--set", override)]
    settings += ["--set", "refine={start: 10, rounds: 1, networks: 3}"]
    assert call("search", place / "own_space.yaml", "-o", place / "run", *settings) == 0
    front = json.loads((place / "run" / "seed-0" / "result.json").read_text())["front"]
    assert front
    for row in front:
        assert all(math.isfinite(row[name]) for name in ("naswot", "logsynflow", "latency_predicted"))
        assert row["latency"] > 0
    assert call("report", place / "run") == 0
    assert front[0]["genotype"] in capsys.readouterr().out


def test_zero_cost_proxies_are_a_fitness_under_a_bound_on_parameters(place: Path) -> None:
    for row in searched(place / "zero_cost.yaml", *SMALL):
        assert row["params"] <= 0.5
        assert row["snip"] >= 0


@pytest.mark.data
def test_published_freerea_explores_its_two_hundred_cells(place: Path, data_dir: Path) -> None:
    (place / "cached_metrics").symlink_to(data_dir / "freerea_cached_metrics")
    front = searched(place / "published_freerea.yaml", "search.seeds=[0]")
    journal = (place / "run/seed-0/journal.jsonl").read_text()
    assert 180 <= journal.count("\n") <= 260
    assert front[0]["accuracy"] > 94
