"""A small program with the files and seams of FreeREA's public code, and tables of made-up metrics, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

RUN_SEARCH = '''#!/usr/bin/env python3
"""Search, some times."""
import os
from argparse import ArgumentParser

from analyzer import Analyzer
from nas_spaces import NASBench101, NATSBench
from our_baselines import freeREAMinus
from search import search
from utils import get_nas_archive_path, seed_all

parser = ArgumentParser()
parser.add_argument("--algo", default="ours", choices=("ours", "freeREA-"))
parser.add_argument("--save", type=bool, default=False)
parser.add_argument("--max-params", type=float, default=float("inf"))
parser.add_argument("--initial-pop", type=int, default=6)
parser.add_argument("--tournament-size", type=int, default=3)
parser.add_argument("--max-time", type=float, default=31 / 60)
parser.add_argument("--repeat", type=int, default=2)
parser.add_argument("--space", default="nats", choices=("nats", "nasbench101"))
parser.add_argument("--dataset", choices=("cifar10", "cifar100", "ImageNet16-120"), default="cifar10")
parser.add_argument("--metrics-root", default="cached_metrics")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()

TEXT = """a text
  of two lines"""
seed_all(args.seed)
tables = os.path.join(args.metrics_root, args.space)
if args.space == "nats":
    api = NATSBench(get_nas_archive_path(args.space), args.dataset, metric_root=tables)
else:
    api = NASBench101(get_nas_archive_path(args.space))
analyzer = Analyzer(api, args.dataset, args.algo)
for _ in range(args.repeat):
    # one search
    analyzer.new_run()
    bounds = {"max_flops": float("inf"), "max_params": args.max_params, "max_time": args.max_time}
    if args.algo == "ours":
        top, minutes = search(api, N=args.initial_pop, n=args.tournament_size, analyzer=analyzer, **bounds)
    else:
        top, minutes = freeREAMinus(api, N=args.initial_pop, analyzer=analyzer, **bounds)
    print(f"top {top}, {TEXT!r}")
if args.save:
    analyzer.save()
'''

NAS_UTILS = """
import time
import numpy as np
from nas_spaces import Exemplar

METRICS = ["naswot", "logsynflow", "skip"]


def population_init(api, N, max_flops, max_params):
    drawn = []
    while len(drawn) < N:
        exemplar = api.random()
        if is_feasible(exemplar, max_flops, max_params):
            drawn.append(exemplar)
    return drawn


def is_feasible(exemplar, max_flops, max_params):
    cost = exemplar.get_cost_info()
    return cost["flops"] <= max_flops and cost["params"] <= max_params


def return_top_k(exemplars, K=3, metric_names=[]):
    exemplars = [e for e in exemplars if e.born]
    total = np.zeros(len(exemplars))
    for name in metric_names:
        column = np.array([e.skip() if name == "skip" else e.get_metric(name) for e in exemplars])
        total = total + column / (np.abs(column).max() + 1e-9)
    for exemplar, rank in zip(exemplars, total):
        exemplar.rank = rank
    return sorted(exemplars, key=lambda e: -e.rank)[:K]


def clean_history(history, max_params, max_flops):
    return {g: e for g, e in history.items() if e.get_cost_info()["params"] <= max_params}


def get_top_k_accuracies(exemplars, K=3, metrics=[]):
    top = return_top_k(exemplars, K, metrics)
    return [(e.idx, e.get_accuracy()) for e in top], [e.genotype for e in top], [e.rank for e in top]


def info(api, exemplars, history, start, metrics, max_flops, max_params):
    kept = clean_history(history, max_params, max_flops).values()
    accuracies, _, _ = get_top_k_accuracies(kept, 3, metrics)
    return accuracies[0][1], (api.total_metrics_time(kept, metrics) + time.time() - start) / 60
"""

FILES = {
    "run_search.py": RUN_SEARCH,
    "nas_utils.py": NAS_UTILS,
    "analyzer.py": """
import time
from nas_utils import get_top_k_accuracies


