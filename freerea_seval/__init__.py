"""Any metric in a training-free architecture search: sources, predictors, configs, runs, command line."""

from freerea_seval._version import __version__

__all__ = ["__version__"]
