"""The notebooks of the documentation run, at a small size, and have their figures and tables as they are committed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.notebooks import FOLDER, ROOT, execute

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
#: Values of their cells with parameters that take seconds.
SMALL = {
    "1_first_search": {"EVALUATIONS": 12, "SHOWN": 60},
    "2_your_metric": {"EVALUATIONS": 12, "MEASURED": 60},
    "3_your_device": {"EVALUATIONS": 6, "ROUNDS": 1, "CHECKED": 4},
    "4_your_space": {"EVALUATIONS": 12},
    "5_reproduce_the_paper": {"LEARNED": 40, "TESTED": 20, "EVALUATIONS": 3},
}


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def figures(notebook: Any) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_runs_and_draws_its_figures(path: Path, tmp_path: Path) -> None:
    notebook = execute(path, tmp_path, SMALL[path.stem])
    assert figures(notebook) == figures(nbformat.read(path, as_version=4)) >= 2
    assert not [output.text for output in outputs(notebook) if output.get("name") == "stderr"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_is_committed_as_a_reader_should_see_it(path: Path) -> None:
    """With the outputs of one run from the first cell to the last, and without anything of the machine that ran it."""
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    printed = str([{**output, "data": {**output.get("data", {}), "image/png": ""}} for output in outputs(notebook)])
    assert not re.search(r"/tmp/|/home/|/root/|Warning|Traceback|stderr", printed)
    assert path.stat().st_size < 300_000
    assert "## Where to go on\n" in notebook.cells[-1].source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_of_a_notebook_lead_somewhere_and_it_is_linked(path: Path) -> None:
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
    targets = [target for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if not target.startswith("http")]
    assert len(targets) >= 3
    for target in targets:
        assert (path.parent / target).exists(), target
    for page in ("README.md", "docs/index.md", "mkdocs.yml"):
        assert f"notebooks/{path.name}" in (ROOT / page).read_text(), page


def test_a_parameter_that_a_notebook_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^1_first_search.ipynb: expected one line 'MISSING = ...'"):
        execute(FOLDER / "1_first_search.ipynb", tmp_path, {"MISSING": 1})
