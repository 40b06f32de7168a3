"""Progress: bars with elapsed and remaining time on terminals, and lines elsewhere.

Where a program has Python's logging at ``INFO``, lines are records of this module's logger instead.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: What is beside a bar: a text, or a function of one that takes too long to be called at every step.
Note = str | Callable[[], str]
#: Takes the fraction done, from 0 to 1, and a note.
Show = Callable[[float, Note], None]
_LOG = logging.getLogger(__name__)
#: Of the time of a task, its notes take at most this part.
_NOTES = 0.02


def printable(text: str) -> str:
    """Return a text with escapes instead of control characters, which a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


class Progress:
    """Shows the progress of long tasks. This base class shows nothing: for libraries and tests."""

    @contextmanager
    def task(self, description: str) -> Iterator[Show]:
        """Show a task; yields a function that takes the fraction done, from 0 to 1, and a note beside the bar."""
        yield _show_nothing

    def say(self, line: str) -> None:
        """Tell the user something that cannot wait for the end."""


def _show_nothing(fraction: float, note: Note = "") -> None:
    pass


def _text(note: Note) -> str:
    return note if isinstance(note, str) else note()


#: Seconds between two lines of a task without a terminal.
INTERVAL_S = 10.0


class LineProgress(Progress):
    """Draws no bars, but prints lines on standard error: of a long task, one every ten seconds."""

    @contextmanager
    def task(self, description: str) -> Iterator[Show]:
        """Print how far a task is, at most every :data:`INTERVAL_S`."""
        began = last = time.monotonic()

        def update(fraction: float, note: Note = "") -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= INTERVAL_S:
                last, text = now, _text(note)
                left = f", about {(now - began) * (1 / fraction - 1):.0f} s left" if 0 < fraction < 1 else ""
                done = f"{min(fraction, 1.0):.0%} after {now - began:.0f} s{left}"
                _print(f"{description}: {done}{text and f', {text}'}", logging.INFO)

        yield update

    def say(self, line: str) -> None:
        """Print a line; rich keeps it above its bars."""
        _print(line, logging.WARNING)


def _print(line: str, level: int) -> None:
    if _LOG.isEnabledFor(logging.INFO):
        _LOG.log(level, "%s", line)
    else:
        print(printable(line), file=sys.stderr, flush=True)


class TerminalProgress(LineProgress):
    """Draws a bar with elapsed and remaining time on standard error."""

    @contextmanager
    def task(self, description: str) -> Iterator[Show]:
        """Show one bar until the task ends."""
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress
        from rich.table import Column

        def whole() -> Column:  # on a narrow terminal, the bar becomes shorter
            return Column(no_wrap=True)

        columns = (
            TextColumn("{task.description}", table_column=whole()),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %", table_column=whole()),
            TimeElapsedColumn(table_column=whole()),
            TextColumn("left", table_column=whole()),
            TimeRemainingColumn(table_column=whole()),
            TextColumn("{task.fields[note]}", table_column=whole()),
        )
        with RichProgress(*columns, console=Console(stderr=True)) as bars:
            bar = bars.add_task(description, total=1.0, note="")
            shown, again = "", -math.inf
            last: Note = ""

            def update(fraction: float, note: Note = "") -> None:
                nonlocal shown, again, last
                last = note
                if isinstance(note, str):
                    shown = note
                elif (now := time.monotonic()) >= again:
                    first, shown = not shown, note()
                    then = time.monotonic()
                    again = then + max(1.0, 0.0 if first else (then - now) / _NOTES)  # the first one imports
                bars.update(bar, completed=min(fraction, 1.0), note=printable(shown))

            yield update
            bars.update(bar, completed=1.0, note=printable(_text(last)))


def terminal_progress() -> Progress:
    """Return bars if standard error is a terminal, otherwise a progress that prints lines."""
    return TerminalProgress() if sys.stderr.isatty() else LineProgress()
