"""The config of a search: one YAML file, read and checked against a schema.

``schema`` defines the sections, reads the file and applies overrides; ``networks`` makes a module and its inputs from
the arguments of the command line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freerea_patch.imports import lazy_exports

if TYPE_CHECKING:
    from freerea_patch.spaces import make_space
    from freerea_seval.config.networks import build_network, is_onnx, make_tensors
    from freerea_seval.config.schema import (
        DEFAULT,
        Config,
        LiveSettings,
        MetricSection,
        ObjectiveSection,
        SearchSection,
        Side,
        check_config,
        dump_config,
        foreign_names,
        load_config,
        parse_yaml,
        resolve_algorithm,
        with_engine,
    )
else:
    __getattr__, __dir__ = lazy_exports(__name__, __file__)
