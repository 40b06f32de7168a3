"""How well training-free metrics, and sums of several, rank the accuracies of NAS-Bench-201's cells.

``python -m experiments.training_free.guides compute --proxies TABLE.csv --batch images.npz``
``python -m experiments.training_free.guides rank --proxies TABLE.csv --cache cached_metrics --values runs/guides``

Cells are the 9,445 without operations that their output does not depend on. A seeded half of them is for development,
on which, with accuracies on CIFAR-10, ``search: {preset: guided}`` was chosen; the other half is for judgement.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from experiments.published import (
    PGD,
    nan_where_missing,
    read_accuracies,
    read_column,
    read_devices,
    read_metric,
    read_proxies,
)
from experiments.tables import RowJournal, as_command, experiment_parser, markdown
from experiments.training_free.zero_cost import FREEREA, columns
from freerea_patch import TopologySpace, TrainingFree
from freerea_patch.history import Aggregation, aggregate
from freerea_patch.spaces import DATASETS, all_cells
from freerea_patch.training_free import batch_digest
from freerea_seval.config.presets import PRESETS
from freerea_seval.predictor.scores import kendall_tau
from freerea_seval.proxies import ALL_PROXIES, PROXIES
from freerea_seval.proxies.live import ZeroCost

Floats = npt.NDArray[np.float64]
#: Parts of all cells by latency: the share up to which a part reaches, and its name.
BANDS = ((0.25, "fastest quarter"), (0.5, "next quarter"), (1.0, "slow half"))
#: Positions of the ranking that nDCG counts, as in VKDNW.
POSITIONS = 1_000


@dataclass(frozen=True)
class Guide:
    """A sum of metrics: of logarithms of their ranks, or of values divided by their maxima as in FreeREA."""

    weights: Mapping[str, float]
    aggregation: Aggregation = "log-ranks"

    def scores(self, values: pd.DataFrame) -> Floats:
        """Return ``(n,)`` scores of networks; a value that does not exist is the lowest."""
        table = lowest_where_missing(values[list(self.weights)].to_numpy(float))
        return aggregate(table, np.array(list(self.weights.values())), self.aggregation)


#: The preset's terms by the metric that they weigh.
_GUIDED = {str(term["metric"]): float(term.get("weight", 1.0)) for term in PRESETS["guided"].objectives}
GUIDES: Mapping[str, Guide] = {
    "FreeREA: naswot + logsynflow + skip": Guide({"naswot": 1, "logsynflow": 1, "skip": 1}, "sum"),
    "naswot + logsynflow": Guide({"naswot": 1, "logsynflow": 1}, "sum"),
    "AZ-NAS": Guide(dict.fromkeys(("expressivity", "progressivity", "trainability", "flops"), 1)),
    "VKDNW, aggregate": Guide(dict.fromkeys(("vkdnw", "jacov", "expressivity", "trainability", "flops"), 1)),
    "jacov and params": Guide(dict.fromkeys(("jacov", "params"), 1)),
    "guided": Guide(_GUIDED),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the commands."""
    parser = experiment_parser("training_free.guides", __doc__)
    compute = parser.command(
        "compute", _compute, "metrics of live networks, one initialisation, and FreeREA's of three"
    )
    compute.shared("--proxies", "--batch", required=True)
    compute.shared("--batch-size", "--seed")
    compute.add_argument("--dataset", default="cifar10", choices=DATASETS, help="input shape and classes")
    compute.add_argument("--cells", type=int, default=1_000, help="number of cells, those for judgement first")
    compute.add_argument("--metrics", nargs="+", default=[*ALL_PROXIES], choices=ALL_PROXIES, metavar="METRIC")
    compute.output("runs/guides")
    rank = parser.command("rank", _rank, "Kendall's tau and nDCG of metrics and guides")
    rank.shared("--proxies", "--cache", required=True)
    rank.shared("--robustness", "--hw-nas-bench")
    what = "folder of compute, whose cells and values replace the published ones"
    rank.add_argument("--values", type=Path, metavar="FOLDER", help=what)
    rank.add_argument("--figure", type=Path, help="figure of the taus of the cells for judgement to write")
    options = parser.parse_args(arguments)
    options.run(options)


