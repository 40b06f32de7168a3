"""From a string to its graph, in three steps; :mod:`freerea_seval.strings.text.grammar` describes strings.

:func:`split_braces` expands repetitions, :func:`link` finds which operations read which, without shapes, and
:func:`infer` derives attributes, shapes and parameters operation by operation. The last two work on any sequence of
words, so that :mod:`freerea_seval.strings.text.blocks` can cache what they return for a part of a string.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from math import nan
from typing import NamedTuple

from freerea_patch import InputError
from freerea_seval.strings.graph.ir import (
    LARGEST_SIZE,
    Graph,
    Node,
    Ref,
    Shape,
    Spec,
    Value,
    Weight,
    node_macs,
    sorted_attributes,
)
from freerea_seval.strings.graph.shape_inference import (
    BARE,
    BINARY,
    CONVOLUTIONS,
    SINKS,
    WINDOWS,
    channels,
    infer_dtype,
    infer_results,
    infer_weights,
    spatial,
    window_defaults,
)
from freerea_seval.strings.text.grammar import Anchor, DefaultOperands, Word, lex, parse_sizes

#: The largest number of dimensions of a tensor.
MOST_DIMENSIONS = 64
#: Limits of an expanded string, in operations and characters; without them a short string could fill the memory.
LONGEST, LONGEST_TEXT = 250_000, 10_000_000

_NUMBER = re.compile(r"-?(?:\d{1,400}(?:\.\d{1,400})?(?:e[+-]?\d{1,4})?|inf)|nan", re.ASCII)
_WORD = re.compile(r"[A-Za-z_][\w.+-]*", re.ASCII)
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_WINDOW = re.compile(r"([kspdo])(\d{1,18}(?:x\d{1,18})*)", re.ASCII)
_GROUPS = re.compile(r"g(\d{1,18})", re.ASCII)
_RESULT = re.compile(r"(\d{1,18}(?:x\d{1,18})*)?(?::([A-Za-z]\w*))?", re.ASCII)


@dataclass(frozen=True, eq=False, slots=True)
class Operation:
    """An operation independent of its position; equal ones are mostly one object and are compared by identity.

    Attributes:
        node: its references are distances: ``Ref(2)`` is a result of the operation two before.
        shapes: of its inputs.
    """

    node: Node
    shapes: tuple[Shape, ...]


class Links(NamedTuple):
    """What consecutive words read, whatever the shapes.

    Attributes:
        words: the operations.
        refs: the results that each reads, as distances.
        single_default: whether some arithmetic reads a single result by default, because all others have been read.
        leaves_unread: whether a result other than the last one is never read.
    """

    words: Sequence[Word]
    refs: Sequence[tuple[Ref, ...]]
    single_default: bool
    leaves_unread: bool


def parse_graph(string: str) -> Graph:
    """Return the graph of a string.

    Raises:
        InputError: not a string of the grammar; the message names the word.
    """
    nodes = []
    for position, operation in enumerate(parse_operations(string)):
        kind, attributes, inputs, outputs = operation.node
        nodes.append(Node(kind, attributes, tuple([_shifted(item, position) for item in inputs]), outputs))
    return Graph(tuple(nodes))


def parse_operations(string: str) -> list[Operation]:
    """Return the operations of a string; see :func:`parse_graph`."""
    words = expand(string)
    operations: list[Operation] = []
    infer(link(words, False), operations)
    outputs = sum([word.kind == "output" for word in words])
    if outputs != 1 or words[-1].kind != "output":
        raise InputError(
            f"a network string has one output, as its last operation; {shortened(string)} has {outputs}, and ends with"
            f" {words[-1].kind if words else ''!r}; expected something like 'input[1x3x32x32] relu output'"
        )
    return operations


def _shifted(item: Ref | Weight, position: int) -> Ref | Weight:
    """Turn a distance from ``position`` into a position."""
    if isinstance(item, Ref):
        return Ref(position - item.node, item.port)
    return item if item.tied is None else item._replace(tied=position - item.tied)


def expand(string: str) -> list[Word]:
    """Return all operations of a string, with repetitions written out; see :func:`split_braces`."""
    return list(chain.from_iterable([words * count for words, count in split_braces(string)]))


def split_braces(string: str) -> list[tuple[tuple[Word, ...], int]]:
    """Return the contents of the outermost braces and of the gaps between them, with their numbers of repetitions.

    Repetitions inside the outermost braces are written out.

    Raises:
        InputError: not a string, unbalanced braces, an unknown reference, or a string beyond :data:`LONGEST` or
            :data:`LONGEST_TEXT`.
    """
    if not isinstance(string, str):
        raise InputError(f"expected a network string, got {type(string).__name__}")
    words: list[Word] = []  # the contents of outermost braces once, of inner ones repeated
    pieces: list[tuple[int, int, int]] = []  # start and end in ``words``, count
    braces: list[tuple[int, int] | None] = []  # by number, start and end in ``words``; None before they are closed
    opened: list[tuple[int, int, int]] = []  # number, start, count
    begin = length = repeated = 0  # begin of the gap; operations; repeated characters

    def end_gap() -> None:
        if begin < len(words):
            pieces.append((begin, len(words), 1))

    for index, text in enumerate(string.split(), 1):
        word = lex(text)
        count, copies = word.count or 1, 0
        start = end = len(words)
        if word.text == "{":
            if not opened:
                end_gap()
            opened.append((len(braces), start, count))
            braces.append(None)
            continue
        if word.text == "}":
            if not opened or word.count:
                raise _error(index, text, "closes nothing; expected '}' behind its '{'")
            number, start, count = opened.pop()
            if start == end:
                raise _error(index, text, "closes empty braces; expected operations in them")
            braces[number] = start, end
            copies = count - 1
        elif word.reference:
            span = braces[word.reference - 1] if word.reference <= len(braces) else None
            if span is None:
                closed = len(braces) - braces.count(None)
                raise _error(index, text, f"names braces that were not closed before; {closed} were")
            (start, end), copies = span, count
            if not opened:
                end_gap()
        elif word.is_operation:
            length += 1
            words.append(lex(word.text) if word.count else word)
            end, copies = start + 1, count - 1
        else:
            raise _error(index, text, "is no token; expected an operation such as 'relu<-2', '5*{', '}' or '#1'")
        if copies:
            length += copies * (end - start)
            repeated += copies * sum([len(copy.text) for copy in words[start:end]])
            if length > LONGEST or repeated > LONGEST_TEXT:
                raise _error(index, text, f"repeats too much; expected at most {LONGEST:,} operations in all")
        if opened or word.is_operation:
            words += words[start:end] * copies
        else:
            pieces.append((start, end, count))
            begin = len(words)
    if opened:
        raise InputError(f"a network string lacks {len(opened)} '}}' at its end; is it cut off?")
    end_gap()
    return [(tuple(words[start:end]), count) for start, end, count in pieces]


def link(words: Sequence[Word], entry: bool) -> Links:
    """Find the results that each operation reads.

    Args:
        words: consecutive operations.
        entry: whether they read the result of an operation before them, at position 0; without, they begin a string.

    Raises:
        InputError: a word reads something before the first operation, or has a malformed operand.
    """
    defaults = DefaultOperands()
    defaults.add((), 0, entry)
    produced, read = [0] * entry, set[int]()
    links: list[tuple[Ref, ...]] = []
    single_default = False
    # The last port that was read of each operation; needed only if an operand is the next one.
    ports: dict[int, int] | None = {} if any(map(_reads_next, set(words))) else None
    for position, word in enumerate(words, int(entry)):
        if word.operands is None:
            sources = defaults.default(word.kind, position)
            single_default |= len(sources) < 2 and word.kind in BINARY
            refs = _first_results(tuple([position - source for source in sources]))
        else:
            refs = word.refs
            if word.reach > position:
                try:
                    refs = tuple(_distances(word.operands, position, ports))
                except InputError as error:
                    raise _located(position, word, error) from None
            sources = [position - distance for distance, _ in refs]
        if ports is not None:
            ports |= {position - distance: port for distance, port in refs}
        links.append(refs)
        read.update(sources)
        defaults.add(sources, position, word.has_results)
        if word.has_results:
            produced.append(position)
    return Links(words, links, single_default, not read.issuperset(produced[:-1]))


@lru_cache(maxsize=4096)
def _first_results(distances: tuple[int, ...]) -> tuple[Ref, ...]:
    return tuple(map(Ref, distances))


def _reads_next(word: Word) -> bool:
    return any([isinstance(operand, Anchor) and operand.step is not None for operand in word.operands or ()])


def _distances(
    operands: Sequence[Ref | Weight | Anchor | str], position: int, ports: Mapping[int, int] | None
) -> Iterator[Ref]:
    """Yield the results among operands.

    Args:
        operands: of an operation.
        position: of the operation; the first one is at position 0.
        ports: the last port that was read of each operation before.
    """
    read: dict[int, int] = {}  # by this operation
    for operand in operands:
        if isinstance(operand, str):
            raise InputError(f"has an operand {shortened(operand)}; expected one such as 2, 2.1, w16x3 or w16~4")
        if isinstance(operand, Anchor):
            if not 0 < operand.number <= position:
                raise InputError(f"reads an operation that is not before it; expected ^1 to ^{position}")
            port, source = operand.port, operand.number - 1
            if operand.step is not None:
                port = read.get(source, (ports or {}).get(source, -1)) + operand.step
                if port < 0:
                    raise InputError(f"reads a result before the first one; expected '^{operand.number}+' first")
            read[source] = port
            yield Ref(position - source, port)
            continue
        distance = operand.node if isinstance(operand, Ref) else operand.tied
        if distance is not None and not 0 < distance <= position:
            raise InputError(f"reads {distance} before it; expected 1 to {position}")
        if isinstance(operand, Ref):
            read[position - operand.node] = operand.port
            yield operand


def infer(links: Links, operations: list[Operation]) -> None:
    """Append the operations of words to those before them.

    Raises:
        InputError: shapes that do not fit, or something that cannot be inferred and is not stated.
    """
    for word, refs in zip(links.words, links.refs, strict=True):
        try:
            operation = _operation(word, refs, tuple([operations[-ref.node] for ref in refs]))
            for item in operation.node.inputs:
                if isinstance(item, Weight) and item.tied and not operations[-item.tied].node.weights:
                    kind = operations[-item.tied].node.kind
                    raise InputError(f"shares a parameter with {kind!r}, {item.tied} before it, which has none")
        except InputError as error:
            raise _located(len(operations), word, error) from None
        operations.append(operation)


@lru_cache(maxsize=65536)
def _operation(word: Word, refs: tuple[Ref, ...], sources: tuple[Operation, ...]) -> Operation:
    """Return the operation of a word that reads results of ``sources``."""
    specs = []
    for (_, port), source in zip(refs, sources, strict=True):
        node = source.node
        if port >= len(node.outputs):
            raise InputError(f"reads result {port} of {node.kind!r}, which has {len(node.outputs)} (from 0)")
        specs.append(node.outputs[port])
    attributes, outputs, implied, shapes = _inferred(word, tuple(specs))
    reads = iter(refs)
    listed = refs if word.operands is None else [i if isinstance(i, Weight) else next(reads) for i in word.operands]
    return shared_operation(Node(word.kind, attributes, (*listed, *implied), outputs), shapes)


@lru_cache(maxsize=65536)
def shared_operation(node: Node, shapes: tuple[Shape, ...]) -> Operation:
    """Return one object for equal operations."""
    return Operation(node, shapes)


@lru_cache(maxsize=65536)
def _inferred(
    word: Word, specs: tuple[Spec, ...]
) -> tuple[tuple[tuple[str, Value], ...], tuple[Spec, ...], tuple[Weight, ...], tuple[Shape, ...]]:
    """Return attributes, results, parameters that are not listed, and the shapes of all inputs.

    Args:
        word: the operation.
        specs: the results that it reads.
    """
    weights = tuple([item._replace(tied=None) for item in word.operands or () if isinstance(item, Weight)])
    attributes = _attributes(word, specs)
    outputs = infer_results(word.kind, attributes, specs, weights)
    if word.results is not None:
        if word.kind in SINKS:
            raise InputError(f"cannot have a result; write {word.kind!r} without brackets")
        dtype = infer_dtype(word.kind, specs, weights)
        outputs = tuple([_result(text, dtype) for text in word.results])
    if outputs is None:
        raise InputError(
            "has a result that does not follow from its inputs; write its shape, such as 'relu[1x16x32x32]'"
        )
    implied: tuple[Weight, ...] = ()
    if not weights and not word.without_parameters and outputs:
        expected = infer_weights(word.kind, attributes, specs)
        implied = tuple([Weight(shape, outputs[0].dtype) for shape in expected])
    reads = iter(specs)
    listed = specs if word.operands is None else [i if isinstance(i, Weight) else next(reads) for i in word.operands]
    shapes = tuple([item.shape for item in (*listed, *implied)])
    for shape in [*shapes, *(spec.shape for spec in outputs)]:
        if len(shape) > MOST_DIMENSIONS or not all(0 <= size <= LARGEST_SIZE for size in shape):
            sizes = shortened("x".join(map(str, shape)))
            raise InputError(
                f"has a tensor of {sizes}; expected at most {MOST_DIMENSIONS} sizes of 0 to {LARGEST_SIZE}"
            )
    try:
        node_macs(Node(word.kind, tuple(attributes.items()), (), outputs), shapes)
    except (LookupError, TypeError, ValueError, ZeroDivisionError):
        sizes = ", ".join("x".join(map(str, shape)) for shape in shapes)
        raise InputError(f"cannot multiply what it reads, {sizes}; expected operands that fit it") from None
    return sorted_attributes(attributes), outputs, implied, shapes


def _result(text: str, dtype: str) -> Spec:
    match = _RESULT.fullmatch(text)
    if match is None:
        raise InputError(f"has a result {shortened(text)}; expected one such as 1x16x32x32 or 1x8:int64")
    return Spec(parse_sizes(match[1]), match[2] or dtype)


def _attributes(word: Word, specs: Sequence[Spec]) -> dict[str, Value]:
    kind = word.kind
    windows: dict[str, tuple[int, ...]] = {}
    attributes: dict[str, Value] = {}
    width = channels(kind, specs)
    for text in word.attributes:
        name, equals, value = text.partition("=")
        sizes: tuple[int, ...] | None = None
        parsed: Value
        if equals:
            if not _NAME.fullmatch(name):
                raise InputError(f"has an attribute named {shortened(name)}; expected a name such as 'dim'")
            parsed = _value(value)
        elif kind in WINDOWS and (match := _WINDOW.fullmatch(text)):
            name, parsed = match[1], (sizes := parse_sizes(match[2]))
        elif kind in CONVOLUTIONS and (match := _GROUPS.fullmatch(text)):
            name, parsed = "g", int(match[1])
        elif text == "dw" and width is not None:
            name, parsed = "g", width
        elif text in ("b", "plain"):
            name, parsed = text, 1
        else:
            name, parsed = BARE.get(kind, "other"), _value(text)
        if name in attributes or name in windows:
            raise InputError(f"says {name!r} twice; expected each attribute once")
        if sizes is None:
            attributes[name] = parsed
        else:
            windows[name] = sizes
    if width is not None:
        attributes.setdefault("out", width)
    if windows:
        _fill_window(kind, attributes, windows, specs)
    return attributes


def _fill_window(
    kind: str, attributes: dict[str, Value], windows: dict[str, tuple[int, ...]], specs: Sequence[Spec]
) -> None:
    """Add the attributes of a window, one size per dimension and none missing."""
    n = spatial(kind, specs[0].shape) if specs else 0
    whole = {name: sizes * n if len(sizes) == 1 else sizes for name, sizes in windows.items()}
    defaults = window_defaults(kind, whole.get("k"), whole.get("d"), specs)
    if defaults is None or any(len(sizes) != n for sizes in whole.values()) or not defaults.keys() >= whole.keys():
        raise InputError(
            f"has a window that does not fit its input of {len(specs[0].shape) if specs else 0} dimensions;"
            f" expected k, and one size or {n} for each"
        )
    groups = attributes.get("g", 1)
    if not isinstance(groups, int) or not 0 <= groups <= LARGEST_SIZE:
        raise InputError(f"has groups {shortened(str(groups))}; expected a number such as g4, or dw")
    for name, value in (defaults | whole).items():
        if value is not None and not (name == "g" and "g" in attributes):
            attributes[name] = value


def _value(text: str) -> Value:
    numbers = text.split(":")
    if all(_NUMBER.fullmatch(number) for number in numbers):
        values = tuple(map(_number, numbers))
        return values if len(values) > 1 else values[0]
    if _WORD.fullmatch(text):
        return text
    raise InputError(f"has a value {shortened(text)}; expected a number, numbers such as 2:3, or a word")


def _number(text: str) -> int | float:
    if text.lstrip("-").isdigit():
        return int(text)
    value = float(text)
    if value != value:
        return nan  # one object, because graphs with NaN could not be equal otherwise
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _error(index: int, word: str, problem: str) -> InputError:
    return InputError(f"word {index} of a network string, {shortened(word)}, {problem}")


def _located(position: int, word: Word, error: InputError) -> InputError:
    return InputError(f"operation {position + 1} of a network string, {shortened(word.text)}, {error}")


def shortened(text: str) -> str:
    """Return a text for an error message."""
    return repr(text if len(text) <= 60 else text[:60] + "...")
