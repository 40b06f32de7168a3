"""A string as a chain of blocks: the contents of its outermost braces, and what is between them.

A block reads nothing but the result just before it. Networks repeat blocks, and networks of one space share them, so
whatever is derived from a block and the shape of its input is cached: a new string costs only its new blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from freerea_patch import InputError
from freerea_seval.strings.graph.ir import Node, Spec
from freerea_seval.strings.text.grammar import Anchor, Word
from freerea_seval.strings.text.parse import (
    Links,
    Operation,
    infer,
    link,
    parse_operations,
    shared_operation,
    split_braces,
)

#: Longer blocks are not cached; the string is parsed as a whole.
_LONGEST_BLOCK = 2_000


@dataclass(frozen=True, eq=False, slots=True)
class Block:
    """Consecutive operations; equal blocks are mostly one object and are compared by identity.

    Attributes:
        operations: the first one is of kind ``entry`` and stands for the result that the block reads, unless the block
            begins the string.
        single_default, leaves_unread: see :class:`~freerea_seval.strings.text.parse.Links`.
    """

    operations: tuple[Operation, ...]
    single_default: bool = False
    leaves_unread: bool = False

    @property
    def results(self) -> tuple[Spec, ...]:
        """The results of the last operation."""
        return self.operations[-1].node.outputs


def parse_blocks(string: str) -> list[tuple[Block, int]]:
    """Return the blocks of a string and how often in a row each occurs.

    A string is one block if some operation reads across braces.

    Raises:
        InputError: not a string of the grammar.
    """
    return _chain(split_braces(string)) or [(Block(tuple(parse_operations(string))), 1)]


def _chain(pieces: list[tuple[tuple[Word, ...], int]]) -> list[tuple[Block, int]] | None:
    """Return the blocks of the pieces of a string; None if they are no chain, or no network."""
    chain: list[tuple[Block, int]] = []
    entry: tuple[Spec, ...] = ()
    all_read = True  # no result before the entry is unread
    for words, count in pieces:
        left = count
        while left:
            if chain and not entry:
                return None  # nothing to read; operations without operands may follow
            block = _block(words, entry, all_read)
            if block is None:
                return None
            still = all_read and not block.leaves_unread
            # From the second repetition on, all are equal if the block keeps the shape of its input.
            same = block.results == entry and block.operations[0].node.kind == "entry" and still == all_read
            chain.append((block, left if same else 1))
            entry, all_read = block.results, still
            left = 0 if same else left - 1
    kinds = [[operation.node.kind for operation in block.operations] for block, _ in chain]
    outputs = sum([inner.count("output") for inner in kinds])
    late_input = any(["input" in inner for inner in kinds[1:]])
    return chain if outputs == 1 and not late_input and kinds[-1][-1] == "output" else None


@lru_cache(maxsize=16384)
def _block(words: tuple[Word, ...], entry: tuple[Spec, ...], all_read: bool) -> Block | None:
    """Return the block of words behind an operation with these results; None if it reads anything before that."""
    links = _links(words, bool(entry)) if len(words) <= _LONGEST_BLOCK else None
    if links is None or (links.single_default and not all_read):
        return None
    operations = [shared_operation(Node("entry", (), (), entry), ())] if entry else []
    try:
        infer(links, operations)
    except InputError:
        return None
    return Block(tuple(operations), links.single_default, links.leaves_unread)


@lru_cache(maxsize=4096)  # the stages of a network repeat a block at other shapes
def _links(words: tuple[Word, ...], entry: bool) -> Links | None:
    """Return what the words of a block read; None if they read anything but themselves and the entry."""
    # An operand that is counted from the first operation of the string may come from anywhere.
    if any([isinstance(operand, Anchor) for word in words for operand in word.operands or ()]):
        return None
    try:
        return link(words, entry)
    except InputError:
        return None
