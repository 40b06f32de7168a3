"""The command line ``freerea-seval``: it parses, calls :mod:`freerea_seval.api` and prints.

Every command has the parameter names and defaults of its Python twin. A user's mistake is one line on standard error.
"""

from __future__ import annotations

import errno
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from freerea_patch import share_cores
from freerea_seval import __version__
from freerea_seval.cli import configs
from freerea_seval.cli.output import MODE, console, echo, options, print_document
from freerea_seval.progress import printable

if TYPE_CHECKING:
    from pandas import DataFrame

    from freerea_seval.api.calibrating import Calibration
    from freerea_seval.api.predictors import Predictor
    from freerea_seval.api.runs import Run

app = typer.Typer(
    help="Put any metric into a training-free architecture search.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # panels would import a Markdown parser, which takes longer than all of our own
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)

SpaceOption = Annotated[
    str,
    typer.Option(
        help="nats-tss, nats-sss, fbnet, ..., /DATASET behind it (nats-tss/cifar100), or pkg.module:Class; with options"
        " as in a config: '{name: gpt, width: [128, 256]}'; or a search's config, FILE.yaml, for its space."
    ),
]

BatchSizeOption = Annotated[int | None, typer.Option("--batch-size", help="Images at once; 1 by default.")]


#: The largest seed of NumPy.
_LARGEST_SEED = 2**32 - 1
#: More measurements pay if half of them have a larger error by this factor.
_PAYS = 1.2
#: Scores in the order of printing; those in the metric's unit may be a millionth or a million.
_PRINTED_SCORES = ("kendall_tau", "spearman", "r2", "rmse", "auc", "kendall_tau_all", "coverage", "width")
_IN_UNIT = ("rmse", "width")

UnsupportedOption = Annotated[
    float | None, typer.Option(help="Number that marks networks that the device cannot run, such as -1.")
]
MissingOption = Annotated[
    bool, typer.Option("--missing", help="An empty cell was not measured; without this, the device cannot run it.")
]
PredictorSpaceOption = Annotated[
    str | None,
    typer.Option(
        help="Search space; by default the predictor's own, if built in. Your own: pkg.module:Class, or a search's"
        " config, FILE.yaml."
    ),
]
ProxiesOption = Annotated[
    Path | None, typer.Option(help="CSV with a genotype (or index) column and one a zero-cost proxy.")
]


def _version(wanted: bool) -> None:
    if wanted:
        echo(f"freerea-seval {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Put any metric into a training-free architecture search."""


@app.command()
@options()
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
    answers: Annotated[
        Path | None, typer.Option(help="With --resume: CSV of the values that the search asked for.")
    ] = None,
    start_from: Annotated[
        list[Path] | None,
        typer.Option(help="Take over measurements, answers and networks of this earlier run; repeatable."),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="With --resume: import the code that a run folder from elsewhere names.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that evaluate networks, or search with whole seeds. By default: as many as physical cores"
            " once training-free metrics have taken five seconds; one where a metric is measured by a clock."
        ),
    ] = None,
    executor: Annotated[
        str | None, typer.Option(help="ray, or ray://HOST:PORT: the cores of a Ray cluster evaluate networks.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="Algorithm instead of the config's: optuna:tpe, pymoo:nsga2, freerea, ...")
    ] = None,
    log: Annotated[
        str | None, typer.Option(help="Write the finished run to an experiment tracker: tensorboard, mlflow or wandb.")
    ] = None,
) -> None:
    """Run a search and write a run folder."""
    from freerea_seval.api import runs

    _show(
        runs.search(
            config,
            output,
            seeds=seeds,
            device=device,
            batch=batch,
            override=override,
            resume=resume,
            answers=answers,
            start_from=start_from,
            trust=trust,
            workers="auto" if workers is None else workers,
            executor=executor,
            engine=engine,
            log=log,
            progress=MODE.progress,
        )
    )


