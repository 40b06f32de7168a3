"""Figures as inline SVG, drawn without a library: they take the page's fonts, and its colours by day and by night."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Literal

Point = tuple[float, float]

#: Size of a panel and its margins, in the units of the drawing: CSS pixels at its natural size.
WIDTH, HEIGHT = 340, 230
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 10, 42
#: Eight colours of every series of figures, by day and by night; told apart with each kind of colour blindness, after
#: Okabe 2008, and darkened or lightened until each has a contrast of 3 to 1 with its background.
COLOURS = (
    ("#0068a8", "#58b4ee"),
    ("#c74a00", "#ff8f56"),
    ("#007a57", "#2fc99b"),
    ("#a8488a", "#e59cca"),
    ("#8a6a00", "#e6b93c"),
    ("#3b8fc2", "#a5d8fb"),
    ("#5a5550", "#c4beb6"),
    ("#6a4bb0", "#b7a2f5"),
)
_DASHES = ("", "7 3", "2 3", "9 3 2 3")
#: How full markers are whose lines are dashed, where there are no lines.
_FILLS = (1, 0, 0.35)
_MARKERS = (
    "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0Z",  # circle
    "M-3.2 -3.2h6.4v6.4h-6.4Z",  # square
    "M0 -4L4 3H-4Z",  # triangle
    "M0 -4.5L4.5 0L0 4.5L-4.5 0Z",  # diamond
    "M0 4L4 -3H-4Z",  # triangle on its tip
    "M-1.2 -4h2.4v2.8h2.8v2.4h-2.8v2.8h-2.4v-2.8h-2.8v-2.4h2.8Z",  # cross
    "M0 -4.2L4 -1.3L2.5 3.4H-2.5L-4 -1.3Z",  # pentagon
)


@dataclass(frozen=True)
class Look:
    """How a series looks in all figures: colour and marker tell one thing, dashes and filling another.

    Args:
        name: what legends call it.
        number: of the colour and the marker, from 0; 56 of them are different.
        dash: of the line and the filling of the marker, from 0, which is solid.
        place: among all series of the page, by which a legend hides it.
    """

    name: str
    number: int
    dash: int
    place: int

    @property
    def classes(self) -> str:
        """The CSS classes of whatever belongs to the series."""
        return f"c{self.number % len(COLOURS)} s{self.place}"

    def marker(self, x: float, y: float, title: str = "") -> str:
        """Return the marker at a point; a pointer that rests on it reads the title."""
        shape = _MARKERS[self.number % len(_MARKERS)]
        fill = f' fill-opacity="{_FILLS[self.dash % len(_FILLS)]}"' if self.dash else ""
        return f'<path d="{shape}" transform="translate({x:.1f} {y:.1f})" class="mark"{fill}>{_title(title)}</path>'

    def line(self, points: Sequence[Point]) -> str:
        """Return the line through points."""
        dash = f' stroke-dasharray="{_DASHES[self.dash % len(_DASHES)]}"' if self.dash else ""
        return f'<path d="{_path(points)}" class="line"{dash}/>'


@dataclass(frozen=True)
class Band:
    """A series with an interval at every point; ``xs`` are places of ticks."""

    look: Look
    xs: Sequence[float]
    ys: Sequence[float]
    lows: Sequence[float]
    highs: Sequence[float]


@dataclass(frozen=True)
class Bar:
    """Seconds of a search in parts, which add up to the bar."""

    name: str
    parts: Sequence[float]


@dataclass(frozen=True)
class Axes:
    """The frame of a panel: from values to places in the drawing."""

    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> Point:
        """Return the place of a point."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    def frame(self, x_ticks: Sequence[tuple[float, str]], x_label: str, y_label: str) -> str:
        """Return grid lines, ticks and labels."""
        parts = []
        for value in ticks(*self.y):
            _, y = self.at(self.x[0], value)
            parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" class="grid"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{number(value)}</text>')
        for value, label in x_ticks:
            x, _ = self.at(value, self.y[0])
            parts.append(f'<path d="M{x:.1f} {HEIGHT - BOTTOM}v4" class="axis"/>')
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{escape(label)}</text>')
        parts.append(f'<path d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}" class="axis"/>')
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
        y = (TOP + HEIGHT - BOTTOM) / 2
        turned = f'transform="translate(11 {y}) rotate(-90)"'
        parts.append(f'<text {turned} text-anchor="middle">{escape(y_label)}</text>')
        return "".join(parts)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers within a range, at most ``most``: steps are 1, 2 or 5 times a power of ten."""

    def ends(step: float) -> tuple[int, int]:
        return math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)

    power = 10.0 ** math.floor(math.log10((high - low) / most))
    steps = (power * factor for factor in (1, 2, 5, 10, 20))
    step = next(step for step in steps if ends(step)[1] - ends(step)[0] < most)
    first, last = ends(step)
    return [round(place * step, 12) for place in range(first, last + 1)]


def number(value: float) -> str:
    """Return a tick's label, without zeros that say nothing."""
    return f"{value:.6g}".replace("-", "\N{MINUS SIGN}")


