"""Made-up networks: strings in the grammar of ``freerea_seval.strings.grammar``, without torch."""

from __future__ import annotations

from random import Random

import pytest

from freerea_seval.predictor.boosted import BoostedPredictor


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
