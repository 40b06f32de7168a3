"""Repetition: runs of equal operations are written once with a count, and equal parts once with a number.

A string is cut where every path goes through one result (no operation behind the cut reads one before it), so
that two networks that repeat the same cell are folded alike, however their modules are nested. Of all runs of equal
parts the one that saves most is folded first, then the next where it is still free, then what is inside them.
Within a part that is long because something is read all the way through it (a mask, an encoder's result) runs of
equal operations are found in the same way; what all copies read of one place is written ``^``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from functools import lru_cache
from heapq import heapify, heappop, heappush
from itertools import accumulate
from typing import NamedTuple

from freerea_seval.strings.graph.ir import Ref

#: Parts of so many operations or more are searched for repetition inside.
_LONG = 32
#: Parts of so many tokens or more are written once where they occur again.
_WORTHWHILE = 3
#: Fewer tokens are not saved at the price of a ``^``.
_SAVING = 8
#: Longer units are not searched for.
_WIDEST = 4096
#: The runs of so many parts are not remembered.
_MANY = 256
#: So many items are compared at once.
_CHUNK = 64


class Token(NamedTuple):
    """One operation as text.

    Attributes:
        label: kind, attributes and results.
        operands: the operands' texts; None where they need not be said.
        sources: for every operand the position of the node that made it, -1 for a parameter.
        refs: all that the operation reads, said or not.
    """

    label: str
    operands: tuple[str, ...] | None
    sources: tuple[int, ...]
    refs: tuple[Ref, ...]

    @property
    def text(self) -> str:
        """The token."""
        return self.label if self.operands is None else f"{self.label}<-{','.join(self.operands)}"


class _Run(NamedTuple):
    """Texts and runs, all of them so many times."""

    times: int
    body: tuple[str | _Run, ...]


#: A part of a string: operations, and runs of them.
Body = tuple["str | _Run", ...]


def fold(tokens: Sequence[Token]) -> str:
    """Return the string of a network whose operations are given one by one."""
    return join(split(tokens))


def split(tokens: Sequence[Token]) -> list[Body]:
    """Return the parts of a network between the results that every path goes through, folded inside."""
    parts: list[Body] = []
    for start, end in _cuts(tokens):
        part = tokens[start:end]
        parts.append(tuple(token.text for token in part) if end - start < _LONG else _fold_inside(part))
    return parts


def join(parts: Sequence[Body]) -> str:
    """Return the string of a network that consists of these parts."""
    return _Writer().write(_fold_parts(parts))


def _cuts(tokens: Sequence[Token]) -> list[tuple[int, int]]:
    """Return the parts between results that every path goes through, as (start, end)."""
    last = list(range(len(tokens)))  # the last reader of every result
    for position, token in enumerate(tokens):
        for ref in token.refs:
            last[ref.node] = position
    parts, start, reach = [], 0, 0
    for position, reader in enumerate(last):
        # Nothing before this position is read behind it; what it yields itself may be read by the next part.
        if reach <= position:
            parts.append((start, position + 1))
            start = position + 1
        reach = max(reach, reader)
    if start < len(tokens):
        parts.append((start, len(tokens)))
    return parts


def _fold_parts(parts: Sequence[Body]) -> list[Body | _Run]:
    """Fold runs of equal parts; what is folded stays a part of its own."""
    numbers: dict[Body, int] = {}
    keys = tuple([numbers.setdefault(part, len(numbers)) for part in parts])
    runs = (_runs if len(parts) < _MANY else _runs.__wrapped__)(keys, tuple(map(len, parts)))
    items: list[Body | _Run] = []
    done = 0
    for found in runs:
        items += parts[done : found.start]
        unit = parts[found.start : found.start + found.period]
        items.append(_Run(found.times, _joined(_fold_parts(unit))))
        done = found.end
    return [*items, *parts[done:]]


@lru_cache(maxsize=4096)  # the networks of a space repeat in the same places
def _runs(keys: tuple[int, ...], weights: tuple[int, ...]) -> list[_Found]:
    """Return the runs of items, of which equal ones have one number, with these weights."""
    return _Line(keys, weights).runs()


def _joined(items: Sequence[Body | _Run]) -> Body:
    body: list[str | _Run] = []
    for item in items:
        body += [item] if isinstance(item, _Run) else item
    return tuple(body)


def _fold_inside(tokens: Sequence[Token]) -> Body:
    """Fold runs inside a part whose operations may all read something from before the run."""
    body: list[str | _Run] = []
    line = _Line([token.text for token in tokens], [1] * len(tokens), tokens)
    done = 0
    for found in line.runs():
        body += [token.text for token in tokens[done : found.start]]
        unit: list[Body] = []
        for place in range(found.start, found.start + found.period):
            fixed = line.agree(place, place + found.period) or ()
            unit.append((_from_one_place(tokens[place], fixed) if any(fixed) else tokens[place].text,))
        body.append(_Run(found.times, _joined(_fold_parts(unit))))
        done = found.end
    return (*body, *(token.text for token in tokens[done:]))


def _from_one_place(token: Token, fixed: Sequence[bool]) -> str:
    """Return a token's text whose ``fixed`` operands are counted from the first operation."""
    operands = []
    for text, source, its in zip(token.operands or (), token.sources, fixed, strict=True):
        _, dot, port = text.partition(".")
        operands.append(f"^{source + 1}{dot}{port}" if its else text)
    return f"{token.label}<-{','.join(operands)}"


