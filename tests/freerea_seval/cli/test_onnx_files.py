"""The commands encode, predict and measure on ONNX files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from onnx import helper
from torch import nn

import freerea_seval as fs
from freerea_patch import TopologySpace
from freerea_seval.measurement.backends import onnx_bytes
from tests.freerea_seval.cli.test_mistakes import call, refused
from tests.freerea_seval.strings.trace.onnx_files import made

CELLS = [
    "|none~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|",
    "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_3x3~1|+|nor_conv_3x3~0|avg_pool_3x3~1|skip_connect~2|",
]


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Identity(), nn.ReLU(), nn.ReLU())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the file small.onnx."""
    monkeypatch.chdir(tmp_path)
    Path("small.onnx").write_bytes(onnx_bytes(small(), [torch.zeros(1, 3, 8, 8)]))
    return tmp_path


def test_encode_shows_what_it_shows_of_the_module(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = fs.encode(small(), (1, 3, 8, 8))
    assert fs.encode(Path("small.onnx")) == fs.encode("small.onnx") == expected
    assert fs.encode("small.onnx", view="functional") == fs.encode(small(), (1, 3, 8, 8), "functional")
    assert call("encode", "small.onnx", "--json") == 0
    facts = json.loads(capsys.readouterr().out)["network"]["facts"]
    assert (facts["parameters"], facts["multiply-adds"]) == (116, 108 * 36)
    assert facts["restored"] == "1 batch norm that the file has folded into other operations"


def test_predict_gives_what_it_gives_for_genotypes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = TopologySpace()
    cells = [space.genotypes()[i] for i in np.random.default_rng(0).permutation(15_625)[:40]]
    table = pd.DataFrame({"genotype": cells, "energy_mj": [1.0 + cell.count("conv") for cell in cells]})
    predictor = fs.train(table, "energy_mj", "predictor", model="boosted", scale="linear", progress=False)
    for index, cell in enumerate(CELLS):
        Path(f"{index}.onnx").write_bytes(onnx_bytes(space.build(cell), [torch.zeros(1, 3, 32, 32)]))
    assert call("predict", "predictor", "0.onnx", "1.onnx") == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["network"] for row in rows] == ["0.onnx", "1.onnx"]
    expected = predictor.predict(CELLS)["energy_mj"]
    assert [float(row["energy_mj"]) for row in rows] == pytest.approx(expected, rel=1e-5)
    mixed = "0.onnx is a file, and others are not"
    refused(capsys, mixed, "predict", "predictor", "0.onnx", CELLS[0])
    refused(capsys, "0.onnx is a file, which has no search space", "predict", "predictor", "0.onnx", "--space", "fbnet")


def test_measure_runs_a_file_as_it_is_with_onnx_runtime(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = onnx.load("small.onnx")
    onnx.save_model(model, "other.onnx", save_as_external_data=True, location="other.data", size_threshold=16)
    assert call("measure", "small.onnx", "other.onnx", "--rounds", "1", "-o", "m.csv") == 0
    table = pd.read_csv("m.csv")
    assert table["latency_ms"].gt(0).all()
    assert set(table["string"]) == {fs.encode(small(), (1, 3, 8, 8))}
    assert json.loads(Path("m.json").read_text())["backend"] == "onnx"
    refused(capsys, "runs with --backend onnx, not eager", "measure", "small.onnx", "--backend", "eager", "-o", "n.csv")
    capsys.readouterr()
    assert call("measure", "export", "other.onnx", "-o", "folder") == 0
    written, original = (onnx.load(name).graph.initializer for name in ("folder/00000.onnx", "small.onnx"))
    assert [tensor.raw_data for tensor in written] == [tensor.raw_data for tensor in original]


def test_a_file_that_cannot_be_read_does_not_keep_others_from_being_measured(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("text.onnx").write_bytes(b"not a network\n" * 9)
    assert call("measure", "text.onnx", "small.onnx", "--rounds", "1", "-o", "m.csv") == 0
    assert "text.onnx is left out: text.onnx: it is not an ONNX file" in capsys.readouterr().err
    assert pd.read_csv("m.csv")["network"].tolist() == ["small.onnx"]


def test_measure_gives_a_file_the_inputs_that_it_leaves_open(place: Path) -> None:
    path = made(place / "open.onnx", [helper.make_node("Relu", ["x"], ["y"])], {"x": ["n", 3, "h"]})
    table = fs.measure(path, (2, 3, 5), rounds=1, progress=False)
    assert table["string"].tolist() == ["input[2x3x5] relu output"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.onnx", None, "cannot read missing.onnx (No such file or directory); check the path"),
        ("empty.onnx", b"", "empty.onnx: it is not an ONNX file, or has no outputs; export it again"),
        ("text.onnx", b"not a network\n" * 9, "text.onnx: it is not an ONNX file, or damaged; export it again"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(
    name: str, content: bytes | None, message: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        Path(name).write_bytes(content)
    refused(capsys, message, "encode", name)
    refused(capsys, message, "measure", name, "-o", "m.csv")
    assert not Path("m.csv").exists()


def test_a_file_cut_short_or_changed_anywhere_is_one_line_or_a_network(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = Path("small.onnx").read_bytes()
    generator = np.random.default_rng(0)
    for trial in range(60):
        changed = bytearray(content[: int(generator.integers(len(content)))] if trial % 2 else content)
        for _ in range(0 if trial % 2 else 3):
            changed[int(generator.integers(len(changed)))] = int(generator.integers(256))
        Path("changed.onnx").write_bytes(changed)
        status = call("encode", "changed.onnx")
        error = capsys.readouterr().err
        assert status in (0, 2), error
        assert error.count("\n") == (status == 2), error
