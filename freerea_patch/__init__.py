"""FreeREA with a seam for objectives: training-free evolutionary architecture search.

Importing this package is light: numpy and torch are imported when they are first needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freerea_patch._lazy import lazy_exports

if TYPE_CHECKING:
    from freerea_patch.algorithms import ALGORITHMS, FreeREA, FreeREAMinus, RandomSearch, make_search
    from freerea_patch.budget import Budget, Ledger
    from freerea_patch.errors import InputError, NothingFeasible
    from freerea_patch.evaluation import BoundObjective, Measured, MetricSource, ObjectiveSet
    from freerea_patch.history import Candidate, History, Proposal
    from freerea_patch.loop import SearchResult, Stopwatch, Times, run
    from freerea_patch.objective import UNSUPPORTED, Evaluation, Objective, Objectives
    from freerea_patch.search import Search
    from freerea_patch.spaces import SPACES, SearchSpace, SizeSpace, TopologySpace
    from freerea_patch.training_free.cache import MetricCache
    from freerea_patch.training_free.live import TrainingFree, freerea_objectives

__all__ = [
    "ALGORITHMS",
    "SPACES",
    "UNSUPPORTED",
    "BoundObjective",
    "Budget",
    "Candidate",
    "Evaluation",
    "FreeREA",
    "FreeREAMinus",
    "History",
    "InputError",
    "Ledger",
    "Measured",
    "MetricCache",
    "MetricSource",
    "NothingFeasible",
    "Objective",
    "ObjectiveSet",
    "Objectives",
    "Proposal",
    "RandomSearch",
    "Search",
    "SearchResult",
    "SearchSpace",
    "SizeSpace",
    "Stopwatch",
    "Times",
    "TopologySpace",
    "TrainingFree",
    "freerea_objectives",
    "make_search",
    "run",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "freerea_patch.algorithms": ["ALGORITHMS", "FreeREA", "FreeREAMinus", "RandomSearch", "make_search"],
        "freerea_patch.budget": ["Budget", "Ledger"],
        "freerea_patch.errors": ["InputError", "NothingFeasible"],
        "freerea_patch.evaluation": ["BoundObjective", "Measured", "MetricSource", "ObjectiveSet"],
        "freerea_patch.history": ["Candidate", "History", "Proposal"],
        "freerea_patch.loop": ["SearchResult", "Stopwatch", "Times", "run"],
        "freerea_patch.objective": ["UNSUPPORTED", "Evaluation", "Objective", "Objectives"],
        "freerea_patch.search": ["Search"],
        "freerea_patch.spaces": ["SPACES", "SearchSpace", "SizeSpace", "TopologySpace"],
        "freerea_patch.training_free.cache": ["MetricCache"],
        "freerea_patch.training_free.live": ["TrainingFree", "freerea_objectives"],
    },
)
