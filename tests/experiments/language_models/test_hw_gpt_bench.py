"""The experiment on HW-GPT-Bench, on made-up tables and on the published one."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from experiments.language_models import hw_gpt_bench
from experiments.language_models.hw_gpt_bench import Architectures, main, one_hot, read_table
from freerea_patch import GPTSmallSpace, InputError
from freerea_seval.costs import SpaceCosts

SPACE = GPTSmallSpace()
COSTS = SpaceCosts(SPACE)


def write_table(path: Path, count: int = 60) -> Path:
    """Write random architectures, whose perplexity falls with their parameters."""
    rows = []
    for genotype in [SPACE.sample(Random(seed)) for seed in range(count)]:
        genes = SPACE.genes(genotype)
        layers = range(1, int(genes["layers"]) + 1)
        params = COSTS.counts(genotype).params
        rows.append(
            {
                "embed_dim": genes["width"],
                "n_layer": genes["layers"],
                "mlp_ratio": " ".join(genes[f"ratio {layer}"] for layer in layers),
                "n_head": " ".join(genes[f"heads {layer}"] for layer in layers),
                "bias": genes["bias"],
                "perplexity": 1000 - params / 1e6,
                "float16_memory_mb": 6 * params / 1e6,
            }
        )
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_predictors_are_judged_and_the_experiment_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = write_table(tmp_path / "gpt_s.csv")
    command = ["perplexity", "--table", str(table), "--networks", "20", "--most", "30", "--draws", "2"]
    command += ["--models", "one-hot ridge", "parameters", "-o", str(tmp_path / "run")]
    main(command)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| networks | model | draws | tau-b | within one width | seconds |"
    assert lines[3].startswith(
        "| 20 | parameters | 2 | 1.000 ± 0.000 | 1.000 ± 0.000 |"
    )  # the made-up perplexity is just that
    assert float(lines[2].split("|")[4].split()[0]) > 0.1
    monkeypatch.setattr(hw_gpt_bench, "one_hot", None)  # nothing is trained again
    monkeypatch.setattr(hw_gpt_bench, "SpaceCosts", None)
    main(command)
    assert capsys.readouterr().out.splitlines() == lines


def test_our_predictor_and_trees_learn_from_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_table(tmp_path / "gpt_s.csv", 40)
    command = ["perplexity", "--table", str(table), "--networks", "20", "--most", "20", "--draws", "1"]
    main([*command, "--models", "ours", "one-hot XGBoost", "-o", str(tmp_path / "run")])
    taus = [float(line.split("|")[4].split()[0]) for line in capsys.readouterr().out.splitlines()[2:]]
    assert len(taus) == 2
    assert min(taus) > 0.6


def test_memory_is_compared_with_the_published_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["memory", "--table", str(write_table(tmp_path / "gpt_s.csv", 20))])
    _, _, serving, autocast = capsys.readouterr().out.splitlines()
    assert serving.startswith("| float16 | 20 | ")
    assert float(serving.split("|")[3]) > 0.95
    assert float(autocast.split("|")[5]) == pytest.approx(0.9, abs=0.05)  # embeddings have no copy in float16


def test_one_hot_rows_have_one_value_a_gene_of_the_network() -> None:
    genotypes = [SPACE.sample(Random(seed)) for seed in range(30)]
    layers = np.array([int(SPACE.genes(genotype)["layers"]) for genotype in genotypes])
    rows = one_hot(Architectures(SPACE, genotypes))
    assert rows.shape == (30, 3 + 3 + 2 + 12 * 6)
    assert (rows.sum(axis=1) == 3 + 2 * layers).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": None}, "expected the columns .*, but bias is missing"),
        ({"embed_dim": 333}, "its widths 333 are of none of the spaces gpt-s, gpt-m and gpt-l"),
        ({"perplexity": "low"}, "expected numbers in the column perplexity"),
        ({"n_head": "4 4"}, "has 2 values of heads"),
    ],
)
def test_a_table_of_another_form_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write_table(tmp_path / "gpt_s.csv", 3)
    frame = pd.read_csv(path).assign(**change).dropna(axis=1)
    frame.to_csv(path, index=False)
    with pytest.raises(InputError, match=message):
        read_table(path)


def test_what_cannot_be_compared_is_an_error(tmp_path: Path) -> None:
    table, output = str(write_table(tmp_path / "t.csv", 5)), ["-o", str(tmp_path / "run")]
    with pytest.raises(InputError, match="has 5 architectures, too few for 500"):
        main(["perplexity", "--table", table, *output])
    with pytest.raises(InputError, match="one-hot choices of one space say nothing of another; add --models ours"):
        main(["perplexity", "--table", table, "--tested", table, "--networks", "4", *output])


def test_architectures_of_another_space_can_be_asked_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = str(write_table(tmp_path / "gpt_s.csv", 30))
    other = pd.read_csv(table).head(12)
    for name, factor in (("mlp_ratio", 2), ("n_head", 2), ("n_layer", 2)):
        other[name] = [
            " ".join([str(value)] * factor) if name != "n_layer" else value * factor for value in other[name]
        ]
    other["embed_dim"] = other["embed_dim"].map({192: 256, 384: 512, 768: 1024})
    other["n_head"] = [value.replace("4", "16") for value in other["n_head"].astype(str)]
    other = other[other["n_layer"].isin([22, 24])]
    other.to_csv(tmp_path / "gpt_m.csv", index=False)
    command = ["perplexity", "--table", table, "--tested", str(tmp_path / "gpt_m.csv"), "--networks", "20"]
    main([*command, "--draws", "1", "--models", "ours", "parameters", "-o", str(tmp_path / "run")])
    ours, parameters = capsys.readouterr().out.splitlines()[2:]
    assert ours.startswith("| 20 | ours | 1 | ")
    assert -1 <= float(ours.split("|")[4].split()[0]) <= 1
    assert parameters.startswith("| 20 | parameters | 1 | ")


@pytest.mark.data
@pytest.mark.parametrize(("name", "count"), [("gpt_s", 10_000), ("gpt_m", 5_000)])
def test_published_architectures_are_of_the_spaces(name: str, count: int, data_dir: Path) -> None:
    space, genotypes, table = read_table(data_dir / "hw_gpt_bench" / f"{name}.csv")
    assert space.name == name.replace("_", "-")
    assert len(genotypes) == len(table) == count
    costs = SpaceCosts(space)
    ours = [costs.counts(genotype).params for genotype in genotypes[:200]]
    assert spearmanr(ours, table["float16_memory_mb"].to_numpy()[:200]).statistic > 0.9
