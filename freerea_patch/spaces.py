"""Search spaces: the interface of a space, the two spaces of NATS-Bench, and how a config names a space.

FBNet's space is in :mod:`freerea_patch.fbnet`, language models are in :mod:`freerea_patch.gpt`, and configs of the
library transformers in :mod:`freerea_patch.hugging_face`.

The topology space has the cells of NAS-Bench-201 (Dong 2020): four nodes, and on each of the six edges one of five
operations. A genotype reads ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``: one block per node, one ``op~source`` per incoming
edge. The size space has one cell with five widths (Dong 2021); a genotype reads ``64:32:8:40:16``.

Importing this module does not import torch; :mod:`freerea_patch.networks` does.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache, wraps
from inspect import Parameter, signature
from itertools import product
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from freerea_patch.errors import InputError, UserCodeError, unknown_name
from freerea_patch.imports import import_object, importable_from

if TYPE_CHECKING:
    from torch import nn


@runtime_checkable
class SearchSpace(Protocol):
    """A set of networks with genotypes; a space of your own is any object with these members.

    A genotype is a string, and every network has exactly one genotype. Every operator draws its randomness from the
    generator that it receives and from nothing else. Optional members enable more features:

    - ``skip(genotype) -> float``: FreeREA's measure of skip connections;
    - ``genotypes() -> Sequence[str]``: all networks, in the order in which benchmark tables number them;
    - ``simplified(genotype) -> str``: the genotype of the same function without operations that the output does not
      depend on;
    - ``parts(genotype) -> Part``: the network as a tree of repeated parts, which makes it about a hundred times faster
      to encode as a string;
    - ``choices() -> Mapping[str, Sequence[str]]``: the genes by name, each with its possible values, with
      ``compose(genes) -> str``: the genotype of a value for each gene, and ``genes(genotype) -> Mapping[str, str]``:
      its inverse. Search engines that choose values of parameters, such as Optuna, need these three;
    - ``stack(genotype) -> Stack``: the network's numbers of layers, and how it is built with others on torch's ``meta``
      device: strings and costs need neither its memory nor a pass through all layers;
    - ``input_dtype: str``: the dtype of an input, ``"float32"`` if it is missing. With ``"int64"``, inputs are indices
      of tokens, ``(tokens,)``;
    - ``vocabulary: int``: the number of tokens, which training-free and zero-cost metrics of such a space need.

    Attributes:
        name: identifies the space and its options, in records and in cache keys.
        input_shape: of one input, without the batch: ``(channels, height, width)`` of an image.
    """

    name: str

    @property
    def input_shape(self) -> tuple[int, ...]:
        """An attribute; here a property, so that its type may be that of an image."""
        ...

    def check(self, genotype: str) -> None:
        """Raise :class:`~freerea_patch.errors.InputError` if ``genotype`` is not of this space."""
        ...

    def sample(self, rng: Random) -> str:
        """Return a random genotype."""
        ...

    def mutate(self, genotype: str, rng: Random) -> str:
        """Return ``genotype`` with one gene changed."""
        ...

    def crossover(self, first: str, second: str, rng: Random) -> str:
        """Return a genotype whose genes come from two parents."""
        ...

    def build(self, genotype: str) -> nn.Module:
        """Return the network, with any weights, mapping ``(n, *input_shape)`` to ``(n, classes)``."""
        ...


#: The dtypes of inputs: images, and indices of tokens.
INPUT_DTYPES = ("float32", "int64")


def input_dtype(space: SearchSpace) -> str:
    """Return the dtype of a space's inputs, by torch's name."""
    return str(getattr(space, "input_dtype", "float32"))


@dataclass(frozen=True)
class Part:
    """A module composed of submodules, so that results for a repeated part can be computed once and cached.

    Two parts with the same ``identity`` are equal except for their weights. ``make`` must not inspect the submodules
    that it receives: what it computes around them may depend on the shapes of their outputs only.

    Attributes:
        key: identifies ``make``: two parts with the same key differ in ``parts`` only.
        make: returns the module, given one submodule for each of ``parts``.
        parts: the parts of the submodules.
    """

    key: Hashable
    make: Callable[..., nn.Module]
    parts: tuple[Part, ...] = ()

    @cached_property
    def identity(self) -> Hashable:
        """The keys of the part and, recursively, of its parts."""
        return (self.key, *(part.identity for part in self.parts)) if self.parts else self.key

    def build(self) -> nn.Module:
        """Return the module, with its own weights."""
        return self.make(*(part.build() for part in self.parts))


@dataclass(frozen=True)
class Stack:
    """A network whose layers repeat, to be traced without weights and with fewer layers.

    Attributes:
        key: identifies the network but for its numbers of layers.
        kind: identifies it but for those and for sizes within layers: networks of one kind with the same numbers of
            layers repeat them alike.
        counts: the numbers of layers, in the order of execution; empty if they are not known.
        make: returns the network on the ``meta`` device with other numbers of layers.
    """

    key: Hashable
    kind: Hashable
    counts: tuple[int, ...]
    make: Callable[[Sequence[int]], nn.Module]


OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
#: (source, target) of the six edges, in the order of the genotype.
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))

_FORM = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|"

WIDTHS = tuple(range(8, 65, 8))
LAYERS = 5
#: The cell of every network of the size space.
SIZE_CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"


class Dataset(NamedTuple):
    """Shape ``(channels, height, width)`` of an image, and the number of classes."""

    input_shape: tuple[int, int, int]
    classes: int


#: The image data sets of NATS-Bench (Dong 2021, section 3).
DATASETS = {
    "cifar10": Dataset((3, 32, 32), 10),
    "cifar100": Dataset((3, 32, 32), 100),
    "ImageNet16-120": Dataset((3, 16, 16), 120),
}


def check_text(genotype: object) -> None:
    """Raise :class:`InputError` if a genotype is no text, for example a number of a table or of a file."""
    if not isinstance(genotype, str):
        raise InputError(f"expected a genotype, which is a text, got {genotype!r:.80}")


def format_cell(operations: Sequence[str]) -> str:
    """Return the genotype of six operations, in the order of :data:`EDGES`."""
    return _FORM.format(*operations)


@lru_cache(maxsize=1 << 14)  # the whole space: a search parses each of its cells many times
def parse_cell(genotype: str) -> tuple[str, ...]:
    """Return the six operations of a genotype, in the order of :data:`EDGES`.

    Raises:
        InputError: the string is not a cell of this space.
    """
    operations = tuple(edge.partition("~")[0] for edge in genotype.replace("+", "").split("|") if edge)
    if len(operations) != len(EDGES) or format_cell(operations) != genotype:
        raise InputError(
            f"{genotype!r:.200} is not a cell of the topology space; expected the form {_FORM.format(*['op'] * 6)}"
        )
    for operation in operations:
        if operation not in OPERATIONS:
            raise InputError(
                f"unknown operation {operation!r:.80} in {genotype!r:.200}; valid operations: {', '.join(OPERATIONS)}"
            )
    return operations


def live_operations(operations: Sequence[str]) -> list[str]:
    """Return the operations of a cell, with ``none`` for every edge that the output does not depend on.

    Such an edge starts at a node that no path from the input reaches, or ends at a node from which no path leads to the
    output. Without it, the cell computes the same function in less time.
    """
    used = [(edge, op) for edge, op in zip(EDGES, operations, strict=True) if op != "none"]
    reached, needed = {0}, {3}
    for (source, target), _ in used:  # EDGES are sorted by target, so that every path to a source precedes its edges
        if source in reached:
            reached.add(target)
    for (source, target), _ in sorted(used, reverse=True):
        if target in needed:
            needed.add(source)
    return [
        op if source in reached and target in needed else "none"
        for (source, target), op in zip(EDGES, operations, strict=True)
    ]


def skip_length(operations: Sequence[str]) -> float:
    """Return FreeREA's skip metric: the mean length of the skip connections, 0 without one.

    The length of an edge is the level of its target minus that of its source. As in the public code, target levels are
    counted from node 1, so that an edge between neighbouring nodes has length 0.
    """
    lengths = [
        target - 1 - source for (source, target), op in zip(EDGES, operations, strict=True) if op == "skip_connect"
    ]
    return sum(lengths) / len(lengths) if lengths else 0.0


class DatasetSpace(ABC):
    """A space whose networks are built for one of several image data sets, and whose genes have the same values each.

    Args:
        dataset: one of :attr:`datasets`: input shape and classes.

    Attributes:
        kind: the space's name in a config.
        datasets: by name; those of NATS-Bench unless a space has its own.
        gene_names, gene_values: the names of the genes, and the values that every gene can have.
        name: the space's name with the data set.
        dataset, input_shape, classes: of the data set.

    Raises:
        InputError: an unknown data set.
    """

    kind: str
    datasets: Mapping[str, Dataset] = DATASETS
    gene_names: tuple[str, ...]
    gene_values: tuple[str, ...]

    def __init__(self, dataset: str = "cifar10") -> None:
        if dataset not in self.datasets:
            raise unknown_name("data set", dataset, self.datasets)
        self.dataset = dataset
        self.input_shape, self.classes = self.datasets[dataset]
        self.name = f"{self.kind}/{dataset}"

    @abstractmethod
    def _parse(self, genotype: str) -> Sequence[str]:
        """Return the values of the genes, or raise :class:`InputError`."""

    @abstractmethod
    def _format(self, values: Sequence[str]) -> str:
        """Return the genotype of the values of the genes."""

    @abstractmethod
    def parts(self, genotype: str) -> Part:
        """Return the network as a tree of repeated parts."""

    def build(self, genotype: str) -> nn.Module:
        """Return the network, mapping ``(n, *input_shape)`` to ``(n, classes)``."""
        return self.parts(genotype).build()

    def check(self, genotype: str) -> None:
        """Raise :class:`InputError` if ``genotype`` is not of this space."""
        check_text(genotype)
        self._parse(genotype)

    def sample(self, rng: Random) -> str:
        """Return a genotype of uniformly random genes."""
        return self._format(rng.choices(self.gene_values, k=len(self.gene_names)))

    def mutate(self, genotype: str, rng: Random) -> str:
        """Replace the value of a uniformly random gene by one of the others."""
        values = list(self._parse(genotype))
        gene = rng.randrange(len(values))
        values[gene] = rng.choice([value for value in self.gene_values if value != values[gene]])
        return self._format(values)

    def crossover(self, first: str, second: str, rng: Random) -> str:
        """Take every gene from a random one of the two parents (uniform crossover, Syswerda 1989)."""
        pairs = zip(self._parse(first), self._parse(second), strict=True)
        return self._format([pair[rng.getrandbits(1)] for pair in pairs])

    def simplified(self, genotype: str) -> str:
        """Return the genotype without operations that the output does not depend on: here, it depends on all."""
        self._parse(genotype)
        return genotype

    def choices(self) -> Mapping[str, Sequence[str]]:
        """Return the genes by name, each with its possible values."""
        return dict.fromkeys(self.gene_names, self.gene_values)

    def compose(self, genes: Mapping[str, str]) -> str:
        """Return the genotype of a value for each gene.

        Raises:
            InputError: the names are not those of the genes, or a value is none of theirs.
        """
        if genes.keys() != set(self.gene_names):
            raise InputError(f"expected the genes {', '.join(self.gene_names)}, got {', '.join(map(str, genes))}")
        genotype = self._format([genes[name] for name in self.gene_names])
        self.check(genotype)
        return genotype

    def genes(self, genotype: str) -> Mapping[str, str]:
        """Return the values of the genes by name: the inverse of :meth:`compose`."""
        return dict(zip(self.gene_names, self._parse(genotype), strict=True))


class TopologySpace(DatasetSpace):
    """The topology space (TSS, which is NAS-Bench-201): 15,625 cells, each repeated fifteen times in one network.

    Args:
        dataset: ``"cifar10"``, ``"cifar100"`` or ``"ImageNet16-120"``: input shape and classes.

    Raises:
        InputError: an unknown data set.
    """

    kind = "nats-tss"
    gene_names = tuple(f"edge {source}-{target}" for source, target in EDGES)
    gene_values = OPERATIONS

    def _parse(self, genotype: str) -> Sequence[str]:
        return parse_cell(genotype)

    def _format(self, values: Sequence[str]) -> str:
        return format_cell(values)

    def skip(self, genotype: str) -> float:
        """Return FreeREA's skip metric: see :func:`skip_length`."""
        return skip_length(parse_cell(genotype))

    def simplified(self, genotype: str) -> str:
        """Return the cell without operations that its output does not depend on; 9,445 cells have none."""
        return _simplified_cell(genotype)

    def genotypes(self) -> Sequence[str]:
        """Return all cells in NATS-Bench's order, which is the index of its tables."""
        return all_cells()

    def parts(self, genotype: str) -> Part:
        """Return the parts of the network of a cell (16, 32 and 64 channels, five cells per stage)."""
        from freerea_patch.networks import topology_network

        return topology_network(parse_cell(genotype), classes=self.classes)


