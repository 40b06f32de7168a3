"""What the commands do."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from freerea_patch import InputError
from freerea_patch.threads import share_cores
from freerea_seval.progress import terminal_progress

if TYPE_CHECKING:
    from freerea_seval.runs.folder import RunFolder

share_cores()  # before a command imports torch, scikit-learn or xgboost


def run_search(
    config: Path | None,
    output: Path | None,
    seeds: str | None,
    device: str | None,
    batch: str | None,
    overrides: Sequence[str],
    resume: Path | None,
) -> None:
    """Start a run from a config, or continue one; then print and draw it."""
    from freerea_seval.config.load import DEFAULT, load_config
    from freerea_seval.runs.folder import RunFolder

    if resume is not None:
        if config or output or seeds or device or batch or overrides:
            raise InputError("--resume takes a run as it was configured; leave out the config and the other options")
        folder = RunFolder.open(resume)
        _execute(folder)
    else:
        extra = []
        if device is not None:
            extra.append(f"live.device={json.dumps(device)}")
        if batch is not None:
            # A path on the command line starts where the user is, not where the config is.
            extra.append(f"live.batch={json.dumps(str(Path(batch).resolve()) if batch.endswith('.npz') else batch)}")
        if seeds is not None:
            extra.append(f"search.seeds={parse_seeds(seeds)}")
        path = config or DEFAULT
        settings = load_config(path, [*overrides, *extra])
        # The default search has no files of its own: what an override names is looked for where the user is.
        base = path.parent if config else Path()
        target = output or Path("runs") / f"{path.stem}-{datetime.now():%Y%m%d-%H%M%S}"
        folder = RunFolder.create(target, settings, base)
        try:
            _execute(folder)
        except InputError:
            if not any(journal.stat().st_size for journal in target.glob("seed-*/journal.jsonl")):
                shutil.rmtree(target)  # nothing was evaluated: leave no folder that says otherwise
            raise
    _show(folder)


def _execute(folder: RunFolder) -> None:
    from freerea_seval.runs.execute import execute

    try:
        execute(folder, terminal_progress())
    except KeyboardInterrupt:
        print(f"\nstopped; go on with: freerea-seval search --resume {folder.path}", file=sys.stderr)
        raise


def show_run(run: Path) -> None:
    """Print and draw a finished run."""
    from freerea_seval.runs.folder import RunFolder

    _show(RunFolder.open(run))


def _show(folder: RunFolder) -> None:
    from freerea_seval.runs.figure import draw_run
    from freerea_seval.runs.report import print_report

    console = Console()
    print_report(folder, console)
    if find_spec("matplotlib") is None:  # the run is worth as much without its figure
        hint = "no figure: pip install 'freerea-seval[figures]'"
        console.print(hint, markup=False, highlight=False, soft_wrap=True)
    else:
        draw_run(folder)
    console.print(f"run folder: {folder.path}", markup=False, highlight=False, soft_wrap=True)


def parse_seeds(text: str) -> list[int]:
    """Return the seeds of ``0,1,2`` or ``0-29``.

    Raises:
        InputError: the text is neither.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None or (match[2] is not None and int(match[2]) < int(match[1])):
            raise InputError(f"--seeds {text!r}: expected numbers such as 0,1,2 or a range such as 0-29")
        seeds.extend(range(int(match[1]), int(match[2] or match[1]) + 1))
    return seeds


