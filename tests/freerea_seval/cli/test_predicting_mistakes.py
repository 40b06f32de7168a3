"""Folders that nobody should trust, and what train, predict and evaluate refuse or say of few and odd values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from freerea_seval.predictor import folder as folder_module
from tests.freerea_seval.cli.test_mistakes import call, refused
from tests.freerea_seval.cli.test_predicting import CELLS, QUICK, rows, work, write_table

#: Leaves a file behind wherever it is imported, or a space is made of it.
OWN_SPACE = """
from pathlib import Path
from freerea_patch import TopologySpace
Path("ran").touch()
class Cells(TopologySpace):
    pass
"""
TAMPERED = ("own_cells:Cells", "code:interact", "os:system", "unknown", "")


def table(name: str, values: Sequence[object], metric: str = "latency_ms") -> Path:
    return write_table(Path(name), {metric: values}, CELLS[: len(values)])


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def change_space(folder: Path, space: str) -> None:
    """Write another space into a predictor's folder, and sign that."""
    manifest = json.loads((folder / "predictor.json").read_text())
    manifest["info"]["space"] = space
    manifest["digest"] = folder_module._digest(manifest)
    (folder / "predictor.json").write_text(json.dumps(manifest))


def test_a_folder_alone_does_not_choose_code_to_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "own_cells.py").write_text(OWN_SPACE)
    measured = table("t.csv", range(20))
    assert call("train", measured, "--metric", "latency_ms", "-o", "p", *QUICK) == 0
    for space in TAMPERED:
        change_space(place / "p", space)
        expected = f"predictor p learned from networks of the space {space!r}, which is not built in"
        refused(capsys, expected, "predict", "p", CELLS[0])
        refused(capsys, "if you trust that space, give it: --space pkg.module:Class", "evaluate", "p", measured)
        refused(capsys, "unknown space ''", "predict", "p", CELLS[0], "--space", "")
    assert not (place / "ran").exists()
    assert call("predict", "p", CELLS[0], "--space", "nats-tss") == 0


def test_a_predictor_of_ones_own_space_is_used_with_the_space(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "own_cells.py").write_text(OWN_SPACE)
    measured = table("t.csv", [work(cell) for cell in CELLS[:20]])
    own = ("--space", "own_cells:Cells")
    assert call("train", measured, "--metric", "latency_ms", "-o", "p", *QUICK, *own) == 0
    refused(capsys, "the space 'own_cells:Cells', which is not built in", "predict", "p", CELLS[0])
    assert call("predict", "p", CELLS[0], *own) == 0
    assert len(rows(capsys.readouterr().out)) == 1
    assert call("evaluate", "p", measured, *own) == 0
    refused(capsys, "predicts latency_ms of own_cells:Cells as well", "train", measured, "--metric", "latency_ms", *own,
            "-o", "q", "--base", "p")  # fmt: skip


@pytest.mark.parametrize("seed", ["-1", "5000000000"])
def test_seeds_out_of_range(seed: str, capsys: pytest.CaptureFixture[str]) -> None:
    measured = table("t.csv", range(20))
    refused(capsys, "'--seed'", "train", measured, "--metric", "latency_ms", "-o", "p", "--seed", seed)
    for command in (("measure",), ("measure", "export")):
        refused(capsys, "'--seed'", *command, "--space", "nats-tss", "--networks", "2", "-o", "x", "--seed", seed)