@lru_cache(maxsize=1 << 14)
def _simplified_cell(genotype: str) -> str:
    return format_cell(live_operations(parse_cell(genotype)))


@lru_cache(maxsize=1)
def all_cells() -> tuple[str, ...]:
    """Return the 15,625 cells in NATS-Bench's order.

    NATS-Bench numbered them by shuffling the lexicographic product with Python's generator, seed 88
    (Dong 2021, public code); the tests compare the result with the published list.
    """
    cells = [format_cell(operations) for operations in product(OPERATIONS, repeat=len(EDGES))]
    Random(88).shuffle(cells)
    return tuple(cells)


_VALID_WIDTHS = {str(width) for width in WIDTHS}


def parse_widths(genotype: str) -> list[int]:
    """Return the five channel counts of a genotype such as ``64:32:8:40:16``.

    Raises:
        InputError: the string is not of this space.
    """
    genes = genotype.split(":")
    if len(genes) != LAYERS or any(gene not in _VALID_WIDTHS for gene in genes):
        raise InputError(
            f"{genotype!r:.200} is not of the size space; expected {LAYERS} channel counts"
            f" out of {', '.join(map(str, WIDTHS))}, such as 64:32:8:40:16"
        )
    return [int(gene) for gene in genes]


def format_widths(widths: Sequence[int]) -> str:
    """Return the genotype of five channel counts."""
    return ":".join(map(str, widths))


