"""Base predictors that know the values to be learned are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from freerea_patch import InputError, TopologySpace
from freerea_seval.predictor.folder import save_predictor
from freerea_seval.predictor.model_card import PredictedMetric, PredictorInfo
from freerea_seval.predictor.seval import SEvalPredictor
from freerea_seval.predictor.training import Target, data_hash, train_predictor
from freerea_seval.predictor.transfer import SHIPPED, device_bases, load_bases
from freerea_seval.strings import SpaceStrings
from freerea_seval.tables import read_csv
from tests.freerea_seval.predictor.conftest import chain

GOOD = [chain(seed) for seed in range(12)]
CIFAR10, CIFAR100 = "nats-tss/cifar10", "nats-tss/cifar100"
INFO = PredictorInfo((PredictedMetric("latency_ms", "ms", "min", 12),), CIFAR10, "executed", 12, "0" * 64)


@pytest.fixture(scope="module")
def learned() -> SEvalPredictor:
    return SEvalPredictor("boosted", "linear", {"n_estimators": 3}).fit(GOOD, range(12))


def saved(folder: Path, learned: SEvalPredictor, **facts: object) -> Path:
    save_predictor(folder, learned, replace(INFO, **facts))  # type: ignore[arg-type]
    return folder


@pytest.mark.parametrize("metric", ["latency_ms", "latency_s", "latency"])
def test_the_same_metric_of_the_same_space_is_refused_in_any_unit(
    metric: str, tmp_path: Path, learned: SEvalPredictor
) -> None:
    base = saved(tmp_path / "b", learned)
    with pytest.raises(
        InputError, match=rf"--base .*b predicts {metric} of {CIFAR10} as well: .* give the column another name"
    ):
        load_bases([base], ["energy", metric], [CIFAR10], None)


@pytest.mark.parametrize(("metric", "space"), [("latency_ms", CIFAR100), ("latency_pi_ms", CIFAR10), ("lat", CIFAR10)])
def test_another_metric_or_data_set_is_taken(metric: str, space: str, tmp_path: Path, learned: SEvalPredictor) -> None:
    bases = load_bases([base := saved(tmp_path / "b", learned)], [metric], [space], None)
    assert (bases.view, list(bases.predictors)) == ("executed", [f"latency_ms of {CIFAR10} ({base})"])


def test_a_base_that_asks_such_a_predictor_itself_is_refused(tmp_path: Path, learned: SEvalPredictor) -> None:
    facts = {"metrics": (PredictedMetric("energy_mj", "mJ", "min", 12),)}
    base = saved(tmp_path / "b", learned, **facts, base=(f"power, latency_ms of {CIFAR10} (somewhere)",))
    with pytest.raises(InputError, match="predicts latency_ms of"):
        load_bases([base], ["latency_ms"], [CIFAR10], None)
    assert load_bases([base], ["latency_ms"], [CIFAR100], None).predictors


def test_the_same_data_under_another_name_is_refused(tmp_path: Path) -> None:
    values, target = np.arange(12.0), Target("latency", "ms", "min")
    values[3] = np.inf
    predictor, info = train_predictor(GOOD, values, [target], space_name=CIFAR10, view="executed", model="gp")
    save_predictor(tmp_path / "b", predictor, info)
    bases = load_bases([tmp_path / "b"], ["seconds"], [CIFAR10], None)
    with pytest.raises(InputError, match=r"--base .*b was trained on these values: .*; leave it out"):
        bases.check_data(data_hash(GOOD, values[:, None]))
    bases.check_data(data_hash(GOOD, values[:, None] + 1))


@pytest.mark.parametrize(
    ("base", "metric", "space", "expected"),
    [
        (None, "latency_ms", CIFAR10, [SHIPPED]),
        (None, "latency", CIFAR100, [SHIPPED]),
        (None, "energy_mj", CIFAR10, []),
        (None, "latency_ms", "nats-tss/ImageNet16-120", []),
        (None, "latency_ms", "gpt-s", []),
        ([], "latency_ms", CIFAR10, []),
        (["none"], "latency_ms", CIFAR10, []),
        (["phone", "board"], "latency_ms", CIFAR10, [Path("phone"), Path("board")]),
    ],
)
def test_the_base_of_the_package_serves_where_it_was_tried(
    base: list[str] | None, metric: str, space: str, expected: list[Path]
) -> None:
    assert device_bases(base, metric, space) == expected


def test_the_base_of_the_package_is_small_and_knows_its_measurements() -> None:
    bases = load_bases([SHIPPED], ["latency_ms"], (), None)
    (description,), (predictor,) = bases.predictors, bases.predictors.values()
    assert description.endswith(" of nats-tss/cifar10 (freerea-seval)")  # no path of this machine
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 5e6
    measured = read_csv(SHIPPED / "measurements.csv").set_index("genotype").astype(float)
    predicted = predictor.predict(list(SpaceStrings(TopologySpace(), bases.view).strings(list(measured.index))))
    assert np.median(np.abs(predicted / measured.to_numpy() - 1)) < 0.05
