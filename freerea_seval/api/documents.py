"""What commands print with ``--json``: one document each, and its JSON Schema.

A number that JSON lacks is written as in the files of a run: null for a value that is unsupported or not defined, and
``"inf"`` or ``"-inf"``. Keys may be added in later versions, and none is renamed or removed within a major version.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict

from freerea_patch import Direction
from freerea_patch.loop import Stopped
from freerea_seval.api.schema import DIALECT, Schema, config_schema, descriptions_of, summary_of
from freerea_seval.runs.check import Check
from freerea_seval.runs.folder import to_json

if TYPE_CHECKING:
    from pandas import DataFrame

    from freerea_seval.api.calibrating import Calibration
    from freerea_seval.api.predictors import Predictor
    from freerea_seval.api.runs import Run

Number = float | Literal["inf", "-inf"] | None
#: A row of a table, by column.
Row = dict[str, int | Number | str]


class Document(BaseModel):
    """A part of what a command prints."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ResultMetric(Document):
    """A column of the networks of a run.

    Attributes:
        name: the column.
        unit: of the values, empty for none.
        direction: which values are better; None for a constraint, where nobody says it.
        role: what the search did with it; ``report`` for a metric of the result only.
        predicted: whether the values come from a predictor.
    """

    name: str
    unit: str
    direction: Direction | None
    role: Literal["fitness", "constraint", "pareto", "report"]
    predicted: bool


class ResultSeed(Document):
    """The search with a seed.

    Attributes:
        seed: its number.
        stopped: why it ended.
        explored: number of feasible networks that were evaluated.
        infeasible: number of networks outside the constraints.
        measured: number of networks that were measured in rounds; None without rounds.
        metric_s: seconds of metrics that were charged to the budget.
        seconds: the same by metric or step.
    """

    seed: int
    stopped: Stopped
    explored: int
    infeasible: int
    measured: int | None
    metric_s: float
    seconds: dict[str, float]


class ResultNetwork(Document):
    """A network of the result.

    Attributes:
        number: for ``export --pick`` and ``Run.build``.
        seed: of the search that reports it.
        genotype: in the search space.
        values: by column: the score, if there is one, and the metrics.
    """

    number: int
    seed: int
    genotype: str
    values: dict[str, Number]


class Recommendation(Document):
    """The recommended network.

    Attributes:
        number: of the network.
        reason: in one sentence.
    """

    number: int
    reason: str


class RunDocument(Document):
    """A finished run: of ``search`` and ``report``.

    Attributes:
        run: its folder.
        space: the search space, as the config names it.
        algorithm: of the search.
        metrics: columns of the networks.
        seeds: the searches.
        networks: the results of all seeds.
        pick: the recommended one of them; None if there is none.
        notes: what the search has to say.
        figure: file of the figure; None if it could not be drawn.
        page: file of the HTML page; None if it could not be written.
    """

    run: str
    space: str | dict[str, Any]
    algorithm: str
    metrics: list[ResultMetric]
    seeds: list[ResultSeed]
    networks: list[ResultNetwork]
    pick: Recommendation | None
    notes: list[str]
    figure: str | None
    page: str | None


class ExportDocument(Document):
    """A network as a file: of ``export``.

    Attributes:
        file: that was written, loaded again and compared.
        run: the folder of its run.
    """

    file: str
    run: str


class ComparedRun(Document):
    """A run beside others.

    Attributes:
        run: the name of its folder.
        algorithm: of the search.
        seeds: how many.
        networks, metric_s: explored networks, and seconds of metrics; means over seeds.
        quality, deviation: mean and standard deviation over seeds of what is compared.
        iqm, low, high: its interquartile mean over seeds, and the 95 % bootstrap interval of that; null of one seed.
        p: of Wilcoxon's signed-rank test against the first run; null where common seeds are too few.
    """

    run: str
    algorithm: str
    seeds: int
    networks: float
    metric_s: float
    quality: Number
    deviation: Number
    iqm: Number
    low: Number
    high: Number
    p: Number


