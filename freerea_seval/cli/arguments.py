"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

#: The largest seed of NumPy.
LARGEST_SEED = 2**32 - 1

SpaceOption = Annotated[
    str,
    typer.Option(
        help="nats-tss, nats-sss, fbnet, ..., /DATASET behind it (nats-tss/cifar100), or pkg.module:Class; with options"
        " as in a config: '{name: gpt, width: [128, 256]}'; or a search's config, FILE.yaml, for its space."
    ),
]
BatchSizeOption = Annotated[int | None, typer.Option("--batch-size", help="Images at once; 1 by default.")]

GenotypesOption = Annotated[
    Path | None, typer.Option("--genotypes", help="File of genotypes: one a line, or a CSV with a column genotype.")
]
UnsupportedOption = Annotated[
    float | None, typer.Option(help="Number that marks networks that the device cannot run, such as -1.")
]
