"""The public code of FreeREA, imported unmodified from a checkout of it (Cavagnero 2023; commit 9c2a726).

Its modules are top-level ones with names such as ``search``, ``utils`` and ``datasets``. They are imported
inside a ``with`` block, and afterwards it is as if they never had been.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from freerea_patch.errors import InputError

#: What makes a folder a checkout of FreeREA.
_FILES = (
    "analyzer.py",
    "datasets.py",
    "genotypes.py",
    "metrics/__init__.py",
    "nas_spaces/__init__.py",
    "nas_utils.py",
    "our_baselines.py",
    "pruning.py",
    "search.py",
    "utils.py",
)
#: Packages that it imports but does not use in a search on cached metrics, and the names it takes from them.
_UNUSED = {
    "nats_bench": {"nats_bench": ["create"]},
    "scipy": {"scipy": [], "scipy.stats": ["mode"]},
    "thop": {"thop": ["profile"]},
    "xautodl": {"xautodl": [], "xautodl.models": ["get_cell_based_tiny_net"]},
}
#: NASBench-101's own code is never imported: it needs a protobuf of 2019, and registers flags a second time.
_NASBENCH101 = {"nas_spaces._nasbench101.original_api": ["api"]}
_MODULES = ("search", "nas_utils", "pruning", "our_baselines", "nas_spaces", "analyzer")
#: ``from nas_utils import *`` gives each of these modules a ``return_top_k`` of its own.
_RANKING = ("search", "pruning", "nas_utils", "our_baselines")


class Checkout:
    """The modules of a checkout of FreeREA, from :meth:`__enter__` until :meth:`undo`.

    Safe because all that it changes are ``sys.path`` and ``sys.modules``, and both are put back: the entry
    and the modules of the checkout go, modules of the same names that had been imported from elsewhere
    return. Modules that were kept in a variable go on working.

    Args:
        path: the folder.

    Attributes:
        search, nas_utils, pruning, our_baselines, nas_spaces, analyzer: the modules.

    Raises:
        InputError: the folder is not a checkout of FreeREA.
    """

    search: Any
    nas_utils: Any
    pruning: Any
    our_baselines: Any
    nas_spaces: Any
    analyzer: Any

    def __init__(self, path: Path) -> None:
        missing = [name for name in _FILES if not (path / name).is_file()]
        if missing:
            raise InputError(
                f"{path} is not a checkout of FreeREA: it has no {', '.join(missing)};"
                " expected a clone of NiccoloCavagnero/FreeREA"
            )
        self.path = path.resolve()
        self._undo: list[Callable[[], object]] = []

    def __enter__(self) -> Checkout:
        """Import the modules.

        Raises:
            InputError: they need a package that is not installed, or are not those of the public code.
        """
        try:
            self._import()
        except BaseException as error:
            self.undo()
            if isinstance(error, InputError) or not isinstance(error, Exception):
                raise
            raise InputError(
                f"FreeREA's code in {self.path} cannot be imported ({type(error).__name__}: {error});"
                " it needs torch and pandas: pip install torch pandas"
            ) from error
        return self

    def _import(self) -> None:
        own = {name.partition("/")[0].removesuffix(".py") for name in _FILES}
        aside = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in own}
        for name in aside:
            del sys.modules[name]
        self._undo.append(lambda: sys.modules.update(aside))
        self._undo.append(self._forget)
        stand_ins = dict(_NASBENCH101)
        for package, modules in _UNUSED.items():
            if package not in sys.modules and find_spec(package) is None:
                stand_ins |= modules
        sys.modules.update({name: _stand_in(name, attributes) for name, attributes in stand_ins.items()})
        self._undo.append(lambda: [sys.modules.pop(name, None) for name in stand_ins])
        entry = str(self.path)
        sys.path.insert(0, entry)
        self._undo.append(lambda: sys.path.remove(entry) if entry in sys.path else None)
        for name in _MODULES:
            setattr(self, name, import_module(name))
        for name in _RANKING:
            if not callable(getattr(getattr(self, name), "return_top_k", None)):
                raise InputError(f"{self.path}: {name} has no return_top_k; expected commit 9c2a726 of FreeREA's code")

    def _forget(self) -> None:
        """Take the checkout's modules out of ``sys.modules``, those that were imported late included."""
        inside = str(self.path / "_")[:-1]
        for name, module in list(sys.modules.items()):
            if (getattr(module, "__file__", None) or "").startswith(inside):
                del sys.modules[name]

    def undo(self) -> None:
        """Put everything back; a second call does nothing."""
        while self._undo:
            self._undo.pop()()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()


def open_checkout(path: Path) -> Checkout:
    """Return FreeREA's public code, for a ``with`` block: see :class:`Checkout`.

    Raises:
        InputError: the folder is not a checkout of FreeREA.
    """
    return Checkout(path)


def _stand_in(name: str, attributes: Sequence[str]) -> ModuleType:
    """Return a module that can be imported, and whose functions say that they are not there."""
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    for attribute in attributes:
        setattr(module, attribute, _absent(f"{name}.{attribute}"))
    return module


def _absent(name: str) -> Callable[..., None]:
    def called(*args: object, **kwargs: object) -> None:
        raise InputError(f"FreeREA's code called {name}, which is not there; only searches on cached metrics work")

    return called
