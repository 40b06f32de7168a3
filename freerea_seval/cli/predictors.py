"""The commands about predictors: ``train``, ``predict`` and ``evaluate``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freerea_seval.cli.arguments import LARGEST_SEED, GenotypesOption, SpaceOption, UnsupportedOption
from freerea_seval.cli.output import MODE, documents, echo, options, print_document

if TYPE_CHECKING:
    from freerea_seval.api.predictors import Predictor

#: Scores in the order of printing; those in the metric's unit may be a millionth or a million.
_PRINTED_SCORES = ("kendall_tau", "spearman", "r2", "rmse", "auc", "kendall_tau_all", "coverage", "width")
_IN_UNIT = ("rmse", "width")

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
            help="boosted, ordered, shallow, robust, gp, layered, additive, calibrated, ridge, mlp, t5 or ensemble;"
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
    seed: Annotated[int, typer.Option(help="Fixes the training.", min=0, max=LARGEST_SEED)] = 0,
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
        echo(f"{predicted.name}, {predicted.samples} values{unable}; cross-validated {scores_line(predicted.scores)}")


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
    file: GenotypesOption = None,
) -> None:
    """Predict metrics for genotypes or modules, as CSV. An empty cell is a network that cannot run; inf is no bound."""
    from freerea_seval.api.predictors import load_predictor
    from freerea_seval.tables import to_csv

    loaded = load_predictor(predictor)
    if genotypes == ["-"]:
        genotypes = [line.strip() for line in sys.stdin if line.strip()]
    table = loaded.predict(genotypes, space, interval, proxies, output, inputs or None, file, progress=MODE.progress)
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
        echo(f"{name}, {row['networks']:.0f} networks: {scores_line(defined)}")
    _warn_of_infinite_bounds(loaded, interval)
    if output is not None:
        echo(f"{output}: predictions.csv, scores.json and a figure a metric")


def scores_line(scores: Mapping[str, float]) -> str:
    """Return scores by name in one line."""
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
