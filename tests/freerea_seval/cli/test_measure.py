"""The command ``measure``: on good input, killed and resumed, and one line for every mistake."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from torch import nn

import freerea_seval as fs
from freerea_patch import TopologySpace
from freerea_seval.config import make_space
from freerea_seval.measurement import backends, draw, parse_seconds
from freerea_seval.measurement.networks import most_informative_first
from freerea_seval.sources.registry import Context
from freerea_seval.sources.table import TableSource
from tests.freerea_seval.cli.test_mistakes import call, refused

MODULE = """
import time
import torch
from torch import nn
from freerea_patch import TopologySpace

def small():
    return nn.Conv2d(3, 8, 3)

def large():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 64, 3))

class Detector(nn.Module):
    def forward(self, images, flip=False, targets=None):
        if self.training and targets is None:
            raise ValueError("targets should not be none when in training mode")
        return [{"boxes": image.flip(0) if flip else image * 2} for image in images]

class Slow(nn.Module):
    def forward(self, x):
        time.sleep(0.02)
        return x

class SlowSpace(TopologySpace):
    def build(self, genotype):
        return Slow()

class Sorting(nn.Module):
    def forward(self, x):
        return torch.linalg.svd(x)[1]

sorting = Sorting()

class Unable(nn.Module):
    def forward(self, x):
        raise NotImplementedError("no pooling here")

class PartSpace(TopologySpace):
    def build(self, genotype):
        return Unable() if "avg_pool" in genotype else TopologySpace.build(self, genotype)

class FailingSpace(TopologySpace):
    def build(self, genotype):
        if "avg_pool" in genotype:
            raise KeyError("no such layer")
        return TopologySpace.build(self, genotype)

class Broken(TopologySpace):
    def build(self, genotype):
        return nn.Linear(7, 7)
