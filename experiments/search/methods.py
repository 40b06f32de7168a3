"""The searches that the integration experiment compares, and the config of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from experiments.search.benchmarks import Benchmark
from freerea_patch.training_free import METRICS

Truth = Literal["true", "seval"]

#: The training-free metrics that take time: skip is read off a cell.
SCORES = ("naswot", "logsynflow")
#: Ranks over the whole history instead of FreeREA's sum within the pool, and cells without dead operations.
RANKED: Mapping[str, Any] = {"aggregation": "ranks", "normalisation": "history", "simplify": True}
#: Predictions cost so little that a search converges long before its time is over: then it goes on with what is new.
ONWARD: Mapping[str, Any] = {"unseen": 10}
#: The algorithm of pymoo.
NSGA2 = "experiments.search.nsga2:PymooNSGA2"
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
        leaders: with several steps, how many of the best networks of each are measured on the device after it. They
            come out of the number that the predictor may learn from: the others are random, and the next step has a
            predictor that learned from all so far. The answer is one that was measured.
        chance: what is searched has at least this probability to keep the bound, by the predictor's own errors; less
            than a half makes sense before leaders are measured.
        trains: whether the leaders are trained as well. The next step has a predictor of their accuracy, and predicts
            all else that it needs, so that it can look at many more networks.
        onward: options of such a step, beside ``options``.
    """

    name: str
    algorithm: str = "freerea"
    options: Mapping[str, Any] = field(default_factory=dict)
    hardware: Truth | None = None
    role: Literal["fitness", "constraint", "pareto"] = "constraint"
    confidence: float | None = None
    leaders: tuple[int, ...] = ()
    chance: float | None = None
    trains: bool = False
    onward: Mapping[str, Any] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """What its name stands for."""
        algorithm = (
            "NSGA-II of pymoo" if self.algorithm == NSGA2 else "FreeREA" if "freerea" in self.algorithm else "random"
        )
        parts = [algorithm + (" without mutation of the best" if self.algorithm == "freerea-minus" else "")]
        if self.options and self.algorithm != NSGA2:
            parts.append(", ".join(f"{name} {value}" for name, value in self.options.items()))
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
        if self.leaders:
            numbers = " and ".join(map(str, self.leaders))
            done = "measured and trained" if self.trains else "measured"
            parts.append(f"{numbers} of the networks that it leads to are {done}, and the predictors learn from them")
        return "; ".join(parts)

    @property
    def steps(self) -> int:
        """How many searches it takes: a front is searched once more after its leaders, an answer is one of them."""
        return max(1, len(self.leaders) + (self.is_pareto and bool(self.leaders)))

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
    Method("ranked+seval-leaders", options=RANKED, hardware="seval", leaders=(25, 25), chance=0.1),
    Method(
        "ranked+seval-trained", "freerea", RANKED, "seval", leaders=(25, 25), chance=0.1, trains=True, onward=ONWARD
    ),
    Method("fitness+true", hardware="true", role="fitness"),
    Method("fitness+seval", hardware="seval", role="fitness"),
    Method("pareto+true", hardware="true", role="pareto"),
    Method("pareto+seval", hardware="seval", role="pareto"),
    Method("pareto-ranked+seval", options=RANKED, hardware="seval", role="pareto"),
    Method("nsga2+seval", NSGA2, SMALL, hardware="seval", role="pareto"),
    Method("random+seval", "random", hardware="seval", role="pareto"),
    Method("pareto+seval-trained", hardware="seval", role="pareto", leaders=(50,), trains=True),
    Method(
        "pareto-ranked+seval-trained", "freerea", RANKED, "seval", "pareto", leaders=(50,), trains=True, onward=ONWARD
    ),
    Method("nsga2+seval-trained", NSGA2, SMALL, hardware="seval", role="pareto", leaders=(50,), trains=True),
    Method("random+seval-trained", "random", hardware="seval", role="pareto", leaders=(50,), trains=True),
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
    accuracy: str = "",
    scores: str = "",
) -> dict[str, Any]:
    """Return the config of one step of a method.

    Args:
        method: what to search with.
        benchmark: what to search on; its table gives all metrics that are not predicted.
        seed: of the search.
        budget: the budget section.
        sizes: population and tournament.
        bound: of the hardware metric, if the method has one.
        hardware: folder of the predictor of the hardware metric, if the method predicts it.
        accuracy: folder of a predictor of accuracy, for a step after training.
        scores: folder of a predictor of the training-free :data:`SCORES`, for a step that only predicts.
    """
    table = {"table": f"tables/{benchmark.dataset}.csv"}
    objectives: list[dict[str, Any]] = []
    # A Pareto front is of accuracy itself as soon as there is a predictor of it, not of a score that stands for it.
    if not (method.is_pareto and accuracy):
        for metric in METRICS:
            source = {"seval": scores} if scores and metric in SCORES else table
            objectives.append({"metric": metric, "source": source, "role": "fitness", "direction": "max"})
    if accuracy:
        role = "pareto" if method.is_pareto else "fitness"
        objectives.append({"metric": "accuracy", "source": {"seval": accuracy}, "role": role, "direction": "max"})
    if method.hardware is not None:
        term: dict[str, Any] = {
            "metric": benchmark.metric,
            "source": table if method.hardware == "true" else {"seval": hardware},
            "role": method.role,
            "direction": benchmark.direction,
        }
        if method.bounded:
            term["max" if benchmark.direction == "min" else "min"] = bound
            if method.confidence is not None and method.hardware == "seval":
                term["confidence"] = method.confidence
        objectives.append(term)
    options: dict[str, Any] = {} if method.algorithm == "random" else dict(sizes)
    options |= method.options
    if accuracy:
        options |= method.onward
    if method.algorithm == "freerea-minus":
        options["tournament"] = min(5, sizes["tournament"])  # as in the public code
    if method.algorithm == NSGA2:
        options.pop("tournament")
    return {
        "space": f"nats-tss/{benchmark.dataset}",
        "search": {"algorithm": method.algorithm, **options, "seeds": [seed]},
        "budget": dict(budget),
        "objectives": objectives,
    }
