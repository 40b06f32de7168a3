"""Long searches: whether an evaluation costs the same after 100,000 others, and what resuming and reporting cost.

Genotypes are 256 bits and metrics functions of them, so that the time is that of the loop, the history and the journal.
Each way of scoring runs in a process of its own. Cost is CPU time: of the fastest block of 100 evaluations around a
number, because what other programs do only ever adds time, and the mean of all.
"""

from __future__ import annotations

import io
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

from rich.console import Console

from experiments.tables import as_command, experiment_parser, markdown
from freerea_seval.config.schema import check_config
from freerea_seval.runs.execute import execute
from freerea_seval.runs.figures import draw_run
from freerea_seval.runs.folder import RunFolder
from freerea_seval.runs.report import print_report

#: Options of the search, and the role of the last metric, by name.
WAYS: Mapping[str, tuple[dict[str, str], str]] = {
    "sum": ({}, "fitness"),
    "ranks over the history": ({"aggregation": "ranks", "normalisation": "history"}, "fitness"),
    "Pareto": ({}, "pareto"),
}
#: The cost is given around these numbers of evaluations.
POINTS = (1_000, 10_000, 50_000, 100_000)
_BITS = 256
_BLOCK = 100


class Bits:
    """Genotypes of 256 bits, of which a mutation changes about 32.

    A search hardly proposes a genotype again therefore, so that an evaluation takes the same number of proposals
    throughout.
    """

    name, input_shape = f"bits/{_BITS}", (1, 1, 1)

    def check(self, genotype: str) -> None:
        """Accept every genotype."""

    def sample(self, rng: Random) -> str:
        """Return random bits."""
        return format(rng.getrandbits(_BITS), "064x")

    def mutate(self, genotype: str, rng: Random) -> str:
        """Flip every bit with a probability of an eighth."""
        mask = rng.getrandbits(_BITS) & rng.getrandbits(_BITS) & rng.getrandbits(_BITS)
        return format(int(genotype, 16) ^ mask, "064x")

    def crossover(self, first: str, second: str, rng: Random) -> str:
        """Take every bit from a random one of two parents."""
        mask = rng.getrandbits(_BITS)
        return format(int(first, 16) & mask | int(second, 16) & ~mask, "064x")

    def build(self, genotype: str) -> None:
        """Build nothing: the metrics read the genotype."""


#: CPU seconds at every evaluation of :func:`noise`, which each candidate has once.
_cpu_s: list[float] = []


def noise(genotype: str) -> float:
    """Return a number that looks random."""
    _cpu_s.append(time.process_time())
    return crc32(genotype.encode()) / 2**32


def other(genotype: str) -> float:
    """Return another such number."""
    return crc32(genotype[::-1].encode()) / 2**32


def ties(genotype: str) -> float:
    """Return one of a hundred such numbers."""
    return float(crc32(genotype[1:].encode()) % 100)


def config_of(way: str, evaluations: int) -> dict[str, Any]:
    """Return the config of a search."""
    options, role = WAYS[way]
    metrics = {"noise": "fitness", "ties": "fitness", "other": role}
    return {
        "space": f"{__name__}:Bits",
        "search": {"population": 100, "tournament": 25, **options},
        "budget": {"evaluations": evaluations},
        "objectives": [
            {"metric": name, "source": {"python": f"{__name__}:{name}"}, "role": role, "direction": "max"}
            for name, role in metrics.items()
        ],
    }


def soak(way: str, evaluations: int) -> dict[str, Any]:
    """Search, resume from the whole journal, and report; return the costs."""
    with TemporaryDirectory() as folder:
        run = RunFolder.create(Path(folder) / "run", check_config(config_of(way, evaluations), "soak"), Path(folder))
        execute(run)
        memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        ms = [(b - a) * 1e3 / _BLOCK for a, b in pairwise(_cpu_s[::_BLOCK])]
        result = (run.seed(0) / "result.json").read_bytes()
        (run.seed(0) / "result.json").unlink()
        began = time.process_time()
        execute(run)
        resumed = time.process_time()
        if (run.seed(0) / "result.json").read_bytes() != result:
            raise RuntimeError(f"{way}: the resumed search has another result")
        print_report(run, Console(file=io.StringIO()))
        draw_run(run)
        return {
            "ms": {point: _around(ms, point // _BLOCK) for point in POINTS if point <= evaluations},
            "mean_ms": sum(ms) / len(ms),
            "memory_mb": memory_mb,
            "resume_s": resumed - began,
            "report_s": time.process_time() - resumed,
        }


def _around(ms: list[float], block: int) -> float:
    """Return the cost of the fastest block around a number of evaluations, a tenth of it to each side."""
    margin = max(block // 10, 2)
    return min(ms[max(block - margin, 1) : block + margin])


def table(costs: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the costs as a Markdown table."""
    points = next(iter(costs.values()))["ms"]
    header = [
        "scored by",
        *(f"ms at {point:,}" for point in points),
        "mean",
        "memory (MB)",
        "resume (CPU s)",
        "report (CPU s)",
    ]
    rows = [
        [
            way,
            *(f"{ms:.2f}" for ms in cost["ms"].values()),
            f"{cost['mean_ms']:.2f}",
            f"{cost['memory_mb']:.0f}",
            f"{cost['resume_s']:.1f}",
            f"{cost['report_s']:.1f}",
        ]
        for way, cost in costs.items()
    ]
    return markdown(header, rows)


def costs_of(evaluations: int) -> dict[str, dict[str, Any]]:
    """Return the costs of every way of scoring."""
    costs = {}
    for way in WAYS:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # memory is that of one search
            costs[way] = pool.submit(soak, way, evaluations).result()
    return costs


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = experiment_parser("search.soak", __doc__)
    parser.add_argument("--evaluations", type=int, default=100_000)
    print(table(costs_of(parser.parse_args(arguments).evaluations)))


if __name__ == "__main__":
    as_command(main)
