"""Results from a device elsewhere: every mistake is named by its row."""

from __future__ import annotations

import csv
import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from freerea_patch import InputError, TopologySpace
from freerea_seval.files import locked_folder
from freerea_seval.measurement import detrend
from freerea_seval.measurement.networks import Networks, space_networks
from freerea_seval.measurement.remote import export, import_results
from freerea_seval.measurement.timing import Timing, summaries

CELLS = list(TopologySpace().genotypes()[:4])
GOOD = [
    [CELLS[2], "3.5", "0.25", "11", "pi", ""],
    [CELLS[0], "1.5", "0.125", "11", "pi", ""],
    [CELLS[1], "", "", "", "pi", "Fail: no kernel"],
    [CELLS[3], "4e-1", "0", "3", "pi", ""],
]
HEADER = ["network", "latency_ms", "latency_iqr_ms", "rounds", "machine", "reason"]


def write(folder: Path, rows: list[list[str]], header: list[str] = HEADER) -> Path:
    """Write results with their manifest; return the results' path."""
    manifest = {
        "format": 1,
        "column": "genotype",
        "space": "nats-tss/cifar10",
        "networks": [{"network": c} for c in CELLS],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with (folder / "results.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return folder / "results.csv"


def test_results_become_a_table_with_empty_cells_for_what_cannot_run(tmp_path: Path) -> None:
    assert import_results(write(tmp_path, GOOD), tmp_path / "out.csv") == (3, 1)
    assert (tmp_path / "out.csv").read_text().splitlines() == [
        "genotype,latency_ms,latency_iqr_ms,rounds",
        f"{CELLS[2]},3.5,0.25,11",
        f"{CELLS[0]},1.5,0.125,11",
        f"{CELLS[1]},,,",
        f"{CELLS[3]},0.4,0,3",
    ]
    facts = json.loads((tmp_path / "out.json").read_text())
    assert facts["machine"] == "pi"
    assert facts["space"] == "nats-tss/cifar10"
    assert facts["unsupported"] == {CELLS[1]: "Fail: no kernel"}
    with pytest.raises(InputError, match=r"out\.csv exists already"):
        import_results(tmp_path / "results.csv", tmp_path / "out.csv")


def changed(row: int, column: int, text: str) -> list[list[str]]:
    rows = [list(fields) for fields in GOOD]
    rows[row][column] = text
    return rows


MISTAKES = {
    "an unknown network": (changed(0, 0, "nonsense"), "row 2: 'nonsense' is not a network of the manifest"),
    "NaN": (changed(1, 1, "nan"), "row 3: latency_ms is 'nan', expected a finite number"),
    "infinity": (changed(1, 1, "inf"), "row 3: latency_ms is 'inf'"),
    "a word": (changed(1, 1, "fast"), "row 3: latency_ms is 'fast'"),
    "a negative number": (changed(1, 1, "-1"), "row 3: latency_ms is -1, which is negative"),
    "a negative spread": (changed(1, 2, "-2"), "row 3: latency_iqr_ms is -2, which is negative"),
    "zero": (changed(1, 1, "0"), "row 3: latency_ms is 0; a network takes some time"),
    "nothing": (changed(1, 1, ""), "row 3: latency_ms is missing, and no reason says why"),
    "no rounds": (changed(3, 3, "0"), "row 5: rounds is '0'"),
    "a number and a reason": (changed(2, 1, "3"), "row 4: both a latency and a reason"),
    "a network twice": ([*GOOD, GOOD[0]], f"row 6: '{CELLS[2]}' is there already, in row 2"),
    "a network without a row": (GOOD[:3], f"no row for '{CELLS[3]}'"),
    "another machine": (changed(3, 4, "phone"), "row 5: measured on 'phone', the rows above on 'pi'"),
    "a row too short": ([*GOOD[:3], GOOD[3][:2]], "line 5: expected 6 fields as in the header, got 2"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_named_by_its_row(tmp_path: Path, kind: str) -> None:
    rows, expected = MISTAKES[kind]
    with pytest.raises(InputError) as caught:
        import_results(write(tmp_path, rows), tmp_path / "out.csv")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.csv").exists()


def test_all_mistakes_are_named_at_once_up_to_ten(tmp_path: Path) -> None:
    rows = [["x", *GOOD[0][1:]], changed(1, 1, "nan")[1], changed(2, 1, "3")[2]]
    with pytest.raises(InputError) as caught:
        import_results(write(tmp_path, rows), tmp_path / "out.csv")
    assert all(part in str(caught.value) for part in ("row 2: ", "row 3: ", "row 4: ", f"no row for '{CELLS[2]}'"))
    with pytest.raises(InputError, match=r"row 11: .*; and 24 more; run measure\.py again"):
        import_results(write(tmp_path, [["x", *GOOD[0][1:]]] * 30), tmp_path / "out.csv")


def test_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected the columns network, latency_ms"):
        import_results(write(tmp_path, [], ["genotype", "x"]), tmp_path / "out.csv")
    (tmp_path / "manifest.json").write_text('{"format": 2}')
    with pytest.raises(
        InputError, match=r"manifest\.json cannot be used .* expected the manifest that 'measure export'"
    ):
        import_results(tmp_path / "results.csv", tmp_path / "out.csv")
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"manifest\.json cannot be used \(FileNotFoundError"):
        import_results(tmp_path / "results.csv", tmp_path / "out.csv")


def test_an_export_goes_on_and_refuses_a_folder_of_another(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs the package onnx")
    plain = space_networks(TopologySpace(), CELLS[:2])

    def networks(names: list[str]) -> Networks:
        return replace(plain, names=names)

    folder = tmp_path / "out"
    export(networks(list(CELLS[:2])), folder)
    assert sorted(f.name for f in folder.iterdir()) == [
        "00000.onnx",
        "00001.onnx",
        "detrend.py",
        "manifest.json",
        "measure.py",
    ]
    (folder / "00001.onnx").unlink()
    (folder / "measure.py").unlink()
    first = (folder / "00000.onnx").read_bytes()
    export(networks(list(CELLS[:2])), folder)
    assert (folder / "00001.onnx").exists()
    assert (folder / "measure.py").exists()
    with pytest.raises(InputError, match="holds another export"):
        export(networks(list(CELLS[:1])), folder)
    assert (folder / "00000.onnx").read_bytes() == first
    (tmp_path / "mine").write_text("")
    with pytest.raises(InputError, match="is not empty, and no export"):
        export(networks(list(CELLS[:1])), tmp_path)


def test_an_export_that_was_killed_at_its_first_file_is_begun_again(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs the package onnx")
    folder = tmp_path / "out"
    (folder / ".x.freerea-seval-part").mkdir(parents=True)
    networks = space_networks(TopologySpace(), CELLS[:1])
    with locked_folder(folder), pytest.raises(InputError, match="out is being written by another process"):
        export(networks, folder)
    assert export(networks, folder) == {}
    assert {path.name for path in folder.iterdir()} == {"00000.onnx", "detrend.py", "manifest.json", "measure.py"}


@pytest.mark.parametrize("rows", [0, 2])
@pytest.mark.parametrize("torn", ["", "network", "a,0,1.5"])
def test_the_script_goes_on_after_a_kill_within_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, torn: str
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    monkeypatch.setitem(sys.modules, "detrend", detrend)
    script = runpy.run_path(str(Path(detrend.__file__).with_name("device_script.py")))
    header = ",".join(script["VISITS"]) + "\n"
    whole = "" if not rows else header + "a,0,1.5,pi,\n" * rows
    path = tmp_path / "visits.csv"
    path.write_text(whole + torn)
    assert len(script["read_visits"](path)) == rows
    assert path.read_text() == (whole or header)


def test_a_network_that_onnx_cannot_say_is_named(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs the package onnx")
    plain = space_networks(TopologySpace(), CELLS[:1])
    broken = Networks("genotype", CELLS[:1], lambda name: (nn.Linear(7, 7), plain.make(name)[1]), plain.spec, {})
    with pytest.raises(
        InputError, match=r"none of 1 networks can be written as ONNX \(.* failed with RuntimeError: mat1"
    ):
        export(broken, tmp_path / "out")
    export(plain, tmp_path / "out")  # the folder is not blocked


def test_what_cannot_be_exported_is_listed_beside_the_others(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs the package onnx")
    plain = space_networks(TopologySpace(), CELLS[:3])

    def make(name: str) -> tuple[nn.Module, Any]:
        if name == CELLS[0]:
            raise KeyError("no such layer")
        return (nn.Linear(7, 7) if name == CELLS[1] else plain.make(name)[0]), plain.make(name)[1]

    folder = tmp_path / "out"
    for _ in range(2):  # the same call goes on
        failed = export(replace(plain, make=make), folder)
        assert list(failed) == CELLS[:2]
        assert failed[CELLS[0]].startswith("KeyError: 'no such layer'; raised in ")
        assert failed[CELLS[1]].startswith("RuntimeError: mat1 and mat2 shapes")
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["failed"] == failed
        assert [entry["network"] for entry in manifest["networks"]] == [CELLS[2]]
        assert [path.name for path in folder.glob("*.onnx")] == ["00002.onnx"]
    export(plain, folder)  # after the repair, the missing ones are added
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [entry["network"] for entry in manifest["networks"]] == CELLS[:3]
    assert manifest["failed"] == {}


def test_what_was_not_exported_is_not_what_the_device_cannot_run(tmp_path: Path) -> None:
    results = write(tmp_path, GOOD[:3])
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["failed"] = {CELLS[3]: "RuntimeError: no operator"}
    manifest["networks"] = [{"network": cell} for cell in CELLS[:3]]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert import_results(results, tmp_path / "out.csv") == (2, 1)
    facts = json.loads((tmp_path / "out.json").read_text())
    assert facts["failed"] == {CELLS[3]: "RuntimeError: no operator"}
    assert CELLS[3] not in (tmp_path / "out.csv").read_text()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.complex32])
@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")
def test_an_input_that_the_script_cannot_make_is_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    pytest.importorskip("onnx", reason="needs the package onnx")
    plain = space_networks(TopologySpace(), CELLS[:1])
    inputs = {"x": torch.zeros(1, 3, 32, 32, dtype=dtype)}
    odd = replace(plain, make=lambda name: (plain.make(name)[0], inputs))
    with pytest.raises(InputError, match=rf"input 'x' is {str(dtype)[6:]}, which NumPy cannot make on the device"):
        export(odd, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_the_script_records_what_it_cannot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx", reason="needs the package onnx")
    pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    whole = {"whole": nn.ReLU(), "half": nn.Linear(3, 3).bfloat16()}

    class Casting(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            weight = next(self.inner.parameters(), x)
            return cast(torch.Tensor, self.inner(x.to(weight.dtype))).float()

    networks = Networks(
        "network", list(whole), lambda name: (Casting(whole[name]), [torch.zeros(2, 3)]), lambda name: {}, {}
    )
    export(networks, tmp_path / "out")
    monkeypatch.setitem(sys.modules, "detrend", detrend)
    monkeypatch.setattr(sys, "argv", ["measure.py", "--rounds", "1"])

    def reasons() -> dict[str, str]:
        (tmp_path / "out/visits.csv").unlink(missing_ok=True)
        runpy.run_path(str(tmp_path / "out/measure.py"), run_name="__main__")
        with (tmp_path / "out/results.csv").open() as file:
            return {row["network"]: row["reason"] for row in csv.DictReader(file)}

    found = reasons()
    assert found["whole"] == ""
    assert found["half"]
    # A manifest of an earlier release may ask for what NumPy cannot make.
    manifest = tmp_path / "out/manifest.json"
    manifest.write_text(manifest.read_text().replace('"float32"', '"unknown16"'))
    assert "unknown16" in reasons()["whole"]


@pytest.mark.parametrize(("getting_ready_s", "passes"), [(0.0, 3), (1.0, 20)])
def test_a_visit_of_the_script_counts_the_fastest_pass_and_lasts_as_long_as_getting_ready(
    monkeypatch: pytest.MonkeyPatch, getting_ready_s: float, passes: int
) -> None:
    clock = [0.0]
    ran: list[int] = []

    class Session:
        def __init__(self, *arguments: object, **options: object) -> None:
            clock[0] += getting_ready_s

        def get_inputs(self) -> list[object]:
            return []

        def run(self, names: None, feed: dict[str, object]) -> None:
            ran.append(len(ran))
            clock[0] += 0.004 if len(ran) == 4 else 0.006

    class Options:
        def add_session_config_entry(self, name: str, value: str) -> None: ...

    runtime = ModuleType("onnxruntime")
    vars(runtime).update(SessionOptions=Options, InferenceSession=Session)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    monkeypatch.setitem(sys.modules, "detrend", detrend)
    script = runpy.run_path(str(Path(detrend.__file__).with_name("device_script.py")))
    monkeypatch.setattr(script["time"], "perf_counter", lambda: clock[0])
    visit = script["visit"]
    visit.__globals__["waiting_s"] = lambda: 0.0
    assert visit(Path(), {"file": "a.onnx"}, [], 1, "CPU") == pytest.approx(4.0)
    assert len(ran) == script["WARM_UPS"] + passes


def test_the_script_takes_out_the_drift_of_the_device_as_measuring_here_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    monkeypatch.setitem(sys.modules, "detrend", detrend)
    write_results = runpy.run_path(str(Path(detrend.__file__).with_name("device_script.py")))["write_results"]
    rng = np.random.default_rng(0)
    order = [str(network) for _ in range(3) for network in rng.permutation(detrend.FEWEST + 1)]
    latencies = rng.uniform(5, 9, len(order)).tolist()
    visits = [
        (n, Timing(i // (detrend.FEWEST + 1), ms, 0.1)) for i, (n, ms) in enumerate(zip(order, latencies, strict=True))
    ]
    unable = {"network": "unable", "round": "0", "latency_ms": "", "machine": "device", "reason": "too large"}
    rows = [
        {"network": n, "round": str(t.turn), "latency_ms": str(t.latency_ms), "machine": "device", "reason": ""}
        for n, t in visits
    ]
    write_results(tmp_path / "results.csv", [*rows[:5], unable, *rows[5:]])
    with (tmp_path / "results.csv").open() as file:
        found = {row["network"]: row for row in csv.DictReader(file)}
    assert found.pop("unable")["reason"] == "too large"
    for network, its in summaries(visits).items():
        assert its is not None
        assert float(found.pop(network)["latency_ms"]) == pytest.approx(its.latency_ms, rel=1e-5)
    assert not found
