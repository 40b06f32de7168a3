"""The example searches of the documentation, with few networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.search import picture
from freerea_patch import GPTSmallSpace
from tests.freerea_seval.sources.test_hw_gpt_bench import write_clone

CONFIGS = Path(__file__).parents[3] / "experiments" / "configs"


def small(name: str, folder: Path, changes: dict[str, Any]) -> Path:
    """Write an example config with few networks, and return its path."""
    config = yaml.safe_load((CONFIGS / name).read_text())
    config["search"] |= {"population": 4, "tournament": 2}
    config |= {"budget": {"evaluations": 10}, "refine": {"start": 10, "rounds": 1, "networks": 1}, **changes}
    path = folder / name
    path.write_text(yaml.safe_dump(config))
    return path


def test_a_search_is_drawn_and_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vary = {
        "num_hidden_layers": [2, 3],
        "hidden_size": [24],
        "intermediate_size": [24, 48, 64, 96, 128, 160],
    }
    vit = {"model_type": "vit", "image_size": 16, "patch_size": 4, "num_labels": 10, "num_attention_heads": 2}
    changes = {"space": {"transformers": vit, "vary": vary}, "live": {"batch_size": 2, "cache": "off"}}
    config = small("vit_latency.yaml", tmp_path, changes)
    text = yaml.safe_load(config.read_text())
    text["search"]["start"] = []
    config.write_text(yaml.safe_dump(text))
    arguments = [str(config), "-o", str(tmp_path / "run")]
    picture.main(arguments)
    drawn = tmp_path / "run" / "picture.png"
    assert drawn.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "picture.png: the " in printed
    assert "latency_predicted differs from latency by " in printed
    drawn.unlink()
    picture.main(arguments)
    assert drawn.exists()
    assert "minutes" not in capsys.readouterr().out


@pytest.mark.slow
def test_language_models_are_searched_for_perplexity_and_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clone(tmp_path / "HW-GPT-Bench", GPTSmallSpace())
    picture.main([str(small("gpt_s.yaml", tmp_path, {})), "-o", str(tmp_path / "run")])
    printed = capsys.readouterr().out
    assert "time_per_token_predicted differs from time_per_token by " in printed
    assert "perplexity_predicted differs from perplexity by " in printed
