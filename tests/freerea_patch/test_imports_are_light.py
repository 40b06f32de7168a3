"""Importing the loop imports nothing heavy, and nothing of the system built on it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import freerea_patch

HEAVY = {
    "freerea_seval",
    "matplotlib",
    "moocore",
    "nats_bench",
    "pandas",
    "pydantic",
    "scipy",
    "sklearn",
    "torch",
    "xgboost",
}


def test_a_fresh_process_imports_nothing_heavy() -> None:
    script = "import sys, freerea_patch; print(*{name.partition('.')[0] for name in sys.modules})"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    imported = set(ran.stdout.split())
    assert "freerea_patch" in imported
    assert imported & HEAVY == set()


def test_no_module_imports_the_system_built_on_it() -> None:
    modules = sorted(Path(freerea_patch.__file__).parent.rglob("*.py"))
    assert modules
    for path in modules:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.partition(".")[0] == "freerea_seval" for name in names), path
