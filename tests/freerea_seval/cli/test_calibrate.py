"""The commands ``calibrate plan``, ``fit`` and ``run``, and their Python twins."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import freerea_seval as fs
from freerea_patch import InputError, TopologySpace
from freerea_seval.api.calibrating import plan
from tests.freerea_seval.cli.test_mistakes import call, refused

CELLS = TopologySpace().genotypes()


def cost(cell: str, convolution: float, pooling: float) -> float:
    return 1.0 + convolution * (9 * cell.count("conv_3x3") + cell.count("conv_1x1")) + pooling * cell.count("avg_pool")


def on_board(cells: list[str]) -> list[float]:
    """Return the milliseconds on the new device."""
    return [3.0 * cost(cell, 0.15, 0.3) for cell in cells]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A predictor for two other devices."""
    folder = tmp_path_factory.mktemp("base")
    cells = list(CELLS[::150])
    prices = {"phone_ms": (0.2, 0.1), "server_ms": (0.05, 0.1)}
    columns = {name: [cost(cell, *price) for cell in cells] for name, price in prices.items()}
    table = pd.DataFrame({"genotype": cells, **columns})
    fs.train(table, list(columns), folder / "devices", model="gp", scale="log", progress=False)
    return folder / "devices"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Twelve measurements on the new device."""
    cells = list(CELLS[7::1302])
    pd.DataFrame({"genotype": cells, "latency_ms": on_board(cells)}).to_csv(tmp_path / "m.csv", index=False)
    return tmp_path / "m.csv"


def test_ten_planned_measurements_make_a_predictor_of_the_device(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("calibrate", "plan", "--n", "10", "--base", base, "-o", tmp_path / "plan.csv") == 0
    assert "10 networks; measure them on the device" in capsys.readouterr().out
    chosen = pd.read_csv(tmp_path / "plan.csv")["genotype"].tolist()
    assert len(set(chosen)) == 10
    pd.DataFrame({"genotype": chosen, "latency_ms": on_board(chosen)}).to_csv(tmp_path / "m.csv", index=False)
    assert call("calibrate", "fit", tmp_path / "m.csv", "--base", base, "-o", tmp_path / "board") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{tmp_path / 'board'}: predicts latency_ms from 10 networks; of networks left out")
    assert "from half of the measurements" in second
    other = [cell for cell in CELLS[3::500] if cell not in chosen]
    predicted = fs.load_predictor(tmp_path / "board").predict(other, interval=0.9)
    assert np.median(np.abs(predicted["latency_ms"] / on_board(other) - 1)) < 0.03
    assert (predicted["latency_ms_low"] > 0).all()


def test_a_plan_is_deterministic_and_leaves_out_what_was_measured(base: Path, table: Path) -> None:
    chosen = plan(5, base=[base], progress=False)
    assert plan(9, base=[base], progress=False)[:5] == chosen
    assert chosen != plan(5, base=[base], seed=1, progress=False)
    measured = table.with_name("earlier.csv")
    pd.DataFrame({"genotype": chosen[:3], "latency_ms": on_board(chosen[:3])}).to_csv(measured, index=False)
    assert not {*chosen[:3]} & {*plan(5, base=[base], earlier=[measured], progress=False)}


def test_a_later_calibration_takes_up_an_earlier_one(base: Path, table: Path) -> None:
    cells = list(CELLS[20::2000])
    latencies = [*on_board(cells), 1.1 * on_board([CELLS[7]])[0]]
    more = pd.DataFrame({"genotype": [*cells, CELLS[7]], "latency_ms": latencies})
    more.to_csv(table.with_name("more.csv"), index=False)
    calibration = fs.calibrate([table, table.with_name("more.csv")], base=[base], progress=False)
    (metric,) = calibration.predictor.info.metrics
    assert metric.samples == 12 + len(cells)  # the network that was measured twice counts once
    assert calibration.error < calibration.error_of_half
    assert calibration.predictor.info.base[0].startswith("phone_ms, server_ms of nats-tss/cifar10")


def test_values_that_a_base_predictor_has_learned_are_refused(table: Path) -> None:
    fs.train(table, "latency_ms", table.with_name("same"), model="gp", scale="log", progress=False)
    with pytest.raises(InputError, match="was trained on these values: it would leak the target"):
        fs.calibrate(table, base=[table.with_name("same")], progress=False)


def test_without_other_devices_it_learns_from_the_table_alone(table: Path) -> None:
    calibration = fs.calibrate(table, base=[], progress=False)
    assert calibration.error < 0.05
    assert calibration.predictor.info.base == ()
    assert calibration.predictor.metrics == ["latency_ms"]


MISTAKES: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "another unit": (
        lambda t: t.assign(latency_ms=t["latency_ms"].where(t.index != 4, 1000 * t["latency_ms"])),
        "is about 1000 times what the other measurements make expect; give all in one unit",
    ),
    "contradiction": (
        lambda t: pd.concat([t, t.head(1).assign(latency_ms=99.0)]),
        "expected repeated measurements within a factor of 1.5",
    ),
    "one network": (lambda t: t.head(1), "at least 10 values of each metric, got 1"),
    "one value": (lambda t: t.assign(latency_ms=3.0), "latency_ms is 3 for all 12 networks; expected different costs"),
    "unsupported": (
        lambda t: t.assign(latency_ms=t["latency_ms"].where(t.index < 5)),
        "the device cannot run 7 of 12 networks; measure networks that it can run",
    ),
    "not positive": (
        lambda t: t.assign(latency_ms=t["latency_ms"].where(t.index != 2, -4.0)),
        "latency_ms is -4 for a network; expected positive costs",
    ),
    "no number": (
        lambda t: t.assign(latency_ms=t["latency_ms"].astype(str).where(t.index != 3, "fast")),
        "m.csv, line 5: latency_ms is 'fast', expected a finite number",
    ),
    "no column": (
        lambda t: t.rename(columns={"latency_ms": "energy_mj"}),
        "the measurements have no column latency_ms; choose one with --metric: energy_mj",
    ),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_bad_file_is_refused_in_one_line(
    base: Path, table: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change, message = MISTAKES[kind]
    change(pd.read_csv(table)).to_csv(table, index=False)
    refused(capsys, message, "calibrate", "fit", table, "--base", base, "-o", table.with_name("p"))
    assert not table.with_name("p").exists()


def test_a_mistake_in_a_dataframe_names_no_file(base: Path, table: Path) -> None:
    frame = pd.read_csv(table)
    frame.loc[2, "latency_ms"] = np.inf
    with pytest.raises(InputError, match=r"^the table, line 4: latency_ms is 'inf', expected a finite number"):
        fs.calibrate(frame, base=[base], progress=False)


def test_what_contradicts_itself_is_refused(base: Path, table: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--n must be from 1 to 400, got 0"):
        plan(0, progress=False)
    few = tmp_path / "few.txt"
    few.write_text("\n".join(CELLS[:4]))
    with pytest.raises(InputError, match="expected at least 5 networks to choose from, got 4; ask for fewer"):
        plan(5, genotypes=few, progress=False)
    table.with_name("p").mkdir()
    with pytest.raises(InputError, match="exists"):
        fs.calibrate(table, table.with_name("p"), base=[base], progress=False)


@pytest.mark.slow
def test_this_machine_is_calibrated_in_one_command(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("calibrate", "run", "--n", "10", "--base", base, "-o", tmp_path / "here", "--batch-size", "2")
    assert call(*arguments) == 0
    assert "predicts latency_ms from 10 networks" in capsys.readouterr().out
    measured = pd.read_csv(tmp_path / "here.csv")
    assert measured["latency_ms"].notna().sum() == 10
    elsewhere = ("-o", tmp_path / "there", "--ssh", "pi", "--backend", "onnx")
    refused(capsys, "leave out --backend and --device", *arguments[:-4], *elsewhere)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")
def test_memory_is_calibrated_in_one_command_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("calibrate", "run", "-o", tmp_path / "memory", "--metric", "memory")
    assert call(*arguments) == 0
    assert "predicts peak_mb from 10 networks" in capsys.readouterr().out
    assert fs.load_predictor(tmp_path / "memory").info.base == ()  # the base of the package is of latencies


def test_what_cannot_be_measured_is_no_metric_of_a_calibration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("calibrate", "run", "-o", tmp_path / "here", "--metric")
    refused(
        capsys, "metric 'heat' cannot be measured here; expected one of: latency, memory, energy", *arguments, "heat"
    )
    refused(capsys, "expected one of: latency", *arguments, "memory", "--ssh", "pi")
    refused(capsys, "memory is measured with --backend eager", *arguments, "memory", "--backend", "onnx")


def test_a_calibration_starts_from_the_base_of_the_package_unless_asked_not_to(tmp_path: Path, table: Path) -> None:
    assert call("calibrate", "fit", table, "-o", tmp_path / "with") == 0
    assert call("calibrate", "fit", table, "--base", "none", "-o", tmp_path / "without") == 0
    (base,) = fs.load_predictor(tmp_path / "with").info.base
    assert base.endswith("(freerea-seval)")
    assert fs.load_predictor(tmp_path / "without").info.base == ()