app.command()(options(json=False)(configs.init))
app.command()(options()(configs.check))
app.command()(options(json=False)(configs.schema))


@app.command()
@options()
def report(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    html: Annotated[Path | None, typer.Option(help="File for the page instead of report.html in the folder.")] = None,
) -> None:
    """Print a finished run, and write its figure and its page again."""
    from freerea_seval.api.runs import load_run

    loaded = load_run(run)
    if html is not None:
        loaded.report(html)
    _show(loaded, html)


def _show(run: Run, page: Path | None = None) -> None:
    """Print a finished run, draw its figure, and write its page; where that is impossible, say why."""
    from freerea_patch import InputError
    from freerea_seval.runs.report import print_report

    if MODE.document is None:
        print_report(run.folder, console())
    figure: Path | None = None
    try:
        figure = run.draw()
    except (InputError, OSError) as error:  # the run is worth as much without its figure
        echo(f"no figure: {error}", err=True)
    if page is None:
        try:
            page = run.write_page()
        except (InputError, OSError) as error:
            echo(f"no page: {error}", err=True)
    print_document(lambda: documents().of_run(run, figure, page))
    echo(f"run folder: {run.path}")
    if page is not None:
        echo(f"page: {page}")
    if len(run.front):
        echo(f"next: freerea-seval export {shlex.quote(str(run.path))} -o {run.config.network_files[0]}")


def documents() -> ModuleType:
    """Import what documents for programs are made of."""
    from freerea_seval.api import documents

    return documents


@app.command()
@options()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, two or more.")],
    on: Annotated[
        list[str] | None,
        typer.Option(help="Metric to compare; repeatable. By default, Pareto objectives and reports that all have."),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with interactive figures, too.")] = None,
) -> None:
    """Lay finished runs side by side: the best value of a metric, or the hypervolume on several, over seeds."""
    from freerea_seval.api.runs import compare as compare_runs

    table = compare_runs(runs, on or (), html)
    print_document(lambda: documents().of_comparison(table, html))
    if MODE.document is None:
        from freerea_seval.runs.report import print_table

        shown = table.dropna(axis="columns", how="all").rename(columns={"quality": table.attrs["quality"]})
        print_table(shown, console())
    if html is not None:
        echo(f"page: {html}")


@app.command()
@options()
def export(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    path: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="File to write: .py (PyTorch source that needs torch alone), .onnx or .pt2; or config.json, in a space"
            " of transformers.",
        ),
    ],
    pick: Annotated[
        int | None, typer.Option(help="Number of the network in the report's tables; by default the recommended one.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Without --pick: the recommended one of this seed of the search.")
    ] = None,
    batch_size: BatchSizeOption = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Import the search space that a run folder from elsewhere names.")
    ] = False,
) -> None:
    """Write a network of a finished run to a file for use without this package. It is loaded again and compared."""
    from freerea_seval.api.runs import load_run

    written = load_run(run, trust=trust).export(path, pick, seed, batch_size)
    print_document(lambda: documents().ExportDocument(file=str(written), run=str(run)))
    what = "parameters" if written.suffix == ".json" else "outputs"
    echo(f"{written}: loaded again, with the {what} of the network")


