"""Which mechanisms of the predictor pay: each is switched off or simplified in turn, on NAS-Bench-201.

``python -m experiments.predictor_ablation large --cache cached_metrics --hw-nas-bench FILE --robustness TABLE.csv``
``python -m experiments.predictor_ablation small ...``

Every variant is the complete predictor, with constants and functions of its modules replaced. Variants share most of
their trainings. These are made once, and their CPU time is charged to every variant that asks for them.

Rule: a mechanism stays if it is worth at least 0.002 Kendall tau-b on the mean of the nine metrics that SEval-NAS
reports (:data:`NINE`) on the published split, or 0.005 on the split without twins.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeVar
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from experiments.predictors import GROUPS, judge, split_of, strings_of
from experiments.tables import RowJournal, as_command, markdown
from experiments.targets import TARGETS, Target, add_tables, read_targets
from freerea_patch import InputError
from freerea_patch.errors import unknown_name
from freerea_seval.predictor.features.matrix import Matrix, StringFeatures
from freerea_seval.predictor.models import by_name, forests
from freerea_seval.predictor.models.forests import KINDS, Forest, Growth, Kind
from freerea_seval.predictor.seval import SEvalPredictor
from freerea_seval.predictor.splits import Split
from freerea_seval.progress import terminal_progress
from freerea_seval.strings.views import View

Values = npt.NDArray[np.float64]
Rows = Sequence[Mapping[str, str]]
_Made = TypeVar("_Made")

#: Metrics of the rule: those of Table 2 of SEval-NAS, and accuracy under attack.
NINE = (
    "cifar10",
    "cifar100",
    "ImageNet16-120",
    "pgd",
    "edgegpu_latency",
    "raspi4_latency",
    "pixel3_latency",
    "eyeriss_latency",
    "fpga_latency",
)
#: Cells of the small samples are judged on so many others, as in :mod:`experiments.predictors`.
_JUDGED_ON = 3000
#: Strings from which the prediction rate is measured.
_TIMED = 1000
#: Predictions are timed so often, and the fastest time counts.
_REPEATS = 3
#: Large forests are grown to at least so many trees, so that variants with fewer trees take a prefix of them.
_AT_LEAST = 400

_FORESTS = "freerea_seval.predictor.models.forests"
_BOOSTED = "freerea_seval.predictor.models.boosted"
_CHOOSING = "freerea_seval.predictor.choosing"
_SEVAL = "freerea_seval.predictor.seval"

#: The forests of the predictor, and others that a single forest could be.
ALL_KINDS: Mapping[str, Kind] = {
    **KINDS,
    "ordered": Kind(),
    "deep": Kind(deeper=2),
    "leaves": Kind(leaf=3),
    "huber": Kind(objective="reg:pseudohubererror"),
}


@dataclass(frozen=True)
class Variant:
    """A predictor with something switched off or replaced.

    Attributes:
        mechanism: what is tested.
        patches: new values of module attributes, by dotted path.
        scale: argument of the predictor.
        blank: what is switched off in a predictor that is fitted without the switch, as it affects predictions alone.
    """

    mechanism: str
    patches: Mapping[str, object] = field(default_factory=dict)
    scale: str = "auto"
    blank: Literal["", "levels", "constants"] = ""


def only(*kinds: str) -> dict[str, object]:
    """Return the patches that leave these kinds of forests to the model ``ordered``."""
    return {f"{_BOOSTED}.KINDS": {kind: ALL_KINDS[kind] for kind in kinds}}


def fixed(trees: int, *kinds: str, **settings: float) -> dict[str, object]:
    """Return the patches that give every forest of these kinds a fixed number of trees, without pruning.

    Args:
        trees: how many.
        kinds: of forests, of which the mean predicts.
        settings: other arguments of the model.
    """

    def unpruned(
        name: str, model: object, strings: Sequence[str], targets: Values, proxies: Values | None
    ) -> Mapping[str, Any]:
        growth = [dict.fromkeys(kinds, (trees, 1))] * targets.shape[1]
        return {"growth": growth, **settings} if name == "ordered" else {}

    size = {"ordered": {"n_estimators": trees, **settings}}
    return {**only(*kinds), f"{_CHOOSING}.prune": unpruned, f"{_CHOOSING}.UNPRUNED": size}


def candidates(*names: str) -> dict[str, object]:
    """Return the patches that leave these models to the cross-validation of ``auto``."""
    return {f"{_CHOOSING}._candidates": lambda model, networks, proxies, base: list(names)}


def share(trees: float) -> dict[str, object]:
    """Return the patches that fix the share of the trees in their mean with the line on costs."""
    return {f"{_BOOSTED}.BoostedPredictor._best_share": lambda self, *arguments: trees}


def plain_is(kind: Kind) -> dict[str, object]:
    """Return the patches that make the forest of the model ``boosted`` one of another kind."""
    return {f"{_FORESTS}.KINDS": {**ALL_KINDS, "plain": kind}}


FULL = "full"
#: Variants for thousands of networks. The first one is what the others are compared with.
LARGE: Mapping[str, Variant] = {
    FULL: Variant("nothing"),
    "one forest: ordered": Variant("forests", only("ordered")),
    "levels off": Variant("levels", blank="levels"),
    "constants off": Variant("constants", blank="constants"),
    "one forest: plain (no order)": Variant("forests", only("plain")),
    "one forest: shallow": Variant("forests", only("shallow")),
    "one forest: median": Variant("forests", only("median")),
    "one forest: coarse": Variant("forests", only("coarse")),
    "one forest: coarse-median": Variant("forests", only("coarse-median")),
    "one forest: leaves (3 times the leaf)": Variant("forests", only("leaves")),
    "one forest: deep (depth 9)": Variant("forests", only("deep")),
    "one forest: pseudo-Huber": Variant("forests", only("huber")),
    "two forests: ordered, median": Variant("forests", only("ordered", "median")),
    "two forests: plain, coarse-median": Variant("forests", only("plain", "coarse-median")),
    "five forests, trees not pruned (400)": Variant(
        "pruning", {f"{_FORESTS}._PRUNED": (), f"{_CHOOSING}.UNPRUNED": {"ordered": {"n_estimators": 400}}}
    ),
    "five forests, pruned, mean of all": Variant("selection", {f"{_BOOSTED}._ENOUGH": sys.maxsize}),
    "five forests of 400 trees, mean of all": Variant("pruning, selection", fixed(400, *KINDS)),
    "ordered, 200 trees": Variant("forests, pruning", fixed(200, "ordered")),
    "ordered, 400 trees": Variant("forests, pruning", fixed(400, "ordered")),
    "ordered, 600 trees": Variant("forests, pruning", fixed(600, "ordered")),
    "ordered, 800 trees": Variant("forests, pruning", fixed(800, "ordered")),
    "ordered, 400 trees, learning rate 0.1": Variant("forests, pruning", fixed(400, "ordered", learning_rate=0.1)),
    "plain, 400 trees": Variant("forests, pruning", fixed(400, "plain")),
    "deep, 400 trees": Variant("forests, pruning", fixed(400, "deep")),
    "deep, 600 trees": Variant("forests, pruning", fixed(600, "deep")),
    "median, 400 trees": Variant("forests, pruning", fixed(400, "median")),
    "coarse, 400 trees": Variant("forests, pruning", fixed(400, "coarse")),
    "coarse-median, 400 trees": Variant("forests, pruning", fixed(400, "coarse-median")),
    "no mlp": Variant("mlp", candidates("ordered")),
    "ordered, no mlp": Variant("forests, mlp", {**only("ordered"), **candidates("ordered")}),
    "ordered, 400 trees, no mlp": Variant("forests, pruning, mlp", {**fixed(400, "ordered"), **candidates("ordered")}),
    "ordered, always with mlp": Variant("forests, mlp", {**only("ordered"), **candidates("ordered+mlp")}),
    "ordered, 400 trees, always with mlp": Variant(
        "forests, pruning, mlp", {**fixed(400, "ordered"), **candidates("ordered+mlp")}
    ),
    "blend scale": Variant("scales", scale="blend"),
    "ordered, blend scale": Variant("forests, scales", only("ordered"), scale="blend"),
    "ordered, linear scale": Variant("forests, scales", only("ordered"), scale="linear"),
    "ordered, 400 trees, blend scale": Variant("forests, pruning, scales", fixed(400, "ordered"), scale="blend"),
    "ordered, 400 trees, always with mlp, blend scale": Variant(
        "forests, pruning, mlp, scales", {**fixed(400, "ordered"), **candidates("ordered+mlp")}, scale="blend"
    ),
}
#: Variants for tens and hundreds of networks.
SMALL: Mapping[str, Variant] = {
    FULL: Variant("nothing"),
    "shares off (pick the best)": Variant("shares", {f"{_CHOOSING}._FEW": 0}),
    "always the mean of boosted and gp": Variant("shares, choice", candidates("boosted+gp")),
    "boosted alone": Variant("choice", candidates("boosted")),
    "gp alone": Variant("choice", candidates("gp")),
    "line off": Variant("line", share(1.0)),
    "trees off (line alone)": Variant("line", share(0.0)),
    "line, half and half": Variant("line", share(0.5)),
    "line off, always the mean of boosted and gp": Variant(
        "line, shares, choice", {**share(1.0), **candidates("boosted+gp")}
    ),
    "boosted with order": Variant("forests", plain_is(Kind())),
    "boosted with order, always the mean": Variant(
        "forests, shares, choice", {**plain_is(Kind()), **candidates("boosted+gp")}
    ),
    "levels off": Variant("levels", blank="levels"),
    "constants off": Variant("constants", blank="constants"),
}
LARGE_ROWS = (
    "split",
    "group",
    "seed",
    "variant",
    "metric",
    "kendall_tau",
    "kendall_tau_all",
    "coverage",
    "train_s",
    "networks_a_s",
    "models_us",
    "choice",
)
SMALL_ROWS = ("networks", "metric", "draw", *LARGE_ROWS[3:4], *LARGE_ROWS[5:])
#: What is the same for all metrics of a fit.
_MEASURED = ("train_s", "networks_a_s", "models_us", "choice")


class Ledger:
    """Makes equal trainings once, and tells the CPU time that each variant would take on its own.

    Use as a context manager: within it, the predictor asks the ledger for forests, features and other models.

    Attributes:
        credit: seconds that trainings would have taken beyond what they took.
        remembers: whether features are made once, too.
    """

    def __init__(self) -> None:
        self.credit = 0.0
        self.remembers = True
        self._made: dict[object, tuple[Any, float]] = {}
        self._patches = ExitStack()
        self._grow, self._train = forests.grow, by_name.train
        self._fit_transform, self._matrix = StringFeatures.fit_transform, StringFeatures.matrix

    def __enter__(self) -> Ledger:
        ledger = self

        def fit_transform(features: StringFeatures, strings: Sequence[str], y: object = None) -> Matrix:
            def make() -> tuple[list[str], Matrix]:
                matrix = ledger._fit_transform(features, strings)
                matrix.flags.writeable = False
                return features.vocabulary_, matrix

            vocabulary, matrix = ledger.once(("fit", tuple(strings)), make)
            features.vocabulary_ = list(vocabulary)
            return matrix

        def matrix(features: StringFeatures, strings: Sequence[str]) -> Matrix:
            if not ledger.remembers:
                return ledger._matrix(features, strings)
            key = ("matrix", tuple(features.vocabulary_), tuple(strings))
            return ledger.once(key, lambda: ledger._matrix(features, strings))

        for target, new in {
            f"{_BOOSTED}.grow": self.grow,
            f"{_CHOOSING}.train": self.train,
            f"{_SEVAL}.train": self.train,
            f"{_FORESTS}.KINDS": ALL_KINDS,
        }.items():
            self._patches.enter_context(patch(target, new))
        self._patches.enter_context(patch.multiple(StringFeatures, fit_transform=fit_transform, matrix=matrix))
        return self

    def __exit__(self, *error: object) -> None:
        self._patches.close()

    def now(self) -> float:
        """Return the CPU time of this process, as if it had made every training that it asked for."""
        return time.process_time() + self.credit

    def once(self, key: object, make: Callable[[], _Made]) -> _Made:
        """Return what was made under a key, or make it."""
        if key not in self._made:
            began = self.now()
            made = make()
            self._made[key] = made, self.now() - began
            return made
        made, seconds = self._made[key]
        self.credit += seconds
        return made

    def grow(
        self,
        matrix: Matrix,
        order: slice,
        targets: Values,
        weights: Values,
        growth: Growth,
        settings: Mapping[str, Any],
    ) -> tuple[Forest, ...]:
        """Do what :func:`~freerea_seval.predictor.models.forests.grow` does, one forest after the other.

        Boosting is sequential: the first trees of a forest are a smaller forest, at that share of its time.
        """
        began = self.now()
        data = hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in (matrix, targets, weights))).digest()
        grown, seconds = [], 0.0
        for name, (trees, times) in growth.items():
            key = ("forest", data, order.start, order.stop, forests.KINDS[name], tuple(sorted(settings.items())))
            if key not in self._made or self._made[key][0].num_boosted_rounds() < trees:
                most = max(trees, _AT_LEAST) if len(matrix) > forests._MANY else trees
                start = time.process_time()
                (made,) = self._grow(matrix, order, targets, weights, {name: (most, 1)}, settings)
                self._made[key] = made.trees, time.process_time() - start
            booster, took = self._made[key]
            count = booster.num_boosted_rounds()
            seconds += took * trees / count
            grown.append(Forest(name, booster if count == trees else booster[:trees], times))
        self.credit += seconds - (self.now() - began)
        return tuple(grown)

    def train(
        self,
        name: str,
        strings: Sequence[str],
        targets: Values,
        proxies: Values | None,
        seed: int,
        parameters: Mapping[str, Any],
        distinct: bool,
    ) -> Any:
        """Do what :func:`~freerea_seval.predictor.models.by_name.train` does."""
        arguments = name, strings, targets, proxies, seed, parameters, distinct
        if name in ("boosted", "ordered") or proxies is not None or parameters:
            return self._train(*arguments)
        key = ("model", name, tuple(strings), targets.tobytes(), seed, distinct)
        return copy.copy(self.once(key, lambda: self._train(*arguments)))


class Fitted(SEvalPredictor):
    """The predictor, with the CPU seconds that its training takes; or one that is fitted already.

    Args:
        scale, distinct, seed: as of the predictor.
        ledger: tells the time.
        of: a fitted one, of which :meth:`fit` takes over all.
        blank: what it leaves out of it.
    """

    def __init__(
        self, scale: str, distinct: bool, seed: int, ledger: Ledger, of: Fitted | None = None, blank: str = ""
    ) -> None:
        super().__init__("auto", scale, distinct=distinct, seed=seed)
        self.ledger, self.of, self.blank = ledger, of, blank
        self.cost_ = 0.0

    def fit(self, *arguments: Any, **options: Any) -> Fitted:
        """Learn, or take over what another one learned."""
        began = self.ledger.now()
        if self.of is None:
            super().fit(*arguments, **options)
            self.cost_ = self.ledger.now() - began
            return self
        self.__dict__.update({name: value for name, value in vars(self.of).items() if name.endswith("_")})
        if self.blank == "levels":
            self.levels_ = [None] * len(self.levels_)
        if self.blank == "constants":
            self.constants_ = np.full_like(self.constants_, np.nan)
        return self


@contextmanager
def applied(patches: Mapping[str, object]) -> Iterator[None]:
    """Put these values in place for a while."""
    with ExitStack() as stack:
        for target, new in patches.items():
            stack.enter_context(patch(target, new))
        yield


def judge_variants(
    variants: Mapping[str, Variant],
    strings: Sequence[str],
    targets: Sequence[Target],
    split: Split,
    distinct: bool,
    seed: int,
    show: Callable[[float, str], None],
) -> Iterator[dict[str, object]]:
    """Yield a row a variant and metric.

    Seconds are CPU time of this process, which other load on the machine changes less than the time of the clock.
    """
    test = [strings[i] for i in split.test]
    ledger = Ledger()
    full: Fitted | None = None
    with ledger:
        for count, (name, variant) in enumerate(variants.items()):
            show(count / len(variants), name)
            if variant.blank and full is None:  # a run that was stopped goes on with a variant of predictions alone
                full = Fitted("auto", distinct, seed, ledger)
                judge(strings, targets, split, full, lambda fraction, note: None)
            of = full if variant.blank else None
            predictor = Fitted(variant.scale, distinct, seed, ledger, of, variant.blank)
            with applied(variant.patches):
                rows = judge(strings, targets, split, predictor, lambda fraction, note: None)
                models = min(_seconds(predictor, test) for _ in range(_REPEATS)) / len(test)  # features are remembered
                rate = max(_rate(ledger, predictor, test[:_TIMED]) for _ in range(_REPEATS))
            measured = {"train_s": f"{predictor.cost_:.2f}", "networks_a_s": f"{rate:.0f}"}
            measured["models_us"] = f"{1e6 * models:.1f}"
            if name == FULL:
                full = predictor
            for row in rows:
                yield {"split": "", "group": "", "variant": name, **row, **measured}


def _rate(ledger: Ledger, predictor: SEvalPredictor, strings: Sequence[str]) -> float:
    """Return how many strings a CPU second are predicted when none was seen before."""
    for module in [m for name, m in sys.modules.items() if name.startswith("freerea_seval.")]:
        for function in vars(module).values():
            if callable(clear := getattr(function, "cache_clear", None)):
                clear()
    for model in predictor.models_:
        vars(model.features_).pop("_known", None)
    ledger.remembers = False
    seconds = _seconds(predictor, strings)
    ledger.remembers = True
    return len(strings) / seconds


def _seconds(predictor: SEvalPredictor, strings: Sequence[str]) -> float:
    began = time.process_time()
    predictor.predict(strings)
    return time.process_time() - began


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the experiments."""
    parser = argparse.ArgumentParser(prog="python -m experiments.predictor_ablation", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], None], known: Mapping[str, Variant], help: str) -> Any:
        added = commands.add_parser(name, help=help, description=help)
        add_tables(added)
        what = f"which of: {'; '.join(known)}"
        added.add_argument("--variants", nargs="+", default=list(known), metavar="VARIANT", help=what)
        added.add_argument("--summary", action="store_true", help="print the table of the rows so far, and run nothing")
        added.add_argument("-o", "--output", type=Path, default=Path("runs/predictor_ablation") / name)
        added.set_defaults(run=run)
        return added

    added = command("large", large, LARGE, "train on 9,375 cells, judge on 3,125, on both splits")
    added.add_argument("--splits", nargs="+", default=["published", "grouped"], choices=["published", "grouped"])
    added.add_argument("--groups", nargs="+", default=list(GROUPS), choices=list(GROUPS))
    added.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    added = command("small", small, SMALL, "train on tens of cells, judge on others")
    usual = ["cifar10", "pgd", "raspi4_latency", "edgegpu_latency"]
    added.add_argument("--metrics", nargs="+", default=usual, choices=TARGETS, metavar="METRIC")
    added.add_argument("--networks", nargs="+", type=int, default=[10, 20, 50, 100, 200])
    added.add_argument("--draws", type=int, default=10)
    options = parser.parse_args(arguments)
    options.run(options)


