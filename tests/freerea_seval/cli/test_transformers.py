"""A space of transformers through the command line: search, export, train and predict."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
from transformers import AutoConfig, AutoModelForImageClassification

import freerea_seval as fs
from freerea_seval.api.arguments import as_space
from tests.freerea_seval.cli.test_mistakes import call

VIT = {"model_type": "vit", "image_size": 16, "patch_size": 4, "num_labels": 10}
CONFIG = """
space:
  transformers: vit_config
  vary: {num_hidden_layers: [2, 4, 6], hidden_size: [16, 24], num_attention_heads: [2, 3], intermediate_size: [24, 48]}
search: {population: 6, tournament: 3}
budget: {evaluations: 12}
live: {cache: off}
objectives:
  - {metric: macs, source: cost, role: fitness, direction: max}
  - {metric: params, source: cost, role: pareto}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vit_config").mkdir()
    (tmp_path / "vit_config" / "config.json").write_text(json.dumps(VIT))
    (tmp_path / "vit.yaml").write_text(CONFIG)
    return tmp_path


def test_a_search_ends_with_a_config_from_which_the_library_builds_the_pick(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("search", "vit.yaml", "-o", "run") == 0
    assert "run -o config.json" in capsys.readouterr().out
    (place / "vit_config" / "config.json").unlink()  # the run has its content
    capsys.readouterr()
    assert call("export", "run", "-o", "config.json") == 0
    assert "config.json: loaded again, with the parameters of the network" in capsys.readouterr().out
    run = fs.load_run("run")
    genotype = run.genotypes()[run.pick]
    config = AutoConfig.for_model(**json.loads((place / "config.json").read_text()))
    model = AutoModelForImageClassification.from_config(config)
    expected = {name: tensor.shape for name, tensor in run.build(run.pick).model.state_dict().items()}  # type: ignore[union-attr]
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == expected
    assert f"hidden_size={config.hidden_size}," in genotype
    assert run.front["params"][run.pick] == sum(p.numel() for p in model.parameters()) / 1e6
    assert call("export", "run", "-o", "network.pt2") == 0

    for arguments, message in (
        (("-o", "config.json"), "exists"),
        (("-o", "other.json", "--batch-size", "2"), "a config is for any batch; leave out --batch-size"),
        (("-o", "other.json", "--pick", "99"), "expected an index of its front"),
        (("-o", "network.py"), "name a file .json, .onnx or .pt2"),
    ):
        assert call("export", "run", *arguments) == 2
        assert message in capsys.readouterr().err


def test_a_predictor_is_trained_and_asked_in_the_space_of_a_searchs_config(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = as_space("vit.yaml")
    genotypes = list(dict.fromkeys(space.sample(Random(seed)) for seed in range(60)))[:16]
    widths = [int(space.genes(genotype)["hidden_size"]) for genotype in genotypes]  # type: ignore[attr-defined]
    rows = "".join(f'"{genotype}",{width}\n' for genotype, width in zip(genotypes, widths, strict=True))
    (place / "table.csv").write_text(f"genotype,latency_ms\n{rows}")
    assert call("train", "table.csv", "--metric", "latency_ms", "--space", "vit.yaml", "-o", "predictor") == 0
    asked = ("predict", "predictor", *genotypes[:3], "-o", "predicted.csv")
    assert call(*asked) == 2
    assert "--space FILE.yaml of a search in it" in capsys.readouterr().err
    assert call(*asked, "--space", "vit.yaml") == 0
    assert (place / "predicted.csv").read_text().count("\n") == 4
    assert call("encode", "--space", "vit.yaml", "-o", "strings.csv") == 0
    assert (place / "strings.csv").read_text().count("input[1x3x16x16]") == len(space.genotypes())  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("num_hidden_layers", "num_layers", "unknown key in vary, of vit: 'num_layers'; did you mean"),
        ("vit_config", "vitt", "unknown model type, or folder with a config.json, 'vitt'; did you mean 'vit'"),
        ("metric: params", "metric: kv_cache", "kv_cache is of language models that add token to token"),
        (
            "metric: params, source: cost",
            "metric: time_per_token, source: device",
            "is of the spaces gpt",
        ),
    ],
)
def test_mistakes_are_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, message: str
) -> None:
    (place / "bad.yaml").write_text(CONFIG.replace(old, new))
    assert call("search", "bad.yaml", "-o", "run") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_json_of_another_space_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "cells.yaml").write_text(CONFIG.partition("search:")[2].join(["space: nats-sss\nsearch:", ""]))
    assert call("search", "cells.yaml", "-o", "cells") == 0
    assert call("export", "cells", "-o", "config.json") == 2
    assert "this run is of the space nats-sss/cifar10" in capsys.readouterr().err
