"""A string as a chain of blocks: pieces of a network that read nothing but the result just before them.

Networks repeat themselves, and networks of one space share their pieces. What follows from a block and the shape that
it reads can be remembered, so that a string costs what is new in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from freerea_patch import InputError
from freerea_seval.strings.grammar import Unread
from freerea_seval.strings.graph import Node, Spec
from freerea_seval.strings.read import read, read_operation
from freerea_seval.strings.rules import BINARY
from freerea_seval.strings.unfolding import LONGEST, LONGEST_TEXT, expand

_BRACES = re.compile(r"(?:([1-9]\d{0,5})\*)?(?:\{|#([1-9]\d{0,5}))", re.ASCII)
#: A block longer than this is not worth remembering.
_LONGEST_BLOCK = 20_000
#: Braces within braces are written out up to so many characters; named by number they could ask for any.
_MOST_COPIED = 200_000


@dataclass(frozen=True, eq=False)  # compared by identity, which is quick to hash: equal blocks are mostly one object
class Block:
    """Operations that follow each other.

    Attributes:
        nodes: the operations; what they read is counted from ``entry``, which is position 0 and the first of them.
    """

    nodes: tuple[Node, ...]


def blocks(string: str) -> list[tuple[Block, int]]:
    """Return the blocks of a string and how often in a row each occurs; a single one where it cannot be taken apart.

    A block begins with a node of kind ``entry`` that stands for the result that it reads; the first one does not, if
    the string begins with an input. Blocks are the braces of the string and what is between them.

    Raises:
        InputError: not a string of the grammar.
    """
    if isinstance(string, str) and "^" not in string and (found := _chain(string)):
        return found
    return [(Block(read(string).nodes), 1)]


def _chain(string: str) -> list[tuple[Block, int]] | None:
    """Return the blocks of a string, or None where one of them reads something before the last result."""
    found: list[tuple[Block, int]] = []
    entry: tuple[Spec, ...] = ()
    operations = 0
    for text, times in _pieces(string):
        left = times
        while left:
            if found and not entry:
                return None  # only what reads nothing may follow, which a block does not know
            block = _read_block(text, entry)
            if block is None:
                return None
            nodes = block.nodes
            operations += len(nodes)
            if operations * left > LONGEST or operations * left * len(string) > LONGEST_TEXT:
                return None  # perhaps more than a string may ask for
            same = nodes[-1].outputs == entry and nodes[0].kind == "entry"
            found.append((block, left if same else 1))
            entry = nodes[-1].outputs
            left = 0 if same else left - 1
    # One output at the end, and inputs at the beginning only: anything else is for :func:`read` to judge.
    kinds = [[node.kind for node in block.nodes] for block, _ in found]
    ends = [kind for those in kinds for kind in those].count("output")
    later = any("input" in those for those in kinds[1:])
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
def _read_block(text: str, entry: tuple[Spec, ...]) -> Block | None:
    """Return the block of a text behind results of these shapes, or None where it reads more than these."""
    if not 0 < len(text) <= _LONGEST_BLOCK:
        return None
    nodes = [Node("entry", (), (), entry)] if entry else []
    unread = Unread()
    if nodes:
        unread.step((), 0, entry)
    try:
        for position, operation in enumerate(expand(text), len(nodes)):
            node, refs = read_operation(operation, position, nodes, unread)
            if node.kind in BINARY and len(refs) < 2 and "<-" not in operation:
                return None  # what it reads beside the last result lies before the block
            nodes.append(node)
            unread.step(refs, position, node.outputs)
    except InputError:
        return None
    return Block(tuple(nodes))
