"""The commands ``calibrate``: ``plan``, ``fit`` and ``run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freerea_seval.cli.arguments import LARGEST_SEED, BatchSizeOption, GenotypesOption, SpaceOption, UnsupportedOption
from freerea_seval.cli.output import MODE, documents, echo, options, print_document
from freerea_seval.cli.predictors import scores_line

if TYPE_CHECKING:
    from freerea_seval.api.calibrating import Calibration

#: More measurements pay if half of them have a larger error by this factor.
_PAYS = 1.2

commands = typer.Typer(
    no_args_is_help=True, help="Predict the cost of networks on a device that few measurements exist of."
)

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


@commands.command("plan")
@options()
def plan(
    output: Annotated[Path, typer.Option("-o", "--output", help="CSV to write, with a column genotype.")],
    n: PlannedOption = 10,
    space: SpaceOption = "nats-tss",
    genotypes: GenotypesOption = None,
    base: DeviceBaseOption = None,
    earlier: EarlierOption = None,
    seed: Annotated[int, typer.Option(help="Draws random networks.", min=0, max=LARGEST_SEED)] = 0,
) -> None:
    """Choose the networks to measure on a device, among 400 random ones or --genotypes."""
    from freerea_seval.api import calibrating

    chosen = calibrating.plan(n, space, genotypes, base, earlier or (), seed, output, progress=MODE.progress)
    print_document(lambda: documents().PlanDocument(genotypes=chosen, output=str(output)))
    echo(
        f"{output}: {len(chosen)} networks; measure them on the device: freerea-seval measure (here), or measure export"
        f" and import, with --genotypes {output}"
    )


@commands.command("fit")
@options()
def fit(
    tables: Annotated[list[Path], typer.Argument(help="CSV files of at least ten measurements on the device.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the predictor.")],
    metric: Annotated[str, typer.Option(help="The column to predict.")] = "latency_ms",
    base: DeviceBaseOption = None,
    space: SpaceOption = "nats-tss",
    unit: Annotated[str | None, typer.Option(help="Unit; by default from the column's name.")] = None,
    unsupported: UnsupportedOption = None,
    seed: Annotated[int, typer.Option(help="Fixes the training.", min=0, max=LARGEST_SEED)] = 0,
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


@commands.command("run")
@options()
def run(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the predictor; measurements beside it.")],
    n: PlannedOption = 10,
    space: SpaceOption = "nats-tss",
    genotypes: GenotypesOption = None,
    metric: Annotated[str, typer.Option(help="latency; or on this machine, memory or energy.")] = "latency",
    base: DeviceBaseOption = None,
    earlier: EarlierOption = None,
    ssh: Annotated[str | None, typer.Option(help="Host that measures; by default this machine.")] = None,
    python: Annotated[str, typer.Option(help="Its Python, with onnxruntime and numpy.")] = "python3",
    backend: Annotated[str, typer.Option(help="eager, compile (torch.compile) or onnx (ONNX Runtime).")] = "eager",
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    batch_size: BatchSizeOption = None,
    threads: Annotated[int, typer.Option(help="CPU threads of a network.")] = 1,
    seed: Annotated[int, typer.Option(help="Draws random networks.", min=0, max=LARGEST_SEED)] = 0,
) -> None:
    """Choose networks, measure what they cost on this machine or over SSH, and train a predictor."""
    from freerea_seval.api.calibrating import measure_and_calibrate

    calibration = measure_and_calibrate(
        output,
        n,
        space,
        genotypes,
        metric=metric,
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
        f" error is {calibration.error:.1%}, {scores_line(metric.scores)}"
    )
    more = "more would pay" if calibration.error_of_half > _PAYS * calibration.error else "more would change little"
    return f"{line}\nfrom half of the measurements, it is {calibration.error_of_half:.1%}: {more}"
