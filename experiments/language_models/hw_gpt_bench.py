"""HW-GPT-Bench: perplexity predicted from strings, and our memory without training, beside the published values.

``python -m experiments.language_models.hw_gpt_bench perplexity --table gpt_s.csv [--tested gpt_m.csv] [--draws 3]``
``python -m experiments.language_models.hw_gpt_bench memory --table gpt_s.csv``

A table has a row an architecture: ``embed_dim``, ``n_layer``, ``mlp_ratio`` and ``n_head`` (one number a layer),
``bias``, ``perplexity`` and ``float16_memory_mb``, which are predictions of the benchmark's surrogates (Sukthanker
2024). ``perplexity`` trains on random architectures as ``freerea-seval train`` does and judges on all others, or on
those of another space (``--tested``), over all and within one width; beside it are ridge regression and boosted trees
on one-hot choices, and the number of parameters, which is not trained.
``memory`` compares the memory of two models with the published one; nothing is trained.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import spearmanr

from experiments.tables import RowJournal, as_command, experiment_parser, groups, markdown, mean_and_deviation
from freerea_patch import GPTLargeSpace, GPTMediumSpace, GPTSmallSpace, GPTSpace, InputError
from freerea_seval.costs import SpaceCosts
from freerea_seval.predictor.scores import kendall_tau
from freerea_seval.predictor.training import Target, train_predictor
from freerea_seval.strings import SpaceStrings
from freerea_seval.tables import read_csv

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

SPACES = (GPTSmallSpace, GPTMediumSpace, GPTLargeSpace)
COLUMNS = ("networks", "model", "draw", "kendall_tau", "within_widths", "train_s")
OURS, RIDGE, TREES, PARAMETERS = "ours", "one-hot ridge", "one-hot XGBoost", "parameters"


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge predictors of perplexity, or memory, and print a table."""
    parser = experiment_parser("language_models.hw_gpt_bench", __doc__)
    parser.add_argument("what", choices=["perplexity", "memory"])
    parser.add_argument("--table", type=Path, required=True, help="CSV of the architectures of one space")
    parser.add_argument("--networks", type=int, nargs="+", default=[50, 100, 500], help="architectures to train on")
    parser.add_argument("--tested", type=Path, help="CSV of another space to judge by; by default all others")
    parser.add_argument("--most", type=int, help="number of networks to judge by, by default all")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.output("runs/hw_gpt_bench")
    options = parser.parse_args(arguments)
    space, genotypes, table = read_table(options.table)
    if options.what == "memory":
        print(memory(space, genotypes[: options.most], table["float16_memory_mb"].to_numpy()[: options.most]))
        return
    if max(options.networks) >= len(genotypes):
        raise InputError(f"{options.table} has {len(genotypes)} architectures, too few for {max(options.networks)}")
    other = None if options.tested is None else read_table(options.tested)
    if other is not None and not {RIDGE, TREES}.isdisjoint(options.models):
        raise InputError("one-hot choices of one space say nothing of another; add --models ours parameters")
    config = {"space": space.name, "architectures": len(genotypes), "most": options.most}
    config |= {"tested": None if other is None else other[0].name}
    journal = RowJournal(options.output, config, COLUMNS)
    jobs = product(options.networks, options.models, range(options.draws))
    perplexity = table["perplexity"].to_numpy()
    for networks, model, draw in journal.missing(COLUMNS[:3], jobs, "trainings"):
        order = np.random.default_rng(draw).permutation(len(genotypes))
        train, rest = order[:networks], order[networks:]
        known = Architectures(space, [genotypes[i] for i in train])
        if other is None:
            asked, true = Architectures(space, [genotypes[i] for i in rest]), perplexity[rest]
        else:
            asked, true = Architectures(*other[:2]), other[2]["perplexity"].to_numpy()
        asked, true = Architectures(asked.space, asked.genotypes[: options.most]), true[: options.most]
        began = time.perf_counter()
        predicted = MODELS[model](known, perplexity[train], asked, draw)
        seconds = time.perf_counter() - began
        widths = np.array([asked.space.genes(genotype)["width"] for genotype in asked.genotypes])
        within = [kendall_tau(true[widths == width], predicted[widths == width]) for width in np.unique(widths)]
        row = {"networks": networks, "model": model, "draw": draw, "kendall_tau": f"{kendall_tau(true, predicted):.6g}"}
        journal.append({**row, "within_widths": f"{np.mean(within):.6g}", "train_s": f"{seconds:.1f}"})
    print(summary(journal.frame()))


class Architectures(NamedTuple):
    """Architectures of a space."""

    space: GPTSpace
    genotypes: Sequence[str]


