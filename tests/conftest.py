"""Fixtures that several test folders share."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# The tests run in as many processes as there are cores; threads of torch on top of that only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let optimised metrics be compared with naive twins, and commands be killed, more often than every run can."""
    what = "compare metrics with their naive twins on so many networks of each space"
    parser.addoption("--twins", type=int, default=15, metavar="N", help=what)
    what = "kill commands so many times, and run a fifth as many pairs of them at once"
    parser.addoption("--kills", type=int, default=10, metavar="N", help=what)
    what = "also run the tests marked 'long', which take from a quarter of an hour to two hours each"
    parser.addoption("--long", action="store_true", help=what)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the long tests unless they are asked for; begin with the slow ones, so that all workers end together."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    if not config.getoption("long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="takes long; run it with --long"))


@pytest.fixture(scope="session", autouse=True)
def _no_progress_lines() -> Iterator[None]:
    """Print no progress without a terminal, so that standard error is the same on a busy machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("freerea_seval.progress.INTERVAL_S", math.inf)
        yield


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep out of the user's own folder which configs were run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def twins(pytestconfig: pytest.Config) -> int:
    """On how many networks of each space to compare with a naive twin."""
    return int(pytestconfig.getoption("twins"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of benchmark tables, or a skip that says how to get it."""
    folder = os.environ.get("FREEREA_SEVAL_DATA")
    if not folder:
        pytest.skip("needs benchmark tables: set FREEREA_SEVAL_DATA to their folder")
    return Path(folder)
