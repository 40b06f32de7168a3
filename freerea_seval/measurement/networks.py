"""What to measure: networks of a space, a list of genotypes, or networks of the user's own."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from freerea_patch import InputError, SearchSpace
from freerea_seval.measurement.timing import CannotRunError, Runnable

if TYPE_CHECKING:
    from torch import nn

    from freerea_seval.measurement.backends import Inputs
    from freerea_seval.measurement.network_spec import Recipe

#: Tries a network, before a space is taken to have no more.
_TRIES = 20
#: Networks that are put in order; more take seconds, and no budget gets to them where order counts.
_ORDERED = 300
#: Of what is measured, few networks tell of many: the kernel's length scale that chose best of 10 to 100.
_LENGTH_SCALE = 2.7


@dataclass(frozen=True)
class Networks:
    """Networks by name.

    Attributes:
        column: what the names are: ``genotype`` or ``network``.
        names: without repetition.
        make: returns a name's module and its inputs.
        recipe: what another process makes the same from; see :mod:`freerea_seval.measurement.network_spec`.
        about: what the names and inputs mean, for records.
    """

    column: str
    names: Sequence[str]
    make: Callable[[str], tuple[nn.Module, Inputs]]
    recipe: Callable[[str], Recipe]
    about: dict[str, Any]

    def ready(self, name: str, *, backend: str = "eager", device: str = "cpu", threads: int = 1) -> Runnable:
        """Return a network that is ready to run; see :func:`freerea_seval.measurement.backends.prepare`.

        Raises:
            CannotRunError: it cannot be built, or the backend or the device cannot run it.
        """
        from freerea_seval.measurement.backends import one_line, prepare

        try:
            module, inputs = self.make(name)
        except Exception as error:  # a space of the user's may raise anything
            raise CannotRunError(one_line(error)) from error
        return prepare(module, inputs, backend=backend, device=device, threads=threads)


def space_networks(
    space: SearchSpace, genotypes: Sequence[str], batch_size: int = 1, seed: int = 0, space_name: str = ""
) -> Networks:
    """Return networks of a space, with random weights and images; its name is needed in other processes only."""

    def make(genotype: str) -> tuple[nn.Module, Inputs]:
        import torch

        from freerea_seval.measurement.backends import random_inputs

        return space.build(genotype), random_inputs([torch.zeros(batch_size, *space.input_shape)], seed)

    about = {"space": space.name, "input": [[batch_size, *space.input_shape]]}

    def recipe(genotype: str) -> Recipe:
        return {"space": space_name, "genotype": genotype, "batch_size": batch_size, "seed": seed}

    return Networks("genotype", list(dict.fromkeys(genotypes)), make, recipe, about)


def draw(space: SearchSpace, count: int, seed: int, least: int | None = None) -> list[str]:
    """Return different random networks of a space, all in random order if it has no more than these.

    Args:
        space: the search space.
        count: how many.
        seed: draws them.
        least: so many will do, where the space has no more; None for all.

    Raises:
        InputError: the space seems to have fewer, and does not list them.
    """
    rng = Random(seed)
    listing: Callable[[], Sequence[str]] | None = getattr(space, "genotypes", None)
    if listing is not None:
        genotypes = listing()
        return rng.sample(list(genotypes), min(count, len(genotypes)))
    drawn: dict[str, None] = {}
    for _ in range(_TRIES * count):
        drawn[space.sample(rng)] = None
        if len(drawn) == count:
            return list(drawn)
    if least is not None and len(drawn) >= least:
        return list(drawn)
    asked = count if least is None else least
    raise InputError(f"space {space.name} gave {len(drawn)} different networks, not {asked}; ask for fewer")


def read_genotypes(path: Path, space: SearchSpace) -> list[str]:
    """Return the genotypes of a file: one a line, or a CSV's column ``genotype``.

    Raises:
        InputError: the file cannot be read, has none, or one that is not of the space.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read the genotypes {path} ({error.strerror}); check the path") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8 text ({error.reason})") from None
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not lines:
        raise InputError(f"{path} is empty; expected one genotype a line, or a CSV with a column 'genotype'")
    header = next(csv.reader(io.StringIO(lines[0][1])))
    if "genotype" in header:
        place = header.index("genotype")
        rows = [(number, next(csv.reader(io.StringIO(line)))) for number, line in lines[1:]]
        lines = [(number, fields[place].strip() if place < len(fields) else "") for number, fields in rows]
        if not lines:
            raise InputError(f"{path} has no rows below its header; expected one a network")
    for number, genotype in lines:
        try:
            space.check(genotype)
        except InputError as error:
            raise InputError(f"{path}, line {number}: {error}") from None
    return list(dict.fromkeys(genotype for _, genotype in lines))


def most_informative_first(
    space: SearchSpace,
    genotypes: Sequence[str],
    show: Callable[[float, str], object] = lambda fraction, note: None,
) -> list[str]:
    """Return the networks so that a predictor learns most from the first of them.

    It is the order of :func:`~freerea_seval.predictor.active_learning.most_informative`, on executed strings.
    Networks beyond the first hundreds, of which one is worth as much as another, follow as they were.

    Args:
        space: the search space.
        genotypes: its networks.
        show: is told the fraction done, and a note.

    Raises:
        InputError: as :class:`freerea_seval.strings.encode.SpaceStrings`.
    """
    from freerea_seval.predictor.active_learning import most_informative
    from freerea_seval.strings.encode import SpaceStrings

    strings = SpaceStrings(space, "executed").strings(genotypes, show)
    first = most_informative(strings, min(_ORDERED, len(set(strings))), length_scale=_LENGTH_SCALE).tolist()
    taken = set(first)
    return [genotypes[place] for place in (*first, *(i for i in range(len(genotypes)) if i not in taken))]
