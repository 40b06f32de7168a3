"""What a search in rounds adds beside measuring: seconds of CPU time a round, by the number of candidates.

``python -m experiments.search.refine_time``

The networks are five layers of ten widths, 100,000 in all. A round trains the predictors of a bounded and of an
optimised metric on 40 networks more than the last, and chooses 12 networks among all candidates. The first round reads
the candidates into strings and features, which later ones find in memory.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from random import Random

import numpy as np
from torch import nn

from experiments.tables import as_command, experiment_parser, markdown
from freerea_patch.spaces import Part
from freerea_seval.predictor.acquisition import choose, within
from freerea_seval.progress import terminal_progress
from freerea_seval.runs.refine import MOST_LISTED
from freerea_seval.sources.learned import LearnedSource
from freerea_seval.sources.registry import Context

_STEPS = ("train", "believe", "choose")


class Widths:
    """Networks of five layers, each of which has one of ten widths."""

    name, input_shape = "widths/5", (1, 1, 16)

    def genotypes(self) -> list[str]:
        """Return all networks."""
        return ["".join(digits) for digits in product("0123456789", repeat=5)]

    def check(self, genotype: str) -> None:
        """Accept every genotype."""

    def sample(self, rng: Random) -> str:
        """Return a random network."""
        return f"{rng.randrange(100_000):05d}"

    def mutate(self, genotype: str, rng: Random) -> str:
        """Change a width."""
        place = rng.randrange(5)
        return genotype[:place] + str(rng.randrange(10)) + genotype[place + 1 :]

    def crossover(self, mother: str, father: str, rng: Random) -> str:
        """Join a part of each."""
        place = rng.randrange(1, 5)
        return mother[:place] + father[place:]

    def parts(self, genotype: str) -> Part:
        """Return the layers."""
        widths = [16, *(4 + 4 * int(digit) for digit in genotype)]
        layers = [_layer(*pair) for pair in pairwise(widths)]
        return Part("chain", nn.Sequential, tuple(layers))

    def build(self, genotype: str) -> nn.Module:
        """Return a network."""
        return self.parts(genotype).build()


def _layer(inputs: int, outputs: int) -> Part:
    return Part(("layer", inputs, outputs), lambda: nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU()))


def rounds(candidates: int, count: int) -> Iterator[dict[str, float]]:
    """Yield the CPU seconds of the steps of every round."""
    space = Widths()
    genotypes = [f"{i:05d}" for i in np.random.default_rng(0).permutation(100_000)[:candidates]]
    context = Context(space, refines=True)
    latency, accuracy = (LearnedSource(context, {"ask": name}) for name in ("latency", "accuracy"))
    for source, unit in ((latency, "ms"), (accuracy, "%")):
        source.describe(source.metric)
        source.specify(unit, None)
    for number in range(1, count + 1):
        for genotype in genotypes[: 40 * number]:
            width = sum(map(int, genotype))
            latency.measured[genotype] = 1.0 + 0.1 * width
            accuracy.measured[genotype] = 60.0 + 0.8 * width - 0.1 * int(genotype[0]) ** 2
        spent = {}
        began = time.process_time()
        for source in (latency, accuracy):
            source.train()
        spent["train"] = time.process_time() - began
        began = time.process_time()
        bounded, optimised = latency.belief(genotypes, [3.0]), accuracy.belief(genotypes)
        feasible = within(bounded.belief.mean, bounded.belief.std, -np.inf, bounded.bounds[0])
        spent["believe"] = time.process_time() - began
        began = time.process_time()
        choose([optimised.belief], feasible, 12, accuracy.strings.strings(genotypes))
        spent["choose"] = time.process_time() - began
        yield spent


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the seconds of the first and of the third round."""
    parser = experiment_parser("search.refine_time", __doc__)
    parser.add_argument("--candidates", nargs="+", type=int, default=[1000, 15_625, 100_000])
    options = parser.parse_args(arguments)
    lines = []
    with terminal_progress().task("rounds") as show:
        for done, candidates in enumerate(options.candidates):
            show(done / len(options.candidates), f"{candidates:,} candidates")
            first, *_, last = rounds(candidates, 3)
            for name, spent in (("first", first), ("third", last)):
                lines.append(
                    [f"{candidates:,}", name, *(f"{spent[step]:.1f}" for step in _STEPS), f"{sum(spent.values()):.1f}"]
                )
    print(markdown(["candidates", "round", *(f"{step}, s" for step in _STEPS), "together, s"], lines))
    print(f"All networks are candidates in a space of at most {MOST_LISTED:,}; otherwise, those of the search.")


if __name__ == "__main__":
    as_command(main)
