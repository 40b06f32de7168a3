"""Time a token of language models: measured twice on this machine, and predicted from few of the measurements.

Run it on an idle machine: ``python -m experiments.language_models.token_times [--networks 200] [--known 20 50]``

Random networks of a space add the last token of their context, with one thread. Both times, all are visited in rounds,
as in a search that measures ``time_per_token``. Predictors learn from the first time, and are judged by the second time
of all other networks; beside them are the multiply-adds of a token, which are not trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd

from experiments.tables import RowJournal, as_command, experiment_parser, groups, markdown, mean_and_deviation
from freerea_patch import InputError
from freerea_seval.config import LiveSettings, make_space
from freerea_seval.costs import SpaceCosts
from freerea_seval.measurement.networks import draw, serving_networks
from freerea_seval.measurement.run import measure_networks
from freerea_seval.predictor.scores import kendall_tau
from freerea_seval.predictor.training import Target, train_predictor
from freerea_seval.progress import terminal_progress
from freerea_seval.sources.device import ROUNDS
from freerea_seval.sources.live import prepare_torch
from freerea_seval.strings import SpaceStrings

METRIC = "time_per_token"
COLUMNS = ("known", "draw", "kendall_tau", "median_error", "macs_tau")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the networks, judge the predictors that have no row yet, and print both."""
    parser = experiment_parser("language_models.token_times", __doc__)
    parser.add_argument("--space", default="gpt-s", help="a built-in space of language models")
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--known", type=int, nargs="+", default=[20, 50], help="networks to learn from")
    parser.add_argument("--draws", type=int, default=10)
    parser.shared("--rounds", default=ROUNDS)
    parser.shared("--seed")
    parser.output("runs/token_times", "measurements and raw rows")
    options = parser.parse_args(arguments)
    if max(options.known) + 2 > options.networks:
        raise InputError(f"--known {max(options.known)}: expected at least two of {options.networks} networks to judge")
    prepare_torch(LiveSettings(threads=1))
    space = make_space(options.space)
    config = {name: getattr(options, name) for name in ("space", "networks", "rounds", "seed")}
    journal = RowJournal(options.output, config, COLUMNS)
    genotypes = draw(space, options.networks, options.seed)
    tables = [
        measure_networks(
            serving_networks(space, genotypes, METRIC),
            options.output / f"{time}.csv",
            rounds=options.rounds,
            seed=options.seed + number,
            progress=terminal_progress(),
        ).set_index("genotype")
        for number, time in enumerate(("first", "second"))
    ]
    measured = pd.DataFrame({"first": tables[0]["latency_ms"], "second": tables[1]["latency_ms"]}).dropna()
    first, second = measured["first"].to_numpy(), measured["second"].to_numpy()
    strings = np.array(SpaceStrings(space, "executed").strings(list(measured.index)), dtype=object)
    costs = SpaceCosts(space)
    macs = np.array([costs.serving(genotype).token_macs for genotype in measured.index])
    for known, number in journal.missing(COLUMNS[:2], product(options.known, range(options.draws)), "trainings"):
        order = np.random.default_rng(number).permutation(len(measured))
        learned, judged = order[:known], order[known:]
        target = Target(METRIC, "ms", "min")
        predictor, _ = train_predictor(
            list(strings[learned]), first[learned], [target], space_name=space.name, view="executed", seed=number
        )
        predicted = np.asarray(predictor.predict(list(strings[judged]))).reshape(len(judged))
        row = {
            "known": known,
            "draw": number,
            "kendall_tau": f"{kendall_tau(second[judged], predicted):.6g}",
            "median_error": f"{np.median(np.abs(predicted / second[judged] - 1)):.6g}",
            "macs_tau": f"{kendall_tau(second[judged], macs[judged]):.6g}",
        }
        journal.append(row)
    print(
        f"{len(measured)} networks, {first.min():.1f} to {first.max():.1f} ms a token: Kendall's tau-b of both times"
        f" {kendall_tau(first, second):.3f}, median change {100 * np.median(np.abs(second / first - 1)):.1f} %\n"
    )
    print(summary(journal.frame()))


def summary(rows: pd.DataFrame) -> str:
    """Return a Markdown table, a line a number of networks to learn from."""
    lines = [
        [
            known,
            len(group),
            mean_and_deviation(group["kendall_tau"]),
            f"{100 * group['median_error'].mean():.1f} %",
            f"{group['macs_tau'].mean():.3f}",
        ]
        for (known,), group in groups(rows, known=None)
    ]
    return markdown(["networks", "draws", "tau-b", "median error", "tau-b of multiply-adds"], lines)


if __name__ == "__main__":
    as_command(main)
