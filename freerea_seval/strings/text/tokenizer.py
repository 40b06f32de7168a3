"""The tokenizer of network strings: operations and frequent phrases are tokens, and numbers are values.

A token such as ``relu conv(@,k3) bn`` has a slot for each number of its operations. The numbers follow the token, each
as a token ``<number>`` with its value in a parallel array. Nothing is out of vocabulary: an unseen operation is split
into attributes, names and characters, and a foreign character is a token ``<char>`` with its code point as value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from freerea_patch import InputError
from freerea_seval.strings.text.vocabulary import (
    CHARACTER,
    NUMBER,
    PAD,
    SLOT,
    SPECIALS,
    TIMES,
    Vocabulary,
    learn,
    numeral,
    template_of,
)

DEFAULT = Path(__file__).parent / "vocabulary.json"
#: Number of words, and of phrases, in the caches.
_CACHED = 65536


class Encoded(NamedTuple):
    """The tokens of one string.

    Attributes:
        ids: of the tokens, ``(length,)`` int64.
        values: exact numbers of ``<number>`` and ``<times>``, code points of ``<char>``, 0 for other tokens;
            ``(length,)`` float64.
    """

    ids: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]


class Batch(NamedTuple):
    """The tokens of several strings, for a model; ``torch.from_numpy`` accepts each array.

    Attributes:
        ids: of the tokens, 0 for padding, ``(n, length)`` int64.
        values: the tokens' values by :func:`scaled`, ``(n, length)`` float32.
        attention_mask: 1 for tokens, 0 for padding, ``(n, length)`` int64.
    """

    ids: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]
    attention_mask: npt.NDArray[np.int64]


def scaled(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return sign(v) log2(1 + |v|), the scale of model inputs, on which doubling a width adds about one."""
    return np.asarray(np.sign(values) * np.log2(1 + np.abs(values)), dtype=np.float32)


