"""The description of a predictor: metrics, scores, training data and versions; and the model card that shows it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from html import escape

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
#: Below this cross-validated tau-b, predictions hardly order networks.
WEAK_TAU = 0.3
#: What makes a predictor better.
ADVICE = "measure more networks, and choose them with 'freerea-seval measure --informative'"


@dataclass(frozen=True)
class PredictedMetric:
    """A metric of a predictor.

    Attributes:
        name: of the metric.
        unit: unit of the predictions, empty for none.
        direction: which values are better.
        samples: number of training networks that have a value.
        unsupported: number of those that the device does not support.
        scores: of out-of-fold predictions, by name: see :func:`freerea_seval.predictor.scores.scores`.
    """

    name: str
    unit: str
    direction: Direction
    samples: int
    unsupported: int = 0
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def least_tau(self) -> float:
        """The tau-b below which predictions are weak: :data:`WEAK_TAU`, or what chance alone reaches.

        Among ``n`` networks, tau of independent values is about normal with variance ``2 (2n + 5) / (9n (n - 1))``
        (Kendall 1945); chance exceeds 1.96 standard deviations one time in 40.
        """
        n = max(self.samples - self.unsupported, 2)
        return max(WEAK_TAU, 1.96 * math.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1))))

    @property
    def weak(self) -> bool:
        """Whether the out-of-fold predictions hardly order the networks, or there is nothing to order."""
        return self.scores.get("kendall_tau", 0.0) < self.least_tau

    def quality(self, advice: str = ADVICE) -> str:
        """Return in one line how good the predictions are, and if they are weak, what makes them better."""
        on = f"on {self.samples} networks"
        if "kendall_tau" not in self.scores:
            text = f"no correlation {on}, because all values or all predictions are equal"
        else:
            text = f"cross-validated Kendall's tau {self.scores['kendall_tau']:.2f} {on}"
        if not self.weak:
            return text
        return f"warning: weak prediction, {text}; expected {self.least_tau:.2f} or more: {advice}"


@dataclass(frozen=True)
class PredictorInfo:
    """What a predictor predicts and what it was trained on.

    Attributes:
        metrics: in the order of the columns of predictions.
        space: name of the space of the training networks.
        view: the view of networks that it reads; see :data:`freerea_seval.strings.views.View`.
        samples: number of training networks.
        trained_on: SHA-256 of the training strings and values.
        choice: the selected models with their scores.
        proxies: names of its inputs beside the string, in order.
        base: descriptions of its base predictors.
        versions: of the packages at training, by name.
        sizes: smallest and largest size of the training networks, by name; see
            :func:`~freerea_seval.predictor.features.sizes`.
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
    sizes: dict[str, tuple[float, float]] = field(default_factory=dict)


def card(info: PredictorInfo) -> str:
    """Return the card in Markdown."""

    def text(name: str) -> str:
        """Return a name as text of Markdown: no tag, link, line or cell of a table begins in it."""
        return re.sub(r"([\\`*\[\]|])", r"\\\1", escape(" ".join(name.split()), quote=False))

    shown = [name for name in _SCORES if any(name in metric.scores for metric in info.metrics)]
    head = ["metric", "unit", "better", "networks", "unsupported", *(_SCORES[name] for name in shown)]
    lines = [
        f"# Predictor of {', '.join(text(metric.name) for metric in info.metrics)}",
        "",
        f"Trained by freerea-seval on {info.samples} networks of {text(info.space)}, read in the {info.view} view.",
        "Scores are those of out-of-fold predictions of the training networks.",
        "",
        "| " + " | ".join(head) + " |",
        "| --- " * len(head) + "|",
    ]
    for metric in info.metrics:
        better = "larger" if metric.direction == "max" else "smaller"
        scores = [f"{metric.scores[name]:.3g}" if name in metric.scores else "" for name in shown]
        cells = [text(metric.name), text(metric.unit), better, str(metric.samples), str(metric.unsupported), *scores]
        lines.append("| " + " | ".join(cells) + " |")
    for what, names in (("proxies", info.proxies), ("predictions of", info.base)):
        if names:
            lines += ["", f"Inputs beside strings: {what} {', '.join(map(text, names))}."]
    lines += [
        "",
        f"Model: {text(info.choice)}.",
        "",
        f"Training data: SHA-256 `{text(info.trained_on)}`.",
        "",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in sorted(info.versions.items())) + ".",
        "",
        "Read by `freerea_seval.predictor.folder.load_predictor`, and by searches with `source: {seval: FOLDER}`.",
        "",
    ]
    return "\n".join(lines)
