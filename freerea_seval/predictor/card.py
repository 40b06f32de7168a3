"""The card of a predictor: what it predicts, how well, and what it learned from, for whoever finds its folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from freerea_seval.predictor.folder import PredictorInfo

_SCORES = {
    "kendall_tau": "Kendall's tau-b",
    "spearman": "Spearman",
    "r2": "R²",
    "rmse": "RMSE",
    "auc": "AUC, supported",
    "kendall_tau_all": "tau-b, unsupported last",
    "coverage": "coverage at 90 %",
}


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
