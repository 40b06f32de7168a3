"""Runs: what they write, that one seed fixes them, that killed ones resume to the same result."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import freerea_seval as fs
from freerea_patch import InputError, TopologySpace
from freerea_seval.config import MetricSection, load_config
from freerea_seval.runs.execute import execute
from freerea_seval.runs.folder import RunFolder
from freerea_seval.runs.report import label, read_history
from tests.freerea_seval.cli.test_mistakes import call
from tests.freerea_seval.runs.searches import write_search


def start(config: Path, run: Path, *overrides: str) -> RunFolder:
    folder = RunFolder.create(run, load_config(config, overrides), config.parent)
    execute(folder)
    return folder


def outcome(run: Path) -> dict[str, bytes]:
    """All files of a run that its seed decides."""
    names = ("front.csv", "summary.json", "config.yaml", "seed-3/journal.jsonl", "seed-3/result.json")
    return {name: _without_seconds((run / name).read_bytes()) for name in names}


def _without_seconds(content: bytes) -> bytes:
    """Take out what a python metric is charged, which is measured and so differs from run to run."""
    content = re.sub(rb'"seconds": \{[^}]*\}', b"", content)
    return re.sub(rb'"metric_s": [^,]*,', b"", content)


def test_a_run_folder_holds_config_versions_journal_front_and_summary(tmp_path: Path) -> None:
    folder = start(write_search(tmp_path), tmp_path / "run")
    written = {str(p.relative_to(folder.path)) for p in folder.path.rglob("*") if p.is_file()}
    assert {"config.yaml", "run.json", "front.csv", "summary.json", "seed-3/journal.jsonl"} <= written
    record = json.loads((folder.path / "run.json").read_text())
    assert record["seeds"] == [3]
    assert record["versions"]["numpy"]
    assert len(folder.journal(3).steps()) == 60
    summary = json.loads((folder.path / "summary.json").read_text())
    assert summary[0]["explored"] == 60
    assert summary[0]["seconds"]["worth"] > 0


def test_the_resolved_config_holds_every_default(tmp_path: Path) -> None:
    folder = start(write_search(tmp_path, options="population: 30, "), tmp_path / "run")
    resolved = RunFolder.open(folder.path).config
    assert resolved.search.options() == {
        "population": 30,
        "tournament": 25,
        "n_random": 0,
        "aggregation": "sum",
        "normalisation": "pool",
        "simplify": False,
        "unseen": 0,
        "start": [],
        "tournaments": 1,
    }
    assert resolved.objectives[1].unit == "mJ"


def test_every_journal_row_names_values_seconds_generation_and_parents(tmp_path: Path) -> None:
    folder = start(write_search(tmp_path), tmp_path / "run")
    rows = [json.loads(line) for line in (folder.path / "seed-3/journal.jsonl").read_text().splitlines()]
    seen: set[str] = set()
    for row in rows:
        assert set(row) == {"genotype", "origin", "generation", "parents", "values", "seconds"}
        assert set(row["values"]) == {"worth", "cost"}
        assert len(row["parents"]) == {"random": 0, "mutation": 1, "crossover": 2}[row["origin"]]
        assert seen.issuperset(row["parents"])
        seen.add(row["genotype"])
    assert {row["origin"] for row in rows} == {"random", "mutation", "crossover"}


def test_the_front_is_the_non_dominated_part_of_the_journal(tmp_path: Path) -> None:
    folder = start(write_search(tmp_path), tmp_path / "run")
    points = {c.genotype: (c.values["worth"], -c.values["cost"]) for c in read_history(folder, 3)}
    expected = {
        g for g, p in points.items() if not any(q != p and q[0] >= p[0] and q[1] >= p[1] for q in points.values())
    }
    assert {row["genotype"] for row in folder.results()[0]["front"]} == expected


def test_reported_metrics_are_in_the_front_and_not_in_the_journal(tmp_path: Path) -> None:
    folder = start(write_search(tmp_path), tmp_path / "run")
    for row in folder.results()[0]["front"]:
        assert row["again"] == row["cost"]
    assert b"again" not in (folder.path / "seed-3/journal.jsonl").read_bytes()


def test_several_seeds_give_several_histories_in_one_run(tmp_path: Path) -> None:
    folder = start(write_search(tmp_path, seeds="[3, 4]"), tmp_path / "run")
    assert [r["seed"] for r in folder.results()] == [3, 4]
    journals = [folder.journal(seed).steps() for seed in (3, 4)]
    assert journals[0] != journals[1]


@pytest.mark.parametrize("algorithm", ["freerea", "freerea-minus", "random"])
def test_every_algorithm_runs_from_a_config(tmp_path: Path, algorithm: str) -> None:
    options = "" if algorithm == "random" else "population: 12, tournament: 4, "
    folder = start(write_search(tmp_path, algorithm=algorithm, options=options), tmp_path / "run")
    assert folder.results()[0]["explored"] == 60


ALGORITHM = """
from freerea_patch import RandomSearch

