# mypy: disable-error-code="no-untyped-call, import-untyped, import-not-found, unused-ignore"
"""Ray: its cluster as the workers of a search, and an evaluator as a trainable of Ray Tune."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread, Timer
from typing import Any

import pytest
from pandas.testing import assert_frame_equal

import freerea_seval as fs
from tests.freerea_seval.runs.test_workers import journal
from tests.test_documentation import RAY, ROOT, blocks

ray = pytest.importorskip("ray")


@pytest.fixture(autouse=True)
def _without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clusters of this machine alone do without the token in the home folder, which a test replaces."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


@pytest.mark.slow
def test_trials_of_a_tuner_have_the_values_of_our_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HOME", str(tmp_path))  # where Ray writes its results
    monkeypatch.chdir(tmp_path)
    page = blocks(ROOT / "docs" / "guides" / "engines.md")
    (config,) = (content for _, name, content in page if name == "bounded.yaml")
    (program,) = (content for _, _, content in page if RAY in content)
    Path("bounded.yaml").write_text(config)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    names: dict[str, Any] = {}
    try:
        exec(compile(program, "engines.md", "exec"), names)
    finally:
        ray.shutdown()
    trials = names["tuner"].get_results().get_dataframe()
    expected = fs.Evaluator.from_config("bounded.yaml")(trials["genotype"].tolist())
    assert len(trials) == 4
    assert trials["genotype"].nunique() > 1
    assert_frame_equal(trials[expected.columns], expected, check_dtype=False)


#: A metric that says in which process it is computed, so that the process can be killed.
METRIC = """
import os, time
from pathlib import Path
FOLDER = Path(__file__).parent
def cost(genotype: str) -> float:
    pid = FOLDER / f"pid-{os.getpid()}"
    pid.touch()
    time.sleep(0.1)
    pid.unlink()
    return float(sum(map(ord, genotype)) % 97)
"""
SEARCH: dict[str, Any] = {
    "search": {"population": 12, "tournament": 4, "tournaments": 4, "seeds": [3]},
    "budget": {"evaluations": 60},
    "objectives": [{"metric": "cost", "source": {"python": "ray_metric:cost"}, "direction": "max"}],
}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A cluster of two machines, both of which are this one."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tmp_path}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("ray_metric.py").write_text(METRIC)
    machines: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    machines.second = machines.add_node(num_cpus=1)
    machines.wait_for_nodes()
    monkeypatch.setenv("RAY_ADDRESS", machines.address)
    yield machines
    ray.shutdown()
    machines.shutdown()


def kill_some(count: int, ended: Event) -> list[int]:
    """Kill random processes that compute the metric, until there were enough or the search has ended."""
    rng = random.Random(0)
    killed: list[int] = []
    while len(killed) < count and not ended.is_set():
        time.sleep(rng.uniform(0.05, 0.3))
        for file in sorted(Path().glob("pid-*"))[:1]:
            pid = int(file.name[4:])
            file.unlink(missing_ok=True)
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
    return killed


@pytest.mark.slow
def test_a_search_on_a_cluster_loses_nothing_when_processes_are_killed_and_a_machine_is_lost(
    cluster: Any, tmp_path: Path
) -> None:
    alone = fs.search(SEARCH, tmp_path / "alone", progress=False)
    killed: list[int] = []
    ended = Event()
    thread = Thread(target=lambda: killed.extend(kill_some(3, ended)))
    thread.start()
    try:
        together = fs.search(SEARCH, tmp_path / "together", executor="ray", progress=False)
    finally:
        ended.set()
        thread.join()
    assert len(killed) == 3
    assert journal(together.path) == journal(alone.path)
    loser = Timer(1.0, cluster.remove_node, [cluster.second])
    loser.start()
    third = fs.search(SEARCH, tmp_path / "third", executor="ray", progress=False)
    loser.join()
    assert journal(third.path) == journal(alone.path)


def test_an_executor_that_is_none_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(fs.InputError, match="--executor 'dask': expected 'ray' or ray://HOST:PORT"):
        fs.search(SEARCH, tmp_path / "run", executor="dask", progress=False)
    assert not (tmp_path / "run").exists()
