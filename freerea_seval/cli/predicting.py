"""The commands ``train``, ``predict`` and ``evaluate``: from a table of measurements to predictions."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from freerea_patch import InputError
from freerea_seval.progress import terminal_progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from freerea_patch import Direction, SearchSpace
    from freerea_seval.predictor.model_card import PredictorInfo
    from freerea_seval.predictor.seval import SEvalPredictor

    Values = npt.NDArray[np.float64]

#: How to mend a cell, in these commands' words.
_CELL = ", or write a number and say --unsupported NUMBER; if it was not measured, leave it empty and say --missing"
#: Scores in the metric's unit, which may be a millionth or a million.
_IN_UNIT = ("rmse", "width")
_SHOWN = ("kendall_tau", "spearman", "r2", "rmse", "auc", "kendall_tau_all", "coverage", "width")


class Training(NamedTuple):
    """How to train: the options of ``train`` that are not about the table."""

    direction: str
    unit: str | None
    view: str | None
    model: str
    scale: str
    seed: int
    proxies: Path | None = None
    base: Sequence[Path] = ()


class Cells(NamedTuple):
    """What cells of a table mean: the number of networks that cannot run, and whether an empty one is not measured."""

    unsupported: float | None
    missing: bool


def train_from_table(
    table: Path, metrics: Sequence[str], output: Path, space_name: str, training: Training, cells: Cells
) -> None:
    """Train a predictor from a CSV and save it."""
    from freerea_seval.config import make_space
    from freerea_seval.predictor.folder import save_predictor
    from freerea_seval.predictor.training import Proxies, Target, data_hash, train_predictor
    from freerea_seval.predictor.transfer import load_bases
    from freerea_seval.units import unit_of

    direction = _direction(training.direction)
    if output.exists():
        raise InputError(f"{output} exists already; choose another folder with -o")
    space = make_space(space_name)
    genotypes, values = _read(table, metrics, space, cells)
    known_as = space_name if ":" in space_name else space.name
    bases = load_bases(training.base, metrics, (known_as, space.name), training.view)
    proxies = None
    if training.proxies is not None:
        proxies = Proxies(*_proxies(training.proxies, space, genotypes, without=metrics))
    strings = _strings(space, bases.view, genotypes)
    bases.check_data(data_hash(strings, values))
    with terminal_progress().task(f"training on {len(genotypes)} networks") as show:
        predictor, info = train_predictor(
            strings,
            values[:, 0] if len(metrics) == 1 else values,
            [Target(m, unit_of(m) if training.unit is None else training.unit, direction) for m in metrics],
            space_name=known_as,
            view=bases.view,
            model=training.model,
            scale=training.scale,
            seed=training.seed,
            proxies=proxies,
            base=bases.predictors,
            show=show,
        )
    save_predictor(output, predictor, info)
    print(f"{output}: predicts {', '.join(metrics)} of {info.space} from the {info.view} view, trained on", end=" ")
    print(f"{len(genotypes)} networks")
    print(f"chose {info.choice}")
    for metric in info.metrics:
        unsupported = f" ({metric.unsupported} unsupported)" if metric.unsupported else ""
        print(f"{metric.name}, {metric.samples} values{unsupported}; cross-validated {_said(metric.scores)}")


def predict_genotypes(
    folder: Path,
    genotypes: Sequence[str],
    space_name: str | None,
    output: Path | None,
    interval: float | None,
    proxies: Path | None = None,
) -> None:
    """Write a predictor's values for genotypes as CSV."""
    from freerea_seval.files import write_atomically
    from freerea_seval.predictor.folder import load_predictor

    predictor, info = load_predictor(folder)
    if list(genotypes) == ["-"]:
        genotypes = [line.strip() for line in sys.stdin if line.strip()]
    if not genotypes:
        raise InputError("nothing to predict: give genotypes as arguments, or - to read them from standard input")
    space = _space(folder, info, space_name)
    for genotype in genotypes:
        space.check(genotype)
    more = _seen(folder, info, proxies, space, genotypes)
    strings = _strings(space, info.view, genotypes)
    names = [metric.name for metric in info.metrics]
    found = (
        [predictor.predict(strings, more)] if interval is None else predictor.predict(strings, more, interval=interval)
    )
    parts = [part.reshape(len(strings), -1) for part in found]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["genotype", *(f"{n}{of}" for n in names for of in ("", "_low", "_high")[: len(parts)])])
    for row, genotype in enumerate(genotypes):
        said = [_cells(".6g", *(part[row, place] for part in parts)) for place in range(len(names))]
        writer.writerow([genotype, *chain(*said)])
    if interval is not None:
        _tell_infinite(predictor, info, interval)
    if output is None:
        print(text.getvalue(), end="")
    else:
        write_atomically(output, text.getvalue())


