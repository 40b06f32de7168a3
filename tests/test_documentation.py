"""The documentation builds, and every block of README and docs runs, in order, one folder a page."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.freerea_seval.cli.test_mistakes import call

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: A command of ours without other features of the shell, and the exit code that it is to have.
OWN = re.compile(r"(freerea-seval [^$(){}&;<>]*?)(?: \|\| test \$\? = (\d))?")
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "PYTHONPATH": str(ROOT),
}
DEFAULT_SEARCH = "freerea-seval search -o first"
#: What is run instead of a long command: .ci/run carries out the whole default search.
QUICK = {
    DEFAULT_SEARCH: f"{DEFAULT_SEARCH} --set budget.evaluations=40 --set live.batch_size=8 --set live.initialisations=1"
}
#: Commands that other tests carry out: tests/experiments/search/test_integration.py.
ELSEWHERE = ("python -m experiments.search.integration --smoke -o smoke",)
#: Blocks with this are carried out by tests/freerea_seval/integrations/test_ray.py, as starting Ray takes seconds.
RAY = "from ray import"


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """Return (language, file name, content) of every fenced block."""
    return [(language, name.strip(), content) for language, name, content in BLOCK.findall(page.read_text())]


def test_the_readme_has_the_two_commands_and_at_most_150_lines() -> None:
    commands = [content for language, _, content in blocks(ROOT / "README.md") if "pip install" in content]
    assert [command.count("\n") for command in commands] == [1, 1]
    assert "freerea-seval search" in commands[0]
    assert "pytest" in commands[1]
    assert (ROOT / "README.md").read_text().count("\n") <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def run(language: str, content: str, capfd: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run a command or Python; return its exit code and what it printed.

    Our own commands run in this process, because the imports of a new one take several seconds.
    """
    capfd.readouterr()
    if language == "python":
        exec(compile(content, "block", "exec"), {"__name__": "__main__"})
        return (0, *capfd.readouterr())
    if own := OWN.fullmatch(content):
        code = call(*shlex.split(QUICK.get(own[1], own[1]))[1:])
        return (code != int(own[2] or 0), *capfd.readouterr())
    ran = subprocess.run(["bash", "-euc", content], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    return ran.returncode, ran.stdout, ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    printed = ""
    for language, name, content in blocks(page):
        if name:
            (tmp_path / name).write_text(content)
            sys.modules.pop(Path(name).stem, None)
        elif language == "output":
            assert content in printed
        elif language == "yaml":
            yaml.safe_load(content)
        elif language in ("sh", "python") and "pip install" not in content:
            printed = ""
            for command in content.splitlines() if language == "sh" else [content]:
                if command in ELSEWHERE or RAY in command:
                    continue
                code, out, err = run(language, command, capfd)
                assert code == 0, f"{command}\n{err}"
                printed += out
        else:
            assert language in ("text", "mermaid") or "pip install" in content, language


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for page, content in (("cli", "freerea-seval measure export"), ("api", "load_predictor")):
        html = (tmp_path / "reference" / page / "index.html").read_text()
        assert content in html
        assert ":class:" not in html
