"""Which metric sources there are: the built-in ones, and those that installed packages add."""

from __future__ import annotations

from importlib.metadata import entry_points

from freerea_patch import InputError
from freerea_seval.sources.builtin import register
from freerea_seval.sources.registry import Registry

#: A package adds sources by an entry point of this group that names ``function(registry)``.
ENTRY_POINTS = "freerea_seval.metrics"


def load_registry() -> Registry:
    """Return the built-in sources and those of installed packages.

    Raises:
        InputError: an installed package's entry point fails.
    """
    registry = Registry()
    register(registry)
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda p: (p.name, p.value)):
        try:
            point.load()(registry)
        except Exception as error:  # a third-party package may raise anything
            raise InputError(
                f"metric sources of entry point {point.name!r} ({point.value}) cannot be loaded"
                f" ({type(error).__name__}: {error}); mend or uninstall that package"
            ) from error
    return registry
