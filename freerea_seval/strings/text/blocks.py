"""A string as a chain of blocks: pieces of a network that read nothing but the result just before them.

Networks repeat themselves, and networks of one space share their pieces. What follows from a block and the shape that
it reads can be remembered, and so can what follows from an operation and what it reads, wherever it stands: a string
costs what is new in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from freerea_patch import InputError
from freerea_seval.strings.graph.ir import Node, Ref, Shape, Spec, Weight
from freerea_seval.strings.graph.shape_inference import BINARY, SINKS
from freerea_seval.strings.text.expand import LONGEST, LONGEST_TEXT, expand
from freerea_seval.strings.text.grammar import Unread
from freerea_seval.strings.text.parse import read, read_operation

_BRACES = re.compile(r"(?:([1-9]\d{0,5})\*)?(?:\{|#([1-9]\d{0,5}))", re.ASCII)
_FOLDED = re.compile(r"[{}#*]")
_KIND = re.compile(r"[(\[]")
_READ = re.compile(r"(\d{1,18})(?:\.(\d{1,18}))?", re.ASCII)
#: A block longer than this is not worth remembering.
_LONGEST_BLOCK = 20_000
#: Braces within braces are written out up to so many characters; named by number they could ask for any.
_MOST_COPIED = 200_000

Results = tuple[Spec, ...]

#: Stands for results of any shape.
_SOMETHING: Results = (Spec(()),)
#: References to the same place are one object.
_ref = lru_cache(maxsize=1024)(Ref)


@dataclass(
    frozen=True, eq=False, slots=True
)  # compared by identity, which is quick to hash: equal ones are mostly one object
class Operation:
    """An operation wherever it stands.

    Attributes:
        node: what it reads is counted back from it: ``Ref(2)`` was made two operations before.
        shapes: of all that it reads.
    """

    node: Node
    shapes: tuple[Shape, ...]


@dataclass(frozen=True, eq=False, slots=True)  # compared by identity, as operations are
class Block:
    """Operations that follow each other.

    Attributes:
        operations: the first of them is ``entry``, the result that the block reads, unless it begins with an input.
        lone: whether some arithmetic reads a single result without saying so, because no other is left unread.
        unread: whether it leaves results unread, the last one aside.
    """

    operations: tuple[Operation, ...]
    lone: bool = False
    unread: bool = False

    @property
    def results(self) -> Results:
        """What the last operation makes."""
        return self.operations[-1].node.outputs


@dataclass(frozen=True, eq=False, slots=True)  # compared by identity, as operations are
class _Word:
    """An operation of a block before its shapes are known.

    Attributes:
        text: the whole of it.
        label: what it says before its operands.
        kind: of operation.
        arrow: whether it says what it reads.
        backs: how far back what it reads was made.
        ports: which of the results there.
        plain: whether it says nothing of parameters.
        makes: whether it has results.
    """

    text: str
    label: str
    kind: str
    arrow: bool
    backs: tuple[int, ...]
    ports: tuple[int, ...]
    plain: bool
    makes: bool


class _Words(NamedTuple):
    """Words of a block; see :class:`Block`."""

    words: tuple[_Word, ...]
    lone: bool
    unread: bool


def blocks(string: str) -> list[tuple[Block, int]]:
    """Return the blocks of a string and how often in a row each occurs; a single one where it cannot be taken apart.

    A block begins with an operation of kind ``entry`` that stands for the result that it reads; the first one does not,
    if the string begins with an input. Blocks are the braces of the string and what is between them.

    Raises:
        InputError: not a string of the grammar.
    """
    if isinstance(string, str) and "^" not in string and (found := _chain(string)):
        return found
    nodes = read(string).nodes
    return [(Block(tuple([_anywhere(node, position, nodes) for position, node in enumerate(nodes)])), 1)]


def _chain(string: str) -> list[tuple[Block, int]] | None:
    """Return the blocks of a string, or None where one of them reads something before the last result."""
    found: list[tuple[Block, int]] = []
    entry: Results = ()
    alone = True  # the last result is all that nothing has read yet
    operations = 0
    for text, times in _pieces(string):
        left = times
        while left:
            if found and not entry:
                return None  # only what reads nothing may follow, which a block does not know
            block = _read_block(text, entry, alone)
            if block is None:
                return None
            operations += len(block.operations)
            if operations * left > LONGEST or operations * left * len(string) > LONGEST_TEXT:
                return None  # perhaps more than a string may ask for
            still = alone and not block.unread
            same = block.results == entry and block.operations[0].node.kind == "entry" and still == alone
            found.append((block, left if same else 1))
            entry, alone = block.results, still
            left = 0 if same else left - 1
    # One output at the end, and inputs at the beginning only: anything else is for :func:`read` to judge.
    kinds = [[operation.node.kind for operation in block.operations] for block, _ in found]
    ends = sum([those.count("output") for those in kinds])
    later = any(["input" in those for those in kinds[1:]])
    return found if ends == 1 and not later and kinds[-1][-1] == "output" else None


def _pieces(string: str) -> Iterator[tuple[str, int]]:
    """Yield the outermost braces of a string and what is between them, and how often each occurs.

    Where a mistake is, or more is named than is worth to write out, the last piece is empty.
    """
    texts: dict[int, str] = {}  # of braces, by number
    opened: list[tuple[int, int, list[str]]] = []  # number, times, and the words around
    words: list[str] = []
    count = copied = 0
    for word in string.split():
        if "{" in word or "#" in word:
            match = _BRACES.fullmatch(word)
            if match is None or (match[2] and int(match[2]) not in texts):
                yield "", 1
                return
            repeated = int(match[1] or 1)
            if not match[2]:
                count += 1
                opened.append((count, repeated, words))
                words = []
                continue
            body = texts[int(match[2])]
        elif word == "}" and opened:
            number, repeated, around = opened.pop()
            texts[number] = body = " ".join(words)
            words = around
        else:
            words.append(word)
            continue
        if opened:
            words += [f"{repeated}*{{", body, "}"]
            copied += len(body)
            if copied > _MOST_COPIED:
                yield "", 1
                return
            continue
        if words:
            yield " ".join(words), 1
        yield body, repeated
        words = []
    yield "" if opened else " ".join(words), 1


@lru_cache(maxsize=16384)
def _read_block(text: str, entry: Results, alone: bool) -> Block | None:
    """Return the block of a text behind results of these shapes, or None where it reads more than these.

    ``alone`` says that nothing before these is left unread.
    """
    if not 0 < len(text) <= _LONGEST_BLOCK:
        return None
    operations = [_shared(Node("entry", (), (), entry), ())] if entry else []
    try:
        found = _words(text, bool(entry))
        if found is None or (found.lone and not alone):
            return None
        for word in found.words:
            if word.plain:
                operation = _operation(word, tuple([operations[-back] for back in word.backs]))
            else:
                before = [operation.node for operation in operations]
                node, _ = read_operation(word.text, len(before), before, Unread())
                operation = _anywhere(node, len(before), before)
            if bool(operation.node.outputs) != word.makes:
                return None
            operations.append(operation)
    except InputError:
        return None
    return Block(tuple(operations), found.lone, found.unread)


@lru_cache(maxsize=4096)  # the stages of a network read a block one soon after the other
def _words(text: str, entered: bool) -> _Words | None:
    """Return the words of a block, which reads a result or not; None where one of them reads what is not in it.

    Raises:
        InputError: the text does not unfold.
    """
    words: list[_Word] = []
    unread = Unread()
    unread.step((), 0, _SOMETHING * entered)
    made, used = [0] * entered, set[int]()
    lone = False
    for position, said in enumerate(expand(text) if _FOLDED.search(text) else text.split(), int(entered)):
        word = _word(said)
        if not word.arrow:
            refs = unread.default(word.kind, position)
            lone |= len(refs) < 2 and word.kind in BINARY
            word = _word(said, tuple([position - node for node, _ in refs]))
        sources = [position - back for back in word.backs]
        if sources and not 0 <= min(sources) <= max(sources) < position:
            return None
        used.update(sources)
        unread.step(map(_ref, sources), position, _SOMETHING * word.makes)
        if word.makes:
            made.append(position)
        words.append(word)
    return _Words(tuple(words), lone, not used.issuperset(made[:-1]))


@lru_cache(maxsize=65536)
def _word(text: str, unsaid: tuple[int, ...] = ()) -> _Word:
    """Return what a word says, and how far back it reads without saying so.

    What is no word is left for :func:`read_operation` to judge.
    """
    label, arrow, operands = text.partition("<-")
    kind = _KIND.split(label, 1)[0]
    matches = [_READ.fullmatch(operand) for operand in operands.split(",")] if operands else []
    said = [(int(match[1]), int(match[2] or 0)) for match in matches if match]
    backs, ports = zip(*(said or [(back, 0) for back in unsaid]), strict=True) if said or unsaid else ((), ())
    makes = kind not in SINKS and not label.endswith("[!]")
    return _Word(text, label, kind, bool(arrow), backs, ports, all(matches), makes)


@lru_cache(maxsize=65536)
def _operation(word: _Word, sources: tuple[Operation, ...]) -> Operation:
    """Return the operation of a plain word that reads others.

    Raises:
        InputError: there is none.
    """
    farthest = max(word.backs, default=0)
    nodes = [Node("entry")] * farthest
    for back, source in zip(word.backs, sources, strict=True):
        nodes[farthest - back] = source.node
    said = ",".join([f"{back}.{port}" for back, port in zip(word.backs, word.ports, strict=True)])
    node, _ = read_operation(f"{word.label}<-{said}", farthest, nodes, Unread())
    return _anywhere(node, farthest, nodes)


def _anywhere(node: Node, position: int, nodes: Sequence[Node]) -> Operation:
    """Return an operation that stands at a position behind others, as it is wherever it stands."""
    inputs: list[Ref | Weight] = []
    shapes = []
    for item in node.inputs:
        if isinstance(item, Ref):
            inputs.append(Ref(position - item.node, item.port))
            shapes.append(nodes[item.node].outputs[item.port].shape)
        else:
            inputs.append(item if item.tied is None else item._replace(tied=position - item.tied))
            shapes.append(item.shape)
    return _shared(node._replace(inputs=tuple(inputs)), tuple(shapes))


@lru_cache(maxsize=65536)
def _shared(node: Node, shapes: tuple[Shape, ...]) -> Operation:
    """Return one object for equal operations."""
    return Operation(node, shapes)