def evaluate_predictor(
    folder: Path,
    table: Path,
    output: Path | None,
    space_name: str | None,
    interval: float,
    cells: Cells,
    proxies: Path | None = None,
) -> None:
    """Judge a predictor by measurements that it did not learn from; print scores, and write them with a figure."""
    from freerea_seval.files import write_atomically
    from freerea_seval.predictor.folder import load_predictor
    from freerea_seval.predictor.scores import scatter, scores

    predictor, info = load_predictor(folder)
    if output is not None and output.exists():
        raise InputError(f"{output} exists already; choose another folder with -o")
    space = _space(folder, info, space_name)
    names = [metric.name for metric in info.metrics]
    genotypes, values = _read(table, names, space, cells)
    more = _seen(folder, info, proxies, space, genotypes)
    strings = _strings(space, info.view, genotypes)
    found, low, high = (part.reshape(values.shape) for part in predictor.predict(strings, more, interval=interval))
    supported = predictor.supported(strings).reshape(values.shape)
    judged = {}
    for place, metric in enumerate(info.metrics):
        judged[metric.name] = scores(
            values[:, place],
            found[:, place],
            direction=metric.direction,
            low=low[:, place],
            high=high[:, place],
            supported=supported[:, place],
        )
        print(f"{metric.name}, {len(genotypes)} networks: {_said(judged[metric.name])}")
    _tell_infinite(predictor, info, interval)
    if output is None:
        return
    output.mkdir(parents=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["genotype", *(f"{n}{of}" for n in names for of in ("", "_predicted", "_low", "_high"))])
    for row, genotype in enumerate(genotypes):
        genotype_cells = [genotype]
        for place in range(len(names)):
            genotype_cells += _cells(".10g", values[row, place])
            genotype_cells += _cells(".10g", *(part[row, place] for part in (found, low, high)))
        writer.writerow(genotype_cells)
    write_atomically(output / "predictions.csv", text.getvalue())
    for place, metric in enumerate(info.metrics):
        shown = (values[:, place], found[:, place])
        bounds = {"low": low[:, place], "high": high[:, place]}
        scatter(output / f"{metric.name.replace('/', '_')}.svg", *shown, metric=metric.name, unit=metric.unit, **bounds)
    facts = {"predictor": str(folder), "table": str(table), "interval": interval, "scores": judged}
    write_atomically(output / "scores.json", json.dumps(facts, indent=2) + "\n")
    print(f"{output}: predictions.csv, scores.json and a figure a metric")


def _read(table: Path, metrics: Sequence[str], space: SearchSpace, cells: Cells) -> tuple[list[str], Values]:
    """Return the genotypes of a table and their values, ``(n, m)``: +inf for unsupported, NaN for not measured.

    Raises:
        InputError: the table cannot be used, a column has no value, or a metric is named twice.
        InputError: nobody said so, but -1 seems to mark networks that a device cannot run, as in HW-NAS-Bench.
    """
    import numpy as np

    from freerea_seval.sources.table import Advice, read_table

    if len(set(metrics)) < len(metrics):
        raise InputError(f"a metric is named twice in {', '.join(metrics)}; name each once")
    columns = []
    for metric in metrics:
        genotypes, numbers = read_table(table, space, metric, advice=Advice("", _CELL))
        column = np.array(numbers, dtype=np.float64)
        empty = np.isnan(column)
        if empty.all():
            raise InputError(
                f"{table}: every cell of {metric} is empty; measure it on a device that can run the networks"
            )
        marked = int((column == -1).sum())
        if cells.unsupported is None and marked and bool(np.all((column == -1) | (column > 0) | empty)):
            raise InputError(
                f"{table}: {marked} values of {metric} are -1 and all others positive, as if -1 marked networks that"
                " cannot run; say so with --unsupported -1, or keep them as numbers with --unsupported nan"
            )
        column[column == cells.unsupported] = np.inf
        column[empty] = np.nan if cells.missing else np.inf
        columns.append(column)
    values = np.stack(columns, axis=1)
    told = ~np.isnan(values).all(axis=1)
    return [genotypes[row] for row in np.flatnonzero(told)], values[told]