class ComparisonDocument(Document):
    """Runs side by side: of ``compare``.

    Attributes:
        quality: what is compared: the best value of a metric, or the hypervolume on several.
        page: file of the HTML page; None if none was asked for.
        runs: in the order of the command line.
    """

    quality: str
    page: str | None
    runs: list[ComparedRun]


def of_comparison(table: DataFrame, page: Path | None) -> ComparisonDocument:
    """Return what ``compare`` prints."""
    rows = [
        {str(name): to_json(value) if isinstance(value, float) else value for name, value in row.items()}
        for row in table.to_dict("records")
    ]
    runs = [ComparedRun.model_validate(row) for row in rows]
    return ComparisonDocument(quality=table.attrs["quality"], page=None if page is None else str(page), runs=runs)


class LearnedMetric(Document):
    """A metric of a predictor.

    Attributes:
        name: of the metric.
        unit: of the predictions, empty for none.
        direction: which values are better.
        samples: number of training networks with a value.
        unsupported: number of those that the device does not support.
        scores: of out-of-fold predictions, by name.
    """

    name: str
    unit: str
    direction: Direction
    samples: int
    unsupported: int
    scores: dict[str, Number]


class PredictorDocument(Document):
    """A predictor: of ``train``.

    Attributes:
        predictor: its folder.
        space: name of the space of the training networks.
        view: of networks that it reads.
        samples: number of training networks.
        choice: the selected models.
        metrics: that it predicts.
    """

    predictor: str
    space: str
    view: str
    samples: int
    choice: str
    metrics: list[LearnedMetric]


class CalibrationDocument(PredictorDocument):
    """A predictor for a device: of ``calibrate fit`` and ``calibrate run``.

    Attributes:
        error: median relative error of predictions of networks left out of training.
        error_of_half: the same from half of the measurements.
    """

    error: float
    error_of_half: float


class PredictionsDocument(Document):
    """Predictions: of ``predict``.

    Attributes:
        units: by column.
        networks: a row each: ``genotype`` or ``network``, and a column a metric, with ``_low`` and ``_high`` for an
            interval.
        extrapolated: in which way networks are unlike all that the predictor learned from, by the number of their row.
        output: file that was written; None for none.
    """

    units: dict[str, str]
    networks: list[Row]
    extrapolated: dict[int, str]
    output: str | None


class EvaluatedMetric(Document):
    """How good the predictions of a metric are.

    Attributes:
        name: of the metric.
        networks: that were predicted.
        scores: by name.
    """

    name: str
    networks: int
    scores: dict[str, Number]


class EvaluationDocument(Document):
    """The scores of a predictor: of ``evaluate``.

    Attributes:
        interval: nominal coverage of the intervals.
        metrics: with their scores.
        output: folder that was written; None for none.
    """

    interval: float
    metrics: list[EvaluatedMetric]
    output: str | None


class StringDocument(Document):
    """The string of a network: of ``encode``.

    Attributes:
        string: the network as text.
        facts: by name, such as the numbers of operations, parameters and multiply-adds.
        tokens: of the string; None for the published format.
        output: file that was written; None for none.
    """

    string: str
    facts: dict[str, int | str]
    tokens: list[str] | None
    output: str | None


class SpaceStringsDocument(Document):
    """The strings of a space: of ``encode --space``.

    Attributes:
        networks: number of them.
        different: number of different strings.
        median_characters: length of a string in the median.
        most_characters: length of the longest.
        output: file that was written.
    """

    networks: int
    different: int
    median_characters: int
    most_characters: int
    output: str


class EncodingDocument(Document):
    """One network or a whole space: of ``encode``.

    Attributes:
        network: its string; None for a space.
        space: its strings; None for a network.
    """

    network: StringDocument | None
    space: SpaceStringsDocument | None


class MeasurementsDocument(Document):
    """Measurements: of ``measure run`` and ``measure import``.

    Attributes:
        units: by column.
        networks: a row each: ``genotype`` or ``network``, and what was measured.
        unsupported: why networks cannot run, by name, where that is known.
        failed: why networks could not be built or exported, by name.
        output: file that was written.
    """

    units: dict[str, str]
    networks: list[Row]
    unsupported: dict[str, str]
    failed: dict[str, str]
    output: str


