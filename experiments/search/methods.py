"""The searches that the integration experiment compares, and the config of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from experiments.search.benchmarks import Benchmark
from freerea_seval.config.presets import PRESETS

Truth = Literal["true", "seval"]

#: Ranks over the whole history instead of FreeREA's sum within the pool, and cells without dead operations.
RANKED: Mapping[str, Any] = {"aggregation": "ranks", "normalisation": "history", "simplify": True}
#: Searches in rounds: how many, which share of the measurements is made before the first, and how many networks are
#: trained in all. A part of the budget needs a small population, and goes on with networks that are new.
ROUNDS, STARTS, TRAINED = 5, 0.4, 50
REFINED: Mapping[str, Any] = {**RANKED, "unseen": 10}
#: The engines of other libraries, by the name of the algorithm.
ENGINES = {"pymoo:nsga2": "NSGA-II of pymoo", "optuna:nsga2": "NSGA-II of Optuna", "optuna:tpe": "TPE of Optuna"}
#: With a population of 100 NSGA-II would end in its second generation; 20 was the best of 20, 50 and 100.
SMALL: Mapping[str, Any] = {"population": 20}


@dataclass(frozen=True)
class Method:
    """A way to search.

    Attributes:
        name: its name in the rows.
        algorithm: the search's algorithm.
        options: of the algorithm, beside population and tournament.
        hardware: where the hardware metric comes from: the true values, which bound what a predictor can give, or a
            predictor. None: the search does not know it.
        role: what the search uses it for.
        confidence: the probability with which a predicted bound is to hold.
        preset: the preset whose metrics guide it without training.
        rounds: how often the search measures networks that it leads to, and learns from them (``refine``). Of the
            cells that predictors may learn from, :data:`STARTS` are measured before the search. The answer, or the
            front, is of measured networks.
        trains: whether :data:`TRAINED` of the measured networks are trained as well. Once their accuracies are known,
            training-free metrics are no longer needed, and the search can look at many more networks.
    """

    name: str
    algorithm: str = "freerea"
    options: Mapping[str, Any] = field(default_factory=dict)
    hardware: Truth | None = None
    role: Literal["fitness", "constraint", "pareto"] = "constraint"
    confidence: float | None = None
    preset: Literal["published", "guided"] = "published"
    rounds: int = 0
    trains: bool = False

    @property
    def description(self) -> str:
        """What its name stands for."""
        algorithm = ENGINES.get(self.algorithm, "FreeREA" if "freerea" in self.algorithm else "random")
        parts = [algorithm + (" without mutation of the best" if self.algorithm == "freerea-minus" else "")]
        if self.options and self.algorithm not in ENGINES:
            parts.append(", ".join(f"{name} {value}" for name, value in self.options.items()))
        if self.preset == "guided":
            parts.append("guided by the metrics of the preset")
        if self.hardware is None:
            parts.append("the hardware metric is unknown to it")
        else:
            what = {"true": "its true values", "seval": "predictions from strings"}[self.hardware]
            use = {"fitness": "a fitness term", "constraint": "a bound", "pareto": "an axis of a Pareto front"}[
                self.role
            ]
            parts.append(f"the hardware metric is {use}, by {what}")
        if self.confidence is not None:
            parts.append(f"the bound holds with probability {self.confidence:g}")
        if self.rounds:
            done = "measured and trained" if self.trains else "measured"
            parts.append(f"networks are {done} in {self.rounds} rounds, and the predictors learn from them")
        return "; ".join(parts)

    @property
    def bounded(self) -> bool:
        """Whether a bound is part of the search."""
        return self.hardware is not None and self.role == "constraint"

    @property
    def is_pareto(self) -> bool:
        """Whether it finds a front."""
        return self.hardware is not None and self.role == "pareto"


#: What the paper compares, and the searches with a predicted metric in each of the three roles.
METHODS = (
    Method("random", "random"),
    Method("freerea-minus", "freerea-minus"),
    Method("freerea"),
    Method("freerea+true", hardware="true"),
    Method("freerea+seval", hardware="seval"),
    Method("ranked+true", options=RANKED, hardware="true"),
    Method("ranked+seval", options=RANKED, hardware="seval"),
    Method("ranked+seval-confident", options=RANKED, hardware="seval", confidence=0.9),
    Method("ranked+measured", options=REFINED, hardware="seval", rounds=ROUNDS),
    Method("ranked+trained", options=REFINED, hardware="seval", rounds=ROUNDS, trains=True),
    Method("fitness+true", hardware="true", role="fitness"),
    Method("fitness+seval", hardware="seval", role="fitness"),
    Method("pareto+true", hardware="true", role="pareto"),
    Method("pareto+seval", hardware="seval", role="pareto"),
    Method("pareto-ranked+seval", options=RANKED, hardware="seval", role="pareto"),
    Method("nsga2+seval", "pymoo:nsga2", SMALL, hardware="seval", role="pareto"),
    Method("random+seval", "random", hardware="seval", role="pareto"),
    Method("pareto+trained", "freerea", REFINED, "seval", "pareto", rounds=ROUNDS, trains=True),
)
#: Other engines on the config of ``freerea+seval``; TPE begins with ten random networks, as is its default.
OTHER_ENGINES = (
    Method("pymoo-nsga2+seval", "pymoo:nsga2", SMALL, hardware="seval"),
    Method("optuna-nsga2+seval", "optuna:nsga2", SMALL, hardware="seval"),
    Method("optuna-tpe+seval", "optuna:tpe", {"population": 10}, hardware="seval"),
)
_GUIDED = PRESETS["guided"].options
_REGUIDED = {**_GUIDED, "unseen": REFINED["unseen"]}
#: The preset ``guided``; its tables need the option ``--guides`` of the experiment.
GUIDED = (
    Method("guided+true", options=_GUIDED, hardware="true", preset="guided"),
    Method("guided+seval", options=_GUIDED, hardware="seval", preset="guided"),
    Method("guided+measured", options=_REGUIDED, hardware="seval", preset="guided", rounds=ROUNDS),
    Method("guided+trained", options=_REGUIDED, hardware="seval", preset="guided", rounds=ROUNDS, trains=True),
    Method("guided-pareto+trained", "freerea", _REGUIDED, "seval", "pareto", None, "guided", ROUNDS, True),
)
#: One option of the loop at a time, and each taken away, on true values.
ABLATION = (
    Method("freerea+true", hardware="true"),
    Method("history", options={"normalisation": "history"}, hardware="true"),
    Method("ranks", options={"aggregation": "ranks"}, hardware="true"),
    Method("simplify", options={"simplify": True}, hardware="true"),
    Method("ranked+true", options=RANKED, hardware="true"),
    Method("ranked-in-pool", options={**RANKED, "normalisation": "pool"}, hardware="true"),
    Method("ranked-by-sum", options={**RANKED, "aggregation": "sum"}, hardware="true"),
    Method("ranked-unsimplified", options={**RANKED, "simplify": False}, hardware="true"),
    Method("four-tournaments", options={"tournaments": 4}),
    Method("eight-tournaments", options={"tournaments": 8}),
)


def search_config(
    method: Method,
    benchmark: Benchmark,
    *,
    seed: int,
    budget: Mapping[str, float],
    sizes: Mapping[str, int],
    bound: float | None = None,
    hardware: str = "",
    cells: int = 0,
    trained: int = TRAINED,
    table: Path | None = None,
) -> dict[str, Any]:
    """Return the config of a method.

    Args:
        method: what to search with.
        benchmark: what to search on; its table gives all metrics that are not predicted.
        seed: of the search.
        budget: the budget section.
        sizes: population and tournament.
        bound: of the hardware metric, if the method has one.
        hardware: folder of the predictor of the hardware metric, if the method predicts it from random cells.
        cells, trained: how many are measured, and how many of them trained, if the method does so in rounds.
        table: of the benchmark; by default that of the experiment's folder, in which the search runs.
    """
    source = {"table": str(table or f"tables/{benchmark.dataset}.csv")}
    role = "guide" if method.trains else "fitness"
    objectives: list[dict[str, Any]] = [
        {**term, "source": source, "role": role, "direction": "max"} for term in PRESETS[method.preset].objectives
    ]
    if method.hardware is not None:
        predicted: str | dict[str, Any] = hardware
        if method.rounds:
            networks = (cells - round(cells * STARTS)) // method.rounds
            predicted = {**source, "start": cells - method.rounds * networks, "networks": networks}
        term: dict[str, Any] = {
            "metric": benchmark.metric,
            "source": source if method.hardware == "true" else {"seval": predicted},
            "role": method.role,
            "direction": benchmark.direction,
        }
        if method.bounded:
            term["max" if benchmark.direction == "min" else "min"] = bound
            if method.confidence is not None and method.hardware == "seval":
                term["confidence"] = method.confidence
        objectives.append(term)
    if method.trains:  # after the hardware: of two metrics that select, the first one is measured first
        asked = {**source, "start": 0, "networks": trained // method.rounds}
        role = "pareto" if method.is_pareto else "fitness"
        objectives.append({"metric": "accuracy", "source": {"seval": asked}, "role": role, "direction": "max"})
    options: dict[str, Any] = {} if method.algorithm == "random" else dict(sizes)
    options |= method.options
    if method.algorithm == "freerea-minus":
        options["tournament"] = min(5, sizes["tournament"])  # as in the public code
    if method.algorithm in ENGINES:
        options.pop("tournament")
    config = {
        "space": f"nats-tss/{benchmark.dataset}",
        "search": {"algorithm": method.algorithm, **options, "seeds": [seed]},
        "budget": dict(budget),
        "objectives": objectives,
    }
    return {**config, "refine": {"rounds": method.rounds}} if method.rounds else config
