"""HW-GPT-Bench: how metrics of untrained networks and costs rank the published perplexity.

``python -m experiments.language_models.guides --table gpt_s.csv [--networks 200] [--vocabulary 1000]``

The table is that of :mod:`experiments.language_models.hw_gpt_bench`. Untrained networks read random tokens; with
``--vocabulary``, their embedding and head, which are equal within one width, are smaller. Seeded halves of the
architectures are for choosing and for judging: a metric beside ``decoder_params`` is chosen on the first half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from experiments.language_models.hw_gpt_bench import read_table
from experiments.tables import RowJournal, as_command, experiment_parser, markdown
from experiments.training_free.guides import lowest_where_missing
from experiments.training_free.zero_cost import FREEREA
from freerea_patch import GPTSpace, InputError, TrainingFree
from freerea_patch.history import aggregate
from freerea_seval.costs import SpaceCosts
from freerea_seval.predictor.scores import kendall_tau
from freerea_seval.proxies import ALL_PROXIES, NOT_OF_TOKENS
from freerea_seval.proxies.live import ZeroCost

Floats = npt.NDArray[np.float64]

#: Costs of the published networks, whose context is 1,024 tokens.
COSTS = ("decoder_params", "params", "macs", "token_macs", "kv_cache", "serving_memory", "layers")
#: ``params`` and ``flops`` are costs, too; the others are computed on live networks.
LIVE = (*FREEREA, *(name for name in ALL_PROXIES if name not in (*NOT_OF_TOKENS, "params", "flops")))
BAR = "decoder_params"
#: Weights of a metric beside the bar.
WEIGHTS = (0.25, 0.5, 1.0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute the metrics of random architectures, and print how they rank perplexity."""
    parser = experiment_parser("language_models.guides", __doc__)
    parser.add_argument("--table", type=Path, required=True, help="CSV of the architectures of one space")
    parser.add_argument("--networks", type=int, default=200, help="number of architectures (default: 200)")
    parser.add_argument("--length", type=int, default=32, help="tokens of a sequence (default: 32)")
    parser.add_argument("--vocabulary", type=int, help="tokens of the live networks, by default all")
    parser.add_argument("--metrics", nargs="+", default=[*LIVE], choices=LIVE, metavar="METRIC")
    parser.shared("--batch-size", default=8)
    parser.shared("--seed")
    parser.output("runs/gpt_guides")
    options = parser.parse_args(arguments)
    space, genotypes, table = read_table(options.table)
    if not 8 <= options.networks <= len(genotypes):
        raise InputError(f"--networks: expected from 8 to the {len(genotypes)} of the table, got {options.networks}")
    live = with_vocabulary(space, options.vocabulary or space.vocabulary)
    shared = {"batch": "tokens", "batch_size": options.batch_size, "length": options.length, "seed": options.seed}
    names = [name for name in options.metrics if name not in FREEREA]
    freerea = [name for name in options.metrics if name in FREEREA]
    proxies, metrics = ZeroCost(live, **shared), TrainingFree(live, **shared, initialisations=1)
    columns = ["index", "width", *COSTS, *options.metrics, *(f"{name}_s" for name in options.metrics)]
    config = {"space": space.name, "vocabulary": live.vocabulary, **shared}
    journal = RowJournal(options.output, config, columns)
    costs = SpaceCosts(space)
    order = np.random.default_rng(options.seed).permutation(len(genotypes))[: options.networks]
    for (index,) in journal.missing(["index"], [(int(i),) for i in order], f"{len(order)} networks"):
        genotype = genotypes[index]
        row: dict[str, object] = {"index": index, **costs_of(space, costs, genotype)}
        for source, asked in ((proxies, names), (metrics, freerea)):
            if asked:
                (measured,) = source.evaluate([genotype], asked)
                row |= {name: measured[name].value for name in asked}
                row |= {f"{name}_s": f"{measured[name].seconds:.4f}" for name in asked}
        journal.append(row)
    rows = journal.frame().set_index("index").loc[list(order)]
    print(summary(rows.assign(perplexity=table["perplexity"].to_numpy()[order]), options.metrics))


def with_vocabulary(space: GPTSpace, vocabulary: int) -> GPTSpace:
    """Return the space with another number of tokens, whose genotypes are the same."""
    choices = space.choices()
    width, layers, heads, ratio = ([*map(int, choices[key])] for key in ("width", "layers", "heads 1", "ratio 1"))
    return GPTSpace(width, layers, heads, ratio, context=space.context, vocabulary=vocabulary, parallel=True, rotary=32)


