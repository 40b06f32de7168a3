"""Fixtures that several test folders share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# The tests run in as many processes as there are cores; threads of torch on top of that only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of benchmark tables, or a skip that says how to get it."""
    folder = os.environ.get("FREEREA_SEVAL_DATA")
    if not folder:
        pytest.skip("needs benchmark tables: set FREEREA_SEVAL_DATA to their folder")
    return Path(folder)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow tests, so that no worker is left with one while the others have nothing to do."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
