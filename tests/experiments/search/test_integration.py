"""The integration experiment on made-up tables: every method runs, what fails is a row, what is killed goes on."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.search import integration
from experiments.search.benchmarks import read_benchmark, write_made_up_tables
from experiments.search.cells import run_cell
from experiments.search.grid import Grid
from experiments.search.integration import COLUMNS, GRIDS, Rows, main, read_grid, run_grid
from experiments.search.methods import METHODS
from experiments.search.outcomes import read_search
from experiments.tables import RowJournal
from freerea_patch import Budget, InputError


def rows_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "rows.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the smoke grid, carried out once."""
    folder = tmp_path_factory.mktemp("integration") / "smoke"
    main(["--smoke", "-o", str(folder)])
    return folder


@pytest.mark.slow
def test_the_smoke_grid_runs_every_method(smoke: Path) -> None:
    rows = rows_of(smoke)
    assert [row["error"] for row in rows if row["status"] != "ok"] == []
    assert [row["method"] for row in rows] == [method.name for method in METHODS if not method.trains]
    fronts = [row for row in rows if row["quantile"] == ""]
    assert all(0 < float(row["hypervolume"]) <= 1 for row in fronts)
    truth = read_benchmark(smoke, "cifar10", "edgegpu_latency")
    for row in rows:
        if row["quantile"]:
            assert float(row["remeasured_accuracy"]) <= truth.best(truth.bound(0.25)) == float(row["best_accuracy"])
        if row["cells"]:
            assert 0 < float(row["predictor_cpu_s"]) < 60
            assert float(row["predictor_s"]) > 0
            assert row["tau"] == "" if "ed" in row["method"][-2:] else float(row["tau"]) > 0.5
        else:
            assert (float(row["predictor_s"]), float(row["predictor_cpu_s"]), row["tau"]) == (0, 0, "")
    answered = {row["method"]: row["violated"] for row in rows if row["quantile"]}
    assert [answered[name] for name in ("freerea+true", "ranked+true", "ranked+measured")] == ["0", "0", "0"]


@pytest.mark.slow
def test_a_search_in_rounds_answers_with_what_was_measured_and_measures_no_more_than_the_others(smoke: Path) -> None:
    truth = read_benchmark(smoke, "cifar10", "edgegpu_latency")
    (row,) = (row for row in rows_of(smoke) if row["method"] == "ranked+measured")
    search = read_search(smoke / row["folder"])
    assert 28 < int(row["drawn"]) == search.history.evaluated <= int(row["cells"]) == 70
    for candidate in search.history.all_candidates():
        assert candidate.values["edgegpu_latency"] == truth.values[truth.rows[candidate.genotype]]


@pytest.mark.long
def test_searches_that_train_have_true_accuracies_and_train_no_more_than_they_may(tmp_path: Path) -> None:
    grid = read_grid(GRIDS / "smoke.yaml").model_copy(update={"methods": ["ranked+trained", "pareto+trained"]})
    write_made_up_tables(tmp_path, grid.datasets)
    rows = run_cell(tmp_path, grid, "cifar10", 0, set())
    truth = read_benchmark(tmp_path, "cifar10", "edgegpu_latency")
    for row in rows:
        assert row["status"] == "ok", row["error"]
        trained = {c.genotype: c.values["accuracy"] for c in read_search(tmp_path / str(row["folder"])).history}
        assert 10 <= len(trained) <= 50
        assert all(value == truth.accuracies[truth.rows[genotype]] for genotype, value in trained.items())


