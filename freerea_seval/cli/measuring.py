"""The commands ``measure``: ``run``, which is the default, ``ssh``, ``export`` and ``import``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from freerea_seval.cli.arguments import LARGEST_SEED, BatchSizeOption, GenotypesOption
from freerea_seval.cli.output import MODE, documents, echo, options, print_document

if TYPE_CHECKING:
    from pandas import DataFrame


class _RunByDefault(TyperGroup):
    """A group of commands in which ``run`` is the default."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert ``run`` if the first argument is no command."""
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = ["run", *args]
        return super().parse_args(ctx, args)


commands = typer.Typer(cls=_RunByDefault, help="Time networks on this machine, or on a device elsewhere.")

NetworksArgument = Annotated[
    list[str] | None, typer.Argument(help="pkg.module:factory of torch modules, or FILE.onnx; or genotypes of --space.")
]
InputOption = Annotated[
    list[str] | None, typer.Option("--input", help="Shape of an input, the batch included; as for encode.")
]
CountOption = Annotated[
    int | None, typer.Option("--networks", help="Number of random networks of the space; 100 by default.")
]
InformativeOption = Annotated[
    bool,
    typer.Option(
        "--informative", help="Choose the networks that teach a predictor most, among 1,000 random ones or --genotypes."
    ),
]
SpaceChoice = Annotated[str | None, typer.Option("--space", help="Search space: nats-tss, nats-sss, fbnet, ...")]


@commands.command("run")
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
        int, typer.Option(help="Fixes random networks and the order of visits.", min=0, max=LARGEST_SEED)
    ] = 0,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="CSV to write; the same command continues after a kill.")
    ] = None,
) -> None:
    """Time networks on this machine; the default of these commands."""
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


@commands.command("ssh")
@options()
def ssh(
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
    seed: Annotated[int, typer.Option(help="Fixes random networks and inputs.", min=0, max=LARGEST_SEED)] = 0,
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


@commands.command("export")
@options()
def export(
    networks: NetworksArgument = None,
    inputs: InputOption = None,
    space: SpaceChoice = None,
    count: CountOption = None,
    genotypes: GenotypesOption = None,
    informative: InformativeOption = False,
    batch_size: BatchSizeOption = None,
    seed: Annotated[int, typer.Option(help="Fixes random networks and inputs.", min=0, max=LARGEST_SEED)] = 0,
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


@commands.command("import")
@options()
def import_results(
    results: Annotated[Path, typer.Argument(help="The results.csv of an exported folder, with its manifest beside.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="CSV to write.")],
) -> None:
    """Check what an export has measured, and write it as CSV."""
    from freerea_seval.api import measuring

    table = measuring.import_results(results, output)
    print_document(lambda: documents().of_measurements(table, output))
    latencies = table["latency_ms"]
    echo(f"{output}: {latencies.count()} networks" + _unable(latencies.isna().sum(), output))