def large(options: argparse.Namespace) -> None:
    """Judge variants for thousands of cells."""
    journal = RowJournal(options.output, {}, LARGE_ROWS)
    asked = _asked(options.variants, LARGE)
    if not options.summary:
        targets = read_targets(options.cache, options.hw_nas_bench, options.robustness)
        strings: dict[View, list[str]] = {"functional": strings_of("functional")}
        for seed, name, group in product(options.seeds, options.splits, options.groups):
            view, metrics = GROUPS[group]
            chosen = [targets[metric] for metric in metrics if metric in targets]
            done = {tuple(row[c] for c in LARGE_ROWS[:4]) for row in journal.rows()}
            left = {v: asked[v] for v in asked if (name, group, str(seed), v) not in done}
            if not left or not chosen:
                continue
            if view not in strings:
                strings[view] = strings_of(view)
            split = split_of(name, strings["functional"], seed)
            with terminal_progress().task(f"{group}, {name} split, seed {seed}") as show:
                for row in judge_variants(left, strings[view], chosen, split, name == "grouped", seed, show):
                    journal.append({**row, "split": name, "group": group, "seed": seed})
    print(large_summary(journal.rows(), asked))


def small(options: argparse.Namespace) -> None:
    """Judge variants for tens of cells."""
    journal = RowJournal(options.output, {}, SMALL_ROWS)
    asked = _asked(options.variants, SMALL)
    if not options.summary:
        targets = read_targets(options.cache, options.hw_nas_bench, options.robustness)
        if missing := [metric for metric in options.metrics if metric not in targets]:
            raise InputError(f"metric {missing[0]} has no values; name its table, or one of {', '.join(targets)}")
        views = {metric: view for view, metrics in GROUPS.values() for metric in metrics}
        strings: dict[View, list[str]] = {}
        done = {tuple(row[c] for c in SMALL_ROWS[:4]) for row in journal.rows()}
        jobs = list(product(range(options.draws), options.networks, options.metrics))
        with terminal_progress().task(f"{len(jobs)} samples") as show:
            for count, (draw, networks, metric) in enumerate(jobs):
                show(count / len(jobs), f"{metric}, {networks} cells")
                left = {v: asked[v] for v in asked if (str(networks), metric, str(draw), v) not in done}
                if not left:
                    continue
                view = views[metric]
                if view not in strings:
                    strings[view] = strings_of(view)
                order = np.random.default_rng(draw).permutation(len(strings[view]))
                split = Split(order[:networks], order[:0], order[-_JUDGED_ON:])
                quiet: Callable[[float, str], None] = lambda fraction, note: None  # noqa: E731
                for row in judge_variants(left, strings[view], [targets[metric]], split, False, draw, quiet):
                    journal.append({**row, "networks": networks, "draw": draw})
    print(small_summary(journal.rows(), asked))