@pytest.mark.slow
def test_a_grid_that_was_stopped_goes_on_with_what_is_missing(smoke: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(smoke, folder)
    lines = (folder / "rows.csv").read_text().splitlines(keepends=True)
    lines[2] = lines[2].replace(",ok,", ",failed,")
    (folder / "rows.csv").write_text("".join(lines[:6]) + "cifar10,edge")
    lost = folder / "runs" / "cifar10" / "edgegpu_latency" / "ranked+true"
    shutil.rmtree(lost)
    main(["--smoke", "-o", str(folder)])
    again = rows_of(folder)
    assert (lost / "within-0.25" / "seed-0" / "seed-0" / "result.json").is_file()
    whole = rows_of(smoke)
    # What failed is tried again, and so comes behind what did not.
    again.insert(1, next(row for row in again if row["method"] == whole[1]["method"]))
    del again[max(place for place, row in enumerate(again) if row["method"] == whole[1]["method"])]
    timeless = [{k: v for k, v in row.items() if not k.endswith("_s")} for row in again]
    assert timeless == [{k: v for k, v in row.items() if not k.endswith("_s")} for row in whole]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see processes")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_the_workers_of_an_experiment_that_is_ended_end_with_it(tmp_path: Path, how: signal.Signals) -> None:
    command = [
        sys.executable,
        "-m",
        "experiments.search.integration",
        "--smoke",
        "--jobs",
        "1",
        "-o",
        str(tmp_path / "x"),
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        # In the background of a shell, SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 120
    # Not "**", which fails where a temporary folder disappears while it is being listed.
    journals = "runs/*/*/*/seed-*/seed-*/journal.jsonl"
    while not list((tmp_path / "x").glob(journals)) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, how) if how == signal.SIGINT else process.kill()
    assert process.wait() == -how
    while members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert members(process.pid) == []
    assert time.monotonic() < deadline


def members(session: int) -> list[int]:
    """The processes of a session that still run, as Linux tells."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, own = path.read_text().rpartition(")")[2].split()[:4]
            if int(own) == session and state != "Z":
                found.append(int(path.parent.name))
    return found


@pytest.mark.slow
def test_a_run_that_fails_is_a_row_with_its_reason(smoke: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(smoke / "tables", folder / "tables")
    grid = read_grid(GRIDS / "smoke.yaml").model_copy(update={"methods": ["random", "freerea"]})
    assert [row["status"] for row in run_cell(folder, grid, "cifar10", 3, set())] == ["ok", "ok"]
    (folder / "runs/cifar10/any/random/seed-3/run.json").write_text("{")
    failed, fine = run_cell(folder, grid, "cifar10", 3, set())
    assert failed["status"] == "failed"
    assert "run.json" in str(failed["error"])
    assert fine["status"] == "ok"


@pytest.mark.slow
def test_a_search_that_finds_nothing_within_its_bound_has_no_answer_but_has_not_failed(
    smoke: Path, tmp_path: Path
) -> None:
    shutil.copytree(smoke / "tables", tmp_path / "tables")
    asked = {"methods": ["ranked+seval-confident"], "quantiles": [1e-6]}
    (row,) = run_cell(tmp_path, read_grid(GRIDS / "smoke.yaml").model_copy(update=asked), "cifar10", 0, set())
    assert row["status"] == "ok"
    assert "is within the constraints" in str(row["error"])
    assert row["best_accuracy"]
    assert not {"accuracy", "regret", "remeasured_regret"} & set(row)


@pytest.mark.slow
def test_a_run_of_another_config_is_made_anew(smoke: Path, tmp_path: Path) -> None:
    shutil.copytree(smoke / "tables", tmp_path / "tables")
    grid = read_grid(GRIDS / "smoke.yaml").model_copy(update={"methods": ["random", "freerea+seval"]})
    longer = grid.model_copy(update={"budget": Budget(evaluations=60)})
    first, second, again = (run_cell(tmp_path, its, "cifar10", 3, set()) for its in (grid, longer, longer))
    assert [row["explored"] for row in first] == [40, 40]
    assert [row["explored"] for row in second] == [60, 60]
    # What is there of the same config stays, its seconds included; and of the same predictor.
    assert again == second
    third = run_cell(tmp_path, longer.model_copy(update={"model": "boosted"}), "cifar10", 3, set())
    assert third[0] == second[0]
    assert third[1]["tau"] != second[1]["tau"]


def dying_cell(folder: Path, grid: Grid, dataset: str, seed: int, done: set[tuple[str, str]]) -> Rows:
    """Stands for a cell of the grid; one of them takes its process with it."""
    if (dataset, seed) == ("cifar10", 1):
        os._exit(1)
    return [{"dataset": dataset, "seed": seed, "status": "ok"}]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_cell_whose_process_dies_is_a_row_and_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    monkeypatch.setattr(integration, "run_cell", dying_cell)
    journal = RowJournal(tmp_path, {}, COLUMNS)
    run_grid(tmp_path, Grid(seeds=2), journal, jobs)
    found = {(row["dataset"], row["seed"]): row for row in journal.rows()}
    assert len(found) == len(journal.rows()) == 6
    failed = found.pop(("cifar10", "1"))
    assert (failed["status"], failed["error"][:24]) == ("failed", "its process died twice, ")
    assert {row["status"] for row in found.values()} == {"ok"}


@pytest.mark.parametrize("path", sorted(GRIDS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_grids_that_are_shipped_are_valid(path: Path) -> None:
    assert read_grid(path).chosen()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds: 0", "seeds: expected more than 0, got 0"),
        ("method: [freerea]", "unknown key 'method'; did you mean 'methods'?"),
        ("methods: [freerae]", "unknown method 'freerae'; valid methods: random,"),
        ("methods: [freerea, random, freerea]", "'freerea' is listed 2 times"),
        ("metrics: [edgegpu_latencyy]", "unknown metric 'edgegpu_latencyy'; valid metrics: edgegpu_latency,"),
        ("{cells: [20], methods: [ranked+measured]}", "'cells' must be 25 or more, got 20"),
        ("{", "cannot read the grid"),
    ],
)
def test_a_grid_that_cannot_be_used_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "grid.yaml").write_text(text)
    with pytest.raises(InputError) as error:
        read_grid(tmp_path / "grid.yaml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_grid_without_its_tables_says_which(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs --cache and --hw-nas-bench"):
        main([str(GRIDS / "headline.yaml"), "-o", str(tmp_path / "x")])
    with pytest.raises(InputError, match="--jobs must be at least 1, got 0"):
        main([str(GRIDS / "headline.yaml"), "--jobs", "0", "-o", str(tmp_path / "x")])
    assert not (tmp_path / "x").exists()


def test_accuracy_under_attack_is_measured_on_cifar10_only() -> None:
    grid = Grid()
    assert "pgd" in grid.measured("cifar10")
    assert "pgd" not in grid.measured("cifar100")


def test_rounds_measure_the_smallest_number_of_cells() -> None:
    grid = Grid(cells=[1000, 100], methods=["ranked+seval", "ranked+measured", "ranked+true"])
    assert [grid.learned_from(method) for method in grid.chosen()] == [[1000, 100], [100], [None]]