def bands(title: str, series: Sequence[Band], x_ticks: Sequence[tuple[float, str]], x_label: str, y_label: str) -> str:
    """Draw a line with a band around it for every series; zero is always in sight."""
    top = max(0.0, *(value for one in series for value in one.highs))
    bottom = min(0.0, *(value for one in series for value in one.lows))
    places = [place for place, _ in x_ticks]
    axes = Axes((min(places) - 0.3, max(places) + 0.3), _spread(bottom, top, 0.06 if bottom < 0 else 0.0))
    drawn = [axes.frame(x_ticks, x_label, y_label)]
    for one in series:
        around = [axes.at(x, y) for x, y in zip(one.xs, one.highs, strict=True)]
        around += [axes.at(x, y) for x, y in zip(one.xs, one.lows, strict=True)][::-1]
        points = [axes.at(x, y) for x, y in zip(one.xs, one.ys, strict=True)]
        labels = [
            f"{one.look.name}: {y:.2f} ({low:.2f} to {high:.2f})"
            for y, low, high in zip(one.ys, one.lows, one.highs, strict=True)
        ]
        marks = "".join(one.look.marker(*point, label) for point, label in zip(points, labels, strict=True))
        band = f'<path d="{_path(around)}Z" class="band"/>'
        drawn.append(f'<g class="{one.look.classes}">{band}{one.look.line(points)}{marks}</g>')
    return _svg(title, drawn, HEIGHT)


