"""Threads of torch that wait do not keep other processes from the cores."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from freerea_patch import share_cores

SPY = """
import builtins, os
seen, real = [], builtins.__import__
def spy(name, *rest, **named):
    if name.partition('.')[0] in ('torch', 'sklearn', 'xgboost'):
        seen.append(os.environ.get('OMP_WAIT_POLICY'))
    return real(name, *rest, **named)
builtins.__import__ = spy
"""
PATCH = """
from freerea_patch import TopologySpace, TrainingFree
space = TopologySpace()
list(TrainingFree(space, batch_size=2, initialisations=1).evaluate(space.genotypes()[:1], ['logsynflow']))
"""
PLUGIN = """
from freerea_patch import InputError, TopologySpace
from freerea_seval.sources.registry import load_registry
from freerea_seval.sources.registry import Context
try:
    load_registry().open('seval', 'nowhere', Context(TopologySpace()))
except InputError:
    pass
"""


#: A script that imports torch with its other modules.
EXPERIMENT = "import experiments.devices.own_metrics\n"


@pytest.mark.parametrize("code", [PATCH, PLUGIN, EXPERIMENT], ids=["patch", "plugin", "experiment"])
def test_the_policy_is_set_before_anything_with_threads_is_imported(code: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    command = [sys.executable, "-c", f"{SPY}{code}print('SEEN', set(seen))"]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert "SEEN {'PASSIVE'}" in output


def test_a_policy_of_the_users_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    share_cores()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
