"""``--json`` prints one document on standard output that fits the published schema of the command."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from jsonschema import Draft7Validator

import freerea_seval as fs
from freerea_patch import TopologySpace
from freerea_seval.api.documents import DOCUMENTS, rows_of, schemas
from freerea_seval.cli.main import app
from tests.freerea_seval.cli.test_mistakes import call
from tests.freerea_seval.measurement.test_remote import GOOD, write

SCHEMAS = Path(__file__).parents[3] / "freerea_seval" / "schemas"
CELLS = [str(cell) for cell in TopologySpace().genotypes()[::130]]
CONFIG = """
space: {name: nats-tss, only: cells.csv}
search: {population: 4, tournament: 2, seeds: [0, 1]}
budget: {evaluations: 5}
objectives:
  - {metric: work, source: {python: json_module:work}, direction: max}
  - {metric: energy, source: {table: {path: cells.csv, missing: unsupported}}, role: pareto, direction: min}
report:
  - {metric: macs, source: cost}
"""
MODULE = """
import os
import sys
from torch import nn
from freerea_patch import TopologySpace
def work(genotype):
    print("called")
    return float(genotype.count("conv"))
def loud(genotype):
    os.write(sys.stdout.fileno(), b"called\\n")
    return work(genotype)
def network():
    return nn.Conv2d(3, 4, 1)
class Few(TopologySpace):
    def genotypes(self):
        return super().genotypes()[:3]
"""


def commands(group: Any, name: str = "") -> dict[str, Any]:
    """Return the commands of a command line by name."""
    named: dict[str, Any] = {}
    for key, command in group.commands.items():
        under = getattr(command, "commands", None)
        named |= commands(command, f"{key} ") if under else {name + key: command}
    return named


COMMANDS = commands(typer.main.get_command(app))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config, a table and a function."""
    folder = tmp_path_factory.mktemp("json")
    (folder / "json_module.py").write_text(MODULE)
    (folder / "search.yaml").write_text(CONFIG)
    energies = [math.nan if number % 7 == 0 else float(cell.count("conv_3x3")) for number, cell in enumerate(CELLS)]
    table = pd.DataFrame({"genotype": CELLS, "energy": energies, "time_ms": [1.0 + c.count("conv") for c in CELLS]})
    table.to_csv(folder / "cells.csv", index=False)
    return folder


@pytest.fixture(autouse=True)
def _there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


