"""What the machine tells: its name, energy and memory."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from freerea_patch import InputError
from freerea_seval.measurement.machine import EnergyMeter, cpu_model, describe_machine, find_meter, governor
from freerea_seval.measurement.memory import check_memory, peaks_mb


def counter(folder: Path, name: str, energy_uj: int, most: int = 999_999) -> Path:
    place = folder / name
    place.mkdir()
    (place / "energy_uj").write_text(f"{energy_uj}\n")
    (place / "max_energy_range_uj").write_text(f"{most}\n")
    return place


def test_energy_is_added_up_over_packages_and_over_the_end_of_a_counter(tmp_path: Path) -> None:
    one, two = counter(tmp_path, "intel-rapl:0", 999_000), counter(tmp_path, "intel-rapl:1", 0)
    part = counter(tmp_path, "intel-rapl:0:0", 0)
    meter = find_meter(tmp_path)
    assert isinstance(meter, EnergyMeter)
    assert meter.read_mj() == 0
    (one / "energy_uj").write_text("1000\n")
    (two / "energy_uj").write_text("500\n")
    (part / "energy_uj").write_text("777\n")
    assert meter.read_mj() == pytest.approx((2000 + 500) / 1e3)
    (two / "energy_uj").write_text("900\n")
    assert meter.read_mj() == pytest.approx(2.9)


def test_a_machine_without_readable_counters_has_no_meter(tmp_path: Path) -> None:
    assert find_meter(tmp_path) is None
    (tmp_path / "intel-rapl:0").mkdir()
    assert find_meter(tmp_path) is None


def test_the_machine_is_described_alike_every_time(tmp_path: Path) -> None:
    described = describe_machine("cpu")
    assert described == describe_machine("cpu")
    assert described["cpu"]
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: Fast One\nmodel name\t: Fast One\n")
    assert cpu_model(info) == "Fast One"
    assert cpu_model(tmp_path / "none")
    assert governor(tmp_path / "none") is None
    info.write_text("performance\n")
    assert governor(info) == "performance"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")
def test_peak_memory_grows_with_width_and_batch_and_depends_on_nothing_before() -> None:
    def recipe(widths: str, batch_size: int = 16) -> dict[str, object]:
        return {"space": "nats-sss", "genotype": widths, "batch_size": batch_size, "seed": 0}

    narrow, wide = "8:8:8:8:8", "64:64:64:64:64"
    specs = [recipe(narrow), recipe(wide), recipe(narrow), recipe(wide), recipe(wide, 1)]
    first, large, second, again, small = (np.nan if peak is None else peak for peak in peaks_mb(specs))
    assert abs(first - second) < 1
    assert large == pytest.approx(again, rel=0.03)
    # Two feature maps of 64 channels alone are 2 * 16 * 64 * 32 * 32 * 4 bytes.
    assert large > 8.3 > first
    assert large > 2 * small


def test_memory_is_that_of_eager_networks_on_the_cpu() -> None:
    with pytest.raises(InputError, match="memory is measured with --backend eager on --device cpu"):
        check_memory("onnx", "cpu")
    assert list(peaks_mb([])) == []
