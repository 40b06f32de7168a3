"""Bars are drawn on a terminal, and elsewhere a line is printed every ten seconds."""

from __future__ import annotations

import logging
import sys
import time

import pytest

from freerea_seval.progress import LineProgress, Progress, TerminalProgress, printable, terminal_progress


def test_nothing_is_drawn_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    progress = terminal_progress()
    with progress.task("working") as show:
        show(0.5, "half")
    assert capsys.readouterr() == ("", "")


def test_a_long_task_prints_a_line_every_ten_seconds_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    monkeypatch.setattr("freerea_seval.progress.INTERVAL_S", 10.0)
    with terminal_progress().task("searching, seed 0") as show:
        for step in range(1, 31):
            clock = 100.0 + step
            show(step / 40, f"{step} networks" if step < 15 else "")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "searching, seed 0: 25% after 10 s, about 30 s left, 10 networks",
        "searching, seed 0: 50% after 20 s, about 20 s left",
        "searching, seed 0: 75% after 30 s, about 10 s left",
    ]


def test_a_line_that_cannot_wait_is_printed_without_a_terminal_too_but_not_where_progress_is_unwanted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    terminal_progress().say("nothing yet")
    assert capsys.readouterr() == ("", "nothing yet\n")
    Progress().say("nothing yet")
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_with_an_estimate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = terminal_progress()
    assert isinstance(progress, TerminalProgress)
    with progress.task("working") as show:
        show(0.5, "7 networks")
        progress.say("nothing yet")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "working" in printed.err
    assert "nothing yet" in printed.err
    assert "100 %" in printed.err


@pytest.mark.parametrize("text", ["a\tb\nc", "latency [ms], µs, 層"])
def test_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "printed"),
    [("\x1b[2Ja\r", r"\x1b[2Ja\r"), ("\x9b1m", r"\x9b1m"), ("a\u202eb", r"a\u202eb"), ("\ud800", r"\ud800")],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, printed: str) -> None:
    assert printable(text) == printed


def test_a_line_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    terminal_progress().say("\x1b[2Ja")
    assert capsys.readouterr().err == "\\x1b[2Ja\n"


def test_a_note_that_takes_long_is_made_where_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[float] = []
    clock = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    monkeypatch.setattr("freerea_seval.progress.INTERVAL_S", 10.0)

    def note() -> str:
        nonlocal clock
        made.append(clock)
        clock += 0.1
        return "slow"

    for progress, most in ((Progress(), 0), (LineProgress(), 3), (TerminalProgress(), 8)):
        clock = 100.0
        made.clear()
        with progress.task("searching") as show:
            for step in range(300):
                clock = max(clock, 100.0 + step / 10)
                show(step / 300, note)
        assert len(made) <= most, progress  # of 30 seconds; on a terminal, notes take a fiftieth of the time
        assert bool(made) == bool(most)


def test_lines_are_records_where_the_program_logs(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, "freerea_seval"):
        terminal_progress().say("nothing yet")
    assert [(record.name, record.message) for record in caplog.records] == [("freerea_seval.progress", "nothing yet")]
    assert capsys.readouterr() == ("", "")
