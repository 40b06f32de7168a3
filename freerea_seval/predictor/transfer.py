"""Transfer from base predictors (``train --base``): they read one view, and must not leak the target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from freerea_patch import InputError
from freerea_seval.predictor.folder import load_predictor
from freerea_seval.predictor.model_card import PredictorInfo
from freerea_seval.predictor.seval import SEvalPredictor
from freerea_seval.strings.views import View, check_view, default_view
from freerea_seval.units import without_unit

_WHY = "it would leak the target into the validation folds"


#: A predictor of latencies of one CPU in three settings, which comes with the package. ``python -m
#: experiments.devices.base`` measured and trained it; beside it are its measurements.
SHIPPED = Path(__file__).parent / "base"
#: In place of folders of base predictors: none at all.
NO_BASE = "none"


def device_bases(base: Sequence[str | Path] | None, metric: str, space_name: str) -> list[Path]:
    """Return the folders of predictors for other devices, from which the one for a new device starts.

    Args:
        base: the folders; None for :data:`SHIPPED`, where that was tried: for latencies of NATS-Bench's cells on images
            of 32 x 32. :data:`NO_BASE` alone stands for none.
        metric: to be learned, with or without its unit.
        space_name: of the networks.
    """
    if base is None:
        return [SHIPPED] if without_unit(metric) == "latency" and space_name.startswith("nats-tss/cifar") else []
    return [] if [str(folder) for folder in base] == [NO_BASE] else [Path(folder) for folder in base]


class Bases(NamedTuple):
    """Base predictors and the view of networks that they read.

    Attributes:
        view: the requested one, or that of the base predictors, or the default for the metric.
        predictors: by a description of what they predict.
        training_data: the hash of the training data of each, by folder.
    """

    view: View
    predictors: dict[str, SEvalPredictor]
    training_data: dict[Path, str]

    def check_data(self, data: str) -> None:
        """Raise :class:`InputError` if a base predictor was trained on the data of this hash, under any metric name."""
        for folder, own in self.training_data.items():
            if own == data:
                raise InputError(f"--base {folder} was trained on these values: {_WHY}; leave it out")


def load_bases(folders: Sequence[Path], metrics: Sequence[str], spaces: Sequence[str], view: str | None) -> Bases:
    """Load base predictors.

    Args:
        folders: one for each base predictor.
        metrics: the metrics to be learned.
        spaces: the names under which a base predictor may have recorded the space.
        view: the view of networks to read; None for that of the base predictors, or the metric's default.

    Raises:
        InputError: a folder holds no predictor, or one of another view.
        InputError: a base predictor, or one of its own base predictors, predicts such a metric in the same space.
    """
    loaded = {folder: load_predictor(folder) for folder in folders}
    views = [info.view for _, info in loaded.values()]
    chosen = check_view(view or next(iter(views), default_view(metrics[0])))
    predictors = {}
    for folder, (predictor, info) in loaded.items():
        if info.view != chosen:
            raise InputError(
                f"--base {folder} reads the {info.view} view of networks, expected the {chosen} view; leave it out, or"
                " give predictors of one view"
            )
        predicted = {without_unit(name) for space in spaces for name in _names(info, space)}
        for metric in metrics:
            if without_unit(metric) in predicted:
                raise InputError(
                    f"--base {folder} predicts {metric} of {info.space} as well: {_WHY}; leave it out, or, if it is of"
                    " another device, give the column another name"
                )
        source = "freerea-seval" if folder == SHIPPED else folder
        predictors[f"{', '.join(metric.name for metric in info.metrics)} of {info.space} ({source})"] = predictor
    return Bases(chosen, predictors, {folder: info.trained_on for folder, (_, info) in loaded.items()})


def _names(info: PredictorInfo, space: str) -> list[str]:
    """Return the metrics of a space that a predictor, or one of its base predictors, predicts."""
    names = [metric.name for metric in info.metrics] if info.space == space else []
    for description in info.base:
        metrics, separator, _ = description.partition(f" of {space} (")
        names += metrics.split(", ") if separator else []
    return names
