"""The repository as a whole: style, types, names, and which package and which room may import which."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("freerea_patch", "freerea_seval", "experiments")
#: The rooms of ``freerea_seval``, each of which may import from those before it.
ROOMS = (
    *("_version", "versions", "units", "files", "progress", "unpickle", "tables"),
    *("strings", "costs", "proxies", "predictor", "config", "measurement", "export", "sources", "runs", "api"),
    *("integrations", "cli"),
)
#: Names that tell what happened to a thing and not what it is.
VAGUE = {"told", "found", "said", "its", "mended"}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def test_packages_import_only_downwards() -> None:
    allowed = {
        "freerea_patch": (),
        "freerea_seval": ("freerea_patch",),
        "experiments": ("freerea_patch", "freerea_seval"),
    }
    for package, below in allowed.items():
        for path in sorted((ROOT / package).rglob("*.py")):
            used = {name.partition(".")[0] for name in imports(path)} & set(PACKAGES)
            assert used <= {package, *below}, path


def test_rooms_import_only_from_rooms_below() -> None:
    for path in sorted((ROOT / "freerea_seval").rglob("*.py")):
        room = path.relative_to(ROOT / "freerea_seval").with_suffix("").parts[0]
        if room != "__init__":
            below = ROOMS[: ROOMS.index(room) + 1]
            for name in imports(path):
                package, _, rest = name.partition(".")
                if package == "freerea_seval" and rest:
                    assert rest.partition(".")[0] in below, f"{path}: {name}"


def test_names_say_what_a_thing_is() -> None:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            names = set()
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Name):
                    names.add(node.id)
                elif isinstance(node, ast.arg):
                    names.add(node.arg)
                elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                    names.add(node.name)
                elif isinstance(node, ast.Attribute):
                    names.add(node.attr)
            assert not {name.strip("_") for name in names} & VAGUE, path


def test_every_name_that_a_package_exports_exists() -> None:
    for path in sorted(ROOT.glob("freerea_*/**/__init__.py")):
        package = importlib.import_module(".".join(path.parent.relative_to(ROOT).parts))
        for name in dir(package) if "__getattr__" in vars(package) else ():
            assert getattr(package, name) is not None, f"{package.__name__}.{name}"


def test_no_module_imports_itself_in_a_circle_when_it_is_loaded() -> None:
    graph = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            top = ast.parse(path.read_text()).body
            graph[name] = {
                node.module for node in top if isinstance(node, ast.ImportFrom) and node.module and node.module != name
            }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above, name))
        if name not in done:
            for target in graph.get(name, ()):
                visit(target, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.slow
@pytest.mark.parametrize("command", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]], ids=" ".join)
def test_the_code_is_clean(command: list[str]) -> None:
    arguments = [] if command[0] == "mypy" else ["."]
    result = subprocess.run(
        [sys.executable, "-m", *command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
