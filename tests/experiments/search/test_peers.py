"""The peers of the measured search: what they spend, what they know, and how they are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.search import peer_methods
from experiments.search.benchmarks import Benchmark, read_benchmark, table_path, write_made_up_tables
from experiments.search.peer_methods import PEERS, Cells, Task
from experiments.search.peers import FRONT, Budget, main, ours_config, outcome_of, read_cells, search_with_ours, summary
from freerea_patch import InputError
from freerea_patch.spaces import format_cell, parse_cell

BUDGET = Budget(24, 12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with made-up tables."""
    path = tmp_path_factory.mktemp("peers")
    write_made_up_tables(path, ["cifar100"])
    return path


@pytest.fixture(scope="module")
def benchmark(folder: Path) -> Benchmark:
    return read_benchmark(folder, "cifar100", "edgegpu_latency")


@pytest.fixture(scope="module")
def cells(folder: Path) -> Cells:
    return read_cells(folder, "cifar100")


@pytest.fixture
def make(benchmark: Benchmark, cells: Cells) -> Callable[..., Task]:
    """Make a task, for a bound or for a front."""

    def task(quantile: float | None = 0.3, budget: Budget = BUDGET, of: Benchmark = benchmark) -> Task:
        return Task(of, cells, *budget, None if quantile is None else benchmark.bound(quantile))

    return task


def carry_out(name: str, task: Task, seed: int = 0) -> Task:
    PEERS[name].search(task, np.random.default_rng(seed))
    return task


def cases() -> list[Any]:
    slow = {"bananas", "optuna-gp", "botorch-qnehvi", "best-flops", "best-naswot", "best-guide"}
    return [
        pytest.param(name, quantile, id=f"{name}-{quantile}", marks=[pytest.mark.slow] if name in slow else [])
        for name, peer in PEERS.items()
        for quantile in [0.3] * peer.bounds + [None] * peer.fronts
    ]


@pytest.mark.parametrize(("name", "quantile"), cases())
def test_a_peer_spends_its_budget_and_knows_nothing_else(
    name: str,
    quantile: float | None,
    make: Callable[..., Task],
    benchmark: Benchmark,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peer_methods, "_MEMBERS", 2)
    if (package := PEERS[name].package) is not None:
        pytest.importorskip(package[0])
    task = carry_out(name, make(quantile))
    assert len(task.latencies) <= BUDGET.measured
    assert len(task.accuracies) <= BUDGET.trained
    assert task.spent
    assert set(task.accuracies) <= {row for row in task.latencies if task.keeps(row)}
    assert task.accuracies == {row: benchmark.accuracies[row] for row in task.accuracies}
    # The same course where everything that it has not asked for is hidden.
    hidden = {"values": task.latencies, "accuracies": task.accuracies}
    shown: dict[str, Any] = {key: np.full(len(benchmark.genotypes), np.nan) for key in hidden}
    for key, known in hidden.items():
        shown[key][list(known)] = list(known.values())
    again = carry_out(name, make(quantile, of=replace(benchmark, **shown)))
    assert list(again.latencies.items()) == list(task.latencies.items())
    assert list(again.accuracies.items()) == list(task.accuracies.items())
    assert set(carry_out(name, make(quantile), seed=1).latencies) != set(task.latencies)


@pytest.mark.parametrize(
    ("name", "seeds"),
    [
        ("evolution", 20),
        ("local-search", 20),
        ("optuna-tpe", 5),
        pytest.param("constrained-ei", 3, marks=pytest.mark.slow),
    ],
)
def test_a_peer_is_better_than_random_search(name: str, seeds: int, make: Callable[..., Task]) -> None:
    if (package := PEERS[name].package) is not None:
        pytest.importorskip(package[0])

    def regret(method: str) -> float:
        outcomes = [outcome_of(carry_out(method, make(0.3, Budget(60, 40)), seed)) for seed in range(seeds)]
        return float(np.mean([outcome["regret"] for outcome in outcomes]))

    assert regret(name) < regret("random")


def test_a_task_refuses_more_than_its_budget_and_answers_again_for_nothing(make: Callable[..., Task]) -> None:
    task = make(None, Budget(2, 1))
    with pytest.raises(AssertionError, match="has not measured"):
        task.train(0)
    assert task.measure(0) == task.measure(0)
    task.measure(1)
    with pytest.raises(AssertionError, match="measures more"):
        task.measure(2)
    assert task.train(0) == task.train(0)
    with pytest.raises(AssertionError, match="trains more"):
        task.train(1)


def test_cells_are_described_by_their_operations(cells: Cells, benchmark: Benchmark) -> None:
    genotype = format_cell(["nor_conv_3x3", "none", "skip_connect", "nor_conv_1x1", "nor_conv_1x1", "none"])
    row = benchmark.rows[genotype]
    assert cells.row(cells.operations[row]) == row
    # The output depends on edges 0-3, 0-1 and 1-3, but not on 1-2: the path through node 2 is cut.
    assert cells.flops[row] == 9 + 1 + 1
    assert cells.paths[row].sum() == 2
    assert cells.one_hot[row].sum() == 6
    neighbours = [parse_cell(benchmark.genotypes[other]) for other in cells.neighbours(row)]
    assert len(set(neighbours)) == 24
    assert all(sum(a != b for a, b in zip(parse_cell(genotype), cell, strict=True)) == 1 for cell in neighbours)


