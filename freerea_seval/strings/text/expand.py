"""A folded string written out: every repetition and every block that is named by its number."""

from __future__ import annotations

import re

from freerea_patch import InputError

#: The most operations a string may unfold to, and the most characters; a short string could ask for any number.
LONGEST, LONGEST_TEXT = 250_000, 10_000_000

_WORD = re.compile(r"(?:(\d+)\*)?(?:([{}])|#(\d+)|([^{}#*]+))", re.ASCII)
_FROM_START = re.compile(r"\^(\d+)", re.ASCII)


def expand(string: str) -> list[str]:
    """Return the operations of a string one by one.

    Raises:
        InputError: braces that do not match, an unknown block, ``^`` with an operation that comes later, or more than
            :data:`LONGEST` operations.
    """
    flat: list[str] = []
    repeated = 0  # characters
    blocks: list[tuple[int, int] | None] = []  # where each lies in ``flat``; None until it is closed
    opened: list[tuple[int, int, int]] = []  # times, where it began, its place in ``blocks``
    for place, word in enumerate(string.split(), 1):
        match = _WORD.fullmatch(word)
        if match is None:
            raise _error(place, word, "is no token; expected an operation such as 'relu<-2', '5*{', '}' or '#1'")
        count, brace, reference, operation = match.groups()
        times = 1 if count is None else _number(count)
        if times < 1:
            raise _error(place, word, "repeats something 0 times; expected a count of 1 or more")
        if brace == "{":
            opened.append((times, len(flat), len(blocks)))
            blocks.append(None)
            continue
        if brace:
            if not opened or count:
                raise _error(place, word, "closes nothing; expected '}' behind its '{'")
            times, start, number = opened.pop()
            blocks[number] = start, len(flat)
            if start == len(flat):
                raise _error(place, word, "closes empty braces; expected operations in them")
            more = flat[start:] if times > 1 else []
        elif reference:
            number = _number(reference)
            block = blocks[number - 1] if 0 < number <= len(blocks) else None
            if block is None:
                closed = sum(block is not None for block in blocks)
                raise _error(place, word, f"names braces that were not closed before; {closed} were")
            more = flat[slice(*block)]
            times += 1
        else:
            flat.append(operation)
            more = [operation] if times > 1 else []
        if not more:
            continue
        repeated += (times - 1) * sum(map(len, more))
        if len(flat) + (times - 1) * len(more) > LONGEST or repeated > LONGEST_TEXT:
            raise _error(place, word, f"repeats too much; expected at most {LONGEST:,} operations in all")
        flat += more * (times - 1)
    if opened:
        raise InputError(f"a network string lacks {len(opened)} '}}' at its end; is it cut off?")
    return _near(flat) if "^" in string else flat


def _near(flat: list[str]) -> list[str]:
    """Return operations with all operands counted back from them, those too that are said with ``^``."""
    near = []
    for position, text in enumerate(flat, 1):
        label, arrow, operands = text.partition("<-")
        if "^" in operands:
            distances = [position - _number(number) for number in _FROM_START.findall(operands)]
            if distances and min(distances) < 1:
                raise InputError(
                    f"operation {position} of a network string, {shortened(text)}, reads one that is not before it;"
                    f" expected ^1 to ^{position - 1}"
                )
            text = label + arrow + _FROM_START.sub("{}", operands).format(*distances)
        near.append(text)
    return near


def _number(digits: str) -> int:
    # Longer ones are no sizes, and Python takes quadratic time to read them.
    return int(digits) if len(digits) <= 18 else 10**18


def _error(place: int, word: str, problem: str) -> InputError:
    return InputError(f"word {place} of a network string, {shortened(word)}, {problem}")


def shortened(text: str) -> str:
    """Return a text for an error message."""
    return repr(text if len(text) <= 60 else text[:60] + "...")
