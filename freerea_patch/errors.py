"""The one exception that means "the input is wrong, and here is how to mend it"."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """A user's input cannot be used.

    The message is one line that says what was expected, what came, and how to mend it; the command
    line prints it as it is and exits with code 2.
    """


class NothingFeasible(InputError):  # noqa: N818 - it is an outcome as well
    """A search has ended without a candidate within its constraints."""


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> InputError:
    """Return the error for a name outside a list of valid ones, with the nearest as a suggestion."""
    names = sorted(valid)
    near = get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return InputError(f"unknown {kind} {name!r}{hint} Valid: {', '.join(names) or 'none'}")