def test_the_outcome_is_the_best_that_was_trained_or_the_worst_within_the_bound(
    make: Callable[..., Task], benchmark: Benchmark
) -> None:
    task = make(0.3)
    within = np.flatnonzero(benchmark.within(benchmark.bound(0.3)))
    best, worst = benchmark.best(benchmark.bound(0.3)), benchmark.accuracies[within].min()
    assert outcome_of(task) == {"measured": 0, "trained": 0, "regret": best - worst, "answered": 0}
    for row in within[:2].tolist():
        task.evaluate(row)
    assert outcome_of(task)["regret"] == best - benchmark.accuracies[within[:2]].max()
    front = make(None, Budget(100, 100))
    for row in benchmark.front.tolist():
        front.evaluate(row)
    assert outcome_of(front)["hypervolume"] == pytest.approx(1.0)


def test_the_config_of_ours_asks_for_the_budget(benchmark: Benchmark) -> None:
    for budget, expected in (((100, 50), (40, 12, 10)), ((20, 10), (10, 2, 2))):
        config = ours_config(benchmark, Path("table.csv"), *budget, 3.0, 7)
        latency, accuracy = (section["source"]["seval"] for section in config["objectives"][-2:])
        assert (latency["start"], latency["networks"], accuracy["networks"]) == expected
        assert latency["start"] + config["refine"]["rounds"] * latency["networks"] == budget[0]
        assert config["refine"]["rounds"] * accuracy["networks"] == budget[1]
    front = ours_config(benchmark, Path("table.csv"), 100, 50, None, 7)["objectives"]
    assert [section["role"] for section in front[-2:]] == ["pareto", "pareto"]
    assert "max" not in front[-2]
    # Of two metrics that select, the first one is measured first, and only such networks are trained.
    assert [section["metric"] for section in front[-2:]] == [benchmark.metric, "accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("quantile", [0.3, None])
def test_ours_spends_the_same_budget(quantile: float | None, folder: Path, make: Callable[..., Task]) -> None:
    task = make(quantile, Budget(15, 5))
    search_with_ours(task, table_path(folder, "cifar100"), 0)
    assert len(task.latencies) == 15
    assert 1 <= len(task.accuracies) <= 5
    assert all(task.keeps(row) for row in task.accuracies)


def test_an_interrupted_comparison_goes_on_and_is_summed_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--smoke", "-o", str(tmp_path), "--budgets", "20+10", "--datasets", "cifar100", "--seeds", "2"]
    arguments += ["--metrics", "edgegpu_latency", "--methods", "random", "evolution"]
    main(arguments)
    rows = tmp_path / "rows.csv"
    complete = rows.read_text()
    frame = pd.read_csv(rows)
    assert len(frame) == 2 * (2 * 3 + 1)  # seeds x (methods x bounds + the front of random search)
    assert set(frame[frame["quantile"] == FRONT]["method"]) == {"random"}
    rows.write_text("".join(complete.splitlines(keepends=True)[:6]))
    main(arguments)

    def values(text: str) -> list[str]:
        return sorted(line.rpartition(",")[0] for line in text.splitlines())  # without the seconds

    assert values(rows.read_text()) == values(complete)
    assert (tmp_path / "summary.md").read_text() in capsys.readouterr().out


def test_the_summary_compares_pairs_with_ours() -> None:
    rows = [
        {"seed": seed, "budget": "20+10", "dataset": "d", "metric": "m", "quantile": "0.1", "method": method}
        | {"regret": regret, "answered": int(method == "ours" or seed > 0), "hypervolume": np.nan, "seconds": 1.0}
        for seed in range(8)
        for method, regret in (("ours", 1.0 + seed), ("random", 2.0 + seed))
    ]
    lines = summary(pd.DataFrame(rows)).splitlines()
    assert lines[-2:] == [
        "| ours | 8 | 4.50 | 4.50 | 0 |  | 1.0 |",
        "| random | 8 | 5.50 | 5.50 | 1 | 0.0078 | 1.0 |",  # 2 / 2^8: the smaller one in all of eight pairs
    ]


def test_mistakes_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = ["-o", str(tmp_path)]
    with pytest.raises(InputError, match="needs published tables, --cache and --hw-nas-bench, and --guides"):
        main(output)
    for budget in ("100", "10+20", "5+0", "a+b"):
        with pytest.raises(InputError, match=r"expected a budget such as 100\+50"):
            main(["--smoke", "--budgets", budget, *output])
    for installed, found in ((None, "none"), ("4.9.1", "4.9.1")):

        def version(name: str, installed: str | None = installed) -> str:
            if installed is None:
                raise peer_methods.PackageNotFoundError(name)
            return installed

        monkeypatch.setattr(peer_methods, "version", version)
        with pytest.raises(InputError, match=f"expected the package optuna, 5 or later, got {found}; pip install"):
            main(["--smoke", "--methods", "random", "optuna-tpe", *output])
