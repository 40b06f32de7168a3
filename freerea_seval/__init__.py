"""Any metric in a training-free architecture search.

The names of this package are the whole public interface; ``import freerea_seval as fs`` is light, and the module
of a name is imported when the name is first used. The command line ``freerea-seval`` calls the same functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freerea_patch.imports import lazy_exports
from freerea_seval._version import __version__

if TYPE_CHECKING:
    from freerea_patch import Budget, FBNetSpace, FreeREA, InputError, Objective, SearchSpace, SizeSpace, TopologySpace
    from freerea_seval.api.calibrating import Calibration, calibrate
    from freerea_seval.api.configs import check, init, schema
    from freerea_seval.api.encoding import encode
    from freerea_seval.api.evaluator import Evaluator
    from freerea_seval.api.measuring import measure
    from freerea_seval.api.predictors import Predictor, load_predictor, train
    from freerea_seval.api.runs import Run, compare, load_run, search
    from freerea_seval.api.upstream import UpstreamRun, upstream
    from freerea_seval.config import Config
    from freerea_seval.runs.answers import AnswersWanted
    from freerea_seval.runs.check import Check
else:
    __getattr__, __dir__ = lazy_exports(__name__, __file__)

__all__ = [
    "AnswersWanted",
    "Budget",
    "Calibration",
    "Check",
    "Config",
    "Evaluator",
    "FBNetSpace",
    "FreeREA",
    "InputError",
    "Objective",
    "Predictor",
    "Run",
    "SearchSpace",
    "SizeSpace",
    "TopologySpace",
    "UpstreamRun",
    "__version__",
    "calibrate",
    "check",
    "compare",
    "encode",
    "init",
    "load_predictor",
    "load_run",
    "measure",
    "schema",
    "search",
    "train",
    "upstream",
]
