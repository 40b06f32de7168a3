"""Configs before they run: :func:`init`, :func:`check` and :func:`schema`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freerea_patch import InputError, unknown_name
from freerea_seval.api.arguments import as_config, progress_bars
from freerea_seval.config import Config

if TYPE_CHECKING:
    from freerea_seval.runs.check import Check


def check(
    config: str | Path | Mapping[str, Any] | Config | None = None,
    *,
    override: Sequence[str] | None = None,
    seconds: float = 10.0,
    workers: int | None = None,
    progress: bool = True,
) -> Check:
    """Return what a search with a config would run, what is missing for it, and about how long it would take.

    The time is extrapolated from the beginning of the search itself, with values from the cache of metric values where
    it has them. Nothing is written, also not to the cache. A function of yours that takes longer than the sample is
    interrupted (on Linux and macOS, in the main thread); a metric that a function of yours measures in rounds is not
    called.

    Args:
        config: as for :func:`freerea_seval.search`.
        override: ``key.to.value=YAML``, such as ``"budget.evaluations=50"``.
        seconds: how long networks are evaluated to estimate the time; 0 for no estimate.
        workers: of the search whose time is estimated; None for what the command line has by default.
        progress: show a progress bar on a terminal.

    Returns:
        The facts; its ``problems`` are empty if the search would start.

    Raises:
        InputError: the config does not fit the schema, an override is malformed, or ``seconds`` is negative.

    Example:
        >>> import freerea_seval as fs
        >>> checked = fs.check({"budget": {"evaluations": 8}, "search": {"population": 4, "tournament": 2},
        ...     "objectives": [{"metric": "params", "source": "cost"}]})
        >>> checked.problems, checked.objectives[0].unit, checked.time.seconds < 60
        ([], 'M', True)
    """
    if not 0 <= seconds < float("inf"):
        raise InputError(f"--seconds must be 0 or more, got {seconds}")
    if workers is not None and workers < 1:
        raise InputError(f"--workers must be 1 or more, got {workers}")
    from freerea_seval.runs.check import check_run

    settings, base, _ = as_config(config, list(override or []))
    return check_run(settings, base, seconds, progress_bars(progress), workers)


def schema(of: str = "config") -> dict[str, Any]:
    """Return a JSON Schema (draft 7), with types, defaults and descriptions.

    The schemas are also in the package, as ``freerea_seval/schemas/NAME.json``. What in a config depends on files, on
    installed packages or on several keys at once is checked by :func:`check`.

    Args:
        of: ``"config"``, for editors; or a command such as ``"report"`` or ``"measure run"``: what it prints with
            ``--json``.

    Raises:
        InputError: there is no such command.

    Example:
        >>> import freerea_seval as fs
        >>> sorted(fs.schema()["properties"])
        ['budget', 'live', 'objectives', 'refine', 'report', 'search', 'space']
    """
    from freerea_seval.api.documents import schemas

    known = schemas()
    if of not in known:
        raise unknown_name("schema", of, known)
    return known[of]


def init(
    path: str | Path = "search.yaml",
    *,
    space: str = "nats-tss",
    metric: str = "latency",
    max: float | None = None,
    device: str = "cpu",
    preset: str = "guided",
) -> Path:
    """Write a commented config for a task, and its JSON Schema for editors beside it, if that is not there.

    The config passes :func:`check`: it is checked before it is written.

    Args:
        path: the file to write.
        space: ``"nats-tss"``, ``"nats-sss"``, ``"fbnet"``, with ``/DATASET`` behind it, or ``"pkg.module:Class"``.
        metric: what is bounded or traded off: ``"latency"``, ``"memory"`` or ``"energy"`` (measured on this machine),
            ``"params"``, ``"macs"`` or ``"flops"`` (counted), ``"FILE.csv:COLUMN"`` (a table of yours), or
            ``"pkg.module:function"`` (a Python function of yours).
        max: the largest value, in the unit of the metric: a bound; None for an axis of the front.
        device: of live networks, such as ``"cpu"`` or ``"cuda"``.
        preset: what guides the search without training: ``"guided"``, or ``"published"`` for FreeREA's own metrics.

    Returns:
        The path.

    Raises:
        InputError: the file exists; an unknown space, metric or preset; or a file, a package or a device is missing.

    Example:
        >>> import freerea_seval as fs
        >>> fs.check(fs.init("small.yaml", metric="params", max=0.4), seconds=0).problems
        []
    """
    from yaml import safe_load

    from freerea_seval.api.initial import SCHEMA_NAME, initial_config
    from freerea_seval.config import check_config
    from freerea_seval.files import write_atomically
    from freerea_seval.progress import Progress
    from freerea_seval.runs.check import check_run

    path = Path(path)
    if path.exists():
        raise InputError(f"{path} exists already; choose another file, or remove it")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}; make it, or choose another file")
    text = initial_config(path, space, metric, max, device, preset)
    config = check_config(safe_load(text), f"config {path}")
    problems = check_run(config, path.parent, 0, Progress()).problems
    if problems:
        raise InputError("; ".join(problems))
    write_atomically(path, text)
    if not (path.parent / SCHEMA_NAME).exists():
        write_atomically(path.parent / SCHEMA_NAME, schema_text())
    return path


def schema_text(of: str = "config") -> str:
    """Return a JSON Schema as the text of a file; see :func:`schema`."""
    return json.dumps(schema(of), indent=1, ensure_ascii=False) + "\n"