def train_from_table(
    table: Path,
    metric: str,
    output: Path,
    space_name: str,
    direction: str,
    unit: str | None,
    unsupported: float | None,
    view_name: str | None,
    seed: int,
) -> None:
    """Train a predictor from a CSV and save it."""
    from freerea_seval.config.spaces import make_space
    from freerea_seval.predictor.folder import save_predictor
    from freerea_seval.predictor.training import train_predictor
    from freerea_seval.sources.live import prepare_torch
    from freerea_seval.sources.registry import LiveSettings
    from freerea_seval.sources.table import read_table, unit_of
    from freerea_seval.strings.encode import SpaceStrings
    from freerea_seval.strings.views import check_view, default_view

    if direction not in ("min", "max"):
        raise InputError(f"--direction must be min or max, not {direction!r}")
    if output.exists():
        raise InputError(f"{output} exists already; choose another folder with -o")
    space = make_space(space_name)
    rows = read_table(table, space, metric)
    genotypes, values = _supported(table, metric, *rows, unsupported)
    prepare_torch(LiveSettings())
    view = check_view(default_view(metric) if view_name is None else view_name)
    with terminal_progress().task(f"reading {len(genotypes)} networks") as show:
        strings = SpaceStrings(space, view).strings(genotypes, show)
    predictor, info = train_predictor(
        strings,
        values,
        metric=metric,
        unit=unit_of(metric) if unit is None else unit,
        direction="max" if direction == "max" else "min",
        space_name=space_name if ":" in space_name else space.name,
        view=view,
        seed=seed,
    )
    save_predictor(output, predictor, info)
    scores = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in info.scores.items())
    without = len(rows[0]) - len(genotypes)
    left_out = f" ({without} without a value left out)" if without else ""
    print(
        f"{output}: predicts {metric} of {info.space} from the {view} view,"
        f" trained on {len(genotypes)} networks{left_out}; cross-validated {scores}"
    )


def _supported(
    table: Path, metric: str, genotypes: Sequence[str], values: Sequence[float], unsupported: float | None
) -> tuple[list[str], list[float]]:
    """Leave out the networks that have no value: an empty cell, or the number that marks them.

    Raises:
        InputError: no network has one.
        InputError: nobody said so, but -1 seems to mark networks that a device cannot run, as in HW-NAS-Bench.
    """
    pairs = [(g, v) for g, v in zip(genotypes, values, strict=True) if not math.isnan(v)]
    if not pairs:
        raise InputError(f"{table}: every cell of {metric} is empty; measure it on a device that can run the networks")
    values = [value for _, value in pairs]
    marked = values.count(-1.0)
    if unsupported is None and marked and all(value == -1 or value > 0 for value in values):
        raise InputError(
            f"{table}: {marked} values of {metric} are -1 and all others positive, as if -1 marked networks that cannot"
            " run; leave these out with --unsupported -1, or keep them with --unsupported nan"
        )
    kept = [(genotype, value) for genotype, value in pairs if value != unsupported]
    return [genotype for genotype, _ in kept], [value for _, value in kept]


def predict_genotypes(predictor: Path, genotypes: Sequence[str], space_name: str | None, output: Path | None) -> None:
    """Write a predictor's values for genotypes as CSV."""
    from freerea_seval.config.spaces import make_space
    from freerea_seval.files import write_atomically
    from freerea_seval.predictor.folder import load_predictor
    from freerea_seval.sources.live import prepare_torch
    from freerea_seval.sources.registry import LiveSettings
    from freerea_seval.strings.encode import SpaceStrings

    model, info = load_predictor(predictor)
    if list(genotypes) == ["-"]:
        genotypes = [line.strip() for line in sys.stdin if line.strip()]
    if not genotypes:
        raise InputError("nothing to predict: give genotypes as arguments, or - to read them from standard input")
    space = make_space(space_name or info.space)
    for genotype in genotypes:
        space.check(genotype)
    prepare_torch(LiveSettings())
    values = model.predict(SpaceStrings(space, info.view).strings(genotypes))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["genotype", info.metric])
    writer.writerows((g, f"{v:.6g}") for g, v in zip(genotypes, values, strict=True))
    if output is None:
        print(text.getvalue(), end="")
    else:
        write_atomically(output, text.getvalue())


def list_objectives() -> None:
    """Print the registry."""
    from freerea_seval.sources.installed import load_registry

    table = Table(title="Metrics for 'objectives' and 'report'")
    for heading in ("source", "metric", "unit", "better"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what it is")
    better = {"max": "larger", "min": "smaller", None: "you say"}
    for record in load_registry():
        origin = record.origin + (f"; source: {{{record.name}: ...}}, {record.argument}" if record.argument else "")
        table.add_section()
        table.add_row(f"[bold]{record.name}[/]", "", "", "", f"[italic]{origin}[/]")
        for info in record.metrics:
            table.add_row("", info.name, info.unit, better[info.direction], info.description)
        if not record.metrics:
            table.add_row("", "(yours)", "", "", "")
    # A pipe has no width of its own; what reads it should not meet cut lines.
    Console(width=None if sys.stdout.isatty() else 160).print(table)