class SizeSpace(DatasetSpace):
    """The size space (SSS): 32,768 networks with five channel counts, each one of 8, 16, ..., 64, and one fixed cell.

    Args:
        dataset: ``"cifar10"``, ``"cifar100"`` or ``"ImageNet16-120"``: input shape and classes.

    Raises:
        InputError: an unknown data set.
    """

    kind = "nats-sss"
    gene_names = tuple(f"layer {number}" for number in range(1, LAYERS + 1))
    gene_values = tuple(map(str, WIDTHS))

    def _parse(self, genotype: str) -> Sequence[str]:
        parse_widths(genotype)
        return genotype.split(":")

    def _format(self, values: Sequence[str]) -> str:
        return ":".join(values)

    def skip(self, genotype: str) -> float:
        """Return FreeREA's skip metric of the fixed cell, which is the same for every network."""
        parse_widths(genotype)
        return skip_length(parse_cell(SIZE_CELL))

    def genotypes(self) -> Sequence[str]:
        """Return all networks in NATS-Bench's order, which is the index of its tables."""
        return all_sizes()

    def parts(self, genotype: str) -> Part:
        """Return the parts of the network: cell, block, cell, block, cell with the given widths."""
        from freerea_patch.networks import size_network

        return size_network(parse_widths(genotype), parse_cell(SIZE_CELL), classes=self.classes)