def halves(cells: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the cells for development, and those for judgement, each in a seeded order."""
    order = np.random.default_rng(0).permutation(np.sort(cells)).tolist()
    return order[: len(order) // 2], order[len(order) // 2 :]


def _compute(options: argparse.Namespace) -> None:
    space = TopologySpace(options.dataset)
    shared = {"batch": options.batch, "batch_size": options.batch_size, "seed": options.seed}
    proxies, freerea = ZeroCost(space, **shared), TrainingFree(space, **shared)
    config = {
        "batch": batch_digest(proxies.images),
        "seed": options.seed,
        "dataset": options.dataset,
        "metrics": options.metrics,
    }
    both = options.metrics == [*ALL_PROXIES]
    metrics = [*options.metrics, *(FREEREA if both else ())]
    journal = RowJournal(options.output, config, [*columns(metrics), "freerea_network_s"])
    development, judgement = halves(sorted(read_proxies(options.proxies)))
    chosen, genotypes = [*judgement, *development][: options.cells], all_cells()
    for (index,) in journal.missing(["index"], [(index,) for index in chosen], f"{len(chosen)} cells"):
        (row,) = proxies.evaluate([genotypes[index]], options.metrics)
        measured, initialised_s = dict(row), ""
        if both:
            (other,) = freerea.evaluate([genotypes[index]], FREEREA)
            measured |= {metric: other[metric] for metric in FREEREA}
            initialised_s = f"{other['network'].seconds:.4f}"
        values = {metric: measured[metric].value for metric in metrics}
        seconds = {f"{name}_s": f"{measured[name].seconds:.4f}" for name in ("network", *metrics)}
        journal.append({"index": index, **values, **seconds, "freerea_network_s": initialised_s})


def _rank(options: argparse.Namespace) -> None:
    space = TopologySpace()
    published = pd.DataFrame.from_dict(read_proxies(options.proxies), orient="index", columns=list(PROXIES))
    for metric in FREEREA:
        published[metric] = read_metric(options.cache, metric)[published.index]
    published["skip"] = [space.skip(all_cells()[index]) for index in published.index]
    values = published
    if options.values is not None:
        ours = pd.read_csv(options.values / "rows.csv").set_index("index")
        values = published.loc[ours.index].drop(columns=[c for c in ours if c in published]).join(ours)
    truth = {dataset: read_accuracies(options.cache, dataset) for dataset in DATASETS}
    if options.robustness is not None:
        truth["PGD"] = read_column(options.robustness, PGD)
    for name, half in zip(("development", "judgement"), halves(list(published.index)), strict=True):
        cells = values.loc[values.index.isin(half)]
        if len(cells) > 1:
            table = ranking(cells, truth)
            print(f"\n{len(cells)} cells for {name}\n\n{summary(table)}")
            if options.figure is not None and name == "judgement":
                draw(table, list(truth), options.figure)
            if options.hw_nas_bench is not None:
                latency = read_devices(options.hw_nas_bench)["edgegpu_latency"].values
                print(f"\nby the latency of the edge GPU\n\n{by_latency(cells, truth, latency)}")
    if f"{FREEREA[0]}_s" in values:
        print(f"\n{cost(values)}")


def ranking(values: pd.DataFrame, truth: Mapping[str, Floats]) -> pd.DataFrame:
    """Return tau and nDCG of guides, and of single metrics sorted by the first tau.

    Args:
        values: of metrics, a row a cell, by index.
        truth: accuracies of all cells in the order of the index, by data set.

    Returns:
        A row a guide or metric, with columns ``tau, DATASET`` and ``nDCG, DATASET``.
    """
    guides = {name: guide for name, guide in GUIDES.items() if set(guide.weights) <= set(values)}
    metrics = [name for name in (*FREEREA, "skip", *ALL_PROXIES) if name in values]
    scores = {name: guide.scores(values) for name, guide in guides.items()}
    singles = {name: lowest_where_missing(values[name].to_numpy(float)) for name in metrics}
    accuracies = {dataset: column[values.index] for dataset, column in truth.items()}
    first = next(iter(accuracies.values()))
    ordered = sorted(singles, key=lambda name: -kendall_tau(singles[name], first))
    return pd.DataFrame(
        {
            f"{label}, {dataset}": {name: score(column, a) for name, column in scores.items()}
            | {name: score(singles[name], a) for name in ordered}
            for label, score in (("tau", kendall_tau), ("nDCG", ndcg))
            for dataset, a in accuracies.items()
        }
    )


def summary(table: pd.DataFrame) -> str:
    """Return a ranking as a Markdown table."""
    lines = [
        [name, *(f"{value:.3f}" for value in row)] for name, row in zip(table.index, table.to_numpy(), strict=True)
    ]
    return markdown(["guide", *table], lines)


def by_latency(values: pd.DataFrame, truth: Mapping[str, Floats], latency: Floats) -> str:
    """Return a Markdown table of the taus of guides among the fast, the middle and the slow cells.

    Args:
        values: of metrics, a row a cell, by index.
        truth: accuracies of all cells in the order of the index, by data set.
        latency: of all cells.
    """
    edges = np.quantile(latency, [0, *(share for share, _ in BANDS)])
    parts = [values[(latency[values.index] >= a) & (latency[values.index] <= b)] for a, b in pairwise(edges)]
    names = [*(name for name, guide in GUIDES.items() if set(guide.weights) <= set(values)), "params"]
    guides = {name: GUIDES.get(name, Guide({name: 1})) for name in names}
    lines = [
        [name, *(f"{kendall_tau(guide.scores(part), truth[d][part.index]):.3f}" for part in parts for d in truth)]
        for name, guide in guides.items()
    ]
    counts = [f"{label} ({len(part)})" for (_, label), part in zip(BANDS, parts, strict=True)]
    return markdown(["guide", *(f"{label}, {dataset}" for label in counts for dataset in truth)], lines)


def draw(table: pd.DataFrame, datasets: Sequence[str], path: Path) -> None:
    """Draw the taus of a ranking: a row a guide or metric, a mark a data set."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    table = table.iloc[::-1]
    figure = Figure(figsize=(7, 0.25 * len(table) + 1), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for dataset, marker in zip(datasets, "os^D", strict=False):
        axes.plot(table[f"tau, {dataset}"], range(len(table)), marker, label=dataset, alpha=0.8)
    axes.axhline(sum(name not in GUIDES for name in table.index) - 0.5, color="0.7", linewidth=0.8)
    axes.set_yticks(range(len(table)), list(table.index))
    axes.set_xlabel("Kendall's tau with the accuracy of the trained cell")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=100)


def ndcg(scores: npt.ArrayLike, accuracies: npt.ArrayLike, positions: int = POSITIONS) -> float:
    """Return the normalised discounted cumulative gain of the best networks by score (Tybl 2025).

    The network at position j of the ranking gains ``(2^a - 1) / log2(1 + j)``, with the accuracy a in percent, relative
    to the gain of the true ranking. Networks that tie are in a seeded random order.
    """
    scores, accuracies = np.asarray(scores, float), np.asarray(accuracies, float)
    count = min(positions, len(scores))
    chance = np.random.default_rng(0).permutation(len(scores))
    ranking, best = np.lexsort((chance, -scores))[:count], np.argsort(-accuracies)[:count]
    weights = 1 / np.log2(np.arange(2, count + 2))
    gains = np.exp2(accuracies) - 1
    return float(gains[ranking] @ weights / (gains[best] @ weights))


def cost(values: pd.DataFrame) -> str:
    """Return a Markdown table of seconds a cell, with those of building and initialising the network.

    Counts of parameters and operations are left out: the source ``cost`` has them from parts in a millisecond.
    """
    freerea = values[["freerea_network_s", *(f"{metric}_s" for metric in FREEREA)]].sum(axis=1).mean()
    lines = [["naswot and logsynflow, three initialisations", f"{freerea:.3f}", "1.00"]]
    for name, guide in GUIDES.items():
        names = [f"{metric}_s" for metric in ("network", *guide.weights) if metric not in ("skip", "params", "flops")]
        if set(names) <= set(values) and guide.aggregation != "sum":
            seconds = values[names].sum(axis=1).mean()
            lines.append([name, f"{seconds:.3f}", f"{seconds / freerea:.2f}"])
    return markdown(["metrics", "seconds a cell", "ratio"], lines)


def lowest_where_missing(values: Floats) -> Floats:
    """Return values in which those that do not exist (NaN, infinite, -1e8 as published) are the lowest of a column."""
    values = nan_where_missing(values)
    return np.where(np.isnan(values), np.nanmin(values, axis=0), values)


if __name__ == "__main__":
    as_command(main)
