"""Searches for fronts of language models, on made-up weights of the benchmark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.language_models.fronts import main, search_config, share
from freerea_patch import GPTSmallSpace, InputError
from tests.freerea_seval.sources.test_hw_gpt_bench import write_clone


@pytest.mark.slow
def test_methods_ask_for_the_same_number_of_perplexities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_clone(tmp_path / "clone", GPTSmallSpace())
    command = ["--hw-gpt-bench", str(tmp_path / "clone"), "--evaluations", "20", "--architectures", "60"]
    main([*command, "--seeds", "1", "-o", str(tmp_path / "run")])
    rows = pd.read_csv(tmp_path / "run" / "rows.csv").set_index("method")
    assert rows["asked"].to_dict() == {"ours": 20, "NSGA-II": 20, "random": 20}
    assert (rows["hypervolume"] > 0).all()
    assert "| random | 1 | 20 | " in capsys.readouterr().out


def test_the_measured_search_asks_for_as_many_in_rounds() -> None:
    for evaluations in (20, 100, 200):
        config = search_config("ours", {"hw-gpt-bench": "clone"}, evaluations, 3)
        asked = config["objectives"][1]["source"]["seval"]
        assert asked["start"] + config["refine"]["rounds"] * asked["networks"] == evaluations


def test_a_front_has_all_of_its_own_hypervolume() -> None:
    front = np.array([[1.0, 8.0], [2.0, 5.0], [4.0, 2.0]])
    assert share(front, front) == pytest.approx(1.0)
    assert share(front[:2], front) < 1.0 < share(np.vstack([front, [1.5, 5.0]]), front)


def test_too_few_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--evaluations: expected at least 20, got 5"):
        main(["--hw-gpt-bench", str(tmp_path), "--evaluations", "5", "-o", str(tmp_path / "run")])
