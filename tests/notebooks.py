"""Execute the notebooks of the documentation, and write what they print and draw into them.

``python -m tests.notebooks [NAME ...]`` does it at full size, in a few minutes on a quiet machine. The tests execute
them with smaller values of the cell with the tag ``parameters`` (the convention of papermill), and write nothing.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "notebooks"


def execute(path: Path, folder: Path, parameters: Mapping[str, Any] | None = None) -> NotebookNode:
    """Return a notebook with the outputs of its cells.

    Args:
        path: the notebook.
        folder: working folder, where its files go.
        parameters: values instead of those of the cell with the tag ``parameters``, which has to set each of them.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised an exception.
    """
    notebook = nbformat.read(path, as_version=4)
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    original = cell.source
    for name, value in (parameters or {}).items():
        cell.source, count = re.subn(rf"^{name} = .*$", f"{name} = {value!r}", cell.source, flags=re.MULTILINE)
        if count != 1:
            raise ValueError(f"{path.name}: expected one line '{name} = ...' among its parameters, got {count}")
    # The kernel is another process; it imports this source tree, and writes no values into the user's cache.
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XDG_STATE_HOME": str(folder),
        "FREEREA_SEVAL_CACHE": str(folder / "cache.sqlite"),
    }
    client = NotebookClient(notebook, timeout=600, record_timing=False, resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment)
    cell.source = original
    notebook.metadata = NotebookNode(kernelspec=notebook.metadata.kernelspec, language_info={"name": "python"})
    return notebook


def main(names: list[str]) -> None:
    """Execute the named notebooks, or all, and replace them by those with outputs."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        if not names or path.stem in names:
            with TemporaryDirectory() as folder:
                nbformat.write(execute(path, Path(folder)), path)
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
