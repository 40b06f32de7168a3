"""The command ``upstream``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from freerea_seval.cli.output import MODE, echo, options


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
