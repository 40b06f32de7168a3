"""How a learned metric is measured: what it takes, and what is measured together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pandas import DataFrame

import freerea_seval as fs
from freerea_patch import InputError, TopologySpace
from freerea_seval.measurement.machine import EnergyMeter
from freerea_seval.measurement.networks import most_informative_first
from freerea_seval.sources import device
from freerea_seval.sources.learned import LearnedSource
from freerea_seval.sources.registry import Context

CELLS = list(TopologySpace().genotypes()[::3000])


def learned(argument: dict[str, Any], metric: str, base: Path) -> LearnedSource:
    source = LearnedSource(Context(TopologySpace(), base=base, refines=True, space_name="nats-tss"), argument)
    info = source.describe(metric)
    source.specify(info.unit, info.direction)
    return source


@pytest.fixture
def energy_meter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with a counter that stands still."""
    (tmp_path / "max_energy_range_uj").write_text("1000")
    (tmp_path / "energy_uj").write_text("5")
    monkeypatch.setattr(device, "find_meter", lambda: EnergyMeter([tmp_path]))


@pytest.mark.usefixtures("energy_meter")
@pytest.mark.parametrize(
    ("metric", "unit", "anchored"), [("latency", "ms", 1), ("energy", "mJ", 1), ("memory", "MB", 0)]
)
def test_only_what_drifts_is_measured_with_networks_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: str, unit: str, anchored: int
) -> None:
    asked: list[str] = []

    def measured(context: Context, name: str, genotypes: Sequence[str], output: Path) -> list[float]:
        assert name == metric
        asked.extend(genotypes)
        return [6.0] * len(genotypes)

    monkeypatch.setattr(device, "measure", measured)
    source = learned({"measure": metric}, metric, tmp_path)
    assert source.describe(metric).unit == unit
    values = list(source.measure(CELLS[:2], tmp_path / "m.csv", {CELLS[4]: 2.0}))
    assert asked == [*CELLS[4:5] * anchored, *CELLS[:2]]
    assert [value.value for _, value in values] == [6.0 / (3.0 if anchored else 1.0)] * 2
    assert source.is_measured_together


def test_what_this_machine_cannot_measure_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="'measure' can be latency, memory or energy, not 'ttft', and of language"):
        learned({"measure": "ttft"}, "ttft", tmp_path)
    monkeypatch.setattr(device, "find_meter", lambda: None)
    with pytest.raises(
        InputError, match=r"needs Linux and permission to read /sys/class/powercap/intel-rapl:\*/energy_uj"
    ):
        learned({"measure": "energy"}, "energy", tmp_path)


def test_where_costs_are_sums_beliefs_begin_with_them(tmp_path: Path) -> None:
    def additive_ms(genotype: str) -> float:
        return 1.0 + 0.5 * genotype.count("conv_3x3") + 0.3 * genotype.count("conv_1x1")

    cells = list(TopologySpace().genotypes()[::200])
    slow, fast = (sorted(cells, key=additive_ms)[part] for part in (slice(-40, None), slice(0, 20)))
    source = learned({"ask": "latency"}, "latency", tmp_path)
    source.measured = {genotype: additive_ms(genotype) for genotype in slow}
    errors = []
    for trains in (False, True):  # without a predictor, nothing says that costs are sums
        if trains:
            source.train()
        beliefs = source.belief(fast, [1.0, 2.0])
        low, high = beliefs.bounds
        predicted_ms = np.exp((beliefs.belief.mean - low) / (high - low) * np.log(2.0))
        errors.append(np.abs(predicted_ms / [additive_ms(genotype) for genotype in fast] - 1).max())
    assert errors[1] < 0.1 < errors[0]


def test_beliefs_take_a_guide_into_account(tmp_path: Path) -> None:
    cells = list(TopologySpace().genotypes()[::400])
    quality = dict(zip(cells, np.random.default_rng(0).normal(size=len(cells)).tolist(), strict=True))
    source = learned({"ask": "accuracy"}, "accuracy", tmp_path)
    source.measured = {genotype: 60 + 10 * quality[genotype] for genotype in cells[:20]}
    true = [quality[genotype] for genotype in cells[20:]]
    alone = source.belief(cells[20:]).belief
    guided = source.belief(cells[20:], guide=quality).belief
    assert abs(np.corrcoef(alone.mean, true)[0, 1]) < 0.7 < 0.9 < np.corrcoef(guided.mean, true)[0, 1]
    assert guided.std.mean() < alone.std.mean()
    equal = {**quality, cells[21]: quality[cells[20]]}
    twice = source.belief([cells[20], cells[20], cells[0]], guide=equal).belief
    assert twice.mean[0] == twice.mean[1]
    assert twice.std[2] == 0


def test_a_search_learns_from_predictors_of_other_devices(tmp_path: Path) -> None:
    def cost(genotype: str, convolution: float, pooling: float) -> float:
        return 1.0 + convolution * genotype.count("conv_3x3") + pooling * genotype.count("avg_pool")

    cells = list(TopologySpace().genotypes()[::200])
    phone, board = ([cost(genotype, *prices) for genotype in cells] for prices in ((0.5, 0.2), (0.2, 0.3)))
    table = DataFrame({"genotype": cells, "phone_ms": phone, "board_ms": board})
    fs.train(table, ["phone_ms", "board_ms"], tmp_path / "others", model="gp", scale="log", progress=False)
    source = learned({"ask": "latency", "base": "others"}, "latency", tmp_path)
    source.measured = {genotype: 4.0 * cost(genotype, 0.35, 0.25) for genotype in cells[::6]}
    source.train()
    assert source.info.base[0].startswith("phone_ms, board_ms of nats-tss/cifar10")
    other = cells[1::6]
    predicted = np.array([prediction.value for prediction in source.predict(other)])
    true = np.array([4.0 * cost(genotype, 0.35, 0.25) for genotype in other])
    assert np.median(np.abs(predicted / true - 1)) < 0.05
    belief = source.belief(other, [1.0, np.e])
    low, high = belief.bounds
    assert (belief.belief.mean - low) / (high - low) == pytest.approx(np.log(true), abs=0.2)


@pytest.mark.parametrize(
    ("base", "message"),
    [(3, "'base' is 3, expected the folder of a predictor, or several"), ("nowhere", "no such folder")],
)
def test_a_base_that_is_no_predictor_is_refused(tmp_path: Path, base: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        learned({"ask": "latency", "base": base}, "latency", tmp_path)


def test_networks_to_start_with_teach_the_model_of_few_costs_where_a_device_is_measured(tmp_path: Path) -> None:
    pool = list(TopologySpace().genotypes()[::60])
    chosen = {
        kind: most_informative_first(TopologySpace(), pool, base=learned(argument, "latency", tmp_path).cost_bases)
        for kind, argument in (("device", {"measure": "latency"}), ("asked", {"ask": "latency"}))
    }
    assert chosen["asked"] == most_informative_first(TopologySpace(), pool)
    assert chosen["device"] == most_informative_first(TopologySpace(), pool, base=[])
    assert chosen["device"][:12] != chosen["asked"][:12]