"""
CELLS = TopologySpace().genotypes()
FAST = ("measure", "--space", "nats-tss", "--networks", "3", "--rounds", "2", "-o", "latency.csv")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module of networks and spaces."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "measure_nets.py").write_text(MODULE)
    return tmp_path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def journal(path: Path) -> list[dict[str, object]]:
    lines = path.with_name(path.name + ".journal.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_random_networks_of_a_space_are_measured_and_described(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*FAST) == 0
    assert capsys.readouterr().out.startswith("latency.csv: 3 networks, ")
    measured = rows(place / "latency.csv")
    assert list(measured[0]) == ["genotype", "latency_ms", "latency_iqr_ms", "rounds"]
    assert len({row["genotype"] for row in measured}) == 3
    assert all(float(row["latency_ms"]) > 0 and row["rounds"] == "2" for row in measured)
    facts = json.loads((place / "latency.json").read_text())
    assert (facts["backend"], facts["threads"], facts["space"]) == ("eager", 1, "nats-tss/cifar10")
    assert facts["input"] == [[1, 3, 32, 32]]
    assert facts["machine"]["cores"] == os.cpu_count()
    assert {"governor", "date", "versions", "unsupported"} <= set(facts)


def test_the_same_command_goes_on_and_then_has_nothing_to_do(place: Path) -> None:
    assert call(*FAST) == 0
    before = journal(place / "latency.csv")
    assert call(*FAST) == 0
    assert journal(place / "latency.csv") == before
    assert call(*FAST, "--rounds", "3") == 0
    assert journal(place / "latency.csv")[: len(before)] == before
    assert [row["rounds"] for row in rows(place / "latency.csv")] == ["3"] * 3


def test_networks_of_your_own_are_measured_in_turns(place: Path) -> None:
    arguments = ("measure", "measure_nets:small", "measure_nets:large", "--input", "8,3,32,32", "--rounds", "3")
    assert call(*arguments, "-o", "mine.csv") == 0
    small, large = rows(place / "mine.csv")
    assert (small["network"], large["network"]) == ("measure_nets:small", "measure_nets:large")
    assert 0 < float(small["latency_ms"]) < float(large["latency_ms"])


@pytest.mark.parametrize(("text", "names"), [("images=[3,8,8;3,9]", ["images.0", "images.1"]), ("[3,8]", ["input0.0"])])
def test_lists_of_tensors_are_measured_and_exported(place: Path, text: str, names: list[str]) -> None:
    network = ("measure_nets:Detector", "--input", text)
    assert call("measure", *network, "--rounds", "1", "-o", "here.csv") == 0
    assert json.loads((place / "here.json").read_text())["input"] == [text]
    assert call("measure", *network, "--rounds", "1", "--memory", "-o", "memory.csv") == 0
    pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    pytest.importorskip("onnx", reason="needs the package onnx")
    assert call("measure", *network, "--rounds", "1", "--backend", "onnx", "-o", "onnx.csv") == 0
    assert call("measure", "export", *network, "-o", "out") == 0
    assert [entry["name"] for entry in json.loads((place / "out/manifest.json").read_text())["inputs"]] == names
    command = [sys.executable, "out/measure.py", "--rounds", "1"]
    assert "1 networks, 0 cannot run" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_list_of_genotypes_is_measured_in_its_order_with_memory(place: Path) -> None:
    (place / "cells.txt").write_text("\n".join(CELLS[:3]))
    assert call("measure", "--genotypes", "cells.txt", "--rounds", "1", "--memory", "-o", "out.csv") == 0
    measured = rows(place / "out.csv")
    assert [row["genotype"] for row in measured] == list(CELLS[:3])
    assert all(float(row["peak_mb"]) > 0 for row in measured)
    assert call("measure", "run", "--genotypes", "out.csv", "--rounds", "1", "-o", "again.csv") == 0
    assert [row["genotype"] for row in rows(place / "again.csv")] == list(CELLS[:3])


def test_a_budget_is_kept_and_every_network_has_its_rounds(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", time.process_time)  # other processes may be busy
    arguments = ("--space", "nats-tss", "--networks", "150", "--rounds", "3", "--budget", "2s", "-o", "some.csv")
    assert call("measure", *arguments) == 0
    spent = sum(float(str(row["seconds"])) for row in journal(place / "some.csv")[1:])
    measured = rows(place / "some.csv")
    assert 1.2 < spent < 3  # the last visit ends behind the budget
    assert 1 <= len(measured) < 150
    assert all(1 <= int(row["rounds"]) <= 3 for row in measured)
    header = journal(place / "some.csv")[0]["config"]
    assert isinstance(header, dict)
    assert header["networks"][: len(measured)] == [row["genotype"] for row in measured]
    assert header["networks"] == most_informative_first(TopologySpace(), draw(TopologySpace(), 150, 0))


def test_networks_that_teach_most_are_measured_instead_of_random_ones(place: Path) -> None:
    best = most_informative_first(TopologySpace(), draw(TopologySpace(), 1000, 0))
    arguments = ("measure", "--space", "nats-tss", "--networks", "3", "--rounds", "1", "--informative")
    assert call(*arguments, "-o", "some.csv") == 0
    assert [row["genotype"] for row in rows(place / "some.csv")] == best[:3]
    (place / "cells.txt").write_text("\n".join(CELLS[:30]))
    listed = ("--genotypes", "cells.txt", "--networks", "2", "--rounds", "1", "--informative")
    assert call("measure", *listed, "-o", "listed.csv") == 0
    expected = most_informative_first(TopologySpace(), CELLS[:30])[:2]
    assert [row["genotype"] for row in rows(place / "listed.csv")] == expected


def test_what_cannot_run_is_empty_and_train_and_tables_take_it_for_unsupported(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pooling = [cell for cell in CELLS[:60] if "avg_pool" in cell][:2]
    others = [cell for cell in CELLS[:60] if "avg_pool" not in cell][:12]
    (place / "cells.txt").write_text("\n".join(pooling + others))
    arguments = ("--space", "measure_nets:PartSpace", "--genotypes", "cells.txt", "--rounds", "1")
    assert call("measure", *arguments, "-o", "part.csv") == 0
    assert "12 networks, " in (out := capsys.readouterr().out)
    assert "2 cannot run, why is in part.json" in out
    measured = {row.pop("genotype"): row for row in rows(place / "part.csv")}
    assert all(set(measured[cell].values()) == {""} for cell in pooling)
    reasons = json.loads((place / "part.json").read_text())["unsupported"]
    assert list(reasons) == pooling
    assert all("NotImplementedError: no pooling here; raised in " in r for r in reasons.values())
    assert call("train", "part.csv", "--metric", "latency_ms", "-o", "predictor") == 0
    out = capsys.readouterr().out
    assert "trained on 14 networks" in out
    assert "latency_ms, 14 values (2 unsupported); cross-validated" in out
    source = TableSource(Context(make_space("nats-tss"), base=place), "part.csv")
    values = [row["latency_ms"].value for row in source.evaluate([pooling[0], others[0]], ["latency_ms"])]
    assert values[0] != values[0]
    assert values[1] > 0


def test_what_cannot_be_built_has_no_row_and_train_does_not_take_it_for_unsupported(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pooling = next(cell for cell in CELLS[:60] if "avg_pool" in cell)
    others = [cell for cell in CELLS[:60] if "avg_pool" not in cell][:10]
    arguments = ("--space", "measure_nets:FailingSpace", "--rounds", "1", pooling, *others)
    for _ in range(2):  # the second call finds all in the journal
        assert call("measure", *arguments, "-o", "part.csv") == 0
        assert "10 networks, " in (out := capsys.readouterr().out)
        assert "; 1 could not be built or exported, why is in part.json" in out
    assert [row["genotype"] for row in rows(place / "part.csv")] == others
    facts = json.loads((place / "part.json").read_text())
    assert facts["unsupported"] == {}
    start, _, end = facts["failed"][pooling].partition("measure_nets.py, line ")
    assert start.startswith("KeyError: 'no such layer'; raised in ")
    assert end.endswith(f", by build({pooling!r})")
    assert call("train", "part.csv", "--metric", "latency_ms", "-o", "predictor") == 0
    assert "unsupported" not in capsys.readouterr().out


def test_a_failed_export_is_not_what_the_device_cannot_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx", reason="needs the package onnx")
    pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    networks = ("measure_nets:small", "measure_nets:sorting", *IMAGE)
    assert call("measure", *networks, "--backend", "onnx", "--rounds", "1", "-o", "o.csv") == 0
    assert "1 networks, " in (out := capsys.readouterr().out)
    assert "1 could not be built or exported" in out
    assert [row["network"] for row in rows(place / "o.csv")] == ["measure_nets:small"]
    reason = json.loads((place / "o.json").read_text())["failed"]["measure_nets:sorting"]
    assert reason.startswith("cannot be written as ONNX (")
    assert call("measure", "export", *networks, "-o", "exported") == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("exported: 1 networks; ")
    assert captured.err.startswith("measure_nets:sorting is not exported, as the manifest says: ")


@pytest.mark.parametrize(("text", "seconds"), [("60s", 60), ("1.5m", 90), ("2h", 7200), ("7", 7), ("3min", 180)])
def test_times_are_read(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


SPACE = ("--space", "nats-tss")
OUT = ("-o", "out.csv")
IMAGE = ("--input", "1,3,8,8")
MISTAKES: dict[str, tuple[tuple[str, ...], str]] = {
    "nothing to measure": (OUT, "nothing to measure: give --space nats-tss"),
    "no output": (SPACE, "add -o FILE.csv"),
    "an output in no folder": ((*SPACE, "-o", "no/out.csv"), "there is no folder no"),
    "an output that is the description": ((*SPACE, "-o", "out.json"), "cannot end in .json"),
    "an output that is there": ((*SPACE, "-o", "there.csv"), "there.csv exists already"),
    "an unknown space": (("--space", "nats-tts", *OUT), "did you mean 'nats-tss'?"),
    "an unknown backend": ((*SPACE, *OUT, "--backend", "onx"), "unknown backend 'onx'; did you mean 'onnx'?"),
    "an unknown device": ((*SPACE, *OUT, "--device", "cuda:7"), "device 'cuda:7' cannot be used here"),
    "no networks": ((*SPACE, *OUT, "--networks", "0"), "--networks must be 1 or more, got 0"),
    "no rounds": ((*SPACE, *OUT, "--rounds", "0"), "--rounds must be 1 or more, and at most 1000000, got 0"),
    "no threads": ((*SPACE, *OUT, "--threads", "0"), "--threads must be 1 or more, and at most 1024, got 0"),
    "no batch": ((*SPACE, *OUT, "--batch-size", "-1"), "--batch-size must be 1 or more, got -1"),
    "no time": ((*SPACE, *OUT, "--budget", "0s"), "--budget '0s': expected a time such as 60s"),
    "a time that is none": ((*SPACE, *OUT, "--budget", "soon"), "--budget 'soon': expected a time such as 60s"),
    "a missing list": (("--genotypes", "none.txt", *OUT), "cannot read the genotypes none.txt"),
    "a space with inputs": ((*SPACE, *IMAGE, *OUT), "--input belongs to networks given as pkg.module:factory"),
    "a network without inputs": (("measure_nets:small", *OUT), "give the shape of its input"),
    "a network and a space": (("measure_nets:small", *IMAGE, *SPACE, *OUT), "leave out --space"),
    "informative networks of one's own": (("measure_nets:small", *IMAGE, "--informative", *OUT), "leave out --informative"),
    "a network that is not there": (("measure_nets:smal", *IMAGE, *OUT), "'measure_nets' has no 'smal'"),
    "an input that is none": (("measure_nets:small", "--input", "1x3", *OUT), "--input '1x3': expected sizes"),
    "a space where nothing runs": (("--space", "measure_nets:Broken", "--networks", "2", *OUT), "none of 2 networks can run"),
    "memory of another backend": ((*SPACE, *OUT, "--memory", "--backend", "compile"), "memory is measured with --backend eager"),
    "a wrong word": (("exprt", *SPACE, *OUT), "'exprt' is not a cell of the topology space"),
    "an export to nowhere": (("export", *SPACE), "add -o FOLDER"),
    "an import of nothing": (("import", "none/results.csv", *OUT), "manifest.json cannot be used"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_named_in_one_line(place: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    arguments, expected = MISTAKES[kind]
    (place / "there.csv").write_text("mine\n")
    refused(capsys, expected, "measure", *arguments)
    assert not (place / "out.csv").exists()
    assert (place / "there.csv").read_text() == "mine\n"


def test_another_measurement_is_not_mixed_in(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*FAST) == 0
    refused(capsys, "is of another measurement (threads 1, now 2)", *FAST, "--threads", "2")
    refused(capsys, "is of another measurement (of other networks)", *FAST, "--networks", "4")
    path = place / "latency.csv.journal.jsonl"
    path.write_text(path.read_text().replace('"turn"', "turn", 1))
    refused(capsys, "line 2: expected a visit of a measurement (not valid JSON (", *FAST)


def test_a_missing_package_is_named_with_the_line_that_installs_it(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    refused(capsys, "needs the package onnxruntime, which is not installed: pip install", *FAST, "--backend", "onnx")
    refused(capsys, "needs the package onnx, which", "measure", "export", *SPACE, "-o", "folder")


@pytest.mark.slow
def test_an_export_is_measured_without_this_package_and_comes_back(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnx", reason="needs the package onnx")
    pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    assert call("measure", "export", "--space", "nats-tss", "--networks", "3", "-o", "exported") == 0
    device = place / "device"
    shutil.copytree(place / "exported", device / "networks")
    broken = json.loads((device / "networks/manifest.json").read_text())["networks"][1]
    (device / "networks" / broken["file"]).write_bytes(b"none")
    # -S: no site-packages but those named here, and whoever imports torch or this package fails.
    hider = "import sys, runpy; sys.path.append(sys.argv.pop(1)); sys.modules.update(torch=None, freerea_seval=None)\n"
    # -I: nor the script's own folder, which Python puts there otherwise.
    runner = hider + "sys.argv.pop(0); sys.path.insert(0, 'networks'); runpy.run_path(sys.argv[0], run_name='__main__')"
    site = str(Path(np.__file__).parent.parent)
    for rounds in ("1", "3"):
        command = [sys.executable, "-I", "-S", "-c", runner, site, "networks/measure.py", "--rounds", rounds]
        result = subprocess.run(command, cwd=device, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
    results = device / "networks/results.csv"
    assert sorted(row["rounds"] for row in rows(results)) == ["", "3", "3"]
    assert call("measure", "import", results, "-o", "back.csv") == 0
    assert "back.csv: 2 networks; 1 cannot run" in capsys.readouterr().out
    measured = {row["genotype"]: row for row in rows(place / "back.csv")}
    assert measured[broken["network"]]["latency_ms"] == ""
    assert len(measured) == 3
    assert broken["network"] in json.loads((place / "back.json").read_text())["unsupported"]


NETWORKS = """
from torch import nn

