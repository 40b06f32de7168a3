"""Imports by name, lazy exports of packages, and a setting to make before torch is imported."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from freerea_patch.errors import USERS_EXCEPTIONS, InputError

#: Held while networks are built and computed on. All threads of a process share torch's generator, its number of
#: threads and the classes of its layers, which this changes for a while; and the seconds of a metric must not include
#: those of another thread.
TORCH_LOCK = threading.RLock()


def import_object(spec: str, what: str) -> Any:
    """Return the object that ``pkg.module:attribute`` names.

    Args:
        spec: the name.
        what: the object's purpose, for error messages.

    Raises:
        InputError: the name has another form, the module cannot be imported, or it lacks the attribute.
    """
    module_name, colon, attribute = spec.partition(":")
    if not (colon and module_name and attribute):
        raise InputError(f"{what}: expected pkg.module:name, got {spec!r}")
    try:
        value: Any = import_module(module_name)
    except InputError:  # of a module that says what it needs
        raise
    except USERS_EXCEPTIONS as error:  # a user's module may raise anything while it is imported
        raise InputError(
            f"{what}: cannot import {module_name!r} of {spec!r} ({type(error).__name__}: {error})"
        ) from None
    for name in attribute.split("."):
        if not hasattr(value, name):
            raise InputError(f"{what}: {module_name!r} has no {attribute!r}")
        value = getattr(value, name)
    return value


@contextmanager
def importable_from(folder: Path) -> Iterator[None]:
    """Search for modules in ``folder`` first, as Python does in the folder of a script."""
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


def share_cores() -> None:
    """Let idle OpenMP threads sleep instead of spin; call this before torch is imported.

    By default, threads spin while they wait for each other. This is 5 to 15 % faster on an idle machine, and ten to
    thirty times slower as soon as another process uses a core. A policy that the user has set is kept.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Use this number of CPU threads in torch for a while; hold :data:`TORCH_LOCK`."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def lazy_exports(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a package that imports its exports under ``if TYPE_CHECKING:``.

    The names are read from that block, so that type checkers and the running program see the same list.

    Args:
        package: the package's ``__name__``.
        file: the package's ``__file__``.
    """

    @cache
    def modules() -> dict[str, str]:
        """Return the module of every exported name."""
        import ast  # not needed by programs that import modules directly

        block = next(
            node for node in ast.parse(Path(file).read_text(encoding="utf-8")).body if isinstance(node, ast.If)
        )
        imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
        return {alias.asname or alias.name: str(node.module) for node in imports for alias in node.names}

    def load(name: str) -> Any:
        if name.startswith("__") or name not in modules():
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules()[name]), name)

    return load, lambda: sorted(modules())
