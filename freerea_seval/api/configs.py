"""Configs before they run: :func:`check` and :func:`schema`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freerea_patch import InputError
from freerea_seval.api.arguments import as_config, progress_bars
from freerea_seval.config import Config

if TYPE_CHECKING:
    from freerea_seval.runs.check import Check


def check(
    config: str | Path | Mapping[str, Any] | Config | None = None,
    *,
    override: Sequence[str] | None = None,
    seconds: float = 10.0,
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
    from freerea_seval.runs.check import check_run

    settings, base, _ = as_config(config, list(override or []))
    return check_run(settings, base, seconds, progress_bars(progress))


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a config (draft 7): its keys with types, defaults and descriptions, for editors.

    It is also in the package, as ``freerea_seval/schemas/config.json``. What depends on files, on installed packages or
    on several keys at once is checked by :func:`check`.

    Example:
        >>> import freerea_seval as fs
        >>> sorted(fs.schema()["properties"])
        ['budget', 'live', 'objectives', 'refine', 'report', 'search', 'space']
    """
    from freerea_seval.api.schema import config_schema

    return config_schema()
