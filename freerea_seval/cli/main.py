"""The entry point ``freerea-seval``: the commands, and one line for every mistake."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from freerea_seval import __version__

app = typer.Typer(
    help="Put any metric into a training-free architecture search.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # panels would import a Markdown parser, which takes longer than all of our own
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)

SpaceOption = Annotated[
    str, typer.Option(help="nats-tss or nats-sss, /DATASET behind it (nats-tss/cifar100), or pkg.module:Class.")
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"freerea-seval {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Put any metric into a training-free architecture search."""


@app.command()
def search(
    config: Annotated[Path | None, typer.Argument(help="Config file (YAML); without one, the default search.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Run folder to make.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds: 0,1,2 or 0-29.")] = None,
    device: Annotated[str | None, typer.Option(help="Device of live networks: cpu, cuda, ...")] = None,
    batch: Annotated[str | None, typer.Option(help="Images: FILE.npz, pkg.module:callable, or random.")] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a config value; repeatable.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Continue this run folder instead of starting one.")] = None,
) -> None:
    """Run a search and write a run folder."""
    from freerea_seval.cli.commands import run_search

    run_search(config, output, seeds, device, batch, override or [], resume)


@app.command()
def report(run: Annotated[Path, typer.Argument(help="Run folder.")]) -> None:
    """Print a finished run, and draw its figure again."""
    from freerea_seval.cli.commands import show_run

    show_run(run)


#: What NumPy takes as a seed.
_MOST_SEED = 2**32 - 1

UnsupportedOption = Annotated[
    float | None, typer.Option(help="Number that marks networks that the device cannot run, such as -1.")
]
MissingOption = Annotated[
    bool, typer.Option("--missing", help="An empty cell was not measured; without this, the device cannot run it.")
]
PredictorSpaceOption = Annotated[
    str | None,
    typer.Option(help="Search space; by default the predictor's own, if built in. Your own: pkg.module:Class."),
]
ProxiesOption = Annotated[
    Path | None, typer.Option(help="CSV with a genotype (or index) column and one a zero-cost proxy.")
]


@app.command()
def train(
    table: Annotated[Path, typer.Argument(help="CSV with a genotype (or index) column and one a metric.")],
    metric: Annotated[list[str], typer.Option(help="The column to predict; several are learned together.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the predictor.")],
    space: SpaceOption = "nats-tss",
    direction: Annotated[str, typer.Option(help="Which values are better: min or max.")] = "min",
    unit: Annotated[str | None, typer.Option(help="Unit; by default from the column's name.")] = None,
    unsupported: UnsupportedOption = None,
    missing: MissingOption = False,
    view: Annotated[
        str | None,
        typer.Option(help="What strings show: executed (costs) or functional (accuracy); by the metric's name."),
    ] = None,
    model: Annotated[
        str, typer.Option(help="boosted, ordered, gp, ridge, mlp, t5 or ensemble; auto chooses by cross-validation.")
    ] = "auto",
    scale: Annotated[str, typer.Option(help="Learn on a linear, log or rank scale; auto chooses.")] = "auto",
    proxies: ProxiesOption = None,
    base: Annotated[
        list[Path] | None,
        typer.Option(
            help="Predictor of another metric or data set to start from; repeatable. One of the same metric would know"
            " what cross-validation holds out, and is refused."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Fixes the training.", min=0, max=_MOST_SEED)] = 0,
) -> None:
    """Train a predictor from a table of your measurements."""
    from freerea_seval.cli.predicting import Cells, Training, train_from_table

    training = Training(direction, unit, view, model, scale, seed, proxies, base or [])
    train_from_table(table, metric, output, space, training, Cells(unsupported, missing))


@app.command()
def predict(
    predictor: Annotated[Path, typer.Argument(help="Folder that train wrote.")],
    genotypes: Annotated[list[str] | None, typer.Argument(help="Genotypes; or - to read them, one a line.")] = None,
    space: PredictorSpaceOption = None,
    interval: Annotated[
        float | None, typer.Option(help="Bounds that hold the value with this probability, such as 0.9.")
    ] = None,
    proxies: ProxiesOption = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="CSV to write, instead of printing.")] = None,
) -> None:
    """Predict metrics for genotypes, as CSV. An empty cell is a network that cannot run; inf is no bound."""
    from freerea_seval.cli.predicting import predict_genotypes

    predict_genotypes(predictor, genotypes or [], space, output, interval, proxies)


@app.command()
def evaluate(
    predictor: Annotated[Path, typer.Argument(help="Folder that train wrote.")],
    table: Annotated[Path, typer.Argument(help="CSV of measurements that it did not learn from.")],
    space: PredictorSpaceOption = None,
    interval: Annotated[float, typer.Option(help="Nominal coverage of the intervals to judge.")] = 0.9,
    unsupported: UnsupportedOption = None,
    missing: MissingOption = False,
    proxies: ProxiesOption = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for predictions, scores and figures.")
    ] = None,
) -> None:
    """Judge a predictor by measurements that it did not learn from."""
    from freerea_seval.cli.predicting import Cells, evaluate_predictor

    evaluate_predictor(predictor, table, output, space, interval, Cells(unsupported, missing), proxies)


