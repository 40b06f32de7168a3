"""Figures: their numbers, read back from what is drawn."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal
from xml.etree import ElementTree

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from experiments.search.page.figures import (
    BOTTOM,
    COLOURS,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axes,
    Band,
    Bar,
    Look,
    Point,
    bands,
    bars,
    fronts,
    key,
    legend,
    number,
    staircase,
    style,
    ticks,
)

finite = st.floats(-1e6, 1e6)
A, B = Look("a & <b>", 0, 0, 0), Look("other", 1, 2, 1)


def marks(svg: ElementTree.Element, look: Look) -> list[Point]:
    """Where the markers of a series are."""
    (group,) = (g for g in svg.iter("g") if g.get("class") == look.classes)
    places = (re.fullmatch(r"translate\((.+) (.+)\)", path.get("transform", "")) for path in group.iter("path"))
    return [(float(place[1]), float(place[2])) for place in places if place]


def titles(svg: ElementTree.Element) -> list[str]:
    return [title.text or "" for title in svg.iter("title")]


@settings(deadline=None)
@given(finite, finite, st.integers(2, 9))
def test_ticks_are_round_few_and_within_the_range(low: float, high: float, most: int) -> None:
    assume(high - low > 1e-3)
    found = ticks(low, high, most)
    assert 1 <= len(found) <= most
    width = high - low
    assert all(low - 1e-6 * width <= tick <= high + 1e-6 * width for tick in found)
    if len(found) > 1:
        step = f"{found[1] - found[0]:.3e}"
        assert step[:5] in {"1.000", "2.000", "5.000"}, step
        assert all(b - a == pytest.approx(found[1] - found[0]) for a, b in pairwise(found))


def test_ticks_of_usual_ranges() -> None:
    assert ticks(0, 6.3) == [0, 2, 4, 6]
    assert ticks(-0.12, 0.31) == [-0.1, 0, 0.1, 0.2, 0.3]
    assert [number(tick) for tick in ticks(-2.0, 2.0)] == ["\N{MINUS SIGN}2", "\N{MINUS SIGN}1", "0", "1", "2"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1), st.sampled_from(["min", "max"]))
def test_a_staircase_is_the_best_that_each_bound_allows(
    cells: list[tuple[int, int]], direction: Literal["min", "max"]
) -> None:
    sign = 1 if direction == "min" else -1

    def best(bound: float) -> int | None:
        return max((y for x, y in cells if sign * x <= sign * bound), default=None)

    front = sorted({(x, y) for x, y in cells if y == best(x) and best(x - sign * 0.5) != y})
    stairs = staircase(front, direction)
    for (x, y), (next_x, next_y) in pairwise(stairs):
        assert x == next_x or y == next_y, "steps have right angles"
        if x != next_x:
            assert best((x + next_x) / 2) == y
    assert set(front) <= set(stairs)
    assert staircase(front[::-1], direction) == stairs


def test_axes_put_the_ends_of_ranges_on_the_frame() -> None:
    axes = Axes((-1.0, 1.0), (10.0, 30.0))
    assert axes.at(-1.0, 10.0) == (LEFT, HEIGHT - BOTTOM)
    assert axes.at(1.0, 30.0) == (WIDTH - RIGHT, TOP)
    assert axes.at(0.0, 20.0) == ((LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2)


def band_figure(*series: Band) -> ElementTree.Element:
    return ElementTree.fromstring(bands("t", series, [(0.0, "10 %"), (1.0, "25 %")], "x", "y"))


def test_a_line_goes_through_its_values_and_its_band_around_them() -> None:
    svg = band_figure(Band(A, [0.0, 1.0], [4.0, 2.0], [3.0, 1.0], [5.0, 4.0]), Band(B, [1.0], [0.5], [0.5], [0.5]))
    (left, upper), (right, lower) = marks(svg, A)
    assert left < right
    assert upper < lower, "larger values are drawn higher"
    assert marks(svg, B)[0][0] == right, "a series may lack a bound"
    assert titles(svg) == ["a & <b>: 4.00 (3.00 to 5.00)", "a & <b>: 2.00 (1.00 to 4.00)", "other: 0.50 (0.50 to 0.50)"]
    band = next(path.get("d", "") for path in svg.iter("path") if path.get("class") == "band")
    ys = [float(y) for y in re.findall(r" ([\d.]+)", band)]
    assert ys[0] < upper < ys[3]
    assert ys[1] < lower < ys[2]


@pytest.mark.parametrize("value", [-2.0, 0.0, 3.0])
def test_zero_is_in_sight_also_where_all_values_are_one(value: float) -> None:
    svg = band_figure(Band(A, [0.0, 1.0], [value] * 2, [value] * 2, [value] * 2))
    assert "0" in [text.text for text in svg.iter("text")]
    assert all(TOP <= y <= HEIGHT - BOTTOM for _, y in marks(svg, A))


def test_fronts_are_in_one_frame_with_the_true_front() -> None:
    text = fronts("t", [(A, [(2.0, 60.0), (1.0, 56.0)])], [(1.0, 55.0), (3.0, 70.0)], "min", "ms", "%")
    svg = ElementTree.fromstring(text)
    (first, low), (second, high) = marks(svg, A)
    assert first < second
    assert high < low
    assert titles(svg) == ["true front", "a & <b>: 1, 56.00", "a & <b>: 2, 60.00"]
    assert all(LEFT <= x <= WIDTH - RIGHT and TOP <= y <= HEIGHT - BOTTOM for x, y in marks(svg, A))


def test_the_lowest_quarter_of_the_true_front_is_left_out() -> None:
    true = [(float(place), 10.0 * place) for place in range(1, 9)]
    svg = ElementTree.fromstring(fronts("t", [(A, [(2.0, 29.0), (5.0, 30.0)])], true, "min", "ms", "%"))
    assert titles(svg) == ["true front", "a & <b>: 5, 30.00"]


def test_a_front_may_lack_the_true_one_and_be_a_single_point() -> None:
    svg = ElementTree.fromstring(fronts("t", [(A, [(2.0, 60.0)])], [], "max", "x", "y"))
    assert len(marks(svg, A)) == 1
    assert "true front" not in titles(svg)


def test_bars_are_as_long_as_their_seconds() -> None:
    parts = ("metric", "predictor", "loop")
    svg = ElementTree.fromstring(bars("t", [Bar("<a>", [45.0, 0.5, 4.5]), Bar("b", [0, 0, 0])], parts, 100.0))
    widths = [float(rect.get("width", "")) for rect in svg.iter("rect")]
    assert widths == pytest.approx([0.45 * WIDTH, 0.005 * WIDTH, 0.045 * WIDTH, 0, 0, 0], abs=0.01)
    assert [float(rect.get("x", "")) for rect in svg.iter("rect")][:3] == pytest.approx(
        [0, 0.45 * WIDTH, 0.455 * WIDTH], abs=0.01
    )
    assert [text.text for text in svg.iter("text")] == ["<a>", "50.0 s", "b", "0.0 s"]
    assert titles(svg)[:2] == ["<a>: metric 45 s", "<a>: predictor 0.5 s"]


def test_a_legend_hides_what_its_box_names() -> None:
    html = legend([A, B], lines=True, true_front=True)
    assert [box["place"] for box in re.finditer(r'checkbox" checked class="t(?P<place>\d+)"', html)] == ["0", "1"]
    assert "a &amp; &lt;b&gt;" in html
    assert "true front" in html
    css = style(2)
    for look in (A, B):
        assert f"figure:has(.t{look.place}:not(:checked)) .s{look.place}{{display:none}}" in css
        assert f"s{look.place}" in look.classes.split()


def test_a_key_has_the_parts_in_the_colours_of_bars() -> None:
    assert re.findall(r'class="(c\d)".*?<span>(\w+)</span>', key(["metric", "loop"])) == [
        ("c0", "metric"),
        ("c1", "loop"),
    ]


def contrast(first: str, second: str) -> float:
    """The ratio of luminances by the Web Content Accessibility Guidelines 2.2."""

    def luminance(colour: str) -> float:
        levels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in levels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_every_colour_stands_out_by_day_and_by_night() -> None:
    papers = dict(zip((0, 1), papers_of_a_page(), strict=True))
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    for pair in COLOURS:
        for place, paper in papers.items():
            assert contrast(pair[place], paper) >= 3, (pair[place], paper)


def papers_of_a_page() -> Iterator[str]:
    from experiments.search.page.document import Document

    yield from re.findall(r"--paper:(#\w{6})", Document("t", "c").page(0))


def test_56_series_look_different() -> None:
    looks = [Look("", i, 0, 0) for i in range(56)]
    assert len({(look.classes, look.marker(0, 0)) for look in looks}) == 56
    assert len({Look("", 0, dash, 0).line([(0, 0)]) + Look("", 0, dash, 0).marker(0, 0) for dash in range(3)}) == 3
