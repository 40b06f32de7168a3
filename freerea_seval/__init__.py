"""Any metric in a training-free architecture search.

The names of this package are the whole public interface; ``import freerea_seval as fs`` is light, and the module
of a name is imported when the name is first used. The command line ``freerea-seval`` calls the same functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freerea_patch._lazy import lazy_exports
from freerea_seval._version import __version__

if TYPE_CHECKING:
    from freerea_patch import Budget, FreeREA, InputError, Objective, SearchSpace, SizeSpace, TopologySpace
    from freerea_seval.api.encoding import encode
    from freerea_seval.api.evaluator import Evaluator
    from freerea_seval.api.measuring import measure
    from freerea_seval.api.predictors import Predictor, load_predictor, train
    from freerea_seval.api.runs import Run, load_run, search
    from freerea_seval.config import Config

__all__ = [
    "Budget",
    "Config",
    "Evaluator",
    "FreeREA",
    "InputError",
    "Objective",
    "Predictor",
    "Run",
    "SearchSpace",
    "SizeSpace",
    "TopologySpace",
    "__version__",
    "encode",
    "load_predictor",
    "load_run",
    "measure",
    "search",
    "train",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "freerea_patch": [
            "Budget",
            "FreeREA",
            "InputError",
            "Objective",
            "SearchSpace",
            "SizeSpace",
            "TopologySpace",
        ],
        "freerea_seval.api.encoding": ["encode"],
        "freerea_seval.api.evaluator": ["Evaluator"],
        "freerea_seval.api.measuring": ["measure"],
        "freerea_seval.api.predictors": ["Predictor", "load_predictor", "train"],
        "freerea_seval.api.runs": ["Run", "load_run", "search"],
        "freerea_seval.config.schema": ["Config"],
    },
)
