"""MkDocs hooks: the command line reference is made from the commands, and roles of docstrings become code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from freerea_seval.cli.main import app

MARKER = "<!-- commands -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the marker by a section for every command."""
    if MARKER not in markdown:
        return markdown
    return markdown.replace(MARKER, "\n".join(sections(typer.main.get_command(app), "freerea-seval")))


def on_page_content(html: str, **_: Any) -> str:
    """Show roles such as ``:class:`~package.module.Name``` as ``Name``."""
    return re.sub(r":\w+:<code>~?(?:[\w.]+\.)?(\w+(?:\(\))?)</code>", r"<code>\1</code>", html)


def sections(command: Any, name: str) -> Iterator[str]:
    """Yield the Markdown lines of a command, or of every command of a group."""
    subcommands = getattr(command, "commands", {})
    if not subcommands:
        usage = " ".join(["[OPTIONS]", *(f"[{p.name}]" if not p.required else f"{p.name}" for p in arguments(command))])
        yield from (f"## {name}", "", command.help or "", "", "```text", f"{name} {usage}", "```", "")
        yield from ("| | |", "|---|---|")
        for parameter in command.params:
            spelled = parameter.name if parameter.param_type_name == "argument" else ", ".join(parameter.opts)
            default = parameter.default
            shown = (
                f" Default: `{default}`."
                if isinstance(default, (str, int, float)) and default not in ("", False)
                else ""
            )
            text = (getattr(parameter, "help", None) or "").replace("|", "\\|")
            yield f"| `{spelled}` | {text}{shown} |"
        yield ""
    for key, subcommand in subcommands.items():
        if not subcommand.hidden:
            yield from sections(subcommand, f"{name} {key}")


def arguments(command: Any) -> list[Any]:
    """Return the positional parameters of a command."""
    return [parameter for parameter in command.params if parameter.param_type_name == "argument"]
