"""Searches of gpt-s for low perplexity and little computation a token, beside random architectures.

``python -m experiments.language_models.fronts --hw-gpt-bench FOLDER [--evaluations 100] [--seeds 10]``

Perplexities are predictions of HW-GPT-Bench's own networks (``FOLDER`` is a clone of its repository). Each method may
ask for that many of them: ours measures in rounds and learns (``refine``), as a user's search does. A result is judged
by the hypervolume of all architectures that it has asked for, as a share of that of ``--architectures`` random ones.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

import freerea_seval as fs
from experiments.search.benchmarks import hypervolume_share
from experiments.tables import RowJournal, as_command, experiment_parser, groups, markdown, mean_and_deviation
from freerea_patch import InputError

Values = npt.NDArray[np.float64]

COLUMNS = ("method", "seed", "asked", "hypervolume", "seconds")
COST, PERPLEXITY = "token_macs", "perplexity"
OURS, ROUNDS, START = "ours", 5, 0.4
#: Engines by the name of the method.
ENGINES: Mapping[str, str] = {"NSGA-II": "pymoo:nsga2", "random": "random"}
METHODS = (OURS, *ENGINES)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the searches that have no row yet, and print a table."""
    parser = experiment_parser("language_models.fronts", __doc__)
    parser.add_argument("--hw-gpt-bench", type=Path, required=True, help="clone of HW-GPT-Bench's repository")
    parser.add_argument("--evaluations", type=int, default=100, help="perplexities that a method may ask for")
    parser.add_argument("--architectures", type=int, default=10_000, help="random ones to compare with")
    parser.shared("--seeds", default=10)
    parser.output("runs/language_fronts")
    options = parser.parse_args(arguments)
    if options.evaluations < 20:
        raise InputError(f"--evaluations: expected at least 20, got {options.evaluations}")
    source = {"hw-gpt-bench": str(options.hw_gpt_bench.absolute())}
    sizes = {"evaluations": options.evaluations, "architectures": options.architectures}
    journal = RowJournal(options.output, sizes, COLUMNS)
    truth = random_front(source, options.architectures, options.output / "random.npy")
    jobs = [(method, seed) for seed in range(options.seeds) for method in METHODS]
    for method, seed in journal.missing(COLUMNS[:2], jobs, "searches"):
        began = time.perf_counter()
        with TemporaryDirectory() as folder:
            run = fs.search(
                search_config(method, source, options.evaluations, seed), Path(folder) / "run", progress=False
            )
            asked = run.history[[PERPLEXITY, COST]].dropna().to_numpy(float)
        seconds = f"{time.perf_counter() - began:.1f}"
        row = {"method": method, "seed": seed, "asked": len(asked), "hypervolume": f"{share(asked, truth):.6g}"}
        journal.append({**row, "seconds": seconds})
    lines = [
        [
            method,
            len(group),
            f"{group['asked'].mean():.0f}",
            mean_and_deviation(group["hypervolume"]),
            f"{group['seconds'].mean():.0f}",
        ]
        for (method,), group in groups(journal.frame(), method=METHODS)
    ]
    print(markdown(["method", "seeds", "perplexities", "share of the hypervolume", "seconds"], lines))


def search_config(method: str, source: Mapping[str, Any], evaluations: int, seed: int) -> dict[str, Any]:
    """Return the config of a method that asks for a number of perplexities."""
    cost = {"metric": COST, "source": "cost", "role": "pareto"}
    perplexity: dict[str, Any] = {"metric": PERPLEXITY, "role": "pareto", "source": dict(source)}
    config: dict[str, Any] = {"space": "gpt-s", "budget": {"evaluations": evaluations}}
    if method == OURS:
        search = {"algorithm": "freerea", "population": 20, "tournament": 5, "unseen": 10, "seeds": [seed]}
        config |= {"search": search, "budget": {"evaluations": 10 * evaluations}}
        networks = round((1 - START) * evaluations / ROUNDS)
        start = evaluations - ROUNDS * networks
        perplexity["source"] = {"seval": {**source, "start": start, "networks": networks}}
        return {**config, "objectives": [cost, perplexity], "refine": {"rounds": ROUNDS}}
    options = {} if method == "random" else {"population": 20}
    search = {"algorithm": ENGINES[method], "seeds": [seed], **options}
    return {**config, "search": search, "objectives": [cost, perplexity]}


def random_front(source: Mapping[str, Any], architectures: int, path: Path) -> Values:
    """Return perplexity and cost ``(k, 2)`` of the front of random architectures, which is kept in a file."""
    from moocore import is_nondominated

    if not path.exists():
        config = search_config("random", source, 1, 0)
        evaluator = fs.Evaluator.from_config(config)
        rng = Random(0)
        genotypes = [evaluator.space.sample(rng) for _ in range(architectures)]
        values = evaluator(genotypes)[[PERPLEXITY, COST]].to_numpy(float)
        np.save(path, values[is_nondominated(values)])
    return np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)


def share(values: Values, truth: Values) -> float:
    """Return the hypervolume of values as a share of that of a front."""
    ideal, nadir = truth.min(axis=0), truth.max(axis=0)
    return hypervolume_share((values - ideal) / (nadir - ideal), (truth - ideal) / (nadir - ideal))


if __name__ == "__main__":
    as_command(main)
