"""Worker processes: the order of results, tasks lost with a worker, what crosses the border, and what is left over."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from multiprocessing import active_children
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

import freerea_seval as fs
from freerea_patch import (
    BoundObjective,
    InputError,
    Measured,
    MetricCache,
    NothingFeasible,
    Objective,
    ObjectiveSet,
    user_message,
)
from freerea_seval.config import LiveSettings, check_config, load_config
from freerea_seval.progress import Progress
from freerea_seval.runs import workers as module
from freerea_seval.runs.execute import search_seed
from freerea_seval.runs.folder import RunFolder
from freerea_seval.runs.workers import Recipe, SpreadSource, Workers, default_workers, physical_cores
from freerea_seval.sources.registry import MetricInfo
from tests.freerea_seval.runs.searches import write_search

RECIPE = Recipe("nats-tss", LiveSettings(), Path(), 0, "training-free", None)


def journal(run: Path, seed: int = 3) -> bytes:
    """The journal of a seed without the seconds that metrics took."""
    return re.sub(rb'"seconds": \{[^}]*\}', b"", (run / f"seed-{seed}" / "journal.jsonl").read_bytes())


class Breaking(ThreadPoolExecutor):
    """An executor that breaks after a number of tasks, as one of processes does whose worker is killed."""

    def __init__(self, tasks: int) -> None:
        super().__init__(2)
        self.left = tasks

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        if self.left == 0:
            future: Future[Any] = Future()
            future.set_exception(BrokenExecutor("a worker was killed"))
            return future
        self.left -= 1
        return super().submit(function, *arguments, **options)


def slow_first(number: int) -> int:
    time.sleep(0.05 * (number == 0))
    return number


def threads(count: int) -> Executor:
    return ThreadPoolExecutor(count)


def test_results_come_in_the_order_of_the_tasks() -> None:
    with Workers(4, make_executor=threads) as workers:
        assert list(workers.map(slow_first, [(i,) for i in range(20)])) == list(range(20))


def test_tasks_that_are_lost_with_a_worker_are_done_again() -> None:
    executors = [Breaking(7), Breaking(0), Breaking(5), Breaking(100)]
    asked: list[int] = []

    def make(count: int) -> Executor:
        return executors.pop(0)

    def record(number: int) -> int:
        asked.append(number)
        return number

    with Workers(2, make_executor=make) as workers:
        assert list(workers.map(record, [(i,) for i in range(20)])) == list(range(20))
    assert executors == []
    assert sorted(asked) == list(range(20))  # what was finished is not done again


def test_a_task_whose_workers_die_every_time_ends_the_search_with_one_line() -> None:
    made: list[Executor] = []

    def make(count: int) -> Executor:
        made.append(Breaking(0))
        return made[-1]

    with (
        pytest.raises(InputError, match=r"^workers ended 3 times in a row without a result: .*; try fewer --workers$"),
        Workers(2, make_executor=make) as workers,
    ):
        list(workers.map(slow_first, [(1,)]))
    assert len(made) == 3


def test_no_task_runs_any_more_when_a_batch_is_given_up() -> None:
    began, ended = [], []

    def task(number: int) -> int:
        began.append(number)
        time.sleep(0.05)
        ended.append(number)
        return number

    with Workers(2, make_executor=threads) as workers:
        results = workers.map(task, [(i,) for i in range(50)])
        assert next(results) == 0
        results.close()
        assert sorted(began) == sorted(ended)
        assert len(began) < 10


def test_the_error_of_the_first_failing_task_is_raised_after_the_results_before_it() -> None:
    def task(number: int) -> int:
        if number in (2, 3):
            raise InputError(f"network {number}")
        return number

    with Workers(4, make_executor=threads) as workers:
        results = workers.map(task, [(i,) for i in range(5)])
        found = [next(results), next(results)]
        with pytest.raises(InputError, match="network 2"):
            next(results)
    assert found == [0, 1]


def test_ended_workers_take_no_task() -> None:
    with Workers(2, make_executor=threads) as workers:
        pass
    with pytest.raises(RuntimeError, match="the workers have ended"):
        list(workers.map(slow_first, [(1,)]))
    with pytest.raises(RuntimeError, match="the workers have ended"):
        workers.ready(RECIPE)


class Cached:
    """A source that knows some genotypes, and records what is stored."""

    def __init__(self) -> None:
        self.computed: list[str] = []
        self.kept: dict[str, float] = {}

    def describe(self, metric: str) -> MetricInfo:
        return MetricInfo(metric, "max")

    def known(self, genotype: str, metrics: Sequence[str]) -> dict[str, Measured] | None:
        return {"m": Measured(-1.0)} if genotype.startswith("old") else None

    def keep(self, genotype: str, row: dict[str, Measured]) -> None:
        self.kept[genotype] = row["m"].value

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterator[dict[str, Measured]]:
        for genotype in genotypes:
            self.computed.append(genotype)
            yield {"m": Measured(float(len(genotype)))}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The genotypes that were sent to workers, which here are threads."""
    genotypes: list[str] = []

    def compute(recipe: Recipe, genotype: str, metrics: tuple[str, ...]) -> dict[str, Measured]:
        genotypes.append(genotype)
        return {"m": Measured(float(len(genotype)))}

    monkeypatch.setattr(module, "compute_row", compute)
    monkeypatch.setattr(module, "open_source", lambda recipe: None)
    return genotypes