class DevicesDocument(Document):
    """Measurements of several machines: of ``measure ssh``.

    Attributes:
        devices: the measurements by host.
    """

    devices: dict[str, MeasurementsDocument]


class ExportedNetworksDocument(Document):
    """Networks for another device: of ``measure export``.

    Attributes:
        networks: number of them.
        output: folder that was written.
    """

    networks: int
    output: str


class PlanDocument(Document):
    """Networks to measure: of ``calibrate plan``.

    Attributes:
        genotypes: the most informative first.
        output: file that was written.
    """

    genotypes: list[str]
    output: str


class MetricDocument(Document):
    """A metric of a source.

    Attributes:
        name: in the source.
        unit: of the values, empty for none.
        direction: which values are better; None where the config has to say it.
        description: in one line.
    """

    name: str
    unit: str
    direction: Direction | None
    description: str


class SourceDocument(Document):
    """A metric source.

    Attributes:
        name: that a config uses.
        origin: where the values come from.
        argument: what the config has to give, empty for nothing.
        metrics: of the source; empty if they depend on the argument.
    """

    name: str
    origin: str
    argument: str
    metrics: list[MetricDocument]


class ObjectivesDocument(Document):
    """All metrics: of ``objectives``.

    Attributes:
        sources: the built-in ones, and those of installed packages.
    """

    sources: list[SourceDocument]


#: What a command prints with ``--json``, by the name of the command.
DOCUMENTS: Mapping[str, type[BaseModel]] = {
    "search": RunDocument,
    "check": Check,
    "report": RunDocument,
    "compare": ComparisonDocument,
    "export": ExportDocument,
    "train": PredictorDocument,
    "predict": PredictionsDocument,
    "evaluate": EvaluationDocument,
    "encode": EncodingDocument,
    "objectives": ObjectivesDocument,
    "measure run": MeasurementsDocument,
    "measure ssh": DevicesDocument,
    "measure export": ExportedNetworksDocument,
    "measure import": MeasurementsDocument,
    "calibrate plan": PlanDocument,
    "calibrate fit": CalibrationDocument,
    "calibrate run": CalibrationDocument,
}


def schemas() -> dict[str, Schema]:
    """Return all JSON Schemas by name: ``config``, and that of each command's document."""
    documents = {command: model.model_json_schema(mode="serialization") for command, model in DOCUMENTS.items()}
    for command, schema in documents.items():
        models = {model.__name__: model for model in _models(DOCUMENTS[command])}
        for name, part in {**schema.get("$defs", {}), DOCUMENTS[command].__name__: schema}.items():
            part.pop("title")  # the name of the class
            part["description"] = summary_of(models[name])
            for key, text in descriptions_of(models[name]).items():
                if key in part["properties"]:
                    part["properties"][key]["description"] = text
        schema["title"] = f"freerea-seval {command} --json"
    return {"config": config_schema(), **{c: {"$schema": DIALECT, **schema} for c, schema in documents.items()}}


