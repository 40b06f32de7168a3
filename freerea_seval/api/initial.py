"""A first config for a task: :func:`initial_config` writes its text."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from freerea_patch import SPACES, Direction, InputError, make_space, unknown_name
from freerea_patch.spaces import input_dtype
from freerea_seval.config.presets import PRESETS
from freerea_seval.sources.device import COLUMNS as MEASURED
from freerea_seval.sources.registry import builtin_metric
from freerea_seval.units import direction_of, unit_of

#: The schema that :func:`freerea_seval.init` writes beside a config.
SCHEMA_NAME = "freerea-seval.schema.json"
COUNTED = ("params", "macs", "flops")

_TEXT = """\
# yaml-language-server: $schema={schema}
# {what}
# Check it with 'freerea-seval check {name}', and run it with 'freerea-seval search {name}'.

# nats-tss, nats-sss, fbnet or gpt-s, with 'dataset: NAME' beside the name; or a class of yours, pkg.module:Class.{only}
space: {space}

{guides}search: {search}

# The search ends after so many different networks; wall_seconds limits the time instead.
budget: {{evaluations: 100}}

# Networks are computed on this device, on random images; 'batch: FILE.npz' takes yours.
live: {live}

objectives:{guide}
  # {source}
  # {role}
  - {objective}
{refine}
# Computed for the result only, never searched on.
report:
  - {report}
"""


def initial_config(path: Path, space: str, metric: str, most: float | None, device: str, preset: str) -> str:
    """Return the text of a config.

    Args:
        path: of the config, from whose folder its paths start.
        space: its name, or ``pkg.module:Class``.
        metric: what is bounded or traded off; see :func:`freerea_seval.init`.
        most: the bound, None for an axis of the front.
        device: of live networks.
        preset: of the search.

    Raises:
        InputError: an unknown space, metric or preset, a metric that the space does not have, or a bound that no
            network keeps.
    """
    reads_tokens = input_dtype(make_space(space, path.parent)) == "int64"
    if metric in ("time_to_first_token", "time_per_token") and not reads_tokens:
        models = ", ".join(name for name in SPACES if name.startswith("gpt"))
        raise InputError(f"metric {metric!r} is of language models: choose a space of {models}, or of your own")
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    if most is not None and metric in (*MEASURED, *COUNTED) and not most > 0:
        raise InputError(f"no network has a {metric} of {most:g} or less; expected a positive bound")
    source = _source(metric, path.parent)
    objective: dict[str, Any] = {"metric": source.metric, "source": source.argument}
    if most is None:
        objective |= {"role": "pareto"} | ({} if source.direction is None else {"direction": source.direction})
        what = f"The trade-off between how good networks are and {source.metric}."
        role = "An axis of the front. For a bound, write 'role: constraint, max: NUMBER' instead of 'role: pareto'."
    else:
        objective |= {"role": "constraint", "max": most}
        what = f"Good networks with a {source.metric} of at most {f'{most:g} {source.unit}'.strip()}."
        role = "A bound. For an axis of the front, write 'role: pareto' instead of 'role: constraint, max: NUMBER'."
    only = {} if source.table is None else {"only": source.table}
    return _TEXT.format(
        schema=SCHEMA_NAME,
        name=path.name,
        what=what,
        only=" 'only' limits it to the networks of a table." if only else "",
        space=_flow({"name": space} | only),
        search=_flow(({} if reads_tokens else {"preset": preset}) | {"population": 30, "tournament": 10, "seeds": [0]}),
        guide=_SIZE if reads_tokens else "",
        guides="" if reads_tokens else _GUIDES,
        live=_flow({"batch": "random", "batch_size": 32, "device": device}),
        source=source.text,
        role=role,
        objective=_flow(objective),
        refine=_REFINE if metric in MEASURED else "",
        report=_flow({"metric": "params" if source.metric == "macs" else "macs", "source": "cost"}),
    )


_GUIDES = """\
# 'preset: guided' adds objectives that need no training, and options that suit them; 'published' is FreeREA's own.
"""
#: The guide of language models.
_SIZE = """
  # Of language models, those with the larger decoder are better (Javaheripi 2022, LiteTransformerSearch).
  - {metric: decoder_params, source: cost, direction: max, name: size}"""
_REFINE = """
# So many networks are measured before the search, and after each part of it; predictors learn from all of them.
refine: {start: 12, rounds: 3, networks: 12}
"""


class _Source(NamedTuple):
    """A metric of a config, its source, a comment on it, and a direction where the source does not know it."""

    metric: str
    argument: str | dict[str, Any]
    text: str
    unit: str
    direction: Direction | None = None
    table: str | None = None


def _source(metric: str, base: Path) -> _Source:
    """Return what a metric means, for a config in the folder ``base``."""
    if metric in MEASURED:
        unit = builtin_metric("device", metric).unit
        text = f"Measured on this machine for some networks, in {unit}, and predicted for the others."
        return _Source(metric, {"seval": {"measure": metric}}, text, unit)
    if metric in COUNTED:
        unit = builtin_metric("cost", metric).unit
        return _Source(metric, "cost", f"Counted on the network, in {'millions' if unit == 'M' else unit}.", unit)
    file, colon, name = metric.rpartition(":")
    if colon and file.endswith(".csv"):
        path = os.path.relpath(Path(file).expanduser(), base)
        text = "From a table with a column 'genotype'; an empty cell is an error unless the source says what it means."
        return _Source(name, {"table": path}, text, unit_of(name), direction_of(name) or "min", path)
    if colon:
        text = "A function of yours in a file beside this one; it takes a genotype, or a parameter named 'network'."
        return _Source(name.rpartition(".")[2], {"python": metric}, text, "", direction_of(name) or "min")
    raise unknown_name("metric", metric, (*MEASURED, *COUNTED, "FILE.csv:COLUMN", "pkg.module:function"))


def _flow(value: Any) -> str:
    """Return a mapping as YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6).strip()
