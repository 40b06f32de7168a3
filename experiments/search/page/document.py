"""A page of text, tables and figures that is written once, as self-contained HTML and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from experiments.search.page.figures import style
from experiments.tables import markdown


class Document:
    """Grows by a block at a time; every table and figure has a number and names the command that made it.

    Args:
        title: of the page.
        command: that makes the page.
    """

    def __init__(self, title: str, command: str) -> None:
        self.title = title
        self.command = command
        self._html = [f"<h1>{escape(title)}</h1>"]
        self._text = [f"# {_plain(title)}"]
        self._tables = self._figures = 0

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._html.append(f"<h2>{escape(text)}</h2>")
        self._text.append(f"## {_plain(text)}")

    def paragraph(self, text: str) -> None:
        """Add a paragraph."""
        self._html.append(f"<p>{escape(text)}</p>")
        self._text.append(_plain(text))

    def facts(self, facts: Mapping[str, str]) -> None:
        """Add names and what is to be said of each; what is empty is left out."""
        said = {name: value for name, value in facts.items() if value}
        pairs = (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in said.items())
        self._html.append(f"<dl>{''.join(pairs)}</dl>")
        self._text.append("\n".join(f"- {_plain(name)}: {_plain(value)}" for name, value in said.items()))

    def listing(self, name: str, text: str) -> None:
        """Add a text as it is, folded."""
        self._html.append(f"<details><summary>{escape(name)}</summary><pre>{escape(text)}</pre></details>")
        self._text.append("\n".join(f"    {line}" for line in text.splitlines()))

    def table(
        self, caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1, fold: str = ""
    ) -> None:
        """Add a table.

        Args:
            caption: what it shows.
            header: names of the columns.
            rows: a cell a column; the first is the name of the row.
            texts: how many columns, from the left, are words; the others are numbers, set to the right.
            fold: the line that unfolds it; without one it is in sight.
        """
        self._tables += 1
        label = f"Table {self._tables}."
        head = "".join(f'<th scope="col"{_side(i, texts)}>{escape(name)}</th>' for i, name in enumerate(header))
        body = []
        for first, *others in rows:
            cells = (f"<td{_side(i, texts)}>{escape(cell)}</td>" for i, cell in enumerate(others, start=1))
            name = escape(first).replace("+", "+<wbr>")
            body.append(f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>')
        table = (
            f'<figure>{self._caption(label, caption)}<div class="scroll" tabindex="0" role="region"'
            f' aria-label="{escape(label)}"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{''.join(body)}</tbody></table></div></figure>"
        )
        self._html.append(f"<details><summary>{escape(fold)}</summary>{table}</details>" if fold else table)
        lines = markdown([_plain(name) for name in header], [[_plain(cell) for cell in row] for row in rows])
        self._text.append(f"{label} {_plain(caption)} Made by `{self.command}`.\n\n{lines}")

    def figure(self, caption: str, panels: Sequence[tuple[str, str]], legend: str) -> None:
        """Add a figure of small multiples to the HTML.

        Args:
            caption: what it shows.
            panels: the title and the SVG of each.
            legend: HTML of what is common to all.
        """
        self._figures += 1
        drawn = "".join(f"<div><h3>{escape(title)}</h3>{svg}</div>" for title, svg in panels)
        self._html.append(
            f"<figure>{self._caption(f'Figure {self._figures}.', caption)}{legend}"
            f'<div class="panels">{drawn}</div></figure>'
        )

    def page(self, series: int) -> str:
        """Return the page as HTML, with styles for so many series of figures."""
        body = "\n".join(self._html)
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n'
            f"<title>{escape(self.title)}</title>\n<style>\n{_CSS}{style(series)}</style>\n</head>\n"
            f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
        )

    def text(self) -> str:
        """Return the page as Markdown, without its figures."""
        return "\n\n".join(self._text) + "\n"

    def _caption(self, label: str, caption: str) -> str:
        made = f"<small>Made by <code>{escape(self.command)}</code></small>"
        return f"<figcaption><b>{label}</b> {escape(caption)} {made}</figcaption>"


def _side(column: int, texts: int) -> str:
    return "" if column < texts else ' class="n"'


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is, on one line, in a table, too."""
    return escape(" ".join(text.split()), quote=False).replace("|", "\\|")


_CSS = """\
:root{color-scheme:light dark;--paper:#fdfcf9;--ink:#22201c;--soft:#66615a;--rule:#dfdad1;--shade:#f4f1ea}
@media (prefers-color-scheme:dark){
:root{--paper:#191816;--ink:#e9e5dd;--soft:#a49d92;--rule:#3a3732;--shade:#22201d}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);
font:1rem/1.6 Charter,"Bitstream Charter","Iowan Old Style",Georgia,Cambria,serif}
main{max-width:74rem;margin:0 auto;padding:2.5rem 1rem 5rem}
h1,h2{font-weight:600;line-height:1.2;letter-spacing:-.01em;text-wrap:balance}
h1{font-size:clamp(1.7rem,5vw,2.4rem);margin:0 0 1.5rem}
h2{font-size:1.4rem;margin:3.5rem 0 1rem;padding-top:1rem;border-top:1px solid var(--rule)}
h3{font:600 .85rem/1.4 system-ui,sans-serif;margin:0 0 .3rem}
p,figcaption,dl{max-width:44rem}
p{margin:0 0 1rem}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.35rem 1.2rem;margin:0 0 1rem}
dt{color:var(--soft);font-style:italic}
dd{margin:0;overflow-wrap:anywhere}
figure{margin:1.8rem 0 2.2rem}
figcaption{font-size:.92rem;line-height:1.5;margin-bottom:.7rem}
small{display:block;color:var(--soft);font-size:.8rem}
code,pre{font:.92em ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
pre{overflow-x:auto;background:var(--shade);padding:.8rem 1rem;font-size:.8rem;line-height:1.45}
.panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,20rem),1fr));gap:1.6rem 2rem}
.panels>div{min-width:0}
.scroll{overflow-x:auto;border-top:1.5px solid var(--ink);border-bottom:1.5px solid var(--ink)}
.scroll:focus-visible,summary:focus-visible{outline:2px solid var(--c0);outline-offset:2px}
table{border-collapse:collapse;width:100%;font:.8rem/1.4 system-ui,sans-serif;font-variant-numeric:tabular-nums}
th,td{padding:.32rem .7rem;text-align:left;vertical-align:baseline}
thead th{vertical-align:bottom;font-weight:600;color:var(--soft);border-bottom:1px solid var(--ink)}
tbody tr+tr>*{border-top:1px solid var(--rule)}
tbody th{font-weight:500;position:sticky;left:0;background:var(--paper);white-space:nowrap}
td.n,th.n{text-align:right}
td.n{white-space:nowrap}
td:last-child:not(.n){min-width:16rem}
details{margin:.7rem 0;border-left:2px solid var(--rule);padding-left:.9rem}
summary{cursor:pointer;font:.88rem/1.6 system-ui,sans-serif;color:var(--soft)}
details[open]>summary{color:var(--ink)}
@media (max-width:30rem){main{padding-top:1.5rem}dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.6rem}
tbody th{min-width:6.5rem;max-width:8rem;white-space:normal;overflow-wrap:break-word}}
@media print{main{max-width:none}.legend input{display:none}}
"""