class Analyzer:
    def __init__(self, api, dataset, algorithm):
        self.api, self.dataset, self.algorithm, self.lines = api, dataset, algorithm, []

    def new_run(self):
        self.lines.append("run")

    def update(self, history, start, metrics):
        (best, *_), _, _ = get_top_k_accuracies(list(history.values()), 1, metrics)
        self.lines.append(str(best[1]))

    def save(self):
        with open(f"results/{self.api.get_api_name()}/{self.dataset}/{self.algorithm}", "w") as file:
            file.write("\\n".join(self.lines))
""",
    "datasets.py": "",
    "genotypes.py": """
def mutate(api, parents, generation):
    children = [api.mutation(parent) for parent in parents]
    for child in children:
        child.generation = generation
    return children
""",
    "metrics/__init__.py": "from thop import profile\n",
    "utils.py": """
import os
import random
import numpy as np
import torch


def seed_all(seed):
    torch.backends.cudnn.deterministic = True
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def get_nas_archive_path(name):
    return os.environ.get(f"{name.upper()}_PATH")
""",
    "pruning.py": """
from nas_utils import *


def prune_flops_params(exemplars, history, max_flops, max_params):
    history = clean_history(history, max_params, max_flops)
    return [e for e in exemplars if e.get_cost_info()["params"] <= max_params], history


def prune_tfm(exemplars, history, K, metrics):
    for exemplar in exemplars:
        exemplar.born = True
    return return_top_k(exemplars, K, metric_names=metrics), history


def prune(exemplars, history, max_flops, max_params, K, metrics):
    exemplars, history = prune_flops_params(exemplars, history, max_flops, max_params)
    return prune_tfm(exemplars, history, K, metrics)
""",
    "search.py": """
import random
from genotypes import mutate
from nas_utils import *
from pruning import prune, prune_flops_params


def search(api, N, n, max_flops, max_params, max_time, analyzer=None):
    start = time.time()
    exemplars = population_init(api, N, max_flops, max_params)
    history = {e.genotype: e for e in exemplars}
    bounds = {"max_flops": max_flops, "max_params": max_params}
    exemplars, history = prune(exemplars, history, K=N, metrics=METRICS, **bounds)
    minutes, step = 0, 0
    while minutes <= max_time:
        while True:
            parents = return_top_k(random.sample(exemplars, min(n, len(exemplars))), 2, metric_names=METRICS)
            step += 1
            new = [e for e in mutate(api, parents, step) if e.genotype not in history]
            exemplars, history = exemplars + new, {**history, **{e.genotype: e for e in new}}
            exemplars, history = prune_flops_params(exemplars, history, **bounds)
            if len(exemplars) > N:
                break
        exemplars, history = prune(exemplars, history, K=N, metrics=METRICS, **bounds)
        minutes = (api.total_metrics_time(history.values(), metrics=METRICS) + time.time() - start) / 60
        analyzer.update(history, start, METRICS)
    return info(api, exemplars, history, start, metrics=METRICS, **bounds)
""",
    "our_baselines.py": """
import random
from genotypes import mutate
from nas_utils import *


def freeREAMinus(api, N, max_flops, max_params, max_time, n=5, analyzer=None):
    start = time.time()
    population = population_init(api, N, max_flops, max_params)
    for exemplar in population:
        exemplar.born = True
    history = {e.genotype: e for e in population}
    minutes, step = 0, 0
    while minutes <= max_time:
        step += 1
        (child,) = mutate(api, return_top_k(random.choices(population, k=n), 1, METRICS), step)
        if is_feasible(child, max_flops, max_params):
            child.born = True
            history[child.genotype] = child
            population = [*population[1:], child]
        minutes = (api.total_metrics_time(history.values(), metrics=METRICS) + time.time() - start) / 60
        analyzer.update(history, start, METRICS)
    return info(api, population, history, start, metrics=METRICS, max_flops=max_flops, max_params=max_params)
""",
    "nas_spaces/__init__.py": """
from .base import Exemplar
from .nats import NATSBench
from .nasbench101 import NASBench101
""",
    "nas_spaces/base.py": """
