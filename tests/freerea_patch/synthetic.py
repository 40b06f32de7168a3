"""A space and metrics that need no network and no data, for the tests of the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any
from zlib import crc32

from freerea_patch import BoundObjective, Measured, Objective, ObjectiveSet


class BitSpace:
    """Genotypes such as ``0110``: small enough to be exhausted."""

    input_shape = (1, 1, 1)

    def __init__(self, length: int) -> None:
        self.length = length
        self.name = f"bits/{length}"

    def check(self, genotype: str) -> None:
        assert len(genotype) == self.length
        assert set(genotype) <= {"0", "1"}

    def sample(self, rng: Random) -> str:
        return "".join(rng.choices("01", k=self.length))

    def mutate(self, genotype: str, rng: Random) -> str:
        bit = rng.randrange(self.length)
        return genotype[:bit] + str(1 - int(genotype[bit])) + genotype[bit + 1 :]

    def crossover(self, first: str, second: str, rng: Random) -> str:
        return "".join(pair[rng.getrandbits(1)] for pair in zip(first, second, strict=True))

    def build(self, genotype: str) -> Any:
        raise NotImplementedError("this space has no networks")


def noise(salt: str) -> Callable[[str], float]:
    """Return a metric that looks random, lies in [0, 1), and is the same in every process."""
    return lambda genotype: crc32(f"{salt} {genotype}".encode()) / 2**32


class Formulas:
    """A metric source of functions of the genotype that records what it is asked."""

    def __init__(self, seconds: float = 0.0, **metrics: Callable[[str], float]) -> None:
        self.seconds = seconds
        self.metrics = metrics
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterator[Mapping[str, Measured]]:
        for genotype in genotypes:
            self.asked.append((genotype, tuple(metrics)))
            yield {metric: Measured(self.metrics[metric](genotype), self.seconds) for metric in metrics}


def objectives(source: Formulas, *terms: Objective) -> ObjectiveSet:
    """Bind terms to the source's metrics of the same names; by default all metrics are fitness terms."""
    terms = terms or tuple(Objective(metric) for metric in source.metrics)
    return ObjectiveSet([BoundObjective(term, source, term.name) for term in terms])
