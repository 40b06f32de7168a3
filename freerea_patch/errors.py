"""The exception for a user's mistake: the message says what is wrong and how to correct it."""

from __future__ import annotations

import os
import sysconfig
import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from types import FrameType

#: An error shows at most so many characters of a text, and so many of the valid names.
_LONGEST = 100
_MOST_NAMES = 100
_ROOT = Path(__file__).resolve().parents[1]
#: Beginnings of the paths of code that is not the user's: the standard library, installed packages, and this project's.
_NOT_THE_USERS = (
    "<",
    *(str(_ROOT / package) + os.sep for package in ("freerea_patch", "freerea_seval")),
    *(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")),
)


#: What a user's code may raise, where it is called: ``sys.exit`` must not end a program that is not the user's.
USERS_EXCEPTIONS = (Exception, SystemExit)


class InputError(ValueError):
    """A user's input cannot be used.

    The message is one line: what was expected, what was received, and how to correct it. The command line prints it
    unchanged and exits with code 2. Lines of a message, which another library's error in it may have, become one.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(" ".join(map(str.strip, message.splitlines())))


class UndefinedMetric(InputError):  # noqa: N818 - a fact about a space, which an optional objective allows for
    """A search space does not define a metric."""


class NothingFeasible(InputError):  # noqa: N818 - also a possible result of a search
    """A search has ended without a candidate that satisfies its constraints."""


class UserCodeError(TypeError):
    """A user's code returned what it must not, or ended the program; the message is one line, as of InputError."""


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> InputError:
    """Return the error for a name that is not in a list of valid ones, with the closest one as a suggestion."""
    names = sorted(valid)
    near = get_close_matches(str(name)[:_LONGEST], names[:_MOST_NAMES], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    shown = ", ".join(text[:_LONGEST] for text in names[:_MOST_NAMES]) or "none"
    return InputError(f"unknown {kind} {name!r:.{_LONGEST}}{hint} Valid: {shown}{more}")


def raised_in(error: BaseException) -> str:
    """Return where in the user's code an exception was raised, for the end of a message.

    The text names file and line, and the function that this project has called, with its texts, such as a genotype. Of
    a chain of causes it is about the first that was raised in the user's code. It is empty if there is none, or if an
    :class:`InputError` comes before it, whose message says all.
    """
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    users: list[tuple[FrameType, int]] = []
    while chain and not users:
        if isinstance(chain[-1], InputError):
            return ""
        steps = traceback.walk_tb(chain.pop().__traceback__)
        users = [(frame, line) for frame, line in steps if not frame.f_code.co_filename.startswith(_NOT_THE_USERS)]
    if not users:
        return ""
    (called, _), (innermost, line) = users[0], users[-1]
    arguments = (called.f_locals.get(name) for name in called.f_code.co_varnames[: called.f_code.co_argcount])
    texts = ", ".join(repr(argument) for argument in arguments if isinstance(argument, str))
    path = Path(innermost.f_code.co_filename)
    name = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"; raised in {name}, line {line}, by {called.f_code.co_name}({texts})"


def user_message(error: BaseException) -> str | None:
    """Return the message of an :class:`InputError` or of an exception from the user's code, None of any other."""
    where = raised_in(error)
    if isinstance(error, (InputError, UserCodeError)):
        return str(error) if where in str(error) else f"{error}{where}"
    return f"{type(error).__name__}: {error}{where}" if where else None