class Exemplar:
    def __init__(self, space, idx, genotype):
        self.space, self.idx, self.genotype = space, idx, genotype
        self.generation, self.rank, self.born = 0, None, False

    def get_metric(self, name):
        return self.space._get_metric_val(self.idx, name)

    def get_cost_info(self):
        return self.space.get_cost_info(self.idx)

    def skip(self):
        reached = [level - int(edge[-1]) for level, node in enumerate(self.genotype.split("+"))
                   for edge in node.strip("|").split("|") if edge.startswith("skip")]
        return sum(reached) / len(reached) if reached else 0

    def get_accuracy(self):
        return self.space.get_accuracy(self)
""",
    "nas_spaces/nats.py": """
import os
import random
import pandas as pd
from nats_bench import create
from xautodl.models import get_cell_based_tiny_net
from .base import Exemplar

OPERATIONS = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]


class NATSBench:
    def __init__(self, path, dataset, verbose=False, metric_root=None):
        self._dataset = dataset
        self._official_api = create(path, "tss", fast_mode=True, verbose=verbose)
        self.metrics_cache = pd.DataFrame()
        for name in sorted(os.listdir(os.path.join(metric_root, dataset))):
            table = pd.read_csv(os.path.join(metric_root, dataset, name))
            if name != "accuracies.csv":
                self.metrics_cache[table.columns[1]] = table[table.columns[1]]
                self.metrics_cache[table.columns[1] + "_time=[s]"] = table["time=[s]"]

    @staticmethod
    def get_api_name():
        return "nats"

    def __len__(self):
        return len(self._official_api)

    def __getitem__(self, index):
        return Exemplar(self, index, self._official_api.get_net_config(index, self._dataset)["arch_str"])

    def random(self):
        return self[random.randint(0, len(self) - 1)]

    def get_index(self, genotype):
        return self._official_api.query_index_by_arch(genotype)

    def get_accuracy(self, exemplar):
        info = self._official_api.get_more_info(exemplar.idx, self._dataset, hp=200, is_random=False)
        return info["test-accuracy"]

    def get_cost_info(self, index):
        return self._official_api.get_cost_info(index, self._dataset)

    def _get_metric_val(self, index, name):
        return self.metrics_cache.at[index, name]

    def total_metrics_time(self, exemplars, metrics):
        columns = [f"{name}_time=[s]" for name in metrics if name not in ("skip", "params")]
        return self.metrics_cache.loc[[e.idx for e in exemplars], columns].sum(axis=1).sum()

    def mutation(self, exemplar):
        edge = random.randint(0, 5)
        parts, count = exemplar.genotype.split("|"), -1
        for i, part in enumerate(parts):
            if "~" in part:
                count += 1
                if count == edge:
                    parts[i] = random.choice(OPERATIONS) + part[-2:]
        return self[self.get_index("|".join(parts))]
""",
    "nas_spaces/nasbench101.py": """
from ._nasbench101.original_api import api


class NASBench101:
    def __init__(self, path):
        self._api = api.NASBench(path)
""",
    "nas_spaces/_nasbench101/__init__.py": "",
    "nas_spaces/_nasbench101/original_api/__init__.py": "raise RuntimeError('needs an old protobuf')\n",
}
COUNT = 15_625


def write_checkout(folder: Path, datasets: tuple[str, ...] = ("cifar10",)) -> Path:
    """Write the program, and tables of naswot, logsynflow (a second each), nregions (100 seconds) and accuracies."""
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    for number, dataset in enumerate(datasets):
        tables = folder / "cached_metrics" / "nats" / dataset
        tables.mkdir(parents=True)
        draw = np.random.default_rng(number)
        for metric, seconds in (("naswot", 1), ("logsynflow", 1), ("nregions", 100)):
            rows = [f"{i},{value:.6f},{seconds}" for i, value in enumerate(draw.uniform(1, 9, COUNT))]
            (tables / f"{metric}.csv").write_text("\n".join([f"index,{metric},time=[s]", *rows, ""]))
        rows = [f"{i},{value:.4f}" for i, value in enumerate(draw.uniform(10, 90, COUNT))]
        (tables / "accuracies.csv").write_text("\n".join(["index,accuracy", *rows, ""]))
    return folder
