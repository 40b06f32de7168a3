"""FreeREA with an interface for objectives: training-free evolutionary architecture search (Cavagnero 2023).

From a space to a front, data passes through these modules:

- ``spaces``, ``fbnet``, ``gpt`` and ``hugging_face``: genotypes, their operators, and the networks that they stand for
  (``networks``, ``gpt_networks``, and those of the library transformers);
- ``algorithms``: FreeREA and others propose genotypes, by ask and tell;
- ``loop``: evaluates the proposals within a budget and tells the algorithm the results;
- ``objective``: an objective, and a set of objectives bound to metric sources, such as those of ``training_free``;
- ``history``: all candidates, their ranking, and the front.

``checkout`` puts the same objectives into the authors' own code. Importing this package is light: numpy and torch are
imported when they are first needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freerea_patch.imports import lazy_exports

if TYPE_CHECKING:
    from freerea_patch.algorithms import (
        ALGORITHMS,
        Batches,
        FreeREA,
        FreeREAMinus,
        RandomSearch,
        RankedFreeREA,
        Search,
        algorithm_options,
        check_option_names,
        find_algorithm,
        make_search,
    )
    from freerea_patch.errors import InputError, NothingFeasible, UndefinedMetric, raised_in, unknown_name, user_message
    from freerea_patch.fbnet import FBNetSpace
    from freerea_patch.gpt import GPTLargeSpace, GPTMediumSpace, GPTSmallSpace, GPTSpace
    from freerea_patch.history import Aggregation, Candidate, History, Normalisation, Proposal
    from freerea_patch.imports import import_object, importable_from, share_cores
    from freerea_patch.loop import Budget, Ledger, SearchResult, Step, Times, run
    from freerea_patch.objective import (
        UNSUPPORTED,
        BoundObjective,
        Direction,
        Evaluation,
        Measured,
        MetricSource,
        Objective,
        Objectives,
        ObjectiveSet,
        Role,
    )
    from freerea_patch.spaces import (
        SPACES,
        Part,
        SearchSpace,
        SizeSpace,
        Stack,
        Subspace,
        TopologySpace,
        find_space,
        make_space,
    )
    from freerea_patch.training_free.live import MetricCache, TrainingFree, freerea_objectives
else:
    __getattr__, __dir__ = lazy_exports(__name__, __file__)

# fmt: off
__all__ = [
    "ALGORITHMS", "SPACES", "UNSUPPORTED", "Aggregation", "Batches", "BoundObjective", "Budget", "Candidate",
    "Direction", "Evaluation", "FBNetSpace", "FreeREA", "FreeREAMinus", "GPTLargeSpace",
    "GPTMediumSpace", "GPTSmallSpace", "GPTSpace", "History", "InputError", "Ledger", "Measured",
    "MetricCache", "MetricSource", "Normalisation", "NothingFeasible", "Objective", "ObjectiveSet", "Objectives",
    "Part", "Proposal", "RandomSearch", "RankedFreeREA", "Role", "Search", "SearchResult", "SearchSpace", "SizeSpace",
    "Stack", "Step", "Subspace", "Times", "TopologySpace", "TrainingFree", "UndefinedMetric", "algorithm_options",
    "check_option_names", "find_algorithm", "find_space", "freerea_objectives", "import_object", "importable_from",
    "make_search", "make_space", "raised_in", "run", "share_cores", "unknown_name", "user_message",
]