def _asked(names: Sequence[str], known: Mapping[str, Variant]) -> dict[str, Variant]:
    for name in names:
        if name not in known:
            raise unknown_name("variant", name, known)
    return {name: variant for name, variant in known.items() if name in names}


def large_summary(rows: Rows, variants: Mapping[str, Variant]) -> str:
    """Return Markdown tables, one a split: how much tau-b each variant adds to the full predictor's.

    Differences are in thousandths and means over the seeds that both have; times are ratios to the full predictor's.
    """
    tables = []
    for split in dict.fromkeys(row["split"] for row in rows):
        these = [row for row in rows if row["split"] == split]
        taus = {(r["variant"], r["metric"], r["seed"]): float(r["kendall_tau"]) for r in these}
        metrics = [metric for metric in TARGETS if any(r["metric"] == metric for r in these)]
        full = {key[1:]: tau for key, tau in taus.items() if key[0] == FULL}
        lines = []
        for name in variants:
            both = {key[1:]: tau for key, tau in taus.items() if key[0] == name and key[1:] in full}
            if not both:
                continue
            per = {m: _differences(both, full, m) for m in metrics}
            nine = [float(np.mean(per[m])) for m in NINE if per.get(m)]
            seeds = {key[1] for key in both}
            shown = [f"{np.mean(per[m]):+.1f}" if per[m] else "" for m in metrics]
            mean = (
                f"**{np.mean(nine):+.2f}**"
                if len(nine) == len(NINE)
                else f"({np.mean(nine):+.2f}, {len(nine)} metrics)"
            )
            lines.append([name, len(seeds), mean, *shown, *_times(these, name)])
        absolute = [f"{np.mean([tau for key, tau in full.items() if key[0] == m]):.4f}" for m in metrics]
        mean_all = np.mean([tau for key, tau in full.items() if key[0] in NINE])
        lines.insert(0, ["tau-b of the full predictor", "", f"{mean_all:.4f}", *absolute, "", "", ""])
        header = ["variant", "seeds", "mean of nine", *metrics, "training time", "predicting", "models alone"]
        tables.append(f"Split: {split}; differences in thousandths of tau-b\n\n{markdown(header, lines)}")
    return "\n\n".join(tables)


