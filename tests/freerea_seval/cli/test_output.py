"""``--quiet`` prints the result alone, ``--verbose`` logs, and the progress of a search says how good it is."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from freerea_patch import Evaluation, History, Objective, Proposal
from freerea_seval.runs.results import standing
from tests.freerea_seval.cli.test_mistakes import call

CONFIG = """
space: nats-tss
search: {population: 9, tournament: 2}
budget: {evaluations: 6}
objectives:
  - {metric: worth, source: {python: output_metric:worth}, direction: max}
"""


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "output_metric.py").write_text("def worth(genotype):\n    return float(len(genotype))\n")
    (tmp_path / "search.yaml").write_text(CONFIG)


def test_quiet_leaves_the_result_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("search", "search.yaml", "-o", "loud") == 0
    assert "warning: this is a random search" in capsys.readouterr().err
    assert call("search", "search.yaml", "-o", "run", "--quiet") == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "6 networks explored" in printed.out
    assert call("report", "nowhere", "-q") == 2
    assert "nowhere" in capsys.readouterr().err


def test_verbose_logs_on_standard_error_and_only_for_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("search", "search.yaml", "-o", "run", "-v") == 0
    printed = capsys.readouterr()
    assert "INFO freerea_seval.runs.execute: seed 0: stopped (budget) after 6 networks" in printed.err
    assert "WARNING freerea_seval.progress: warning: this is a random search" in printed.err
    assert "DEBUG" not in printed.err
    assert "INFO" not in printed.out
    assert call("search", "search.yaml", "-o", "detailed", "-vv") == 0
    assert capsys.readouterr().err.count("DEBUG freerea_seval.runs.execute: seed 0: |") == 6
    assert call("search", "search.yaml", "-o", "after") == 0
    assert "INFO" not in capsys.readouterr().err
    assert logging.getLogger("freerea_seval").handlers == []


def test_a_search_shows_its_best_score_or_its_hypervolume() -> None:
    for role, expected in (("fitness", "2 networks, best score 1"), ("pareto", "2 networks, hypervolume 1.000")):
        history = History([Objective("a", "max", role)])  # type: ignore[arg-type]
        assert standing(history) == "0 networks"
        for value in (1.0, 4.0):
            history.add(Proposal(str(value)), Evaluation({"a": value}))
        assert standing(history) == expected
    unsupported = History([Objective("a")])
    unsupported.add(Proposal("a"), Evaluation({"a": float("nan")}))
    assert standing(unsupported) == "1 networks"


def test_a_shell_completes_commands_and_options() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    environment |= {"_FREEREA_SEVAL_COMPLETE": "complete_bash", "COMP_WORDS": "freerea-seval cal", "COMP_CWORD": "1"}
    code = "import sys; from freerea_seval.cli.main import main; sys.argv = ['freerea-seval']; main()"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert ran.stdout.split() == ["calibrate"], ran.stderr
