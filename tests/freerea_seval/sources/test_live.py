"""The sources that compute on live networks."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from freerea_patch import InputError, Measured, MetricCache, SizeSpace, TopologySpace, TrainingFree
from freerea_seval.config import LiveSettings
from freerea_seval.costs import network_costs
from freerea_seval.sources.live import CACHE_VARIABLE, CostSource, TrainingFreeSource, ZeroCostSource, open_cache
from freerea_seval.sources.registry import Context

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_1x1~2|"
SMALL = LiveSettings(batch_size=4, initialisations=1, cache="off")


def test_training_free_metrics_are_those_of_the_patch() -> None:
    space = TopologySpace()
    (row,) = TrainingFreeSource(Context(space, SMALL), None).evaluate([CELL], ["naswot", "logsynflow", "skip"])
    (expected,) = TrainingFree(space, batch_size=4, initialisations=1).evaluate(
        [CELL], ["naswot", "logsynflow", "skip"]
    )
    for metric in ("naswot", "logsynflow", "skip"):
        assert row[metric].value == expected[metric].value
        assert math.isfinite(row[metric].value)
    assert row["network"].seconds > 0


def test_the_batch_is_looked_for_beside_the_config(tmp_path: Path) -> None:
    images = np.random.default_rng(5).standard_normal((4, 3, 32, 32), dtype=np.float32)
    np.savez(tmp_path / "b.npz", images=images)
    live = LiveSettings(batch="b.npz", batch_size=4, initialisations=1, cache="off")
    (row,) = TrainingFreeSource(Context(TopologySpace(), live, tmp_path), None).evaluate([CELL], ["naswot"])
    (expected,) = TrainingFree(TopologySpace(), batch=images, initialisations=1).evaluate([CELL], ["naswot"])
    assert row["naswot"].value == expected["naswot"].value


def test_costs_are_in_millions_and_charged() -> None:
    # NATS-Bench publishes 0.011714 million parameters and 4.481114 million multiply-adds for this network.
    (row,) = CostSource(Context(SizeSpace(), SMALL), None).evaluate(["8:8:8:8:8"], ["params", "macs"])
    assert row["params"].value == pytest.approx(0.011714)
    assert row["macs"].value == pytest.approx(4.481114)
    assert row["macs"].seconds > 0


def test_memory_is_in_megabytes_and_a_training_step_has_the_batch() -> None:
    space, genotype = SizeSpace(), "8:8:8:8:8"
    names = ["activations", "macs", "inference_memory", "training_memory"]
    (row,) = CostSource(Context(space, SMALL), None).evaluate([genotype], names)
    one, batch = (network_costs(space.build(genotype), [torch.zeros(n, *space.input_shape)]) for n in (1, 4))
    assert list(row) == ["macs", "activations", "inference_memory", "training_memory"]
    assert row["activations"].value == one.activation_bytes / 1e6
    assert row["inference_memory"].value == one.peak_inference_bytes / 1e6
    assert row["training_memory"].value == batch.peak_training_bytes / 1e6
    assert all(measured.seconds > 0 for measured in row.values())


def test_the_cache_is_where_the_settings_or_the_environment_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "environment.sqlite"))
    cache = open_cache(LiveSettings(cache="mine/c.sqlite"), tmp_path)
    assert isinstance(cache, MetricCache)
    assert cache.path == tmp_path / "mine" / "c.sqlite"
    cache = open_cache(LiveSettings(), tmp_path)
    assert isinstance(cache, MetricCache)
    assert cache.path == tmp_path / "environment.sqlite"
    assert open_cache(LiveSettings(cache="off"), tmp_path) is None


def test_remembered_values_are_charged_what_they_had_cost(tmp_path: Path) -> None:
    live = LiveSettings(batch_size=4, initialisations=1, cache=str(tmp_path / "c.sqlite"))
    rows: list[Mapping[str, Measured]] = []
    for _ in range(2):
        rows += TrainingFreeSource(Context(TopologySpace(), live), None).evaluate([CELL], ["naswot"])
    assert rows[0] == rows[1]
    assert rows[1]["naswot"].seconds > 0


def test_an_unknown_metric_is_named() -> None:
    with pytest.raises(
        InputError, match="unknown metric of source 'training-free': 'synflow'; did you mean 'logsynflow'"
    ):
        TrainingFreeSource(Context(TopologySpace(), SMALL), None).describe("synflow")


@pytest.mark.parametrize("kind", [TrainingFreeSource, ZeroCostSource, CostSource])
def test_sources_can_be_pickled_and_used_by_threads(kind: Any, tmp_path: Path) -> None:
    metrics = {
        TrainingFreeSource: ["naswot", "logsynflow"],
        ZeroCostSource: ["snip", "fisher", "l2_norm"],
        CostSource: ["params", "training_memory"],
    }[kind]
    live = LiveSettings(batch_size=4, initialisations=1, cache="cache.sqlite")
    space = SizeSpace("ImageNet16-120")
    genotypes = ["8:8:8:8:8", "8:16:8:8:8", "8:8:24:8:8", "16:8:8:8:8"]

    def values(source: Any, order: Sequence[str] = genotypes) -> dict[str, list[float]]:
        rows = dict(zip(order, source.evaluate(order, metrics), strict=True))
        return {genotype: [rows[genotype][metric].value for metric in metrics] for genotype in genotypes}

    alone = values(kind(Context(space, live.model_copy(update={"cache": "off"})), None))
    source = kind(Context(space, live, tmp_path), None)
    copies = [source, pickle.loads(pickle.dumps(source))]  # noqa: S301
    with ThreadPoolExecutor(4) as pool:
        orders = [genotypes[shift:] + genotypes[:shift] for shift in range(4)]
        assert all(found == alone for found in pool.map(values, copies * 2, orders))
    assert values(pickle.loads(pickle.dumps(source))) == alone  # noqa: S301