def fronts(
    title: str,
    series: Sequence[tuple[Look, Sequence[Point]]],
    true: Sequence[Point],
    direction: Literal["min", "max"],
    x_label: str,
    y_label: str,
) -> str:
    """Draw found fronts as points beside the true front, a staircase: what is possible lies below it.

    Its lowest quarter is left out: it begins with networks that compute next to nothing, at the accuracy of chance, and
    would take most of the figure.
    """
    if true:
        lowest = sorted(y for _, y in true)[len(true) // 4]
        true = [point for point in true if point[1] >= lowest]
        series = [(look, [point for point in points if point[1] >= lowest]) for look, points in series]
    everything = [*true, *(point for _, points in series for point in points)]
    axes = Axes(
        _spread(min(x for x, _ in everything), max(x for x, _ in everything), 0.05),
        _spread(min(y for _, y in everything), max(y for _, y in everything), 0.05),
    )
    drawn = [axes.frame([(value, number(value)) for value in ticks(*axes.x)], x_label, y_label)]
    if true:
        steps = [axes.at(*point) for point in staircase(true, direction)]
        drawn.append(f'<path d="{_path(steps)}" class="true"><title>true front</title></path>')
    for look, points in series:
        marks = [look.marker(*axes.at(x, y), f"{look.name}: {number(x)}, {y:.2f}") for x, y in sorted(points)]
        drawn.append(f'<g class="{look.classes}">{"".join(marks)}</g>')
    return _svg(title, drawn, HEIGHT)


def staircase(front: Sequence[Point], direction: Literal["min", "max"]) -> list[Point]:
    """Return a front's points with the corners between them: the best second value that a bound on the first allows."""
    points = sorted(front)
    corners = points[:1]
    for (x, y), (next_x, next_y) in pairwise(points):
        corners += [(next_x, y) if direction == "min" else (x, next_y), (next_x, next_y)]
    return corners


def bars(title: str, some: Sequence[Bar], parts: Sequence[str], longest: float) -> str:
    """Draw horizontal bars of stacked parts, a name and a sum above each; ``longest`` seconds take all the width."""
    drawn = []
    for row, bar in enumerate(some):
        y = 34 * row
        drawn.append(f'<text x="0" y="{y + 13}" class="name">{escape(bar.name)}</text>')
        drawn.append(f'<text x="{WIDTH}" y="{y + 13}" text-anchor="end">{sum(bar.parts):.1f} s</text>')
        x = 0.0
        for place, (part, seconds) in enumerate(zip(parts, bar.parts, strict=True)):
            width = seconds / longest * WIDTH
            drawn.append(
                f'<rect x="{x:.2f}" y="{y + 18}" width="{width:.2f}" height="9" class="c{place}" fill="currentColor">'
                f"{_title(f'{bar.name}: {part} {seconds:.3g} s')}</rect>"
            )
            x += width
    return _svg(title, drawn, 34 * len(some))


def legend(looks: Sequence[Look], lines: bool, true_front: bool = False) -> str:
    """Return a legend whose boxes show and hide series, by CSS alone."""
    entries = []
    for look in looks:
        stroke = look.line([(0, 6), (30, 6)]) if lines else ""
        sample = f'<svg width="30" height="12" aria-hidden="true">{stroke}{look.marker(15, 6)}</svg>'
        box = f'<input type="checkbox" checked class="t{look.place}">'
        entries.append(
            f'<label class="{look.classes.split()[0]}">{box}{sample}<span>{escape(look.name)}</span></label>'
        )
    if true_front:
        sample = '<svg width="30" height="12" aria-hidden="true"><path d="M0 10H15V3H30" class="true"/></svg>'
        entries.append(f"<span>{sample}<span>true front</span></span>")
    return f'<div class="legend">{"".join(entries)}</div>'


def key(parts: Sequence[str]) -> str:
    """Return the legend of stacked parts."""
    box = '<svg width="12" height="12" aria-hidden="true"><path d="M0 1h12v10h-12Z" fill="currentColor"/></svg>'
    entries = "".join(f'<span class="c{i}">{box}<span>{escape(part)}</span></span>' for i, part in enumerate(parts))
    return f'<div class="legend">{entries}</div>'


def style(series: int) -> str:
    """Return the CSS of all figures of a page with so many series."""
    day, night = ("".join(f"--c{i}:{pair[place]};" for i, pair in enumerate(COLOURS)) for place in (0, 1))
    uses = "\n".join(f".c{i}{{color:var(--c{i})}}" for i in range(len(COLOURS)))
    hides = "\n".join(f"figure:has(.t{i}:not(:checked)) .s{i}{{display:none}}" for i in range(series))
    return f":root{{{day}}}\n@media (prefers-color-scheme:dark){{:root{{{night}}}}}\n{uses}\n{_CSS}{hides}\n"


_CSS = """\
svg.panel{display:block;width:100%;height:auto;max-width:27rem;overflow:visible}
svg text{font:11px system-ui,sans-serif;fill:var(--soft);font-variant-numeric:tabular-nums}
svg .name{fill:var(--ink)}
svg .grid{stroke:var(--rule);stroke-width:1;fill:none}
svg .axis{stroke:var(--soft);stroke-width:1;fill:none}
svg .line{stroke:currentColor;stroke-width:1.6;fill:none}
svg .mark{fill:currentColor;stroke:currentColor;stroke-width:1.1}
svg .band{fill:currentColor;fill-opacity:.1;stroke:currentColor;stroke-opacity:.25;stroke-width:.8}
svg .true{stroke:var(--ink);stroke-width:1.2;fill:none;opacity:.75}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;margin:.4rem 0 .9rem;font:.82rem/1.5 system-ui,sans-serif}
.legend>*{display:inline-flex;align-items:center;gap:.4rem;min-width:0}
.legend span span,.legend label span{color:var(--ink);overflow-wrap:anywhere}
.legend label{cursor:pointer}
.legend input{margin:0;color:inherit;accent-color:currentColor}
.legend svg{flex:none;overflow:visible}
"""


def _svg(title: str, parts: Sequence[str], height: float) -> str:
    head = f'<svg class="panel" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
    return f"{head}{''.join(parts)}</svg>"


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _spread(low: float, high: float, margin: float) -> tuple[float, float]:
    """Return a range with some room at both ends, and a width also where all values are one."""
    room = (high - low) * margin
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):
        room = abs(low) * 0.1 or 1.0
    return low - room, high + room
