"""What every command prints, and where: text for people, or with ``--json`` one document for programs.

The result goes to standard output; progress, notes and errors go to standard error.
"""

from __future__ import annotations

import errno
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from functools import wraps
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from freerea_seval.progress import printable

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console


@dataclass
class Mode:
    """How the command that runs prints.

    Attributes:
        quiet: nothing but errors and the result.
        document: where a document for programs goes, instead of text on standard output; None for text. It stays when
            the command ends, as the reason why it has ended is then no result.
    """

    quiet: bool = False
    document: TextIO | None = None

    @property
    def progress(self) -> bool:
        """Whether to show progress and notes."""
        return not self.quiet


#: Of the command that runs; a process runs one at a time.
MODE = Mode()

_JSON = inspect.Parameter(
    "as_json",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[bool, typer.Option("--json", help="Print the result as JSON, for programs.")],
)
_VERBOSITY = (
    inspect.Parameter(
        "quiet",
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors and the result.")],
    ),
    inspect.Parameter(
        "verbose",
        inspect.Parameter.KEYWORD_ONLY,
        default=0,
        annotation=Annotated[
            int, typer.Option("--verbose", "-v", count=True, help="Log what is done on standard error; -vv: in detail.")
        ],
    ),
)


def echo(text: str, err: bool = False, nl: bool = True) -> None:
    """Print a part of the result, or with ``err`` a note; a terminal cannot be made to obey it."""
    if MODE.quiet if err else MODE.document is not None:
        return
    typer.echo(printable(text), err=err, nl=nl)


def print_document(make: Callable[[], BaseModel]) -> None:
    """Print the result as JSON, if the user asks for it."""
    if MODE.document is not None:
        typer.echo(make().model_dump_json(indent=2), file=MODE.document)


def documents() -> ModuleType:
    """Import what documents for programs are made of."""
    from freerea_seval.api import documents

    return documents


def console(width: int | None = None) -> Console:
    """Return a console of rich for the result, which ends with an :class:`OSError` if its reader is gone.

    Args:
        width: where standard output is no terminal, which has a width of its own.
    """
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError(errno.EPIPE, "the reader of the output is gone")

    return Output(width=None if sys.stdout.isatty() else width)


def options(json: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command the options ``--quiet``, ``--verbose`` and, if wanted, ``--json``."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(*, as_json: bool = False, quiet: bool = False, verbose: int = 0, **values: Any) -> None:
            with _mode(as_json, quiet, verbose):
                command(**values)

        signature = inspect.signature(command, eval_str=True)
        parameters = [
            *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in signature.parameters.values()),
            *([_JSON] if json else []),
            *_VERBOSITY,
        ]
        # Typer reads the options of a command from these two.
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


@contextmanager
def _mode(as_json: bool, quiet: bool, verbose: int) -> Iterator[None]:
    MODE.quiet = quiet
    try:
        with _logging(verbose), _document_alone() if as_json else nullcontext():
            yield
    finally:
        MODE.quiet = False


@contextmanager
def _document_alone() -> Iterator[None]:
    """Let nothing but the document reach standard output: what code of the user's prints goes to standard error.

    That of worker processes, too, which have the same file.
    """
    sys.stdout.flush()
    try:
        descriptor = sys.stdout.fileno()
    except OSError:  # it is no file, as in tests
        MODE.document = sys.stdout
        with redirect_stdout(sys.stderr):
            yield
        return
    kept = os.dup(descriptor)
    os.dup2(sys.stderr.fileno(), descriptor)
    try:
        with open(kept, "w", encoding=sys.stdout.encoding, closefd=False) as MODE.document:
            yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, descriptor)
        os.close(kept)


@contextmanager
def _logging(verbose: int) -> Iterator[None]:
    """Print the records of this project's loggers on standard error for a while."""
    if not verbose:
        yield
        return
    import logging

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print(printable(self.format(record)), file=sys.stderr, flush=True)  # rich keeps it above its bars

    handler = Handler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    loggers = [logging.getLogger(name) for name in ("freerea_patch", "freerea_seval")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO if verbose == 1 else logging.DEBUG)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