def test_only_what_is_not_known_goes_to_workers_and_is_stored_here(sent: list[str]) -> None:
    source = Cached()
    with Workers(1, make_executor=threads) as workers:
        spread = SpreadSource(source, RECIPE, workers)
        rows = list(spread.evaluate(["a", "old 1", "bcd", "old 2", "ef"], ["m"]))
    assert [row["m"].value for row in rows] == [1.0, -1.0, 3.0, -1.0, 2.0]
    assert sent == ["a", "bcd", "ef"]
    assert source.kept == {"a": 1.0, "bcd": 3.0, "ef": 2.0}
    assert source.computed == []


def test_nothing_is_computed_by_workers_while_another_metric_is_measured_by_a_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running: list[str] = []
    beside: list[int] = []

    def compute(recipe: Recipe, genotype: str, metrics: tuple[str, ...]) -> dict[str, Measured]:
        running.append(genotype)
        time.sleep(0.02)
        running.remove(genotype)
        return {"m": Measured(1.0)}

    class Clock:
        def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> list[dict[str, Measured]]:
            beside.append(len(running))
            return [{"latency": Measured(2.0)} for _ in genotypes]

    monkeypatch.setattr(module, "compute_row", compute)
    with Workers(3, make_executor=threads) as workers:
        spread = SpreadSource(Cached(), RECIPE, workers)
        latency = BoundObjective(Objective("latency", "min"), Clock(), "latency")
        objectives = ObjectiveSet([BoundObjective(Objective("m"), spread, "m"), latency])
        for genotypes in (["a", "b", "c"], ["d", "e", "f", "g", "h", "i", "j"], ["k", "l"]):
            # The second batch is given up, as where a budget is spent.
            evaluations = objectives.evaluate(genotypes)
            for _ in genotypes[:3]:
                next(evaluations)
    assert beside == [0, 0, 0]


