"""Latency, memory and energy of this machine."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from freerea_patch import InputError, SizeSpace, TopologySpace
from freerea_patch.imports import torch_threads
from freerea_seval.config import LiveSettings
from freerea_seval.measurement import run
from freerea_seval.measurement.machine import EnergyMeter
from freerea_seval.measurement.timing import BURST, REWARM, WARM_UPS
from freerea_seval.progress import Progress, Show
from freerea_seval.sources import device
from freerea_seval.sources.device import ROUNDS, DeviceSource, measure, measure_latency_ms
from freerea_seval.sources.registry import Context

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_1x1~2|"


class Sleeper(nn.Module):
    """A network that takes a given time, and notes who ran when."""

    def __init__(self, seconds: float, name: str, log: list[str]) -> None:
        super().__init__()
        self.seconds, self.name, self.log = seconds, name, log

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        assert x.shape == (1, 3, 32, 32)
        self.log.append(self.name)
        time.sleep(self.seconds)
        return x


class Sleepers(TopologySpace):
    def __init__(self) -> None:
        super().__init__()
        self.log: list[str] = []

    def build(self, genotype: str) -> nn.Module:
        return Sleeper(float(genotype), genotype, self.log)


def test_the_latency_is_that_of_one_forward_pass_in_milliseconds() -> None:
    slow, fast, again = measure_latency_ms(Sleepers(), ["0.010", "0.002", "0.010"])
    assert slow == again == pytest.approx(10, rel=0.5)
    assert fast == pytest.approx(2, rel=0.8)


@pytest.mark.parametrize(("threads", "expected"), [(None, 1), (2, 2)])
def test_networks_are_measured_with_the_threads_of_the_config_and_one_by_default(
    threads: int | None, expected: int
) -> None:
    used = []

    class Threads(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            used.append(torch.get_num_threads())
            return x

    class Space(TopologySpace):
        def build(self, genotype: str) -> nn.Module:
            return Threads()

    with torch_threads(3):
        measure(Context(Space(), live=LiveSettings(threads=threads)), "latency", ["0.0"])
        assert torch.get_num_threads() == 3
    assert set(used) == {expected}


def test_the_networks_take_turns() -> None:
    space = Sleepers()
    measure_latency_ms(space, ["0.0", "0.001"])
    # Ready is who has run once; then come the first warm-ups, and every round's passes.
    first = 1 + WARM_UPS + REWARM + BURST
    assert len(set(space.log[:first])) == len(set(space.log[first : 2 * first])) == 1
    later = space.log[2 * first :]
    visits = [later[place : place + REWARM + BURST] for place in range(0, len(later), REWARM + BURST)]
    assert all(len(set(visit)) == 1 for visit in visits)
    assert [{a[0], b[0]} for a, b in zip(visits[::2], visits[1::2], strict=True)] == [{"0.0", "0.001"}] * (ROUNDS - 1)


def test_fractions_are_reported_up_to_one() -> None:
    seen: list[float] = []

    class Recorder(Progress):
        @contextmanager
        def task(self, description: str) -> Iterator[Show]:
            yield lambda fraction, note: seen.append(fraction)

    measure_latency_ms(Sleepers(), ["0.0"], progress=Recorder())
    assert seen == sorted(seen)
    assert seen[-1] == 1


def test_a_real_network_has_a_latency_and_is_charged() -> None:
    source = DeviceSource(Context(TopologySpace()), None)
    (row,) = source.evaluate([CELL], ["latency"])
    assert 0 < row["latency"].value < row["latency"].seconds * 1e3
    assert source.evaluate([], ["latency"]) == []


class Broken(TopologySpace):
    """A space where nothing runs but one cell."""

    def build(self, genotype: str) -> nn.Module:
        return nn.Flatten() if genotype == CELL else nn.Linear(7, 7)


def test_a_network_that_cannot_run_is_unsupported() -> None:
    other = CELL.replace("none", "skip_connect")
    unable, able = DeviceSource(Context(Broken()), None).evaluate([other, CELL], ["latency"])
    assert math.isnan(unable["latency"].value)
    assert able["latency"].value > 0


def test_it_is_a_mistake_if_no_network_can_run() -> None:
    with pytest.raises(
        InputError,
        match=r"none of 1 networks can run on 'cpu' with backend 'eager' \(.* failed with RuntimeError: mat1 and mat2",
    ):
        measure_latency_ms(Broken(), [CELL.replace("none", "skip_connect")])


WIDTHS = ("8:8:8:8:8", "64:64:64:64:64")
#: Bytes of the weights of the second of them, in megabytes; the first takes less for all of its inference.
WEIGHTS_MB = 2.85


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")
def test_memory_is_the_peak_of_a_process_of_its_own_and_resumes(tmp_path: Path) -> None:
    context = Context(SizeSpace(), space_name={"name": "nats-sss", "dataset": "cifar100"})
    narrow, wide = measure(context, "memory", WIDTHS, tmp_path / "m.csv")
    assert wide > WEIGHTS_MB > narrow > 0
    assert measure(context, "memory", WIDTHS, tmp_path / "m.csv") == [narrow, wide]
    (row,) = DeviceSource(context, None).evaluate(WIDTHS[:1], ["latency", "memory"])
    assert 0 < row["memory"].value < WEIGHTS_MB
    assert row["latency"].value > 0


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")
def test_memory_of_a_space_of_ones_own_is_measured_where_the_config_is(tmp_path: Path) -> None:
    (tmp_path / "wide_space.py").write_text("from freerea_patch import SizeSpace as Wide\n")
    context = Context(SizeSpace(), base=tmp_path, space_name="wide_space:Wide")
    (memory,) = measure(context, "memory", WIDTHS[1:])
    assert memory > WEIGHTS_MB


def test_energy_is_that_of_the_counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Meter(EnergyMeter):
        def read_mj(self) -> float:
            self._total_uj += 6 * BURST
            return self._total_uj / 2.0

    for module in (device, run):
        monkeypatch.setattr(module, "find_meter", lambda: Meter([]))
    assert measure(Context(Sleepers()), "energy", ["0.0", "0.001"]) == [3.0, 3.0]
