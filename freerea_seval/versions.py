"""What a result may depend on: the versions of packages, of Python, and the machine."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("freerea-seval", "numpy", "moocore", "torch", "xgboost-cpu", "xgboost", "scikit-learn", "pydantic")


def versions() -> dict[str, str]:
    """Return the versions of Python and of installed packages, and the kind of machine."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "system": sys.platform}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
