"""From the config's ``space`` to a search space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from freerea_patch import SPACES, InputError, SearchSpace
from freerea_patch.errors import unknown_name
from freerea_patch.imports import import_object, importable_from


def make_space(spec: str | dict[str, Any], base: Path = Path()) -> SearchSpace:
    """Return a search space.

    Args:
        spec: ``nats-tss`` or ``nats-sss``, with ``/DATASET`` behind it for another data set than CIFAR-10;
            ``pkg.module:Class`` for a space of your own; or a mapping with the name under ``name`` and the
            space's options beside it.
        base: folder in which modules of the user's are looked for first.

    Raises:
        InputError: an unknown space or option, or a class that does not have a space's members.
    """
    options = dict(spec) if isinstance(spec, dict) else {"name": spec}
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise InputError(f"space: expected a name, such as nats-tss or pkg.module:Class, got {spec!r}")
    if ":" in name:
        with importable_from(base):
            make = import_object(name, "space")
    else:
        name, slash, dataset = name.partition("/")
        if name not in SPACES:
            raise unknown_name("space", name, [*SPACES, "pkg.module:Class"])
        make = SPACES[name]
        if slash:
            options["dataset"] = dataset
    try:
        space = make(**options)
    except TypeError as error:
        raise InputError(f"space {name!r}: {error}") from None
    if not isinstance(space, SearchSpace):
        members = (*SearchSpace.__annotations__, "check", "sample", "mutate", "crossover", "build")
        missing = [m for m in members if not hasattr(space, m)]
        raise InputError(f"space {name!r} lacks: {', '.join(missing)}; see freerea_patch.spaces.protocol")
    return space
