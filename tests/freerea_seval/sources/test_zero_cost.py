"""The source of zero-cost proxies: settings, labels, cache and errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from freerea_patch import InputError, TopologySpace
from freerea_seval.config import LiveSettings
from freerea_seval.proxies import ALL_PROXIES, LATER_PROXIES, PROXIES
from freerea_seval.proxies.compute import zero_cost_proxies
from freerea_seval.proxies.live import ZeroCost, draw_weights
from freerea_seval.sources.live import ZeroCostSource
from freerea_seval.sources.registry import BUILTIN, Context

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_1x1~2|"
SMALL = LiveSettings(batch_size=4, cache="off")


def save(path: Path, **labels: object) -> str:
    images = np.random.default_rng(5).standard_normal((6, 3, 32, 32), dtype=np.float32)
    np.savez(path, images=images, **labels)  # type: ignore[arg-type]
    return path.name


def source(live: LiveSettings = SMALL, base: Path = Path()) -> ZeroCostSource:
    return ZeroCostSource(Context(TopologySpace(), live, base), None)


def test_every_proxy_is_registered_with_a_direction_and_a_paper() -> None:
    metrics = BUILTIN["zero-cost"].metrics
    assert tuple(metric.name for metric in metrics) == ALL_PROXIES
    assert {metric.direction for metric in metrics} == {"max"}
    for metric in metrics:
        assert metric.name in ("flops", "params") or "20" in metric.description or "19" in metric.description


def test_the_source_gives_the_proxies_of_the_fresh_network(tmp_path: Path) -> None:
    name = save(tmp_path / "b.npz", labels=np.array([0, 1, 9, 1, 5, 5]))
    live = LiveSettings(batch=name, batch_size=4, cache="off", seed=3)
    (row,) = source(live, tmp_path).evaluate([CELL], PROXIES)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = TopologySpace().build(CELL)
        draw_weights(network, 3)
    with np.load(tmp_path / "b.npz") as archive:
        images = torch.from_numpy(archive["images"][:4])
    expected = zero_cost_proxies(network, images, torch.tensor([0, 1, 9, 1]), seed=3)
    assert set(row) == {*PROXIES, "network"}
    for proxy in PROXIES:
        # Another memory layout rounds differently.
        assert row[proxy].value == pytest.approx(expected[proxy].value, rel=2e-2), proxy
    assert row["network"].seconds > 0


def test_the_source_accepts_later_proxies(tmp_path: Path) -> None:
    live = LiveSettings(batch_size=2, cache=str(tmp_path / "c.sqlite"))
    rows = [next(iter(source(live).evaluate([CELL], LATER_PROXIES))) for _ in range(2)]
    assert rows[0] == rows[1]
    assert np.isfinite([rows[0][name].value for name in LATER_PROXIES]).all()


def test_seeds_and_labels_decide_the_values(tmp_path: Path) -> None:
    def snip(live: LiveSettings) -> float:
        (row,) = source(live, tmp_path).evaluate([CELL], ["snip"])
        return row["snip"].value

    random = save(tmp_path / "random.npz")
    labelled = save(tmp_path / "labelled.npz", labels=np.zeros(6, dtype=np.int64))
    first = snip(LiveSettings(batch=random, batch_size=4, cache="off"))
    assert first == snip(LiveSettings(batch=random, batch_size=4, cache="off"))
    assert first != snip(LiveSettings(batch=random, batch_size=4, cache="off", seed=1))
    assert first != snip(LiveSettings(batch=labelled, batch_size=4, cache="off"))


def test_weights_are_drawn_by_seed_and_leave_torchs_own_seed_alone() -> None:
    networks = [TopologySpace().build(CELL) for _ in range(3)]
    before = torch.get_rng_state()
    for network, seed in zip(networks, (0, 0, 1), strict=True):
        draw_weights(network, seed)
    assert torch.equal(torch.get_rng_state(), before)
    first, same, other = (torch.cat([p.flatten() for p in network.parameters()]) for network in networks)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_remembered_values_are_those_computed_and_charged_what_they_had_cost(tmp_path: Path) -> None:
    live = LiveSettings(batch_size=4, cache=str(tmp_path / "c.sqlite"))
    rows = [next(iter(source(live).evaluate([CELL], ["snip", "zen"]))) for _ in range(2)]
    assert rows[0] == rows[1]
    assert rows[1]["zen"].seconds > 0


@pytest.mark.parametrize("labels", [np.zeros(3, dtype=np.int64), np.zeros((6, 2), dtype=np.int64), np.zeros(6)])
def test_labels_that_are_not_one_whole_number_an_image_are_refused(tmp_path: Path, labels: object) -> None:
    batch = str(tmp_path / save(tmp_path / "b.npz", labels=labels))
    with pytest.raises(InputError, match="expected labels of at least 4 whole numbers, got"):
        ZeroCost(TopologySpace(), batch=batch, batch_size=4)


def test_labels_beyond_the_classes_are_refused(tmp_path: Path) -> None:
    batch = str(tmp_path / save(tmp_path / "b.npz", labels=np.arange(8, 14)))
    with pytest.raises(InputError, match=r"snip cannot be computed \(expected labels from 0 to 9, got 8 to 11\)"):
        list(ZeroCost(TopologySpace(), batch=batch, batch_size=4).evaluate([CELL], ["snip"]))


class Unusual(TopologySpace):
    """Networks with a weight that no module draws again, and without a second derivative."""

    def build(self, genotype: str) -> nn.Module:
        layer = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
        pool, head = nn.AdaptiveAvgPool2d(1), nn.Linear(4, 10)
        return nn.Sequential(layer, nn.ReLU(), nn.Hardsigmoid(), pool, nn.Flatten(), head).double()


def test_what_cannot_be_computed_is_not_a_number_and_all_else_follows_the_seed() -> None:
    rows = [next(iter(ZeroCost(Unusual(), batch_size=4).evaluate([CELL], PROXIES))) for _ in range(2)]
    first, second = ({name: row[name].value for name in PROXIES if name != "grasp"} for row in rows)
    assert first == second
    assert np.isfinite(list(first.values())).all()
    assert np.isnan(rows[0]["grasp"].value)
    with pytest.raises(
        InputError, match=r"grasp cannot be computed \(derivative for aten::hardsigmoid_backward is not"
    ):
        list(ZeroCost(Unusual(), batch_size=4).evaluate([CELL], ["grasp"]))


def test_whatever_a_network_raises_is_named() -> None:
    class Faulty(TopologySpace):
        def build(self, genotype: str) -> nn.Module:
            raise KeyError("width")

    with pytest.raises(InputError, match=r"network '.*': snip cannot be computed \('width'\)"):
        list(ZeroCost(Faulty(), batch_size=4).evaluate([CELL], ["snip"]))


def test_an_unknown_proxy_is_named() -> None:
    with pytest.raises(InputError, match="unknown metric of source 'zero-cost': 'synflo'; did you mean 'synflow'"):
        source().describe("synflo")
    with pytest.raises(InputError, match="unknown zero-cost proxy 'synflo'; did you mean 'synflow'"):
        list(ZeroCost(TopologySpace(), batch_size=4).evaluate([CELL], ["synflo"]))


def test_two_kinds_of_gpu_do_not_share_cached_values(monkeypatch: pytest.MonkeyPatch) -> None:
    proxies = ZeroCost(TopologySpace(), batch_size=4, device="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    keys = set()
    for model in ("GPU A", "GPU B"):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, model=model: model)
        keys.add(proxies._key(CELL, "snip"))
    assert len(keys) == 2
