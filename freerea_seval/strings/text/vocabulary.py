"""The vocabulary of network strings: how a word is taken apart, and which parts and phrases are tokens.

A word of a string (see :mod:`freerea_seval.strings.text.grammar`) becomes a *template* and its numbers:
``conv(24,k3)<-4`` is ``conv(@,k3)<-4`` and 24. Windows, single digits of other attributes, and distances up to 64 are
structure and stay in the template; widths, shapes, counts, scalars and all else are numbers, so that an unseen one
changes no template.
The template's operation and its operands are the *atoms* that phrases are made of.
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

PAD, NUMBER, CHARACTER, TIMES = range(4)
#: Names of the special tokens, by their id; all but the first have a value of their own.
SPECIALS = ("<pad>", "<number>", "<char>", "<times>")
#: Where a number belongs in a template, and where a character that is not of the grammar.
SLOT, ODD = "@", "\0"
_BRACES = (" {", " }")

_CHARACTERS = "".join(chr(code) for code in range(32, 127) if chr(code) != SLOT)
_FORMAT = "freerea-seval tokenizer 1"
#: Longest distance, window or block number that is a token of its own.
_EXACT = 64
#: A phrase has at most so many words, and any token so many characters.
_LONGEST_PHRASE, _LONGEST_TEXT = 6, 4096
#: Shares of a vocabulary for fragments of atoms, and for these and atoms; merges take the rest, and of that so much
#: is for operations with their operands, phrases taking what is left.
_FRAGMENTS, _ATOMS, _WORDS = 0.2, 0.6, 0.4

_COUNT = re.compile(r"([1-9]\d{0,14})\*(?=[A-Za-z_{#])", re.ASCII)
_ODD = re.compile(r"[^!-?A-~]")
_HEAD = re.compile(
    r"(?<=[(,])(?P<window>[kspdo]\d+(?:x\d+)*)(?=[,)])"
    r"|(?<=[(=:])(?P<scalar>-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?=[,:)])"
    r"|(?:(?<=[\[,x])|(?<=[(,]g))\d+",
    re.ASCII,
)
_TAIL = re.compile(r"(?<=[wx])\d+|(?<=[-,.~^])(?P<exact>\d+)", re.ASCII)
_BLOCK = re.compile(r"#(?P<exact>\d+)", re.ASCII)
_DIGITS = re.compile(r"\d+", re.ASCII)
_ATTRIBUTES = re.compile(r"[(,\[]?[^(),\[\]]+|[(),\[\]]")
_NAMES = re.compile(r" ?[A-Za-z]+=?")


def numeral(value: float) -> str:
    """Return a number as network strings have it."""
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


@dataclass(frozen=True)
class Word:
    """A word taken apart.

    Attributes:
        times: the count before it, None without one.
        atoms: its template's parts: the operation, with a blank before it, and its operands.
        numbers: what stands in the template's slots, or the code points of odd characters.
    """

    times: int | None
    atoms: tuple[str, ...]
    numbers: tuple[float, ...]

    @property
    def alone(self) -> bool:
        """Whether it is of a repetition: no phrase has it, or what is repeated would no longer be seen."""
        return self.times is not None or self.atoms[0] in _BRACES or self.atoms[0].startswith(" #")


def take_apart(text: str) -> Word:
    """Return a word, any text without blanks, as template and numbers."""
    times = None
    if match := _COUNT.match(text):
        times, text = int(match[1]), text[match.end() :]
    if odd := _ODD.findall(text):
        # Not of the grammar, so its numbers are characters as well.
        return Word(times, (" " + _ODD.sub(ODD, text),), tuple(float(ord(character)) for character in odd))
    numbers: list[float] = []

    def slot(match: re.Match[str]) -> str:
        value = float(match[0])
        if numeral(value) != match[0]:
            return match[0]  # only what is written back the same
        numbers.append(value)
        return SLOT

    def structure(match: re.Match[str]) -> str:
        digits = match["exact"]
        return match[0] if len(digits) < 3 and int(digits) <= _EXACT else _DIGITS.sub(slot, match[0])

    def attribute(match: re.Match[str]) -> str:
        if window := match["window"]:
            small = all(len(size) < 3 and int(size) <= _EXACT for size in window[1:].split("x"))
            return window if small else _DIGITS.sub(slot, window)
        width = kind in BARE and head[match.start() - 1] == "("
        digit = match["scalar"] and len(match["scalar"].lstrip("-")) == 1
        return match[0] if digit and not width else slot(match)

    head, arrow, tail = text.partition("<-")
    kind = head.partition("(")[0]
    head = _BLOCK.sub(structure, head) if head.startswith("#") else _HEAD.sub(attribute, head)
    operands = (_TAIL.sub(lambda m: structure(m) if m["exact"] else slot(m), arrow + tail),) if arrow else ()
    return Word(times, (" " + head, *operands), tuple(numbers))


@dataclass(frozen=True)
class Vocabulary:
    """The tokens: the special ones, printable characters, pieces, and what the merges make, in this order.

    Attributes:
        pieces: atoms and fragments of atoms.
        merges: pairs of neighbouring texts that become one token, the first to be merged first.
    """

    pieces: tuple[str, ...] = ()
    merges: tuple[tuple[str, str], ...] = ()

    @cached_property
    def base(self) -> dict[str, int]:
        """Ids of what atoms are made of, by text; a slot and an odd character that stand alone are special tokens."""
        texts = (*_CHARACTERS, *self.pieces)
        return {SLOT: NUMBER, ODD: CHARACTER, **{text: len(SPECIALS) + place for place, text in enumerate(texts)}}

    @cached_property
    def _ids(self) -> dict[str, int]:
        ids = dict(self.base)
        for left, right in self.merges:
            ids.setdefault(left + right, len(ids) + len(SPECIALS) - 2)
        return ids

    @cached_property
    def texts(self) -> list[str]:
        """The texts of the tokens, by id; of special ones the names."""
        return [*SPECIALS, *list(self._ids)[2:]]

    @cached_property
    def pairs(self) -> dict[tuple[int, int], tuple[int, int]]:
        """Rank and result of every merge, by the ids of its two."""
        ids = self._ids
        return {(ids[a], ids[b]): (rank, ids[a + b]) for rank, (a, b) in reversed(list(enumerate(self.merges)))}

    def write(self, path: Path) -> None:
        """Save as JSON.

        Raises:
            OSError: the file cannot be written.
        """
        record = {"format": _FORMAT, "pieces": self.pieces, "merges": self.merges}
        # One entry a line, so that two versions can be compared.
        write_atomically(path, json.dumps(record, indent=0) + "\n")

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """Return a saved vocabulary.

        Raises:
            InputError: no such file, or not one that :meth:`write` made.
        """
        try:
            record = json.loads(path.read_bytes())
        except OSError as error:
            raise InputError(f"cannot read the tokenizer {path} ({error.strerror}); expected a saved one") from None
        except (ValueError, RecursionError):
            raise _broken(path, "it is no JSON") from None
        if not isinstance(record, dict) or record.get("format") != _FORMAT:
            raise _broken(path, f"it does not say 'format': {_FORMAT!r}")
        pieces, merges = record.get("pieces"), record.get("merges")
        if not isinstance(pieces, list) or not isinstance(merges, list):
            raise _broken(path, "'pieces' and 'merges' should be lists")
        known = {*_CHARACTERS}
        for piece in pieces:
            if (
                not isinstance(piece, str)
                or piece in known
                or piece == SLOT
                or not 1 <= len(piece) <= _LONGEST_TEXT
                or ODD in piece
            ):
                raise _broken(path, f"'pieces' has {str(piece)[:60]!r}")
            known.add(piece)
        for merge in merges:
            if not isinstance(merge, list) or len(merge) != 2 or not all(isinstance(text, str) for text in merge):
                raise _broken(path, f"'merges' has {str(merge)[:60]!r}")
            if not known.issuperset(merge) or len("".join(merge)) > _LONGEST_TEXT:
                raise _broken(path, f"'merges' has {str(merge)[:60]!r}, whose parts are no tokens before it")
            known.add("".join(merge))
        return cls(tuple(pieces), tuple((left, right) for left, right in merges))


def _broken(path: Path, why: str) -> InputError:
    return InputError(f"{path} is no tokenizer of network strings: {why}; expected a file that Tokenizer.save made")


def learn(strings: Iterable[str], size: int) -> Vocabulary:
    """Return a vocabulary of at most ``size`` tokens: fragments, atoms, and phrases of atoms, the most frequent ones.

    Phrases are learned by byte-pair merging (Gage 1994; Sennrich 2016) with atoms in the place of bytes; the same
    strings give the same vocabulary.

    Raises:
        InputError: ``size`` leaves no room beside the characters.
    """
    room = size - len(SPECIALS) - len(_CHARACTERS) - len(_BRACES)
    if room < 0:
        raise InputError(f"a tokenizer needs at least {size - room} tokens for characters, got size={size}")
    runs = Counter(run for string in strings for run in _runs(string))
    atoms: Counter[str] = Counter()
    for run, count in runs.items():
        for atom in run:
            atoms[atom] += count
    # How many different atoms a fragment is in says how likely an unseen one has it.
    fragments = Counter(part for atom in atoms for part in {*_ATTRIBUTES.findall(atom), *_NAMES.findall(atom)})
    pieces = dict.fromkeys(_BRACES)
    for counter, share in ((fragments, _FRAGMENTS), (atoms, _ATOMS)):
        frequent = sorted((-count, text) for text, count in counter.items() if count > 1 and len(text) > 1)
        for _, text in frequent:
            short = len(text) <= _LONGEST_TEXT // (2 * _LONGEST_PHRASE)
            if len(pieces) < len(_BRACES) + int(room * share) and short and ODD not in text:
                pieces.setdefault(text)
    known = [[atom if atom in pieces else None for atom in run] for run in runs]
    merges = _merges(list(zip(known, runs.values(), strict=True)), len(_BRACES) + room - len(pieces))
    return Vocabulary(tuple(pieces), tuple(merges))


def _runs(string: str) -> Iterator[tuple[str, ...]]:
    """Yield the atoms that phrases are found in: of words that stand alone, and of all words between two of these."""
    run: list[str] = []
    for text in string.split():
        word = take_apart(text)
        if word.alone:
            yield tuple(run)
            yield word.atoms
            run = []
        else:
            run += word.atoms
    yield tuple(run)


def _merges(runs: list[tuple[list[str | None], int]], most: int) -> list[tuple[str, str]]:
    """Return the pairs to merge: operations with their operands first, then phrases, the most frequent first.

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
        whole = len(merges) >= most * _WORDS
        best = min(frequent, key=lambda pair: (pair[1][0] == " " and not whole, -counts[pair], pair), default=None)
        if best is None:
            break
        merges.append(best)
        for run, _ in runs:
            for place in range(len(run) - 2, -1, -1):
                if (run[place], run[place + 1]) == best:
                    run[place : place + 2] = ["".join(best)]
    return merges