class Stepped(RandomSearch):
    def __init__(self, space, terms, *, step: int = 2, note: str = "none", **options):
        super().__init__(space, terms, **options)
        self.step = step
"""


def test_an_algorithm_beside_the_config_has_options_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "stepped.py").write_text(ALGORITHM)
    config = write_search(tmp_path, algorithm="'stepped:Stepped'", options="step: '3', aggregation: ranks, ")
    folder = start(config, tmp_path / "run")
    assert folder.results()[0]["explored"] == 60
    assert RunFolder.open(folder.path).config.search.options() == {
        "step": 3,
        "note": "none",
        "aggregation": "ranks",
        "normalisation": "pool",
        "simplify": False,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("stp: 3, ", "unknown option of algorithm 'stepped:Stepped': 'stp'; did you mean 'step'?"),
        (
            "step: many, ",
            "search.step: expected a whole number, got 'many'",
        ),
        ("aggregation: mean, ", "search.aggregation: expected 'sum', 'ranks' or 'log-ranks', got 'mean'"),
    ],
)
def test_a_wrong_option_of_an_algorithm_is_named_and_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str, message: str
) -> None:
    (tmp_path / "stepped.py").write_text(ALGORITHM)
    config = write_search(tmp_path, algorithm="'stepped:Stepped'", options=options)
    assert call("search", config, "-o", tmp_path / "run") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_option_of_another_algorithm_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="option of algorithm 'random': 'population'"):
        start(write_search(tmp_path, algorithm="random"), tmp_path / "run")


def test_a_run_folder_with_something_in_it_is_never_written_over(tmp_path: Path) -> None:
    config = write_search(tmp_path)
    start(config, tmp_path / "run")
    before = outcome(tmp_path / "run")
    with pytest.raises(InputError, match="exists and is not empty; choose another with -o"):
        start(config, tmp_path / "run")
    assert outcome(tmp_path / "run") == before


def test_a_run_that_another_process_writes_is_refused(tmp_path: Path) -> None:
    folder = start(write_search(tmp_path), tmp_path / "run")
    with folder.locked(), pytest.raises(InputError, match="is being written by another process"):
        execute(RunFolder.open(folder.path))


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    start(write_search(tmp_path), tmp_path / "run")
    before = outcome(tmp_path / "run")
    execute(RunFolder.open(tmp_path / "run"))
    assert outcome(tmp_path / "run") == before


@pytest.mark.parametrize("kept", [0, 1, 11, 12, 13, 40, 59, 60])
def test_a_journal_cut_anywhere_is_continued_to_the_same_result(tmp_path: Path, kept: int) -> None:
    run = tmp_path / "run"
    start(write_search(tmp_path), run)
    whole = outcome(run)
    journal = run / "seed-3" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    torn = lines[kept][:17] if kept < len(lines) else b""
    journal.write_bytes(b"".join(lines[:kept]) + torn)
    (run / "seed-3" / "result.json").unlink()
    execute(RunFolder.open(run))
    assert outcome(run) == whole


def test_a_search_that_the_clock_ends_resumes_on_its_recorded_clock(tmp_path: Path) -> None:
    run = tmp_path / "run"
    folder = start(write_search(tmp_path, delay=0.01, budget="wall_seconds: 0.5"), run)
    steps = folder.journal(3).steps()
    assert steps[-1].times is not None
    assert steps[-1].times.wall_s >= 0.5
    (run / "seed-3" / "result.json").unlink()
    execute(RunFolder.open(run))
    assert RunFolder.open(run).journal(3).steps() == steps


def test_resuming_under_another_config_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    start(write_search(tmp_path), run)
    (run / "seed-3" / "result.json").unlink()
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("population: 12", "population: 13"))
    with pytest.raises(InputError, match=r"the journal has .* the config or the program has changed since"):
        execute(RunFolder.open(run))


def cli(*arguments: object, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "freerea_seval.cli.main", *map(str, arguments)],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def test_one_seed_gives_one_history_byte_for_byte_whatever_the_hash_seed(tmp_path: Path) -> None:
    genotypes = _table(tmp_path / "table.csv")
    config = tmp_path / "table.yaml"
    config.write_text(
        "space: nats-tss\nsearch: {population: 30, tournament: 8, seeds: [3]}\nbudget: {evaluations: 300}\n"
        "objectives:\n"
        "  - {metric: worth, source: {table: table.csv}, direction: max}\n"
        "  - {metric: latency_ms, source: {table: table.csv}, direction: min, role: pareto}\n"
    )
    assert len(genotypes) == 15625
    processes = [cli("search", config, "-o", tmp_path / f"run{h}", PYTHONHASHSEED=str(h)) for h in (0, 1)]
    for process in processes:
        assert process.wait(120) == 0, process.stderr.read() if process.stderr else ""
    journals = [(tmp_path / f"run{h}" / "seed-3" / "journal.jsonl").read_bytes() for h in (0, 1)]
    assert journals[0] == journals[1]
    assert journals[0].count(b"\n") == 300


def _table(path: Path) -> list[str]:
    from freerea_patch import TopologySpace

    numbers = random.Random(0)
    genotypes = list(TopologySpace().genotypes())
    rows = [f"{g},{numbers.random()},{numbers.random() * 9}" for g in genotypes]
    path.write_text("\n".join(["genotype,worth,latency_ms", *rows]) + "\n")
    return genotypes


def test_two_processes_never_write_to_one_journal(tmp_path: Path) -> None:
    folder = start(write_search(tmp_path), tmp_path / "run")
    (folder.seed(3) / "result.json").unlink()
    other = folder.journal(3)
    other.open()
    with pytest.raises(InputError, match="is being written by another process; wait for it"):
        execute(folder)
    other.close()
    execute(folder)


def test_infinite_and_unsupported_values_are_shown_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = "odd_values"
    (tmp_path / f"{module}.py").write_text(
        "def odd(genotype):\n"
        "    return {0: float('-inf'), 1: float('nan')}.get(len(genotype) % 3, float(len(genotype)))\n"
        "def plain(genotype):\n    return float(len(genotype))\n"
        "def never(genotype):\n    return float('nan')\n"
    )
    config = tmp_path / "odd.yaml"
    for role in ("fitness", "pareto"):
        config.write_text(
            "space: nats-tss\nsearch: {population: 4, tournament: 2, seeds: [0, 1]}\nbudget: {evaluations: 9}\n"
            f"objectives:\n  - {{metric: odd, source: {{python: {module}:odd}}, direction: max, role: {role}}}\n"
            f"  - {{metric: plain, source: {{python: {module}:plain}}, direction: min, role: {role}}}\n"
            f"report:\n  - {{metric: never, source: {{python: {module}:never}}}}\n"
            f"  - {{metric: odd, name: again, source: {{python: {module}:odd}}}}\n"
        )
        assert call("search", config, "-o", tmp_path / role) == 0
        assert "unsupported" in capsys.readouterr().out
        assert (tmp_path / role / "front.png").exists()


def test_a_budget_that_ends_before_anything_feasible_gives_an_empty_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_search(tmp_path, delay=0.01, budget="metric_seconds: 0.05")
    config.write_text(config.read_text().replace("direction: max}", "role: constraint, max: -1}"))
    assert call("search", config, "-o", tmp_path / "run") == 0
    printed = capsys.readouterr().out
    assert "0 networks explored" in printed
    nearest = (
        r"seed 3: none of \d+ candidates is within the constraints \(worth <= -1\); the nearest has worth [\d.]+: \|"
    )
    assert re.search(nearest + r".*\|; loosen the bound\n", printed)
    assert (tmp_path / "run" / "front.csv").read_text() == "seed\n"


def test_an_impossible_bound_is_told_after_a_second_and_ends_with_the_patience(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_search(tmp_path, delay=0.03, budget="evaluations: 60, patience: 64")
    config.write_text(config.read_text().replace("direction: max}", "role: constraint, max: -1}"))
    for arguments in (("search", config, "-o", tmp_path / "run"), ("search", "--resume", tmp_path / "run")):
        assert call(*arguments) == 2
        *told, error = capsys.readouterr().err.splitlines()
        assert re.fullmatch(
            r"freerea-seval: error: none of 64 candidates is within the constraints \(worth <= -1\); the nearest has"
            r" worth [\d.]+: \|.*\|; loosen the bound, or raise budget.patience \(64\)",
            error,
        )
        if "--resume" in arguments:
            assert told == []  # all is in the journal, which takes no second
        else:
            (line,) = told
            assert re.match(r"seed 3: none of \d+ candidates .*; the search ends after 64 in a row \(budget", line)
    journal = tmp_path / "run" / "seed-3" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    assert len(lines) == 64
    for kept in (64, 20):
        journal.write_text("".join(lines[:kept]))
        assert call("report", tmp_path / "run") == 2
        found = capsys.readouterr().err
        assert re.search(
            rf"seed 3 found nothing: none of {kept} candidates is within .*; the nearest has worth [\d.]+: \|.*\|;"
            r" start another search with a looser bound or a budget.patience above 64",
            found,
        )
        assert ("; or if this one was interrupted, continue it with: " in found) == (kept < 64)
    journal.write_text("")
    assert call("report", tmp_path / "run") == 2
    assert "seed 3 is not finished; continue it with: " in capsys.readouterr().err


def test_a_budget_within_the_first_population_is_called_a_random_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "population: 20, tournament: 4, "
    for evaluations, warned in ((20, True), (21, False)):
        config = write_search(tmp_path, budget=f"evaluations: {evaluations}", options=options)
        assert call("search", config, "-o", tmp_path / str(evaluations)) == 0
        printed = capsys.readouterr()
        assert ("this is a random search, because the first population (20)" in printed.err) == warned
        assert ("this is a random search" in printed.out) == warned
    config = write_search(tmp_path, budget="evaluations: 5", algorithm="random", options="")
    assert call("search", config, "-o", tmp_path / "random") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("metric", "source", "expected"),
    [
        ("energy_mj", {"table": "t.csv"}, "energy_mj [mJ]"),
        ("Energy (mJ)", {"table": "t.csv"}, "Energy (mJ)"),
        ("energy_mj", {"seval": "p"}, "energy_mj, predicted [mJ]"),
        ("energy_predicted", {"seval": "p"}, "energy_predicted [mJ]"),
    ],
)
def test_a_label_has_the_unit_once_and_says_that_a_metric_is_predicted(
    metric: str, source: dict[str, str], expected: str, tmp_path: Path
) -> None:
    config = load_config(write_search(tmp_path))
    assert label(config, MetricSection(metric=metric, source=dict(source), unit="mJ")) == expected


@pytest.mark.parametrize("role", ["fitness", "pareto"])
def test_a_search_can_be_limited_to_the_rows_of_a_table(
    tmp_path: Path, role: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = TopologySpace().genotypes()
    rows = [f"{number * 300},{len(cells[number * 300]) % 7 + number / 100}" for number in range(40)]
    (tmp_path / "few.csv").write_text("\n".join(["index,energy_mj", *rows]))
    config = tmp_path / "rows.yaml"
    config.write_text(
        "space: {name: nats-tss, only: few.csv}\n"
        "search: {population: 10, tournament: 5, simplify: true}\nbudget: {evaluations: 1000}\n"
        f"objectives:\n  - {{metric: energy_mj, source: {{table: few.csv}}, direction: min, role: {role}}}\n"
    )
    assert call("search", config, "-o", tmp_path / "run") == 0
    assert "of 40 networks; it ran out of new ones" in capsys.readouterr().out
    run = fs.load_run(tmp_path / "run")
    least = min(rows, key=lambda row: float(row.split(",")[1])).split(",")
    assert (run.genotypes()[0], run.front["energy_mj"][0]) == (cells[int(least[0])], float(least[1]))
    assert set(run.history["genotype"]) == {cells[number * 300] for number in range(40)}
    assert isinstance(run.space, TopologySpace)
    assert call("search", config, "-o", tmp_path / "whole", "--set", "space=nats-tss") == 2
    assert "search its rows alone: 'space: {name: ..., only: few.csv}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("only", "message"), [("nowhere.csv", "cannot read the table"), ("[1]", "space: 'only': expected a path, got [1]")]
)
def test_a_limit_that_is_no_table_is_refused(
    tmp_path: Path, only: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_search(tmp_path)
    assert call("search", config, "-o", tmp_path / "run", "--set", f"space={{name: nats-tss, only: {only}}}") == 2
    assert message in capsys.readouterr().err


def write_unsupported(folder: Path, first_role: str, expression: str, delay: float = 0.0) -> Path:
    """Write a search on a metric of this expression and one that always has a value."""
    module = f"unsupported_{folder.name}".replace("-", "_")
    (folder / f"{module}.py").write_text(
        f"import time\ncalls = 0\ndef odd(genotype):\n    global calls\n    calls += 1\n    time.sleep({delay})\n"
        f"    return {expression}\ndef plain(genotype):\n    return float(len(genotype))\n"
    )
    config = folder / "unsupported.yaml"
    config.write_text(
        "space: nats-tss\nsearch: {population: 6, tournament: 2}\nbudget: {evaluations: 20}\nobjectives:\n"
        f"  - {{metric: odd, source: {{python: {module}:odd}}, direction: max, role: {first_role}}}\n"
        f"  - {{metric: plain, source: {{python: {module}:plain}}, direction: min}}\n"
    )
    return config


@pytest.mark.parametrize("role", ["fitness", "pareto"])
@pytest.mark.parametrize("value", ["nan", "-inf"])
def test_a_search_in_which_nothing_can_be_compared_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], role: str, value: str
) -> None:
    config = write_unsupported(tmp_path, role, f"float({value!r})")
    for arguments in (("search", config, "-o", tmp_path / "run"), ("search", "--resume", tmp_path / "run")):
        assert call(*arguments) == 2
        assert capsys.readouterr().err == (
            "freerea-seval: error: nothing could be compared: odd is unsupported, NaN or infinite for 20 of 20"
            " candidates; choose metrics that have a value on these networks\n"
        )
    assert call("report", tmp_path / "run") == 2
    assert "seed 0: nothing could be compared: odd is unsupported, NaN" in capsys.readouterr().err


def test_networks_that_cannot_be_compared_are_not_among_the_best(tmp_path: Path) -> None:
    config = write_unsupported(tmp_path, "fitness", "1.0 if calls % 10 == 0 else float('nan')")
    assert call("search", config, "-o", tmp_path / "run") == 0
    front = fs.load_run(tmp_path / "run").front
    assert front["odd"].tolist() == [1.0, 1.0]
    assert np.isfinite(front["score"]).all()


@pytest.mark.parametrize(("delay", "count"), [(0.0, "15 of 20"), (0.12, r"\d+ of 1\d")], ids=["quick", "slow"])
def test_a_metric_that_most_candidates_lack_is_said_once_and_while_the_search_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], delay: float, count: str
) -> None:
    config = write_unsupported(tmp_path, "fitness", "float('nan') if calls % 4 else 1.0", delay)
    assert call("search", config, "-o", tmp_path / "run") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(f"seed 0: odd is unsupported, NaN or infinite for {count} candidates: they rank last; .*", line)


def test_a_metric_that_few_candidates_lack_is_not_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_unsupported(tmp_path, "fitness", "1.0 if calls % 4 else float('nan')")
    assert call("search", config, "-o", tmp_path / "run") == 0
    assert capsys.readouterr().err == ""
