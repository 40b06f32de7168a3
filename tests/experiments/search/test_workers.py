"""The experiment on worker processes: its searches, with one process, and its tables, of made-up times."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from experiments.search import workers as module
from experiments.search.workers import DRIVER, LIVE, TABLES, config, main, on_paper, search_s, tasks_s
from freerea_seval.config import check_config

SMALL = Namespace(cells=9, evaluations=60, tasks=70, batch_size=4)


def test_searches_have_equal_journals_and_an_own_number_of_networks() -> None:
    for what, seeds, networks in ((LIVE, 1, 9), (TABLES, 8, 60), (DRIVER, 1, 70)):
        checked = check_config(config(what, SMALL), "config")
        assert (len(checked.search.seeds), checked.budget.evaluations) == (seeds, networks)
    seconds, digest = search_s(config(DRIVER, SMALL), 1)
    assert seconds > 0
    assert search_s(config(DRIVER, SMALL), 1)[1] == digest
    assert search_s(config(DRIVER, Namespace(**{**vars(SMALL), "tasks": 71})), 1)[1] != digest


def test_tasks_that_compute_nothing_are_timed() -> None:
    assert tasks_s(1, 5, together=True) > 0


def test_the_tables_compare_one_worker_with_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    journals = ["same"]

    def search(settings: dict[str, Any], workers: int) -> tuple[float, str]:
        return (8.0, "same") if workers == 1 else (5.0, journals[0])

    monkeypatch.setattr(module, "search_s", search)
    monkeypatch.setattr(module, "tasks_s", lambda count, tasks, together: 0.1 if together else 0.4)
    main(["--repeats", "2", "--tasks", "100", "-o", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "| live metrics | 2 | 8.0 | 5.0 | 1.60 (1.60 to 1.60) | equal |" in printed
    assert "Overhead of a task: 4.00 ms one at a time, 1.00 ms where all are submitted at once (1,000 a sec" in printed
    journals[0] = "other"
    main(["--repeats", "3", "--tasks", "100", "-o", str(tmp_path / "out")])
    assert "| live metrics | 3 | 8.0 | 5.0 | 1.60 (1.60 to 1.60) | DIFFERENT |" in capsys.readouterr().out


def test_on_paper_a_round_takes_whole_waves_and_the_driver_bounds_it() -> None:
    # 256 new networks in four waves of 2 s, and 0.256 s of the driver; 64 workers make 32 networks a second at most.
    line = next(line for line in on_paper(0.001).splitlines() if line.startswith("| 2 |"))
    assert line == "| 2 | 8 | 31 | 31 | 32 |"
    # A driver of 10 ms a network saturates at 100 a second, before workers that make 320.
    line = next(line for line in on_paper(0.01).splitlines() if line.startswith("| 0.2 |"))
    assert line.endswith("| 100 |")