def test_by_default_workers_start_when_this_process_has_computed_for_a_while(
    sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, go_on = Cached(), Event()
    monkeypatch.setattr(module, "open_source", lambda recipe: go_on.wait(10))
    with Workers(2, asked=False, make_executor=threads) as workers:
        spread = SpreadSource(source, RECIPE, workers)
        list(spread.evaluate(["a", "b"], ["m"]))
        assert workers._executor is None
        workers.worked(module.START_S)
        list(spread.evaluate(["c", "d"], ["m"]))  # they are starting
        assert (source.computed, sent) == (["a", "b", "c", "d"], [])
        go_on.set()
        deadline = time.monotonic() + 10
        while not workers.ready(RECIPE) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert workers._executor is not None
        rows = list(spread.evaluate(["e", "ff"], ["m"]))
        assert [row["m"].value for row in rows] == [1.0, 2.0]
        assert (source.computed, sorted(sent)) == (["a", "b", "c", "d"], ["e", "ff"])


@pytest.mark.parametrize(
    ("sources", "live", "expected"),
    [
        (["training-free"], {}, 8),
        (["training-free", "cost", {"table": "t.csv"}, {"seval": "predictor"}], {}, 8),
        (["zero-cost"], {"threads": 3}, 2),
        (["zero-cost"], {"threads": 16}, 1),
        (["training-free"], {"device": "cuda"}, 1),
        (["training-free", "device"], {}, 1),
        (["training-free", {"python": "a:b"}], {}, 1),
        ([{"table": "t.csv"}, {"seval": "predictor"}, "cost"], {}, 1),
        (["none"], {}, 1),
    ],
)
def test_by_default_there_are_workers_for_what_takes_long_and_is_not_measured_by_a_clock(
    sources: list[Any], live: dict[str, Any], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "physical_cores", lambda: 8)
    for place in ("objectives", "report"):
        sections = [{"metric": f"m{number}", "source": source} for number, source in enumerate(sources)]
        first, rest = sections[:1], sections[1:]
        config = {"objectives": sections} if place == "objectives" else {"objectives": first, "report": rest}
        checked = check_config({**config, "budget": {"evaluations": 9}, "live": live}, "config")
        assert default_workers(checked) == expected


def test_physical_cores_are_those_of_the_process_within_its_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= physical_cores() <= (os.cpu_count() or 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    files: dict[str, str] = {}
    monkeypatch.setattr(module, "_read", lambda path: files.get(path, ""))
    assert physical_cores() == 4
    for cpu in range(4):
        files[f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"] = f"{cpu % 2},{cpu % 2 + 2}"
    assert physical_cores() == 2
    files["/sys/fs/cgroup/cpu.max"] = "max 100000"
    assert physical_cores() == 2
    files["/sys/fs/cgroup/cpu.max"] = "150000 100000"
    assert physical_cores() == 1


LIVE = """
space: nats-tss
search: {population: 6, tournament: 3, tournaments: 2, seeds: [3]}
budget: {evaluations: 10}
live: {batch_size: 4, initialisations: 1, cache: FILE}
objectives:
  - {metric: naswot, source: training-free}
  - {metric: logsynflow, source: training-free}
  - {metric: params, source: cost, role: constraint, max: 1.4}
report: [{metric: synflow, source: zero-cost}]
"""


@pytest.mark.slow
def test_live_metrics_of_workers_are_those_of_one_process_and_the_driver_stores_them(tmp_path: Path) -> None:
    config = tmp_path / "live.yaml"
    for workers in (1, 2):
        config.write_text(LIVE.replace("FILE", f"{workers}.sqlite"))
        fs.search(config, tmp_path / str(workers), workers=workers, progress=False)
    assert journal(tmp_path / "1") == journal(tmp_path / "2")
    fronts = [(tmp_path / str(workers) / "front.csv").read_text() for workers in (1, 2)]
    assert fronts[0] == fronts[1]
    assert "synflow" in fronts[0]
    assert keys(tmp_path / "1.sqlite") == keys(tmp_path / "2.sqlite")
    assert active_children() == []


def keys(path: Path) -> set[str]:
    with MetricCache(path)._connected() as connection:
        return {row[0] for row in connection.execute("SELECT key FROM metric")}


def test_a_search_whose_workers_are_killed_has_the_same_result(tmp_path: Path) -> None:
    config = write_search(tmp_path, delay=0.02, options="population: 12, tournament: 4, tournaments: 4, ")
    killed: list[int] = []

    def kill_one() -> None:
        lines = tmp_path / "killed" / "seed-3" / "journal.jsonl"
        while not (lines.exists() and lines.read_bytes().count(b"\n") > 3):
            time.sleep(0.01)
        worker = active_children()[0]
        worker.kill()
        killed.append(worker.ident or 0)

    killer = Thread(target=kill_one, daemon=True)
    killer.start()
    fs.search(config, tmp_path / "killed", workers=2, progress=False)
    killer.join(10)
    assert len(killed) == 1
    fs.search(config, tmp_path / "whole", progress=False)
    assert journal(tmp_path / "killed") == journal(tmp_path / "whole")


TABLE = """
space: nats-tss
search: {population: 12, tournament: 4, seeds: [3, 4]}
budget: {evaluations: 40, patience: 60}
objectives:
  - {metric: worth, source: {table: t.csv}, direction: max}
  - {metric: cost, source: {table: t.csv}, role: constraint, max: 0.6, direction: min}
"""


def test_seeds_on_tables_are_searched_in_workers_and_written_by_the_driver(tmp_path: Path) -> None:
    cells = fs.TopologySpace().genotypes()
    rows = [f"{cell},{number * 7919 % 1009},{number * 104729 % 997 / 997}" for number, cell in enumerate(cells)]
    (tmp_path / "t.csv").write_text("\n".join(["genotype,worth,cost", *rows]))
    (tmp_path / "t.yaml").write_text(TABLE)
    for workers in (1, 2):
        fs.search(tmp_path / "t.yaml", tmp_path / str(workers), workers=workers, progress=False)
    names = ["front.csv", "summary.json", *(f"seed-{s}/{n}" for s in (3, 4) for n in ("journal.jsonl", "result.json"))]
    whole = {name: (tmp_path / "1" / name).read_bytes() for name in names}
    assert {name: (tmp_path / "2" / name).read_bytes() for name in names} == whole
    run = RunFolder.open(tmp_path / "1")
    steps = run.journal(4).steps()
    rest = search_seed(run.config, run.base, run.path, 4, steps[:17], Progress())
    lines = whole["seed-4/journal.jsonl"].decode().splitlines()
    assert [json.dumps(row) for row in rest.rows] == lines[17:]  # only what is new is sent
    # What was evaluated is sent also where nothing is feasible.
    (tmp_path / "t.yaml").write_text(TABLE.replace("0.6", "-1"))
    nothing = search_seed(load_config(tmp_path / "t.yaml"), tmp_path, tmp_path / "2", 5, [], Progress())
    assert len(nothing.rows) == 60
    assert isinstance(nothing.outcome, NothingFeasible)


def test_a_mistake_in_a_worker_is_the_same_line(tmp_path: Path) -> None:
    config = write_search(tmp_path, seeds="[3, 4]")
    written = next(tmp_path.glob("metrics_*.py"))
    written.write_text(written.read_text().replace("    time.sleep(DELAY_S)\n", "    raise KeyError('no board')\n"))
    errors = []
    for workers in (1, 2):
        with pytest.raises(InputError) as caught:
            fs.search(config, tmp_path / "run", workers=workers, progress=False)
        errors.append(user_message(caught.value))  # which the command line prints
    assert errors[0] == errors[1]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see processes")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_a_search_that_is_ended_leaves_no_process_and_is_resumed(tmp_path: Path, how: str) -> None:
    config = write_search(tmp_path, delay=0.05, seeds="[3, 4]", budget="evaluations: 30")
    command = [sys.executable, "-m", "freerea_seval.cli.main", "search", config, "-o", tmp_path / "run"]
    process = subprocess.Popen(
        [*map(str, command), "--workers", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # In the background of a shell, SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    lines = tmp_path / "run" / "seed-4" / "journal.jsonl"
    deadline = time.monotonic() + 60
    while not (lines.exists() and lines.read_bytes().count(b"\n") > 3) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(members(process.pid)) >= 3
    if how == "SIGINT":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.kill()
    began = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < 10
    if how == "SIGINT":
        expected = f"stopped; continue with: freerea-seval search --resume {tmp_path / 'run'}"
        assert errors.decode().split("\n")[-2] == expected
        assert b"Traceback" not in errors
    while members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert members(process.pid) == []
    if how == "SIGINT":
        return
    fs.search(resume=tmp_path / "run", progress=False)
    fs.search(config, tmp_path / "whole", progress=False)
    for seed in (3, 4):
        assert journal(tmp_path / "run", seed) == journal(tmp_path / "whole", seed)


def members(session: int) -> list[int]:
    """Return the processes of a session that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found
