"""Reads HTML pages of results for tests."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any


class PageReader(HTMLParser):
    """The headings, tables and figures of a page; elements that are not closed in order are an error."""

    void = ("meta", "link", "input", "wbr")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[tuple[str, str | None]] = []
        self.tables: list[list[list[str]]] = []
        self.headings: list[str] = []
        self.captions: list[str] = []
        self.figures: list[Any] = []
        self.scripts = 0
        self.visible = ""
        self.is_figure = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.void:
            self.open.append(tag)
        self.references += [(name, value) for name, value in attrs if name in ("src", "href", "srcset")]
        if tag == "script":
            self.scripts += 1
            self.is_figure = ("type", "application/json") in attrs
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")
        elif tag in ("h1", "h2", "h3"):
            self.headings.append("")
        elif tag == "figcaption":
            self.captions.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            if self.is_figure:
                self.figures.append(json.loads(data))
            return
        self.visible += data
        if self.open and self.open[-1] in ("th", "td"):
            self.tables[-1][-1][-1] += data
        elif self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings[-1] += data
        elif "figcaption" in self.open:
            self.captions[-1] += data