@app.command()
def encode(
    network: Annotated[str | None, typer.Argument(help="pkg.module:factory of a torch module.")] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input", help="Shape of an input, the batch included: 1,3,32,32; 1,16:int64; mask=1,16. Repeatable."
        ),
    ] = None,
    view: Annotated[str, typer.Option(help="executed: all that runs; functional: what is computed.")] = "executed",
    published: Annotated[bool, typer.Option("--published", help="SEval-NAS's published format instead.")] = False,
    space: Annotated[str | None, typer.Option(help="Encode this whole search space instead of one network.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File to write: .csv for a space.")] = None,
) -> None:
    """Show the string and cost of a network, or of a space."""
    from freerea_seval.cli.encoding import encode_network, encode_space

    if space is None:
        encode_network(network, inputs or [], view, published, output)
    else:
        encode_space(space, network, inputs or [], view, published, output)


class _RunByDefault(TyperGroup):
    """Commands of which the first word may be left out if it is ``run``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the word in."""
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = ["run", *args]
        return super().parse_args(ctx, args)


measure = typer.Typer(cls=_RunByDefault, help="Time networks on this machine, or on a device elsewhere.")
app.add_typer(measure, name="measure")

NetworksArgument = Annotated[list[str] | None, typer.Argument(help="pkg.module:factory of torch modules.")]
InputOption = Annotated[
    list[str] | None, typer.Option("--input", help="Shape of an input, the batch included; as for encode.")
]
CountOption = Annotated[int | None, typer.Option("--networks", help="So many random networks of the space.")]
GenotypesOption = Annotated[
    Path | None, typer.Option("--genotypes", help="These networks: one a line, or a CSV's column genotype.")
]
InformativeOption = Annotated[
    bool,
    typer.Option("--informative", help="Those of 1,000 networks, or of --genotypes, that teach a predictor most."),
]
BatchSizeOption = Annotated[int | None, typer.Option("--batch-size", help="Images at once; 1 by default.")]
SpaceChoice = Annotated[str | None, typer.Option("--space", help="Search space: nats-tss, nats-sss, ...")]


@measure.command("run")
def measure_run(
    networks: NetworksArgument = None,
    inputs: InputOption = None,
    space: SpaceChoice = None,
    count: CountOption = None,
    genotypes: GenotypesOption = None,
    informative: InformativeOption = False,
    backend: Annotated[str, typer.Option(help="eager, compile (torch.compile) or onnx (ONNX Runtime).")] = "eager",
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    batch_size: BatchSizeOption = None,
    threads: Annotated[int, typer.Option(help="CPU threads of a network.")] = 1,
    rounds: Annotated[int, typer.Option(help="Visits to every network.")] = 11,
    budget: Annotated[
        str | None, typer.Option(help="Time for measuring, such as 60s or 1h: the most informative networks first.")
    ] = None,
    memory: Annotated[bool, typer.Option("--memory", help="Peak resident memory too, in a process a network.")] = False,
    seed: Annotated[
        int, typer.Option(help="Fixes random networks and the order of visits.", min=0, max=_MOST_SEED)
    ] = 0,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="CSV to write; the same command goes on after a kill.")
    ] = None,
) -> None:
    """Time networks on this machine; the word run may be left out."""
    from freerea_seval.cli.measuring import Choice, Manner
    from freerea_seval.cli.measuring import measure as measure_networks

    choice = Choice(networks or [], inputs or [], space, count, genotypes, batch_size, seed, informative)
    measure_networks(choice, Manner(backend, device, threads, rounds, budget, memory), output)


@measure.command("export")
def measure_export(
    networks: NetworksArgument = None,
    inputs: InputOption = None,
    space: SpaceChoice = None,
    count: CountOption = None,
    genotypes: GenotypesOption = None,
    informative: InformativeOption = False,
    batch_size: BatchSizeOption = None,
    seed: Annotated[int, typer.Option(help="Fixes random networks and inputs.", min=0, max=_MOST_SEED)] = 0,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder to make.")] = None,
) -> None:
    """Write networks as ONNX, for another device. With a script that needs only onnxruntime and numpy."""
    from freerea_seval.cli.measuring import Choice, export_networks

    choice = Choice(networks or [], inputs or [], space, count, genotypes, batch_size, seed, informative)
    export_networks(choice, output)


@measure.command("import")
def measure_import(
    results: Annotated[Path, typer.Argument(help="The results.csv of an exported folder, with its manifest beside.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="CSV to write.")],
) -> None:
    """Check what an export has measured, and write it as CSV."""
    from freerea_seval.cli.measuring import import_from

    import_from(results, output)


@app.command()
def objectives() -> None:
    """List all metrics, with unit, direction and origin."""
    from freerea_seval.cli.commands import list_objectives

    list_objectives()


def main() -> None:
    """Run the command line.

    A user's mistake ends with one line on standard error and exit code 2.
    """
    try:
        status: Any = app(standalone_mode=False)
    except OSError as error:
        if error.errno == errno.EPIPE:  # whoever read our output has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        _fail(_describe(error))
    except Exception as error:
        from freerea_patch import InputError

        if isinstance(error, InputError):
            _fail(str(error))
        if _is_usage_error(error):
            message = error.format_message()  # type: ignore[attr-defined]
            if type(error).__name__ == "NoArgsIsHelpError":  # called without a command: the message is the help
                typer.echo(message)
                sys.exit(0)
            _fail(f"{message.rstrip('.')}; see freerea-seval --help")
        raise
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str) -> None:
    typer.echo(f"freerea-seval: error: {' '.join(message.split())}", err=True)
    sys.exit(2)


def _describe(error: OSError) -> str:
    where = f" {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        mend = "; make room, then continue a search with --resume RUN: what was written is whole"
    else:
        mend = "; mend that and try again"
    return f"cannot read or write{where}: {error.strerror or error}{mend}"


def _is_usage_error(error: Exception) -> bool:
    """Whether typer could not make sense of the command line; typer may bring its own copy of click."""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


if __name__ == "__main__":
    main()
