"""What is known of a predictor, what it predicts, how well, and what it learned from; and the card that says so."""

from __future__ import annotations

from dataclasses import dataclass, field

from freerea_patch import Direction
from freerea_seval.strings.views import View

_SCORES = {
    "kendall_tau": "Kendall's tau-b",
    "spearman": "Spearman",
    "r2": "R²",
    "rmse": "RMSE",
    "auc": "AUC, supported",
    "kendall_tau_all": "tau-b, unsupported last",
    "coverage": "coverage at 90 %",
}


@dataclass(frozen=True)
class PredictedMetric:
    """A metric that a predictor predicts.

    Attributes:
        name: of the metric.
        unit: unit of the predictions, empty for none.
        direction: which values are better.
        samples: number of training networks that have a value.
        unsupported: number of those that the device does not support.
        scores: on training networks that the predictor had not seen, by name: see
            :func:`freerea_seval.predictor.scores.scores`.
    """

    name: str
    unit: str
    direction: Direction
    samples: int
    unsupported: int = 0
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PredictorInfo:
    """What a predictor predicts, and what it learned from.

    Attributes:
        metrics: what is predicted, in the order of the columns of predictions.
        space: name of the space whose networks it saw.
        view: which view of networks its strings are; see :data:`freerea_seval.strings.views.View`.
        samples: number of training networks.
        trained_on: SHA-256 of the training strings and values.
        choice: which model was chosen, and why.
        proxies: names of what it sees of a network beside its string, in order.
        base: what the predictors predict that it asks first.
        versions: of the packages that trained it, by name.
    """

    metrics: tuple[PredictedMetric, ...]
    space: str
    view: View
    samples: int
    trained_on: str
    choice: str = ""
    proxies: tuple[str, ...] = ()
    base: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)


def card(info: PredictorInfo) -> str:
    """Return the card in Markdown."""
    shown = [name for name in _SCORES if any(name in metric.scores for metric in info.metrics)]
    head = ["metric", "unit", "better", "networks", "unsupported", *(_SCORES[name] for name in shown)]
    lines = [
        f"# Predictor of {', '.join(metric.name for metric in info.metrics)}",
        "",
        f"Trained by freerea-seval on {info.samples} networks of {info.space}, read in the {info.view} view.",
        "Scores are those of training networks that the model had not seen.",
        "",
        "| " + " | ".join(head) + " |",
        "| --- " * len(head) + "|",
    ]
    for metric in info.metrics:
        better = "larger" if metric.direction == "max" else "smaller"
        scores = [f"{metric.scores[name]:.3g}" if name in metric.scores else "" for name in shown]
        cells = [metric.name, metric.unit, better, str(metric.samples), str(metric.unsupported), *scores]
        lines.append("| " + " | ".join(cells) + " |")
    for what, names in (("proxies", info.proxies), ("predictions of", info.base)):
        if names:
            lines += ["", f"Beside strings it sees {what}: {', '.join(names)}."]
    lines += [
        "",
        f"Model: {info.choice}.",
        "",
        f"Training data: SHA-256 `{info.trained_on}`.",
        "",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in sorted(info.versions.items())) + ".",
        "",
        "Read by `freerea_seval.predictor.folder.load_predictor`, and by searches with `source: {seval: FOLDER}`.",
        "",
    ]
    return "\n".join(lines)