@app.command()
@options()
def train(
    table: Annotated[
        Path, typer.Argument(help="CSV with a genotype (or index) column, or measure's of modules; and one a metric.")
    ],
    metric: Annotated[list[str], typer.Option(help="The column to predict; several are learned together.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the predictor.")],
    space: SpaceOption = "nats-tss",
    direction: Annotated[
        list[str] | None,
        typer.Option(help="Which values are better, min or max, by the metric's name; repeatable, one a metric."),
    ] = None,
    unit: Annotated[str | None, typer.Option(help="Unit; by default from the column's name.")] = None,
    unsupported: UnsupportedOption = None,
    missing: MissingOption = False,
    view: Annotated[
        str | None,
        typer.Option(help="What strings show: executed (costs) or functional (accuracy); by the metric's name."),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="boosted, ordered, shallow, robust, gp, additive, calibrated, ridge, mlp, t5 or ensemble;"
            " auto chooses by cross-validation."
        ),
    ] = "auto",
    scale: Annotated[str, typer.Option(help="Learn on a linear, log, rank or blend scale; auto chooses.")] = "auto",
    proxies: ProxiesOption = None,
    base: Annotated[
        list[Path] | None,
        typer.Option(
            help="Predictor of another metric or data set to start from; repeatable. One of the same metric is refused:"
            " it would leak the target into the validation folds."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Fixes the training.", min=0, max=_LARGEST_SEED)] = 0,
) -> None:
    """Train a predictor from a table of your measurements."""
    from freerea_seval.api import predictors

    trained = predictors.train(
        table,
        metric,
        output,
        space=space,
        direction=direction or None,
        unit=unit,
        unsupported=unsupported,
        missing=missing,
        view=view,
        model=model,
        scale=scale,
        proxies=proxies,
        base=base,
        seed=seed,
        progress=MODE.progress,
    )
    info = trained.info
    print_document(lambda: documents().of_predictor(trained, output))
    echo(
        f"{output}: predicts {', '.join(metric)} of {info.space} from the {info.view} view, trained on {info.samples}"
        f" networks\nchose {info.choice}"
    )
    for predicted in info.metrics:
        unable = f" ({predicted.unsupported} unsupported)" if predicted.unsupported else ""
        echo(f"{predicted.name}, {predicted.samples} values{unable}; cross-validated {_scores(predicted.scores)}")


@app.command()
@options()
def predict(
    predictor: Annotated[Path, typer.Argument(help="Folder that train wrote.")],
    genotypes: Annotated[
        list[str] | None,
        typer.Argument(help="Genotypes, pkg.module:factory of modules, or FILE.onnx; or - to read them, one a line."),
    ] = None,
    space: PredictorSpaceOption = None,
    interval: Annotated[
        float | None, typer.Option(help="Bounds that hold the value with this probability, such as 0.9.")
    ] = None,
    proxies: ProxiesOption = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="CSV to write, instead of printing.")] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", help="Shape of an input of modules, the batch included; as for encode."),
    ] = None,
) -> None:
    """Predict metrics for genotypes or modules, as CSV. An empty cell is a network that cannot run; inf is no bound."""
    from freerea_seval.api.predictors import load_predictor
    from freerea_seval.tables import to_csv

    loaded = load_predictor(predictor)
    if genotypes == ["-"]:
        genotypes = [line.strip() for line in sys.stdin if line.strip()]
    table = loaded.predict(genotypes or [], space, interval, proxies, output, inputs or None, progress=MODE.progress)
    print_document(lambda: documents().of_predictions(table, output))
    if interval is not None:
        _warn_of_infinite_bounds(loaded, interval)
    if unlike := table.attrs["extrapolated"]:
        row, size = next(iter(unlike.items()))
        echo(
            f"freerea-seval: {len(unlike)} of {len(table)} networks are unlike all that the predictor learned from, and"
            f" predictions may be far off: {table.iloc[row, 0]} has {size}; measure some of their kind",
            err=True,
        )
    if output is None:
        echo(to_csv(table, 6), nl=False)


