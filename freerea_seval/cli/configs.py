"""The commands about configs: ``init``, ``check``, ``schema``, and ``objectives``, which lists what they may name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freerea_seval.cli.output import MODE, console, documents, echo, options, print_document

if TYPE_CHECKING:
    from freerea_seval.runs.check import Check, CheckedMetric, TimeEstimate


@options(json=False)
def init(
    path: Annotated[Path, typer.Argument(metavar="[FILE]", help="Config to write.")] = Path("search.yaml"),
    space: Annotated[
        str | None, typer.Option(help="nats-tss, nats-sss or fbnet, /DATASET behind it, or pkg.module:Class.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="What to bound or trade off: latency, memory, energy (measured on this machine), params, macs, flops,"
            " FILE.csv:COLUMN, or pkg.module:function."
        ),
    ] = None,
    max: Annotated[
        float | None, typer.Option(help="Its largest value; without one, it is an axis of the front.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Device of live networks: cpu, cuda, ...")] = None,
    preset: Annotated[
        str | None, typer.Option(help="What guides the search without training: guided, or published (FreeREA's).")
    ] = None,
) -> None:
    """Write a commented config for a task. On a terminal, it asks for what is not given; elsewhere, it has defaults."""
    from freerea_patch import InputError
    from freerea_seval.api import configs

    if path.exists():
        raise InputError(f"{path} exists already; choose another file, or remove it")
    asks = sys.stdin.isatty() and not MODE.quiet

    def answer(value: str | None, question: str, default: str) -> str:
        if value is not None or not asks:
            return default if value is None else value
        return str(typer.prompt(question, default, err=True))

    space = answer(space, "Search space: nats-tss, nats-sss, fbnet, or pkg.module:Class", "nats-tss")
    what = "latency, memory, energy, params, macs, flops, FILE.csv:COLUMN, or pkg.module:function"
    metric = answer(metric, f"What to bound or trade off: {what}", "latency")
    if max is None and asks:
        max = typer.prompt(
            "Its largest value, or nothing for an axis of the front",
            "",
            show_default=False,
            value_proc=_bound,
            err=True,
        )
    device = answer(device, "Device of live networks: cpu, cuda, ...", "cpu")
    preset = answer(preset, "Guide: guided, or published", "guided")
    configs.init(path, space=space, metric=metric, max=max, device=device, preset=preset)
    echo(f"{path}: see what it would run with: freerea-seval check {path}")
    echo(f"next: freerea-seval search {path}")


def _bound(text: str) -> float | None:
    try:
        return float(text) if text.strip() else None
    except ValueError:
        raise typer.BadParameter(f"expected a number, such as 2.5, or nothing, got {text!r}") from None


@options()
def check(
    config: Annotated[Path | None, typer.Argument(help="Config file (YAML); without one, the default search.")] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a config value; repeatable.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Evaluate networks for so long, to estimate the time; 0: none.")] = 10,
    workers: Annotated[int | None, typer.Option(help="Of the search, as for search; its default by default.")] = None,
) -> None:
    """Say what a config would run, what is missing for it, and about how long it takes. It writes nothing."""
    from freerea_patch import InputError
    from freerea_seval.api import configs

    checked = configs.check(config, override=override, seconds=seconds, workers=workers, progress=MODE.progress)
    print_document(lambda: checked)
    if MODE.document is None:
        _print_check(checked)
    if checked.problems:
        raise InputError("; ".join(checked.problems))


@options(json=False)
def schema(
    of: Annotated[str, typer.Argument(help="config, or a command: what it prints with --json.")] = "config",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write, or a folder that exists, for all schemas.")
    ] = None,
) -> None:
    """Print the JSON Schema of a config, by which editors complete and check it, or of what a command prints."""
    from freerea_seval.api import configs
    from freerea_seval.files import write_atomically

    if output is None:
        echo(configs.schema_text(of), nl=False)
    elif output.is_dir():
        from freerea_seval.api.documents import schemas

        for name in schemas():
            write_atomically(output / f"{name.replace(' ', '-')}.json", configs.schema_text(name))
        echo(f"{output}: the schemas of a config and of what commands print")
    else:
        write_atomically(output, configs.schema_text(of))
        use = f": name it in the first line of a config: # yaml-language-server: $schema={output.name}"
        echo(f"{output}{use if of == 'config' else ''}")


@options()
def objectives() -> None:
    """List all metrics, with unit, direction and origin."""
    from rich.markup import escape
    from rich.table import Table

    from freerea_seval.sources.registry import load_registry

    print_document(lambda: documents().of_objectives())
    if MODE.document is not None:
        return
    table = Table(title="Metrics for 'objectives' and 'report'")
    for heading in ("source", "metric", "unit", "better"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what it is")
    better = {"max": "larger", "min": "smaller", None: "in the config"}
    for record in load_registry():
        origin = record.origin + (f"; source: {{{record.name}: ...}}, {record.argument}" if record.argument else "")
        table.add_section()
        table.add_row(f"[bold]{escape(record.name)}[/]", "", "", "", f"[italic]{escape(origin)}[/]")
        for info in record.metrics:
            cells = (info.name, info.unit, better[info.direction], info.description)
            table.add_row("", *map(escape, cells))  # the text of another package is no markup
        if not record.metrics:
            table.add_row("", "(yours)", "", "", "")
    console(160).print(table)  # a pipe has no width; lines must not be cut for its reader


def _print_check(checked: Check) -> None:
    from rich.table import Table
    from rich.text import Text

    from freerea_seval.progress import printable

    limits = {name: limit for name, limit in checked.budget.items() if name != "patience"}
    lines = {
        "space": _argument(checked.space) + (f", the rows of {checked.only}" if checked.only is not None else ""),
        "algorithm": f"{checked.algorithm}: {_argument(checked.options)}",
        "seeds": ", ".join(map(str, checked.seeds[:10])) + (", ..." if len(checked.seeds) > 10 else ""),
        "budget": ", ".join(f"{limit:g} {name.replace('_', ' ')}" for name, limit in limits.items()),
        "device": checked.device,
    }
    if checked.refine is not None:
        lines["refine"] = (
            f"{checked.refine['start']} networks are measured first, and {checked.refine['networks']} after each of"
            f" {checked.refine['rounds']} parts of the search"
        )
    for name, text in lines.items():
        echo(f"{name:<10} {text}")
    table = Table()
    for heading in ("metric", "source", "unit", "better", "part"):
        table.add_column(heading, overflow="fold")
    for metric in (*checked.objectives, *checked.report):
        better = {"max": "larger", "min": "smaller", None: ""}[metric.direction]
        cells = (metric.name, _source(metric), metric.unit, better, _part(metric))
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console(120).print(table)
    for note in checked.notes:
        echo(note)
    if checked.time is not None:
        echo(f"{'time':<10} {'; '.join(_time(checked.time))}")


def _argument(value: Any) -> str:
    """Return a value of a config on one line."""
    if not isinstance(value, dict):
        return str(value)
    name = [str(value["name"])] if "name" in value else []
    return ", ".join([*name, *(f"{key} {_argument(item)}" for key, item in value.items() if key != "name")])


def _source(metric: CheckedMetric) -> str:
    if isinstance(metric.source, str):
        return metric.source
    ((name, argument),) = metric.source.items()
    return f"{name}: {_argument(argument)}"


def _part(metric: CheckedMetric) -> str:
    bounds = [f">= {metric.min:g}"] if metric.min is not None else []
    bounds += [f"<= {metric.max:g}"] if metric.max is not None else []
    text = {
        "fitness": f"term of the score, weight {metric.weight or 1:g}",
        "guide": "term of the score until predictors are trained",
        "constraint": " and ".join(bounds),
        "pareto": "axis of the front",
        "report": "of the result only",
    }[metric.role]
    return text if metric.confidence is None else f"{text}, with probability {metric.confidence:g}"


def _time(time: TimeEstimate) -> Iterator[str]:
    yield f"{'more than' if time.at_least else 'about'} {_duration(time.seconds)}" + (
        f" with {time.workers} workers" if time.workers > 1 else ""
    )
    if time.network_s is not None:
        cached = f", {time.cached} of them from the cache" if time.cached else ""
        yield f"{time.network_s:.2g} s a network (mean of {time.networks}{cached})"
    if time.measurements:
        each = "" if time.measurement_s is None else f" of {time.measurement_s:.2g} s"
        yield f"{time.measurements} measurements{each}"
    yield from (f"not counted: {what}" for what in time.without)


def _duration(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.0f} s"
