# mypy: disable-error-code="import-untyped, import-not-found, unused-ignore"
"""The config of other engines through Ray Tune, whose trials are random networks.

``python -m experiments.search.ray_tune runs/integration-engines-1000``

For every search of ``freerea+seval`` in the folder of a grid, Ray Tune runs trials on the evaluator of the search's own
config. Those within the bound are ranked by the sum of the fitness terms, and the answer is judged as those of the
other engines; the first trials are a smaller tuner's. Values of networks that the search has evaluated, too, must be
equal. It needs Ray: ``pip install -c constraints.txt "ray[tune]"``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from experiments.search.benchmarks import Benchmark, read_benchmark
from experiments.search.outcomes import answers
from experiments.tables import RowJournal, as_command, experiment_parser, markdown
from freerea_patch.history import fitness_scores

METHOD = "freerea+seval"
KEY = ("dataset", "metric", "quantile", "seed")
COLUMNS = (*KEY, "trials", "networks", "feasible", "compared", "regret", "seconds")
#: Largest relative difference of two values: predictions depend on the size of a batch in the last digits.
_TOLERANCE = 1e-12


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the searches that have no row yet, and print a table."""
    parser = experiment_parser("search.ray_tune", __doc__)
    parser.add_argument("grid", type=Path, help="folder of experiments.search.integration")
    parser.add_argument("--trials", type=int, nargs="+", default=[200, 1000])
    parser.shared("--seeds", default=10)
    parser.output("runs/ray-tune")
    options = parser.parse_args(arguments)
    table = pd.read_csv(options.grid / "rows.csv")
    table = table[(table["method"] == METHOD) & (table["status"] == "ok") & (table["seed"] < options.seeds)]
    journal = RowJournal(options.output, {"grid": str(options.grid.resolve()), "trials": options.trials}, COLUMNS)
    jobs = [(row.dataset, row.metric, f"{row.quantile:g}", row.seed) for row in table.itertuples()]
    folders = dict(zip(jobs, table["folder"], strict=True))
    for job in journal.missing(KEY, jobs, "tuners"):
        dataset, metric, quantile, _ = job
        benchmark = read_benchmark(options.grid, dataset, metric)
        bound = benchmark.bound(float(quantile))
        for row in tune_search(options.grid / folders[job], options.trials, benchmark, bound):
            journal.append({**dict(zip(KEY, job, strict=True)), **row})
    means = journal.frame().drop(columns="seed").groupby([*KEY[:3], "trials"]).mean().round(2).reset_index()
    print(markdown(list(means.columns), means.to_numpy().tolist()))


def tune_search(path: Path, sizes: Sequence[int], benchmark: Benchmark, bound: float) -> list[dict[str, object]]:
    """Run the trials for one search.

    Args:
        path: of the search's run folder.
        sizes: numbers of trials.
        benchmark, bound: what answers are judged by.

    Returns:
        A row for each number of trials: how many different networks there are, how many of them keep the bound by what
        the search knows, how many have been compared with the search's own, and the regret.
    """
    import ray
    from ray import tune
    from ray.tune.logger import JsonLoggerCallback
    from ray.tune.search.basic_variant import BasicVariantGenerator

    import freerea_seval as fs
    from freerea_seval.integrations.ray import param_space, trainable
    from freerea_seval.runs.folder import RunFolder

    run = RunFolder.open(path)
    evaluator = fs.Evaluator(run.config, run.base)
    # The tuner reads its results from JSON; files for TensorBoard and the like would cost more than the trials.
    # With several pending trials, an actor need not wait for the next one.
    os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_GLOBAL_CHECKPOINT_S": "600"}
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "16")
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    began = time.perf_counter()
    with TemporaryDirectory() as storage:
        tuner = tune.Tuner(
            trainable(evaluator),
            param_space=param_space(evaluator.space),
            tune_config=tune.TuneConfig(
                num_samples=max(sizes),
                search_alg=BasicVariantGenerator(random_state=run.config.search.seeds[0]),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(storage_path=storage, verbose=0, callbacks=[JsonLoggerCallback()]),
        )
        trials: Any = tuner.fit().get_dataframe().sort_values("trial_id")  # numbered in order
    seconds = time.perf_counter() - began
    objectives = evaluator.objectives
    terms = [term for term in objectives if term.role == "fitness"]
    signs = np.array([1.0 if term.direction == "max" else -1.0 for term in terms])
    weights = np.array([term.weight for term in terms])
    searched = fs.load_run(path).history
    rows = []
    for size in sizes:
        networks = trials.head(size).drop_duplicates("genotype")
        kept = networks[networks["feasible"]]
        scores = fitness_scores(kept[[term.name for term in terms]].to_numpy(float) * signs, weights)
        both = searched.merge(networks, on="genotype", suffixes=("", " of a trial"))
        for term in objectives:
            np.testing.assert_allclose(both[f"{term.name} of a trial"], both[term.name], rtol=_TOLERANCE)
        answer = answers(benchmark, bound, kept["genotype"].iloc[np.argsort(-scores, kind="stable")].tolist())
        counts = {"trials": size, "networks": len(networks), "feasible": len(kept), "compared": len(both)}
        regret = answer.get("remeasured_regret", "")
        rows.append({**counts, "regret": regret, "seconds": f"{seconds * size / max(sizes):.1f}"})
    return rows


if __name__ == "__main__":
    as_command(main)