def costs_of(space: GPTSpace, costs: SpaceCosts, genotype: str) -> dict[str, float]:
    """Return the width and the costs of a network: in millions, or in MB."""
    genes, counts, serving = space.genes(genotype), costs.counts(genotype), costs.serving(genotype)
    return {
        "width": int(genes["width"]),
        "layers": int(genes["layers"]),
        "params": counts.params / 1e6,
        "macs": counts.macs / 1e6,
        "decoder_params": serving.decoder_params / 1e6,
        "token_macs": serving.token_macs / 1e6,
        "kv_cache": serving.kv_cache_bytes / 1e6,
        "serving_memory": serving.memory_bytes / 1e6,
    }


def taus(scores: Floats, rows: pd.DataFrame) -> tuple[float, float]:
    """Return Kendall's tau-b with low perplexity over all networks, and its mean within one width."""
    truth, widths = -rows["perplexity"].to_numpy(float), rows["width"].to_numpy()
    parts = [widths == width for width in np.unique(widths) if np.sum(widths == width) > 1]
    # A constant metric ranks nothing, and has no tau.
    everywhere, *within = (np.nan_to_num(kendall_tau(scores[part], truth[part])) for part in (widths > 0, *parts))
    return float(everywhere), float(np.mean(within or [0.0]))


def combined(rows: pd.DataFrame, weights: Mapping[str, float]) -> Floats:
    """Return the mean of the logarithms of ranks in some metrics, the score of ``preset: guided``.

    A metric that falls with better networks has a negative weight.
    """
    values = np.stack([np.sign(w) * rows[name].to_numpy(float) for name, w in weights.items()], axis=1)
    return aggregate(lowest_where_missing(values), np.abs(list(weights.values())), "log-ranks")


def share_better(scores: Floats, rows: pd.DataFrame, draws: int = 200) -> float:
    """Return in which share of bootstrap samples of networks scores rank within widths better than :data:`BAR`."""
    rng, bar = np.random.default_rng(0), rows[BAR].to_numpy(float)
    better = 0.0
    for _ in range(draws):
        sample = rng.integers(len(rows), size=len(rows))
        score, other = (taus(values[sample], rows.iloc[sample])[1] for values in (scores, bar))
        better += 1.0 if score > other else 0.5 if score == other else 0.0
    return better / draws


def choose(rows: pd.DataFrame, metrics: Sequence[str]) -> dict[str, float]:
    """Return the metric beside :data:`BAR`, with their weights, that ranks best: overall and within widths."""
    candidates = [{BAR: 1.0, name: sign * w} for name in metrics for w in WEIGHTS for sign in (1, -1)]
    return max(candidates, key=lambda weights: sum(taus(combined(rows, weights), rows)))


def summary(rows: pd.DataFrame, metrics: Sequence[str]) -> str:
    """Return a Markdown table: a line a metric, and one of the chosen combination.

    The column "better than the bar" is :func:`share_better` of the networks for judging.
    """
    choosing, judging = rows.iloc[::2], rows.iloc[1::2]
    usable = [name for name in metrics if np.isfinite(rows[name].to_numpy(float)).any()]
    chosen = choose(choosing, [*usable, *(cost for cost in COSTS if cost != BAR)])
    guides: dict[str, Mapping[str, float]] = {name: {name: 1.0} for name in (*COSTS, *usable)}
    ordered = sorted(guides, key=lambda name: -sum(taus(combined(choosing, guides[name]), choosing)))
    label = f"chosen: {' and '.join(f'{name} ({weight:g})' for name, weight in chosen.items())}"
    lines = []
    for name in (label, *ordered):
        weights = guides.get(name, chosen)
        values = [taus(combined(part, weights), part) for part in (rows, choosing, judging)]
        seconds = f"{rows[f'{name}_s'].median():.2f}" if name in usable else ""
        missing = int((~np.isfinite(rows[name].to_numpy(float))).sum()) if name in usable else ""
        better = f"{share_better(combined(judging, weights), judging):.2f}"
        lines.append([name, *(f"{tau:.3f}" for pair in values for tau in pair), better, seconds, missing])
    header = [f"{what}{part}" for part in ("", ", choosing", ", judging") for what in ("tau-b", "within one width")]
    return markdown([f"{len(rows)} networks", *header, "better than the bar", "seconds", "no value"], lines)


if __name__ == "__main__":
    as_command(main)
