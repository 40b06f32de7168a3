"""Every block of the README runs, in order, in one folder, and prints what the README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str, str]]:
    """Return (language, file name, content) of every fenced block."""
    found = BLOCK.findall((ROOT / "README.md").read_text())
    return [(language, name.strip(), content) for language, name, content in found]


def test_the_readme_has_the_two_commands_that_set_everything_up() -> None:
    commands = [content for language, _, content in blocks() if language == "sh" and "pip install" in content]
    assert [command.count("\n") for command in commands] == [1, 1]
    assert "freerea-seval search" in commands[0]
    assert "pytest" in commands[1]


@pytest.mark.slow
def test_every_block_of_the_readme_runs(tmp_path: Path) -> None:
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    ran = 0
    printed = ""
    for language, name, content in blocks():
        if name:
            (tmp_path / name).write_text(content)
        elif language == "output":
            assert content in printed
        elif language in ("sh", "python") and "pip install" not in content:
            command = ["bash", "-euc", content] if language == "sh" else [sys.executable, "-c", content]
            result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            assert result.returncode == 0, f"{content}\n{result.stderr}"
            printed = result.stdout
            ran += 1
    assert ran >= 4
    assert (tmp_path / "my-run" / "front.png").stat().st_size > 10_000
    assert (tmp_path / "first" / "front.csv").read_text().count("\n") > 1
