"""The commands about runs: ``search``, ``report``, ``compare`` and ``export``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freerea_seval.cli.arguments import BatchSizeOption
from freerea_seval.cli.output import MODE, console, documents, echo, options, print_document

if TYPE_CHECKING:
    from freerea_seval.api.runs import Run


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
