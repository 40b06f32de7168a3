"""The networks to measure: of a search space, of a list of genotypes, or made by functions of the user's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from freerea_patch import InputError, SearchSpace, importable_from
from freerea_seval.measurement.timing import NotReadyError, Runnable

if TYPE_CHECKING:
    from torch import nn

    from freerea_seval.measurement.backends import Inputs
    from freerea_seval.predictor.seval import SEvalPredictor

#: Samples per network that is asked for, before a space without a list is taken to be exhausted.
_TRIES = 20
#: Networks that active learning orders; beyond a few hundred, the order makes no difference and takes seconds.
_ORDERED = 300
#: Length scale of the kernel that chose the best sets of 10 to 100 networks.
_LENGTH_SCALE = 2.7

#: How another process builds a network, as JSON: ``{"space", "base", "genotype", "batch_size", "seed"}`` or
#: ``{"network", "inputs", "seed"}``.
NetworkSpec = Mapping[str, Any]


@dataclass(frozen=True)
class Networks:
    """Networks by name.

    Attributes:
        column: what the names are, as the header of a table: ``genotype`` or ``network``.
        names: the names, without repetition.
        make: returns the module and its inputs for a name.
        spec: returns how another process builds the network of a name; see :func:`build_from_spec`.
        about: facts about the networks and inputs, for records.
    """

    column: str
    names: Sequence[str]
    make: Callable[[str], tuple[nn.Module, Inputs]]
    spec: Callable[[str], NetworkSpec]
    about: dict[str, Any]

    def prepare(
        self, name: str, *, backend: str = "eager", device: str = "cpu", threads: int | None = None
    ) -> Runnable:
        """Return a network that is ready to run; see :func:`freerea_seval.measurement.backends.prepare`.

        Raises:
            NotReadyError: the network cannot be built, or not be exported for the backend.
            CannotRunError: the backend or the device cannot run it.
        """
        from freerea_seval.measurement.backends import one_line, prepare

        try:
            module, inputs = self.make(name)
        except Exception as error:  # a user's space may raise anything
            raise NotReadyError(one_line(error)) from error
        return prepare(module, inputs, backend=backend, device=device, threads=threads or 1)


def space_networks(
    space: SearchSpace,
    genotypes: Sequence[str],
    batch_size: int = 1,
    seed: int = 0,
    space_name: str | Mapping[str, Any] = "",
    base: Path = Path(),
) -> Networks:
    """Return networks of a space, with random weights and images.

    Args:
        space: the search space.
        genotypes: its networks; repetitions are left out.
        batch_size: images a pass.
        seed: of the images.
        space_name: the space as a config names it, which is needed to measure memory, in another process.
        base: the folder in which the modules of a space of one's own are searched first.
    """

    def make(genotype: str) -> tuple[nn.Module, Inputs]:
        return _build(space, genotype, batch_size, seed)

    def spec(genotype: str) -> NetworkSpec:
        place = {"space": space_name, "base": str(base.absolute())}
        return {**place, "genotype": genotype, "batch_size": batch_size, "seed": seed}

    about = {"space": space.name, "input": [[batch_size, *space.input_shape]]}
    return Networks("genotype", list(dict.fromkeys(genotypes)), make, spec, about)


#: What :func:`serving_networks` measures.
SERVED = ("time_to_first_token", "time_per_token")


def check_served(space: SearchSpace, metric: str) -> None:
    """Make sure that the networks of a space can be served.

    Raises:
        InputError: they are not those of the built-in spaces of language models.
    """
    from freerea_patch import GPTSpace

    make = getattr(space.build, "__self__", space)  # of a subspace, the space that builds
    if not isinstance(make, GPTSpace):
        raise InputError(f"{metric} is of the spaces gpt, gpt-s, gpt-m and gpt-l; space {space.name} has no KV cache")


def serving_networks(space: SearchSpace, genotypes: Sequence[str], metric: str) -> Networks:
    """Return language models that answer a prompt of their context, or add the last token to it.

    Args:
        space: one of the built-in spaces of language models.
        genotypes: its networks.
        metric: one of :data:`SERVED`.

    Raises:
        InputError: as :func:`check_served`.
    """
    check_served(space, metric)

    def make(genotype: str) -> tuple[nn.Module, Inputs]:
        import torch

        from freerea_patch.gpt_networks import Served

        (context,) = space.input_shape
        t = context if metric == "time_to_first_token" else 1
        return Served(space.build(genotype), context - t), [torch.zeros(1, t, dtype=torch.int64)]

    def spec(genotype: str) -> NetworkSpec:
        raise NotImplementedError  # of memory, which is not measured of these

    about = {"space": space.name, "input": [[1, *space.input_shape]], "metric": metric}
    return Networks("genotype", list(dict.fromkeys(genotypes)), make, spec, about)


def build_from_spec(spec: NetworkSpec) -> tuple[nn.Module, Inputs]:
    """Return a network and its inputs.

    Raises:
        InputError: a factory or a shape cannot be used, or there is no such space.
    """
    from freerea_seval.config import build_network, make_space, make_tensors
    from freerea_seval.measurement.backends import random_inputs

    if "network" in spec:
        module = build_network(spec["network"])
        return module, random_inputs(make_tensors(spec["inputs"], module), spec["seed"])
    base = Path(spec.get("base", ""))
    with importable_from(base):
        return _build(make_space(spec["space"], base), spec["genotype"], spec["batch_size"], spec["seed"])


def _build(space: SearchSpace, genotype: str, batch_size: int, seed: int) -> tuple[nn.Module, Inputs]:
    from freerea_patch.networks import check_network, zero_input
    from freerea_seval.measurement.backends import random_inputs

    network = space.build(genotype)
    check_network(network)
    return network, random_inputs([zero_input(space, batch_size)], seed)


def draw(space: SearchSpace, count: int, seed: int, least: int | None = None) -> list[str]:
    """Return different random networks of a space; all of them in random order if the space has no more.

    Args:
        space: the search space.
        count: how many networks.
        seed: of the random numbers.
        least: the number of networks that suffices if the space has fewer than ``count``; None for ``count``.

    Raises:
        InputError: the space does not list its networks, and sampling gave too few different ones.
    """
    rng = Random(seed)
    listing: Callable[[], Sequence[str]] | None = getattr(space, "genotypes", None)
    if listing is not None:
        genotypes = listing()
        return rng.sample(list(genotypes), min(count, len(genotypes)))
    least = count if least is None else least
    samples: dict[str, None] = {}
    for _ in range(_TRIES * count):
        samples[space.sample(rng)] = None
        if len(samples) == count:
            break
    if len(samples) < least:
        raise InputError(f"space {space.name} gave {len(samples)} different networks, not {least}; ask for fewer")
    return list(samples)


def read_genotypes(path: Path, space: SearchSpace) -> list[str]:
    """Return the genotypes of a file: one a line, or a CSV's column ``genotype``.

    Raises:
        InputError: the file cannot be read, has no genotypes, or one that is not of the space.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read the genotypes {path} ({error.strerror}); check the path") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8 text ({error.reason})") from None
    if not text.strip():
        raise InputError(f"{path} is empty; expected one genotype a line, or a CSV with a column 'genotype'")
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if "genotype" in [name.strip(' "') for name in lines[0][1].split(",")]:
        from freerea_seval.tables import read_csv

        frame = read_csv(path)
        if "genotype" not in frame.columns:
            raise InputError(f"{path}: expected a column 'genotype', got {', '.join(frame.columns)!r:.200}")
        lines = list(zip(frame.index, frame["genotype"], strict=True))
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
    base: Sequence[SEvalPredictor] | None = None,
) -> list[str]:
    """Return networks in the order of :func:`~freerea_seval.predictor.active_learning.most_informative`.

    The first few hundred are ordered by their executed strings, so that a predictor learns most from the first of them;
    the others follow in the given order.

    Args:
        space: the search space.
        genotypes: its networks.
        show: called with the fraction done and a note.
        base: as of :func:`~freerea_seval.predictor.active_learning.most_informative`.

    Raises:
        InputError: as :class:`freerea_seval.strings.encode.SpaceStrings`.
    """
    from freerea_seval.predictor.active_learning import most_informative
    from freerea_seval.strings.encode import shared_strings

    strings = shared_strings(space, "executed").strings(genotypes, show)
    first = most_informative(strings, min(_ORDERED, len(set(strings))), length_scale=_LENGTH_SCALE, base=base).tolist()
    others = sorted(set(range(len(genotypes))) - set(first))
    return [genotypes[index] for index in (*first, *others)]
