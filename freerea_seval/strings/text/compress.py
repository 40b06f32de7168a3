"""Compression of repetitions: equal consecutive operations become a count, and equal parts a reference.

=========== ======================================================================================================
token       one operation as text, and what it reads
part        the tokens between two cut vertices of the graph: no token behind it reads a result before it
repetition  ``start, end, period``: a stretch in which each item is a copy of the one a period before it; a maximal
            repetition, or run, in the sense of Main & Lorentz 1984 and Kolpakov & Kucherov 1999
body        texts and repeats, the contents of a pair of braces
=========== ======================================================================================================

The method is a greedy offline grammar compression (Kieffer & Yang 2000) that is restricted to tandem repeats:

1. Cut the tokens into parts, so that networks with equal cells are compressed alike however their modules are nested.
2. Among all maximal repetitions of equal parts, replace the one that saves most tokens, then the next one that does not
   overlap it, and so on; continue inside each period.
3. Treat the tokens of a long part in the same way. Such a part is long because a result is read all the way through it
   (a mask, or an encoder's output); an operand that all copies read from one place is written with ``^``.
4. Replace each body that occurs again by a reference to its first occurrence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from functools import lru_cache
from heapq import heapify, heappop, heappush
from itertools import accumulate, pairwise
from typing import NamedTuple

from freerea_seval.strings.graph.ir import Ref, cut_vertices

#: Parts with at least this many operations are searched for repetitions inside.
_LONG = 32
#: Bodies with at least this many tokens are replaced by a reference where they occur again.
_MIN_REFERENCED = 3
#: A repetition must save at least this many tokens to pay for operands written with ``^``.
_MIN_SAVING = 8
#: Longer periods are not searched for.
_MAX_PERIOD = 4096
#: The repetitions of longer sequences of parts are not cached.
_MAX_CACHED = 256
#: Number of items compared in one slice comparison.
_CHUNK = 64


class Operand(NamedTuple):
    """An operand as text.

    Attributes:
        text: its distance or, for a parameter, its shape.
        source: the position of the node that produces it; -1 for a parameter, and for several operands in one text.
        step: ``+``, ``=`` or ``-`` if it is the result behind, at or before the one of this node that was read last.
    """

    text: str
    source: int
    step: str = ""


class Token(NamedTuple):
    """One operation as text.

    Attributes:
        label: kind, attributes and results.
        operands: those that are listed; None where they are the default.
        refs: everything that the operation reads, listed or by default.
    """

    label: str
    operands: tuple[Operand, ...] | None
    refs: tuple[Ref, ...]

    @property
    def text(self) -> str:
        """The word."""
        if self.operands is None:
            return self.label
        return f"{self.label}<-{','.join([operand.text for operand in self.operands])}"


class _Repeat(NamedTuple):
    """A body that is repeated."""

    times: int
    body: tuple[str | _Repeat, ...]


Body = tuple["str | _Repeat", ...]


def compress(tokens: Sequence[Token]) -> str:
    """Return the string of a network."""
    return join(split(tokens))


def split(tokens: Sequence[Token]) -> list[Body]:
    """Return the parts of a network between its cut vertices, each compressed on its own."""
    cuts = cut_vertices([[ref.node for ref in token.refs] for token in tokens])
    parts = [tokens[before + 1 : cut + 1] for before, cut in pairwise([-1, *cuts])]
    return [_compress_part(part) if len(part) >= _LONG else tuple([t.text for t in part]) for part in parts]


def join(parts: Sequence[Body]) -> str:
    """Return the string of a network that consists of these parts."""
    return _Writer().write(_compress_parts(parts))


def _compress_parts(parts: Sequence[Body]) -> list[Body | _Repeat]:
    """Replace repetitions of equal parts; a repeat is an item of its own."""
    numbers: dict[Body, int] = {}
    keys = tuple([numbers.setdefault(part, len(numbers)) for part in parts])
    find = _repetitions if len(parts) < _MAX_CACHED else _repetitions.__wrapped__
    items: list[Body | _Repeat] = []
    done = 0
    for start, end, period in find(keys, tuple(map(len, parts))):
        items += parts[done:start]
        items.append(_Repeat((end - start) // period, _merge(_compress_parts(parts[start : start + period]))))
        done = end
    return [*items, *parts[done:]]


@lru_cache(maxsize=4096)  # the networks of a space have their repetitions in the same positions
def _repetitions(keys: tuple[int, ...], weights: tuple[int, ...]) -> list[_Repetition]:
    return _Items(keys, weights).best_repetitions()


def _merge(items: Sequence[Body | _Repeat]) -> Body:
    body: list[str | _Repeat] = []
    for item in items:
        body += [item] if isinstance(item, _Repeat) else item
    return tuple(body)


def _compress_part(tokens: Sequence[Token]) -> Body:
    """Replace repetitions inside a part, whose operations may read results from before the repetition."""
    body: list[str | _Repeat] = []
    items = _Items([token.text for token in tokens], [1] * len(tokens), tokens)
    done = 0
    for start, end, period in items.best_repetitions():
        body += [token.text for token in tokens[done:start]]
        unit: list[Body] = []
        for position in range(start, start + period):
            anchored = items.compare(position, position + period) or ()
            unit.append((_anchor(tokens[position], anchored) if any(anchored) else tokens[position].text,))
        body.append(_Repeat((end - start) // period, _merge(_compress_parts(unit))))
        done = end
    return (*body, *(token.text for token in tokens[done:]))


def _anchor(token: Token, anchors: Sequence[str]) -> str:
    """Return the text of a token with operands counted from the first operation; see :meth:`_Items.compare`."""
    texts = []
    for (text, source, _), anchor in zip(token.operands or (), anchors, strict=True):
        port = "".join(text.partition(".")[1:]) if anchor == "." else anchor
        texts.append(f"^{source + 1}{port}" if anchor else text)
    return f"{token.label}<-{','.join(texts)}"


class _Repetition(NamedTuple):
    """A stretch of items in which each is a copy of the one a period before it."""

    start: int
    end: int
    period: int

    @property
    def times(self) -> int:
        """Number of whole periods."""
        return (self.end - self.start) // self.period


class _Items:
    """A sequence of items to search for repetitions.

    Args:
        items: equal ones are copies of each other.
        weights: their numbers of tokens.
        tokens: given if ``items`` are the texts of tokens. Then tokens with different texts are copies as well if each
            operand is at the same distance in both, or comes from the same node in both, as the same or as the next
            result.
    """

    def __init__(
        self, items: Sequence[Hashable], weights: Sequence[int], tokens: Sequence[Token] | None = None
    ) -> None:
        numbers: dict[Hashable, int] = {}
        self._keys = [numbers.setdefault(item, len(numbers)) for item in items]
        self._may_repeat = len(numbers) < len(items) or tokens is not None
        self._tokens = tokens
        self._kinds = self._keys  # copies have equal kinds
        if tokens is not None:
            numbers = {}
            labels = ((t.label, -1 if t.operands is None else len(t.operands)) for t in tokens)
            self._kinds = [numbers.setdefault(label, len(numbers)) for label in labels]
        self._tokens_before = [0, *accumulate(weights)]

    def best_repetitions(self) -> list[_Repetition]:
        """Choose repetitions that do not overlap, greedily by the number of tokens saved; return them in order."""
        heap = [(-self._saving(item), item.period, item) for item in self._maximal_repetitions()]
        heapify(heap)
        covered = bytearray(len(self._keys))
        chosen = []
        while heap:
            *_, item = heappop(heap)
            start, end, period = item
            if (overlap := covered.find(1, start, end)) < 0:
                item = _Repetition(start, start + item.times * period, period)
                covered[start : item.end] = b"\1" * (item.end - start)
                chosen.append(item)
                continue
            free = covered.find(0, overlap, end)
            for rest in (_Repetition(start, overlap, period), _Repetition(free, end, period)):
                if rest.start >= 0 and rest.times > 1:
                    heappush(heap, (-self._saving(rest), period, rest))
        return sorted(chosen)

    def _saving(self, item: _Repetition) -> int:
        before = self._tokens_before
        return before[item.start + (item.times - 1) * item.period] - before[item.start]

    def _maximal_repetitions(self) -> list[_Repetition]:
        """Return the maximal repetitions of at least two periods.

        A stretch that holds a period twice contains a multiple of the period whose item equals the one a period behind
        it (the anchors of Main & Lorentz 1984), so that only these are extended.
        """
        kinds, size = self._kinds, len(self._kinds)
        repetitions: list[_Repetition] = []
        covering: list[_Repetition | None] = [None] * size  # the longest one so far at each position
        for period in range(1, min(size // 2, _MAX_PERIOD) + 1) if self._may_repeat else ():
            done = 0
            for position in range(0, size - period, period):
                if position < done or kinds[position] != kinds[position + period]:
                    continue
                shorter = covering[position]
                if shorter is not None and not period % shorter.period and position + period < shorter.end:
                    continue  # several periods of a repetition with a shorter one
                item = self._extend(position, period)
                if item is None:
                    continue
                done = item.end - period + 1
                if item.times > 1:
                    repetitions.append(item)
                    length = item.end - item.start
                    if shorter is None or shorter.end - shorter.start < length:
                        covering[item.start : item.end] = [item] * length
        return repetitions

    def _extend(self, position: int, period: int) -> _Repetition | None:
        """Return the maximal stretch around an item and its copy a period behind; None if that is not a copy."""
        keys, last = self._keys, len(self._keys) - period
        anchored: dict[int, Sequence[str]] = {}  # pairs of copies with different texts
        end = position
        while end < last:
            if keys[end] == keys[end + period]:
                end += 1
                while end + _CHUNK <= last and keys[end : end + _CHUNK] == keys[end + period : end + period + _CHUNK]:
                    end += _CHUNK
            elif (operands := self.compare(end, end + period)) is not None:
                anchored[end] = operands
                end += 1
            else:
                break
        if end == position:
            return None
        start = position
        while start > 0:
            if keys[start - 1] != keys[start - 1 + period]:
                if (operands := self.compare(start - 1, start - 1 + period)) is None:
                    break
                anchored[start - 1] = operands
            start -= 1
        # An operand is either at one distance in all copies or from one node in all of them.
        breaks = [at for at in anchored if at - period >= start and anchored.get(at - period) != anchored[at]]
        breaks += [at + period for at in anchored if at + period not in anchored]
        end = min((end, *breaks))
        item = _Repetition(start, end + period, period)
        if any(at < end for at in anchored) and self._saving(item) < _MIN_SAVING:
            return None
        return item

    def compare(self, one: int, other: int) -> Sequence[str] | None:
        """Return for each operand of two items how both read it from the same node; None if they are no copies.

        ``.`` is the same result of it; ``+``, ``=`` and ``-`` are those of :class:`Operand`; an empty text is one at
        the same distance. The sequence is empty if the items are equal.
        """
        if self._keys[one] == self._keys[other]:
            return ()
        if self._tokens is None or self._kinds[one] != self._kinds[other]:
            return None
        first, second = self._tokens[one], self._tokens[other]
        if first.operands is None or second.operands is None:
            return None
        anchors = []
        for (text, source, step), (other_text, other_source, other_step) in zip(
            first.operands, second.operands, strict=True
        ):
            if text == other_text:
                anchors.append("")
            elif source < 0 or source != other_source:
                return None
            elif text.partition(".")[2] == other_text.partition(".")[2]:
                anchors.append(".")
            elif step and step == other_step:
                anchors.append(step)
            else:
                return None
        return anchors


class _Writer:
    """Writes items: a body that occurs again is put in braces, and replaced by its number from then on."""

    def __init__(self) -> None:
        self._occurrences: Counter[Body] = Counter()
        self._numbers: dict[Body, int] = {}

    def write(self, items: Sequence[Body | _Repeat]) -> str:
        """Return the string."""
        for item in items:
            self._count(item)
        return " ".join([self._text(item) for item in items])

    def _count(self, item: Body | _Repeat) -> None:
        body = item.body if isinstance(item, _Repeat) else item
        self._occurrences[body] += 1
        if self._occurrences[body] == 1:
            for inner in body:
                if isinstance(inner, _Repeat):
                    self._count(inner)

    def _text(self, item: str | Body | _Repeat) -> str:
        # The recursion is at most logarithmic in depth: a body is no longer than half of what its repeat replaces.
        if isinstance(item, str):
            return item
        times, body = item if isinstance(item, _Repeat) else (1, item)
        prefix = f"{times}*" if times > 1 else ""
        if body in self._numbers:
            return f"{prefix}#{self._numbers[body]}"
        if len(body) == 1 and isinstance(body[0], str):
            return prefix + body[0]
        if times > 1 or (self._occurrences[body] > 1 and len(body) >= _MIN_REFERENCED):
            self._numbers[body] = len(self._numbers) + 1
            return f"{prefix}{{ {' '.join(map(self._text, body))} }}"
        return " ".join(map(self._text, body))