def read_table(path: Path) -> tuple[GPTSpace, list[str], pd.DataFrame]:
    """Return the space of a table's architectures, their genotypes, and the table.

    Raises:
        InputError: the table cannot be read, lacks a column, or has an architecture of none of the spaces.
    """
    table = read_csv(path)
    names = ("embed_dim", "n_layer", "mlp_ratio", "n_head", "bias", "perplexity", "float16_memory_mb")
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise InputError(f"{path}: expected the columns {', '.join(names)}, but {', '.join(missing)} is missing")
    for name in names[5:]:
        table[name] = pd.to_numeric(table[name], errors="coerce")
        if not np.isfinite(table[name]).all():
            raise InputError(f"{path}: expected numbers in the column {name}")
    rows = zip(*(table[name].astype(str) for name in names[:5]), strict=True)
    genotypes = [
        f"w{width}:l{layers}:b{bias}:h{heads.replace(' ', '-')}:r{ratios.replace(' ', '-')}"
        for width, layers, ratios, heads, bias in rows
    ]
    widths = set(table["embed_dim"].astype(str))
    for space in (kind() for kind in SPACES):
        if widths <= set(space.choices()["width"]):
            for genotype in genotypes:
                space.check(genotype)
            return space, genotypes, table
    raise InputError(f"{path}: its widths {', '.join(sorted(widths))} are of none of the spaces gpt-s, gpt-m and gpt-l")


def one_hot(architectures: Architectures) -> Values:
    """Return which value each gene has, ``(n, values)``; of a layer that a network lacks, none."""
    space = architectures.space
    columns = [(name, value) for name, values in space.choices().items() for value in values]
    rows = []
    for genotype in architectures.genotypes:
        genes = space.genes(genotype)
        layers = int(genes["layers"])
        rows.append([genes[name] == value and int(name.partition(" ")[2] or 0) <= layers for name, value in columns])
    return np.array(rows, dtype=np.float64)


def _ours(known: Architectures, values: Values, asked: Architectures, seed: int) -> Values:
    strings, others = (SpaceStrings(part.space, "functional").strings(part.genotypes) for part in (known, asked))
    target = Target("perplexity", "", "min")
    name = known.space.name
    predictor, _ = train_predictor(list(strings), values, [target], space_name=name, view="functional", seed=seed)
    return np.asarray(predictor.predict(list(others))).reshape(len(asked.genotypes))


def _ridge(known: Architectures, values: Values, asked: Architectures, seed: int) -> Values:
    from sklearn.linear_model import RidgeCV

    return np.asarray(RidgeCV(np.logspace(-3, 3, 13)).fit(one_hot(known), values).predict(one_hot(asked)))


def _trees(known: Architectures, values: Values, asked: Architectures, seed: int) -> Values:
    """Fit boosted trees, of the depth and number that predict five folds best."""
    from sklearn.model_selection import GridSearchCV
    from xgboost import XGBRegressor

    grid = {"max_depth": [2, 4, 6], "n_estimators": [100, 400]}
    search = GridSearchCV(XGBRegressor(learning_rate=0.05, subsample=0.8, n_jobs=1, random_state=seed), grid, cv=5)
    return np.asarray(search.fit(one_hot(known), values).predict(one_hot(asked)), dtype=np.float64)


def _parameters(known: Architectures, values: Values, asked: Architectures, seed: int) -> Values:
    costs = SpaceCosts(asked.space)
    return -np.array([costs.counts(genotype).params for genotype in asked.genotypes], dtype=np.float64)


#: Each learns values of known architectures, and predicts those of others.
MODELS: dict[str, Callable[[Architectures, Values, Architectures, int], Values]] = {
    OURS: _ours,
    RIDGE: _ridge,
    TREES: _trees,
    PARAMETERS: _parameters,
}


def memory(space: GPTSpace, genotypes: Sequence[str], published_mb: Values) -> str:
    """Return a Markdown table of two models of memory beside the published one.

    ``float16`` is what serving in float16 takes: weights and the results that live at once, of one sequence.
    ``autocast`` is what the benchmark reads (its public code): memory that is allocated behind a pass under autocast,
    which has float32 weights and keeps a float16 copy of each projection.
    """
    costs = SpaceCosts(space)
    serving, autocast = [], []
    for genotype in genotypes:
        params = costs.counts(genotype).params
        genes = space.genes(genotype)
        uncast = int(genes["width"]) * (space.vocabulary + 4 * int(genes["layers"]) + 2)  # embedding and norms
        serving.append(costs.inference_memory(genotype) / 2 / 1e6)
        autocast.append((4 * params + 2 * (params - uncast)) / 1e6)
    widths = np.array([space.genes(genotype)["width"] for genotype in genotypes])
    lines = []
    for name, values in (("float16", np.array(serving)), ("autocast", np.array(autocast))):
        within = [spearmanr(values[widths == w], published_mb[widths == w]).statistic for w in space.choices()["width"]]
        lines.append(
            [
                name,
                len(values),
                f"{spearmanr(values, published_mb).statistic:.3f}",
                " / ".join(f"{rho:.2f}" for rho in within),
                f"{np.median(values / published_mb):.2f}",
                f"{np.median(np.abs(values / published_mb - 1)):.2f}",
            ]
        )
    header = ["model", "networks", "Spearman", "within each width", "ours / published", "median error"]
    return markdown(header, lines)


def summary(rows: pd.DataFrame) -> str:
    """Return a Markdown table, a line a number of networks and model."""
    lines = [
        [
            networks,
            model,
            len(group),
            mean_and_deviation(group["kendall_tau"]),
            mean_and_deviation(group["within_widths"]),
            f"{group['train_s'].mean():.1f}",
        ]
        for (networks, model), group in groups(rows, networks=None, model=MODELS)
    ]
    return markdown(["networks", "model", "draws", "tau-b", "within one width", "seconds"], lines)


if __name__ == "__main__":
    as_command(main)