@app.command()
@options()
def evaluate(
    predictor: Annotated[Path, typer.Argument(help="Folder that train wrote.")],
    table: Annotated[Path, typer.Argument(help="CSV of measurements that it was not trained on.")],
    space: PredictorSpaceOption = None,
    interval: Annotated[float, typer.Option(help="Nominal coverage of the intervals to score.")] = 0.9,
    unsupported: UnsupportedOption = None,
    missing: MissingOption = False,
    proxies: ProxiesOption = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for predictions, scores and figures.")
    ] = None,
) -> None:
    """Score a predictor on measurements that it was not trained on."""
    from freerea_seval.api.predictors import load_predictor

    loaded = load_predictor(predictor)
    scores = loaded.evaluate(table, space, interval, unsupported, missing, proxies, output, progress=MODE.progress)
    print_document(lambda: documents().of_evaluation(scores, interval, output))
    for name, row in scores.iterrows():
        defined = {str(score): value for score, value in row.dropna().items()}
        echo(f"{name}, {row['networks']:.0f} networks: {_scores(defined)}")
    _warn_of_infinite_bounds(loaded, interval)
    if output is not None:
        echo(f"{output}: predictions.csv, scores.json and a figure a metric")


def _scores(scores: Mapping[str, float]) -> str:
    names = [name for name in (*_PRINTED_SCORES, *(n for n in scores if n.startswith("top_"))) if name in scores]
    return ", ".join(f"{n.replace('_', ' ')} {scores[n]:{'.4g' if n in _IN_UNIT else '.3f'}}" for n in names)


def _warn_of_infinite_bounds(predictor: Predictor, interval: float) -> None:
    """Print on standard error, in one line, which metrics were measured too rarely for an interval."""
    from freerea_seval.predictor.conformal import samples_needed

    few = [f"{metric} from {count}" for metric, count in predictor.unbounded(interval).items()]
    if few:
        echo(
            f"freerea-seval: an interval that holds with probability {interval:g} takes {samples_needed(interval)}"
            f" measurements, and the predictor learned {', '.join(few)}: bounds are infinite; measure more, or ask for"
            " a smaller --interval",
            err=True,
        )


