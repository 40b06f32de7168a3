"""The base predictors that ``train --base`` names: of one view, and none that knows the values to be learned."""

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

_WHY = "it knows values that cross-validation holds out, so that scores and intervals would be far too good"


class Bases(NamedTuple):
    """The view to learn from, and base predictors.

    Attributes:
        view: of theirs, or the one that was asked for, or the usual one.
        predictors: by what they predict.
        learned: the hash of what each learned from, by folder.
    """

    view: View
    predictors: dict[str, SEvalPredictor]
    learned: dict[Path, str]

    def check_data(self, data: str) -> None:
        """Raise :class:`InputError` if one learned from the very data of this hash, whatever it calls the metric."""
        for folder, learned in self.learned.items():
            if learned == data:
                raise InputError(f"--base {folder} learned from these same values: {_WHY}; leave it out")


def load_bases(folders: Sequence[Path], metrics: Sequence[str], spaces: Sequence[str], view: str | None) -> Bases:
    """Load base predictors.

    Args:
        folders: where they are.
        metrics: what is to be learned.
        spaces: the names by which a folder may know the space that it is learned in.
        view: which view of networks to read; None for that of the base predictors, or of the metric.

    Raises:
        InputError: a folder holds no predictor, or one of another view.
        InputError: one predicts such a metric in the same space and data set, or asks another that does.
    """
    loaded = {folder: load_predictor(folder) for folder in folders}
    views = [info.view for _, info in loaded.values()]
    chosen = check_view(view or next(iter(views), default_view(metrics[0])))
    predictors = {}
    for folder, (predictor, info) in loaded.items():
        if info.view != chosen:
            raise InputError(
                f"--base {folder} reads the {info.view} view of networks, and this predictor is to read the {chosen}"
                " one; leave it out, or take predictors of one view"
            )
        known = {without_unit(name) for space in spaces for name in _names(info, space)}
        for metric in metrics:
            if without_unit(metric) in known:
                raise InputError(
                    f"--base {folder} predicts {metric} of {info.space}, too: {_WHY}; leave it out, or, if it is of"
                    " another device, say so in the column's name"
                )
        predictors[f"{', '.join(metric.name for metric in info.metrics)} of {info.space} ({folder})"] = predictor
    return Bases(chosen, predictors, {folder: info.trained_on for folder, (_, info) in loaded.items()})


def _names(info: PredictorInfo, space: str) -> list[str]:
    """Return the metrics of a space that a predictor knows, itself or by a base predictor of its own."""
    names = [metric.name for metric in info.metrics] if info.space == space else []
    for said in info.base:
        before, found, _ = said.partition(f" of {space} (")
        names += before.split(", ") if found else []
    return names
