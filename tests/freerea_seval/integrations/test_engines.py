"""Engines as the algorithm of a run: the same config, run folder, journal and resumption."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import freerea_seval as fs
from freerea_seval.config.schema import ENGINES, check_config, foreign_names
from tests.freerea_seval.cli.test_mistakes import refused

CONFIG: dict[str, Any] = {
    "search": {"algorithm": "freerea", "population": 6, "tournament": 3},
    "budget": {"evaluations": 14},
    "objectives": [
        {"metric": "skip", "source": "training-free"},
        {"metric": "params", "source": "cost", "role": "pareto"},
        {"metric": "flops", "source": "cost", "role": "constraint", "max": 100},
    ],
}
CHEAP = [name for name in sorted(ENGINES) if name != "optuna:gp" and find_spec(name.partition(":")[0])]


def journal(run: fs.Run) -> str:
    lines = [json.loads(line) for line in (run.path / "seed-0" / "journal.jsonl").read_text().splitlines()]
    return json.dumps([{key: value for key, value in line.items() if key != "seconds"} for line in lines])


@pytest.mark.parametrize("engine", CHEAP)
def test_an_engine_searches_by_the_config_of_another_algorithm_and_resumes(
    engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fs.search(CONFIG, tmp_path / "whole", engine=engine, progress=True)
    assert f"engine {engine} does not take the option tournament of the config" in capsys.readouterr().err
    assert run.config.search.algorithm == engine
    assert run.config.search.options()["population"] == 6
    assert len(run.history) >= 14
    assert (run.front["flops"] <= 100).all()
    evaluated = fs.Evaluator.from_config(CONFIG)(run.front["genotype"].tolist())
    assert evaluated["params"].tolist() == run.front["params"].tolist()
    # The same with a process that ended within the search.
    again = fs.search(CONFIG, tmp_path / "again", engine=engine, progress=False)
    path = again.path / "seed-0" / "journal.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:9]))
    (again.path / "seed-0" / "result.json").unlink()
    assert journal(fs.search(resume=again.path, progress=False)) == journal(run)


@pytest.mark.parametrize("engine", CHEAP)
def test_an_engine_takes_part_in_a_refined_search(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "convs.py").write_text("def cost(genotype: str) -> float:\n    return 1.0 + genotype.count('conv')\n")
    monkeypatch.chdir(tmp_path)
    config = {
        "search": {"population": 4, "tournament": 2},
        "budget": {"evaluations": 12},
        "objectives": [
            {"metric": "skip", "source": "training-free", "role": "pareto"},
            {"metric": "cost", "source": {"seval": {"python": "convs:cost"}}, "role": "pareto", "direction": "min"},
        ],
        "refine": {"start": 10, "rounds": 2, "networks": 2},
    }
    run = fs.search(config, tmp_path / "run", engine=engine, progress=False)
    parts = [(run.path / "seed-0" / f"round-{part}.jsonl").read_text().splitlines() for part in (1, 2)]
    genotypes = [json.loads(line)["genotype"] for lines in parts for line in lines]
    assert len(genotypes) == len(set(genotypes)) == 12
    assert (run.front["cost"] == 1.0 + run.front["genotype"].str.count("conv")).all()


def test_an_unknown_engine_is_named_with_those_that_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = "unknown engine 'optuna:tep'; did you mean 'optuna:tpe'? Valid: optuna:gp, optuna:nsga2,"
    refused(capsys, message, "search", "--engine", "optuna:tep", "-o", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_option_that_no_algorithm_has_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(
        capsys, "unknown option of algorithm 'optuna:tpe': 'bogus'", "search", "--engine", "optuna:tpe",
        "--set", "search.bogus=3", "-o", tmp_path / "run",
    )  # fmt: skip


@pytest.mark.parametrize("engine", CHEAP)
def test_a_population_that_takes_the_whole_budget_is_called_a_random_search(
    engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fs.search(CONFIG, tmp_path / "run", engine=engine, override=["search.population=30"], progress=True)
    assert "this is a random search, because the first population (30) takes all" in capsys.readouterr().err


def test_a_space_without_genes_is_refused_before_anything_is_evaluated(tmp_path: Path) -> None:
    (tmp_path / "only.csv").write_text("genotype\n|none~0|+|none~0|none~1|+|none~0|none~1|none~2|\n")
    config = {**CONFIG, "space": {"name": "nats-tss", "only": str(tmp_path / "only.csv")}}
    with pytest.raises(fs.InputError, match="engines that choose values of genes need: a space with 'only'"):
        fs.search(config, tmp_path / "run", engine="optuna:tpe", progress=False)
    assert not (tmp_path / "run").exists()


def test_engines_are_no_foreign_code() -> None:
    config = check_config({**CONFIG, "search": {"algorithm": "optuna:tpe"}}, "config")
    assert foreign_names(config) == []
    own = check_config({**CONFIG, "search": {"algorithm": "own:Class"}}, "config")
    assert foreign_names(own) == ["own:Class"]
