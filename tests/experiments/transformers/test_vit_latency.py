"""The example search of vision transformers, of few small ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from experiments.transformers import vit_latency


def test_the_search_is_drawn_and_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = yaml.safe_load(vit_latency.CONFIG.read_text())
    config["space"]["transformers"] |= {"image_size": 16, "patch_size": 4, "num_labels": 10}
    config["space"]["vary"] = {
        "num_hidden_layers": [2, 3],
        "hidden_size": [24],
        "intermediate_size": [24, 48, 64, 96, 128, 160],
    }
    config["space"]["transformers"]["num_attention_heads"] = 2
    config["search"] |= {"population": 4, "tournament": 2, "start": []}
    config |= {"budget": {"evaluations": 10}, "refine": {"start": 10, "rounds": 1, "networks": 1}}
    config["live"] = {"batch_size": 2, "cache": "off"}
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(config))
    arguments = ["--config", str(path), "-o", str(tmp_path / "run")]
    vit_latency.main(arguments)
    picture = tmp_path / "run" / "vit.png"
    before = picture.read_bytes()
    assert before.startswith(b"\x89PNG")
    assert "vit.png: the " in capsys.readouterr().out
    picture.unlink()
    vit_latency.main(arguments)
    assert picture.exists()
