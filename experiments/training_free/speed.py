"""What naswot and logsynflow cost a candidate, here and in FreeREA's own code, on the same networks in one run.

Both take three initialisations, as a search does. All thirteen zero-cost proxies are timed beside them, with one, as
the published values have and as a search takes.

``python -m experiments.training_free.speed --checkout FreeREA``
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from experiments.tables import as_command, experiment_parser, markdown
from experiments.training_free.zero_cost import FREEREA as METRICS
from freerea_patch import SearchSpace, SizeSpace, TopologySpace, TrainingFree
from freerea_patch.checkout import Checkout
from freerea_seval.predictor.scores import spearman
from freerea_seval.progress import terminal_progress

SPACES: dict[str, Callable[[], SearchSpace]] = {"nats-tss": TopologySpace, "nats-sss": SizeSpace}
#: FreeREA's code always takes three initialisations (nas_utils.compute_tfm).
INITIALISATIONS = 3


class Cost(NamedTuple):
    """Metrics of a network, and the seconds that they took: by the wall clock, and of the processor."""

    values: tuple[float, ...]
    wall_s: float
    cpu_s: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute both metrics of random networks in turn, and print what they cost and whether their ranks agree."""
    parser = experiment_parser("training_free.speed", __doc__)
    parser.shared("--checkout", required=True)
    parser.add_argument("--networks", type=int, default=20, help="number of networks of each space")
    parser.shared("--batch-size", "--threads", "--seed")
    options = parser.parse_args(arguments)
    lines = []
    for kind in SPACES:
        sizes = (kind, options.batch_size, options.threads)
        starts = (
            partial(start_ours, *sizes),
            partial(start_theirs, *sizes, options.checkout),
            partial(start_all, *sizes),
        )
        lines.append(line(kind, *compare(starts, draw(kind, options.networks, options.seed), kind)))
    print(summary(lines))


def draw(kind: str, count: int, seed: int) -> list[str]:
    """Return random genotypes."""
    rng = Random(seed)
    return [SPACES[kind]().sample(rng) for _ in range(count)]


def compare(starts: Sequence[Callable[[], None]], genotypes: Sequence[str], what: str) -> list[list[Cost]]:
    """Measure every network with one after the other, each in a process of its own, so that no cache is shared."""
    with ExitStack() as stack:
        workers = [
            stack.enter_context(ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=start))
            for start in starts
        ]
        show = stack.enter_context(terminal_progress().task(f"{len(genotypes)} networks"))
        for worker in workers:  # the first network pays for imports and for kernels that are chosen once
            worker.submit(measure, genotypes[0]).result()
        costs: list[list[Cost]] = [[] for _ in workers]
        for count, genotype in enumerate(genotypes):
            show(count / len(genotypes), what)
            for worker, column in zip(workers, costs, strict=True):
                column.append(worker.submit(measure, genotype).result())
    return costs


#: Computes the metrics of a genotype; set in a worker.
_compute: Callable[[str], Sequence[float]]


def measure(genotype: str) -> Cost:
    """Compute both metrics in a worker, and time it."""
    wall, cpu = time.perf_counter(), time.process_time()
    values = tuple(_compute(genotype))
    return Cost(values, time.perf_counter() - wall, time.process_time() - cpu)


def start_ours(kind: str, batch_size: int, threads: int) -> None:
    """Make a worker compute with this package."""
    global _compute
    import torch

    torch.set_num_threads(threads)
    source = TrainingFree(SPACES[kind](), batch_size=batch_size, initialisations=INITIALISATIONS)

    def compute(genotype: str) -> list[float]:
        (row,) = source.evaluate([genotype], METRICS)
        return [row[metric].value for metric in METRICS]

    _compute = compute


def start_theirs(kind: str, batch_size: int, threads: int, checkout: Path) -> None:
    """Make a worker compute with FreeREA's code, on the same images and on networks of the same structure."""
    global _compute
    import torch

    torch.set_num_threads(threads)
    space = SPACES[kind]()
    images = torch.from_numpy(TrainingFree(space, batch_size=batch_size).images)
    device = torch.device("cpu")
    with Checkout(checkout) as code:
        compute_tfm = code.nas_utils.compute_tfm

    def compute(genotype: str) -> list[float]:
        networks = SimpleNamespace(get_network=lambda exemplar, device: space.build(genotype).to(device))
        exemplar: Any = SimpleNamespace(born=False, space=networks)
        values, *_ = compute_tfm(exemplar, (images, None), device, metrics=METRICS)
        return [float(values[metric]) for metric in METRICS]

    _compute = compute


def start_all(kind: str, batch_size: int, threads: int) -> None:
    """Make a worker compute all zero-cost proxies."""
    global _compute
    import torch

    from freerea_seval.proxies import PROXIES
    from freerea_seval.proxies.live import ZeroCost

    torch.set_num_threads(threads)
    source = ZeroCost(SPACES[kind](), batch_size=batch_size)

    def compute(genotype: str) -> list[float]:
        (row,) = source.evaluate([genotype], PROXIES)
        return [row[proxy].value for proxy in PROXIES]

    _compute = compute


def line(kind: str, ours: Sequence[Cost], theirs: Sequence[Cost], thirteen: Sequence[Cost]) -> list[object]:
    """Return the table's line of a space."""
    seconds = [
        [np.array([getattr(c, unit) for c in costs]) for costs in (theirs, ours)] for unit in ("wall_s", "cpu_s")
    ]
    cells: list[object] = [kind, len(ours)]
    for their, our in seconds:
        cells += [f"{their.mean():.3f}", f"{our.mean():.3f}", f"{their.mean() / our.mean():.2f}"]
        cells.append(f"{np.median(their / our):.2f}")
    for column in range(len(METRICS)):
        values = [np.array([cost.values[column] for cost in costs]) for costs in (ours, theirs)]
        cells.append(f"{spearman(*values):.4f}")
    both_s, all_s = (sum(cost.wall_s for cost in costs) / len(costs) for costs in (ours, thirteen))
    return [*cells, f"{all_s:.3f}", f"{all_s / both_s:.2f}"]


def summary(lines: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table, a line a space."""
    times = [f"{unit}: {name}" for unit in ("s", "CPU s") for name in ("theirs", "ours", "ratio", "median ratio")]
    ranks = [f"Spearman of {metric}" for metric in METRICS]
    return markdown(
        ["space", "networks", *times, *ranks, "s: all thirteen proxies, one initialisation", "times ours"], lines
    )


if __name__ == "__main__":
    as_command(main)
