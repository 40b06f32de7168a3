"""What the commands do."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from freerea_patch import InputError, share_cores
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
    from freerea_seval.config import DEFAULT, load_config
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
        # To the microsecond, so that searches that are started together have folders of their own.
        target = output or Path("runs") / f"{path.stem}-{datetime.now():%Y%m%d-%H%M%S-%f}"
        folder = RunFolder.create(target, settings, base)
        try:
            _execute(folder)
        except InputError as error:
            if any(target.glob("measured-*")) or any(target.glob("predictor-*")):
                raise InputError(f"{error}; what was measured is in {target}, for --resume {target}") from error
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


def list_objectives() -> None:
    """Print the registry."""
    from freerea_seval.sources.registry import load_registry

    table = Table(title="Metrics for 'objectives' and 'report'")
    for heading in ("source", "metric", "unit", "better"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what it is")
    better = {"max": "larger", "min": "smaller", None: "you say"}
    for record in load_registry():
        origin = record.origin + (f"; source: {{{record.name}: ...}}, {record.argument}" if record.argument else "")
        table.add_section()
        table.add_row(f"[bold]{escape(record.name)}[/]", "", "", "", f"[italic]{escape(origin)}[/]")
        for info in record.metrics:
            said = (info.name, info.unit, better[info.direction], info.description)
            table.add_row("", *map(escape, said))  # a package's words are no markup
        if not record.metrics:
            table.add_row("", "(yours)", "", "", "")
    # A pipe has no width of its own; what reads it should not meet cut lines.
    Console(width=None if sys.stdout.isatty() else 160).print(table)