def _models(model: type[BaseModel]) -> list[type[BaseModel]]:
    """Return a model and those of its parts."""
    models, types = [model], [field.annotation for field in model.model_fields.values()]
    while types:
        kind = types.pop()
        types += get_args(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            models += _models(kind)
    return models


def of_run(run: Run, figure: Path | None, page: Path | None) -> RunDocument:
    """Return the document of a finished run."""
    from freerea_seval.runs.report import is_predicted, pick_of, sections_of

    config, results = run.config, run.folder.results()
    metrics = [
        ResultMetric(
            name=section.column,
            unit=section.unit or "",
            direction=section.direction,
            role=getattr(section, "role", "report"),
            predicted=is_predicted(config, section),
        )
        for section in sections_of(config)
    ]
    rows = [(result["seed"], row) for result in results for row in result["front"]]
    networks = [
        ResultNetwork(
            number=number,
            seed=seed,
            genotype=row["genotype"],
            values={name: value for name, value in row.items() if name != "genotype"},
        )
        for number, (seed, row) in enumerate(rows)
    ]
    pick = pick_of(run.folder)
    return RunDocument(
        run=str(run.path),
        space=config.whole_space,
        algorithm=config.search.algorithm,
        metrics=metrics,
        seeds=[ResultSeed(**{name: result[name] for name in ResultSeed.model_fields}) for result in results],
        networks=networks,
        pick=None if pick is None else Recommendation(number=pick.row, reason=pick.reason),
        notes=list(run.folder.notes),
        figure=None if figure is None else str(figure),
        page=None if page is None else str(page),
    )


def of_predictor(predictor: Predictor, output: Path) -> PredictorDocument:
    """Return the document of a trained predictor."""
    return PredictorDocument(**_predictor_facts(predictor, output))


def of_calibration(calibration: Calibration, output: Path) -> CalibrationDocument:
    """Return the document of a predictor for a device."""
    facts = _predictor_facts(calibration.predictor, output)
    return CalibrationDocument(**facts, error=calibration.error, error_of_half=calibration.error_of_half)


def _predictor_facts(predictor: Predictor, output: Path) -> dict[str, Any]:
    info = predictor.info
    metrics = [
        LearnedMetric(
            name=metric.name,
            unit=metric.unit,
            direction=metric.direction,
            samples=metric.samples,
            unsupported=metric.unsupported,
            scores=_numbers(metric.scores),
        )
        for metric in info.metrics
    ]
    return {
        "predictor": str(output),
        "space": info.space,
        "view": info.view,
        "samples": info.samples,
        "choice": info.choice,
        "metrics": metrics,
    }


def of_predictions(table: DataFrame, output: Path | None) -> PredictionsDocument:
    """Return the document of a table of predictions."""
    units = {str(name): unit for name, unit in table.attrs.get("units", {}).items()}
    unlike = table.attrs["extrapolated"]
    written = None if output is None else str(output)
    return PredictionsDocument(units=units, networks=rows_of(table), extrapolated=unlike, output=written)


def of_evaluation(scores: DataFrame, interval: float, output: Path | None) -> EvaluationDocument:
    """Return the document of the scores of a predictor."""
    metrics = [
        EvaluatedMetric(
            name=str(name),
            networks=int(row["networks"]),
            scores=_numbers({str(score): value for score, value in row.items() if score != "networks"}),
        )
        for name, row in scores.iterrows()
    ]
    return EvaluationDocument(interval=interval, metrics=metrics, output=None if output is None else str(output))


def of_measurements(table: DataFrame, output: Path) -> MeasurementsDocument:
    """Return the document of a table of measurements."""
    return MeasurementsDocument(
        units={str(name): unit for name, unit in table.attrs.get("units", {}).items()},
        networks=rows_of(table),
        unsupported=table.attrs.get("unsupported", {}),
        failed=table.attrs.get("failed", {}),
        output=str(output),
    )


def of_objectives() -> ObjectivesDocument:
    """Return the document of all metrics."""
    from freerea_seval.sources.registry import load_registry

    sources = [
        SourceDocument(
            name=record.name,
            origin=record.origin,
            argument=record.argument,
            metrics=[
                MetricDocument(name=m.name, unit=m.unit, direction=m.direction, description=m.description)
                for m in record.metrics
            ],
        )
        for record in load_registry()
    ]
    return ObjectivesDocument(sources=sources)


def rows_of(table: DataFrame) -> list[Row]:
    """Return the rows of a table by column, with numbers as JSON has them."""
    return [{str(name): _cell(value) for name, value in row.items()} for row in table.astype(object).to_dict("records")]


def _cell(value: Any) -> int | Number | str:
    from pandas import isna

    if isinstance(value, str):
        return value
    if isna(value):
        return None
    number = float(value)
    return int(value) if number.is_integer() and not isinstance(value, float) else to_json(number)


def _numbers(values: Mapping[str, float]) -> dict[str, Number]:
    return {name: to_json(float(value)) for name, value in values.items()}  # type: ignore[misc]
