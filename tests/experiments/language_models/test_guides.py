"""The experiment on guides of language models, on a made-up table of small networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.language_models import guides
from experiments.language_models.guides import choose, combined, costs_of, main, share_better, taus, with_vocabulary
from freerea_patch import GPTSmallSpace, GPTSpace, InputError
from freerea_seval.costs import SpaceCosts
from tests.experiments.language_models.test_hw_gpt_bench import write_table

SMALL = GPTSpace([32, 64], [2, 3], [1, 2], [2, 3], context=16, vocabulary=20)


def test_metrics_and_costs_rank_a_made_up_perplexity_and_the_experiment_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = write_table(tmp_path / "gpt_s.csv", 12)
    # The networks that are computed on are tiny; costs and perplexity are of the table's.
    tiny = SMALL.build("w32:l2:b0:h1-2:r2-3")
    monkeypatch.setattr(GPTSpace, "build", lambda space, genotype: tiny)
    command = ["--table", str(table), "--networks", "8", "--vocabulary", "20", "--batch-size", "4", "--length", "8"]
    command += ["--metrics", "naswot", "l2_norm", "-o", str(tmp_path / "run")]
    main(command)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| 8 networks | tau-b | within one width | tau-b, choosing |")
    values = {line.split("|")[1].strip(): line.split("|")[2:] for line in lines[2:]}
    assert values["params"][0].strip() == "1.000"  # the made-up perplexity is just that
    assert values["l2_norm"][0].strip() == "0.000"  # all live networks are the same
    assert lines[2].startswith("| chosen: decoder_params (1) and ")
    monkeypatch.setattr(guides.ZeroCost, "evaluate", None)  # nothing is computed again
    main(command)
    assert capsys.readouterr().out.splitlines() == lines
    with pytest.raises(InputError, match="--networks: expected from 8 to the 12 of the table, got 13"):
        main([*command, "--networks", "13"])


def test_a_smaller_vocabulary_keeps_genotypes_and_decoders() -> None:
    space = GPTSmallSpace()
    small = with_vocabulary(space, 100)
    genotype = space._example()
    small.check(genotype)
    assert small.choices() == space.choices()
    costs = [costs_of(one, SpaceCosts(one), genotype) for one in (space, small)]
    assert costs[0]["decoder_params"] == costs[1]["decoder_params"]
    assert costs[0]["params"] - costs[1]["params"] == pytest.approx(2 * 192 * (space.vocabulary - 100) / 1e6)


def test_taus_are_over_all_and_within_widths() -> None:
    rows = pd.DataFrame({"width": [1, 1, 1, 2, 2, 2], "perplexity": [9.0, 8, 7, 3, 2, 1]})
    assert taus(np.arange(6.0), rows) == pytest.approx((1, 1))
    overall, within = taus(np.array([3.0, 2, 1, 6, 5, 4]), rows)
    assert overall == pytest.approx(1 - 2 * 6 / 15)
    assert within == -1
    assert taus(np.ones(6), rows) == (0.0, 0.0)  # a constant ranks nothing
    assert taus(np.arange(2.0), rows.iloc[[0, 3]]) == (1.0, 0.0)  # and so does a width with one network


def test_the_metric_beside_the_bar_may_fall_with_better_networks() -> None:
    truth = np.arange(20.0)
    rows = pd.DataFrame({"width": 1, "perplexity": -truth, "decoder_params": truth // 10, "good": -truth})
    rows["noise"] = np.random.default_rng(0).random(20)
    weights = choose(rows, ["noise", "good"])
    assert weights["good"] < 0
    assert taus(combined(rows, weights), rows)[0] > 0.95
    assert share_better(combined(rows, weights), rows, 20) == 1
    assert share_better(rows["decoder_params"].to_numpy(), rows, 20) == 0.5