def _differences(
    tau: Mapping[tuple[str, str], float], full: Mapping[tuple[str, str], float], metric: str
) -> list[float]:
    return [1000 * (tau[key] - full[key]) for key in tau if key[0] == metric]


def _times(rows: Rows, name: str) -> list[str]:
    """Return training time, time from string to value, and time of the models alone, as ratios to the full one's."""
    fits = {(r["variant"], r["group"], r["seed"]): r for r in rows}
    pairs = [(fits[key], fits.get((FULL, *key[1:]))) for key in fits if key[0] == name]

    def ratio(column: str, power: int) -> str:
        both = [(float(row[column]) ** power, float(full[column]) ** power) for row, full in pairs if full is not None]
        its, usual = np.sum(both, axis=0)
        return f"{its / usual:.2f}"

    return [ratio("train_s", 1), ratio("networks_a_s", -1), ratio("models_us", 1)]


def small_summary(rows: Rows, variants: Mapping[str, Variant]) -> str:
    """Return a Markdown table: how much tau-b each variant adds to the full predictor's, by number of networks.

    Differences are in thousandths, means over draws and metrics, with the standard error of the mean over draws.
    """
    metrics = [metric for metric in TARGETS if any(r["metric"] == metric for r in rows)]
    lines = []
    for networks in sorted({int(row["networks"]) for row in rows}):
        these = [row for row in rows if int(row["networks"]) == networks]
        tau = {(r["variant"], r["metric"], r["draw"]): float(r["kendall_tau"] or 0) for r in these}
        full = {key[1:]: value for key, value in tau.items() if key[0] == FULL}
        absolute = [f"{np.mean([v for k, v in full.items() if k[0] == m]):.4f}" for m in metrics]
        lines.append(
            [networks, "tau-b of the full predictor", "", f"{np.mean(list(full.values())):.4f}", *absolute, "", ""]
        )
        for name in variants:
            both = {key[1:]: value for key, value in tau.items() if key[0] == name and key[1:] in full}
            if not both or name == FULL:
                continue
            per = [_differences(both, full, metric) for metric in metrics]
            shown = [f"{np.mean(those):+.1f} ± {np.std(those) / max(1, len(those) - 1) ** 0.5:.1f}" for those in per]
            times = [np.mean([float(r["train_s"]) for r in these if r["variant"] == which]) for which in (name, FULL)]
            models = [
                np.mean([float(r["models_us"]) for r in these if r["variant"] == which]) for which in (name, FULL)
            ]
            draws = {key[1] for key in both}
            mean = f"**{np.mean(np.concatenate(per)):+.2f}**"
            lines.append(
                [networks, name, len(draws), mean, *shown, f"{times[0] / times[1]:.2f}", f"{models[0] / models[1]:.2f}"]
            )
    header = ["cells", "variant", "draws", "mean", *metrics, "training time", "models alone"]
    return f"Differences in thousandths of tau-b\n\n{markdown(header, lines)}"


if __name__ == "__main__":
    as_command(main)