def network(width, depth):
    layers = [nn.Conv2d(3, width, 3), nn.ReLU()]
    for _ in range(depth):
        layers += [nn.Conv2d(width, width, 3), nn.ReLU()]
    return lambda: nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))

globals().update({f"n{width}x{depth}": network(width, depth) for width in (4, 16, 64) for depth in range(5)})
n64x5 = network(64, 5)
"""
MEASURED = [f"grid_nets:n{width}x{depth}" for width in (4, 16, 64) for depth in range(5)]
SHAPE = ("--input", "1,3,24,24")


def test_modules_that_were_measured_train_a_predictor_of_modules(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "grid_nets.py").write_text(NETWORKS)
    again = ("measure", *MEASURED, *SHAPE, "--rounds", "2", "-o", "m.csv")
    assert call(*again) == 0
    table = rows(place / "m.csv")
    assert list(table[0]) == ["network", "latency_ms", "latency_iqr_ms", "rounds", "string"]
    assert [row["string"] for row in table] == [
        fs.encode(name, "1,3,24,24") for name in (row["network"] for row in table)
    ]
    before = (place / "m.csv").read_text()
    assert call(*again) == 0  # continues, and has nothing to do
    assert (place / "m.csv").read_text() == before
    assert call("train", "m.csv", "--metric", "latency_ms", "-o", "p", "--model", "boosted", "--scale", "linear") == 0
    assert "p: predicts latency_ms of modules from the executed view, trained on 15 networks" in capsys.readouterr().out
    asked = ("predict", "p", "grid_nets:n4x0", "grid_nets:n64x5")
    assert call(*asked, *SHAPE) == 0
    small, large = csv.DictReader(capsys.readouterr().out.splitlines())
    assert (small["network"], large["network"]) == asked[2:]
    assert float(small["latency_ms"]) < float(large["latency_ms"])
    strings = [fs.encode(name, "1,3,24,24") for name in asked[2:]]
    assert call("predict", "p", *strings) == 0
    assert [row["latency_ms"] for row in csv.DictReader(capsys.readouterr().out.splitlines())] == [
        small["latency_ms"],
        large["latency_ms"],
    ]
    assert call("evaluate", "p", "m.csv") == 0
    assert "latency_ms, 15 networks: kendall tau " in capsys.readouterr().out
    refused(capsys, "a network as pkg.module:factory needs --input", *asked)
    refused(capsys, "have no search space and no proxies", *asked, *SHAPE, "--space", "nats-tss")
    # In Python, with modules, and with the view of another kind of metric.
    measured = pd.read_csv("m.csv").rename(columns={"latency_ms": "accuracy"})
    predictor = fs.train(measured, "accuracy", model="boosted", scale="linear", progress=False)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    assert predictor.view == "functional"
    predicted = predictor.predict(module, inputs=(1, 3, 24, 24))
    assert predicted["network"].tolist() == ["Sequential"]
    string = fs.encode(module, (1, 3, 24, 24), "functional")
    assert predicted["accuracy"].tolist() == predictor.predict_strings([string])["accuracy"].tolist()
    with pytest.raises(fs.InputError, match="Sequential: give the shape of its input"):
        predictor.predict(module)


def test_networks_of_one_string_keep_their_measurements(place: Path) -> None:
    strings = [f"input[1x3x8x8] conv({8 + number // 5},k3,b) relu output" for number in range(30)]
    table = pd.DataFrame({"network": [f"net{n}" for n in range(30)], "latency_ms": range(1, 31), "string": strings})
    assert fs.train(table, "latency_ms", model="boosted", scale="linear", progress=False).info.samples == 30
    unnamed = table.drop(columns="network").iloc[::5]
    more = pd.concat([unnamed.assign(string=unnamed["string"].str.replace("k3", f"k{k}")) for k in (1, 3, 5)])
    assert fs.train(more, "latency_ms", model="boosted", scale="linear", progress=False).info.samples == 18


def test_a_network_without_a_string_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"net{number},{number},input[1x{number + 1}] relu output" for number in range(20)]
    (place / "t.csv").write_text("\n".join(["network,latency_ms,string", *lines, "odd,3,"]))
    train = ("train", "t.csv", "--metric", "latency_ms", "-o", "p")
    refused(capsys, "t.csv, line 22: network 'odd' has no string, because it could not be traced; remove", *train)
    (place / "t.csv").write_text("\n".join(["network,latency_ms,string", *lines, "odd,3,conv("]))
    refused(capsys, "t.csv, line 22: ", *train)


def test_exported_modules_are_imported_with_their_strings(place: Path) -> None:
    pytest.importorskip("onnx", reason="needs the package onnx")
    pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    network = ("measure_nets:small", "--input", "1,3,32,32")
    assert call("measure", "export", *network, "-o", "out") == 0
    subprocess.run([sys.executable, "out/measure.py", "--rounds", "1"], check=True, capture_output=True)
    assert call("measure", "import", "out/results.csv", "-o", "back.csv") == 0
    assert [row["string"] for row in rows(place / "back.csv")] == [fs.encode("measure_nets:small", "1,3,32,32")]