@lru_cache(maxsize=1)
def all_sizes() -> tuple[str, ...]:
    """Return the 32,768 genotypes in NATS-Bench's order, which is lexicographic by width."""
    return tuple(format_widths(widths) for widths in product(WIDTHS, repeat=LAYERS))


class Subspace:
    """The listed networks of another space, such as those of a table.

    Offspring are those of the other space: its operators are tried :data:`TRIES` times, and where none of the results
    is listed, a random listed network takes the place.

    Args:
        space: the other space.
        genotypes: its networks to choose from; at least one.
    """

    #: Every network of the topology space has 24 neighbours.
    TRIES = 50

    def __init__(self, space: SearchSpace, genotypes: Sequence[str]) -> None:
        self.name, self.input_shape, self.build = space.name, space.input_shape, space.build
        self.input_dtype = input_dtype(space)
        if hasattr(space, "vocabulary"):
            self.vocabulary = space.vocabulary
        self._space = space
        self._listed = dict.fromkeys(genotypes)
        self._genotypes = tuple(self._listed)
        if hasattr(space, "simplified"):
            self.simplified = self._simplified
        for member in ("parts", "stack"):
            if hasattr(space, member):
                setattr(self, member, getattr(space, member))

    def check(self, genotype: str) -> None:
        """Raise :class:`InputError` if ``genotype`` is not listed."""
        self._space.check(genotype)
        if genotype not in self._listed:
            raise InputError(f"{genotype!r} is not among the {len(self._listed)} networks that the space is limited to")

    def genotypes(self) -> Sequence[str]:
        """Return the listed networks."""
        return self._genotypes

    def sample(self, rng: Random) -> str:
        """Return a random listed network."""
        return rng.choice(self._genotypes)

    def mutate(self, genotype: str, rng: Random) -> str:
        """Return a listed network that is a mutation of ``genotype``, or a random one."""
        return self._offspring(lambda: self._space.mutate(genotype, rng), (genotype,), rng)

    def crossover(self, first: str, second: str, rng: Random) -> str:
        """Return a listed network that is a crossover of two others, or a random one."""
        return self._offspring(lambda: self._space.crossover(first, second, rng), (first, second), rng)

    def _offspring(self, propose: Callable[[], str], parents: Sequence[str], rng: Random) -> str:
        for _ in range(self.TRIES):
            genotype = propose()
            if genotype in self._listed and genotype not in parents:
                return genotype
        return self.sample(rng)

    def _simplified(self, genotype: str) -> str:
        """Return the genotype without operations that the output does not depend on, if that is listed."""
        simplified: str = self._space.simplified(genotype)  # type: ignore[attr-defined]
        return simplified if simplified in self._listed else genotype


