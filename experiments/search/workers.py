"""What worker processes are worth: live metrics, seeds on tables, and the overhead of the seam.

``python -m experiments.search.workers``

Every search is run with 1 and with 2 workers, in turn, and their journals are compared, byte for byte but for the
seconds that live metrics took. The overhead is that of tasks that compute nothing. The driver's maximum is that of a
whole search whose metric takes no time, by the CPU time of this process, which other load on the machine changes least.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from experiments.tables import RowJournal, as_command, experiment_parser, markdown
from freerea_patch import Measured, TopologySpace
from freerea_seval.api.runs import search
from freerea_seval.config import LiveSettings
from freerea_seval.files import temporary_folder
from freerea_seval.runs.workers import Recipe, Workers

COLUMNS = ("what", "workers", "repeat", "seconds", "cpu_s", "load", "journals")
#: Workers, and seconds a network, of the table on paper.
ON_PAPER = (64, (0.2, 2.0))
#: New networks a tournament: its three offspring, of which about one has been evaluated before.
NEW = 2
LIVE, TABLES, DRIVER = "live metrics", "8 seeds on a table", "a metric that takes no time"
ALONE, TOGETHER = "empty tasks, one at a time", "empty tasks, all submitted at once"


def main(arguments: Sequence[str] | None = None) -> None:
    """Time searches and empty tasks, and print a table."""
    parser = experiment_parser("search.workers", __doc__)
    parser.add_argument("--cells", type=int, default=300, help="networks of the search on live metrics")
    parser.add_argument("--evaluations", type=int, default=5000, help="networks of a search on a table")
    parser.add_argument("--tasks", type=int, default=2000, help="empty tasks")
    parser.add_argument("--repeats", type=int, default=3)
    parser.shared("--batch-size")
    parser.output("runs/workers")
    options = parser.parse_args(arguments)
    sizes = {name: getattr(options, name) for name in ("cells", "evaluations", "tasks", "batch_size")}
    journal = RowJournal(options.output, sizes, COLUMNS)
    jobs = [
        (what, workers, repeat)
        for repeat in range(options.repeats)
        for what in (ALONE, TOGETHER, LIVE, TABLES, DRIVER)
        for workers in ((1, 2) if what in (LIVE, TABLES) else (2,))
    ]
    for what, workers, repeat in journal.missing(("what", "workers", "repeat"), jobs, "searches and tasks"):
        load, began = os.getloadavg()[0], time.process_time()
        if what in (ALONE, TOGETHER):
            seconds, digest = tasks_s(workers, options.tasks, together=what == TOGETHER), ""
        else:
            seconds, digest = search_s(config(what, options), workers)
        row = {"what": what, "workers": workers, "repeat": repeat, "seconds": seconds, "load": load}
        journal.append({**row, "cpu_s": time.process_time() - began, "journals": digest})
    print(summary(journal.rows(), sizes))


def config(what: str, options: Any) -> dict[str, Any]:
    """Return the config of a search."""
    space, seeds = "nats-tss", [0]
    algorithm: dict[str, Any] = {"population": 50, "tournament": 10, "tournaments": 8}
    objectives: list[dict[str, Any]]
    if what == LIVE:
        count = options.cells
        objectives = [{"metric": metric, "source": "training-free"} for metric in ("naswot", "logsynflow")]
    elif what == TABLES:
        count, seeds = options.evaluations, list(range(8))
        columns = (("worth", "max", "fitness"), ("cost", "min", "pareto"))
        objectives = [
            {"metric": metric, "source": {"table": "table.csv"}, "direction": direction, "role": role}
            for metric, direction, role in columns
        ]
    else:
        count = options.tasks
        algorithm["tournaments"] = 64
        objectives = [
            {"metric": "length", "source": {"python": "experiments.search.workers:length"}, "direction": "max"}
        ]
    return {
        "space": space,
        "search": {**algorithm, "unseen": 10, "seeds": seeds},
        "budget": {"evaluations": count},
        "live": {"cache": "off", "batch_size": options.batch_size, "initialisations": 1},
        "objectives": objectives,
    }


def length(genotype: str) -> float:
    """Return a metric that takes no time."""
    return float(len(genotype.replace("none", "")))


def search_s(settings: Mapping[str, Any], workers: int) -> tuple[float, str]:
    """Return the seconds of a search, and a hash of its journals without the seconds of metrics."""
    import hashlib

    import yaml

    with temporary_folder() as folder:
        (folder / "search.yaml").write_text(yaml.safe_dump(dict(settings)))
        if any(isinstance(o["source"], Mapping) and "table" in o["source"] for o in settings["objectives"]):
            rng = Random(0)
            rows = (f"{cell},{rng.random()},{rng.random()}" for cell in TopologySpace().genotypes())
            (folder / "table.csv").write_text("\n".join(["genotype,worth,cost", *rows]) + "\n")
        began = time.perf_counter()
        search(folder / "search.yaml", folder / "run", workers=workers, progress=False)
        seconds = time.perf_counter() - began
        digest = hashlib.sha256()
        for path in sorted((folder / "run").glob("seed-*/journal.jsonl")):
            for line in path.read_text().splitlines():
                digest.update(json.dumps({**json.loads(line), "seconds": None}).encode())
    return seconds, digest.hexdigest()[:16]


def nothing(recipe: Recipe, genotype: str, metrics: tuple[str, ...]) -> dict[str, Measured]:
    """Return a row without computing it: a task of the size of a real one."""
    return {metric: Measured(0.0, 0.0) for metric in metrics}


def tasks_s(count: int, tasks: int, together: bool) -> float:
    """Return the seconds of tasks that compute nothing, once the workers have started."""
    recipe = Recipe("nats-tss", LiveSettings(), Path().absolute(), 0, "training-free", None)
    arguments = [(recipe, genotype, ("naswot", "logsynflow")) for genotype in TopologySpace().genotypes()[:tasks]]
    with Workers(count) as workers:
        list(workers.map(nothing, arguments[: 2 * count]))
        began = time.perf_counter()
        for part in [arguments] if together else [[argument] for argument in arguments]:
            list(workers.map(nothing, part))
        return time.perf_counter() - began


def summary(rows: Sequence[Mapping[str, str]], sizes: Mapping[str, int]) -> str:
    """Return Markdown tables: what was measured, and what follows for many workers."""
    seconds: dict[tuple[str, int], list[float]] = {}
    digests: dict[str, set[str]] = {}
    for row in rows:
        seconds.setdefault((row["what"], int(row["workers"])), []).append(float(row["seconds"]))
        digests.setdefault(row["what"], set()).add(row["journals"])
    lines = []
    for what in (LIVE, TABLES):
        one, two = (seconds[what, workers] for workers in (1, 2))
        ratios = sorted(a / b for a, b in zip(one, two, strict=False))
        same = "equal" if len(digests[what]) == 1 else "DIFFERENT"
        times = [f"{median(one):.1f}", f"{median(two):.1f}"]
        lines.append([what, len(two), *times, f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})", same])
    header = ["search", "repeats", "1 worker (s)", "2 workers (s)", "times faster", "journals"]
    alone, together = (min(seconds[what, 2]) / sizes["tasks"] for what in (ALONE, TOGETHER))
    driver = min(float(row["cpu_s"]) for row in rows if row["what"] == DRIVER) / sizes["tasks"]
    loads = sorted(float(row["load"]) for row in rows)
    return "\n\n".join(
        (
            markdown(header, lines),
            f"Overhead of a task: {1e3 * alone:.2f} ms one at a time, {1e3 * together:.2f} ms where all are submitted"
            f" at once ({1 / together:,.0f} a second). CPU time of the driver, with loop and journal:"
            f" {1e3 * driver:.2f} ms a network ({1 / driver:,.0f} a second). Load average before the measurements:"
            f" {loads[0]:.1f} to {loads[-1]:.1f} on {os.cpu_count()} cores.",
            on_paper(driver),
        )
    )


def on_paper(driver_s: float) -> str:
    """Return what many workers would reach, given the driver's seconds a network.

    A round lasts as long as its networks take in waves of one a worker, and as the driver takes for all of them.
    """
    workers, each_s = ON_PAPER
    lines = []
    for network_s in each_s:
        bound = min(workers / network_s, 1 / driver_s)
        cells = []
        for tournaments in (8, 32, 128):
            networks = NEW * tournaments
            round_s = math.ceil(networks / workers) * network_s + networks * driver_s
            cells.append(f"{networks / round_s:,.0f}")
        lines.append([f"{network_s:g}", *cells, f"{bound:,.0f}"])
    header = ["seconds a network", "K = 8", "K = 32", "K = 128", "bound"]
    text = (
        f"On paper, networks a second with {workers} workers, and {NEW} new networks a tournament; the bound is that of"
        f" busy workers, or of the driver, which saturates at {1 / driver_s:,.0f} networks a second:"
    )
    return f"{text}\n\n{markdown(header, lines)}"


if __name__ == "__main__":
    as_command(main)