@pytest.mark.parametrize(("factor", "expected"), [(1e300, "in a larger unit"), (1e-310, "in a smaller unit")])
def test_values_that_cannot_be_computed_with(
    factor: float, expected: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = table("t.csv", [(i + 1) * factor for i in range(20)])
    refused(capsys, expected, "train", measured, "--metric", "latency_ms", "-o", "p")
    assert not (place / "p").exists()


def test_a_metric_whose_name_says_no_direction_needs_one(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured = table("t.csv", range(20), "score")
    expected = "the name of metric 'score' does not say which values are better; add --direction min or --direction max"
    refused(capsys, expected, "train", measured, "--metric", "score", "-o", "p")
    assert not (place / "p").exists()


def test_bounds_of_few_measurements_are_infinite_and_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    values = [*range(1, 16), *[""] * 15]
    measured = write_table(Path("t.csv"), {"a": values, "b": range(30)}, CELLS[:30])
    options = ("--metric", "a", "--metric", "b", "--direction", "min", "--missing", "-o", "p", *QUICK)
    assert call("train", measured, *options) == 0
    capsys.readouterr()
    assert call("predict", "p", CELLS[0], "--interval", "0.95") == 0
    printed = capsys.readouterr()
    (row,) = rows(printed.out)
    assert (row["a_low"], row["a_high"]) == ("-inf", "inf")
    assert float(row["a"]) > 0
    assert float(row["b_low"]) < float(row["b_high"]) < 100
    said = "an interval that holds with probability 0.95 takes 19 measurements, and the predictor learned a from 15: "
    assert printed.err.startswith(f"freerea-seval: {said}")
    assert printed.err.count("\n") == 1
    assert call("evaluate", "p", measured, "--missing", "--interval", "0.95", "-o", "e") == 0
    assert said in capsys.readouterr().err
    written = rows(Path("e/predictions.csv").read_text())
    assert {(row["a_low"], row["a_high"]) for row in written} == {("-inf", "inf")}
    assert [row["a"] for row in written] == [str(value) for value in values]
    assert call("predict", "p", CELLS[0], "--interval", "0.9") == 0
    assert capsys.readouterr().err == ""


def test_networks_unlike_those_of_training_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    small = [cell for cell in CELLS if "3x3~" not in cell.replace("pool_3x3", "")][:30]
    (large,) = (cell for cell in CELLS if cell.count("nor_conv_3x3") == 6)
    measured = write_table(Path("t.csv"), {"latency_ms": range(1, 31)}, small)
    assert call("train", measured, "--metric", "latency_ms", "-o", "p", *QUICK) == 0
    capsys.readouterr()
    assert call("predict", "p", small[0], large) == 0
    printed = capsys.readouterr()
    assert len(rows(printed.out)) == 2
    assert printed.err.startswith(
        "freerea-seval: 1 of 2 networks are unlike all that the predictor learned from, and predictions may be far off:"
        f" {large} has "
    )
    assert " multiply-adds, and " in printed.err
    assert printed.err.count("\n") == 1
    assert call("predict", "p", small[0], large, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["extrapolated"]
    assert row == "1"
    assert call("predict", "p", small[0]) == 0
    assert capsys.readouterr().err == ""


def test_a_base_that_knows_the_values_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    values = [work(cell) for cell in CELLS[:20]]
    assert call("train", table("t.csv", values), "--metric", "latency_ms", "-o", "b", *QUICK) == 0
    fewer = table("u.csv", values[:15], "latency_s")
    expected = (
        "--base b predicts latency_s of nats-tss/cifar10 as well: it would leak the target into the validation folds"
    )
    refused(capsys, expected, "train", fewer, "--metric", "latency_s", "-o", "p", "--base", "b")
    same = table("v.csv", values, "time")
    refused(capsys, "was trained on these values", "train", same, "--metric", "time", "-o", "p", "--base", "b",
            "--view", "executed")  # fmt: skip
    arguments = ("--metric", "latency_ms", "-o", "p", "--base", "b", "--space", "nats-tss/cifar100")
    assert call("train", table("t.csv", values), *arguments) == 0


def test_errors_in_a_table_name_options_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    Path("t.csv").write_text("cell,latency_ms\nx,1\n")
    arguments = ("t.csv", "--metric", "latency_ms", "-o", "p")
    refused(capsys, "got cell, latency_ms; rename one\n", "train", *arguments)
    table("t.csv", [1, "n/a", 3])
    expected = "leave the cell empty, or write a number and add --unsupported NUMBER; if it was not measured, leave it"
    refused(capsys, expected, "train", *arguments)
    table("t.csv", range(20))
    refused(
        capsys, "; name the space of the table's networks with --space\n", "train", *arguments, "--space", "nats-sss"
    )
    table("x.csv", ["n/a"] * 20, "naswot")
    refused(capsys, "cannot run the network, leave the cell empty\n", "train", *arguments, "--proxies", "x.csv")


def test_seconds_beside_a_metric_are_not_looked_at() -> None:
    columns: dict[str, Sequence[object]] = {"latency_ms": range(20), "latency_ms_seconds": [""] * 20}
    measured = write_table(Path("t.csv"), columns, CELLS[:20])
    assert call("train", measured, "--metric", "latency_ms", "-o", "p", *QUICK) == 0
    assert call("evaluate", "p", measured) == 0


def test_scores_in_the_metrics_unit_are_printed_with_digits(capsys: pytest.CaptureFixture[str]) -> None:
    measured = table("t.csv", [work(cell) * 1e-5 for cell in CELLS[:40]], "latency_s")
    assert call("train", measured, "--metric", "latency_s", "-o", "p", *QUICK) == 0
    assert call("evaluate", "p", measured) == 0
    for line in capsys.readouterr().out.splitlines()[-2:]:
        errors = [float(part.split()[-1]) for part in line.split(", ") if part.startswith(("rmse", "width"))]
        assert errors
        assert all(0 < error < 1e-4 for error in errors)