#: Built-in spaces by the name that a config uses: a class, or ``"pkg.module:Class"``.
SPACES: Mapping[str, type[Any] | str] = {
    "nats-tss": TopologySpace,
    "nats-sss": SizeSpace,
    "fbnet": "freerea_patch.fbnet:FBNetSpace",
    "gpt": "freerea_patch.gpt:GPTSpace",
    "gpt-s": "freerea_patch.gpt:GPTSmallSpace",
    "gpt-m": "freerea_patch.gpt:GPTMediumSpace",
    "gpt-l": "freerea_patch.gpt:GPTLargeSpace",
    "transformers": "freerea_patch.hugging_face:TransformersSpace",
}


def find_space(name: str) -> Callable[..., SearchSpace]:
    """Return the class of a space by name: a built-in one, or ``pkg.module:Class``.

    Raises:
        InputError: an unknown name, or an import that fails.
    """
    target = SPACES.get(name, name)
    if target is name and ":" not in name:
        raise unknown_name("space", name, [*SPACES, "pkg.module:Class"])
    space: Callable[..., SearchSpace] = import_object(target, "space") if isinstance(target, str) else target
    return space


def make_space(spec: str | Mapping[str, Any], base: Path = Path()) -> SearchSpace:
    """Return the search space that a config describes.

    Args:
        spec: ``nats-tss``, ``nats-sss`` or ``fbnet``, optionally followed by ``/DATASET`` (by default CIFAR-10, of
            ``fbnet`` CIFAR-100); ``pkg.module:Class`` for a space of your own; or a mapping of ``name`` and the space's
            options. A mapping of ``transformers``, a config of that library, and ``vary`` is a
            :class:`freerea_patch.hugging_face.TransformersSpace`.
        base: the folder in which ``pkg.module`` is searched first, and that the path of such a config starts from.

    Raises:
        InputError: an unknown space or option, or a class that lacks members of :class:`SearchSpace`.
        InputError: its ``input_shape`` is no shape.
    """
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    if "transformers" in options and "name" not in options:
        options = {"name": "transformers", "config": options.pop("transformers"), "base": base, **options}
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise InputError(f"space: expected a name, such as nats-tss or pkg.module:Class, got {spec!r}")
    if ":" not in name:
        name, slash, dataset = name.partition("/")
        if slash:
            options["dataset"] = dataset
    with importable_from(base):
        make = find_space(name)
    try:
        space = _construct(name, make, options)
    except SystemExit as error:
        raise UserCodeError(f"space {name!r} ended the program with SystemExit({error})") from error
    if ":" in name:
        for member in _RESULTS:
            if callable(getattr(space, member, None)):  # None says that an optional member is missing
                with suppress(AttributeError):  # of a class with __slots__
                    object.__setattr__(space, member, _checked(space.name, member, getattr(space, member)))
    return space