class Tokenizer:
    """From strings to tokens and back.

    The library ``tokenizers`` is not used, because its tokens carry no values.

    Args:
        vocabulary: the one that comes with the package by default; :meth:`fit` and :meth:`load` make others.
    """

    def __init__(self, vocabulary: Vocabulary | None = None) -> None:
        self.vocabulary = Vocabulary.read(DEFAULT) if vocabulary is None else vocabulary
        self._base, self._pairs, self._texts = self.vocabulary.base, self.vocabulary.pairs, self.vocabulary.texts
        self._slots = [0] * len(SPECIALS) + [text.count(SLOT) for text in self._texts[len(SPECIALS) :]]
        self._longest = max(map(len, self._base))
        self._words: dict[str, tuple[tuple[int, ...], tuple[float, ...], bool]] = {}
        self._phrases: dict[tuple[int, ...], list[int]] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def __reduce__(self) -> tuple[type[Tokenizer], tuple[Vocabulary]]:
        return type(self), (self.vocabulary,)  # without the caches

    @classmethod
    def fit(cls, strings: Iterable[str], size: int = 512) -> Tokenizer:
        """Return a tokenizer with a vocabulary of at most ``size`` tokens for these strings.

        Raises:
            InputError: not strings, or ``size`` leaves no room beside the characters.
        """
        return cls(learn(_checked(strings), size))

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Return a saved tokenizer.

        Raises:
            InputError: no such file, or not one that :meth:`save` made.
        """
        return cls(Vocabulary.read(Path(path)))

    def save(self, path: str | Path) -> None:
        """Save as JSON.

        Raises:
            OSError: the file cannot be written.
        """
        self.vocabulary.write(Path(path))

    def encode(self, string: str) -> Encoded:
        """Return the tokens of a string; any text has some.

        Raises:
            InputError: not a string.
        """
        ids, values = self._encode(*_checked([string]))
        return Encoded(np.array(ids, dtype=np.int64), np.array(values, dtype=np.float64))

    def tokens(self, string: str) -> list[str]:
        """Return the tokens of a string for display: numbers as they are, slots as ``@``.

        Raises:
            InputError: not a string.
        """
        ids, values = self._encode(*_checked([string]))
        return [self._shown(token, value) for token, value in zip(ids, values, strict=True)]

    def __call__(
        self, strings: Iterable[str], max_length: int | None = None, padding: bool = True, truncate: bool = False
    ) -> Batch:
        """Return the tokens of several strings as arrays.

        Args:
            strings: any number of strings.
            max_length: the most tokens a string may have, None for any number.
            padding: fill up to the longest of the strings; without, all must have the same number of tokens.
            truncate: cut longer strings off at ``max_length``.

        Raises:
            InputError: not strings, one is too long, or they need padding and may not have it.
        """
        rows = [self._encode(string) for string in _checked(strings)]
        lengths = np.array([len(ids) for ids, _ in rows], dtype=np.int64)
        if max_length is not None:
            if max_length < 1:
                raise InputError(f"max_length must be at least 1, got {max_length}")
            if not truncate and lengths.max(initial=0) > max_length:
                raise InputError(
                    f"string {int(lengths.argmax())} has {lengths.max()} tokens, more than max_length={max_length};"
                    " allow more, or ask for truncate=True"
                )
            lengths = np.minimum(lengths, max_length)
        longest = int(lengths.max(initial=0))
        if not padding and (lengths != longest).any():
            raise InputError(f"the strings have {lengths.min()} to {longest} tokens; one array needs padding=True")
        ids = np.full((len(rows), longest), PAD, dtype=np.int64)
        values = np.zeros((len(rows), longest))
        for row, (length, (row_ids, row_values)) in enumerate(zip(lengths.tolist(), rows, strict=True)):
            ids[row, :length] = row_ids[:length]
            values[row, :length] = row_values[:length]
        return Batch(ids, scaled(values), (np.arange(longest) < lengths[:, None]).astype(np.int64))

    def decode(
        self, ids: Sequence[int] | npt.NDArray[np.int64], values: Sequence[float] | npt.NDArray[np.float64]
    ) -> str:
        """Return the string of tokens, words separated by single blanks.

        Args:
            ids: of the tokens; padding is left out.
            values: the exact values, as :meth:`encode` returns them and not as a batch has them scaled.

        Raises:
            InputError: an id that is none, or a token without its numbers.
        """
        if len(ids) != len(values):
            raise InputError(f"every token has one value, got {len(ids)} tokens and {len(values)} values")
        tokens = [(int(token), float(value)) for token, value in zip(ids, values, strict=True) if token != PAD]
        parts: list[str] = []
        index = 0
        while index < len(tokens):
            token, value = tokens[index]
            if not 0 <= token < len(self):
                raise InputError(f"token {token} is not of this tokenizer, which has 0 to {len(self) - 1}")
            slots = self._slots[token]
            numbers = tokens[index + 1 : index + 1 + slots]
            if [number for number, _ in numbers] != [NUMBER] * slots:
                raise InputError(f"token {self._texts[token]!r} needs {slots} <number> behind it; was it cut off?")
            if slots:
                texts = self._texts[token].split(SLOT)
                text = texts[0] + "".join(numeral(n) + rest for (_, n), rest in zip(numbers, texts[1:], strict=True))
            else:
                text = self._shown(token, value) if token < len(SPECIALS) else self._texts[token]
            # A count and the word that it repeats are not separated.
            if parts and parts[-1].endswith("*") and tokens[index - 1][0] == TIMES:
                text = text.removeprefix(" ")
            parts.append(f" {text}" if token == TIMES else text)
            index += 1 + slots
        return "".join(parts).removeprefix(" ")

    def _shown(self, token: int, value: float) -> str:
        if token == CHARACTER:
            if not 0 <= value < 0x110000:
                raise InputError(f"a <char> needs a code point as its value, got {value}; are the values scaled ones?")
            return chr(int(value))
        if token in (NUMBER, TIMES):
            return numeral(value) + "*" * (token == TIMES)
        return self._texts[token].strip() or " "

    def _encode(self, string: str) -> tuple[list[int], list[float]]:
        ids: list[int] = []
        numbers: list[float] = []
        run: list[int] = []
        for text in string.split():
            pieces, more, alone = self._words.get(text) or self._word(text)
            numbers += more
            if alone:
                ids += self._phrase(tuple(run))
                ids += self._phrase(pieces)
                run = []
            else:
                run += pieces
        ids += self._phrase(tuple(run))
        return self._with_numbers(ids, numbers)

    def _word(self, text: str) -> tuple[tuple[int, ...], tuple[float, ...], bool]:
        """Return the pieces of a word, their numbers, and whether no phrase crosses the word."""
        template = template_of(text)
        pieces, numbers = [], template.numbers
        if template.count is not None:
            pieces, numbers = [TIMES], (float(template.count), *numbers)
        for atom in template.atoms:
            pieces += [self._base[atom]] if atom in self._base else self._fragments(atom)
        if len(self._words) >= _CACHED:
            self._words.clear()
        self._words[text] = tuple(pieces), numbers, template.is_boundary
        return self._words[text]

    def _fragments(self, atom: str) -> list[int]:
        """Return the pieces of an atom outside of the vocabulary, the longest match first."""
        pieces, start = [], 0
        while start < len(atom):
            end = min(start + self._longest, len(atom))
            while atom[start:end] not in self._base:
                end -= 1
            pieces.append(self._base[atom[start:end]])
            start = end
        return pieces

    def _phrase(self, pieces: tuple[int, ...]) -> list[int]:
        """Return the tokens of neighbouring pieces by byte-pair encoding: merges apply in the order of learning."""
        if (tokens := self._phrases.get(pieces)) is not None:
            return tokens
        tokens = list(pieces)
        unranked = (len(self._pairs), 0)
        while len(tokens) > 1:
            first = min(pairwise(tokens), key=lambda pair: self._pairs.get(pair, unranked)[0])
            if first not in self._pairs:
                break
            merged: list[int] = []
            for token in tokens:
                if merged and (merged[-1], token) == first:
                    merged[-1] = self._pairs[first][1]
                else:
                    merged.append(token)
            tokens = merged
        if len(self._phrases) >= _CACHED:
            self._phrases.clear()
        self._phrases[pieces] = tokens
        return tokens

    def _with_numbers(self, tokens: Iterable[int], numbers: Sequence[float]) -> tuple[list[int], list[float]]:
        """Return tokens and values, with each number behind the token that has a slot for it."""
        ids: list[int] = []
        values: list[float] = []
        used = 0
        for token in tokens:
            ids.append(token)
            if token < len(SPECIALS):
                values.append(numbers[used])
                used += 1
                continue
            values.append(0.0)
            if slots := self._slots[token]:
                ids += [NUMBER] * slots
                values += numbers[used : used + slots]
                used += slots
        return ids, values


def _checked(strings: Iterable[str]) -> list[str]:
    if isinstance(strings, str) or not isinstance(strings, Iterable):
        raise InputError(f"expected several network strings, got {type(strings).__name__}; write [string] for one")
    listed = list(strings)
    for string in listed:
        if not isinstance(string, str):
            raise InputError(f"expected a network string, got {type(string).__name__}; write(graph) makes one")
    return listed