def _seen(
    folder: Path, info: PredictorInfo, table: Path | None, space: SearchSpace, genotypes: Sequence[str]
) -> Values | None:
    """Return the proxies that a predictor learned from, ``(n, k)``, or None.

    Raises:
        InputError: they are not given, or some are given that it did not learn from.
    """
    if table is None:
        if info.proxies:
            raise InputError(
                f"predictor {folder} learned from proxies, too; give --proxies TABLE with {', '.join(info.proxies)}"
            )
        return None
    if not info.proxies:
        raise InputError(f"predictor {folder} learned from strings alone; leave --proxies out")
    return _proxies(table, space, genotypes, names=info.proxies)[1]


def _proxies(
    path: Path,
    space: SearchSpace,
    genotypes: Sequence[str],
    names: Sequence[str] | None = None,
    without: Sequence[str] = (),
) -> tuple[Sequence[str], Values]:
    """Return the columns of a table, all but ``without`` or those of ``names``, for some networks: names, ``(n, k)``.

    Raises:
        InputError: the table cannot be used, lacks a column or a network, or has no columns.
    """
    import numpy as np

    from freerea_seval.sources.table import Advice, Table

    table = Table(path, space, advice=Advice("", ""))
    names = [name for name in table.columns if name not in without] if names is None else names
    if not names:
        raise InputError(f"{path} has no column beside those that name networks and metrics; expected one a proxy")
    lacking = [name for name in names if name not in table.columns]
    if lacking:
        raise InputError(
            f"{path} has no column {lacking[0]!r}; the predictor learned from the proxies {', '.join(names)}"
        )
    for genotype in genotypes:
        if genotype not in table:
            raise InputError(
                f"{path} has no row for {genotype!r}; add the row, with an empty cell for a proxy that is not known"
            )
    columns = [table.column(name, seconds=False) for name in names]
    return names, np.array([[column[genotype].value for column in columns] for genotype in genotypes])


def _strings(space: SearchSpace, view: Any, genotypes: Sequence[str]) -> list[str]:
    from freerea_seval.config import LiveSettings
    from freerea_seval.sources.live import prepare_torch
    from freerea_seval.strings.encode import SpaceStrings

    prepare_torch(LiveSettings())
    with terminal_progress().task(f"reading {len(genotypes)} networks") as show:
        return SpaceStrings(space, view).strings(genotypes, show)


def _direction(said: str) -> Direction:
    if said not in ("min", "max"):
        raise InputError(f"--direction must be min or max, not {said!r}")
    return "max" if said == "max" else "min"


def _said(scores: dict[str, float]) -> str:
    names = [name for name in (*_SHOWN, *(n for n in scores if n.startswith("top_"))) if name in scores]
    return ", ".join(f"{n.replace('_', ' ')} {scores[n]:{'.4g' if n in _IN_UNIT else '.3f'}}" for n in names)


def _cells(form: str, value: float, *bounds: float) -> list[str]:
    """Return a value and its bounds as text.

    As in every table of this package, a network that cannot run has an empty cell, and then so have its bounds. Those
    of one that can are written even if they are infinite, which is all that few measurements can promise.
    """
    numbers = (value, *bounds)
    return [f"{number:{form}}" for number in numbers] if math.isfinite(value) else [""] * len(numbers)


def _tell_infinite(predictor: SEvalPredictor, info: PredictorInfo, interval: float) -> None:
    """Say on standard error, in one line, which metrics were measured too rarely for an interval."""
    from freerea_seval.predictor.conformal import samples_needed

    needed = samples_needed(interval)
    samples = zip(info.metrics, (conformal.samples for conformal in predictor.conformals_), strict=True)
    few = [f"{metric.name} from {count}" for metric, count in samples if count < needed]
    if few:
        print(
            f"freerea-seval: an interval that holds with probability {interval:g} takes {needed} measurements, and the"
            f" predictor learned {', '.join(few)}: bounds are infinite; measure more, or ask for a smaller --interval",
            file=sys.stderr,
        )


def _space(folder: Path, info: PredictorInfo, given: str | None) -> SearchSpace:
    """Return the space of the genotypes, of the user's choice or the predictor's.

    Raises:
        InputError: nobody names the space but the folder, and it is none of the built-in ones: that would run code.
    """
    from freerea_patch import SPACES
    from freerea_seval.config import make_space

    if given is None and info.space.partition("/")[0] not in SPACES:
        raise InputError(
            f"predictor {folder} learned from networks of the space {info.space!r}, which is not built in, and a folder"
            " alone does not make this command run code; if you trust that space, give it: --space pkg.module:Class"
        )
    return make_space(info.space if given is None else given)