@app.command()
@options()
def encode(
    network: Annotated[str | None, typer.Argument(help="pkg.module:factory of a torch module, or FILE.onnx.")] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            help="Shape of an input, the batch included: 1,3,32,32; 1,16:int64; mask=1,16; a list of tensors:"
            " '[3,64,64;3,32,32]' or 'images=[3,64,64]'. Repeatable.",
        ),
    ] = None,
    view: Annotated[str, typer.Option(help="executed: all that runs; functional: what is computed.")] = "executed",
    published: Annotated[bool, typer.Option("--published", help="SEval-NAS's published format instead.")] = False,
    space: Annotated[str | None, typer.Option(help="Encode this whole search space instead of one network.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File to write: .csv for a space.")] = None,
) -> None:
    """Show the string and cost of a network, or of a space."""
    from freerea_patch import InputError
    from freerea_seval.api import encoding

    if space is None:
        string, facts = encoding.encode_with_facts(network, inputs, view, published, output)
        if output is None:
            echo(string + "\n")
        for name, value in facts.items():
            echo(f"{name:<13}  {value:,}" if isinstance(value, int) else f"{name:<13}  {value}")
        tokens = None
        if not published:
            from freerea_seval.strings import Tokenizer

            tokenizer = Tokenizer()
            tokens = tokenizer.tokens(string)
            echo(f"tokens         {len(tokens)} of a vocabulary of {len(tokenizer)}: {' | '.join(tokens)}")
        written = None if output is None else str(output)
        encoded = {"string": string, "facts": facts, "tokens": tokens, "output": written}
        print_document(lambda: documents().EncodingDocument(network=encoded, space=None))
        return
    if network is not None or inputs:
        raise InputError("--space encodes a whole space; leave out the network and --input")
    if output is None:
        raise InputError("a whole space is written to a file: add -o FILE.csv")
    strings = encoding.encode(view=view, published=published, space=space, output=output, progress=MODE.progress)
    lengths, different = sorted(map(len, strings["string"])), strings["string"].nunique()
    median, most = lengths[len(lengths) // 2], lengths[-1]
    sizes = {"networks": len(strings), "different": different, "median_characters": median, "most_characters": most}
    print_document(lambda: documents().EncodingDocument(network=None, space={**sizes, "output": str(output)}))
    echo(
        f"{output}: {len(strings):,} networks, {different:,} different strings, {median} characters in the median,"
        f" {most} at most"
    )


class _RunByDefault(TyperGroup):
    """A group of commands in which ``run`` is the default."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert ``run`` if the first argument is no command."""
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = ["run", *args]
        return super().parse_args(ctx, args)


measure_commands = typer.Typer(cls=_RunByDefault, help="Time networks on this machine, or on a device elsewhere.")
app.add_typer(measure_commands, name="measure")

NetworksArgument = Annotated[
    list[str] | None, typer.Argument(help="pkg.module:factory of torch modules, or FILE.onnx; or genotypes of --space.")
]
InputOption = Annotated[
    list[str] | None, typer.Option("--input", help="Shape of an input, the batch included; as for encode.")
]
CountOption = Annotated[
    int | None, typer.Option("--networks", help="Number of random networks of the space; 100 by default.")
]
GenotypesOption = Annotated[
    Path | None, typer.Option("--genotypes", help="File of genotypes: one a line, or a CSV with a column genotype.")
]
InformativeOption = Annotated[
    bool,
    typer.Option(
        "--informative", help="Choose the networks that teach a predictor most, among 1,000 random ones or --genotypes."
    ),
]
SpaceChoice = Annotated[str | None, typer.Option("--space", help="Search space: nats-tss, nats-sss, fbnet, ...")]


@measure_commands.command("run")
@options()
def measure(
    networks: NetworksArgument = None,
    inputs: InputOption = None,
    space: SpaceChoice = None,
    count: CountOption = None,
    genotypes: GenotypesOption = None,
    informative: InformativeOption = False,
    backend: Annotated[
        str | None,
        typer.Option(
            help="eager, compile (torch.compile) or onnx (ONNX Runtime); by default eager, and onnx if there are files."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    batch_size: BatchSizeOption = None,
    threads: Annotated[int, typer.Option(help="CPU threads of a network.")] = 1,
    rounds: Annotated[int, typer.Option(help="Visits to every network.")] = 11,
    budget: Annotated[
        str | None, typer.Option(help="Time for measuring, such as 60s or 1h: the most informative networks first.")
    ] = None,
    memory: Annotated[bool, typer.Option("--memory", help="Peak resident memory too, in a process a network.")] = False,
    seed: Annotated[
        int, typer.Option(help="Fixes random networks and the order of visits.", min=0, max=_LARGEST_SEED)
    ] = 0,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="CSV to write; the same command continues after a kill.")
    ] = None,
) -> None:
    """Time networks on this machine; the default of the three commands."""
    from freerea_patch import InputError
    from freerea_seval.api import measuring

    if output is None:
        raise InputError("measurements are written to a file: add -o FILE.csv")
    table = measuring.measure(
        networks or None,
        inputs or None,
        space,
        count,
        genotypes,
        informative,
        backend,
        device,
        batch_size,
        threads,
        rounds,
        budget,
        memory,
        seed,
        output,
        progress=MODE.progress,
    )
    print_document(lambda: documents().of_measurements(table, output))
    echo(_measured(table, output) + _unable(len(table.attrs["failed"]), output, "could not be built or exported"))


def _measured(table: DataFrame, output: Path) -> str:
    values = table["latency_ms"].dropna()
    line = f"{output}: {len(values)} networks, {values.min():.3g} to {values.max():.3g} ms"
    return line + _unable(len(table) - len(values), output)


def _unable(count: int, output: Path, what: str = "cannot run") -> str:
    return f"; {count} {what}, why is in {output.with_suffix('.json')}" if count else ""


@measure_commands.command("ssh")
@options()
def measure_ssh(
    hosts: Annotated[list[str], typer.Argument(help="Machines, as ssh takes them.")],
    networks: Annotated[
        list[str] | None, typer.Option("--module", help="pkg.module:factory of a torch module; repeatable.")
    ] = None,
    inputs: InputOption = None,
    space: SpaceChoice = None,
    count: CountOption = None,
    genotypes: GenotypesOption = None,
    informative: InformativeOption = False,
    batch_size: BatchSizeOption = None,
    threads: Annotated[int, typer.Option(help="CPU threads of a network.", min=1, max=1024)] = 1,
    rounds: Annotated[int, typer.Option(help="Visits to every network.", min=1, max=1_000_000)] = 11,
    seed: Annotated[int, typer.Option(help="Fixes random networks and inputs.", min=0, max=_LARGEST_SEED)] = 0,
    python: Annotated[str, typer.Option(help="Their Python, with onnxruntime and numpy.")] = "python3",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder for a HOST.csv a machine.")] = None,
) -> None:
    """Time the same networks on other machines, all at the same time, over SSH."""
    from freerea_seval.api.measuring import measure_over_ssh

    tables = measure_over_ssh(
        hosts,
        networks or None,
        inputs or None,
        space,
        count,
        genotypes,
        informative,
        batch_size,
        threads,
        rounds,
        seed,
        python,
        output,
        progress=MODE.progress,
    )
    folder = Path(str(output))
    files = {host: folder / f"{host}.csv" for host in tables}
    print_document(
        lambda: documents().DevicesDocument(
            devices={host: documents().of_measurements(table, files[host]) for host, table in tables.items()}
        )
    )
    for host, table in tables.items():
        echo(_measured(table, files[host]))


@measure_commands.command("export")
@options()
def measure_export(
    networks: NetworksArgument = None,
    inputs: InputOption = None,
    space: SpaceChoice = None,
    count: CountOption = None,
    genotypes: GenotypesOption = None,
    informative: InformativeOption = False,
    batch_size: BatchSizeOption = None,
    seed: Annotated[int, typer.Option(help="Fixes random networks and inputs.", min=0, max=_LARGEST_SEED)] = 0,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder to make.")] = None,
) -> None:
    """Write networks as ONNX, for another device. With a script that needs only onnxruntime and numpy."""
    from freerea_seval.api.measuring import export_networks

    exported = export_networks(
        networks or None,
        inputs or None,
        space,
        count,
        genotypes,
        informative,
        batch_size,
        seed,
        output,
        progress=MODE.progress,
    )
    print_document(lambda: documents().ExportedNetworksDocument(networks=exported, output=str(output)))
    echo(
        f"{output}: {exported} networks; copy it to the device, run python measure.py there (it needs onnxruntime and"
        " numpy), and bring back results.csv for: freerea-seval measure import"
    )


@measure_commands.command("import")
@options()
def measure_import(
    results: Annotated[Path, typer.Argument(help="The results.csv of an exported folder, with its manifest beside.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="CSV to write.")],
) -> None:
    """Check what an export has measured, and write it as CSV."""
    from freerea_seval.api.measuring import import_results

    table = import_results(results, output)
    print_document(lambda: documents().of_measurements(table, output))
    latencies = table["latency_ms"]
    echo(f"{output}: {latencies.count()} networks" + _unable(latencies.isna().sum(), output))


calibrate_commands = typer.Typer(
    no_args_is_help=True, help="Predict the cost of networks on a device that few measurements exist of."
)
app.add_typer(calibrate_commands, name="calibrate")

PlannedOption = Annotated[int, typer.Option("--n", help="How many networks to measure.")]
DeviceBaseOption = Annotated[
    list[Path] | None,
    typer.Option(
        help="Predictor of the metric for other devices; repeatable. By default, for latencies of nats-tss on CIFAR,"
        " the one that comes with the package; none starts without."
    ),
]
EarlierOption = Annotated[
    list[Path] | None, typer.Option(help="CSV of an earlier calibration to the device; repeatable.")
]


@calibrate_commands.command("plan")
@options()
def calibrate_plan(
    output: Annotated[Path, typer.Option("-o", "--output", help="CSV to write, with a column genotype.")],
    n: PlannedOption = 10,
    space: SpaceOption = "nats-tss",
    genotypes: GenotypesOption = None,
    base: DeviceBaseOption = None,
    earlier: EarlierOption = None,
    seed: Annotated[int, typer.Option(help="Draws random networks.", min=0, max=_LARGEST_SEED)] = 0,
) -> None:
    """Choose the networks to measure on a device, among 400 random ones or --genotypes."""
    from freerea_seval.api.calibrating import plan

    chosen = plan(n, space, genotypes, base, earlier or (), seed, output, progress=MODE.progress)
    print_document(lambda: documents().PlanDocument(genotypes=chosen, output=str(output)))
    echo(
        f"{output}: {len(chosen)} networks; measure them on the device: freerea-seval measure (here), or measure export"
        f" and import, with --genotypes {output}"
    )


@calibrate_commands.command("fit")
@options()
def calibrate_fit(
    tables: Annotated[list[Path], typer.Argument(help="CSV files of at least ten measurements on the device.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the predictor.")],
    metric: Annotated[str, typer.Option(help="The column to predict.")] = "latency_ms",
    base: DeviceBaseOption = None,
    space: SpaceOption = "nats-tss",
    unit: Annotated[str | None, typer.Option(help="Unit; by default from the column's name.")] = None,
    unsupported: UnsupportedOption = None,
    seed: Annotated[int, typer.Option(help="Fixes the training.", min=0, max=_LARGEST_SEED)] = 0,
) -> None:
    """Train a predictor from measurements on the device."""
    from freerea_seval.api.calibrating import calibrate

    calibration = calibrate(
        tables,
        output,
        metric=metric,
        base=base,
        space=space,
        unit=unit,
        unsupported=unsupported,
        seed=seed,
        progress=MODE.progress,
    )
    print_document(lambda: documents().of_calibration(calibration, output))
    echo(_calibrated(output, calibration))


@calibrate_commands.command("run")
@options()
def calibrate_run(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the predictor; measurements beside it.")],
    n: PlannedOption = 10,
    space: SpaceOption = "nats-tss",
    genotypes: GenotypesOption = None,
    base: DeviceBaseOption = None,
    earlier: EarlierOption = None,
    ssh: Annotated[str | None, typer.Option(help="Host that measures; by default this machine.")] = None,
    python: Annotated[str, typer.Option(help="Its Python, with onnxruntime and numpy.")] = "python3",
    backend: Annotated[str, typer.Option(help="eager, compile (torch.compile) or onnx (ONNX Runtime).")] = "eager",
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    batch_size: BatchSizeOption = None,
    threads: Annotated[int, typer.Option(help="CPU threads of a network.")] = 1,
    seed: Annotated[int, typer.Option(help="Draws random networks.", min=0, max=_LARGEST_SEED)] = 0,
) -> None:
    """Choose networks, measure their latency on this machine or over SSH, and train a predictor."""
    from freerea_seval.api.calibrating import measure_and_calibrate

    calibration = measure_and_calibrate(
        output,
        n,
        space,
        genotypes,
        base=base,
        earlier=earlier or (),
        ssh=ssh,
        python=python,
        backend=backend,
        device=device,
        batch_size=batch_size,
        threads=threads,
        seed=seed,
        progress=MODE.progress,
    )
    print_document(lambda: documents().of_calibration(calibration, output))
    echo(_calibrated(output, calibration))


def _calibrated(output: Path, calibration: Calibration) -> str:
    """Return in two lines how good a calibrated predictor is, and whether more measurements would make it better."""
    (metric,) = calibration.predictor.info.metrics
    line = (
        f"{output}: predicts {metric.name} from {metric.samples} networks; of networks left out of training, the median"
        f" error is {calibration.error:.1%}, {_scores(metric.scores)}"
    )
    more = "more would pay" if calibration.error_of_half > _PAYS * calibration.error else "more would change little"
    return f"{line}\nfrom half of the measurements, it is {calibration.error_of_half:.1%}: {more}"


@app.command()
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


@app.command()
@options(json=False)
def upstream(
    checkout: Annotated[Path, typer.Argument(help="Clone of FreeREA's own code.")],
    config: Annotated[
        Path | None, typer.Option(help="Config with 'objectives' to put in; without one, the code runs as it is.")
    ] = None,
    arguments: Annotated[
        list[str] | None, typer.Argument(help="Behind --: arguments of its run_search.py, such as --dataset cifar100.")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(help="FreeREA's metrics that stay in its score, or none; naswot,logsynflow,skip by default."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="CSV to write: the best network of each repeat.")
    ] = None,
    write_patch: Annotated[
        Path | None,
        typer.Option(help="Run nothing, but write a patch for git apply, with which run_search.py itself does this."),
    ] = None,
) -> None:
    """Run the search of FreeREA's own code with our objectives in it."""
    from freerea_patch import InputError
    from freerea_seval.api import upstream as twin

    if write_patch is not None:
        if config is not None or arguments or metrics is not None or output is not None:
            raise InputError("--write-patch only writes the patch; leave the other options out")
        twin.write_patch(checkout, write_patch)
        echo(
            f"{write_patch}: apply it with 'git apply' in {checkout}; run_search.py then reads"
            f" {', '.join(twin.VARIABLES)}"
        )
        return
    run = twin.upstream(checkout, config, arguments, metrics=metrics, output=output, progress=MODE.progress)
    if run.histories:  # none if it has shown its help
        echo(twin.shown(run))


def main() -> None:
    """Run the command line.

    A user's mistake ends with one line on standard error and exit code 2, a search that asks for values with one line
    and exit code 3.
    """
    from freerea_patch import user_message

    MODE.quiet, MODE.document = False, None
    for name in ("stdout", "stderr"):  # None if the caller has closed it
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - until the process ends
    share_cores()  # before a command imports torch, scikit-learn or xgboost
    try:
        status: Any = app(standalone_mode=False)
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of our output has closed the pipe
            _end_without_reader()
        _fail(user_message(error) or _describe(error))
    except (Exception, SystemExit) as error:  # a user's code may call sys.exit
        if isinstance(error.__context__, OSError) and error.__context__.errno == errno.EPIPE:  # typer exits with 1
            _end_without_reader()
        if _is_usage_error(error):
            message = error.format_message()  # type: ignore[union-attr]
            if type(error).__name__ == "NoArgsIsHelpError":  # called without a command: the message is the help
                echo(message)
                sys.exit(0)
            _fail(f"{message.rstrip('.')}; see freerea-seval --help")
        from freerea_seval.runs.answers import AnswersWanted

        if isinstance(error, AnswersWanted):
            typer.echo(printable(f"freerea-seval: {error}"), err=MODE.document is not None)
            sys.exit(3)
        mistake = user_message(error) or (repr(error) if isinstance(error, SystemExit) else None)
        if mistake is None:
            raise
        _fail(mistake)
    sys.exit(status if isinstance(status, int) else 0)


def _end_without_reader() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(141)


def _fail(message: str) -> None:
    typer.echo(printable(f"freerea-seval: error: {' '.join(message.split())}"), err=True)
    sys.exit(2)


def _describe(error: OSError) -> str:
    where = f" {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        remedy = "; make room, then repeat the command: the files written so far are complete"
        if sys.argv[1:2] == ["search"]:
            remedy = "; make room, then continue with --resume RUN: the files written so far are complete"
    else:
        remedy = "; correct that and try again"
    return f"cannot read or write{where}: {error.strerror or error}{remedy}"


def _is_usage_error(error: BaseException) -> bool:
    """Whether typer could not parse the command line; typer may contain its own copy of click."""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


if __name__ == "__main__":
    main()
