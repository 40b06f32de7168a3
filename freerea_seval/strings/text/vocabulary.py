"""The vocabulary of network strings: how a word becomes a template, and which templates and phrases are tokens.

A word of a string (see :mod:`freerea_seval.strings.text.grammar`) becomes a *template* and its numbers:
``conv(24,k3)<-4`` is ``conv(@,k3)<-4`` and 24. Windows, single-digit attributes, and distances up to 64 are structure
and stay in the template; widths, shapes, counts, scalars and everything else are numbers, so that an unseen number
yields no unseen template. The operation of a template and its operands are the *atoms* that phrases consist of.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from freerea_patch import InputError
from freerea_seval.files import write_atomically
from freerea_seval.strings.graph.shape_inference import BARE
from freerea_seval.strings.text.grammar import lex

PAD, NUMBER, CHARACTER, TIMES = range(4)
#: Names of the special tokens, by id; all but the first carry a value.
SPECIALS = ("<pad>", "<number>", "<char>", "<times>")
#: Placeholders in a template: for a number, and for a character outside of the grammar.
SLOT, FOREIGN = "@", "\0"
_BRACES = (" {", " }")

_CHARACTERS = "".join(chr(code) for code in range(32, 127) if chr(code) != SLOT)
_FORMAT = "freerea-seval tokenizer 1"
#: The largest distance, window size or reference that stays in a template.
_MAX_EXACT = 64
#: The longest phrase in words, and the longest token in characters.
_LONGEST_PHRASE, _LONGEST_TEXT = 6, 4096
#: Shares of a vocabulary: fragments of atoms; fragments and atoms together. Merges fill the rest, with this share of it
#: reserved for joining operations with their operands.
_FRAGMENTS, _ATOMS, _WORDS = 0.2, 0.6, 0.4

_FOREIGN = re.compile(r"[^!-?A-~]")
_LABEL_NUMBERS = re.compile(
    r"(?<=[(,])(?P<window>[kspdo]\d+(?:x\d+)*)(?=[,)])"
    r"|(?<=[(=:])(?P<scalar>-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?=[,:)])"
    r"|(?:(?<=[\[,x])|(?<=[(,]g))\d+",
    re.ASCII,
)
_OPERAND_NUMBERS = re.compile(r"(?<=[wx])\d+|(?<=[-,.~^])(?P<exact>\d+)", re.ASCII)
_REFERENCE = re.compile(r"#(?P<exact>\d+)", re.ASCII)
_DIGITS = re.compile(r"\d+", re.ASCII)
_ATTRIBUTES = re.compile(r"[(,\[]?[^(),\[\]]+|[(),\[\]]")
_NAMES = re.compile(r" ?[A-Za-z]+=?")


def numeral(value: float) -> str:
    """Return a number as network strings write it."""
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


@dataclass(frozen=True)
class Template:
    """A word without its numbers.

    Attributes:
        count: the number of repetitions before the word; None without one.
        atoms: the operation, with a blank before it, and its operands.
        numbers: the values of the slots, or the code points of foreign characters.
    """

    count: int | None
    atoms: tuple[str, ...]
    numbers: tuple[float, ...]

    @property
    def is_boundary(self) -> bool:
        """Whether the word is part of a repetition; no phrase crosses it, so that repeated contents stay visible."""
        return self.count is not None or self.atoms[0] in _BRACES or self.atoms[0].startswith(" #")


def template_of(text: str) -> Template:
    """Return the template and the numbers of a word, which may be any text without blanks."""
    word = lex(text)
    if foreign := _FOREIGN.findall(word.text):
        # Not of the grammar: its digits are characters as well.
        return Template(word.count, (" " + _FOREIGN.sub(FOREIGN, word.text),), tuple(map(float, map(ord, foreign))))
    numbers: list[float] = []

    def slot(match: re.Match[str]) -> str:
        value = float(match[0])
        if numeral(value) != match[0]:
            return match[0]  # would not be decoded to the same text
        numbers.append(value)
        return SLOT

    def exact(digits: str) -> bool:
        return len(digits) < 3 and int(digits) <= _MAX_EXACT

    def distance(match: re.Match[str]) -> str:
        return match[0] if match["exact"] and exact(match["exact"]) else _DIGITS.sub(slot, match[0])

    def attribute(match: re.Match[str]) -> str:
        if window := match["window"]:
            return window if all(map(exact, window[1:].split("x"))) else _DIGITS.sub(slot, window)
        is_width = word.kind in BARE and word.label[match.start() - 1] == "("
        is_digit = match["scalar"] and len(match["scalar"].lstrip("-")) == 1
        return match[0] if is_digit and not is_width else slot(match)

    is_reference = word.label.startswith("#")
    label = _REFERENCE.sub(distance, word.label) if is_reference else _LABEL_NUMBERS.sub(attribute, word.label)
    operands = word.text[len(word.label) :]
    atoms = (" " + label, _OPERAND_NUMBERS.sub(distance, operands)) if operands else (" " + label,)
    return Template(word.count, atoms, tuple(numbers))


@dataclass(frozen=True)
class Vocabulary:
    """The tokens, in this order: special tokens, printable characters, pieces, and the results of merges.

    Attributes:
        pieces: atoms and fragments of atoms.
        merges: pairs of neighbouring texts that become one token, in the order in which they are merged.
    """

    pieces: tuple[str, ...] = ()
    merges: tuple[tuple[str, str], ...] = ()

    @cached_property
    def base(self) -> dict[str, int]:
        """Ids of the texts that atoms consist of; a single slot or foreign character is a special token."""
        texts = (*_CHARACTERS, *self.pieces)
        return {SLOT: NUMBER, FOREIGN: CHARACTER, **{text: token for token, text in enumerate(texts, len(SPECIALS))}}

    @cached_property
    def _ids(self) -> dict[str, int]:
        ids = dict(self.base)
        for left, right in self.merges:
            ids.setdefault(left + right, len(ids) + len(SPECIALS) - 2)
        return ids

    @cached_property
    def texts(self) -> list[str]:
        """The texts of the tokens, by id; the names of special ones."""
        return [*SPECIALS, *list(self._ids)[2:]]

    @cached_property
    def pairs(self) -> dict[tuple[int, int], tuple[int, int]]:
        """Rank and result of each merge, by the ids of the two tokens."""
        ids = self._ids
        return {(ids[a], ids[b]): (rank, ids[a + b]) for rank, (a, b) in reversed(list(enumerate(self.merges)))}

    def write(self, path: Path) -> None:
        """Save as JSON.

        Raises:
            OSError: the file cannot be written.
        """
        record = {"format": _FORMAT, "pieces": self.pieces, "merges": self.merges}
        # One entry per line, so that two versions can be compared.
        write_atomically(path, json.dumps(record, indent=0) + "\n")

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """Return a saved vocabulary.

        Raises:
            InputError: the file is missing, or was not written by :meth:`write`.
        """

        def invalid(reason: str) -> InputError:
            return InputError(
                f"{path} is no tokenizer of network strings: {reason}; expected a file that Tokenizer.save made"
            )

        try:
            record = json.loads(path.read_bytes())
        except OSError as error:
            raise InputError(f"cannot read the tokenizer {path} ({error.strerror}); expected a saved one") from None
        except (ValueError, RecursionError):
            raise invalid("it is no JSON") from None
        if not isinstance(record, dict) or record.get("format") != _FORMAT:
            raise invalid(f"it does not say 'format': {_FORMAT!r}")
        pieces, merges = record.get("pieces"), record.get("merges")
        if not isinstance(pieces, list) or not isinstance(merges, list):
            raise invalid("'pieces' and 'merges' should be lists")
        texts = {*_CHARACTERS}
        for piece in pieces:
            usable = isinstance(piece, str) and piece not in texts and piece != SLOT and FOREIGN not in piece
            if not usable or not 1 <= len(piece) <= _LONGEST_TEXT:
                raise invalid(f"'pieces' has {str(piece)[:60]!r}")
            texts.add(piece)
        for merge in merges:
            if not isinstance(merge, list) or len(merge) != 2 or not all(isinstance(text, str) for text in merge):
                raise invalid(f"'merges' has {str(merge)[:60]!r}")
            if not texts.issuperset(merge) or len("".join(merge)) > _LONGEST_TEXT:
                raise invalid(f"'merges' has {str(merge)[:60]!r}, whose parts are no tokens before it")
            texts.add("".join(merge))
        return cls(tuple(pieces), tuple((left, right) for left, right in merges))


def learn(strings: Iterable[str], size: int) -> Vocabulary:
    """Return a vocabulary of at most ``size`` tokens: the most frequent fragments, atoms, and phrases of atoms.

    Phrases are learned by byte-pair encoding (Gage 1994; Sennrich et al. 2016) with atoms in the place of bytes; equal
    strings give equal vocabularies.

    Raises:
        InputError: ``size`` is smaller than the number of characters.
    """
    room = size - len(SPECIALS) - len(_CHARACTERS) - len(_BRACES)
    if room < 0:
        raise InputError(f"a tokenizer needs at least {size - room} tokens for characters, got size={size}")
    runs = Counter(run for string in strings for run in split_at_boundaries(map(template_of, string.split())))
    atoms: Counter[str] = Counter()
    for run, count in runs.items():
        for atom in run:
            atoms[atom] += count
    # The number of different atoms with a fragment tells how likely an unseen atom has it.
    fragments = Counter(part for atom in atoms for part in {*_ATTRIBUTES.findall(atom), *_NAMES.findall(atom)})
    pieces = dict.fromkeys(_BRACES)
    for counter, share in ((fragments, _FRAGMENTS), (atoms, _ATOMS)):
        frequent = sorted((-count, text) for text, count in counter.items() if count > 1 and len(text) > 1)
        for _, text in frequent:
            short = len(text) <= _LONGEST_TEXT // (2 * _LONGEST_PHRASE)
            if len(pieces) < len(_BRACES) + int(room * share) and short and FOREIGN not in text:
                pieces.setdefault(text)
    sequences = [([atom if atom in pieces else None for atom in run], count) for run, count in runs.items()]
    return Vocabulary(tuple(pieces), tuple(_merges(sequences, len(_BRACES) + room - len(pieces))))


def split_at_boundaries(templates: Iterable[Template]) -> Iterator[tuple[str, ...]]:
    """Yield the sequences of atoms that phrases are found in: boundaries one by one, and the words between two."""
    run: list[str] = []
    for template in templates:
        if template.is_boundary:
            yield tuple(run)
            yield template.atoms
            run = []
        else:
            run += template.atoms
    yield tuple(run)


def _merges(runs: list[tuple[list[str | None], int]], most: int) -> list[tuple[str, str]]:
    """Return the pairs to merge, the most frequent first, but operations with their operands before phrases.

    None is an atom that is no token.
    """
    merges: list[tuple[str, str]] = []
    while len(merges) < most:
        counts: Counter[tuple[str, str]] = Counter()
        for run, count in runs:
            for left, right in pairwise(run):
                # Every word begins with a blank.
                if left is not None and right is not None and (left + right).count(" ") <= _LONGEST_PHRASE:
                    counts[left, right] += count
        frequent = (pair for pair, count in counts.items() if count > 1)
        phrases = len(merges) >= most * _WORDS
        best = min(frequent, key=lambda pair: (pair[1][0] == " " and not phrases, -counts[pair], pair), default=None)
        if best is None:
            break
        merges.append(best)
        for run, _ in runs:
            for index in range(len(run) - 2, -1, -1):
                if (run[index], run[index + 1]) == best:
                    run[index : index + 2] = ["".join(best)]
    return merges