class _Found(NamedTuple):
    """A stretch of items in which each may be a copy of the one a period before it."""

    start: int
    end: int
    period: int

    @property
    def times(self) -> int:
        """How often the period fits."""
        return (self.end - self.start) // self.period


class _Line:
    """Items in a row, and which of them may be copies of each other.

    Args:
        items: equal ones are copies.
        weights: their tokens.
        tokens: those that the items are the texts of, where unequal ones may be copies too: operations that read
            results at the same distance or of the same place.
    """

    def __init__(
        self, items: Sequence[Hashable], weights: Sequence[int], tokens: Sequence[Token] | None = None
    ) -> None:
        numbers: dict[Hashable, int] = {}
        self._keys = [numbers.setdefault(item, len(numbers)) for item in items]
        self._repeats = len(numbers) < len(items) or tokens is not None
        self._tokens = tokens
        self._kinds = self._keys
        if tokens is not None:
            numbers = {}
            labels = ((t.label, -1 if t.operands is None else len(t.operands)) for t in tokens)
            self._kinds = [numbers.setdefault(label, len(numbers)) for label in labels]
        self._tokens_before = [0, *accumulate(weights)]

    def runs(self) -> list[_Found]:
        """Return the runs that save most and do not overlap, in their order."""
        waiting = [(-self._saving(found), found.period, found) for found in self._stretches()]
        heapify(waiting)
        taken = bytearray(len(self._keys))
        runs = []
        while waiting:
            *_, found = heappop(waiting)
            start, end, period = found
            if (busy := taken.find(1, start, end)) < 0:
                found = _Found(start, start + found.times * period, period)
                taken[start : found.end] = b"\1" * (found.end - start)
                runs.append(found)
                continue
            free = taken.find(0, busy, end)
            for piece in (_Found(start, busy, period), _Found(free, end, period)):
                if piece.start >= 0 and piece.times > 1:
                    heappush(waiting, (-self._saving(piece), period, piece))
        return sorted(runs)

    def _saving(self, found: _Found) -> int:
        before = self._tokens_before
        return before[found.start + (found.times - 1) * found.period] - before[found.start]

    def _stretches(self) -> list[_Found]:
        """Return the longest stretches of every period that hold it twice at least."""
        kinds, size = self._kinds, len(self._kinds)
        found: list[_Found] = []
        around: list[_Found | None] = [None] * size
        for period in range(1, min(size // 2, _WIDEST) + 1) if self._repeats else ():
            done = 0
            # Whoever holds a period twice has a first copy of an item at a multiple of the period.
            for place in range(0, size - period, period):
                if place < done or kinds[place] != kinds[place + period]:
                    continue
                known = around[place]
                if known is not None and not period % known.period and place + period < known.end:
                    continue  # so many copies of a shorter unit
                stretch = self._around(place, period)
                if stretch is None:
                    continue
                done = stretch.end - period + 1
                if stretch.times > 1:
                    found.append(stretch)
                    length = stretch.end - stretch.start
                    if known is None or known.end - known.start < length:
                        around[stretch.start : stretch.end] = [stretch] * length
        return found

    def _around(self, place: int, period: int) -> _Found | None:
        """Return the stretch around an item and the one a period behind it, None if they are no copies."""
        keys, last = self._keys, len(self._keys) - period
        fixed: dict[int, Sequence[bool]] = {}
        end = place
        while end < last:
            if keys[end] == keys[end + period]:
                end += 1
                while end + _CHUNK <= last and keys[end : end + _CHUNK] == keys[end + period : end + period + _CHUNK]:
                    end += _CHUNK
            elif (how := self.agree(end, end + period)) is not None:
                fixed[end] = how
                end += 1
            else:
                break
        if end == place:
            return None
        start = place
        while start > 0:
            if keys[start - 1] != keys[start - 1 + period]:
                if (how := self.agree(start - 1, start - 1 + period)) is None:
                    break
                fixed[start - 1] = how
            start -= 1
        # An operand is at one distance in all copies, or of one place in all of them.
        breaks = [pair for pair in fixed if pair - period >= start and fixed.get(pair - period) != fixed[pair]]
        breaks += [pair + period for pair in fixed if pair + period not in fixed]
        end = min((end, *breaks))
        found = _Found(start, end + period, period)
        if any(pair < end for pair in fixed) and self._saving(found) < _SAVING:
            return None
        return found

    def agree(self, one: int, other: int) -> Sequence[bool] | None:
        """Return for each operand of two operations whether they read it of one place; None if they are no copies."""
        if self._keys[one] == self._keys[other]:
            return ()
        if self._tokens is None or self._kinds[one] != self._kinds[other]:
            return None
        first, second = self._tokens[one], self._tokens[other]
        if first.operands is None or second.operands is None:
            return None
        fixed = []
        for text, its_text, source, its_source in zip(
            first.operands, second.operands, first.sources, second.sources, strict=True
        ):
            same = text == its_text
            if not same and (
                source < 0 or source != its_source or text.partition(".")[2] != its_text.partition(".")[2]
            ):
                return None
            fixed.append(not same)
        return fixed


class _Writer:
    """Writes parts, each that occurs again in braces, and by its number where it does."""

    def __init__(self) -> None:
        self._times: Counter[Body] = Counter()
        self._numbers: dict[Body, int] = {}

    def write(self, items: Sequence[Body | _Run]) -> str:
        """Return the string."""
        for item in items:
            self._count(item)
        return " ".join(self._text(item) for item in items)

    def _count(self, item: Body | _Run) -> None:
        body = item.body if isinstance(item, _Run) else item
        self._times[body] += 1
        if self._times[body] == 1:
            for part in body:
                if isinstance(part, _Run):
                    self._count(part)

    def _text(self, item: str | Body | _Run) -> str:
        # Bodies are nested no deeper than their lengths can be halved.
        if isinstance(item, str):
            return item
        times, body = item if isinstance(item, _Run) else (1, item)
        prefix = f"{times}*" if times > 1 else ""
        if body in self._numbers:
            return f"{prefix}#{self._numbers[body]}"
        if len(body) == 1 and isinstance(body[0], str):
            return prefix + body[0]
        if times > 1 or (self._times[body] > 1 and len(body) >= _WORTHWHILE):
            self._numbers[body] = len(self._numbers) + 1
            return f"{prefix}{{ {' '.join(map(self._text, body))} }}"
        return " ".join(map(self._text, body))
