"""Versions of Python, packages and the kind of machine, for the records beside results."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("freerea-seval", "numpy", "moocore", "torch", "xgboost-cpu", "xgboost", "scikit-learn", "pydantic")


def versions() -> dict[str, str]:
    """Return the versions of Python and of installed packages, and the kind of machine."""
    result = {"python": platform.python_version(), "machine": platform.machine(), "system": sys.platform}
    for package in _PACKAGES:
        try:
            result[package] = version(package)
        except PackageNotFoundError:
            continue
    return result
