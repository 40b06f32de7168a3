# mypy: disable-error-code="import-untyped, import-not-found, unused-ignore"
"""Finished runs in experiment trackers: :func:`track` writes a run to TensorBoard, MLflow or Weights & Biases.

Every seed is a run of the tracker: the config as parameters; the course of the search as metrics, by generation; and
the front, its figure and the report as artifacts. All of it comes from the run folder.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freerea_patch import InputError, unknown_name
from freerea_seval.runs.folder import RunFolder

if TYPE_CHECKING:
    from pandas import DataFrame

#: The longest text that every tracker takes as the value of a parameter.
_LONGEST = 250


@dataclass(frozen=True)
class Record:
    """What a tracker receives of one seed.

    Attributes:
        name: of the run.
        parameters: the config with dots between the keys.
        course: by generation, the metrics after it.
        front: of the seed.
        figure: file with the figure of the front; None if it cannot be drawn.
        report: as text.
    """

    name: str
    parameters: Mapping[str, str]
    course: Mapping[int, Mapping[str, float]]
    front: DataFrame
    figure: Path | None
    report: str


def track(folder: RunFolder, tracker: str, figure: Path | None) -> None:
    """Write a finished run to a tracker.

    Args:
        folder: the run.
        tracker: ``tensorboard``, whose files are in ``RUN/tensorboard``; ``mlflow``, to the server or folder that its
            own environment variables name; or ``wandb``, likewise.
        figure: file of the figure of the front; None if it cannot be drawn.

    Raises:
        InputError: an unknown tracker, or its package is not installed.
    """
    write = find_tracker(tracker)
    for record in _records(folder, figure):
        write(record, folder.path)


def find_tracker(name: str) -> Callable[[Record, Path], None]:
    """Return the function that writes to a tracker.

    Raises:
        InputError: an unknown tracker, or its package is not installed.
    """
    from importlib.util import find_spec

    if name not in _TRACKERS:
        raise unknown_name("tracker", name, _TRACKERS)
    if find_spec(name) is None:
        raise InputError(f"--log {name} needs the package {name}: pip install {name}")
    return _TRACKERS[name]


def _records(folder: RunFolder, figure: Path | None) -> Iterator[Record]:
    from rich.console import Console

    from freerea_seval.runs.report import front_table, history_table, print_report

    text = io.StringIO()
    print_report(folder, Console(file=text, width=120))
    front, history = front_table(folder), history_table(folder)
    parameters = dict(_flat(folder.config.model_dump(exclude_none=True)))
    for seed in folder.config.search.seeds:
        yield Record(
            f"{folder.path.name}-seed-{seed}",
            parameters,
            dict(_course(folder, history[history["seed"] == seed])),
            front[front["seed"] == seed],
            figure,
            text.getvalue(),
        )


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the keys of nested values with dots between them, and the values as text."""
    if isinstance(value, (dict, list)) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, item in items:
            yield from _flat(item, f"{key}.{name}" if key else str(name))
    else:
        yield key, str(value)[:_LONGEST]


def _course(folder: RunFolder, history: DataFrame) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the number of networks, the seconds, and the best value of every metric so far, by generation."""
    best: dict[str, float] = {}
    networks, seconds = 0, 0.0
    for generation in sorted(set(history["generation"].tolist())):
        born = history[history["generation"] == generation]
        networks, seconds = networks + len(born), seconds + float(born["seconds"].sum())
        feasible = born[born["feasible"].astype(bool)]
        for section in folder.config.selecting:
            values = feasible[section.column].dropna()
            if len(values):
                better = min if section.direction == "min" else max
                known = [best[section.column]] if section.column in best else []
                best[section.column] = float(better([*known, *values]))
        yield generation, {"networks": networks, "metric seconds": seconds, **best}


def _to_tensorboard(record: Record, folder: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard" / record.name)) as writer:
        writer.add_text("config", _table(record.parameters))
        for step, values in record.course.items():
            for name, value in values.items():
                writer.add_scalar(name, value, step)
        writer.add_text("front", f"<pre>{escape(record.front.to_string(index=False))}</pre>")
        writer.add_text("report", f"<pre>{escape(record.report)}</pre>")
        if record.figure is not None:
            from matplotlib.image import imread

            writer.add_image("front", imread(record.figure), dataformats="HWC")


def _table(parameters: Mapping[str, str]) -> str:
    """Return parameters as HTML, which TensorBoard shows; what a config holds is text."""
    rows = (f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in parameters.items())
    return f"<table>{''.join(rows)}</table>"


def _to_mlflow(record: Record, folder: Path) -> None:
    import mlflow

    mlflow.set_experiment("freerea-seval")
    with mlflow.start_run(run_name=record.name):
        mlflow.log_params({_mlflow_name(name): value for name, value in record.parameters.items()})
        for step, values in record.course.items():
            mlflow.log_metrics({_mlflow_name(name): value for name, value in values.items()}, step=step)
        mlflow.log_text(record.front.to_csv(index=False), "front.csv")
        mlflow.log_text(record.report, "report.txt")
        if record.figure is not None:
            mlflow.log_artifact(str(record.figure))


def _mlflow_name(name: str) -> str:
    """Return a name with the characters that MLflow allows."""
    return re.sub(r"[^\w\-. /]", "_", name)[:_LONGEST]


def _to_wandb(record: Record, folder: Path) -> None:
    import wandb

    with wandb.init(project="freerea-seval", name=record.name, config=dict(record.parameters), dir=str(folder)) as run:
        for step, values in record.course.items():
            run.log(dict(values), step=step)
        report = wandb.Html(f"<pre>{escape(record.report)}</pre>")
        run.log({"front": wandb.Table(dataframe=record.front), "report": report})
        if record.figure is not None:
            run.log({"figure": wandb.Image(str(record.figure))})


#: By the name of the tracker and of its package.
_TRACKERS: Mapping[str, Callable[[Record, Path], None]] = {
    "tensorboard": _to_tensorboard,
    "mlflow": _to_mlflow,
    "wandb": _to_wandb,
}
