"""Lazy exports of a package (PEP 562): the module of a name is imported when the name is first used."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any


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
