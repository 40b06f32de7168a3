"""Made-up networks: strings in the grammar of ``freerea_seval.strings.text.grammar``, without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from freerea_seval.predictor.models.gbdt_ensemble import BoostedPredictor


def chain(seed: int) -> str:
    """Return the string of a random chain of convolutions, some with a shortcut, some multiplied by zero."""
    rng = Random(seed)
    tokens = ["input[1x3x8x8]"]
    for _ in range(rng.randint(2, 9)):
        tokens.append(f"conv({rng.choice((4, 8, 16))},k{rng.choice((1, 3))})")
        tokens += rng.choice(([], ["relu"], ["relu", "add<-1,2"]))
        tokens += rng.choice(([], [], ["mul(0)", "add<-1,2"]))
    return " ".join([*tokens, "output"])


def cost(string: str) -> float:
    """Return a made-up latency, partly a sum: 1 or 2 ms a convolution, 0.25 ms anything else, and 4 ms once each
    for multiplying by zero at all and for having more than four convolutions.
    """
    total = sum(1.0 + ("k3" in t) if t.startswith("conv") else 0.25 for t in string.split())
    return total + 4.0 * ("mul(0)" in string) + 4.0 * (string.count("conv") > 4)


def in_fresh_processes(expression: str) -> list[str]:
    """Return the bits of an array that two processes make, of other hash seeds and other numbers of threads.

    Args:
        expression: makes it of ``strings`` and their ``values``, with the predictors' classes.
    """
    script = (
        "import sys, numpy as np; from freerea_seval.predictor.models.gbdt_ensemble import BoostedPredictor\n"
        "from freerea_seval.predictor.models.mlp import MLPPredictor\n"
        "from freerea_seval.predictor.seval import SEvalPredictor\n"
        "from tests.freerea_seval.predictor.conftest import chain, cost\n"
        "strings = list(dict.fromkeys(map(chain, range(70))))[:60]; values = [cost(s) for s in strings]\n"
        f"print(np.asarray({expression}).tobytes().hex())"
    )
    printed = []
    for hash_seed, threads in (("0", "1"), ("1", "2")):
        limits = {name: threads for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        environment = os.environ | limits | {"PYTHONHASHSEED": hash_seed, "OMP_WAIT_POLICY": "PASSIVE"}
        command = [sys.executable, "-c", script]
        ran = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3], env=environment
        )
        printed.append(ran.stdout)
    assert len(printed[0]) > 100
    return printed


@pytest.fixture(scope="session")
def strings() -> list[str]:
    """120 different networks."""
    return list(dict.fromkeys(chain(seed) for seed in range(200)))[:120]


@pytest.fixture(scope="session")
def values(strings: list[str]) -> list[float]:
    """Their latency."""
    return [cost(string) for string in strings]


@pytest.fixture(scope="session")
def fitted(strings: list[str], values: list[float]) -> BoostedPredictor:
    """A predictor that has seen the first 80."""
    return BoostedPredictor(n_estimators=60).fit(strings[:80], values[:80])
