"""The exception for a user's mistake: the message says what is wrong and how to correct it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """A user's input cannot be used.

    The message is one line: what was expected, what was received, and how to correct it. The command line prints it
    unchanged and exits with code 2.
    """


class NothingFeasible(InputError):  # noqa: N818 - also a possible result of a search
    """A search has ended without a candidate that satisfies its constraints."""


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> InputError:
    """Return the error for a name that is not in a list of valid ones, with the closest one as a suggestion."""
    names = sorted(valid)
    near = get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return InputError(f"unknown {kind} {name!r}{hint} Valid: {', '.join(names) or 'none'}")