@pytest.fixture
def document(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command with ``--json``, and return what it prints, which fits the schema."""

    def run(command: str, *arguments: object) -> Any:
        capsys.readouterr()
        assert call(*command.split(), *arguments, "--json") == 0
        printed = json.loads(capsys.readouterr().out)
        schema = json.loads((SCHEMAS / f"{command.replace(' ', '-')}.json").read_text())
        assert not list(Draft7Validator(schema).iter_errors(printed))
        DOCUMENTS[command].model_validate_json(json.dumps(printed))
        return printed

    return run


def test_every_command_that_takes_the_option_has_a_committed_schema() -> None:
    with_option = {name for name, c in COMMANDS.items() if any("--json" in p.opts for p in c.params)}
    assert with_option == set(DOCUMENTS)
    assert set(COMMANDS) - with_option == {"init", "schema", "upstream"}
    committed = {path.stem: json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")}
    current = {name.replace(" ", "-"): schema for name, schema in schemas().items()}
    assert committed == current, "run: freerea-seval schema -o freerea_seval/schemas"
    assert fs.schema("measure run") == current["measure-run"]
    with pytest.raises(fs.InputError, match="unknown schema 'serach'; did you mean 'search'"):
        fs.schema("serach")
    for schema in current.values():
        for part in (schema, *schema.get("$defs", {}).values()):
            assert all(described.get("description") for described in part["properties"].values()), part["title"]


def test_a_run_and_its_report(document: Any, place: Path) -> None:
    searched = document("search", "search.yaml", "-o", "run")
    run = fs.load_run("run")
    assert [n["number"] for n in searched["networks"]] == list(range(len(run.front)))
    assert searched["networks"][0]["values"]["macs"] == run.front["macs"][0]
    assert searched["pick"] == {"number": run.pick, "reason": run.pick_reason}
    assert [s["explored"] for s in searched["seeds"]] == [5, 5]
    assert Path(searched["figure"]).is_file()
    assert Path(searched["page"]).name == "report.html"
    assert Path(searched["page"]).is_file()
    reported = document("report", "run", "--html", "run.html")
    assert reported == searched | {"page": "run.html", "run": "run", "figure": reported["figure"]}
    exported = document("export", "run", "-o", "network.py")
    assert (exported["run"], Path(exported["file"]).is_file()) == ("run", True)


def test_a_config_and_the_metrics(document: Any) -> None:
    assert document("check", "search.yaml", "--seconds", 0)["problems"] == []
    names = [source["name"] for source in document("objectives")["sources"]]
    assert {"cost", "table", "zero-cost"} <= set(names)


def test_a_predictor(document: Any) -> None:
    options = ("--metric", "time_ms", "--model", "boosted", "--scale", "linear")
    trained = document("train", "cells.csv", *options, "-o", "predictor")
    assert trained["metrics"][0]["scores"]["kendall_tau"] > 0.5
    predicted = document("predict", "predictor", *CELLS[:2], "--interval", "0.999")
    assert [row["genotype"] for row in predicted["networks"]] == CELLS[:2]
    assert predicted["networks"][0]["time_ms_high"] == "inf"  # too few measurements for such an interval
    judged = document("evaluate", "predictor", "cells.csv")
    assert judged["metrics"][0]["networks"] == len(CELLS)


def test_strings(document: Any) -> None:
    encoded = document("encode", "json_module:network", "--input", "1,3,4,4")["network"]
    assert encoded["string"].startswith("input[1x3x4x4]")
    assert encoded["tokens"]
    encoded = document("encode", "json_module:network", "--input", "1,3,4,4", "--published")["network"]
    assert encoded["tokens"] is None


def test_a_space_of_strings(document: Any) -> None:
    assert document("encode", "--space", "json_module:Few", "-o", "strings.csv")["space"]["networks"] == 3


def test_measurements(document: Any, place: Path) -> None:
    measured = document("measure run", CELLS[0], CELLS[1], "--space", "nats-tss", "--rounds", 1, "-o", "measured.csv")
    assert [row["genotype"] for row in measured["networks"]] == CELLS[:2]
    assert measured["units"]["latency_ms"] == "ms"
    (place / "elsewhere").mkdir()
    write(place / "elsewhere", GOOD)
    imported = document("measure import", "elsewhere/results.csv", "-o", "imported.csv")
    assert sum(row["latency_ms"] is None for row in imported["networks"]) == 1
    pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    pytest.importorskip("onnx", reason="needs the package onnx")
    assert document("measure export", CELLS[0], "--space", "nats-tss", "-o", "exported")["networks"] == 1


def test_a_calibration(document: Any, place: Path) -> None:
    (place / "few.txt").write_text("\n".join(CELLS[:20]))
    planned = document("calibrate plan", "--n", 10, "--genotypes", "few.txt", "-o", "plan.csv")["genotypes"]
    rows = [["genotype", "latency_ms"], *([cell, 1.0 + cell.count("conv")] for cell in planned)]
    with open("plan-measured.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    fitted = document("calibrate fit", "plan-measured.csv", "-o", "board")
    assert fitted["samples"] == 10
    assert 0 <= fitted["error"] < 1
    assert document("calibrate run", "--genotypes", "few.txt", "-o", "here")["predictor"] == "here"


def test_a_mistake_prints_no_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("report", "nowhere", "--json") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1


def test_what_code_of_the_users_prints_is_no_part_of_the_document(capfd: pytest.CaptureFixture[str]) -> None:
    loud = ("--set", "objectives.0.source={python: json_module:loud}")
    assert call("search", "search.yaml", "-o", "printing", "--json", *loud) == 0
    printed = capfd.readouterr()
    assert json.loads(printed.out)["seeds"]
    assert printed.err.count("called") >= 10  # also what does not pass through sys.stdout
    assert call("report", "printing") == 0
    assert "run folder" in capfd.readouterr().out


def test_numbers_that_json_lacks() -> None:
    table = pd.DataFrame({"n": [1, 2], "x": [math.nan, math.inf], "s": ["a", "b"], "k": pd.array([3, None], "Int64")})
    assert rows_of(table) == [{"n": 1, "x": None, "s": "a", "k": 3}, {"n": 2, "x": "inf", "s": "b", "k": None}]
    assert rows_of(pd.DataFrame({"f": [np.float64(2.0)]})) == [{"f": 2.0}]
