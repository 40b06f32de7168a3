"""The edges between the words of a network string, for language models: which operation reads which."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from freerea_seval.strings.text import DefaultOperands, Tokenizer, Vocabulary, lex
from freerea_seval.strings.text.vocabulary import PAD, SPECIALS

Indices = npt.NDArray[np.int64]

#: Operands that :func:`operands` represents: a single one, or several of which the order does not matter.
_REPRESENTED = re.compile(r"<-\d+(?!\S)|(?<=\badd|\bmul)<-\d+(?:,\d+)*(?!\S)", re.ASCII)
#: Further operands of an operation are left out.
_MAX_OPERANDS = 4
#: Repetitions are not expanded beyond this number of operations; edges that cross them from there on are lost.
_MAX_EXPANDED = 1 << 16


def operands(string: str) -> list[list[int]]:
    """Return, for each operation as it is written in a string, the operations that it reads.

    The contents of braces stand for all their repetitions, and a reference such as ``#1`` is one operation. Parameters
    are left out. Any text is accepted: by default a word reads the word before it.

    Returns:
        Indices of operations, from 0, in the order of the arguments.
    """
    edges: list[list[int]] = []
    executed: list[int] = []  # the index of each operation in the order of execution
    defaults = DefaultOperands()
    opened: list[tuple[int, int, int]] = []  # number of the braces, start in ``executed``, count
    lengths: list[int] = []  # of the contents of braces, by number
    for text in string.split():
        word = lex(text)
        count, position = word.count or 1, len(executed)
        if word.kind == "{":
            opened.append((len(lengths), position, count))
            lengths.append(0)
            continue
        if word.kind == "}":
            if opened:
                number, start, count = opened.pop()
                lengths[number] = position - start
                executed += executed[start:] * (count - 1 if position * count < _MAX_EXPANDED else 0)
            continue
        if word.operands is None:
            sources = defaults.default(word.kind, position)
        else:
            sources = [position - distance for distance, _ in word.refs if 0 < distance <= position]
        edges.append([executed[source] for source in sources])
        if 0 < word.reference <= len(lengths):
            count *= lengths[word.reference - 1]
        executed += [len(edges) - 1] * min(count, _MAX_EXPANDED)
        defaults.add(sources, len(executed) - 1, has_results=True)
    return edges


def strip_operands(string: str) -> str:
    """Return a string without the operands that :func:`operands` represents.

    A distance that the vocabulary lacks would be several tokens.
    """
    return _REPRESENTED.sub("", string)


def word_tokenizer() -> Tokenizer:
    """Return the tokenizer of the package without phrases, so that no token spans two operations."""
    full = Tokenizer().vocabulary
    return Tokenizer(Vocabulary(full.pieces, tuple(pair for pair in full.merges if "".join(pair).count(" ") <= 1)))


def number_operations(tokenizer: Tokenizer, ids: Indices, strings: Sequence[str]) -> tuple[Indices, Indices]:
    """Return the operation of each token, ``(n, length)``, and the operands of each, ``(n, operations, k)``.

    Operations are numbered from 1; 0 is padding.
    """
    starts = np.array([text.count(" ") - text.count(" {") - text.count(" }") for text in tokenizer.vocabulary.texts])
    starts[: len(SPECIALS)] = 0
    operation_ids = starts[ids].cumsum(axis=1).clip(min=1) * (ids != PAD)
    reads = np.zeros((len(strings), int(operation_ids.max(initial=1)), _MAX_OPERANDS), dtype=np.int64)
    for row, string in zip(reads, strings, strict=True):
        for index, sources in enumerate(operands(string)[: len(row)]):
            for column, source in enumerate(sources[:_MAX_OPERANDS]):
                row[index, column] = source + 1
    used = int((reads > 0).any(axis=(0, 1)).sum())
    return operation_ids, reads[:, :, : max(1, used)]


def token_offsets(operation_ids: Indices) -> Indices:
    """Return the offset of each token from the first token of its operation, ``(n, length)``."""
    columns = np.broadcast_to(np.arange(operation_ids.shape[1]), operation_ids.shape)
    begins = np.diff(operation_ids, axis=1, prepend=-1) != 0
    return columns - np.maximum.accumulate(np.where(begins, columns, 0), axis=1)
