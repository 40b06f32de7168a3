"""Which operations of a network string read which: the lines between its words, without building the graph."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from freerea_seval.strings.graph.shape_inference import BINARY
from freerea_seval.strings.text.tokenizer import Tokenizer
from freerea_seval.strings.text.vocabulary import PAD, SPECIALS, Vocabulary

Places = npt.NDArray[np.int64]

_WORD = re.compile(r"(?:([1-9]\d{0,5})\*)?([^(\[<]*)", re.ASCII)
_DISTANCE = re.compile(r"(?:^|,)(\d{1,6})(?=[.,]|$)", re.ASCII)
#: Operands that are single or that have no order, and no parameters.
_PLAIN = re.compile(r"<-\d+(?!\S)|(?<=\badd|\bmul)<-\d+(?:,\d+)*(?!\S)", re.ASCII)
#: More than so many operands of one operation are left out.
_OPERANDS = 4
#: Braces are not unfolded any farther; what reads across them from there is not found.
_MOST = 1 << 16


def operands(string: str) -> list[list[int]]:
    """Return, for every operation as it stands in a string, the operations whose results it reads.

    What braces hold stands for all its repetitions, and ``#1`` for one operation; parameters are none. Any text will
    do: what is no network string has words that read the word before.

    Returns:
        Places of operations, from 0, in the order of the arguments.
    """
    found: list[list[int]] = []
    made: list[int] = []  # the place of every operation that runs
    unread: list[int] = []  # of these, the latest that may not have been read
    read: set[int] = set()
    opened: list[tuple[int, int, int]] = []
    blocks: list[int] = []  # how many operations run in each
    for word in string.split():
        count, kind, distances = _parts(word)
        if kind == "{":
            opened.append((len(blocks), len(made), count))
            blocks.append(0)
            continue
        if kind == "}":
            if opened:
                block, start, count = opened.pop()
                blocks[block] = len(made) - start
                made += made[start:] * (count - 1 if len(made) * count < _MOST else 0)
            continue
        position = len(made)
        if distances is not None:
            reads = [position - distance for distance in distances if 0 < distance <= position]
        elif kind in ("input", "unused") or not position:
            reads = []
        else:
            reads = [position - 1]
            if kind in BINARY:
                while unread and (unread[-1] in read or unread[-1] == position - 1):
                    unread.pop()
                reads = unread[-1:] + reads
        read.update(reads)
        place = len(found)
        found.append([made[source] for source in reads])
        if kind.startswith("#") and kind[1:].isdigit() and 0 < int(kind[1:]) <= len(blocks):
            count *= blocks[int(kind[1:]) - 1]
        made += [place] * min(count, _MOST)
        unread.append(len(made) - 1)
    return found


def unsaid(string: str) -> str:
    """Return a string without the operands that :func:`operands` is enough for: an unseen distance is a new token."""
    return _PLAIN.sub("", string)


def words() -> Tokenizer:
    """Return the package's tokenizer without phrases: each operation has tokens of its own."""
    known = Tokenizer().vocabulary
    return Tokenizer(Vocabulary(known.pieces, tuple(pair for pair in known.merges if "".join(pair).count(" ") <= 1)))


def placed(tokenizer: Tokenizer, ids: Places, strings: Sequence[str]) -> tuple[Places, Places]:
    """Return the operation of each token, ``(n, length)``, and what each reads, ``(n, operations, k)``; from 1."""
    begun = np.array([text.count(" ") - text.count(" {") - text.count(" }") for text in tokenizer.vocabulary.texts])
    begun[: len(SPECIALS)] = 0
    places = begun[ids].cumsum(axis=1).clip(min=1) * (ids != PAD)
    reads = np.zeros((len(strings), int(places.max(initial=1)), _OPERANDS), dtype=np.int64)
    for row, string in zip(reads, strings, strict=True):
        for place, sources in enumerate(operands(string)[: len(row)]):
            for column, source in enumerate(sources[:_OPERANDS]):
                row[place, column] = source + 1
    used = int((reads > 0).any(axis=(0, 1)).sum())
    return places, reads[:, :, : max(1, used)]


def behind(places: Places) -> Places:
    """Return how many tokens stand between each and the begin of its operation."""
    columns = np.broadcast_to(np.arange(places.shape[1]), places.shape)
    begins = np.diff(places, axis=1, prepend=-1) != 0
    return columns - np.maximum.accumulate(np.where(begins, columns, 0), axis=1)


@lru_cache(1 << 16)
def _parts(word: str) -> tuple[int, str, tuple[int, ...] | None]:
    """Return a word's count, its kind, and the distances of its operands, None if these go without saying."""
    head, arrow, tail = word.partition("<-")
    match = _WORD.match(head)
    times, kind = match.groups() if match else (None, "")
    return int(times or 1), kind, tuple(map(int, _DISTANCE.findall(tail))) if arrow else None