def _construct(name: str, make: Callable[..., Any], options: Mapping[str, Any]) -> SearchSpace:
    """Return the space with its options; :func:`make_space` describes the errors."""
    try:
        parameters = signature(make).parameters
    except (TypeError, ValueError):  # of a class written in C
        parameters = MappingProxyType({})
    if parameters and not any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values()):
        for option in options:
            if option not in parameters:
                raise unknown_name(f"option of space {name!r}:", option, parameters)
    try:
        space = make(**options)
    except TypeError as error:
        raise InputError(f"space {name!r}: {error}") from error
    if not isinstance(space, SearchSpace):
        members = ("name", "input_shape", "check", "sample", "mutate", "crossover", "build")
        missing = [m for m in members if getattr(space, m, None) is None]
        raise InputError(f"space {name!r} lacks: {', '.join(missing)}; see freerea_patch.SearchSpace")
    if not _is_text(space.name):
        raise InputError(f"space {name!r}: expected a name, a text that UTF-8 can encode, got {space.name!r:.100}")
    shape: object = space.input_shape
    if not (isinstance(shape, (tuple, list)) and shape and all(isinstance(size, int) and size > 0 for size in shape)):
        raise InputError(
            f"space {name!r}: expected input_shape as the sizes of one input without the batch, such as (3, 32, 32),"
            f" got {shape!r}"
        )
    if input_dtype(space) not in INPUT_DTYPES:
        raise InputError(
            f"space {name!r}: expected input_dtype as one of {', '.join(INPUT_DTYPES)}, got {input_dtype(space)!r:.80}"
        )
    return space


def _is_text(value: object) -> bool:
    """Whether a value is a text that UTF-8 can encode: one without lone surrogates."""
    return isinstance(value, str) and (value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value))


def _is_network(value: object) -> bool:
    torch = sys.modules.get("torch")  # without which there is no network
    return torch is not None and isinstance(value, torch.nn.Module)


def _are_texts(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(map(_is_text, value))


_GENOTYPE = ("a genotype, a text that UTF-8 can encode", _is_text)
#: What the members of a space return: for messages, and as a check.
_RESULTS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "check": ("None, or InputError to be raised for a genotype of another space", lambda value: value is not False),
    **dict.fromkeys(("sample", "mutate", "crossover", "simplified"), _GENOTYPE),
    "compose": _GENOTYPE,
    "build": ("a torch.nn.Module", _is_network),
    "skip": ("a number", lambda value: hasattr(value, "__float__")),
    "genotypes": ("a list of genotypes, texts that UTF-8 can encode", _are_texts),
    "parts": ("a freerea_patch.Part", lambda value: isinstance(value, Part)),
    "stack": ("a freerea_patch.Stack", lambda value: isinstance(value, Stack)),
}


def _checked(space: str, member: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of a user's space with a check of what it returns.

    What it raises passes, because :func:`freerea_patch.user_message` finds the place in the user's code.
    """
    expected, is_valid = _RESULTS[member]

    @wraps(method)
    def call(*arguments: Any) -> Any:
        try:
            result = method(*arguments)
            problem = "" if is_valid(result) else f"returned {result!r:.100}; expected {expected}"
            cause = None
        except SystemExit as error:
            problem, cause = f"ended the program with SystemExit({error})", error
        if problem:
            texts = ", ".join(repr(argument) for argument in arguments if isinstance(argument, str))
            raise UserCodeError(f"space {space!r}: {member}({texts}) {problem}") from cause
        return result

    return call
