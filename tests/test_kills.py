"""Commands that are killed, or run at the same time, give what undisturbed ones do, and leave nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

#: Enough for every way of writing; with ``--kills 100`` or more, all commands take part.
QUICK = ("search", "evaluate", "measure")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
def test_killed_and_simultaneous_commands_lose_nothing_and_leave_nothing(pytestconfig: pytest.Config) -> None:
    kills = int(pytestconfig.getoption("kills"))
    only = [] if kills >= 100 else ["--only", *QUICK]
    # A process of its own, because it forks: pytest may have threads.
    command = [sys.executable, "-m", "tests.kills", "--kills", str(kills), "--pairs", str(kills // 5), *only]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert ended.returncode == 0, ended.stderr
    print(ended.stdout)
