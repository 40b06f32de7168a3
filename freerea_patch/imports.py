"""Objects named as ``pkg.module:attribute`` in a config or on the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from freerea_patch.errors import InputError


def import_object(spec: str, what: str) -> Any:
    """Return the object that ``pkg.module:attribute`` names.

    Args:
        spec: the name.
        what: what it is wanted for, for the error.

    Raises:
        InputError: not of that form; the module cannot be imported; it has no such attribute.
    """
    module_name, colon, attribute = spec.partition(":")
    if not (colon and module_name and attribute):
        raise InputError(f"{what}: expected pkg.module:name, got {spec!r}")
    try:
        found: Any = import_module(module_name)
    except Exception as error:  # a user's module may raise anything while it is imported
        raise InputError(
            f"{what}: cannot import {module_name!r} of {spec!r} ({type(error).__name__}: {error})"
        ) from None
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise InputError(f"{what}: {module_name!r} has no {attribute!r}")
        found = getattr(found, name)
    return found


@contextmanager
def importable_from(folder: Path) -> Iterator[None]:
    """Look for modules in ``folder`` first, as Python does for the folder of a script."""
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)
