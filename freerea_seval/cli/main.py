"""The command line ``freerea-seval``: it parses, calls :mod:`freerea_seval.api` and prints.

Every command has the parameter names and defaults of its Python twin. A user's mistake is one line on standard error.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated, Any

import typer

from freerea_patch import share_cores
from freerea_seval import __version__
from freerea_seval.cli import calibrating, configs, encoding, measuring, predictors, runs, upstream
from freerea_seval.cli.output import MODE, echo
from freerea_seval.progress import printable

app = typer.Typer(
    help="Put any metric into a training-free architecture search.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # panels would import a Markdown parser, which takes longer than all of our own
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
for command in (
    *(runs.search, configs.init, configs.check, configs.schema, runs.report, runs.compare, runs.export),
    *(predictors.train, predictors.predict, predictors.evaluate, encoding.encode, configs.objectives),
    upstream.upstream,
):
    app.command()(command)
app.add_typer(measuring.commands, name="measure")
app.add_typer(calibrating.commands, name="calibrate")


def _version(wanted: bool) -> None:
    if wanted:
        echo(f"freerea-seval {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Put any metric into a training-free architecture search."""


def main() -> None:
    """Run the command line.

    A user's mistake ends with one line on standard error and exit code 2, a search that asks for values with one line
    and exit code 3.
    """
    from freerea_patch import user_message

    MODE.quiet, MODE.document = False, None
    for name in ("stdout", "stderr"):  # None if the caller has closed it
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - until the process ends
    share_cores()  # before a command imports torch, scikit-learn or xgboost
    try:
        status: Any = app(standalone_mode=False, prog_name="freerea-seval")
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of our output has closed the pipe
            _end_without_reader()
        _fail(user_message(error) or _describe(error))
    except (Exception, SystemExit) as error:  # a user's code may call sys.exit
        if isinstance(error.__context__, OSError) and error.__context__.errno == errno.EPIPE:  # typer exits with 1
            _end_without_reader()
        if _is_usage_error(error):
            message = error.format_message()  # type: ignore[union-attr]
            if type(error).__name__ == "NoArgsIsHelpError":  # called without a command: the message is the help
                echo(message)
                sys.exit(0)
            command = getattr(getattr(error, "ctx", None), "command_path", "freerea-seval")
            _fail(f"{message.rstrip('.')}; see {command} --help")
        from freerea_seval.runs.answers import AnswersWanted

        if isinstance(error, AnswersWanted):
            typer.echo(printable(f"freerea-seval: {error}"), err=MODE.document is not None)
            sys.exit(3)
        mistake = user_message(error) or (repr(error) if isinstance(error, SystemExit) else None)
        if mistake is None:
            raise
        _fail(mistake)
    sys.exit(status if isinstance(status, int) else 0)


def _end_without_reader() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(141)


def _fail(message: str) -> None:
    typer.echo(printable(f"freerea-seval: error: {' '.join(message.split())}"), err=True)
    sys.exit(2)


def _describe(error: OSError) -> str:
    where = f" {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        remedy = "; make room, then repeat the command: the files written so far are complete"
        if sys.argv[1:2] == ["search"]:
            remedy = "; make room, then continue with --resume RUN: the files written so far are complete"
    else:
        remedy = "; correct that and try again"
    return f"cannot read or write{where}: {error.strerror or error}{remedy}"


def _is_usage_error(error: BaseException) -> bool:
    """Whether typer could not parse the command line; typer may contain its own copy of click."""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


if __name__ == "__main__":
    main()
